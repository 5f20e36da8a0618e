// SPDX-License-Identifier: MIT
// The library among threads, processes and sessions, and on links that fail.
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "harness/patience.hpp"
#include "harness/scratch.hpp"
#include "harness/tcp_proxy.hpp"
#include "remofile/client.hpp"
#include "tests/lib/pair.hpp"

namespace {

using libremofile::Client;
using libremofile::ErrorCode;
using libremofile::File;
using libremofile::Open;
using libremofile::Options;
using libremofile::Path;
using remofile::test::code;
using remofile::test::connect;
using remofile::test::Pair;
using remofile::test::ServerProcess;
using remofile::test::slowness;
using remofile::test::TcpProxy;
using namespace std::chrono_literals;

constexpr Open read_write_create = Open::read | Open::write | Open::create;

std::size_t count_entries(const char* directory) {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
}

// Whether a thread of this process has been waiting for a while, seen from outside.
class Sleeper {
public:
    explicit Sleeper(pid_t thread) : path_("/proc/self/task/" + std::to_string(thread) + "/stat") {}
    bool is_asleep() {
        std::ifstream file(path_);
        std::string text;
        std::getline(file, text);
        const std::size_t end_of_name = text.rfind(") ");
        const bool waits = end_of_name != std::string::npos && text.substr(end_of_name + 2, 1) == "S";
        seen_ = waits ? seen_ + 1 : 0;
        return seen_ > 10;
    }

private:
    std::string path_;
    int seen_ = 0;
};

TEST_CASE("sixty-four threads share a client and one file") {
    // As root, the server learns whom it acts for: once, however many ask first.
    ServerProcess::Options options;
    if (geteuid() == 0)
        options.arguments = {"--identity=client", "--allow-root"};
    Pair pair(options);
    auto file = pair.client.open("shared", read_write_create);
    REQUIRE(file);
    std::atomic<int> good = 0;
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 64; ++i) {
        threads.emplace_back([&, i] {
            const std::string data(3000, static_cast<char>('0' + i));
            const std::uint64_t offset = i * data.size();
            std::string back(data.size(), '\0');
            const std::string name = "own" + std::to_string(i);
            bool ok = pair.client.mkdir(name).has_value();
            for (int round = 0; round < 5; ++round) {
                ok = ok && file->pwrite(std::as_bytes(std::span(data)), offset) &&
                     file->pread(std::as_writable_bytes(std::span(back)), offset) == data.size() && back == data &&
                     file->stat() && pair.client.list(name);
            }
            good += ok ? 1 : 0;
        });
    }
    for (std::thread& thread : threads)
        thread.join();
    CHECK(good == 64);
    CHECK(file->stat()->size == 64U * 3000U);
}

TEST_CASE("closing a client ends the calls that wait") {
    const bool destroy = GENERATE(false, true);
    CAPTURE(destroy);
    const ServerProcess server;
    TcpProxy proxy(server.ports());
    auto client = std::make_unique<Client>(connect(server, {}, proxy.address()));
    const auto file = client->open("file", read_write_create);
    REQUIRE(file);
    std::string buffer(4U << 20, 'x');
    REQUIRE(file->pwrite(std::as_bytes(std::span(buffer)), 0));
    proxy.stall();

    std::vector<ErrorCode> codes(9);
    std::vector<std::atomic<pid_t>> ids(codes.size());
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < codes.size(); ++i) {
        threads.emplace_back([&, i, its = client.get()] {
            std::string own(4U << 20, 'y');
            ids[i] = gettid();
            if (i % 3 == 0)
                codes[i] = code(its->stat("file"));
            else if (i % 3 == 1)
                codes[i] = code(file->pread(std::as_writable_bytes(std::span(own)), 0));
            else
                codes[i] = code(file->pwrite(std::as_bytes(std::span(own)), 0));
        });
    }
    REQUIRE(
        remofile::test::eventually(20s, [&] { return std::ranges::all_of(ids, [](pid_t id) { return id != 0; }); }));
    std::vector<Sleeper> sleepers(ids.begin(), ids.end());
    REQUIRE(remofile::test::eventually(20s, [&] {
        return std::ranges::count_if(sleepers, &Sleeper::is_asleep) == static_cast<std::ptrdiff_t>(sleepers.size());
    }));
    const auto start = std::chrono::steady_clock::now();
    if (destroy)
        client.reset();
    else
        client->close();
    for (std::thread& thread : threads)
        thread.join();
    CHECK(std::chrono::steady_clock::now() - start < 5s * slowness());
    for (const ErrorCode each : codes)
        CHECK(each == ErrorCode::closed);
    CHECK(code(file->stat()) == ErrorCode::closed);
}

TEST_CASE("several threads may close a client, and each finds it closed") {
    Pair pair;
    std::vector<std::thread> threads;
    std::atomic<int> closed = 0;
    for (int i = 0; i < 8; ++i) {
        threads.emplace_back([&] {
            pair.client.close();
            closed += code(pair.client.stat("/")) == ErrorCode::closed ? 1 : 0;
        });
    }
    for (std::thread& thread : threads)
        thread.join();
    CHECK(closed == 8);
    const Client taken = std::move(pair.client);
    CHECK(code(taken.stat("/")) == ErrorCode::closed);
    CHECK(code(pair.client.stat("/")) == ErrorCode::closed);  // NOLINT(bugprone-use-after-move): that is the question
    CHECK(code(pair.client.open("file")) == ErrorCode::closed);
}

// What a process forked from the client's finds. Returns its exit status.
int visit_in_child([[maybe_unused]] const ServerProcess& server, std::optional<Client>& client,
                   std::optional<File>& file) {
    std::byte buffer[16];
    if (code(client->stat("file")) != ErrorCode::closed)
        return 10;
    if (code(file->pread(buffer, 0)) != ErrorCode::closed)
        return 11;
    client->close();
    file.reset();
    client.reset();
#if defined(__SANITIZE_THREAD__)
    return 0;  // it allows no threads in a process forked from one that has some
#else
    const Client own = connect(server);
    const auto mine = own.open("file");
    return mine && mine->pread(buffer, 0) == 16U ? 0 : 12;
#endif
}

TEST_CASE("a forked process has no session, ends cleanly, and may have one of its own") {
    Pair pair;
    std::ofstream(pair.local("file")) << "sixteen bytes...";
    std::optional<Client> client(connect(pair.server));
    std::optional<File> file(std::move(*client->open("file")));
    // While other threads are in the middle of calls.
    std::atomic<bool> enough = false;
    std::thread busy([&] {
        while (!enough)
            (void)pair.client.stat("file");
    });
    for (int round = 0; round < 3; ++round) {
        const pid_t child = fork();
        if (child == 0) {
            remofile::test::Scratch::instance().let_go_in_child();
            alarm(static_cast<unsigned>(30 * slowness()));  // rather dead than hanging
            const int status = visit_in_child(pair.server, client, file);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
            _exit(status);  // their own exit handlers count what a forked process cannot take apart as leaked
#else
            std::exit(status);
#endif
        }
        REQUIRE(child > 0);
        int status = -1;
        REQUIRE(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status));
        CHECK(WEXITSTATUS(status) == 0);
    }
    enough = true;
    busy.join();
    std::byte buffer[16];
    CHECK(file->pread(buffer, 0) == 16U);
    CHECK(client->stat("file"));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which complain of what is left behind
TEST_CASE("a program may end in the middle of calls, its client open") {
    Pair pair;
    std::ofstream(pair.local("file")) << "x";
    for (int round = 0; round < 5; ++round) {
        const pid_t child = fork();
        if (child == 0) {
            remofile::test::Scratch::instance().let_go_in_child();
            alarm(static_cast<unsigned>(30 * slowness()));
            auto* client = new Client(connect(pair.server));
            std::atomic<int> calls = 0;
            for (int i = 0; i < 3; ++i) {
                std::thread([client, &calls] {
                    for (;;)
                        calls += client->stat("file") ? 1 : 0;
                }).detach();
            }
            while (calls < 10)
                std::this_thread::yield();
            std::exit(0);
        }
        REQUIRE(child > 0);
        int status = -1;
        REQUIRE(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status));
        CHECK(WEXITSTATUS(status) == 0);
    }
}
#endif

TEST_CASE("a silent server is given up after the time that was asked for") {
    const ServerProcess server;
    TcpProxy proxy(server.ports());
    Options options;
    options.timeout = 1s * slowness();
    const Client client = connect(server, options, proxy.address());
    auto file = client.open("file", read_write_create);
    REQUIRE(file);
    std::string data(20U << 20, 'x');
    REQUIRE(file->pwrite(std::as_bytes(std::span(data)), 0));
    proxy.stall();
    for (const auto& call : std::vector<std::function<ErrorCode()>>{
             [&] { return code(client.stat("file")); },
             [&] { return code(file->pread(std::as_writable_bytes(std::span(data)), 0)); },
             [&] { return code(file->pwrite(std::as_bytes(std::span(data)), 0)); },
             [&] { return code(file->sync()); },
         }) {
        const auto start = std::chrono::steady_clock::now();
        CHECK(call() == ErrorCode::timed_out);
        const auto took = std::chrono::steady_clock::now() - start;
        CHECK(took > options.timeout / 2);
        CHECK(took < 3 * options.timeout);
    }
    proxy.pass();
    CHECK(remofile::test::eventually(30s, [&] { return file->stat().has_value(); }));
    CHECK(file->pwrite(std::as_bytes(std::span(data)), 0));
    CHECK(file->close());

    proxy.cut();
    const auto start = std::chrono::steady_clock::now();
    setenv("REMOFILE_CONFIG_DIR", server.config_dir().c_str(), 1);
    const auto refused = Client::connect(proxy.address() + ":/", options);
    CHECK((code(refused) == ErrorCode::unreachable || code(refused) == ErrorCode::timed_out));
    CHECK(std::chrono::steady_clock::now() - start < 3 * options.timeout);
}

TEST_CASE("a link that is lost and found again is not noticed") {
    const ServerProcess server;
    TcpProxy proxy(server.ports());
    const Client client = connect(server, {}, proxy.address());
    auto file = client.open("file", read_write_create);
    REQUIRE(file);
    const std::string data(1U << 20, 'z');
    for (int round = 0; round < 3; ++round) {
        std::thread cutter([&] {
            proxy.cut();
            proxy.pass();
        });
        CHECK(file->pwrite(std::as_bytes(std::span(data)), static_cast<std::uint64_t>(round) << 20U));
        cutter.join();
    }
    CHECK(file->stat()->size == 3U << 20U);
    CHECK(file->close());
}

TEST_CASE("threads at work while the server is restarted see errors, then go on") {
    Pair pair;
    std::atomic<bool> enough = false;
    std::atomic<int> strange = 0;
    std::vector<std::atomic<int>> rounds_after(4);
    std::atomic<bool> restarted = false;
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < rounds_after.size(); ++i) {
        threads.emplace_back([&, i] {
            const std::string name = "file" + std::to_string(i);
            const std::string data(200'000, 'x');
            while (!enough) {
                auto file = pair.client.open(name, read_write_create);
                const auto written = file ? file->pwrite(std::as_bytes(std::span(data)), 0)
                                          : libremofile::Result<>(std::unexpected(file.error()));
                if (written)
                    rounds_after[i] += restarted ? 1 : 0;
                else if (written.error().code != ErrorCode::stale)
                    ++strange;
            }
        });
    }
    pair.server.kill();
    pair.server.start_again();
    restarted = true;
    CHECK(remofile::test::eventually(
        40s, [&] { return std::ranges::all_of(rounds_after, [](const auto& rounds) { return rounds > 2; }); }));
    enough = true;
    for (std::thread& thread : threads)
        thread.join();
    CHECK(strange == 0);
}

TEST_CASE("two clients of two servers live side by side") {
    Pair first;
    Pair second;
    const std::string a = "of the first";
    const std::string b = "of the second";
    auto in_first = first.client.open("file", read_write_create);
    auto in_second = second.client.open("file", read_write_create);
    REQUIRE(in_first->pwrite(std::as_bytes(std::span(a)), 0));
    REQUIRE(in_second->pwrite(std::as_bytes(std::span(b)), 0));
    CHECK(std::filesystem::file_size(first.local("file")) == a.size());
    CHECK(std::filesystem::file_size(second.local("file")) == b.size());
    first.client.close();
    CHECK(code(in_first->stat()) == ErrorCode::closed);
    CHECK(in_second->stat()->size == b.size());
    first.client = std::move(second.client);
    CHECK(first.client.stat("file")->size == b.size());
    CHECK(in_second->stat());
}

TEST_CASE("a huge read of a small file costs no memory") {
    Pair pair;
    std::ofstream(pair.local("small")) << "small";
    constexpr std::size_t size = 1U << 30;
    void* const room = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(room != MAP_FAILED);
    const auto file = pair.client.open("small");
    rusage before{};
    rusage after{};
    getrusage(RUSAGE_SELF, &before);
    CHECK(file->pread({static_cast<std::byte*>(room), size}, 0) == 5U);
    CHECK(file->pread({static_cast<std::byte*>(room), size}, INT64_MAX) == 0U);
    CHECK(code(file->pread({static_cast<std::byte*>(room), size}, UINT64_MAX)) == ErrorCode::invalid);
    getrusage(RUSAGE_SELF, &after);
    CHECK(after.ru_maxrss - before.ru_maxrss < 32 * 1024);
    munmap(room, size);
}

TEST_CASE("clients come and go without leaving threads or descriptors behind") {
    Pair pair;
    const auto visit = [&] {
        const Client client = connect(pair.server);
        REQUIRE(client.open("file", read_write_create));
        (void)client.open_directory("/");
    };
    visit();
    const std::size_t threads = count_entries("/proc/self/task");
    const std::size_t descriptors = count_entries("/proc/self/fd");
    for (int round = 0; round < 20; ++round)
        visit();
    CHECK(remofile::test::eventually(10s, [&] { return count_entries("/proc/self/task") <= threads; }));
    CHECK(count_entries("/proc/self/fd") <= descriptors);
}

TEST_CASE("the library's threads take none of the program's signals") {
    Pair pair;
    REQUIRE(pair.client.stat("/"));
    const unsigned wanted = 1U << (SIGINT - 1) | 1U << (SIGALRM - 1) | 1U << (SIGCHLD - 1);
    int own = 0;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
        if (task.path().filename() == std::to_string(getpid()))
            continue;
        std::ifstream status(task.path() / "status");
        std::string line;
        std::string name;
        while (std::getline(status, line)) {
            if (line.starts_with("Name:"))
                name = line.substr(6);
            if (!line.starts_with("SigBlk:") || !(name == "libremofile" || name.starts_with("ZMQ")))
                continue;
            CAPTURE(name, line);
            CHECK((std::stoull(line.substr(8), nullptr, 16) & wanted) == wanted);
            ++own;
        }
    }
    CHECK(own >= 3);
}

}  // namespace
