// SPDX-License-Identifier: MIT
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <fstream>

#include "base/unique_fd.hpp"
#include "fixture.hpp"

using namespace remofile;
using namespace remofile::transport;

namespace {

struct Ipc {
    TemporaryDirectory directory;
    Context context;
    Reactor reactor;
    std::string path = directory / "socket";

    Result<std::unique_ptr<Listener>> listen() {
        return Listener::bind(context, reactor, {.endpoints = {"ipc://" + path}},
                              [](const RouteId&, const std::function<Peer()>&, wire::Message) {});
    }
    bool can_connect() {
        TestLane lane(context, reactor, {.endpoint = "ipc://" + path});
        return lane.connect();
    }
};

// What a server that was killed leaves behind.
void leave_dead_socket(const std::string& path) {
    const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
}

}  // namespace

TEST_CASE("an ipc socket is its owner's alone and goes with its listener") {
    Ipc ipc;
    const mode_t before = umask(0);
    auto listener = value_of(ipc.listen());
    umask(before);
    REQUIRE(listener->endpoints() == std::vector<std::string>{"ipc://" + ipc.path});
    struct stat attributes {};
    REQUIRE(stat(ipc.path.c_str(), &attributes) == 0);
    REQUIRE((attributes.st_mode & 07777U) == 0600);
    REQUIRE(ipc.can_connect());
    listener.reset();
    REQUIRE_FALSE(std::filesystem::exists(ipc.path));
}

TEST_CASE("a dead server's socket file is replaced") {
    Ipc ipc;
    leave_dead_socket(ipc.path);
    const auto listener = value_of(ipc.listen());
    REQUIRE(ipc.can_connect());
}

TEST_CASE("a live server's socket file is left alone") {
    Ipc ipc;
    const auto listener = value_of(ipc.listen());
    const auto second = ipc.listen();
    REQUIRE(second.status() == Status::busy);
    REQUIRE_THAT(second.error().message, ContainsSubstring(ipc.path));
    REQUIRE(ipc.can_connect());
}

TEST_CASE("what is no socket is left alone") {
    Ipc ipc;
    std::ofstream(ipc.path) << "precious";
    REQUIRE(ipc.listen().status() == Status::exists);
    REQUIRE(std::filesystem::file_size(ipc.path) == 8);
    std::filesystem::remove(ipc.path);
    std::filesystem::create_symlink(ipc.directory / "elsewhere", ipc.path);
    REQUIRE(ipc.listen().status() == Status::exists);
}

TEST_CASE("a successor's socket file survives the end of the one before") {
    Ipc ipc;
    auto first = value_of(ipc.listen());
    std::filesystem::remove(ipc.path);
    const auto second = value_of(ipc.listen());
    first.reset();
    REQUIRE(ipc.can_connect());
}

TEST_CASE("a directory that is not there is named") {
    Ipc ipc;
    ipc.path = ipc.directory / "absent" / "socket";
    const auto listener = ipc.listen();
    REQUIRE(listener.status() == Status::no_entry);
    REQUIRE_THAT(listener.error().message, ContainsSubstring(ipc.path));
}
