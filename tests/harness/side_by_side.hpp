// SPDX-License-Identifier: MIT
// A mounted export beside a local directory of the same file system: whatever a program does must give the same in
// both.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "harness/child.hpp"
#include "harness/mount_process.hpp"
#include "harness/server_process.hpp"
#include "harness/transcript.hpp"

namespace remofile::test {

// True if REMOFS_TEST_LOCALLY is set: a second local directory then stands in for the mount, which tests the tests.
bool testing_locally();

// A directory at the server. Whoever forms a name in it is going to look there, or to change something: so all that was
// done on the mount before has been carried out then.
class ServerPath {
public:
    ServerPath(std::string path, std::string mountpoint) : path_(std::move(path)), mountpoint_(std::move(mountpoint)) {}
    const std::string& get() const {
        carried_out(mountpoint_);
        return path_;
    }
    operator const std::string&() const { return get(); }
    const char* c_str() const { return get().c_str(); }
    friend std::string operator+(const ServerPath& directory, const std::string& name) {
        return directory.get() + name;
    }

private:
    std::string path_;
    std::string mountpoint_;
};

class SideBySide {
public:
    struct Options {
        ServerProcess::Options server = {};
        std::vector<std::string> mount_options = {};
    };

    explicit SideBySide(Options options);
    SideBySide() : SideBySide(Options{}) {}

    using Body = std::function<void(Transcript& here)>;

    // Runs `body` in a forked process, as `as`, first in a fresh local directory, then in one on the mount, and
    // compares the two transcripts. Returns a report of what differed, hung or broke; empty if nothing did. A body uses
    // relative names. `prepare` is run in each directory beforehand by the test's own user, in the mount's case in the
    // server's directory.
    std::string compare(const Body& body, const std::optional<Credentials>& as = {}, const Body& prepare = {},
                        Milliseconds deadline = Milliseconds{60'000});

    // Fresh directories of one name, for tests that do their own comparing.
    struct Pair {
        std::string local;    // the model
        std::string mounted;  // through the mount
        ServerPath export_;   // the mounted one's directory at the server
    };
    Pair make_pair();

    // Mounts again if the mount is gone or does not answer.
    void ensure_mounted();
    void remount();

    ServerProcess* server() { return server_.get(); }  // null when testing locally
    const std::string& mountpoint() const { return mountpoint_; }

private:
    std::string run_in(const std::string& directory, const Body& body, const std::optional<Credentials>& as,
                       Milliseconds deadline, std::string& transcript);

    Options options_;
    std::string local_;
    std::string export_;
    std::string mountpoint_;
    std::unique_ptr<ServerProcess> server_;
    std::unique_ptr<MountProcess> mount_;
    int pairs_ = 0;
};

}  // namespace remofile::test
