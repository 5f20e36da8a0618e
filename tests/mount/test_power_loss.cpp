// SPDX-License-Identifier: MIT
// The server's machine loses its power while a program is at work on a mount: what fsync() has said to be safe, by file
// or by directory, is there when the machine is back, and the mount goes on and shows it.
//
// REMOFS_TEST_TRIES=N tries so often, REMOFS_TEST_SEED=N begins with one.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <map>
#include <optional>
#include <random>
#include <sstream>
#include <thread>

#include "base/unique_fd.hpp"
#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/small_file_system.hpp"
#include "harness/transcript.hpp"
#include "mount/killing.hpp"
#include "mount/random_operations.hpp"

using namespace remofile::test;
using remofile::UniqueFd;

namespace {

constexpr std::uint64_t ample_ext4 = 400 << 20;
constexpr std::uint32_t usual_tries = 3;
constexpr std::size_t record_size = 100;
constexpr char log_file[] = "log";

std::string content_of(unsigned seed) {
    return random_bytes(1 + seed % 150'000, seed);
}
std::string record_of(unsigned number) {
    return random_bytes(record_size, number);
}

// ---------------------------------------------------------------- the program

// Prints a line for each thing that it knows to be safe: what, the name, and a number that tells the content.
class Program {
public:
    Program(std::string root, unsigned seed) : random_(seed), root_(std::move(root)) {}

    // Until it is killed, or anything fails.
    int run() {
        constexpr std::array things{&Program::make,   &Program::make_below, &Program::replace,
                                    &Program::append, &Program::remove,     &Program::make_unsafely};
        while ((this->*things[random_() % things.size()])(++last_)) {
        }
        std::perror("program");
        return 1;
    }

private:
    std::string path(const std::string& name) const { return root_ + "/" + name; }
    static bool say(const char* what, const std::string& name, unsigned number) {
        std::printf("%s %s %u\n", what, name.c_str(), number);
        return std::fflush(stdout) == 0;
    }
    static bool put(const std::string& path, const std::string& content, int flags, bool is_synced) {
        const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644));
        for (std::size_t done = 0; fd && done < content.size();) {
            const ssize_t written =
                write(fd.get(), content.data() + done, std::min<std::size_t>(content.size() - done, 9'000));
            if (written <= 0)
                return false;
            done += static_cast<std::size_t>(written);
        }
        return fd && (!is_synced || fsync(fd.get()) == 0);
    }
    bool sync_root() const {
        const UniqueFd fd(open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        return fd && fsync(fd.get()) == 0;
    }

    bool make(unsigned number) {
        const std::string name = "file" + std::to_string(number);
        return put(path(name), content_of(number), O_EXCL, true) && say("there", name, number);
    }
    // The names above are safe with the file.
    bool make_below(unsigned number) {
        const std::string above = "directory" + std::to_string(number);
        const std::string name = above + "/below/file";
        return mkdir(path(above).c_str(), 0755) == 0 && mkdir(path(above + "/below").c_str(), 0755) == 0 &&
               put(path(name), content_of(number), O_EXCL, true) && say("there", name, number);
    }
    // As editors save; the old or the new one is there at any time.
    bool replace(unsigned number) {
        const std::string name = "saved" + std::to_string(random_() % 3), beside = path("." + name);
        return say("saving", name, number) && put(beside, content_of(number), O_TRUNC, true) &&
               rename(beside.c_str(), path(name).c_str()) == 0 && sync_root() && say("saved", name, number);
    }
    bool append(unsigned) {
        ++records_;
        const UniqueFd fd(open(path(log_file).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
        const std::string record = record_of(records_);
        return fd && write(fd.get(), record.data(), record.size()) == static_cast<ssize_t>(record.size()) &&
               fdatasync(fd.get()) == 0 && say("records", log_file, records_);
    }
    bool remove(unsigned number) {
        const std::string name = "removed" + std::to_string(number);
        return put(path(name), content_of(number), O_EXCL, true) && unlink(path(name).c_str()) == 0 && sync_root() &&
               say("gone", name, number);
    }
    bool make_unsafely(unsigned number) {
        return put(path("unsafe" + std::to_string(number)), content_of(number), O_EXCL, false);
    }

    std::mt19937 random_;
    const std::string root_;
    unsigned last_ = 0;
    unsigned records_ = 0;
};

// ---------------------------------------------------------------- what became of it

std::string content_or_error(const std::string& path) {
    try {
        return read_file(path);
    } catch (const std::runtime_error& error) {
        return error.what();
    }
}

// What is not as the program was told, below that directory.
std::string lost_in(const std::string& root, const std::string& told) {
    std::ostringstream lost;
    // Of what is saved again and again: what it was known to be, and what it may have become since.
    std::map<std::string, std::pair<unsigned, unsigned>> saved;
    unsigned records = 0;
    std::istringstream lines(told);
    std::string what, name;
    for (unsigned number = 0; lines >> what >> name >> number;) {
        if (what == "there" && content_or_error(root + "/" + name) != content_of(number))
            lost << name << " is not whole\n";
        if (what == "gone" && access((root + "/" + name).c_str(), F_OK) == 0)
            lost << name << " is there again\n";
        if (what == "saving")
            saved[name].second = number;
        if (what == "saved")
            saved[name].first = number;
        if (what == "records")
            records = number;
    }
    for (const auto& [each, numbers] : saved) {
        const std::string content = content_or_error(root + "/" + each);
        const bool is_new = content == content_of(numbers.second);
        if (numbers.first != 0 && content != content_of(numbers.first) && !is_new)
            lost << each << " is neither the old one nor the new one\n";
    }
    const std::string log = records == 0 ? std::string() : content_or_error(root + "/" + log_file);
    for (unsigned record = 1; record <= records; ++record)
        if (log.size() < record * record_size ||
            log.compare((record - 1) * record_size, record_size, record_of(record)) != 0)
            lost << "record " << record << " of " << records << " is lost\n";
    return lost.str();
}

// A server on an ext4, in a machine that can lose its power.
struct Machine {
    SmallFileSystem small = SmallFileSystem::ext4(ample_ext4);
    std::string start_file = small.path() + ".boot_id";
    int starts = 0;
    std::optional<ServerProcess> server;

    explicit Machine(bool lends_inodes) {
        if (!small.mounted())
            return;
        begin_start();
        server.emplace(ServerProcess::Options{
            .directory = small.path(), .config_dir = {}, .lends_inodes = lends_inodes, .machine_start = start_file});
    }
    void begin_start() {
        write_file(start_file, "00000000-0000-4000-8000-00000000000" + std::to_string(++starts) + "\n");
    }
    // After the server was killed.
    void lose_power() {
        REQUIRE(small.lose_power());
        start_server();
    }
    void start_server() {
        begin_start();
        server->start_again();
    }
};

void try_once(std::uint64_t seed) {
    INFO("REMOFS_TEST_SEED=" << seed);
    std::mt19937_64 random(seed);
    Machine machine(random() % 2 == 0);
    if (!machine.server) {
        WARN("there is no ext4 to be had here");
        return;
    }
    MountProcess mount(*machine.server);
    Child program = Child::fork([&] { return Program(mount.path(), static_cast<unsigned>(seed)).run(); });
    std::this_thread::sleep_for(Milliseconds{100 + random() % 1'500});
    INFO(program.errors());
    CHECK(program.running());
    machine.server->kill();
    // It waits for the server until then, and is told nothing more.
    CHECK(program.destroy());
    const std::string told = program.output();
    machine.lose_power();
    CHECK(lost_in(machine.small.path(), told) == "");
    CHECK(lost_in(mount.path(), told) == "");
    // The mount is of use again.
    write_file(mount.path() + "/after", "after");
    CHECK(content_or_error(machine.small.path() + "/after") == "after");
    CHECK(mount.unmount());
    machine.server->stop();
}

}  // namespace

TEST_CASE("power loss: what was synced is there, and the mount goes on") {
    if (geteuid() != 0) {
        WARN("only root can mount an ext4");
        return;
    }
    const std::uint64_t first_seed = seed_for_tests();
    for (std::uint32_t i = 0; i < number_from("REMOFS_TEST_TRIES", usual_tries); ++i)
        try_once(first_seed + i);
}

namespace {

// Writes to files whose names are safe, syncs none of what it writes, and prints what became of it all.
class Writer {
public:
    static constexpr unsigned files = 8;
    static constexpr std::size_t max_size = 300'000;

    Writer(std::string root, unsigned seed) : random_(seed), root_(std::move(root)) {}

    static std::string name_of(unsigned number) { return "written" + std::to_string(number); }

    // Until it hears the bell: then it reads all, and looks whether anybody has told it of an error.
    int run(Bell& begun, Bell& power_lost, Bell& done_again) {
        for (unsigned i = 0; i < files; ++i) {
            const UniqueFd fd(open(path(i).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
            contents_.push_back(content_of(i));
            if (!fd || !write_at(fd, contents_[i], 0) || fsync(fd.get()) != 0)
                return 1;
        }
        for (unsigned i = 0; i < files / 2; ++i)  // the others are opened and closed each time
            open_.emplace_back(open(path(i).c_str(), O_RDWR | O_CLOEXEC));
        const std::size_t rounds = 50 + random_() % 200;
        for (std::size_t round = 0; round < rounds; ++round)
            if (!change(static_cast<unsigned>(random_() % files)))
                return 2;
        begun.ring();
        if (!power_lost.await())
            return 3;
        for (unsigned i = 0; i < files; ++i)
            if (content_or_error(path(i)) != contents_[i])
                return 4;
        for (const UniqueFd& fd : open_)
            if (fsync(fd.get()) != 0 || close(dup(fd.get())) != 0)
                return 5;
        for (unsigned i = 0; i < files; ++i) {
            const UniqueFd fd(open(path(i).c_str(), O_RDONLY | O_CLOEXEC));
            if (!fd || fsync(fd.get()) != 0)
                return 6;
        }
        const UniqueFd root(open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!root || fsync(root.get()) != 0)
            return 7;
        for (const std::string& content : contents_)
            std::printf("%zx\n", std::hash<std::string>()(content));
        std::fflush(stdout);
        done_again.ring();
        return 0;
    }

private:
    std::string path(unsigned number) const { return root_ + "/" + name_of(number); }
    static bool write_at(const UniqueFd& fd, const std::string& text, std::size_t offset) {
        return pwrite(fd.get(), text.data(), text.size(), static_cast<off_t>(offset)) ==
               static_cast<ssize_t>(text.size());
    }
    bool change(unsigned number) {
        std::string& content = contents_[number];
        UniqueFd own;
        if (number >= open_.size())
            own = UniqueFd(open(path(number).c_str(), O_RDWR | O_CLOEXEC));
        const UniqueFd& fd = number < open_.size() ? open_[number] : own;
        const std::size_t at = random_() % max_size;
        if (random_() % 5 == 0) {
            content.resize(at);
            return ftruncate(fd.get(), static_cast<off_t>(at)) == 0;
        }
        const std::string text = random_bytes(1 + random_() % 20'000, static_cast<unsigned>(random_()));
        content.resize(std::max(content.size(), at + text.size()));
        content.replace(at, text.size(), text);
        return write_at(fd, text, at);
    }

    std::mt19937 random_;
    const std::string root_;
    std::vector<std::string> contents_;
    std::vector<UniqueFd> open_;
};

void write_unsynced(std::uint64_t seed) {
    INFO("REMOFS_TEST_SEED=" << seed);
    Machine machine(seed % 2 == 0);
    if (!machine.server)
        return;
    MountProcess mount(*machine.server);
    Bell begun, power_lost, done_again;
    Child program = Child::fork(
        [&] { return Writer(mount.path(), static_cast<unsigned>(seed)).run(begun, power_lost, done_again); });
    CHECK(begun.await());
    // What is closed was answered, and what is open is sent again whether it was or not.
    machine.server->kill();
    machine.lose_power();
    power_lost.ring();
    CHECK(done_again.await());
    const Ended end = program.wait(Milliseconds{30'000});
    INFO(end.to_string());
    INFO(program.errors());
    CHECK(end.exit_status == 0);
    std::istringstream told(program.output());
    std::string hash;
    for (unsigned i = 0; i < Writer::files; ++i) {
        std::ostringstream at_server;
        at_server << std::hex
                  << std::hash<std::string>()(content_or_error(machine.small.path() + "/" + Writer::name_of(i)));
        CHECK(told >> hash);
        CHECK(at_server.str() == hash);
    }
    CHECK(mount.unmount());
    machine.server->stop();
}

}  // namespace

TEST_CASE("power loss: what was not synced is sent again") {
    if (geteuid() != 0) {
        WARN("only root can mount an ext4");
        return;
    }
    const std::uint64_t first_seed = seed_for_tests();
    for (std::uint32_t i = 0; i < number_from("REMOFS_TEST_TRIES", usual_tries); ++i)
        write_unsynced(first_seed + i);
}

TEST_CASE("power loss: what was not synced and cannot be sent again is told of") {
    if (geteuid() != 0) {
        WARN("only root can mount an ext4");
        return;
    }
    Machine machine(false);
    if (!machine.server)
        return;
    MountProcess mount(*machine.server);
    const std::string at_server = machine.small.path() + "/unsynced";
    for (const char* name : {"/synced", "/unsynced"})
        write_file(mount.path() + name, "before");
    Bell written, power_lost, again, killed;
    // Whoever starts a server must not have files open on its mount.
    Child program = Child::fork([&] {
        const auto open_file = [&](const char* name) {
            return UniqueFd(open((mount.path() + name).c_str(), O_RDWR | O_CLOEXEC));
        };
        const auto write_to = [](const UniqueFd& fd, const char* text) { return pwrite(fd.get(), text, 5, 0) == 5; };
        const UniqueFd synced = open_file("/synced"), unsynced = open_file("/unsynced");
        // The names are safe, so that the files are there.
        if (fsync(synced.get()) != 0 || fsync(unsynced.get()) != 0)
            return 1;
        if (!write_to(unsynced, "after") || !write_to(synced, "after") || fsync(synced.get()) != 0)
            return 2;
        written.ring();
        if (!power_lost.await() || fsync(synced.get()) != 0)
            return 3;
        if (fsync(unsynced.get()) == 0 || errno != EIO)
            return 4;
        // Whoever is told can write it again.
        if (!write_to(unsynced, "again") || fsync(unsynced.get()) != 0 || !write_to(unsynced, "alone"))
            return 5;
        again.ring();
        return killed.await() && fsync(unsynced.get()) == 0 ? 0 : 6;
    });
    const auto has = [&](const char* content) {
        return eventually(Milliseconds{10'000}, [&] { return content_or_error(at_server) == content; });
    };
    CHECK(written.await());
    CHECK(has("aftere"));
    machine.server->kill();
    REQUIRE(machine.small.lose_power());
    // A program at the server is faster.
    CHECK(content_or_error(at_server) == "before");
    write_file(at_server, "theirs");
    machine.start_server();
    CHECK(content_or_error(mount.path() + "/unsynced") == "theirs");
    power_lost.ring();
    CHECK(again.await());
    CHECK(has("alones"));
    // A server that is killed alone loses nothing.
    machine.server->kill();
    machine.server->start_again();
    killed.ring();
    const Ended end = program.wait(Milliseconds{30'000});
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
    CHECK(mount.unmount());
}
