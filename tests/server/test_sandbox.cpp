// SPDX-License-Identifier: MIT
// What a confined process can and cannot do, and that remofile-server is one.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "base/unique_fd.hpp"
#include "catch.hpp"
#include "harness/child.hpp"
#include "harness/patience.hpp"
#include "harness/scratch.hpp"
#include "harness/server_process.hpp"
#include "server/program/sandbox.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::test;

namespace {

long landlock_abi() {
    return ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

// Says so, and returns true, where nothing can be tried.
bool kernel_cannot() {
    if (landlock_abi() >= 2)
        return false;
    WARN("this kernel has no Landlock of version 2: not tried");
    return true;
}

struct Places {
    std::string served = Scratch::instance().make_directory("served");
    std::string own = Scratch::instance().make_directory("own");
    std::string sockets = Scratch::instance().make_directory("sockets");
    std::string other = Scratch::instance().make_directory("other");

    Places() {
        for (const std::string& directory : {served, own, sockets, other})
            std::ofstream(directory + "/file") << "content";
        std::filesystem::create_directories(served + "/a/b");
    }
};

bool opens(const std::string& path, int flags) {
    return UniqueFd(::open(path.c_str(), flags | O_CLOEXEC, 0600)).get() >= 0;
}

// Of what is tried in a confined process: the first thing that is not as it should be ends it.
class Checks {
public:
    void succeeds(const char* what, bool done) {
        if (!done)
            fail(what, strerror(errno));
    }
    void is_refused(const char* what, bool done) {
        if (done)
            fail(what, "is not refused");
        if (errno != EACCES)
            fail(what, strerror(errno));
    }

private:
    [[noreturn]] static void fail(const char* what, const char* why) {
        std::cerr << what << ": " << why << std::endl;
        _exit(1);
    }
};

int try_all(const Places& places) {
    // Before, as a server that has opened its export.
    const UniqueFd earlier(::open((places.other + "/file").c_str(), O_RDONLY | O_CLOEXEC));
    if (const auto confined = confine({.changes = {places.served, "/not there"},
                                       .reads = {places.own, places.other + "/not there either"},
                                       .tidies = {places.sockets}});
        !confined) {
        std::cerr << confined.error().to_string() << std::endl;
        return 1;
    }
    Checks check;
    const std::string& served = places.served;
    check.succeeds("reading", opens(served + "/file", O_RDONLY));
    check.succeeds("making", opens(served + "/a/new", O_RDWR | O_CREAT | O_EXCL));
    check.succeeds("truncating", opens(served + "/file", O_WRONLY | O_TRUNC));
    check.succeeds("moving to another directory",
                   ::rename((served + "/a/new").c_str(), (served + "/a/b/moved").c_str()) == 0);
    check.succeeds("linking", ::link((served + "/a/b/moved").c_str(), (served + "/linked").c_str()) == 0);
    check.succeeds("making a FIFO", ::mkfifo((served + "/fifo").c_str(), 0600) == 0);
    check.succeeds("removing", ::unlink((served + "/linked").c_str()) == 0);
    const UniqueFd nameless(::open(served.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    check.succeeds("making a file without a name", nameless.get() >= 0 || errno == EOPNOTSUPP);
    if (nameless) {
        const std::string by_number = "/proc/self/fd/" + std::to_string(nameless.get());
        check.succeeds("naming it", ::linkat(AT_FDCWD, by_number.c_str(), AT_FDCWD, (served + "/named").c_str(),
                                             AT_SYMLINK_FOLLOW) == 0);
    }

    check.succeeds("reading its own", opens(places.own + "/file", O_RDONLY));
    check.is_refused("changing its own", opens(places.own + "/file", O_WRONLY));
    check.is_refused("making a file of its own", opens(places.own + "/new", O_WRONLY | O_CREAT));
    check.succeeds("removing a socket", ::unlink((places.sockets + "/file").c_str()) == 0);

    char byte = 0;
    check.succeeds("reading what is open", ::read(earlier.get(), &byte, 1) == 1);
    check.is_refused("reading elsewhere", opens(places.other + "/file", O_RDONLY));
    check.is_refused("listing elsewhere", opens(places.other, O_RDONLY | O_DIRECTORY));
    check.is_refused("reading by a symlink", ::symlink(places.other.c_str(), (served + "/out").c_str()) != 0 ||
                                                 opens(served + "/out/file", O_RDONLY));
    check.is_refused("removing elsewhere", ::unlink((places.other + "/file").c_str()) == 0);
    check.is_refused("making elsewhere", opens(places.other + "/new", O_WRONLY | O_CREAT));
    ::execl("/bin/true", "true", nullptr);
    check.is_refused("running a program", false);
    if (landlock_abi() >= 4) {
        const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(9);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        check.is_refused("connecting",
                         ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    }
    return 0;
}

}  // namespace

TEST_CASE("a confined process uses what it was given, and nothing else") {
    if (kernel_cannot())
        return;
    const Places places;
    const Ended end = Child::fork([&] { return try_all(places); }).wait(Milliseconds{20'000});
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
}

TEST_CASE("a server of one directory is confined to it, unless it is told not to be") {
    if (kernel_cannot())
        return;
    const Places places;
    const bool confined = GENERATE(true, false);
    const std::string file = places.own + "/server.toml";
    const auto serve = [&](const std::string& directory) {
        std::ofstream(file) << "directory = \"" << directory << "\"\n" << (confined ? "" : "sandbox = \"none\"\n");
    };
    serve(places.served);
    ServerProcess server({.directory = places.served, .config_dir = {}, .arguments = {}, .config_file = file});
    const auto said = [&](const std::string& text) {
        return eventually(Milliseconds{10'000}, [&] { return server.errors().find(text) != std::string::npos; });
    };
    serve(places.other);
    ::kill(server.pid(), SIGHUP);
    CHECK(said(confined ? "no directories but those with which it was started"
                        : "the configuration has been read again"));
    CHECK((server.errors().find("of this machine's files") != std::string::npos) == confined);
    CHECK(server.stop().exit_status == 0);
}

TEST_CASE("exports with names may become more, unless the server is to be confined all the same") {
    if (kernel_cannot())
        return;
    const Places places;
    const bool confined = GENERATE(false, true);
    const std::string file = places.own + "/server.toml";
    const auto serve = [&](bool both) {
        std::ofstream(file) << (confined ? "sandbox = \"on\"\n" : "") << "[export.a]\ndirectory = \"" << places.served
                            << "\"\n"
                            << (both ? "[export.b]\ndirectory = \"" + places.other + "\"\n" : "");
    };
    serve(false);
    ServerProcess server({.directory = places.served, .config_dir = {}, .arguments = {}, .config_file = file});
    serve(true);
    ::kill(server.pid(), SIGHUP);
    CHECK(eventually(Milliseconds{10'000}, [&] {
        const std::string text = server.errors();
        return text.find(confined ? "no directories but those with which it was started" : "export b: ") !=
               std::string::npos;
    }));
    CHECK(server.stop().exit_status == 0);
}
