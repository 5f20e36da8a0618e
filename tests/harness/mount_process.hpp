// SPDX-License-Identifier: MIT
// A real remofs with its mount.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "harness/child.hpp"
#include "harness/server_process.hpp"

namespace remofile::test {

// Ends when all that was done below a mountpoint before has been carried out at the server: a program there sees it
// only then. Nothing on a local directory.
void carried_out(const std::string& mountpoint);

class MountProcess {
public:
    struct Options {
        std::string source;      // such as "localhost:40123:/"
        std::string config_dir;  // where its keys are; the server's: it is then of the server's own account
        std::vector<std::string> options = {};  // those after -o
        std::string mountpoint = {};            // empty: a new directory
        std::optional<Credentials> as = {};
        bool foreground = true;  // with -f; else it is awaited to put itself in the background
    };

    // Starts it and returns once the mount is usable. Throws std::runtime_error, with what it printed, if that fails.
    explicit MountProcess(Options options);
    // The root of `server`'s export, by an account that it lets in.
    explicit MountProcess(const ServerProcess& server, std::vector<std::string> options = {});
    MountProcess(MountProcess&&) = default;
    MountProcess& operator=(MountProcess&&) = delete;
    // Unmounts, politely first, then by force.
    ~MountProcess();

    const std::string& path() const { return options_.mountpoint; }
    const std::string& config_dir() const { return options_.config_dir; }
    std::string errors() const { return process_.errors(); }
    pid_t pid() const { return process_.pid(); }
    bool running() { return process_.running(); }
    Child& process() { return process_; }

    // One of its counters, which it logs when it is asked to. It must run with -f.
    std::uint64_t counted(const std::string& name);
    // True if it is in the mount table and a stat of its root is answered within some seconds.
    bool alive() const;
    // umount(8)'s way, then waits until the daemon has ended. False if either did not work within some seconds.
    bool unmount();
    // Unmounts whatever the daemon's state, and kills it.
    void destroy();

private:
    Options options_;
    Child process_;
};

// SOURCE for `path` of the export of a server on this machine.
std::string source_of(int port, const std::string& path = "/");

// The root of `server`'s export by way of another address of this machine: a proxy's.
MountProcess::Options through(const ServerProcess& server, const std::string& address,
                              std::vector<std::string> options = {});

// The command line of remofs, and its environment.
Command remofs_command(const MountProcess::Options& options);

}  // namespace remofile::test
