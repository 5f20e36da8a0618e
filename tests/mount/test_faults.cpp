// SPDX-License-Identifier: MIT
// Servers that die, networks that break and disks that fill up, while the mount is in use.
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/mount_table.hpp"
#include "harness/scratch.hpp"
#include "harness/tcp_proxy.hpp"
#include "harness/transcript.hpp"

using namespace remofile::test;

namespace {

// How a call in a process of its own ended: its errno, 0 for success, or "hangs" at the deadline, after which the
// process has been killed.
std::string outcome_within(Milliseconds deadline, const std::function<long()>& call) {
    Child child = Child::fork([&call] { return call() < 0 ? errno : 0; });
    const Ended end = child.wait(deadline);
    if (!end.timed_out())
        return end.exit_status == 0 ? "ok" : errno_name(end.exit_status);
    return child.destroy() ? "hangs" : "hangs and cannot be killed";
}

long open_file(const std::string& path, int flags = O_RDONLY) {
    return open(path.c_str(), flags, 0644);
}

long list(const std::string& path) {
    std::error_code error;
    for (std::filesystem::directory_iterator entry(path, error);
         !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    }
    errno = error.value();
    return error ? -1 : 0;
}

long ask_free_space(const std::string& path) {
    struct statvfs status = {};
    return statvfs(path.c_str(), &status);
}

// Writes a large file slowly enough to be caught in the middle: it rings when a part is written.
Child start_copy(const std::string& to, const std::string& data, const Bell& under_way) {
    return Child::fork([&] {
        const int fd = open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (fd < 0)
            return errno;
        constexpr std::size_t piece = 256 << 10;
        for (std::size_t at = 0; at < data.size(); at += piece) {
            if (write(fd, data.data() + at, std::min(piece, data.size() - at)) < 0)
                return errno;
            if (at == data.size() / 4 / piece * piece)
                under_way.ring();
        }
        return fsync(fd) != 0 || close(fd) != 0 ? errno : 0;
    });
}

bool works(const std::string& mounted) {
    try {
        const std::string path = mounted + "/probe";
        write_file(path, "probe");
        return read_file(path) == "probe" && unlink(path.c_str()) == 0;
    } catch (const std::runtime_error&) {
        return false;
    }
}

// works() in a process of its own, which may hang.
bool works_again(const std::string& mounted) {
    return eventually(Milliseconds{30'000}, [&] {
        return outcome_within(Milliseconds{3'000}, [&] { return works(mounted) ? 0 : -1; }) == "ok";
    });
}

}  // namespace

TEST_CASE("faults: a killed server: a process that waits for it can be killed, and the mount taken down") {
    ServerProcess server;
    MountProcess mount(server);
    write_file(mount.path() + "/file", random_bytes(3 << 20, 1));
    server.kill();
    // Hard mounts wait as long as it takes; what waits can be killed.
    for (const auto& call : std::vector<std::function<long()>>{
             [&] { return open_file(mount.path() + "/missing"); },
             [&] { return open_file(mount.path() + "/new", O_WRONLY | O_CREAT); },
             [&] { return list(mount.path()); },
             [&] { return ask_free_space(mount.path()); },
             [&] { return mkdir((mount.path() + "/d").c_str(), 0755); },
         }) {
        const std::string outcome = outcome_within(Milliseconds{700}, call);
        CHECK(outcome != "hangs and cannot be killed");
    }
    // A signal that asks a program to stop, and which it handles, interrupts as well: the server is silent. One that
    // asks for nothing of the kind, like SIGALRM, does not, as on a local disk.
    Bell ready;
    Child handles = Child::fork([&] {
        struct sigaction action = {};
        action.sa_handler = [](int) {};
        sigaction(SIGINT, &action, nullptr);
        ready.ring();
        return open_file(mount.path() + "/another") < 0 ? errno : 0;
    });
    REQUIRE(ready.await());
    CHECK(handles.wait(Milliseconds{200}).timed_out());
    handles.signal(SIGINT);
    CHECK(errno_name(handles.wait(Milliseconds{5'000}).exit_status) == "EINTR");
    CHECK(mount.unmount());
}

TEST_CASE("faults: df and ls -ld of a silent server's mountpoint say what was known last, right after mounting too") {
    for (const std::vector<std::string>& first :
         {std::vector<std::string>{"df"}, {"ls", "-ld"}, {"stat", "--file-system"}}) {
        ServerProcess server;
        TcpProxy proxy(server.ports());
        MountProcess mount(through(server, proxy.address()));
        proxy.stall();
        for (const std::vector<std::string>& command : {first, {"df"}, {"ls", "-ld"}}) {
            std::vector<std::string> arguments = command;
            arguments.push_back(mount.path());
            // Far less than it takes to notice that the connection is lost.
            const Ended end = Child::start({.arguments = arguments}).wait(Milliseconds{8'000});
            INFO(end.to_string());
            CHECK(end.exit_status == 0);
        }
        proxy.pass();
        CHECK(works_again(mount.path()));
        CHECK(mount.unmount());
    }
}

TEST_CASE("faults: Ctrl-C ends who copies to and from a server that has just fallen silent, and loses nothing") {
    ServerProcess server;
    TcpProxy proxy(server.ports());
    MountProcess mount(through(server, proxy.address()));
    write_file(server.directory() + "/source", random_bytes(32 << 20, 5));
    const std::string source = mount.path() + "/source", target = mount.path() + "/target";
    for (const auto& arguments : std::vector<std::vector<std::string>>{{"dd", "if=/dev/zero", "of=" + target},
                                                                       {"dd", "if=" + source, "of=/dev/null"},
                                                                       {"cp", source, "/dev/null"}}) {
        proxy.stall();
        Child copy = Child::start({.arguments = arguments});
        CHECK(copy.wait(Milliseconds{500}).timed_out());
        copy.signal(SIGINT);
        CHECK(!copy.wait(Milliseconds{8'000}).timed_out());
        proxy.pass();
        CHECK(works_again(mount.path()));
    }
    // What a write was told is accepted arrives, although its writer did not wait.
    Bell opened, stalled, written;
    Child writer = Child::fork([&] {
        const int fd = open((mount.path() + "/accepted").c_str(), O_WRONLY | O_CREAT, 0644);
        opened.ring();
        const bool done = stalled.await() && write(fd, "accepted", 8) == 8;
        if (done)
            written.ring();
        close(fd);
        return 0;
    });
    CHECK(opened.await());
    proxy.stall();
    stalled.ring();
    CHECK(written.await());
    writer.signal(SIGINT);
    CHECK(!writer.wait(Milliseconds{8'000}).timed_out());
    proxy.pass();
    const std::string accepted = server.directory() + "/accepted";
    CHECK(eventually(Milliseconds{30'000},
                     [&] { return std::filesystem::exists(accepted) && read_file(accepted) == "accepted"; }));
    CHECK(mount.unmount());
}

TEST_CASE("faults: a killed server does not keep SIGTERM from ending remofs") {
    ServerProcess server;
    MountProcess mount(server);
    server.kill();
    mount.process().signal(SIGTERM);
    CHECK(eventually(Milliseconds{10'000}, [&] { return !mounted_at(mount.path()); }));
    CHECK(!mount.process().wait(Milliseconds{10'000}).timed_out());
}

TEST_CASE("faults: a soft mount gives up after its time, and df does not") {
    ServerProcess server;
    MountProcess mount(server, {"soft", "timeout=2"});
    write_file(mount.path() + "/file", "x");
    server.kill();
    for (const auto& call : std::vector<std::function<long()>>{
             [&] { return open_file(mount.path() + "/missing"); },
             [&] { return list(mount.path()); },
             [&] { return open_file(mount.path() + "/new", O_WRONLY | O_CREAT); },
         }) {
        const std::string outcome = outcome_within(Milliseconds{6'000}, call);
        CHECK((outcome == "ETIMEDOUT" || outcome == "EHOSTUNREACH"));
    }
    // What was known when it was mounted.
    CHECK(outcome_within(Milliseconds{6'000}, [&] { return ask_free_space(mount.path()); }) == "ok");
    CHECK(mount.unmount());
}

TEST_CASE("faults: after a restart of the server the mount works again") {
    ServerProcess server;
    MountProcess mount(server);
    for (const bool politely : {false, true}) {
        write_file(mount.path() + "/file", "before");
        REQUIRE(mkdir((mount.path() + "/directory").c_str(), 0755) == 0);
        carried_out(mount.path());
        if (politely) {
            const Ended end = server.stop();
            INFO(end.to_string());
            CHECK(end.exit_status == 0);
        } else {
            server.kill();
        }
        server.start_again();
        CHECK(works_again(mount.path()));
        CHECK(outcome_within(Milliseconds{10'000},
                             [&] { return read_file(mount.path() + "/file") == "before" ? 0 : -1; }) == "ok");
        CHECK(outcome_within(Milliseconds{10'000}, [&] { return works(mount.path() + "/directory") ? 0 : -1; }) ==
              "ok");
        CHECK(rmdir((mount.path() + "/directory").c_str()) == 0);
    }
    CHECK(mount.unmount());
}

TEST_CASE("faults: a server that goes while a file is written: the writer learns of it") {
    ServerProcess server;
    MountProcess mount(server, {"soft", "timeout=2"});
    const std::string data = random_bytes(8 << 20, 2);
    const int fd = open((mount.path() + "/file").c_str(), O_WRONLY | O_CREAT, 0644);
    REQUIRE(write(fd, data.data(), 1 << 20) == 1 << 20);
    server.kill();
    const std::string outcome = outcome_within(Milliseconds{20'000}, [&]() -> long {
        for (int i = 0; i < 8; ++i) {
            if (write(fd, data.data(), 1 << 20) < 0)
                return -1;
        }
        if (fsync(fd) != 0)
            return -1;
        return close(fd);
    });
    CHECK(outcome != "ok");
    CHECK(outcome != "hangs");
    outcome_within(Milliseconds{10'000}, [&] { return close(fd); });
    close(fd);
    CHECK(mount.unmount());
}

TEST_CASE("faults: an open file after a restart of the server either works or says that it is lost") {
    ServerProcess server;
    MountProcess mount(server);
    write_file(mount.path() + "/file", "content");
    const int fd = open((mount.path() + "/file").c_str(), O_RDWR);
    REQUIRE(fd >= 0);
    server.kill();
    server.start_again();
    CHECK(works_again(mount.path()));
    const std::string outcome =
        outcome_within(Milliseconds{10'000}, [&] { return pwrite(fd, "C", 1, 0) == 1 ? fsync(fd) : -1; });
    if (outcome == "ok")
        CHECK(read_file(server.directory() + "/file") == "Content");
    else
        CHECK((outcome == "ESTALE" || outcome == "EBADF" || outcome == "EIO"));
    close(fd);
    CHECK(read_file(mount.path() + "/file").size() == 7);
}

TEST_CASE("faults: the network is away for a moment under a copy, which ends right") {
    enum class Fault { stall, cut };
    for (const Fault fault : {Fault::stall, Fault::cut}) {
        ServerProcess server;
        TcpProxy proxy(server.ports());
        MountProcess mount(through(server, proxy.address()));
        const std::string data = random_bytes(12 << 20, 3);
        Bell under_way;
        Child copy = start_copy(mount.path() + "/file", data, under_way);
        CHECK(under_way.await());
        if (fault == Fault::stall)
            proxy.stall();
        else
            proxy.cut();
        copy.wait(Milliseconds{1'000});
        proxy.pass();
        const Ended end = copy.wait(Milliseconds{60'000});
        INFO((fault == Fault::stall ? "stalled" : "cut") << "\n" << end.to_string());
        CHECK(end.exit_status == 0);
        CHECK((read_file(server.directory() + "/file") == data));
        CHECK(outcome_within(Milliseconds{20'000},
                             [&] { return read_file(mount.path() + "/file") == data ? 0 : -1; }) == "ok");
        CHECK(works_again(mount.path()));
        CHECK(mount.unmount());
    }
}

// Answers of the two lanes pass each other.
TEST_CASE("faults: the content that comes with an open is older than what another handle has written since") {
    ServerProcess server;
    TcpProxy proxy(server.ports());
    MountProcess mount(through(server, proxy.address()));
    const std::string path = mount.path() + "/file";
    write_file(path, std::string(5'000, 'o'));
    const int writer = open(path.c_str(), O_RDWR);
    REQUIRE(writer >= 0);
    const std::string again = "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(writer);
    // No look-up, whose answer would be held too. What was kept of the file is not in use any more.
    write_file(server.directory() + "/file", std::string(5'001, 'o'));
    struct stat attributes = {};
    REQUIRE(eventually(Milliseconds{3'000},
                       [&] { return fstat(writer, &attributes) == 0 && attributes.st_size == 5'001; }));

    proxy.hold_answers_of(server.port());
    Bell opened;
    std::string seen_by_reader;
    Child reader = Child::fork([&] {
        const int fd = open(again.c_str(), O_RDONLY);
        opened.ring();
        std::string content(6'000, '\0');
        content.resize(static_cast<std::size_t>(std::max<ssize_t>(0, pread(fd, content.data(), content.size(), 0))));
        return content == std::string(5'000, 'n') + 'o' ? 0 : 1;
    });
    REQUIRE(eventually(Milliseconds{10'000}, [&] { return proxy.held_bytes() > 5'000; }));
    REQUIRE(pwrite(writer, std::string(5'000, 'n').data(), 5'000, 0) == 5'000);
    const bool written = fsync(writer) == 0;
    proxy.pass();
    CHECK(written);
    CHECK(opened.await());
    CHECK(reader.wait(Milliseconds{10'000}).exit_status == 0);
    close(writer);
    CHECK(mount.unmount());
}

TEST_CASE("faults: who has got a lock that was waited for, and hears no more of the server, can be killed") {
    ServerProcess server;
    TcpProxy proxy(server.ports());
    MountProcess mount(through(server, proxy.address()));
    MountProcess other(server);
    write_file(mount.path() + "/file", "x");
    const int holder = open((other.path() + "/file").c_str(), O_RDWR);
    REQUIRE(flock(holder, LOCK_EX) == 0);
    Bell opened;
    Child waiting = Child::fork([&] {
        const int fd = open((mount.path() + "/file").c_str(), O_RDWR);
        opened.ring();
        return flock(fd, LOCK_EX);
    });
    REQUIRE(opened.await());
    // The lock's answer passes, and the attributes' does not.
    proxy.hold_answers_of(server.port(), 1);
    REQUIRE(flock(holder, LOCK_UN) == 0);
    CHECK(eventually(Milliseconds{10'000}, [&] { return proxy.held_bytes() > 0; }));
    CHECK(waiting.running());
    CHECK(waiting.destroy());
    proxy.pass();
    CHECK(works_again(mount.path()));
    close(holder);
}

TEST_CASE("faults: when the kernel's connection is aborted, remofs ends and says so") {
    ServerProcess server;
    MountProcess mount(server);
    struct stat attributes = {};
    REQUIRE(stat(mount.path().c_str(), &attributes) == 0);
    const std::string abort = "/sys/fs/fuse/connections/" + std::to_string(minor(attributes.st_dev)) + "/abort";
    const int fd = open(abort.c_str(), O_WRONLY);
    if (fd < 0)
        return;  // not ours to abort, or not mounted there
    REQUIRE(write(fd, "1", 1) == 1);
    close(fd);
    CHECK(eventually(Milliseconds{10'000}, [&] { return !mount.running(); }));
    CHECK(mount.errors().find("the kernel's connection was aborted") != std::string::npos);
    umount2(mount.path().c_str(), MNT_DETACH);
}

TEST_CASE("faults: requests that the network cut are carried out once") {
    ServerProcess server;
    TcpProxy proxy(server.ports());
    MountProcess mount(through(server, proxy.address()));
    // Each of these fails if it is done twice: mkdir with EEXIST, unlink and rename with ENOENT, an append with a line
    // too many.
    Child worker = Child::fork([&mount] {
        const auto failed = [](const char* what, int round) {
            std::printf("%s in round %d: %s\n", what, round, errno_name(errno).c_str());
            return 1;
        };
        const int log = open((mount.path() + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
        for (int round = 0; round < 100; ++round) {
            const std::string name = mount.path() + "/" + std::to_string(round), moved = name + ".moved";
            if (mkdir(name.c_str(), 0755) != 0)
                return failed("mkdir", round);
            if (rename(name.c_str(), moved.c_str()) != 0)
                return failed("rename", round);
            if (rmdir(moved.c_str()) != 0)
                return failed("rmdir", round);
            if (write(log, "0123456789\n", 11) != 11)
                return failed("write", round);
        }
        return close(log) == 0 ? 0 : failed("close", 0);
    });
    for (int i = 0; i < 5 && worker.running(); ++i) {
        worker.wait(Milliseconds{50});
        proxy.cut();
        worker.wait(Milliseconds{20});
        proxy.pass();
    }
    const Ended end = worker.wait(Milliseconds{60'000});
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
    CHECK(read_file(server.directory() + "/log").size() == 100 * 11);
    CHECK(mount.unmount());
}

TEST_CASE("faults: while the network is away, unmounting works and other mounts go on") {
    ServerProcess server;
    TcpProxy proxy(server.ports());
    MountProcess cut_off(through(server, proxy.address()));
    MountProcess other(server);
    CHECK(works(cut_off.path()));
    proxy.stall();
    CHECK(works(other.path()));
    CHECK(outcome_within(Milliseconds{500}, [&] { return open_file(cut_off.path() + "/missing"); }) !=
          "hangs and cannot be killed");
    const auto started = std::chrono::steady_clock::now();
    CHECK(umount2(cut_off.path().c_str(), MNT_DETACH) == 0);
    CHECK(eventually(Milliseconds{10'000}, [&] { return !cut_off.running(); }));
    CHECK(std::chrono::steady_clock::now() - started < std::chrono::seconds(10) * slowness());
    CHECK(works(other.path()));
}

TEST_CASE("faults: a full disk is reported to the writer") {
    if (geteuid() != 0)
        return;
    // Not below the scratch directory's own file system: a small one of its own, taken down by the sweeper like every
    // mount there.
    const std::string export_ = Scratch::instance().make_directory("small");
    REQUIRE(::mount("tmpfs", export_.c_str(), "tmpfs", 0, "size=4m") == 0);
    {
        ServerProcess server({.directory = export_});
        MountProcess mount(server);
        const std::string data = random_bytes(8 << 20, 4);
        const std::string path = mount.path() + "/file";
        const int fd = open(path.c_str(), O_WRONLY | O_CREAT, 0644);
        std::string first_error = "none";
        for (std::size_t at = 0; at < data.size() && first_error == "none"; at += 65'536) {
            if (write(fd, data.data() + at, 65'536) < 0)
                first_error = errno_name(errno);
        }
        if (fsync(fd) != 0 && first_error == "none")
            first_error = errno_name(errno);
        if (close(fd) != 0 && first_error == "none")
            first_error = errno_name(errno);
        CHECK(first_error == "ENOSPC");
        CHECK(std::filesystem::file_size(path) <= 4 << 20);

        // cp says so and fails.
        const std::string source = Scratch::instance().make_directory("source") + "/big";
        write_file(source, data);
        const Ended copied = run({.arguments = {"cp", source, mount.path() + "/copy"}});
        CHECK(copied.exit_status != 0);
        CHECK_THAT(copied.errors, ContainsSubstring("No space left"));

        // With room again, all is well.
        unlink((mount.path() + "/copy").c_str());
        CHECK(unlink(path.c_str()) == 0);
        CHECK(works(mount.path()));
        CHECK(fallocate(open(path.c_str(), O_RDWR | O_CREAT, 0644), 0, 0, 8 << 20) == -1);
        CHECK(errno_name(errno) == "ENOSPC");
        mount.destroy();
    }
    umount2(export_.c_str(), MNT_DETACH);
}

TEST_CASE("faults: a file size limit is reported to the writer") {
    ServerProcess server;
    MountProcess mount(server);
    const int fd = open((mount.path() + "/file").c_str(), O_RDWR | O_CREAT, 0644);
    // Larger than the server's file system takes.
    const bool written = pwrite(fd, "x", 1, 0x7fff'ffff'ffff'0000) == 1;
    CHECK((written ? fsync(fd) : -1) == -1);
    CHECK(errno_name(errno) == "EFBIG");
    CHECK(close(fd) == 0);  // it has been reported
    CHECK(std::filesystem::file_size(mount.path() + "/file") == 0);
}

// Whether all of its threads have, and so let go of their descriptors; nobody need have waited for it.
static bool has_ended(pid_t pid) {
    std::error_code gone;
    for (const auto& thread : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task", gone)) {
        std::ifstream file(thread.path() / "stat");
        std::string stat;
        std::getline(file, stat);
        const auto end_of_name = stat.rfind(") ");
        if (end_of_name != std::string::npos && stat[end_of_name + 2] != 'Z')
            return false;
    }
    return true;
}

TEST_CASE("faults: a remofs that is killed leaves a mount that can be taken down, and frees its locks") {
    ServerProcess server({.arguments = {"--session-timeout", "5"}});
    MountProcess dying(server);
    MountProcess other(server);
    write_file(other.path() + "/file", "x");
    Bell taken;
    Child holder = Child::fork([&] {
        const int fd = open((dying.path() + "/file").c_str(), O_RDWR);
        struct flock lock = {};
        lock.l_type = F_WRLCK;
        if (fcntl(fd, F_SETLK, &lock) == 0)
            taken.ring();
        pause();
        return 0;
    });
    REQUIRE(taken.await());
    kill(dying.pid(), SIGKILL);
    // What the kernel has handed to a process that is still ending is ECONNABORTED.
    REQUIRE(eventually(Milliseconds{10'000}, [&] { return has_ended(dying.pid()); }));
    CHECK(outcome_within(Milliseconds{5'000}, [&] { return open_file(dying.path() + "/file"); }) == "ENOTCONN");
    const int fd = open((other.path() + "/file").c_str(), O_RDWR);
    // The server notices by the closed connection, or at the latest when the session has expired.
    CHECK(eventually(Milliseconds{90'000}, [fd] {
        struct flock lock = {};
        lock.l_type = F_WRLCK;
        return fcntl(fd, F_SETLK, &lock) == 0;
    }));
    close(fd);
    holder.destroy();
    CHECK(umount2(dying.path().c_str(), 0) == 0);
}

// As after a suspend.
TEST_CASE("faults: a lock outlives the session that the server has let go, unless somebody else had it meanwhile") {
    ServerProcess server({.arguments = {"--session-timeout", "5"}});
    TcpProxy link(server.ports(), Milliseconds{0});
    MountProcess away(through(server, link.address()));
    MountProcess other(server);
    for (const char* name : {"/held", "/taken"})
        write_file(other.path() + name, "content");
    const auto lock = [](int fd) {
        struct flock range {};
        range.l_type = F_WRLCK;
        return fcntl(fd, F_SETLK, &range) == 0;
    };
    Bell locked;
    Bell back;
    Bell looked;
    Bell done;
    Child holder = Child::fork([&] {
        const int held = open((away.path() + "/held").c_str(), O_RDWR);
        const int taken = open((away.path() + "/taken").c_str(), O_RDWR);
        if (!lock(held) || flock(held, LOCK_EX) != 0 || !lock(taken))
            return 1;
        locked.ring();
        if (!back.await(Milliseconds{90'000}))
            return 2;
        if (pwrite(held, "CONTENT", 7, 0) != 7 || fsync(held) != 0)
            return 3;
        if (pwrite(taken, "CONTENT", 7, 0) == 7 && fsync(taken) == 0)
            return 4;
        looked.ring();
        return done.await() ? 0 : 5;
    });
    REQUIRE(locked.await());
    const int taken = open((other.path() + "/taken").c_str(), O_RDWR);
    REQUIRE_FALSE(lock(taken));
    link.cut();
    REQUIRE(eventually(Milliseconds{60'000}, [&] { return lock(taken); }));
    close(taken);
    link.pass();
    back.ring();
    const bool has_looked = looked.await();
    const int held = open((other.path() + "/held").c_str(), O_RDWR);
    CHECK_FALSE(lock(held));
    CHECK(flock(held, LOCK_EX | LOCK_NB) != 0);
    done.ring();
    const Ended end = holder.wait(Milliseconds{30'000});
    INFO(end.to_string() << away.errors());
    CHECK(has_looked);
    CHECK(end.exit_status == 0);
    CHECK(eventually(Milliseconds{30'000}, [&] { return lock(held); }));
    close(held);
    CHECK(read_file(server.directory() + "/held") == "CONTENT");
    CHECK(read_file(server.directory() + "/taken") == "content");
}
