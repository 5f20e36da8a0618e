// SPDX-License-Identifier: MIT
// Answers that outlive the server: what is noted is found, what makes no sense is not, and what was only begun is
// told by the files.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <random>

#include "export_fixture.hpp"
#include "server/sessions/answer_again.hpp"
#include "server/sessions/answer_journal.hpp"
#include "service_fixture.hpp"
#include "wire/kept_answers.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;

namespace {

using Client = remofile::server::test::Session;  // and not the server's part

constexpr std::string_view this_start = "11111111-2222-3333-4444-555555555555";

std::vector<std::byte> bytes_of(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

AnswerJournal::Name name_of(std::uint64_t session, std::uint8_t secret = 1) {
    AnswerJournal::Name name{.session = SessionId{session}, .secret = {}, .key = {}};
    name.secret.fill(secret);
    return name;
}

// Journals of servers of which each is killed before the next begins.
struct Killed {
    TemporaryDirectory directory;
    int starts = 0;
    std::shared_ptr<AnswerJournal> journal;

    Killed() { start(); }
    std::string file() const { return directory / ("journal" + std::to_string(starts)); }
    // What the one before had noted up to now is all that is there.
    void start(std::string_view machine_start = this_start) {
        const std::string before = file();
        ++starts;
        if (std::filesystem::exists(before))
            std::filesystem::copy_file(before, file());
        auto opened = AnswerJournal::open(file(), machine_start);
        REQUIRE(opened.has_value());
        journal = std::move(*opened);
    }
    void write_over(std::size_t at, std::string_view bytes) const {
        const UniqueFd fd(::open(file().c_str(), O_WRONLY | O_CLOEXEC));
        REQUIRE(::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(at)) ==
                static_cast<ssize_t>(bytes.size()));
    }
};

constexpr RequestId first{7};

}  // namespace

TEST_CASE("journal: what a killed server has noted is known to the next, and to the one after that") {
    Killed f;
    const auto account = f.journal->begin(name_of(10));
    const auto answered = account->note(first, false);
    answered->begin(wire::Opcode::mkdir, first);
    answered->finish(Status::ok, bytes_of("an answer"));
    const auto begun = account->note(RequestId{8}, false);
    begun->begin(wire::Opcode::unlink, RequestId{8});
    const auto failed = account->note(RequestId{9}, false);
    failed->begin(wire::Opcode::rmdir, RequestId{9});
    failed->finish(Status::not_empty, {});
    const auto taken = account->note(RequestId{10}, false);
    std::vector<std::shared_ptr<AnswerJournal::Account>> accounts{account};
    for (std::uint64_t session = 10; session < 13; ++session) {
        const bool is_of_notes = session == 10;
        f.start();
        auto again = f.journal->take_up(name_of(session), name_of(session + 1));
        REQUIRE(again != nullptr);
        accounts.push_back(again);
        CHECK(f.journal->take_up(name_of(session), name_of(99)) == nullptr);  // once
        if (!is_of_notes)
            continue;
        // The client was not told of this server's session before it was killed, too.
        f.start();
        again = f.journal->take_up(name_of(session), name_of(session + 1));
        REQUIRE(again != nullptr);
        accounts.push_back(again);
    }
    const auto& latest = accounts.back();
    const auto found = latest->note(first, true);
    REQUIRE((found != nullptr && found->before()));
    CHECK(found->before()->status == Status::ok);
    CHECK(found->before()->body == bytes_of("an answer"));
    const auto found_begun = latest->note(RequestId{8}, true);
    REQUIRE((found_begun != nullptr && found_begun->before()));
    CHECK_FALSE(found_begun->before()->status);
    CHECK(latest->note(RequestId{9}, true)->before()->status == Status::not_empty);
    CHECK_FALSE(latest->note(RequestId{10}, true)->before());
}

TEST_CASE("journal: locks may be had again until a server in between has granted one") {
    Killed f;
    const auto holder = f.journal->begin(name_of(10));
    CHECK_FALSE(holder->may_have_locks_again());
    std::vector<std::shared_ptr<AnswerJournal::Account>> before{holder, f.journal->begin(name_of(11))};
    const auto journal_before = f.journal;
    f.start();
    SECTION("by the next server") {
        CHECK(f.journal->take_up(name_of(10), name_of(20))->may_have_locks_again());
    }
    SECTION("by the one after that, where the next has granted none") {
        const auto journal = f.journal;
        const auto half = journal->take_up(name_of(10), name_of(20));
        f.start();
        CHECK(f.journal->take_up(name_of(20), name_of(30))->may_have_locks_again());
        CHECK(f.journal->take_up(name_of(11), name_of(31))->may_have_locks_again());
    }
    SECTION("not where it has, but to those who had theirs again by then") {
        const auto journal = f.journal;
        const auto half = journal->take_up(name_of(10), name_of(20));
        const auto fresh = journal->begin(name_of(12));
        const bool is_in_time = GENERATE(true, false);
        if (is_in_time)
            half->has_locks();
        journal->grants_locks();
        // In this server what was granted is known file by file.
        const auto late = journal->take_up(name_of(11), name_of(21));
        CHECK(late->may_have_locks_again());
        f.start();
        CHECK(f.journal->take_up(name_of(20), name_of(30))->may_have_locks_again() == is_in_time);
        CHECK_FALSE(f.journal->take_up(name_of(21), name_of(31))->may_have_locks_again());
        CHECK(f.journal->take_up(name_of(12), name_of(32))->may_have_locks_again());
    }
    SECTION("and again once they are had") {
        const auto journal = f.journal;
        const auto taken = journal->take_up(name_of(10), name_of(20));
        journal->grants_locks();
        taken->has_locks();
        f.start();
        CHECK(f.journal->take_up(name_of(20), name_of(30))->may_have_locks_again());
    }
}

TEST_CASE("journal: those who had locks are waited for until they are back") {
    Killed f;
    const auto holder = f.journal->begin(name_of(10));
    const auto another = f.journal->begin(name_of(11));
    const auto without = f.journal->begin(name_of(12));
    const auto journal_before = f.journal;
    CHECK(f.journal->lock_holders_awaited() == 0);
    holder->takes_locks();
    another->takes_locks();
    f.start();
    const auto journal = f.journal;
    CHECK(journal->lock_holders_awaited() == 2);
    int told = 0;
    journal->when_lock_holders_are_back([&told] { ++told; });
    const auto back = journal->take_up(name_of(10), name_of(20));
    CHECK(journal->lock_holders_awaited() == 2);
    back->has_locks();
    CHECK(journal->lock_holders_awaited() == 1);
    CHECK(told == 0);
    // One that came back and went has no need of them.
    journal->take_up(name_of(11), name_of(21)).reset();
    CHECK(journal->lock_holders_awaited() == 0);
    CHECK(told == 1);
    // The next server waits for it as well.
    f.start();
    CHECK(f.journal->lock_holders_awaited() == 1);
    // What somebody else has been granted since is not waited for.
    f.journal->grants_locks();
    CHECK(f.journal->lock_holders_awaited() == 0);
    f.journal->when_lock_holders_are_back([&told] { ++told; });
    CHECK(told == 2);
}

TEST_CASE("journal: an answer that the client has is let go of, and an account with its session") {
    Killed f;
    auto account = f.journal->begin(name_of(10));
    auto note = account->note(first, false);
    note->begin(wire::Opcode::mkdir, first);
    note->finish(Status::ok, {});
    note.reset();
    f.start();
    auto again = f.journal->take_up(name_of(10), name_of(11));
    REQUIRE(again != nullptr);
    CHECK_FALSE(again->note(first, true)->before());
    again.reset();
    f.start();
    CHECK(f.journal->take_up(name_of(11), name_of(12)) == nullptr);
}

TEST_CASE("journal: a server that ends in peace leaves its sessions to the next, and no file without any") {
    Killed f;
    auto account = f.journal->begin(name_of(10));
    auto note = account->note(first, false);
    note->begin(wire::Opcode::mkdir, first);
    note->finish(Status::ok, bytes_of("an answer"));
    f.journal->leave();
    note.reset();
    account.reset();
    f.journal->remove_if_unneeded();
    f.start();
    account = f.journal->take_up(name_of(10), name_of(11));
    REQUIRE(account != nullptr);
    REQUIRE(account->note(first, true)->before());
    account.reset();
    f.journal->leave();
    f.journal->remove_if_unneeded();
    CHECK(access(f.file().c_str(), F_OK) != 0);
}

TEST_CASE("journal: nobody is told of a session who cannot prove that it was theirs") {
    Killed f;
    const auto account = f.journal->begin(name_of(10));
    f.start();
    CHECK(f.journal->take_up(name_of(10, 2), name_of(11)) == nullptr);
    CHECK(f.journal->take_up(name_of(9), name_of(11)) == nullptr);
    auto with_key = name_of(10);
    with_key.key.emplace();
    CHECK(f.journal->take_up(with_key, name_of(11)) == nullptr);
    CHECK(f.journal->take_up(name_of(10), name_of(11)) != nullptr);
    struct stat status {};
    REQUIRE(::stat(f.file().c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);
}

TEST_CASE("journal: a session of which something could not be noted is not known later") {
    Killed f;
    // Those that nobody asks for go first.
    const auto lost = f.journal->begin(name_of(5));
    const auto note_of_lost = lost->note(first, false);
    note_of_lost->begin(wire::Opcode::mkdir, first);
    f.start();
    const auto account = f.journal->begin(name_of(10));
    std::vector<std::shared_ptr<AnswerJournal::Note>> notes;
    for (std::size_t i = 0; i < AnswerJournal::max_notes; ++i)
        notes.push_back(account->note(RequestId{i + 1}, false));
    CHECK(notes.back() != nullptr);
    CHECK(f.journal->take_up(name_of(5), name_of(6)) == nullptr);
    const auto other = f.journal->begin(name_of(20));
    CHECK(other->note(first, false) == nullptr);
    notes.pop_back();
    CHECK(account->note(RequestId{1'000'000}, false) != nullptr);
    f.start();
    CHECK(f.journal->take_up(name_of(20), name_of(21)) == nullptr);
    CHECK(f.journal->take_up(name_of(10), name_of(11)) != nullptr);
}

TEST_CASE("journal: no more sessions have accounts than there is room for") {
    Killed f;
    std::vector<std::shared_ptr<AnswerJournal::Account>> accounts;
    for (std::size_t i = 0; i < AnswerJournal::max_accounts; ++i)
        accounts.push_back(f.journal->begin(name_of(i + 1)));
    CHECK(accounts.back() != nullptr);
    CHECK(f.journal->begin(name_of(9999)) == nullptr);
    accounts.pop_back();
    CHECK(f.journal->begin(name_of(9999)) != nullptr);
}

TEST_CASE("journal: a file that is not as it should be is begun anew or refused") {
    Killed f;
    const auto account = f.journal->begin(name_of(10));
    SECTION("of another start of the machine") {
        f.start("another");
        CHECK(f.journal->take_up(name_of(10), name_of(11)) == nullptr);
    }
    SECTION("of another version") {
        f.write_over(8, "\x63");
        f.start();
        CHECK(f.journal->take_up(name_of(10), name_of(11)) == nullptr);
    }
    SECTION("of another length") {
        std::filesystem::resize_file(f.file(), 5000);
        const std::string file = f.file();
        f.start();
        CHECK(f.journal->take_up(name_of(10), name_of(11)) == nullptr);
        CHECK(std::filesystem::file_size(f.file()) > 1'000'000);
        std::filesystem::resize_file(file, 2'000'000);  // stores into what is mapped must find it
    }
    SECTION("a link") {
        const std::string link = f.directory / "link";
        std::filesystem::create_symlink(f.file(), link);
        CHECK_FALSE(AnswerJournal::open(link, this_start).has_value());
    }
    SECTION("that others may read") {
        const std::string other = f.directory / "other";
        write_file(other, "");
        REQUIRE(::chmod(other.c_str(), 0644) == 0);
        CHECK(AnswerJournal::open(other, this_start).error().status == Status::access_denied);
    }
    SECTION("that another server has") {
        CHECK(AnswerJournal::open(f.file(), this_start).error().status == Status::busy);
    }
}

TEST_CASE("journal: whatever bytes are in it, it is read, and goes on") {
    const auto seed = std::random_device()();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    for (int round = 0; round < 60; ++round) {
        Killed f;
        const auto account = f.journal->begin(name_of(10));
        std::vector<std::shared_ptr<AnswerJournal::Note>> notes;
        for (std::uint64_t i = 1; i <= 20; ++i) {
            notes.push_back(account->note(RequestId{i}, false));
            notes.back()->begin(wire::Opcode::mkdir, RequestId{i});
            notes.back()->finish(Status::ok, bytes_of("answer"));
        }
        const std::size_t size = std::filesystem::file_size(f.file());
        for (int spot = 0; spot < 200; ++spot) {
            std::string noise(1 + random() % 300, '\0');
            for (char& each : noise)
                each = static_cast<char>(random() % 3 == 0 ? 0xff : random());
            const std::size_t near_the_ends =
                random() % 2 == 0 ? 4096 + random() % 2048 : size - 8192 + random() % 7800;
            f.write_over(near_the_ends, noise);
        }
        f.start();
        if (const auto again = f.journal->take_up(name_of(10), name_of(11))) {
            for (std::uint64_t i = 1; i <= 20; ++i) {
                const auto note = again->note(RequestId{i}, true);
                REQUIRE(note != nullptr);
                if (note->before())
                    CHECK(note->before()->body.size() <= AnswerJournal::max_body_bytes);
            }
        }
        const auto other = f.journal->begin(name_of(30));
        REQUIRE(other != nullptr);
        const auto note = other->note(first, false);
        REQUIRE(note != nullptr);
        note->begin(wire::Opcode::mkdir, first);
        f.start();
        const auto found = f.journal->take_up(name_of(30), name_of(31));
        REQUIRE(found != nullptr);
        CHECK(found->note(first, true)->before());
    }
}

// ---------------------------------------------------------------- what was only begun

namespace {

// A request that a server had begun between two moments, and the answer to it when it comes again.
struct Begun {
    Export files;
    Client session{*files.service, "/"};
    AnswerJournal::Note::Before before;

    static wire::Timestamp now(clockid_t clock) {
        timespec time{};
        ::clock_gettime(clock, &time);
        return {.seconds = time.tv_sec, .nanoseconds = static_cast<std::uint32_t>(time.tv_nsec)};
    }
    Begun() { before.since = before.begun = before.ended = now(CLOCK_REALTIME); }
    std::string path(const std::string& name) const { return files.directory / name; }
    // The clock that goes in steps goes on, so that files of before and afterwards have other times of birth.
    static void step() {
        const wire::Timestamp last = now(CLOCK_REALTIME);
        REQUIRE(eventually([&] { return order(now(CLOCK_REALTIME_COARSE)) > order(last); }));
    }
    static std::pair<std::int64_t, std::uint32_t> order(const wire::Timestamp& time) {
        return {time.seconds, time.nanoseconds};
    }
    void begin() {
        step();
        before.since = now(CLOCK_REALTIME_COARSE);
        before.begun = now(CLOCK_REALTIME);
    }
    void end() {
        before.ended = now(CLOCK_REALTIME);
        step();
    }
    template <class Request>
    Answer<Request> again(const Request& request) {
        const auto body = wire::encode_body(request);
        return Client::take<Request>(answer_again(before, Request::opcode, body, std::as_bytes(std::span(bulk)), ask,
                                                  [&](std::optional<std::uint64_t> begun_at) {
                                                      Asked asked(RequestId{1});
                                                      asked.begun_at = begun_at;
                                                      return *files.service->carry_out(
                                                          session.files(), asked, Request::opcode, body,
                                                          Buffer::copy_of(bulk), session.caller, [](Outcome) {});
                                                  }));
    }
    // What a server notes when the request is begun.
    template <class Request>
    void note(const Request& request) {
        begin();
        before.attributes = attributes_before(Request::opcode, wire::encode_body(request), ask);
    }
    std::string bulk;  // of the request
    const Ask ask = [this](wire::Opcode opcode, std::span<const std::byte> body) {
        return *files.service->carry_out(session.files(), RequestId{1}, opcode, body, {}, session.caller,
                                         [](Outcome) {});
    };
    // It was answered, too.
    template <class Request>
    void was_answered(const Answer<Request>& answer) {
        before.status = answer.status;
        before.body = wire::encode_body(answer.body);
    }
    bool has_birth() {
        ::mkdir(path("looked at").c_str(), 0755);
        const auto found =
            session.call(wire::Lookup{Client::root, "looked at", {session.new_node(), false}}).body.attributes;
        return found.identity.birth != wire::Timestamp{};
    }
};

}  // namespace

TEST_CASE("answered again: what was begun to be made is there once, and what somebody else made is theirs") {
    Begun f;
    const bool has_birth = f.has_birth();
    const wire::Mkdir mkdir{Client::root, "new", {f.session.new_node(), false}, 0755, 0};
    SECTION("not carried out") {
        f.begin();
        f.end();
        CHECK(f.again(mkdir));
        CHECK(std::filesystem::is_directory(f.path("new")));
    }
    SECTION("carried out") {
        if (!has_birth)
            return;
        f.begin();
        ::mkdir(f.path("new").c_str(), 0755);
        f.end();
        CHECK(f.again(mkdir).body.node == mkdir.node.id);
        CHECK(f.session.call(wire::Getattr{.node = mkdir.node.id}));
    }
    SECTION("there before") {
        ::mkdir(f.path("new").c_str(), 0755);
        f.begin();
        f.end();
        CHECK(f.again(mkdir).status == Status::exists);
        CHECK_FALSE(f.session.call(wire::Getattr{.node = mkdir.node.id}));
    }
    SECTION("made by somebody else afterwards") {
        if (!has_birth)
            return;
        f.begin();
        f.end();
        ::mkdir(f.path("new").c_str(), 0755);
        CHECK(f.again(mkdir).status == Status::exists);
    }
}

TEST_CASE("answered again: a new file is open under the handle of its request") {
    Begun f;
    if (!f.has_birth())
        return;
    const wire::Create create{Client::root,
                              "new",
                              {f.session.new_node(), false},
                              f.session.new_handle(),
                              wire::open_read | wire::open_write | wire::open_exclusive,
                              0600,
                              0};
    const bool was_answered = GENERATE(false, true);
    f.begin();
    if (was_answered) {
        Client other(*f.files.service, "/");
        f.was_answered(other.call(create));
    } else {
        write_file(f.path("new"), "");
    }
    f.end();
    const auto again = f.again(create);
    REQUIRE(again);
    CHECK(again.body.created);
    CHECK(f.session.write(create.handle, 0, "text"));
    CHECK(read_file(f.path("new")) == "text");
}

TEST_CASE("answered again: what was answered is not done again, and not taken for what has come in its place") {
    Begun f;
    Client other(*f.files.service, "/");
    const wire::Symlink symlink{Client::root, "link", {f.session.new_node(), false}, "target"};
    f.begin();
    f.was_answered(other.call(symlink));
    f.end();
    SECTION("there") {
        CHECK(f.again(symlink));
    }
    SECTION("not there any more") {
        std::filesystem::remove(f.path("link"));
        CHECK(f.again(symlink).status == Status::io_error);
        CHECK_FALSE(std::filesystem::is_symlink(f.path("link")));
    }
    SECTION("another") {
        std::filesystem::rename(f.path("link"), f.path("kept"));
        std::filesystem::create_symlink("elsewhere", f.path("link"));
        CHECK(f.again(symlink).status == Status::io_error);
    }
}

TEST_CASE("answered again: names are taken away once, links made once") {
    Begun f;
    write_file(f.path("file"), "");
    const NodeId node = f.session.lookup(Client::root, "file");
    SECTION("removed") {
        f.begin();
        std::filesystem::remove(f.path("file"));
        SECTION("and not there") {
            CHECK(f.again(wire::Unlink{Client::root, "file"}));
        }
        SECTION("and made anew") {
            if (!f.has_birth())
                return;
            f.end();
            write_file(f.path("file"), "new");
            CHECK(f.again(wire::Unlink{Client::root, "file"}));
            CHECK(read_file(f.path("file")) == "new");
        }
    }
    SECTION("not removed") {
        f.begin();
        CHECK(f.again(wire::Unlink{Client::root, "file"}));
        CHECK_FALSE(std::filesystem::exists(f.path("file")));
    }
    SECTION("renamed") {
        f.begin();
        const bool carried_out = GENERATE(false, true);
        if (carried_out)
            std::filesystem::rename(f.path("file"), f.path("moved"));
        CHECK(f.again(wire::Rename{Client::root, "file", Client::root, "moved", 0}));
        CHECK(std::filesystem::exists(f.path("moved")));
        CHECK_FALSE(std::filesystem::exists(f.path("file")));
    }
    SECTION("exchanged, of which nothing tells") {
        write_file(f.path("other"), "");
        f.begin();
        const wire::Rename exchange{Client::root, "file", Client::root, "other", wire::rename_exchange};
        CHECK(f.again(exchange).status == Status::io_error);
    }
    SECTION("linked") {
        f.begin();
        const bool carried_out = GENERATE(false, true);
        if (carried_out)
            std::filesystem::create_hard_link(f.path("file"), f.path("second"));
        CHECK(f.again(wire::Link{node, Client::root, "second"}));
        CHECK(std::filesystem::hard_link_count(f.path("file")) == 2);
    }
    SECTION("linked to another's name") {
        write_file(f.path("second"), "");
        f.begin();
        CHECK(f.again(wire::Link{node, Client::root, "second"}).status == Status::exists);
    }
}

TEST_CASE("answered again: what was appended is there once, wherever the server was killed") {
    Begun f;
    write_file(f.path("log"), "before");
    const NodeId node = f.session.new_node();
    REQUIRE(f.session.call(wire::Lookup{Client::root, "log", {node, false}}).status == Status::ok);
    const HandleId handle{77};
    REQUIRE(f.session.call(wire::Open{node, handle, wire::open_write}).status == Status::ok);  // not for reading
    const wire::Write append{.handle = handle, .append = true};
    f.bulk = "line\n";
    f.note(append);
    REQUIRE(f.before.attributes.has_value());
    const auto [of_server, of_others, expected, offset] = GENERATE(table<std::string, std::string, std::string, int>({
        {"", "", "beforeline\n", 6},
        {"line\n", "", "beforeline\n", 6},
        {"li", "", "beforeline\n", 6},
        {"", "other\n", "beforeother\nline\n", 12},
        {"line\n", "other\n", "beforeline\nother\n", 6},
        {"other\n", "line\n", "beforeother\nline\n", 12},
    }));
    write_file(f.path("log"), "before" + of_server + of_others);
    f.end();
    const auto answer = f.again(append);
    CHECK(answer.status == Status::ok);
    CHECK(answer.body.offset == static_cast<std::uint64_t>(offset));
    CHECK(answer.body.size == 5);
    CHECK(read_file(f.path("log")) == expected);
}

TEST_CASE("answered again: an append is in doubt where another file has come in the place of that one") {
    Begun f;
    write_file(f.path("log"), "before");
    const NodeId node = f.session.new_node();
    REQUIRE(f.session.call(wire::Lookup{Client::root, "log", {node, false}}).status == Status::ok);
    const HandleId handle{77};
    REQUIRE(f.session.call(wire::Open{node, handle, wire::open_write}).status == Status::ok);
    const wire::Write append{.handle = handle, .append = true};
    f.note(append);
    f.end();
    ++f.before.attributes->identity.inode;
    CHECK(f.again(append).status == Status::io_error);
    CHECK(read_file(f.path("log")) == "before");
}

TEST_CASE("answered again: two names are exchanged once") {
    Begun f;
    write_file(f.path("one"), "1");
    write_file(f.path("two"), "2");
    const wire::Rename exchange{Client::root, "one", Client::root, "two", wire::rename_exchange};
    f.note(exchange);
    REQUIRE(f.before.attributes.has_value());
    if (GENERATE(false, true))
        REQUIRE(f.session.call(exchange).status == Status::ok);
    f.end();
    CHECK(f.again(exchange).status == Status::ok);
    CHECK(read_file(f.path("one")) == "2");
    // Somebody else has moved it away.
    ::rename(f.path("two").c_str(), f.path("three").c_str());
    write_file(f.path("two"), "another");
    CHECK(f.again(exchange).status == Status::io_error);
    CHECK(read_file(f.path("two")) == "another");
}

TEST_CASE("answered again: an extended attribute that must not be there is made once") {
    Begun f;
    write_file(f.path("file"), "");
    const NodeId node = f.session.new_node();
    REQUIRE(f.session.call(wire::Lookup{Client::root, "file", {node, false}}).status == Status::ok);
    const wire::Setxattr make{node, "user.remofile-test", wire::xattr_create};
    const wire::Setxattr replace{node, "user.remofile-test", wire::xattr_replace};
    f.bulk = "value";
    f.begin();
    CHECK(f.again(replace).status == Status::no_data);
    CHECK(f.again(make).status == Status::ok);
    CHECK(f.again(make).status == Status::ok);
    CHECK(f.again(replace).status == Status::ok);
    f.bulk = "another";
    CHECK(f.again(make).status == Status::exists);
    CHECK(f.again(replace).status == Status::ok);
}

TEST_CASE("answered again: what was appended is told if the answer is known, and in doubt if nothing was noted") {
    Begun f;
    const wire::Write append{.handle = HandleId{1}, .append = true};
    CHECK(f.again(append).status == Status::io_error);
    f.before.status = Status::ok;
    f.before.body = wire::encode_body(wire::WriteReply{.offset = 10, .size = 5, .attributes = {}});
    CHECK(f.again(append).body.offset == 10);
    f.before.status = Status::no_space;
    CHECK(f.again(append).status == Status::no_space);
}

// ---------------------------------------------------------------- sessions

TEST_CASE("kept answers: a request that comes again to a server started anew is answered as before") {
    TemporaryDirectory directory;
    const auto open_files = [&](const std::shared_ptr<LeaseTable>& leases, Counters& counters) {
        auto opened = FileService::open({.directory = directory.path(), .leases = leases}, counters);
        REQUIRE(opened.has_value());
        return std::move(*opened);
    };
    constexpr std::uint64_t of_answers = wire::feature_kept_answers | wire::feature_known_answers;
    Killed f;
    World world({}, {}, open_files);
    world.service->keep_answers_in(f.journal);
    Connection c(world, "c");
    wire::Hello hello{.features = of_answers, .root = NodeId{1}, .path = "/"};
    const auto session = c.hello(hello);
    CHECK(session.features == wire::feature_kept_answers);
    const wire::Mkdir mkdir{NodeId{1}, "new", {NodeId{2}, false}, 0755, 0};
    c.acknowledges = false;
    CHECK(c.ask(2, mkdir) == Status::ok);
    CHECK(c.ask(3, wire::Rmdir{NodeId{1}, "never"}) == Status::no_entry);

    f.start();
    ::mkdir((directory / "never").c_str(), 0755);
    World after({}, {}, open_files);
    after.service->keep_answers_in(f.journal);
    Connection again(after, "again");
    hello.resume = session.session;
    hello.session_secret = session.session_secret;
    const bool has_its_secret = GENERATE(true, false);
    hello.session_secret[0] ^= has_its_secret ? 0 : 1;
    const auto other = again.hello(hello);
    CHECK_FALSE(other.resumed);
    CHECK(other.features == (has_its_secret ? of_answers : wire::feature_kept_answers));
    CHECK(again.ask(2, mkdir, wire::flag_resent) == (has_its_secret ? Status::ok : Status::exists));
    CHECK(again.ask(3, wire::Rmdir{NodeId{1}, "never"}, wire::flag_resent) ==
          (has_its_secret ? Status::no_entry : Status::ok));
    CHECK(again.ask(4, wire::Mkdir{NodeId{1}, "another", {NodeId{3}, false}, 0755, 0}, wire::flag_resent) ==
          Status::ok);
    if (has_its_secret)
        CHECK(again.ask(5, wire::Getattr{.node = NodeId{2}}) == Status::ok);
}

TEST_CASE("kept answers: a client that does not ask for them, or a server without a journal, goes on as ever") {
    Killed f;
    World world;
    Connection c(world, "c");
    const wire::Hello hello{
        .features = wire::feature_kept_answers | wire::feature_known_answers, .root = NodeId{1}, .path = "/"};
    CHECK(c.hello(hello).features == 0);
    world.service->keep_answers_in(f.journal);
    Connection other(world, "other");
    CHECK(other.hello().features == 0);
    Connection third(world, "third");
    CHECK(third.hello(hello).features == wire::feature_kept_answers);
}
