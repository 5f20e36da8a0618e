// SPDX-License-Identifier: MIT
// Three mounts of one server and a program that works in the exported directory itself: what one has changed, all
// others see, however much each of them may answer from its memory.
//
// REMOFS_TEST_OPERATIONS=N makes the runs long, REMOFS_TEST_ROUND_TRIP_MS=N puts them at a distance, and
// REMOFS_TEST_SEED=N repeats one.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <random>
#include <tuple>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/side_by_side.hpp"
#include "harness/tcp_proxy.hpp"
#include "mount/random_operations.hpp"

using namespace remofile::test;

namespace {

// A step takes a millisecond or two; one of a program on the server longer, since all mounts are compared after it.
constexpr int usual_steps = 800;
constexpr Milliseconds shortest_patience{120'000};
// A step asks the server a few dozen times, and all is compared every now and then.
constexpr int round_trips_a_step = 60;

Milliseconds round_trip_for_tests() {
    const char* given = std::getenv("REMOFS_TEST_ROUND_TRIP_MS");
    return Milliseconds{given ? std::atoi(given) : 0};
}

struct Setting {
    std::vector<std::string> server_arguments = {};
    std::optional<Credentials> as = {};  // server and programs; the mounts are the test's own
    // What the server says of its watching.
    std::string expected_log = "changes by programs on this machine are noticed";
    unsigned steps_a_program = 10;
    Milliseconds told_within{1'000};
    int steps = usual_steps;
    Milliseconds round_trip = round_trip_for_tests();
};

std::string new_directory(const Setting& setting, const char* purpose) {
    const std::string directory = Scratch::instance().make_directory(purpose);
    if (setting.as)
        REQUIRE(chown(directory.c_str(), setting.as->uid, setting.as->gid) == 0);
    return directory;
}

void check_run(RandomRun run, const Setting& setting) {
    run.model = new_directory(setting, "model");
    run.keep_open = false;
    run.seed = seed_for_tests();
    run.operations = operations_for_tests(setting.steps);
    run.steps_a_program = setting.steps_a_program;
    run.told_within = setting.told_within;
    // In a process of its own, which a hang cannot take the test along with.
    Child child = Child::fork(
        [&run] {
            const std::string report = run_randomly(run);
            std::fputs(report.c_str(), stdout);
            return report.empty() ? 0 : 1;
        },
        setting.as);
    // Whoever asks for a long run looks after it.
    const bool is_long = run.operations > usual_steps;
    const Milliseconds a_step = Milliseconds{is_long ? 1'000 : 100} + setting.round_trip * round_trips_a_step;
    const Ended end = child.wait(shortest_patience + a_step * run.operations);
    INFO("REMOFS_TEST_SEED=" << run.seed << "\n" << end.to_string());
    CHECK(end.exit_status == 0);
    for (const std::string& mount : run.mounted)
        carried_out(mount);
    const std::string at_the_server = first_difference(describe_tree(run.model), describe_tree(run.server));
    INFO(at_the_server);
    CHECK(at_the_server.empty());
}

// Mounts of one server, near or far.
class Mounts {
public:
    Mounts(const ServerProcess& server, int count, Milliseconds round_trip,
           const std::vector<std::string>& options = {}) {
        if (round_trip.count() > 0)
            distance_.emplace(server.ports(), round_trip / 2);
        for (int i = 0; i < count; ++i) {
            mounts_.emplace_back(through(server, distance_ ? distance_->address() : server.address(), options));
            paths_.push_back(mounts_.back().path());
        }
    }

    const std::vector<std::string>& paths() const { return paths_; }
    void unmount() {
        for (MountProcess& mount : mounts_)
            CHECK(mount.unmount());
    }

private:
    std::optional<TcpProxy> distance_;
    std::vector<MountProcess> mounts_;
    std::vector<std::string> paths_;
};

void check_coherence(const Setting& setting) {
    if (testing_locally()) {
        const std::string directory = new_directory(setting, "stands-in");
        check_run({.mounted = {directory, directory, directory}, .server = directory}, setting);
        return;
    }
    const ServerProcess server({.arguments = setting.server_arguments, .as = setting.as});
    REQUIRE(eventually(Milliseconds{10'000},
                       [&] { return server.errors().find(setting.expected_log) != std::string::npos; }));
    Mounts mounts(server, 3, setting.round_trip,
                  setting.as ? std::vector<std::string>{"allow_other"} : std::vector<std::string>{});
    check_run({.mounted = mounts.paths(), .server = server.directory()}, setting);
    mounts.unmount();
}

// Two directories in which several processes make, move and remove the same few names as fast as they can.
class Crowd {
public:
    Crowd(std::string root, unsigned seed) : root_(std::move(root)), random_(seed) {}

    // Until `end`. Prints for how long each kind of call took at most. The exit status is the errno of a call that
    // should not give it.
    int run(std::chrono::steady_clock::time_point end) {
        while (std::chrono::steady_clock::now() < end) {
            const auto& [name, call] = calls_[random_() % calls_.size()];
            const auto begun = std::chrono::steady_clock::now();
            const int error = call() < 0 ? errno : 0;
            const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begun;
            longest_[name] = std::max(longest_[name], took);
            ++done_;
            if (std::ranges::find(expected_errors, error) == expected_errors.end()) {
                std::printf("%s: %s\n", name, errno_name(error).c_str());
                return error;
            }
        }
        std::printf("%d calls; at most:", done_);
        for (const auto& [name, longest] : longest_)
            std::printf(" %s %.0f ms", name.c_str(), longest.count());
        std::printf("\n");
        return 0;
    }

private:
    // As others may do the same at the same time; ESTALE as docs/SEMANTICS.md says of renames.
    static constexpr std::array expected_errors{0,       EEXIST, ENOENT, ENOTEMPTY, EISDIR,
                                                ENOTDIR, EINVAL, ESTALE, EPERM,     ELOOP};

    std::string path() { return root_ + (random_() % 2 == 0 ? "/d/" : "/e/") + static_cast<char>('a' + random_() % 6); }
    long create() {
        const int fd = open(path().c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
        return fd < 0 || write(fd, "x", 1) != 1 ? -1 : close(fd);
    }

    long append() {
        const int fd = open(path().c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
        return fd < 0 || write(fd, "y", 1) != 1 ? -1 : close(fd);
    }
    long set_times() {
        const std::array<timespec, 2> times{timespec{.tv_sec = 1, .tv_nsec = 0}, timespec{.tv_sec = 2, .tv_nsec = 0}};
        return utimensat(AT_FDCWD, path().c_str(), times.data(), AT_SYMLINK_NOFOLLOW);
    }

    struct Call {
        const char* name;
        std::function<long()> call;
    };

    const std::string root_;
    std::mt19937 random_;
    const std::vector<Call> calls_ = {
        {"create", [this] { return create(); }},
        {"mkdir", [this] { return mkdir(path().c_str(), 0755); }},
        {"rename", [this] { return rename(path().c_str(), path().c_str()); }},
        {"rename", [this] { return rename(path().c_str(), path().c_str()); }},
        {"link", [this] { return link(path().c_str(), path().c_str()); }},
        {"unlink", [this] { return unlink(path().c_str()); }},
        {"rmdir", [this] { return rmdir(path().c_str()); }},
        {"list and read all", [this] { return describe_tree(root_).empty() ? -1 : 0; }},
        {"access", [this] { return access(path().c_str(), F_OK); }},
        {"exchange", [this] { return renameat2(AT_FDCWD, path().c_str(), AT_FDCWD, path().c_str(), RENAME_EXCHANGE); }},
        {"symlink", [this] { return symlink("a", path().c_str()); }},
        {"append", [this] { return append(); }},
        {"truncate", [this] { return truncate(path().c_str(), random_() % 3); }},
        {"chmod", [this] { return chmod(path().c_str(), 0700 | (random_() & 077)); }},
        {"utimensat", [this] { return set_times(); }},
    };
    int done_ = 0;
    std::map<std::string, std::chrono::duration<double, std::milli>> longest_;
};

// Who tests as root may use these; another is an ordinary user already.
std::optional<Credentials> ordinary_user() {
    return geteuid() == 0 ? std::optional(Credentials{.uid = 20'001, .gid = 20'001}) : std::nullopt;
}

}  // namespace

TEST_CASE("coherence: mounts and a program at the server, whose changes are told") {
    check_coherence({});
}

TEST_CASE("coherence: mounts and a program that changes something now and then") {
    check_coherence({.steps_a_program = 100});
}

TEST_CASE("coherence: mounts and a program at the server of an ordinary user") {
    check_coherence({.as = ordinary_user()});
}

// Seen within a second, as docs/SEMANTICS.md has it; and then this machine may be slow.
TEST_CASE("coherence: mounts and a program at a server that does not notice it") {
    check_coherence({.server_arguments = {"--watch", "none"},
                     .expected_log = "",
                     .steps_a_program = 250,
                     .told_within = Milliseconds{3'000}});
}

TEST_CASE("coherence: mounts at a distance of 20 ms, and a program at the server, whose changes are told") {
    check_coherence({.steps_a_program = 50, .steps = 150, .round_trip = Milliseconds{20}});
}

// To drop a name makes the kernel drop the attributes of the directory as well, but only where it knows the name.
TEST_CASE("coherence: the mounted directory itself changes for a mount that has not looked for what is changed in it") {
    if (testing_locally())
        return;
    const ServerProcess server;
    Mounts mounts(server, 2, round_trip_for_tests());
    const std::string& looking = mounts.paths()[0];
    const std::string& changing = mounts.paths()[1];
    // Often enough for the mount to know all names, and not by listing them, of which the kernel would keep something.
    for (const char* name : {"/none", "/nor this", "/nor that"})
        CHECK(access((looking + name).c_str(), F_OK) != 0);
    const auto status = [](const std::string& path) {
        struct stat about {};
        REQUIRE(stat(path.c_str(), &about) == 0);
        return std::tuple(about.st_mode, about.st_nlink, about.st_ctim.tv_sec, about.st_ctim.tv_nsec);
    };
    CHECK(status(looking) == status(server.directory()));
    REQUIRE(mkdir((changing + "/new").c_str(), 0755) == 0);
    CHECK(status(looking) == status(server.directory()));
    REQUIRE(chmod(changing.c_str(), 0711) == 0);
    CHECK(status(looking) == status(server.directory()));
    mounts.unmount();
}

// Makes, moves, removes and changes the same names by several processes at once, on each of `roots`, and then compares
// what each mount shows with what is there, at once unless somebody is told of some changes later; so again, for 5 s or
// $REMOFS_TEST_SECONDS.
void check_crowd(const std::string& server, const std::vector<std::string>& mounts,
                 const std::vector<std::string>& roots, Milliseconds told_within) {
    const char* given = std::getenv("REMOFS_TEST_SECONDS");
    const std::chrono::seconds duration(given ? std::atoi(given) : 5);
    constexpr Milliseconds a_round{500};
    // For who stands still; nobody should wait for as long as a second.
    constexpr Milliseconds patience{60'000};
    for (const char* name : {"/d", "/e"})
        REQUIRE(mkdir((server + name).c_str(), 0755) == 0);
    auto seed = static_cast<unsigned>(seed_for_tests());
    for (auto left = std::chrono::duration_cast<Milliseconds>(duration); left.count() > 0; left -= a_round) {
        const auto end = std::chrono::steady_clock::now() + a_round;
        std::vector<Child> crowd;
        for (std::size_t i = 0; i < 6; ++i) {
            const std::string& root = roots[i % roots.size()];
            crowd.push_back(Child::fork([&root, seed, end] { return Crowd(root, seed).run(end); }));
            ++seed;
        }
        for (Child& each : crowd) {
            const Ended ended = each.wait(a_round + patience);
            INFO(ended.to_string());
            REQUIRE(ended.exit_status == 0);
        }
        for (const std::string& path : mounts)
            carried_out(path);
        const std::string expected = describe_tree(server);
        for (const std::string& path : mounts) {
            std::string difference = first_difference(expected, describe_tree(path));
            if (told_within.count() > 0)
                eventually(told_within, [&] {
                    difference = first_difference(expected, describe_tree(path));
                    return difference.empty();
                });
            INFO("after round " << seed << "\n" << difference);
            REQUIRE(difference.empty());
        }
    }
}

// Telling a kernel of a change waits for what its programs are doing in the directory, which may wait for the other
// mount, whose kernel is told likewise.
TEST_CASE("coherence: two mounts make, move and remove names in the same directories at once, and none stands still") {
    if (testing_locally())
        return;
    const ServerProcess server;
    Mounts mounts(server, 2, round_trip_for_tests());
    check_crowd(server.directory(), mounts.paths(), mounts.paths(), Milliseconds{0});
    mounts.unmount();
}

TEST_CASE("coherence: two mounts and programs at the server do so, and all see the same in the end") {
    if (testing_locally())
        return;
    const ServerProcess server;
    Mounts mounts(server, 2, round_trip_for_tests());
    std::vector<std::string> roots = mounts.paths();
    roots.push_back(server.directory());
    check_crowd(server.directory(), mounts.paths(), roots, Milliseconds{1'000});
    mounts.unmount();
}
