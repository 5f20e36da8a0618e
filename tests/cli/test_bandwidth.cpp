// SPDX-License-Identifier: MIT
// remofile --bandwidth-limit: a transfer takes its time, and another command does not.
#include <filesystem>

#include "harness/scratch.hpp"
#include "local_tree.hpp"
#include "remofile.hpp"

namespace remofile::test {
namespace {

// What a limit has so much content take at least: a quarter of a second's may go at once, and a piece leaves a debt.
double least_seconds(std::size_t content, std::size_t limit) {
    return static_cast<double>(content - limit / 4 - mebibyte) / static_cast<double>(limit);
}

// What does not get smaller on its way.
std::string noise(std::size_t size) {
    std::string text(size, '\0');
    std::uint32_t random = 1;
    for (char& each : text)
        each = static_cast<char>((random = random * 1'664'525 + 1'013'904'223) >> 24U);
    return text;
}

}  // namespace

TEST_CASE("put, get and sync keep to the bandwidth that they were given, while others list") {
    const ServerProcess server;
    const std::string home = Scratch::instance().make_directory("home");
    constexpr std::size_t size = 6 * mebibyte;
    const std::string content = noise(size);
    write_file(home + "/file", content);
    const std::string limit = "--bandwidth-limit=3M";
    const auto takes_its_time = [&](const std::vector<std::string>& arguments) {
        Child child = Child::start(remofile_command(server, arguments));
        std::size_t listed = 0;
        while (child.running()) {
            succeeds(server, {"ls", source_of(server, "/")});
            listed += child.running() ? 1 : 0;
        }
        const Ended ended = child.wait(Milliseconds{60'000});
        INFO(ended.to_string());
        CHECK(ended.exit_status == 0);
        CHECK(ended.took.count() >= least_seconds(size, 3 * mebibyte));
        CHECK(listed >= 1);
    };
    takes_its_time({"put", "--quiet", limit, home + "/file", source_of(server, "/file")});
    CHECK(read_file(server.directory() + "/file") == content);
    takes_its_time({"get", "--quiet", limit, source_of(server, "/file"), home + "/back"});
    CHECK(read_file(home + "/back") == content);
    const std::string there = Scratch::instance().make_directory("there");
    takes_its_time({"sync", "--quiet", limit, source_of(server, "/"), there});
    CHECK(read_file(there + "/file") == content);
}

TEST_CASE("a bandwidth limit is a size, and not too little") {
    const ServerProcess server;
    for (const std::string wrong : {"0", "1K", "fast", "-5M", "99999999999999999999"}) {
        const Ended ended =
            remofile(server, {"get", "--bandwidth-limit=" + wrong, source_of(server, "/x"), "/nonexistent"});
        INFO(ended.to_string());
        CHECK(ended.exit_status == 1);
        CHECK_THAT(ended.errors, ContainsSubstring("--bandwidth-limit"));
    }
}

}  // namespace remofile::test
