// SPDX-License-Identifier: MIT
// Many clients of one server at once, while one of them stands still in the middle of reading and others say nonsense:
// the rest work on without an error, and the server's memory stays within its bounds. REMOFS_TEST_CLIENTS says how
// many, REMOFS_TEST_SECONDS for how long.
#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "harness/child.hpp"
#include "harness/patience.hpp"
#include "remofile/client.hpp"
#include "tests/lib/pair.hpp"

namespace {

using libremofile::Client;
using libremofile::Open;
using remofile::test::Child;
using remofile::test::ServerProcess;
using Clock = std::chrono::steady_clock;

unsigned number_from(const char* variable, unsigned otherwise) {
    const char* text = std::getenv(variable);
    return text == nullptr ? otherwise : static_cast<unsigned>(std::stoul(text));
}

std::string random_text(std::minstd_rand& random, std::size_t size) {
    std::string text(size, '\0');
    for (char& byte : text)
        byte = static_cast<char>('a' + random() % 26);
    return text;
}

// The most memory that the process has had, in MiB.
double peak_mib(pid_t pid) {
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("VmHWM:"))
            return std::stod(line.substr(6)) / 1024;
    return 0;
}

// What all clients together have seen.
struct Account {
    std::mutex mutex;
    std::vector<std::string> errors;
    std::vector<double> stat_ms;
    std::uint64_t calls = 0;
};

// One client's work, in a directory of its own and one of all.
class Worker {
public:
    Worker(const ServerProcess& server, unsigned number, Account& account)
        : client_(remofile::test::connect(server)), number_(number), account_(account), random_(number + 1) {}

    void work(const std::atomic<bool>& stop) {
        const std::string own = "own" + std::to_string(number_);
        check("mkdir", client_.mkdir(own));
        while (!stop && errors_.empty()) {
            const std::string path = own + "/file";
            const std::string text = random_text(random_, random_() % 65'536);
            write(path, text);
            if (read(path) != text)
                errors_.push_back("what is read of " + path + " is not what was written");
            const auto begun = Clock::now();
            const auto attributes = client_.stat("all/file" + std::to_string(random_() % 50));
            stat_ms_.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begun).count());
            check("stat", attributes);
            check("list", client_.list("all"));
            check("rename", client_.rename(path, own + "/moved"));
            check("unlink", client_.unlink(own + "/moved"));
        }
        const std::lock_guard guard(account_.mutex);
        std::ranges::move(errors_, std::back_inserter(account_.errors));
        std::ranges::copy(stat_ms_, std::back_inserter(account_.stat_ms));
        account_.calls += calls_;
    }

private:
    template <class T>
    void check(const char* what, const libremofile::Result<T>& result) {
        ++calls_;
        if (!result)
            errors_.push_back(std::string(what) + ": " + result.error().message);
    }
    void write(const std::string& path, const std::string& text) {
        auto file = client_.open(path, Open::write | Open::create | Open::truncate);
        check("open to write", file);
        if (!file)
            return;
        check("write", file->pwrite(std::as_bytes(std::span(text)), 0));
        check("close", file->close());
    }
    std::string read(const std::string& path) {
        std::string text(1U << 17, '\0');
        auto file = client_.open(path);
        check("open to read", file);
        if (!file)
            return {};
        const auto got = file->pread(std::as_writable_bytes(std::span(text)), 0);
        check("read", got);
        text.resize(got ? *got : 0);
        return text;
    }

    Client client_;
    const unsigned number_;
    Account& account_;
    std::minstd_rand random_;
    std::vector<std::string> errors_;
    std::vector<double> stat_ms_;
    std::uint64_t calls_ = 0;
};

// Reads all the time, until it is made to stand still.
int read_on(const ServerProcess& server) {
    const Client client = remofile::test::connect(server);
    std::string memory(1U << 20, '\0');
    for (;;) {
        auto file = client.open("big");
        if (!file)
            return 1;
        for (std::uint64_t offset = 0; offset < (8U << 20); offset += memory.size())
            if (!file->pread(std::as_writable_bytes(std::span(memory)), offset))
                return 1;
    }
}

// Connects without end, says something that is no message, and goes, or stays.
int talk_nonsense(int port) {
    std::minstd_rand random(1);
    std::vector<int> kept;
    for (;;) {
        const int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(static_cast<std::uint16_t>(port));
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (connection < 0 || connect(connection, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) {
            if (connection >= 0)
                close(connection);
            usleep(10'000);
            continue;
        }
        const std::string text = random_text(random, random() % 5'000);
        (void)!send(connection, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        kept.push_back(connection);
        if (kept.size() > 50) {
            close(kept.front());
            kept.erase(kept.begin());
        }
        usleep(2'000);
    }
}

double part(std::vector<double>& sorted, double share) {
    return sorted.empty() ? 0 : sorted[static_cast<std::size_t>(static_cast<double>(sorted.size() - 1) * share)];
}

}  // namespace

TEST_CASE("many clients at once, one of them standing still and one hostile, work without an error") {
    const unsigned clients = number_from("REMOFS_TEST_CLIENTS", 20);
    const std::chrono::seconds time{number_from("REMOFS_TEST_SECONDS", 3)};
    const std::string sessions = std::to_string(clients + 10);
    ServerProcess server({.directory = {},
                          .config_dir = {},
                          .arguments = {"--max-clients", sessions, "--max-clients-per-key", sessions}});
    std::filesystem::create_directory(server.directory() + "/all");
    for (int i = 0; i < 50; ++i)
        std::ofstream(server.directory() + "/all/file" + std::to_string(i)) << i;
    std::ofstream(server.directory() + "/big") << std::string(8U << 20, 'b');

    const Child frozen = Child::fork([&] { return read_on(server); });
    const Child hostile = Child::fork([&] { return talk_nonsense(server.port()); });
    Account account;
    std::atomic<bool> stop = false;
    std::vector<std::jthread> threads;
    {
        std::vector<std::unique_ptr<Worker>> workers;
        for (unsigned i = 0; i < clients; ++i)
            workers.push_back(std::make_unique<Worker>(server, i, account));
        for (auto& worker : workers)
            threads.emplace_back([&stop, mine = std::move(worker)] { mine->work(stop); });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    frozen.signal(SIGSTOP);
    std::this_thread::sleep_for(time);
    stop = true;
    threads.clear();

    for (const std::string& error : account.errors)
        UNSCOPED_INFO(error);
    CHECK(account.errors.empty());
    CHECK(account.calls > clients * 6);
    const double peak = peak_mib(server.pid());
    CHECK(peak > 0);
    CHECK(peak < 64 + 2.0 * clients);
    std::ranges::sort(account.stat_ms);
    std::cout << clients << " clients, " << time.count() << " s: " << account.calls << " calls, stat "
              << part(account.stat_ms, 0.5) << " ms at the median, " << part(account.stat_ms, 0.99)
              << " ms at the 99th percentile; the server has had " << peak << " MiB\n";
    // Whoever comes afterwards is let in.
    CHECK(remofile::test::connect(server).stat("big").has_value());
}
