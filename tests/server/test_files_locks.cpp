// SPDX-License-Identifier: MIT
// Byte-range locks and flock: between owners, sessions, and processes on the server.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/unique_fd.hpp"
#include "catch.hpp"
#include "export_fixture.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;
using wire::LockRange;
using wire::LockType;

namespace {

constexpr auto no_end = static_cast<std::uint64_t>(INT64_MAX);
constexpr LockOwner ann{1};
constexpr LockOwner ben{2};

// A session with the export's one file open.
struct Party {
    explicit Party(Export& exported, std::uint32_t flags = wire::open_read | wire::open_write)
        : session(*exported.service), node(session.lookup(Session::root, "file")), handle(session.open(node, flags)) {}

    Status lock(LockOwner owner, LockType type, std::uint64_t start = 0, std::uint64_t end = no_end,
                std::uint32_t pid = 0) {
        return session.call(wire::Setlk{.handle = handle, .owner = owner, .range = {type, start, end, pid}}).status;
    }
    LockRange test(LockOwner owner, LockType type, std::uint64_t start = 0, std::uint64_t end = no_end) {
        return session.call(wire::Getlk{.handle = handle, .owner = owner, .range = {type, start, end, 0}}).body.range;
    }
    Status flock(LockType type) { return session.call(wire::Flock{.handle = handle, .type = type}).status; }

    Session session;
    NodeId node;
    HandleId handle;
};

struct File : Export {
    File() { write_file(directory / "file", "content"); }
    std::string path() const { return directory / "file"; }
};

// Takes the decisions of requests that wait, in the order in which they come.
class Decisions {
public:
    std::function<void(Outcome)> taker(std::string name) {
        return [this, name = std::move(name)](Outcome outcome) {
            const std::lock_guard guard(mutex_);
            decided_.emplace_back(name, outcome.status);
            changed_.notify_all();
        };
    }
    // Waits for the next and returns "name: status".
    std::string next() {
        std::unique_lock lock(mutex_);
        if (!changed_.wait_for(lock, std::chrono::seconds(10), [&] { return !decided_.empty(); }))
            return "nothing";
        const auto [name, status] = decided_.front();
        decided_.erase(decided_.begin());
        return name + ": " + std::string(describe(status));
    }
    bool none() {
        const std::lock_guard guard(mutex_);
        return decided_.empty();
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::pair<std::string, Status>> decided_;
};

wire::Setlk waiting(const Party& party, LockOwner owner, LockType type, std::uint64_t start = 0,
                    std::uint64_t end = no_end) {
    return {.handle = party.handle, .owner = owner, .range = {type, start, end, 0}, .wait = true};
}

// What a process on the server sees, by a lock of its own kind.
bool foreign_can_lock(const std::string& path, short type, off_t start, off_t length) {
    return in_child_as({}, [&] {
               const UniqueFd file(open(path.c_str(), O_RDWR));
               struct flock lock {};
               lock.l_type = type;
               lock.l_whence = SEEK_SET;
               lock.l_start = start;
               lock.l_len = length;
               return fcntl(file.get(), F_SETLK, &lock) == 0 ? 0 : 1;
           }) == 0;
}

// A process on the server that holds a POSIX lock until told to let go.
class ForeignHolder {
public:
    ForeignHolder(const std::string& path, short type, off_t start, off_t length) {
        int ready[2];
        int release[2];
        REQUIRE(pipe2(ready, O_CLOEXEC) == 0);
        REQUIRE(pipe2(release, O_CLOEXEC) == 0);
        child_ = fork();
        if (child_ == 0) {
            const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
            struct flock lock {};
            lock.l_type = type;
            lock.l_whence = SEEK_SET;
            lock.l_start = start;
            lock.l_len = length;
            close(release[1]);
            char byte = fcntl(file, F_SETLK, &lock) == 0 ? 'y' : 'n';
            if (write(ready[1], &byte, 1) != 1 || read(release[0], &byte, 1) < 0)
                _exit(1);
            _exit(0);
        }
        close(release[0]);
        close(ready[1]);
        release_ = UniqueFd(release[1]);
        char byte = 'n';
        REQUIRE(read(ready[0], &byte, 1) == 1);
        close(ready[0]);
        REQUIRE(byte == 'y');
    }
    ~ForeignHolder() { let_go(); }
    void let_go() {
        if (!release_)
            return;
        release_.reset();
        waitpid(child_, nullptr, 0);
    }

private:
    pid_t child_ = -1;
    UniqueFd release_;
};

}  // namespace

TEST_CASE("byte ranges exclude other owners, of the same and of other sessions") {
    File file;
    Party one(file);
    Party two(file);
    CHECK(one.lock(ann, LockType::write, 10, 19, 123) == Status::ok);
    CHECK(one.lock(ben, LockType::write, 15, 30) == Status::try_again);
    CHECK(two.lock(ann, LockType::read, 0, 10) == Status::try_again);
    CHECK(two.lock(ann, LockType::read, 0, 9) == Status::ok);
    CHECK(two.lock(ben, LockType::read, 5, 9) == Status::ok);
    CHECK(one.lock(ann, LockType::write, 0, 5) == Status::try_again);
    // Of one owner, new locks replace old ones.
    CHECK(one.lock(ann, LockType::read, 12, 15) == Status::ok);
    CHECK(two.lock(ben, LockType::read, 12, 15) == Status::ok);
    CHECK(two.lock(ben, LockType::read, 11, 15) == Status::try_again);
    CHECK(one.lock(ann, LockType::unlock) == Status::ok);
    CHECK(two.lock(ben, LockType::write, 10, no_end) == Status::ok);
    // What was never locked can be unlocked.
    CHECK(one.lock(LockOwner{99}, LockType::unlock) == Status::ok);
}

TEST_CASE("a lock in the way is described, with its holder's pid") {
    File file;
    Party one(file);
    Party two(file);
    CHECK(one.test(ann, LockType::write).type == LockType::unlock);
    CHECK(one.lock(ann, LockType::write, 10, 19, 4711) == Status::ok);
    CHECK(one.test(ann, LockType::write).type == LockType::unlock);
    const LockRange seen = two.test(ben, LockType::read);
    CHECK(seen.type == LockType::write);
    CHECK(seen.start == 10);
    CHECK(seen.end == 19);
    CHECK(seen.pid == 4711);
    CHECK(two.test(ben, LockType::read, 20, 30).type == LockType::unlock);
    CHECK(one.lock(ann, LockType::read, 30, no_end, 4711) == Status::ok);
    CHECK(two.test(ben, LockType::write, 100, 200).end == no_end);
}

TEST_CASE("byte ranges and processes on the server exclude each other") {
    File file;
    Party party(file);
    CHECK(party.lock(ann, LockType::write, 0, 9) == Status::ok);
    CHECK_FALSE(foreign_can_lock(file.path(), F_RDLCK, 5, 1));
    CHECK(foreign_can_lock(file.path(), F_WRLCK, 10, 0));
    CHECK(party.lock(ann, LockType::unlock, 0, 4) == Status::ok);
    CHECK(foreign_can_lock(file.path(), F_WRLCK, 0, 5));
    CHECK_FALSE(foreign_can_lock(file.path(), F_WRLCK, 0, 6));

    ForeignHolder holder(file.path(), F_WRLCK, 100, 100);
    CHECK(party.lock(ann, LockType::read, 150, 150) == Status::try_again);
    CHECK(party.lock(ann, LockType::read, 200, 250) == Status::ok);
    const LockRange seen = party.test(ann, LockType::read, 0, no_end);
    CHECK(seen.type == LockType::write);
    CHECK(seen.start == 100);
    CHECK(seen.end == 199);
    CHECK(seen.pid == 0);
    holder.let_go();
    CHECK(party.lock(ann, LockType::read, 150, 150) == Status::ok);

    // Open file description locks of another program, too.
    const UniqueFd other(open(file.path().c_str(), O_RDWR));
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_start = 1000;
    lock.l_len = 10;
    REQUIRE(fcntl(other.get(), F_OFD_SETLK, &lock) == 0);
    CHECK(party.lock(ben, LockType::write, 1005, 1005) == Status::try_again);
    CHECK(party.test(ben, LockType::write, 1005, 1005).type == LockType::write);
}

TEST_CASE("a lock needs a handle that was opened for it") {
    File file;
    Party reader(file, wire::open_read);
    Party writer(file, wire::open_write);
    CHECK(reader.lock(ann, LockType::write) == Status::bad_handle);
    CHECK(writer.lock(ann, LockType::read) == Status::bad_handle);
    CHECK(reader.lock(ann, LockType::read) == Status::ok);
    CHECK(reader.session.call(wire::Setlk{.handle = HandleId{99}}).status == Status::bad_handle);
    CHECK(reader.lock(ann, LockType::read, 5, 4) == Status::invalid);
    CHECK(reader.lock(ann, LockType::read, 0, no_end + 1) == Status::invalid);
    CHECK(reader.lock(ann, static_cast<LockType>(7)) == Status::invalid);
    CHECK(reader.flock(static_cast<LockType>(7)) == Status::invalid);
}

TEST_CASE("FLUSH drops the locks of its owner, a closed session all of its own") {
    File file;
    Party one(file);
    Party two(file);
    CHECK(one.lock(ann, LockType::write, 0, 9) == Status::ok);
    CHECK(one.lock(ben, LockType::write, 10, 19) == Status::ok);
    CHECK(one.session.call(wire::Flush{.handle = one.handle, .owner = ann}));
    CHECK(two.lock(ann, LockType::write, 0, 9) == Status::ok);
    CHECK(two.lock(ann, LockType::write, 10, 19) == Status::try_again);
    CHECK(one.session.call(wire::Flush{.handle = one.handle, .owner = LockOwner{99}}));
    one.session.close();
    CHECK(two.lock(ann, LockType::write, 10, 19) == Status::ok);
}

TEST_CASE("who waits gets the lock when it is given up, in the order of asking") {
    File file;
    Party one(file);
    Party two(file);
    Decisions decisions;
    CHECK(one.lock(ann, LockType::write) == Status::ok);
    CHECK_FALSE(two.session.begin(waiting(two, ann, LockType::write), decisions.taker("first")));
    CHECK_FALSE(one.session.begin(waiting(one, ben, LockType::write), decisions.taker("second")));
    CHECK_FALSE(two.session.begin(waiting(two, ben, LockType::read), decisions.taker("third")));
    CHECK(decisions.none());
    CHECK(one.lock(ann, LockType::unlock) == Status::ok);
    // At once, not at the next turn of the clock: the decision is made before the unlocking is answered.
    CHECK_FALSE(decisions.none());
    CHECK(decisions.next() == "first: success");
    CHECK(decisions.none());
    CHECK(two.session.call(wire::Flush{.handle = two.handle, .owner = ann}));
    CHECK(decisions.next() == "second: success");
    CHECK(decisions.none());
    // A write lock that becomes a read lock lets readers in.
    CHECK(one.lock(ben, LockType::read) == Status::ok);
    CHECK(decisions.next() == "third: success");
    // One that need not wait is answered like any other.
    const auto at_once =
        one.session.begin(waiting(one, ann, LockType::read), [](Outcome) { FAIL_CHECK("it did not wait"); });
    REQUIRE(at_once);
    CHECK(at_once->status == Status::ok);
    CHECK(file.counters.at("files.lock_waits").value() == 3);
}

TEST_CASE("a wait ends when the session in its way ends") {
    File file;
    Party one(file);
    Party two(file);
    Decisions decisions;
    CHECK(one.lock(ann, LockType::write) == Status::ok);
    CHECK_FALSE(two.session.begin(waiting(two, ann, LockType::write), decisions.taker("wait")));
    one.session.close();
    CHECK(decisions.next() == "wait: success");
}

TEST_CASE("a wait for a process on the server ends when that gives up its lock") {
    File file;
    Party party(file);
    Decisions decisions;
    ForeignHolder holder(file.path(), F_WRLCK, 0, 0);
    CHECK_FALSE(party.session.begin(waiting(party, ann, LockType::write), decisions.taker("range")));
    CHECK(decisions.none());
    holder.let_go();
    CHECK(decisions.next() == "range: success");

    UniqueFd other(open(file.path().c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(flock(other.get(), LOCK_EX) == 0);
    CHECK_FALSE(party.session.begin(wire::Flock{.handle = party.handle, .type = LockType::read, .wait = true},
                                    decisions.taker("whole")));
    other.reset();
    CHECK(decisions.next() == "whole: success");
}

TEST_CASE("a wait can be cancelled, and ends with its session") {
    File file;
    Party one(file);
    Party two(file);
    Decisions decisions;
    CHECK(one.lock(ann, LockType::write) == Status::ok);
    RequestId request;
    CHECK_FALSE(two.session.begin(waiting(two, ann, LockType::write), decisions.taker("cancelled"), &request));
    file.service->cancel(one.session.files(), request);
    file.service->cancel(two.session.files(), RequestId{4711});
    CHECK(decisions.none());
    file.service->cancel(two.session.files(), request);
    CHECK(decisions.next() == "cancelled: interrupted");
    file.service->cancel(two.session.files(), request);
    CHECK_FALSE(two.session.begin(waiting(two, ann, LockType::write), decisions.taker("ended")));
    two.session.close();
    CHECK(decisions.next() == "ended: interrupted");
    CHECK(one.lock(ann, LockType::unlock) == Status::ok);
    CHECK(decisions.none());
}

TEST_CASE("the end of the export ends its waits") {
    File file;
    Decisions decisions;
    const auto files = file.service->open_session("/", Session::root, {}, false)->files;
    std::uint64_t request = 0;
    const auto call = [&](const auto& body) {
        return file.service->carry_out(files, RequestId{++request}, std::decay_t<decltype(body)>::opcode,
                                       wire::encode_body(body), {}, {}, decisions.taker("wait"));
    };
    call(wire::Lookup{.parent = Session::root, .name = "file", .node = {NodeId{2}}});
    for (const HandleId handle : {HandleId{1}, HandleId{2}})
        call(wire::Open{.node = NodeId{2}, .handle = handle, .flags = wire::open_read});
    if (GENERATE(false, true))  // it is held back, after a start
        file.service->begin_lock_grace(std::chrono::hours(1));
    else
        CHECK(call(wire::Flock{.handle = HandleId{1}, .type = LockType::write})->status == Status::ok);
    CHECK_FALSE(call(wire::Flock{.handle = HandleId{2}, .type = LockType::write, .wait = true}));
    CHECK(decisions.none());
    file.service.reset();
    CHECK(decisions.next() == "wait: interrupted");
}

TEST_CASE("who would wait for each other is told") {
    File file;
    Party one(file);
    Party two(file);
    Decisions decisions;
    CHECK(one.lock(ann, LockType::write, 0, 9) == Status::ok);
    CHECK(two.lock(ben, LockType::write, 10, 19) == Status::ok);
    CHECK_FALSE(one.session.begin(waiting(one, ann, LockType::write, 10, 19), decisions.taker("one")));
    const auto refused =
        two.session.begin(waiting(two, ben, LockType::write, 0, 9), [](Outcome) { FAIL_CHECK("it waited"); });
    REQUIRE(refused);
    CHECK(refused->status == Status::deadlock);
    CHECK(decisions.none());
    CHECK(two.lock(ben, LockType::unlock) == Status::ok);
    CHECK(decisions.next() == "one: success");
}

TEST_CASE("flock belongs to the handle") {
    File file;
    Party one(file, wire::open_read);
    Party two(file);
    const HandleId other = one.session.open(one.node, wire::open_read);
    CHECK(one.flock(LockType::write) == Status::ok);
    CHECK(two.flock(LockType::read) == Status::try_again);
    CHECK(one.session.call(wire::Flock{.handle = other, .type = LockType::read}).status == Status::try_again);
    const UniqueFd foreign(open(file.path().c_str(), O_RDONLY));
    CHECK(flock(foreign.get(), LOCK_EX | LOCK_NB) != 0);
    // Byte ranges are another matter.
    CHECK(two.lock(ann, LockType::write) == Status::ok);

    Decisions decisions;
    CHECK_FALSE(two.session.begin(wire::Flock{.handle = two.handle, .type = LockType::write, .wait = true},
                                  decisions.taker("flock")));
    CHECK(one.flock(LockType::read) == Status::ok);
    CHECK(decisions.none());
    CHECK(one.session.call(wire::Release{.handle = one.handle}));
    CHECK(decisions.next() == "flock: success");
    CHECK(flock(foreign.get(), LOCK_SH | LOCK_NB) != 0);
    CHECK(two.flock(LockType::unlock) == Status::ok);
    CHECK(flock(foreign.get(), LOCK_EX | LOCK_NB) == 0);

    // A handle that is released while it waits.
    CHECK_FALSE(one.session.begin(wire::Flock{.handle = other, .type = LockType::read, .wait = true},
                                  decisions.taker("released")));
    CHECK(one.session.call(wire::Release{.handle = other}));
    CHECK(decisions.next() == "released: bad file handle");
}

TEST_CASE("locks of a lost session are had again as long as nobody has had a lock of the file since") {
    File exported;
    FileService& service = *exported.service;
    std::optional<Party> lost(std::in_place, exported);
    REQUIRE(lost->lock(ann, LockType::write, 0, 9) == Status::ok);
    REQUIRE(lost->flock(LockType::read) == Status::ok);
    const std::uint64_t lost_at = service.locks_lost_at(lost->session.files());
    lost.reset();
    Party other(exported);
    Party again(exported);
    bool told = false;
    const wire::ReclaimLocks all{
        .locks = {{.handle = again.handle, .owner = ann, .range = {.type = LockType::write, .start = 0, .end = 9}},
                  {.handle = again.handle, .whole = true, .owner = {}, .range = {.type = LockType::read}},
                  {.handle = HandleId{99}, .owner = ann, .range = {.type = LockType::write, .start = 0, .end = 9}}}};
    SECTION("by whoever takes its place") {
        service.take_place_of(again.session.files(), lost_at, [&told] { told = true; });
        CHECK(service.locks_lost_at(again.session.files()) == lost_at);
        CHECK(again.session.call(wire::ReclaimLocks{.locks = {}, .more = true}).body.lost.empty());
        CHECK_FALSE(told);
        CHECK(again.session.call(all).body.lost == std::vector<std::uint32_t>{2});
        CHECK(told);
        REQUIRE(again.lock(ann, LockType::read, 100, 100) == Status::ok);
        CHECK(service.locks_lost_at(again.session.files()) > lost_at);
        CHECK(other.lock(ben, LockType::read, 9, 9) == Status::try_again);
        CHECK(other.flock(LockType::write) == Status::try_again);
        CHECK(other.flock(LockType::read) == Status::ok);
    }
    SECTION("by nobody else") {
        CHECK(again.session.call(all).body.lost == std::vector<std::uint32_t>{0, 1, 2});
        CHECK(other.lock(ben, LockType::write) == Status::ok);
    }
    SECTION("not once somebody has had one, though it has been given up") {
        REQUIRE(other.lock(ben, LockType::write, 5, 5) == Status::ok);
        REQUIRE(other.lock(ben, LockType::unlock, 5, 5) == Status::ok);
        service.take_place_of(again.session.files(), lost_at, [&told] { told = true; });
        CHECK(again.session.call(all).body.lost == std::vector<std::uint32_t>{0, 1, 2});
        CHECK(other.lock(ben, LockType::write) == Status::ok);
    }
    SECTION("not where a process on the server has one") {
        const UniqueFd fd(::open(exported.path().c_str(), O_RDWR | O_CLOEXEC));
        REQUIRE(::flock(fd.get(), LOCK_EX) == 0);
        service.take_place_of(again.session.files(), lost_at, [&told] { told = true; });
        CHECK(again.session.call(all).body.lost == std::vector<std::uint32_t>{1, 2});
    }
    SECTION("not after so many others that nobody knows any more") {
        service.take_place_of(again.session.files(), lost_at, [&told] { told = true; });
        for (int file = 0; file < 3 * 8192; ++file) {
            const std::string name = "other" + std::to_string(file);
            const NodeId node = other.session.new_node();
            const HandleId handle = other.session.new_handle();
            const auto made = other.session.call(wire::Create{.parent = Session::root,
                                                              .name = name,
                                                              .node = {node, false},
                                                              .handle = handle,
                                                              .flags = wire::open_write,
                                                              .mode = 0600});
            REQUIRE(made.status == Status::ok);
            REQUIRE(other.session.call(wire::Flock{.handle = handle, .type = LockType::write}).status == Status::ok);
            REQUIRE(other.session.call(wire::Release{handle}).status == Status::ok);
            REQUIRE(other.session.call(wire::Forget{{{node, 1}}}).status == Status::ok);
        }
        CHECK(again.session.call(all).body.lost == std::vector<std::uint32_t>{0, 1, 2});
    }
}

TEST_CASE("before the first lock is granted that was not had before, whoever wants to know is told") {
    File exported;
    int told = 0;
    exported.service->before_first_lock([&told] { ++told; });
    Party party(exported);
    exported.service->take_place_of(party.session.files(), 0, [] {});
    const wire::ReclaimLocks again{
        .locks = {{.handle = party.handle, .owner = ann, .range = {.type = LockType::write, .start = 0, .end = 9}}}};
    CHECK(party.session.call(again).body.lost.empty());
    CHECK(told == 0);
    CHECK(party.lock(ann, LockType::unlock) == Status::ok);
    CHECK(told == 0);
    CHECK(party.lock(ann, LockType::read) == Status::ok);
    CHECK(party.flock(LockType::read) == Status::ok);
    CHECK(told == 1);
}

TEST_CASE("after a start, locks are held back until those who had them have them again") {
    File exported;
    Decisions decisions;
    exported.service->begin_lock_grace(std::chrono::hours(1));
    Party holder(exported);
    Party other(exported);
    const auto asks = [&](Party& party, LockOwner owner, LockType type, bool waits, std::string name) {
        wire::Setlk message = waiting(party, owner, type);
        message.wait = waits;
        return party.session.begin(message, decisions.taker(std::move(name)));
    };
    CHECK_FALSE(asks(other, ann, LockType::write, true, "patient"));
    CHECK_FALSE(asks(other, ben, LockType::read, false, "impatient"));
    CHECK_FALSE(
        other.session.begin(wire::Flock{.handle = other.handle, .type = LockType::write}, decisions.taker("whole")));
    // Giving up, and looking, need not wait.
    CHECK(other.lock(ben, LockType::unlock) == Status::ok);
    CHECK(other.test(ann, LockType::write).type == LockType::unlock);
    CHECK(decisions.none());
    exported.service->take_place_of(holder.session.files(), 0, [&] { exported.service->end_lock_grace(); });
    const wire::ReclaimLocks again{
        .locks = {
            {.handle = holder.handle, .owner = ann, .range = {.type = LockType::write, .start = 0, .end = 9}},
        }};
    CHECK(holder.session.call(again).body.lost.empty());
    CHECK(decisions.next() == "impatient: " + std::string(describe(Status::try_again)));
    CHECK(decisions.next() == "whole: success");
    CHECK(decisions.none());
    CHECK(holder.lock(ann, LockType::unlock) == Status::ok);
    CHECK(decisions.next() == "patient: success");
    CHECK(holder.lock(ann, LockType::read) == Status::try_again);  // answered at once again
}

TEST_CASE("a lock that is held back goes with its session and its handle") {
    File exported;
    exported.service->begin_lock_grace(std::chrono::hours(1));
    Decisions decisions;
    Party party(exported);
    CHECK_FALSE(party.session.begin(waiting(party, ann, LockType::write), decisions.taker("range")));
    CHECK_FALSE(
        party.session.begin(wire::Flock{.handle = party.handle, .type = LockType::write}, decisions.taker("whole")));
    CHECK(party.session.call(wire::Release{party.handle}));
    CHECK(decisions.next() == "whole: " + std::string(describe(Status::bad_handle)));
    exported.service->close_session(party.session.files());
    CHECK(decisions.next() == "range: " + std::string(describe(Status::interrupted)));
    CHECK(decisions.none());
}

TEST_CASE("locks are held back for a while only") {
    File exported;
    Decisions decisions;
    exported.service->begin_lock_grace(std::chrono::milliseconds(50));
    Party party(exported);
    const auto at_once = party.session.begin(waiting(party, ann, LockType::write), decisions.taker("late"));
    CHECK((at_once || decisions.next() == "late: success"));
    CHECK(party.lock(ben, LockType::write) == Status::try_again);
}

TEST_CASE("locks do not outlive what held them") {
    File file;
    {
        Party party(file);
        CHECK(party.lock(ann, LockType::write) == Status::ok);
        CHECK(party.flock(LockType::write) == Status::ok);
    }
    CHECK(foreign_can_lock(file.path(), F_WRLCK, 0, 0));
    const UniqueFd foreign(open(file.path().c_str(), O_RDONLY));
    CHECK(flock(foreign.get(), LOCK_EX | LOCK_NB) == 0);
}

TEST_CASE("threads of several sessions contend for one range") {
    File file;
    std::atomic<int> inside = 0;
    std::atomic<int> worst = 0;
    std::atomic<int> turns = 0;
    std::vector<std::thread> threads;
    for (unsigned number = 0; number < 4; ++number)
        threads.emplace_back([&] {
            Party party(file);
            for (int turn = 0; turn < 50; ++turn) {
                std::mutex mutex;
                std::condition_variable changed;
                std::optional<Status> status;
                auto outcome = party.session.begin(waiting(party, ann, LockType::write, 0, 9), [&](Outcome later) {
                    const std::lock_guard guard(mutex);
                    status = later.status;
                    changed.notify_all();
                });
                std::unique_lock lock(mutex);
                if (outcome)
                    status = outcome->status;
                if (!changed.wait_for(lock, std::chrono::seconds(30), [&] { return status.has_value(); }))
                    return;
                lock.unlock();
                const int now = ++inside;
                worst = std::max(worst.load(), now);
                --inside;
                if (*status == Status::ok)
                    ++turns;
                party.lock(ann, LockType::unlock, 0, 9);
            }
        });
    for (auto& thread : threads)
        thread.join();
    CHECK(turns == 200);
    CHECK(worst == 1);
}
