// SPDX-License-Identifier: MIT
// A server that allows each client so many bytes or requests a second: none gets more, and none waits for another.
#include <chrono>
#include <filesystem>

#include "harness/scratch.hpp"
#include "local_tree.hpp"
#include "remofile.hpp"

namespace remofile::test {
namespace {

// A client of another account, with a key of its own.
struct Other {
    std::string config = Scratch::instance().make_directory("other");

    explicit Other(const ServerProcess& server) {
        const Ended made = run({.arguments = {program_from_environment("REMOFILE"), "generate-keys"},
                                .environment = {{"REMOFILE_CONFIG_DIR", config}}});
        INFO(made.to_string());
        REQUIRE(made.exit_status == 0);
        write_file(server.config_dir() + "/authorized_keys", read_file(config + "/identity.pub"));
        write_file(config + "/server.pub", read_file(server.config_dir() + "/server.pub"));
    }
    Ended list(const ServerProcess& server) const {
        return run({.arguments = {program_from_environment("REMOFILE"), "ls", source_of(server, "/")},
                    .environment = {{"REMOFILE_CONFIG_DIR", config}}});
    }
};

}  // namespace

TEST_CASE("a client gets contents as fast as it may, and it and others list meanwhile") {
    const ServerProcess server({.arguments = {"--bytes-per-second=5M"}});
    const Other other(server);
    constexpr std::size_t size = 20 * mebibyte;
    write_file(server.directory() + "/large", std::string(size, 'x'));
    const std::string home = Scratch::instance().make_directory("home");
    const std::vector<std::string> getting{"get", "--quiet", source_of(server, "/large"), home + "/large"};
    Child get = Child::start(remofile_command(server, getting));
    std::size_t listed = 0;
    while (get.running()) {
        const Ended same = succeeds(server, {"ls", source_of(server, "/")});
        const Ended another = other.list(server);
        INFO(another.to_string());
        CHECK(another.exit_status == 0);
        listed += get.running() ? 1 : 0;
    }
    const Ended got = get.wait(Milliseconds{60'000});
    INFO(got.to_string());
    CHECK(got.exit_status == 0);
    CHECK(std::filesystem::file_size(home + "/large") == size);
    CHECK(listed >= 1);
    // What may go at once, a quarter of a second's, and a piece that leaves a debt do not wait.
    constexpr double waited_for = static_cast<double>(size - 5 * mebibyte / 4 - mebibyte);
    CHECK(got.took.count() >= waited_for / (5 * mebibyte));
    // The other client has used up nothing.
    const auto begun = std::chrono::steady_clock::now();
    const Ended all = run({.arguments = {program_from_environment("REMOFILE"), "cat", source_of(server, "/large")},
                           .environment = {{"REMOFILE_CONFIG_DIR", other.config}}});
    CHECK(all.exit_status == 0);
    CHECK(std::chrono::steady_clock::now() - begun >= std::chrono::seconds(3));
}

TEST_CASE("what is sent counts as well, and requests by their number") {
    const ServerProcess server({.arguments = {"--bytes-per-second=4M", "--requests-per-second=40"}});
    const std::string home = Scratch::instance().make_directory("home");
    write_file(home + "/large", std::string(8 * mebibyte, 'x'));
    const Ended put = succeeds(server, {"put", "--quiet", home + "/large", source_of(server, "/large")});
    CHECK(put.took >= std::chrono::duration<double>(1.5));
    CHECK(std::filesystem::file_size(server.directory() + "/large") == 8 * mebibyte);
    for (int i = 0; i < 60; ++i)
        std::filesystem::create_directory(server.directory() + "/" + std::to_string(i));
    std::vector<std::string> removing{"rm", "-r"};
    for (int i = 0; i < 60; ++i)
        removing.push_back(source_of(server, "/" + std::to_string(i)));
    const Ended removed = succeeds(server, removing);
    CHECK(removed.took >= std::chrono::duration<double>((60 - 11) / 40.0));
    const Ended status = succeeds(server, {"status", "--json", source_of(server, "/")});
    CHECK_THAT(status.output, ContainsSubstring("server.paced_messages"));
}

}  // namespace remofile::test
