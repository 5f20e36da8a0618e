// SPDX-License-Identifier: MIT
// Processes that a test starts: programs, and functions in a forked process, whose output is kept and which cannot
// outlive the test.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.hpp"
#include "harness/patience.hpp"

namespace remofile::test {

// The user that a process acts as.
struct Credentials {
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> groups = {};
};

struct Command {
    std::vector<std::string> arguments;                                 // the first is the program, looked up in PATH
    std::vector<std::pair<std::string, std::string>> environment = {};  // added to the test's own
    std::string directory = {};          // to start in; empty: the test's own, or as another user the scratch one
    std::optional<Credentials> as = {};  // empty: the test's own
};

// How a process ended.
struct Ended {
    int exit_status = -1;  // as a shell gives it: 128 + N for signal N; -1: it was still running at the deadline
    std::string output;    // standard output
    std::string errors;    // standard error
    std::chrono::duration<double> took{};

    bool timed_out() const { return exit_status == -1; }
    // For INFO(): everything above.
    std::string to_string() const;
};

// Not to be shared between threads; start it from the main thread, since the kernel kills the process with the thread
// that started it.
class Child {
public:
    static Child start(const Command& command);
    // `body` runs in a forked copy of this process and returns its exit status.
    static Child fork(const std::function<int()>& body, const std::optional<Credentials>& as = {});

    Child(Child&& other) noexcept;
    Child& operator=(Child&& other) noexcept;
    // Kills it and its process group with SIGKILL.
    ~Child();

    pid_t pid() const { return pid_; }
    void signal(int number) const;
    bool running();
    // Waits until it has ended or `deadline` (times slowness()) has passed.
    Ended wait(Milliseconds deadline);
    // SIGKILL to its whole group, then waits a moment. False: it does not even die of that.
    bool destroy();

    // What it has written so far.
    std::string output() const;
    std::string errors() const;

private:
    Child() = default;
    bool reap();

    pid_t pid_ = -1;
    bool ended_ = false;
    int exit_status_ = -1;
    std::chrono::steady_clock::time_point started_;
    UniqueFd output_;
    UniqueFd errors_;
};

// Starts a program and waits for its end; kills it at the deadline.
Ended run(const Command& command, Milliseconds deadline = Milliseconds{60'000});

// The same for a script of /bin/sh, which stops at the first command that fails.
Ended run_script(const std::string& directory, const std::string& script, Milliseconds deadline = Milliseconds{60'000});

// True if PATH has the program.
bool is_installed(const std::string& program);

// Processes telling each other "now", across fork().
class Bell {
public:
    Bell();
    void ring() const;
    // False if nobody rang before the deadline (times slowness()).
    bool await(Milliseconds deadline = Milliseconds{20'000}) const;

private:
    UniqueFd read_end_;
    UniqueFd write_end_;
};

}  // namespace remofile::test
