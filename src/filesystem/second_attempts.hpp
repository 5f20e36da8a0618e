// SPDX-License-Identifier: MIT
// Second attempts of system calls whose first one came too late.
//
// A file may be replaced between the look-up of its name and the request that follows: ESTALE. The kernel hides that,
// as it does for NFS, by walking the path anew, once. Where a name is replaced often, or the server is far away, the
// second walk comes too late as well. So whatever a look-up finds for a thread that has been told ESTALE is held at the
// server for a while, by a handle that is opened in the same message.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "base/clock.hpp"
#include "client/session.hpp"
#include "transport/reactor.hpp"

namespace remofile::filesystem {

// One thread: the session's.
class SecondAttempts {
public:
    // Both must outlive it.
    SecondAttempts(transport::Reactor& reactor, client::Session& session) : reactor_(reactor), session_(session) {}
    ~SecondAttempts();
    SecondAttempts(const SecondAttempts&) = delete;
    SecondAttempts& operator=(const SecondAttempts&) = delete;

    // The thread is told ESTALE.
    void expect(std::uint32_t thread);
    // Whether a look-up by this thread may be of a second attempt.
    bool is_one(std::uint32_t thread) const;
    // Takes over a handle that holds what such a look-up has found.
    void hold(HandleId handle);

private:
    struct Thread {
        std::uint32_t id;
        TimePoint until;
    };
    struct Held {
        HandleId handle;
        std::uint64_t epoch;
        TimePoint until;
    };

    void tidy_later();
    void tidy();
    void release_first();

    transport::Reactor& reactor_;
    client::Session& session_;
    // Both in the order of their time.
    std::deque<Thread> threads_;
    std::deque<Held> held_;
    std::optional<transport::TimerId> timer_;
};

}  // namespace remofile::filesystem
