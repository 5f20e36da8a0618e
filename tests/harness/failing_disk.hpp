// SPDX-License-Identifier: MIT
// A disk that fails at the Nth call: remofile-server runs with a library preloaded (failing_calls.cpp) that refuses
// some of its system calls on files, as a test says in memory that both have mapped.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace remofile::test {

// What lies in the file whose name the variable has.
struct FailingCalls {
    static constexpr char variable[] = "REMOFILE_TEST_FAILING_CALLS";
    enum Kind : std::uint32_t {
        contents = 1,  // that write, or set a size
        making = 2,    // that give names
        syncing = 4,
    };

    std::atomic<std::uint32_t> kinds = 0;
    std::atomic<int> error = 0;
    std::atomic<std::int64_t> passing = 0;  // so many of these kinds still pass
    std::atomic<std::int64_t> failing = 0;  // and then so many fail
    std::atomic<std::uint64_t> failed = 0;
    std::atomic<std::uint32_t> slow_kinds = 0;  // these take so long
    std::atomic<std::uint32_t> delay_ms = 0;
    std::atomic<bool> says_full = false;  // of room and quotas: there is none left
};

class FailingDisk {
public:
    // `says_full`: whoever asks for its room and quotas is told that there is none left, while calls still succeed.
    explicit FailingDisk(bool says_full = false);
    ~FailingDisk();
    FailingDisk(const FailingDisk&) = delete;
    FailingDisk& operator=(const FailingDisk&) = delete;

    // For the server.
    std::vector<std::pair<std::string, std::string>> environment() const;

    void fail(std::uint32_t kinds, int error, std::int64_t passing, std::int64_t failing);
    // Calls of these kinds take so much longer from now on.
    void slow_down(std::uint32_t kinds, std::uint32_t delay_ms);
    // How many calls have failed since.
    std::uint64_t mend();

private:
    std::string path_;
    FailingCalls* calls_;  // in memory that is mapped
};

}  // namespace remofile::test
