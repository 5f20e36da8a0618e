// SPDX-License-Identifier: MIT
// Ending a mount with umount.fuse.remofs, and what the mount says of itself.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/mount_table.hpp"
#include "harness/scratch.hpp"
#include "harness/transcript.hpp"

using namespace remofile::test;

namespace {

std::string status_of(const std::string& path) {
    std::string value(64U << 10, '\0');
    const ssize_t size = getxattr(path.c_str(), "remofs.status", value.data(), value.size());
    value.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return value;
}

bool says(const std::string& path, const std::string& what) {
    return status_of(path).find(what) != std::string::npos;
}

std::vector<std::string> helper(const std::string& path, std::vector<std::string> options = {}) {
    std::vector<std::string> arguments{program_from_environment("UMOUNT_REMOFS"), path};
    arguments.insert(arguments.end(), options.begin(), options.end());
    return arguments;
}

// A mount with a directory of which it alone has the lease: what is made there does not wait.
struct Away {
    ServerProcess server;
    MountProcess mount{server};

    Away() {
        REQUIRE(mkdir(at("").c_str(), 0755) == 0);
        for (const char* name : {"first", "second", "third"})
            write_file(at(name), "known");
        REQUIRE(eventually(Milliseconds{10'000}, [&] {
            return says(mount.path(), "\"pending_changes\": 0,") &&
                   !says(mount.path(), "\"leases.exclusive_taken\": 0,");
        }));
    }
    std::string at(const std::string& name) const { return mount.path() + "/d/" + name; }
    ~Away() { go_on(); }
    void stop() const { kill(server.pid(), SIGSTOP); }
    void go_on() const { kill(server.pid(), SIGCONT); }
    // Something that the server cannot do, as it is stopped.
    void make_behind() const {
        stop();
        REQUIRE(mkdir(at("made").c_str(), 0755) == 0);
        REQUIRE(says(mount.path(), "\"pending_changes\": "));
        REQUIRE_FALSE(says(mount.path(), "\"pending_changes\": 0,"));
    }
    bool is_at_server() const { return std::filesystem::exists(server.directory() + "/d/made"); }
};

}  // namespace

TEST_CASE("umount: the helper ends when all is at the server") {
    Away f;
    f.make_behind();
    Child umount = Child::start({.arguments = helper(f.mount.path())});
    // It would unmount at once, if it did not wait.
    REQUIRE(eventually(Milliseconds{20'000}, [&] { return says(f.mount.path(), "\"silent\": true"); }));
    CHECK(umount.running());
    CHECK_FALSE(f.is_at_server());
    f.go_on();
    const Ended end = umount.wait(Milliseconds{30'000});
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
    CHECK(f.is_at_server());
    CHECK_FALSE(mounted_at(f.mount.path()));
    CHECK(eventually(Milliseconds{10'000}, [&] { return !f.mount.running(); }));
}

TEST_CASE("umount: a server that does not answer is not waited for long, and nothing is given up unasked") {
    Away f;
    f.make_behind();
    const Ended refused = run({.arguments = helper(f.mount.path())}, Milliseconds{30'000});
    INFO(refused.to_string());
    CHECK(refused.exit_status == 32);
    CHECK(refused.errors.find("has not got 0 bytes and 1 changes of names and attributes") != std::string::npos);
    CHECK(mounted_at(f.mount.path()));
    const Ended detached = run({.arguments = helper(f.mount.path(), {"-l"})}, Milliseconds{5'000});
    CHECK(detached.exit_status == 0);
    CHECK_FALSE(mounted_at(f.mount.path()));
    f.go_on();
    CHECK(eventually(Milliseconds{20'000}, [&] { return f.is_at_server(); }));
}

TEST_CASE("umount: with nothing left to send, a silent server is not waited for") {
    Away f;
    f.stop();
    const Ended end = run({.arguments = helper(f.mount.path())}, Milliseconds{8'000});
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
    CHECK_FALSE(mounted_at(f.mount.path()));
    f.go_on();
}

TEST_CASE("umount: a mount whose remofs has died is taken away") {
    Away f;
    kill(f.mount.pid(), SIGKILL);
    REQUIRE(eventually(Milliseconds{10'000}, [&] {
        struct stat there {};
        return stat(f.mount.path().c_str(), &there) != 0 && errno == ENOTCONN;
    }));
    const Ended end = run({.arguments = helper(f.mount.path())}, Milliseconds{8'000});
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
    CHECK_FALSE(mounted_at(f.mount.path()));
}

TEST_CASE("umount: what is in use stays") {
    Away f;
    const int open_file = open(f.at("first").c_str(), O_RDONLY | O_CLOEXEC);
    REQUIRE(open_file >= 0);
    const Ended end = run({.arguments = helper(f.mount.path())}, Milliseconds{8'000});
    CHECK(end.exit_status == 32);
    CHECK(end.errors.find("busy") != std::string::npos);
    CHECK(mounted_at(f.mount.path()));
    close(open_file);
}

TEST_CASE("umount: wrong usage is said") {
    for (const std::vector<std::string>& arguments :
         {std::vector<std::string>{}, {"one", "two"}, {"/mountpoint", "--unknown"}}) {
        std::vector<std::string> command{program_from_environment("UMOUNT_REMOFS")};
        command.insert(command.end(), arguments.begin(), arguments.end());
        const Ended end = run({.arguments = command}, Milliseconds{8'000});
        CHECK(end.exit_status == 1);
        CHECK(end.errors.find("Usage: umount.fuse.remofs MOUNTPOINT") != std::string::npos);
    }
}

TEST_CASE("umount: root's umount is told of the helper") {
    if (geteuid() != 0 || access("/run/mount", W_OK) != 0)
        return;
    ServerProcess server;
    MountProcess mount(server);
    const auto noted = [&] {
        const std::string table = read_file("/run/mount/utab");
        const auto line = table.find(" TARGET=" + mount.path() + " ");
        return line != std::string::npos &&
               table.substr(line, table.find('\n', line) - line).find("uhelper=fuse.remofs") != std::string::npos;
    };
    CHECK(eventually(Milliseconds{10'000}, noted));
    const bool by_umount = GENERATE(true, false);
    if (by_umount) {
        CHECK(mount.unmount());
    } else {
        kill(mount.pid(), SIGTERM);
        CHECK(eventually(Milliseconds{20'000}, [&] { return !mount.running(); }));
    }
    CHECK_FALSE(noted());
}

TEST_CASE("status of a mount: for whoever asks for it, and in no list") {
    ServerProcess server;
    MountProcess mount(server);
    write_file(mount.path() + "/file", "x");
    const std::string status = status_of(mount.path());
    CHECK(status.starts_with("{\"connected\": true, \"silent\": false, "));
    CHECK(status.ends_with("}}"));
    CHECK(status.find("\"fuse.create\": 1") != std::string::npos);
    CHECK(getxattr(mount.path().c_str(), "remofs.status", nullptr, 0) > 0);
    char one = 0;
    CHECK((getxattr(mount.path().c_str(), "remofs.status", &one, 1) == -1 && errno == ERANGE));
    CHECK(listxattr(mount.path().c_str(), nullptr, 0) == 0);
    CHECK(status_of(mount.path() + "/file").empty());
}
