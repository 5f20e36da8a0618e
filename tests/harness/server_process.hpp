// SPDX-License-Identifier: MIT
// A real remofile-server on a directory.
#pragma once

#include <string>
#include <vector>

#include "harness/child.hpp"

namespace remofile::test {

// The program to test as the build names it in the environment: REMOFILE_SERVER, REMOFS.
// Throws std::runtime_error if the variable is not set.
std::string program_from_environment(const char* variable);

class ServerProcess {
public:
    struct Options {
        std::string directory;   // the export; empty: a new one
        std::string config_dir;  // empty: a new one
        std::vector<std::string> arguments = {};
        std::string config_file = {};  // names its exports, in the place of `directory`
        std::optional<Credentials> as = {};
        std::vector<std::pair<std::string, std::string>> environment = {};  // added to the test's own
        bool lends_inodes = false;  // for which it makes a directory in the export when the network is slow
        bool keeps_files = false;   // for which it makes another when an open file is removed
        int open_files = 0;         // its limit of descriptors; 0: the test's own
        // A file that says which start of the machine it is, in the place of the kernel's; for root.
        std::string machine_start = {};
    };

    // Starts it on a free port of 127.0.0.1 and returns once it listens. Throws std::runtime_error, with what it
    // printed, if it does not within a few seconds.
    explicit ServerProcess(Options options);
    ServerProcess() : ServerProcess(Options{}) {}

    int port() const { return port_; }
    // All that it listens on: the first, and that of data lanes if there is one.
    const std::vector<int>& ports() const { return ports_; }
    // "HOST:PORT" of the first.
    std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
    const std::string& directory() const { return options_.directory; }
    const std::string& config_dir() const { return options_.config_dir; }
    std::string errors() const { return process_.errors(); }
    bool running() { return process_.running(); }
    pid_t pid() const { return process_.pid(); }

    // SIGTERM, and waits for its end.
    Ended stop();
    // SIGKILL.
    void kill();
    // After stop() or kill(): starts it again on the same port.
    void start_again();

private:
    void start(int port);

    Options options_;
    int port_ = 0;
    std::vector<int> ports_;
    Child process_;
};

}  // namespace remofile::test
