// SPDX-License-Identifier: MIT
// The server's disk refuses some calls: it is full, a quota is met, or it is broken. Whatever a program was not told of
// by close() at the latest – of names by fsync() of their directory – is at the server as it was written.
//
// REMOFS_TEST_TRIES=N tries each so often, REMOFS_TEST_SEED=N begins with one.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <sstream>

#include "base/unique_fd.hpp"
#include "catch.hpp"
#include "harness/failing_disk.hpp"
#include "harness/mount_process.hpp"
#include "harness/tcp_proxy.hpp"
#include "harness/transcript.hpp"
#include "mount/random_operations.hpp"

using namespace remofile::test;
using remofile::UniqueFd;

namespace {

constexpr int usual_tries = 40;
constexpr std::size_t largest_file = 300'000;

int tries_for_tests() {
    const char* given = std::getenv("REMOFS_TEST_TRIES");
    return given ? std::atoi(given) : usual_tries;
}

// ---------------------------------------------------------------- the program

// Does something with one file, and remembers the first error.
class Writer {
public:
    explicit Writer(std::mt19937_64& random) : random_(random) {}

    const std::string& told() const { return told_; }
    const std::string& history() const { return history_; }

    int open(const std::string& path, int flags) {
        const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
        note(fd >= 0);
        return fd;
    }
    // A child closes its copy first.
    void close(int fd) {
        if (fd >= 0 && random_() % 8 == 0)
            run({.arguments = {"true"}});
        note(fd < 0 || ::close(fd) == 0);
    }
    // Goes on after an error, as careless programs do.
    void write(int fd, std::string_view bytes, std::size_t at) {
        const std::size_t piece = random_() % 2 == 0 ? 4'096 : 1 + random_() % 70'000;
        history_ += std::to_string(bytes.size()) + " at " + std::to_string(at) + " by " + std::to_string(piece) + ", ";
        for (std::size_t done = 0; fd >= 0 && done < bytes.size();) {
            const std::size_t size = std::min(piece, bytes.size() - done);
            const ssize_t written = ::pwrite(fd, bytes.data() + done, size, static_cast<off_t>(at + done));
            note(written > 0);
            done += written > 0 ? static_cast<std::size_t>(written) : size;
        }
    }
    void note(bool right) {
        if (!right && told_ == "ok")
            told_ = errno_name(errno);
    }

private:
    std::mt19937_64& random_;
    std::string told_ = "ok";
    std::string history_;
};

// A directory in which a program works while the disk fails. What is there before is there whole.
class Work {
public:
    Work(std::uint64_t seed, std::string path) : random_(seed), path_(std::move(path)) {
        REQUIRE(mkdir(path_.c_str(), 0755) == 0);
        for (int i = 0; i < 3; ++i) {
            const std::string name = "old" + std::to_string(i);
            wanted_[name] = bytes();
            write_file(path_ + "/" + name, wanted_[name]);
        }
    }

    void carry_out() {
        const std::size_t files = 1 + random_() % 8;
        for (std::size_t i = 0; i < files; ++i)
            touch_one(i);
        const UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!fd || ::fsync(fd.get()) != 0)
            told_by_directory_ = errno_name(errno);
    }

    // The names of what is not as it should be and nobody was told of.
    std::string lost_in(const std::string& server, bool may_be_late) const {
        std::string lost;
        for (const auto& [name, content] : wanted_) {
            if (told(name) != "ok" || (may_be_late && told_by_directory_ != "ok"))
                continue;
            std::string there;
            try {
                there = read_file(server + "/" + name);
            } catch (const std::runtime_error& error) {
                there = error.what();
            }
            if (there != content)
                lost += " " + name + " (" + history_.at(name) + difference(there, content) + ")";
        }
        return lost;
    }
    static std::string difference(std::string_view there, std::string_view wanted) {
        const auto first = std::ranges::mismatch(there, wanted).in1 - there.begin();
        const auto last = std::ranges::mismatch(there.rbegin(), there.rend(), wanted.rbegin(), wanted.rend()).in1;
        return std::to_string(there.size()) + " bytes, not " + std::to_string(wanted.size()) +
               ", another content from " + std::to_string(first) + " to " + std::to_string(there.rend() - last);
    }
    std::set<std::string> errors() const {
        std::set<std::string> all;
        for (const auto& [name, error] : told_)
            all.insert(error);
        all.erase("ok");
        return all;
    }
    bool was_told_late() const { return told_by_directory_ != "ok"; }

private:
    std::string bytes() { return random_bytes(random_() % largest_file, static_cast<unsigned>(random_())); }
    std::string told(const std::string& name) const {
        const auto found = told_.find(name);
        return found == told_.end() ? "ok" : found->second;
    }

    void touch_one(std::size_t number) {
        constexpr std::array kinds{&Work::make,   &Work::make, &Work::replace, &Work::overwrite,
                                   &Work::append, &Work::cut,  &Work::map};
        Writer writer(random_);
        const std::string name = (this->*kinds[random_() % kinds.size()])(writer, number);
        history_[name] += writer.history() + "told " + writer.told() + "; ";
        if (auto& told = told_[name]; told.empty() || told == "ok")
            told = writer.told();
    }

    std::string make(Writer& writer, std::size_t number) {
        const std::string name = "new" + std::to_string(number);
        history_[name] += "make ";
        wanted_[name] = bytes();
        const int fd = writer.open(path_ + "/" + name, O_WRONLY | O_CREAT | O_EXCL);
        writer.write(fd, wanted_[name], 0);
        maybe_sync(writer, fd);
        if (fd >= 0 && random_() % 2 == 0)
            writer.note(::fchmod(fd, 0600) == 0);
        writer.close(fd);
        return name;
    }
    // As editors save.
    std::string replace(Writer& writer, std::size_t number) {
        const std::string name = old_name();
        history_[name] += "replace ";
        const std::string beside = path_ + "/." + name + std::to_string(number);
        wanted_[name] = bytes();
        const int fd = writer.open(beside, O_WRONLY | O_CREAT | O_EXCL);
        writer.write(fd, wanted_[name], 0);
        maybe_sync(writer, fd);
        writer.close(fd);
        // A program that was told keeps what it had, and says so.
        if (writer.told() == "ok")
            writer.note(::rename(beside.c_str(), (path_ + "/" + name).c_str()) == 0);
        return name;
    }
    std::string overwrite(Writer& writer, std::size_t) {
        const std::string name = old_name();
        history_[name] += "overwrite ";
        const int fd = writer.open(path_ + "/" + name, O_RDWR);
        const std::string data = bytes();
        const std::size_t at = random_() % largest_file;
        writer.write(fd, data, at);
        put(wanted_[name], data, at);
        maybe_sync(writer, fd);
        writer.close(fd);
        return name;
    }
    std::string append(Writer& writer, std::size_t) {
        const std::string name = old_name();
        history_[name] += "append ";
        const int fd = writer.open(path_ + "/" + name, O_WRONLY | O_APPEND);
        const std::string data = bytes().substr(0, 20'000);
        if (fd >= 0 && !data.empty())
            writer.note(::write(fd, data.data(), data.size()) == static_cast<ssize_t>(data.size()));
        wanted_[name] += data;
        maybe_sync(writer, fd);
        writer.close(fd);
        return name;
    }
    std::string cut(Writer& writer, std::size_t) {
        const std::string name = old_name();
        history_[name] += "cut ";
        const std::size_t size = random_() % largest_file;
        const int fd = writer.open(path_ + "/" + name, O_WRONLY | O_TRUNC);
        writer.note(fd < 0 || ::ftruncate(fd, static_cast<off_t>(size)) == 0);
        wanted_[name] = std::string(size, '\0');
        const std::string data = bytes().substr(0, 5'000);
        writer.write(fd, data, 0);
        put(wanted_[name], data, 0);
        writer.close(fd);
        return name;
    }
    std::string map(Writer& writer, std::size_t) {
        const std::string name = old_name();
        history_[name] += "map ";
        std::string& content = wanted_[name];
        const int fd = writer.open(path_ + "/" + name, O_RDWR);
        // Another size is an error that was told of late; to touch what is not there is a signal.
        struct stat now {};
        if (fd >= 0 && !content.empty() && ::fstat(fd, &now) == 0 &&
            now.st_size == static_cast<off_t>(content.size())) {
            void* mapped = ::mmap(nullptr, content.size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            writer.note(mapped != MAP_FAILED);
            if (mapped != MAP_FAILED) {
                const std::size_t size = std::min<std::size_t>(content.size(), 1 + random_() % 20'000);
                const std::string data = random_bytes(size, static_cast<unsigned>(random_()));
                data.copy(static_cast<char*>(mapped), size);
                put(content, data, 0);
                writer.note(::msync(mapped, content.size(), MS_SYNC) == 0);
                ::munmap(mapped, content.size());
            }
        }
        writer.close(fd);
        return name;
    }

    // One of those that have not been lost track of: after an error the content of a file is not known.
    std::string old_name() {
        for (int i = 0; i < 20; ++i) {
            std::string name = "old" + std::to_string(random_() % 3);
            if (told(name) == "ok")
                return name;
        }
        return "old0";
    }
    void maybe_sync(Writer& writer, int fd) {
        if (fd >= 0 && random_() % 4 == 0)
            writer.note(::fsync(fd) == 0);
    }
    static void put(std::string& into, std::string_view data, std::size_t at) {
        if (data.empty())
            return;
        into.resize(std::max(into.size(), at + data.size()));
        data.copy(into.data() + at, data.size());
    }

    std::mt19937_64 random_;
    const std::string path_;
    std::map<std::string, std::string> wanted_;
    std::map<std::string, std::string> history_ = {{"old0", ""}, {"old1", ""}, {"old2", ""}};
    std::map<std::string, std::string> told_;
    std::string told_by_directory_ = "ok";
};

// ---------------------------------------------------------------- tries

struct Kind {
    std::uint32_t calls = 0;
    std::vector<int> errors;
    bool lends_inodes = false;
    Milliseconds one_way{};
    // It is known to be full: then nothing is answered before the disk has been asked, and nothing is told of late.
    bool says_full = false;
};

void check(const Kind& kind) {
    FailingDisk disk(kind.says_full);
    const ServerProcess server(
        {.directory = {}, .config_dir = {}, .environment = disk.environment(), .lends_inodes = kind.lends_inodes});
    std::optional<TcpProxy> link;
    if (kind.one_way.count() > 0)
        link.emplace(server.ports(), kind.one_way);
    MountProcess mount(through(server, link ? link->address() : server.address()));
    const std::uint64_t first_seed = seed_for_tests();
    std::uint64_t failed = 0, told = 0, late = 0, silent = 0;
    const int tries = tries_for_tests();
    for (int i = 0; i < tries; ++i) {
        const std::uint64_t seed = first_seed + static_cast<std::uint64_t>(i);
        INFO("REMOFS_TEST_SEED=" << seed);
        std::mt19937_64 random(seed);
        const std::string name = "/try" + std::to_string(i);
        Work work(seed, mount.path() + name);
        carried_out(mount.path());
        const int error = kind.errors[random() % kind.errors.size()];
        // What is refused a few times is attempted again and succeeds; of what is refused for long somebody is told. A
        // program makes few names, and few of its calls pass before that.
        const std::array<std::int64_t, 4> counts{1, 3, 1'000'000, 1'000'000};
        const unsigned most_passing = kind.calls == FailingCalls::making ? 3 : 12;
        disk.fail(kind.calls, error, static_cast<std::int64_t>(random() % most_passing),
                  counts[random() % counts.size()]);
        work.carry_out();
        carried_out(mount.path());
        const std::uint64_t calls = disk.mend();
        failed += calls;
        told += work.errors().empty() ? 0 : 1;
        late += work.errors().empty() && work.was_told_late() ? 1 : 0;
        silent += calls > 0 && work.errors().empty() && !work.was_told_late() ? 1 : 0;
        INFO(errno_name(error) << ", " << calls << " calls failed");
        CHECK(work.lost_in(server.directory() + name, !kind.says_full) == "");
        for (const std::string& each : work.errors())
            CHECK((each == errno_name(error) || each == "EIO" || each == "ESTALE" || each == "ENOENT"));
    }
    INFO("REMOFS_TEST_SEED=" << first_seed);
    std::ostringstream sum;
    sum << tries << " tries, " << failed << " calls failed: " << told << " told by close() at the latest, " << late
        << " by fsync() of the directory, " << silent << " lost nothing";
    INFO(sum.str());
    CHECK(told > 0);
    if (std::getenv("REMOFS_TEST_TRIES"))
        WARN(sum.str());
    CHECK(mount.unmount());
}

const std::vector<int> no_room{ENOSPC, EDQUOT};

}  // namespace

TEST_CASE("failing disk: contents find no room") {
    check({.calls = FailingCalls::contents, .errors = no_room});
}

TEST_CASE("failing disk: contents find no room, at a distance") {
    check({.calls = FailingCalls::contents, .errors = no_room, .lends_inodes = true, .one_way = Milliseconds{3}});
}

TEST_CASE("failing disk: names find no room") {
    check({.calls = FailingCalls::making, .errors = no_room});
}

TEST_CASE("failing disk: names and contents find no room where inodes are lent") {
    check({.calls = FailingCalls::making | FailingCalls::contents, .errors = no_room, .lends_inodes = true});
}

TEST_CASE("failing disk: names and contents find no room on one that is known to be full") {
    check({.calls = FailingCalls::making | FailingCalls::contents,
           .errors = no_room,
           .lends_inodes = true,
           .says_full = true});
}

TEST_CASE("failing disk: a slow one is told from a slow network in the log") {
    FailingDisk disk;
    const ServerProcess server(
        {.directory = {}, .config_dir = {}, .arguments = {"--slow-requests", "1"}, .environment = disk.environment()});
    MountProcess mount(server);
    write_file(mount.path() + "/quick", "quick");
    carried_out(mount.path());
    CHECK(server.errors().find(" took ") == std::string::npos);
    disk.slow_down(FailingCalls::syncing, 1'300);
    UniqueFd fd(::open((mount.path() + "/quick").c_str(), O_WRONLY | O_CLOEXEC));
    CHECK(::fsync(fd.get()) == 0);
    fd.reset();
    INFO(server.errors());
    CHECK(eventually(Milliseconds{10'000}, [&] { return server.errors().find("FSYNC of ") != std::string::npos; }));
    CHECK(server.errors().find("until its turn came, 1.3 in the file system") != std::string::npos);
    disk.slow_down(0, 0);
    CHECK(mount.unmount());
}

TEST_CASE("failing disk: it is broken") {
    check({.calls = FailingCalls::contents | FailingCalls::making | FailingCalls::syncing,
           .errors = {EIO},
           .lends_inodes = true});
}
