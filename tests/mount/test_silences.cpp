// SPDX-License-Identifier: MIT
// A server that says nothing for a while: programs go on by themselves, a soft mount's calls end in time, and nobody
// is kept who does not want to wait. REMOFS_TEST_SECONDS says for how long it is silent under programs, and
// REMOFS_TEST_TRIES how often the calls are tried.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/tcp_proxy.hpp"
#include "harness/transcript.hpp"
#include "mount/killing.hpp"
#include "mount/workloads.hpp"

using namespace remofile::test;

namespace {

constexpr Milliseconds script_deadline{120'000};
constexpr unsigned soft_seconds = 5;
// Of a call: the mount's own time, and two seconds for a machine under load.
constexpr Milliseconds soft_deadline{(soft_seconds + 2) * 1000};

void work_through_a_silence(const Workload& workload) {
    const Milliseconds silence{1000 * number_from("REMOFS_TEST_SECONDS", 3)};
    INFO(workload.name);
    ServerProcess server;
    TcpProxy proxy(server.ports());
    MountProcess mount(through(server, proxy.address()));
    Child program = Child::start({.arguments = {"bash", "-euo", "pipefail", "-c", workload.script},
                                  .environment = {{"AT_SERVER", server.directory()},
                                                  {"SCRATCH", Scratch::instance().make_directory("local")},
                                                  {"ROUND", "0"}},
                                  .directory = mount.path()});
    (void)program.wait(Milliseconds{400});  // in the middle of it
    proxy.stall();
    (void)program.wait(silence);
    proxy.pass();
    const Ended end = program.wait(script_deadline);
    INFO(end.to_string());
    INFO("the mount: " << mount.errors());
    CHECK(end.exit_status == 0);
    CHECK(mount.unmount());
}

// A call that a program makes of its own, and how it may end.
struct Call {
    const char* name;
    std::function<long(const std::string& mounted)> make;
};

long opened(const std::string& path, int flags) {
    const int fd = open(path.c_str(), flags, 0644);
    return fd < 0 ? fd : close(fd);
}

const std::vector<Call>& calls() {
    static const std::vector<Call> all = {
        {"stat of what is not known",
         [](const std::string& top) {
             struct stat attributes {};
             return static_cast<long>(stat((top + "/directory/unknown").c_str(), &attributes));
         }},
        {"open to read", [](const std::string& top) { return opened(top + "/directory/file", O_RDONLY); }},
        {"open to write", [](const std::string& top) { return opened(top + "/directory/file", O_WRONLY); }},
        {"make a file", [](const std::string& top) { return opened(top + "/new", O_WRONLY | O_CREAT | O_EXCL); }},
        {"mkdir", [](const std::string& top) { return static_cast<long>(mkdir((top + "/made").c_str(), 0755)); }},
        {"rename",
         [](const std::string& top) {
             return static_cast<long>(rename((top + "/moves").c_str(), (top + "/moved").c_str()));
         }},
        {"unlink", [](const std::string& top) { return static_cast<long>(unlink((top + "/goes").c_str())); }},
        {"list",
         [](const std::string& top) {
             DIR* listing = opendir((top + "/directory").c_str());
             if (listing == nullptr)
                 return -1L;
             errno = 0;
             while (readdir(listing) != nullptr)
                 continue;
             const long outcome = errno == 0 ? 0 : -1;
             closedir(listing);
             return outcome;
         }},
        {"write and fsync",
         [](const std::string& top) {
             const int fd = open((top + "/written").c_str(), O_WRONLY | O_CREAT, 0644);
             if (fd < 0)
                 return -1L;
             const long outcome = write(fd, "text", 4) == 4 ? fsync(fd) : -1;
             close(fd);
             return outcome;
         }},
        {"df",
         [](const std::string& top) {
             struct statvfs room {};
             return static_cast<long>(statvfs(top.c_str(), &room));
         }},
    };
    return all;
}

}  // namespace

TEST_CASE("silences: programs go on by themselves when the server says something again") {
    const Workload workload = GENERATE(copies, archives, git, databases, builds);
    work_through_a_silence(workload);
}

TEST_CASE("silences: a soft mount's calls end within its time and two seconds, and do what they say") {
    const std::uint32_t tries = number_from("REMOFS_TEST_TRIES", 1);
    std::chrono::duration<double> longest{};
    for (std::uint32_t round = 0; round < tries; ++round) {
        ServerProcess server;
        TcpProxy proxy(server.ports());
        MountProcess mount(through(server, proxy.address(), {"soft", "timeout=" + std::to_string(soft_seconds)}));
        MountProcess elsewhere(server);
        REQUIRE(mkdir((server.directory() + "/directory").c_str(), 0755) == 0);
        for (const char* name : {"/directory/file", "/moves", "/goes"})
            write_file(server.directory() + name, "content");
        proxy.stall();
        std::vector<std::pair<const Call*, Child>> under_way;
        for (const Call& call : calls())
            under_way.emplace_back(&call, Child::fork([&] { return call.make(mount.path()) == 0 ? 0 : errno; }));
        // Other mounts of the same server do not wait with it.
        Child other = Child::start({.arguments = {"ls", "-l", elsewhere.path()}});
        const Ended listed = other.wait(Milliseconds{2'000});
        CHECK(listed.exit_status == 0);
        for (auto& [call, child] : under_way) {
            const Ended end = child.wait(soft_deadline);
            INFO("round " << round << ", " << call->name << ": " << end.to_string());
            CHECK(!end.timed_out());
            const bool is_known = std::string_view(call->name) == "df";
            CHECK((end.exit_status == 0 || (!is_known && (end.exit_status == ETIMEDOUT ||
                                                          end.exit_status == EHOSTUNREACH || end.exit_status == EIO))));
            longest = std::max(longest, end.took);
        }
        proxy.pass();
        CHECK(
            eventually(Milliseconds{20'000}, [&] { return opened(mount.path() + "/directory/file", O_RDONLY) == 0; }));
        CHECK(mount.unmount());
    }
    INFO("the longest call took " << longest.count() << " s");
    CHECK(longest < soft_deadline);
}

TEST_CASE("silences: who waits for a hard mount's server can be interrupted and killed, and the mount taken down") {
    const std::uint32_t tries = number_from("REMOFS_TEST_TRIES", 1);
    for (std::uint32_t round = 0; round < tries; ++round) {
        ServerProcess server;
        TcpProxy proxy(server.ports());
        MountProcess mount(through(server, proxy.address()));
        REQUIRE(mkdir((server.directory() + "/directory").c_str(), 0755) == 0);
        for (const char* name : {"/directory/file", "/moves", "/goes"})
            write_file(server.directory() + name, "content");
        proxy.stall();
        for (const int signal : {SIGINT, SIGKILL}) {
            std::vector<std::pair<const Call*, Child>> waiting;
            for (const Call& call : calls())
                waiting.emplace_back(&call, Child::fork([&] { return call.make(mount.path()) == 0 ? 0 : errno; }));
            std::this_thread::sleep_for(Milliseconds{100});
            for (auto& [call, child] : waiting)
                child.signal(signal);
            for (auto& [call, child] : waiting) {
                const Ended end = child.wait(soft_deadline);
                INFO("round " << round << ", signal " << signal << ", " << call->name << ": " << end.to_string());
                CHECK(!end.timed_out());
            }
        }
        // Nothing was accepted that the server does not have, so that nothing keeps it.
        Child lazy = Child::start({.arguments = {"umount", "-l", mount.path()}});
        CHECK(!lazy.wait(soft_deadline).timed_out());
        CHECK(!mount.process().wait(Milliseconds{20'000}).timed_out());
    }
}
