// SPDX-License-Identifier: MIT
// A mount with a bandwidth limit: contents take their time, large and small, both ways, and names do not.
#include <chrono>
#include <filesystem>
#include <functional>
#include <string>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/transcript.hpp"

using namespace remofile;
using namespace remofile::test;
namespace fs = std::filesystem;

namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;
constexpr std::size_t limit = 2 * mebibyte;

// What does not get smaller on its way.
std::string noise(std::size_t size) {
    std::string text(size, '\0');
    std::uint32_t random = 1;
    for (char& each : text)
        each = static_cast<char>((random = random * 1'664'525 + 1'013'904'223) >> 24U);
    return text;
}

// At least as long as the limit has so much content take: a quarter of a second's may go at once, and a piece leaves a
// debt.
void takes_its_time(std::size_t content, const std::function<void()>& work) {
    const auto begun = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
    CHECK(took.count() >= static_cast<double>(content - limit / 4 - mebibyte) / static_cast<double>(limit));
}

}  // namespace

TEST_CASE("contents keep to the bandwidth that a mount was given") {
    const ServerProcess server;
    const MountProcess mount(server, {"bandwidth_limit=2M"});
    const std::string large = noise(4 * mebibyte);
    const std::string small = noise(mebibyte / 8);
    constexpr int files = 32;  // as much together
    SECTION("written") {
        takes_its_time(large.size(), [&] {
            write_file(mount.path() + "/large", large);
            carried_out(mount.path());
        });
        CHECK(read_file(server.directory() + "/large") == large);
    }
    SECTION("written, in small files of a directory that is new") {
        fs::create_directory(mount.path() + "/new");
        takes_its_time(files * small.size(), [&] {
            for (int i = 0; i < files; ++i)
                write_file(mount.path() + "/new/" + std::to_string(i), small);
            carried_out(mount.path());
        });
        CHECK(read_file(server.directory() + "/new/31") == small);
    }
    SECTION("read, while names are looked up") {
        write_file(server.directory() + "/large", large);
        Child reading = Child::fork([&] { return read_file(mount.path() + "/large") == large ? 0 : 1; });
        std::size_t listed = 0;
        while (reading.running()) {
            CHECK_FALSE(fs::exists(mount.path() + "/none" + std::to_string(listed)));
            listed += reading.running() ? 1 : 0;
        }
        const Ended ended = reading.wait(Milliseconds{60'000});
        CHECK(ended.exit_status == 0);
        CHECK(ended.took.count() >= 1.2);
        CHECK(listed >= 2);
    }
    SECTION("read, in small files") {
        for (int i = 0; i < files; ++i)
            write_file(server.directory() + "/" + std::to_string(i), small);
        takes_its_time(files * small.size(), [&] {
            for (int i = 0; i < files; ++i)
                CHECK(read_file(mount.path() + "/" + std::to_string(i)) == small);
        });
    }
}
