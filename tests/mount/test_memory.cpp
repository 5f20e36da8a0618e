// SPDX-License-Identifier: MIT
// What remofs has in memory: at most cache_size and 64 MiB, whatever is read, written and walked, and less when it is
// idle.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include "base/unique_fd.hpp"
#include "catch.hpp"
#include "harness/kernel_version.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/transcript.hpp"

using namespace remofile;
using namespace remofile::test;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool measures = false;
#else
constexpr bool measures = true;
#endif

constexpr std::size_t mib = 1U << 20;
constexpr std::size_t promised_bytes = 64 * mib;

// A line of /proc/PID/status.
std::size_t status_bytes(pid_t pid, const std::string& name) {
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(status, line);) {
        std::istringstream words(line);
        std::string what;
        std::size_t kib = 0;
        if (words >> what >> kib && what == name + ":")
            return kib << 10;
    }
    return 0;
}

// Reads all of a file, or writes `size` bytes of it to another.
std::size_t transfer(const std::string& from, const std::string& to = {}) {
    const UniqueFd source(::open(from.c_str(), O_RDONLY | O_CLOEXEC));
    const UniqueFd target(to.empty() ? -1 : ::open(to.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    REQUIRE(source);
    const auto memory = std::make_unique<std::array<char, mib>>();
    std::size_t total = 0;
    for (;;) {
        const ssize_t size = ::read(source.get(), memory->data(), memory->size());
        REQUIRE(size >= 0);
        if (size == 0)
            return total;
        total += static_cast<std::size_t>(size);
        if (target)
            REQUIRE(::write(target.get(), memory->data(), static_cast<std::size_t>(size)) == size);
    }
}

}  // namespace

TEST_CASE("large files of holes and of data, and copies, stay within the memory that was allowed") {
    if (!measures)
        return;
    constexpr std::size_t cache = 96 * mib;
    const ServerProcess server;
    const MountProcess mount(server, {"cache_size=96M"});
    const auto check = [&](const char* after) {
        const std::size_t most = status_bytes(mount.pid(), "VmHWM");
        INFO(after << ": at most " << most / mib << " MiB so far");
        CHECK(most <= cache + promised_bytes);
    };
    // Three times what is cached: of holes, and then of data.
    write_file(server.directory() + "/sparse", "");
    std::filesystem::resize_file(server.directory() + "/sparse", 1024 * mib);
    const std::string random = random_bytes(mib, 1);
    {
        std::ofstream data(server.directory() + "/data");
        for (int i = 0; i < 120; ++i)
            data << i << random;
    }
    CHECK(transfer(mount.path() + "/sparse") == 1024 * mib);
    check("holes");
    for (int round = 0; round < 2; ++round)
        CHECK(transfer(mount.path() + "/data") > 120 * mib);
    check("data");
    transfer(server.directory() + "/data", mount.path() + "/written");
    check("writing");
    transfer(mount.path() + "/data", mount.path() + "/copy");
    check("copying");
    CHECK(transfer(mount.path() + "/sparse") == 1024 * mib);
    for (const char* name : {"/written", "/copy"})
        CHECK(transfer(mount.path() + name) > 120 * mib);
    check("all again");
    // What nobody can ask for any more goes, and what is free goes back to the kernel.
    for (const char* name : {"/written", "/copy", "/data", "/sparse"})
        CHECK(::unlink((mount.path() + name).c_str()) == 0);
    const bool fell = eventually(Milliseconds{20'000}, [&] { return status_bytes(mount.pid(), "VmRSS") < 40 * mib; });
    INFO(status_bytes(mount.pid(), "VmRSS") / mib << " MiB when idle");
    CHECK(fell);
}

TEST_CASE("a small file takes about its size") {
    if (!measures)
        return;
    constexpr std::size_t files = 4000;
    constexpr std::size_t file_bytes = 2000;
    const ServerProcess server;
    const MountProcess mount(server, {"cache_size=64M"});
    const std::string content = random_bytes(file_bytes, 2);
    for (std::size_t i = 0; i < files; ++i)
        write_file(server.directory() + "/" + std::to_string(i), content);
    const std::size_t before = status_bytes(mount.pid(), "VmRSS");
    for (std::size_t i = 0; i < files; ++i)
        REQUIRE((read_file(mount.path() + "/" + std::to_string(i)) == content));
    const std::size_t after = status_bytes(mount.pid(), "VmRSS");
    INFO((after - before) / files << " bytes a file");
    // Its data, what the cache accounts for it, and what names and numbers of files take.
    CHECK(after - std::min(after, before) < files * 2 * file_bytes + 4 * mib);
}

namespace {

// Empty files, each directory with as many.
struct LargeTree {
    static constexpr int directories = 1000;
    static constexpr int files_each = 100;
    static constexpr std::size_t entries = directories * (files_each + 1);

    static std::string directory(int number) { return "/directory" + std::to_string(number); }
    static std::string file(int number) { return directory(number) + "/some_file_0"; }

    explicit LargeTree(const std::string& root) {
        for (int i = 0; i < directories; ++i) {
            REQUIRE(::mkdir((root + directory(i)).c_str(), 0755) == 0);
            const UniqueFd place(::open((root + directory(i)).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
            for (int j = 0; j < files_each; ++j) {
                const std::string name = "some_file_" + std::to_string(j);
                const UniqueFd made(::openat(place.get(), name.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
                REQUIRE(made);
            }
        }
    }
};

// As `find -ls`: how many entries there are, each of which can be stat'ed.
std::size_t walk(const std::string& root) {
    std::size_t found = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
        struct stat about {};
        found += ::lstat(entry.path().c_str(), &about) == 0 ? 1 : 0;
    }
    return found;
}

// A directory of the mount that a program works in, as long as this lives.
class WorkingIn {
public:
    explicit WorkingIn(const std::string& directory) : before_(std::filesystem::current_path()) {
        std::filesystem::current_path(directory);
    }
    ~WorkingIn() {
        std::error_code ignored;
        std::filesystem::current_path(before_, ignored);
    }
    WorkingIn(const WorkingIn&) = delete;
    WorkingIn& operator=(const WorkingIn&) = delete;

private:
    std::filesystem::path before_;
};

// A directory that is mounted on another, if this user may.
class Bound {
public:
    Bound(const std::string& what, std::string where) : where_(std::move(where)) {
        done_ = ::mount(what.c_str(), where_.c_str(), nullptr, MS_BIND, nullptr) == 0;
    }
    ~Bound() {
        if (done_)
            ::umount2(where_.c_str(), MNT_DETACH);
    }
    Bound(const Bound&) = delete;
    Bound& operator=(const Bound&) = delete;
    bool done() const { return done_; }

private:
    std::string where_;
    bool done_ = false;
};

}  // namespace

TEST_CASE("a walk of a large tree takes bounded memory, and what is in use stays as it is") {
    const ServerProcess server;
    const LargeTree tree(server.directory());
    MountProcess mount(server);
    const std::string& root = mount.path();
    const bool is_asked = kernel_is_at_least(6, 18);

    // All of it is what a walk finds first, and so what is not used lately.
    const std::string opened_path = root + LargeTree::file(0);
    const UniqueFd opened(::open(opened_path.c_str(), O_RDONLY | O_CLOEXEC));
    const UniqueFd locked(::open((root + LargeTree::file(1)).c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(opened);
    REQUIRE(locked);
    REQUIRE(::flock(locked.get(), LOCK_EX) == 0);
    const UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    REQUIRE(::inotify_add_watch(watch.get(), (root + LargeTree::file(2)).c_str(), IN_ATTRIB) >= 0);
    const WorkingIn working(root + LargeTree::directory(3));
    const std::string elsewhere = Scratch::instance().make_directory("bound");
    write_file(elsewhere + "/inside", "elsewhere");
    const Bound bound(elsewhere, root + LargeTree::directory(4));
    struct stat opened_before {};
    REQUIRE(::fstat(opened.get(), &opened_before) == 0);

    const std::size_t client_before = status_bytes(mount.pid(), "VmRSS");
    const std::size_t server_before = status_bytes(server.pid(), "VmRSS");
    // What is mounted on a directory hides its files.
    const std::size_t expected = LargeTree::entries - (bound.done() ? LargeTree::files_each - 1 : 0);
    for (int round = 0; round < 2; ++round)
        CHECK(walk(root) == expected);
    const std::size_t client_grew = status_bytes(mount.pid(), "VmHWM") - client_before;
    const std::size_t server_grew = status_bytes(server.pid(), "VmHWM") - server_before;
    INFO("client: " << client_grew / mib << " MiB more, server: " << server_grew / mib);
    if (measures) {
        // A kernel that cannot be asked keeps all of it.
        CHECK(client_grew < (is_asked ? promised_bytes : 96 * mib));
        CHECK(server_grew < promised_bytes / 2);
    }
    if (is_asked) {
        CHECK(mount.counted("fuse.files_asked_for") > LargeTree::entries / 4);
        CHECK(eventually(Milliseconds{20'000}, [&] { return mount.counted("fuse.forget") > LargeTree::entries / 4; }));
    }

    // What was open, is.
    struct stat opened_after {};
    CHECK(::fstat(opened.get(), &opened_after) == 0);
    CHECK(opened_after.st_ino == opened_before.st_ino);
    CHECK(std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(opened.get())) == opened_path);
    // So is what was locked.
    const UniqueFd again(::open((root + LargeTree::file(1)).c_str(), O_RDONLY | O_CLOEXEC));
    CHECK(::flock(again.get(), LOCK_EX | LOCK_NB) == -1);
    CHECK(errno == EWOULDBLOCK);
    // A watch tells of changes.
    CHECK(::chmod((root + LargeTree::file(2)).c_str(), 0600) == 0);
    inotify_event event{};
    CHECK(::read(watch.get(), &event, sizeof event) == static_cast<ssize_t>(sizeof event));
    CHECK((event.mask & IN_ATTRIB) != 0);
    // A working directory is where it was.
    CHECK(std::filesystem::current_path() == root + LargeTree::directory(3));
    CHECK(::access("some_file_0", R_OK) == 0);
    // What was mounted, is.
    if (bound.done())
        CHECK(read_file(root + LargeTree::directory(4) + "/inside") == "elsewhere");
    // And what was given back is found again, as it is by now.
    write_file(server.directory() + LargeTree::file(5), "written meanwhile");
    CHECK(
        eventually(Milliseconds{20'000}, [&] { return read_file(root + LargeTree::file(5)) == "written meanwhile"; }));
}
