// SPDX-License-Identifier: MIT
// What remofs has in memory: at most cache_size and 64 MiB, whatever is read and written, and less when it is idle.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include "base/unique_fd.hpp"
#include "catch.hpp"
#include "harness/mount_process.hpp"
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
