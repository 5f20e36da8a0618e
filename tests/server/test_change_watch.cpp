// SPDX-License-Identifier: MIT
// What programs on the server change in watched directories, as the kernel tells it.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <set>

#include "base/unique_fd.hpp"
#include "catch.hpp"
#include "export_fixture.hpp"
#include "server/leases/change_watch.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;

namespace {

InodePtr some_inode() {
    auto owner = std::make_shared<int>(0);  // opaque to the watch
    return {owner, reinterpret_cast<Inode*>(owner.get())};
}

UniqueFd open_directory(const std::string& path) {
    return UniqueFd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

// Names and whether they stand for something else since.
using Told = std::map<std::string, bool>;

// A directory with one in it, which is watched. Not usable where there is no fanotify.
struct Watching {
    TemporaryDirectory directory;
    Counters counters;
    InodePtr watched = some_inode();
    std::unique_ptr<ChangeWatch> watch;
    UniqueFd descriptor;

    Watching() {
        std::filesystem::create_directory(path(""));
        write_file(path("file"), "x");
        const UniqueFd root = open_directory(directory.path());
        auto opened = ChangeWatch::open(root.get(), true, counters);
        if (!opened) {
            WARN("no fanotify here: " << opened.error().to_string());
            return;
        }
        watch = std::move(*opened);
        descriptor = open_directory(path(""));
        CHECK(watch->add(watched, descriptor.get()));
    }
    std::string path(const std::string& name) const { return directory / ("d/" + name); }
    Told read() {
        Told told;
        const ChangeWatch::Seen seen = watch->read();
        CHECK_FALSE(seen.lost);
        for (const Touched& touched : seen.touched) {
            CHECK(touched.directory == watched);
            told[touched.name] = told[touched.name] || touched.is_new_meaning;
        }
        return told;
    }
    // What is told after another process has done something; it has been told when that process has ended.
    Told after(const std::function<void()>& work) {
        CHECK(in_child_as({}, [&] {
                  work();
                  return 0;
              }) == 0);
        return read();
    }
};

}  // namespace

TEST_CASE("a change by another process is told by directory and name") {
    Watching w;
    if (!w.watch)
        return;
    CHECK(w.read().empty());
    CHECK(w.after([&] { write_file(w.path("new"), "content"); }) == Told{{"new", true}});
    CHECK(w.after([&] { write_file(w.path("file"), "other content"); }) == Told{{"file", false}});
    CHECK(w.after([&] { std::filesystem::resize_file(w.path("file"), 3); }) == Told{{"file", false}});
    CHECK(w.after([&] { ::chmod(w.path("file").c_str(), 0600); }) == Told{{"file", false}});
    CHECK(w.after([&] { ::chmod(w.path("").c_str(), 0700); }) == Told{{"", false}});
    CHECK(w.after([&] { ::rename(w.path("new").c_str(), w.path("moved").c_str()); }) ==
          Told{{"new", true}, {"moved", true}});
    CHECK(w.after([&] { ::rename(w.path("moved").c_str(), (w.directory / "away").c_str()); }) == Told{{"moved", true}});
    CHECK(w.after([&] { ::rename((w.directory / "away").c_str(), w.path("back").c_str()); }) == Told{{"back", true}});
    CHECK(w.after([&] { ::unlink(w.path("back").c_str()); }) == Told{{"back", true}});
    CHECK(w.after([&] { ::mkdir(w.path("sub").c_str(), 0755); }) == Told{{"sub", true}});
    CHECK(w.after([&] { std::filesystem::create_symlink("x", w.path("link")); }) == Told{{"link", true}});
    // What is in a directory below belongs to that directory.
    CHECK(w.after([&] { write_file(w.path("sub/inner"), "x"); }).empty());
    CHECK(w.after([&] { write_file(w.directory / "beside", "x"); }).empty());
    // A directory that is moved has changed itself: its time of change says so.
    CHECK(w.after([&] { ::rename(w.path("").c_str(), (w.directory / "e").c_str()); }) == Told{{"", false}});
    CHECK(w.after([&] { ::rename((w.directory / "e").c_str(), w.path("").c_str()); }) == Told{{"", false}});
    // Reading changes nothing.
    CHECK(w.after([&] { read_file(w.path("file")); }).empty());
}

TEST_CASE("this process's own changes are not told") {
    Watching w;
    if (!w.watch)
        return;
    write_file(w.path("own"), "x");
    std::filesystem::remove(w.path("own"));
    std::filesystem::create_directory(w.path("sub"));
    CHECK(w.read().empty());
    CHECK(w.after([&] { write_file(w.path("others"), "x"); }) == Told{{"others", true}});
}

TEST_CASE("a directory is watched until nobody needs it") {
    Watching w;
    if (!w.watch)
        return;
    CHECK(w.watch->add(w.watched, w.descriptor.get()));  // it is already
    CHECK(w.watch->directories() == 1);
    w.watch->remove(w.watched, w.descriptor.get(), [] { return true; });
    CHECK(w.after([&] { write_file(w.path("a"), "x"); }) == Told{{"a", true}});
    w.watch->remove(w.watched, w.descriptor.get(), [] { return false; });
    CHECK(w.watch->directories() == 0);
    CHECK(w.after([&] { write_file(w.path("b"), "x"); }).empty());
    w.watch->remove(w.watched, w.descriptor.get(), [] { return false; });
    CHECK(w.watch->add(w.watched, w.descriptor.get()));
    CHECK(w.after([&] { write_file(w.path("c"), "x"); }) == Told{{"c", true}});
    CHECK(w.counters.at("leases.watched").value() == 1);
}

TEST_CASE("a directory that is removed while it is watched leaves nothing behind") {
    Watching w;
    if (!w.watch)
        return;
    CHECK(w.after([&] { std::filesystem::remove_all(w.path("")); }) == Told{{"file", true}});
    w.watch->remove(w.watched, -1, [] { return false; });
    CHECK(w.watch->directories() == 0);
}

TEST_CASE("an ordinary user's server is told the same") {
    if (geteuid() != 0)
        return;
    const TemporaryDirectory directory;
    ::chmod(directory.path().c_str(), 0777);
    constexpr int unusable = 2;
    const int outcome = in_child_as(as_user(65534, 65534), [&] {
        Counters counters;
        const UniqueFd root = open_directory(directory.path());
        auto watch = ChangeWatch::open(root.get(), true, counters);
        if (!watch)
            return unusable;
        const InodePtr watched = some_inode();
        if (!(*watch)->add(watched, root.get()))
            return 3;
        write_file(directory / "own", "x");
        if (!(*watch)->read().touched.empty())
            return 4;
        in_child_as({}, [&] {
            write_file(directory / "others", "x");
            return 0;
        });
        const auto seen = (*watch)->read();
        return seen.touched == std::vector<Touched>{{watched, "others", true}} ? 0 : 5;
    });
    if (outcome == unusable)
        WARN("no fanotify for ordinary users here");
    else
        CHECK(outcome == 0);
}

TEST_CASE("more changes than the kernel keeps are said to be lost") {
    Watching w;
    if (!w.watch)
        return;
    std::uint64_t limit = 0;
    std::ifstream("/proc/sys/fs/fanotify/max_queued_events") >> limit;
    if (limit == 0 || limit > 50'000)
        return;
    CHECK(in_child_as({}, [&] {
              for (std::uint64_t i = 0; i <= limit; ++i)
                  ::mkdir(w.path("n" + std::to_string(i)).c_str(), 0755);
              return 0;
          }) == 0);
    bool lost = false;
    std::size_t told = 0;
    for (std::size_t before = 1; before != told || told == 0;) {
        before = told;
        const ChangeWatch::Seen seen = w.watch->read();
        lost = lost || seen.lost;
        told += seen.touched.size();
    }
    CHECK(lost);
    CHECK(told <= limit);
    CHECK(w.after([&] { write_file(w.path("next"), "x"); }) == Told{{"next", true}});
}

TEST_CASE("directories beyond what may be watched are not, and that is said") {
    constexpr int unusable = 2;
    const TemporaryDirectory directory;
    const int outcome = in_child_as({}, [&] {
        // Within a user namespace of its own the limit is this test's to set, and nobody is root.
        if (::unshare(CLONE_NEWUSER) != 0)
            return unusable;
        std::ofstream limit("/proc/sys/user/max_fanotify_marks");
        limit << 3 << std::flush;
        Counters counters;
        const UniqueFd root = open_directory(directory.path());
        auto watch = ChangeWatch::open(root.get(), false, counters);
        if (!limit || !watch)
            return unusable;
        int watched = 0;
        for (int i = 0; i < 5; ++i) {
            const std::string path = directory / std::to_string(i);
            if (::mkdir(path.c_str(), 0755) != 0)
                return unusable;
            watched += (*watch)->add(some_inode(), open_directory(path).get()) ? 1 : 0;
        }
        return watched == 3 && counters.at("leases.unwatched").value() == 2 ? 0 : 3;
    });
    if (outcome == unusable)
        WARN("the number of marks cannot be limited here");
    else
        CHECK(outcome == 0);
}

TEST_CASE("file systems that others may change are not watched") {
    CHECK(is_watchable_file_system(0xEF53));
    CHECK(is_watchable_file_system(0x01021994));
    for (const unsigned long type : {0x6969UL /* NFS */, 0xFF534D42UL /* SMB */, 0x65735546UL /* FUSE */,
                                     0x01021997UL /* 9P */, 0x00C36400UL /* Ceph */, 0UL})
        CHECK_FALSE(is_watchable_file_system(type));
    Counters counters;
    const UniqueFd process = open_directory("/proc/self");
    CHECK(ChangeWatch::open(process.get(), false, counters).status() == Status::not_supported);
}

TEST_CASE("mounts that come and go below the export are noticed, and in which directories files are mounted") {
    const TemporaryDirectory directory;
    for (const char* each : {"export", "export/a", "export/with space", "beside"})
        std::filesystem::create_directory(directory / each);
    for (const char* each : {"export/with space/file", "beside/file"})
        write_file(directory / each, "x");
    // The number of the check that failed.
    const int failed = in_child_as({}, [&] {
        constexpr int not_possible = 100;
        if (unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
            return not_possible;
        const UniqueFd root = open_directory(directory / "export");
        const UniqueFd inner = open_directory(directory / "export/with space");
        auto watch = MountWatch::open(root.get());
        if (!watch)
            return 1;
        const auto told = [&] {
            pollfd polled{.fd = (*watch)->descriptor(), .events = POLLIN, .revents = 0};
            return ::poll(&polled, 1, 0) == 1 && (*watch)->changed();
        };
        const auto path = [&](const char* name) { return directory / name; };
        const auto mount_memory = [&](const char* at) {
            return ::mount("none", path(at).c_str(), "tmpfs", 0, nullptr) == 0;
        };
        const auto unmount = [&](const char* at) { return ::umount(path(at).c_str()) == 0; };
        int check = 1;
        for (const bool holds :
             {!told(),                                        // 2
              mount_memory("beside") && !told(),              // 3
              unmount("beside") && !told(),                   // 4
              mount_memory("export/a") && told() && !told(),  // 5
              !(*watch)->has_mounted_file(root.get()),        // 6
              unmount("export/a") && told() && !told(),       // 7
              ::mount(path("beside/file").c_str(), path("export/with space/file").c_str(), nullptr, MS_BIND,
                      nullptr) == 0 &&
                  told(),                                   // 8
              (*watch)->has_mounted_file(inner.get()),      // 9
              !(*watch)->has_mounted_file(root.get()),      // 10
              unmount("export/with space/file") && told(),  // 11
              !(*watch)->has_mounted_file(inner.get())}) {  // 12
            ++check;
            if (!holds)
                return check;
        }
        return 0;
    });
    if (failed == 100)
        WARN("no mounts of our own here");
    else
        CHECK(failed == 0);
}
