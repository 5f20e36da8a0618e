// SPDX-License-Identifier: MIT
// Refusals after the fact: a program makes many files on a mount that answers before the server has been asked, and
// meanwhile the server's file system fills up, or its directories may not be changed any more. Whatever is not there in
// the end, its program has been told of: by the call itself, by fsync() of the file's directory at the latest.
//
// REMOFS_TEST_TRIES=N tries each so often, REMOFS_TEST_SEED=N begins with one.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "base/unique_fd.hpp"
#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/small_file_system.hpp"
#include "harness/tcp_proxy.hpp"
#include "harness/transcript.hpp"
#include "mount/random_operations.hpp"

using namespace remofile::test;
using remofile::UniqueFd;

namespace {

constexpr std::uint64_t mebibyte = 1 << 20;
// With less room nothing is answered before the server has been asked: 256 MiB, and 65,536 inodes.
constexpr std::uint64_t ample_bytes = 256 * mebibyte;
constexpr char ample_tmpfs[] = "size=272m,nr_inodes=70000";
constexpr std::uint64_t ample_ext4 = 320 * mebibyte;
constexpr int usual_tries = 6;
constexpr Milliseconds patience{180'000};

int tries_for_tests() {
    const char* given = std::getenv("REMOFS_TEST_TRIES");
    return given ? std::atoi(given) : usual_tries;
}

// ---------------------------------------------------------------- the program

struct Tree {
    int directories = 0;
    int files = 0;  // in each
    std::size_t max_size = 0;
    unsigned seed = 0;
    // The file with whose making the bell is rung.
    int bell_at = 0;
    // How many errors the program bears.
    int max_errors = 25;

    std::string content(int directory, int file) const {
        const unsigned own = seed + static_cast<unsigned>(directory * files + file);
        return random_bytes(std::mt19937(own)() % max_size, own);
    }
    static std::string path(int directory) { return "d" + std::to_string(directory); }
    static std::string path(int directory, int file) { return path(directory) + "/f" + std::to_string(file); }
};

// As tar makes one, with mode and times. The first error; "ok" if there was none.
std::string unpack_file(const std::string& path, const std::string& content) {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno_name(errno);
    std::string first = "ok";
    const auto note = [&first](bool right) {
        if (!right && first == "ok")
            first = errno_name(errno);
    };
    constexpr std::size_t piece = 10'240;
    for (std::size_t at = 0; at < content.size() && first == "ok";) {
        const ssize_t written = write(fd, content.data() + at, std::min(piece, content.size() - at));
        note(written > 0);
        at += static_cast<std::size_t>(std::max<ssize_t>(written, 0));
    }
    const timespec times[2] = {{1'000'000'000, 0}, {1'000'000'000, 0}};
    if (first == "ok") {
        note(futimens(fd, times) == 0);
        note(fchmod(fd, 0644) == 0);
    }
    note(close(fd) == 0);
    return first;
}

std::string sync_directory(const std::string& path) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return fd && fsync(fd.get()) == 0 ? "ok" : errno_name(errno);
}

// A line for each file: its path and what became of it, as far as the program was told when it had closed it. Then one
// for each directory, with what fsync() says. Those that it was not told are there it does not go on with.
int unpack(const std::string& root, const Tree& tree, const Bell& bell) {
    int errors = 0;
    std::set<std::string> directories;
    const auto told = [&errors](const std::string& path, const std::string& outcome) {
        std::printf("%s %s\n", path.c_str(), outcome.c_str());
        errors += outcome == "ok" ? 0 : 1;
        return outcome == "ok";
    };
    for (int directory = 0; directory < tree.directories && errors < tree.max_errors; ++directory) {
        const std::string path = Tree::path(directory);
        const bool made = mkdir((root + "/" + path).c_str(), 0755) == 0;
        if (!told(path, made ? "ok" : errno_name(errno)))
            continue;
        directories.insert(path);
        for (int file = 0; file < tree.files && errors < tree.max_errors; ++file) {
            if (directory * tree.files + file == tree.bell_at)
                bell.ring();
            told(Tree::path(directory, file),
                 unpack_file(root + "/" + Tree::path(directory, file), tree.content(directory, file)));
        }
    }
    bell.ring();
    for (const std::string& path : directories)
        std::printf("%s/ %s\n", path.c_str(), sync_directory(root + "/" + path).c_str());
    std::printf("/ %s\n", sync_directory(root).c_str());
    return 0;
}

// ---------------------------------------------------------------- what became of it

struct Outcome {
    int whole = 0;
    int refused = 0;  // and its program was told when it made, wrote or closed it
    int late = 0;     // the same by fsync() of the directory
    std::set<std::string> errors = {};

    void add(const Outcome& other) {
        whole += other.whole;
        refused += other.refused;
        late += other.late;
        errors.insert(other.errors.begin(), other.errors.end());
    }
    std::string to_string() const {
        std::ostringstream text;
        text << whole << " files whole, " << refused << " refused, " << late << " told of late; errors:";
        for (const std::string& error : errors)
            text << " " << error;
        return text.str();
    }
};

bool is_whole(const std::string& path, const std::string& content) {
    try {
        return read_file(path) == content;
    } catch (const std::runtime_error&) {
        return false;
    }
}

// Holds what the program was told against what is at the server.
Outcome judge(const std::string& told, const std::string& server, const Tree& tree) {
    std::map<std::string, std::string> outcomes;
    std::istringstream lines(told);
    for (std::string path, outcome; lines >> path >> outcome;)
        outcomes[path] = outcome;
    Outcome sum;
    for (const auto& [path, outcome] : outcomes)
        if (outcome != "ok")
            sum.errors.insert(outcome);
    for (int directory = 0; directory < tree.directories; ++directory) {
        const std::string above = Tree::path(directory);
        if (outcomes.contains(above) && outcomes[above] != "ok")
            ++sum.refused;
        if (outcomes[above] == "ok" && access((server + "/" + above).c_str(), F_OK) != 0) {
            INFO(above << " is not there");
            CHECK((outcomes[above + "/"] != "ok" || outcomes["/"] != "ok"));
            ++sum.late;
        }
        for (int file = 0; file < tree.files; ++file) {
            const std::string path = Tree::path(directory, file);
            if (!outcomes.contains(path))
                continue;
            if (outcomes[path] != "ok") {
                ++sum.refused;
            } else if (is_whole(server + "/" + path, tree.content(directory, file))) {
                ++sum.whole;
            } else {
                INFO(path << " is not whole");
                CHECK(outcomes[above + "/"] != "ok");
                ++sum.late;
            }
        }
    }
    return sum;
}

// ---------------------------------------------------------------- tries

// What a try may need.
struct Try {
    std::mt19937_64 random;
    const std::string server;  // the root of the export
    const std::string mount;
    // Where the program is.
    std::string directory;
};

struct Kind {
    Tree tree;
    // Where the export lies; not mounted: it cannot be had here.
    std::function<SmallFileSystem()> file_system;
    // Done when the program is in the middle of it, by another.
    std::function<void(SmallFileSystem&, Try&)> obstruct;
    std::set<std::string> errors = {"ENOSPC"};
    // Nobody else is to blame: then all is told by close().
    bool may_be_late = true;
    // Whatever room turns up while the program goes on is taken as well.
    bool lasts = false;
    Milliseconds one_way{};
    // The server acts as; none: the test's own.
    std::optional<Credentials> server_as = {};
};

Outcome try_once(const Kind& kind, SmallFileSystem& small, std::uint64_t seed) {
    const ServerProcess server({.directory = small.path(), .as = kind.server_as, .lends_inodes = true});
    std::optional<TcpProxy> link;
    if (kind.one_way.count() > 0)
        link.emplace(server.ports(), kind.one_way);
    MountProcess mount(through(server, link ? link->address() : server.address()));
    Try in{std::mt19937_64(seed), small.path(), mount.path(), {}};
    Tree tree = kind.tree;
    tree.seed = static_cast<unsigned>(in.random());
    tree.bell_at = static_cast<int>(in.random() % static_cast<unsigned>(tree.directories * tree.files));
    in.directory = "/tree/" + Tree::path(tree.bell_at / tree.files);
    Bell bell;
    Child program = Child::fork([&] {
        const std::string root = mount.path() + "/tree";
        return mkdir(root.c_str(), 0755) == 0 ? unpack(root, tree, bell) : 1;
    });
    CHECK(bell.await(patience));
    kind.obstruct(small, in);
    while (kind.lasts && program.running()) {
        small.leave_bytes(0);
        std::this_thread::sleep_for(Milliseconds{2});
    }
    const Ended end = program.wait(patience);
    INFO(end.to_string());
    REQUIRE(end.exit_status == 0);
    const std::string log = mount.errors();
    INFO(log);
    CHECK(mount.unmount());
    const Outcome outcome = judge(end.output, small.path() + "/tree", tree);
    if (!kind.may_be_late)
        CHECK(outcome.late == 0);
    for (const std::string& error : outcome.errors)
        CHECK(kind.errors.contains(error));
    return outcome;
}

void check(const Kind& kind) {
    const std::uint64_t first_seed = seed_for_tests();
    Outcome sum;
    for (int i = 0; i < tries_for_tests(); ++i) {
        SmallFileSystem small = kind.file_system();
        if (!small.mounted()) {
            WARN("this file system cannot be mounted here");
            return;
        }
        const std::uint64_t seed = first_seed + static_cast<std::uint64_t>(i);
        INFO("REMOFS_TEST_SEED=" << seed);
        sum.add(try_once(kind, small, seed));
    }
    INFO("REMOFS_TEST_SEED=" << first_seed);
    INFO(sum.to_string());
    CHECK(sum.whole > 0);
    CHECK(sum.refused + sum.late > 0);
    if (std::getenv("REMOFS_TEST_TRIES"))
        WARN(tries_for_tests() << " tries: " << sum.to_string());
}

SmallFileSystem on_tmpfs() {
    return SmallFileSystem::tmpfs(ample_tmpfs);
}
SmallFileSystem on_ext4() {
    return SmallFileSystem::ext4(ample_ext4);
}

const Credentials ordinary_user{.uid = 61'235, .gid = 61'235};

constexpr Tree as_tar{.directories = 12, .files = 12, .max_size = 60'000};
// More than the server has lent, which needs no further inodes, and some that are left.
constexpr Tree more_than_lent{.directories = 40, .files = 20, .max_size = 3'000};
constexpr Tree many_small{.directories = 1, .files = 600, .max_size = 3'000};

// Takes the room from outside, but for some of what the program wants.
void fill(SmallFileSystem& small, Try& in) {
    CHECK(eventually(patience, [&] { return small.leave_bytes(in.random() % mebibyte); }));
}
void fill_nearly_all(SmallFileSystem& small, Try& in) {
    CHECK(eventually(patience, [&] { return small.leave_bytes(in.random() % (mebibyte / 8)); }));
}
void take_inodes(SmallFileSystem& small, Try& in) {
    CHECK(eventually(patience, [&] { return small.leave_inodes(in.random() % 40); }));
}

// The same by a program on the mount.
void allocate_on_mount(SmallFileSystem& small, Try& in) {
    const UniqueFd fd(open((in.mount + "/taken").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    CHECK(fd.get() >= 0);
    CHECK(eventually(patience, [&] {
        const std::uint64_t free = small.free_bytes(), left = in.random() % mebibyte;
        return free <= mebibyte || fallocate(fd.get(), 0, 0, static_cast<off_t>(free - left)) == 0;
    }));
}

void write_on_mount(SmallFileSystem&, Try& in) {
    Child writer = Child::fork([&] {
        const std::string bytes = random_bytes(mebibyte, 1);
        const UniqueFd fd(open((in.mount + "/taken").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        while (write(fd.get(), bytes.data(), bytes.size()) > 0) {
        }
        return errno;
    });
    CHECK(errno_name(writer.wait(patience).exit_status) == "ENOSPC");
}

bool make_immutable(const std::string& path, bool is_immutable) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    int flags = 0;
    if (!fd || ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) != 0)
        return false;
    flags = is_immutable ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
    return ioctl(fd.get(), FS_IOC_SETFLAGS, &flags) == 0;
}

// Its program has made the directory, the server has it soon.
void forbid_by_flag(SmallFileSystem&, Try& in) {
    CHECK(eventually(patience, [&] { return make_immutable(in.server + in.directory, true); }));
}

void forbid_by_mode(SmallFileSystem&, Try& in) {
    CHECK(eventually(patience, [&] { return chmod((in.server + in.directory).c_str(), 0555) == 0; }));
}

// What is made below a directory that could not be made.
const std::set<std::string> no_room_or_no_directory{"ENOSPC", "ENOENT", "ESTALE", "EIO"};
// What is asked of a file that could not be made is stale.
const std::set<std::string> no_room_or_stale{"ENOSPC", "ESTALE"};
const std::set<std::string> refused_by_flag{"EPERM", "ESTALE"};
const std::set<std::string> refused_by_mode{"EACCES", "ESTALE"};

}  // namespace

TEST_CASE("no room: a tree is unpacked, and somebody else fills the disk") {
    check({.tree = as_tar,
           .file_system = on_tmpfs,
           .obstruct = fill,
           .errors = no_room_or_no_directory,
           .may_be_late = false,
           .lasts = true});
}

TEST_CASE("no room: a tree is unpacked at a distance, and somebody else fills the disk") {
    check({.tree = as_tar,
           .file_system = on_tmpfs,
           .obstruct = fill,
           .errors = no_room_or_no_directory,
           .may_be_late = false,
           .lasts = true,
           .one_way = Milliseconds{3}});
}

TEST_CASE("no room: a tree is unpacked, and somebody else fills the ext4") {
    check({.tree = as_tar,
           .file_system = on_ext4,
           .obstruct = fill,
           .errors = no_room_or_no_directory,
           .may_be_late = false,
           .lasts = true});
}

TEST_CASE("no room: many small files, and somebody else fills the disk") {
    check({.tree = many_small,
           .file_system = on_tmpfs,
           .obstruct = fill_nearly_all,
           .errors = no_room_or_stale,
           .may_be_late = false,
           .lasts = true});
}

TEST_CASE("no room: many small files, and somebody else takes the inodes") {
    check({.tree = many_small, .file_system = on_tmpfs, .obstruct = take_inodes, .errors = no_room_or_stale});
}

TEST_CASE("no room: a tree is unpacked at a distance, and somebody else takes the inodes") {
    check({.tree = more_than_lent,
           .file_system = on_tmpfs,
           .obstruct = take_inodes,
           .errors = no_room_or_no_directory,
           .one_way = Milliseconds{3}});
}

TEST_CASE("no room: a tree is unpacked on the ext4, and a program on the same mount takes the room") {
    check({.tree = as_tar, .file_system = on_ext4, .obstruct = allocate_on_mount, .may_be_late = false, .lasts = true});
}

TEST_CASE("no room: many small files at a distance, and a program on the same mount takes the room") {
    check({.tree = many_small,
           .file_system = on_tmpfs,
           .obstruct = allocate_on_mount,
           .may_be_late = false,
           .lasts = true,
           .one_way = Milliseconds{3}});
}

TEST_CASE("no room: a tree is unpacked, and a large file on the same mount fills the disk") {
    check({.tree = {.directories = 200, .files = 40, .max_size = 60'000},
           .file_system = on_tmpfs,
           .obstruct = write_on_mount,
           .may_be_late = false});
}

TEST_CASE("no room: a directory is made immutable while files are made in it") {
    check({.tree = many_small, .file_system = on_ext4, .obstruct = forbid_by_flag, .errors = refused_by_flag});
}

TEST_CASE("no room: a directory is made immutable while files are made in it at a distance") {
    check({.tree = many_small,
           .file_system = on_ext4,
           .obstruct = forbid_by_flag,
           .errors = refused_by_flag,
           .one_way = Milliseconds{3}});
}

TEST_CASE("no room: a directory may not be written to any more while files are made in it") {
    check({.tree = many_small,
           .file_system = on_tmpfs,
           .obstruct = forbid_by_mode,
           .errors = refused_by_mode,
           .server_as = ordinary_user});
}
