// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <string_view>

#include "base/clock.hpp"
#include "base/log.hpp"
#include "server/sessions/service_log.hpp"

namespace remofile::server {

// Says which requests took long, and where: so that a slow disk can be told from a client that asks too much. What the
// network takes is not in it. One thread.
class SlowRequestLog {
public:
    // Zero: says nothing.
    explicit SlowRequestLog(Duration slow) : slow_(slow) {}

    // `waited`: for requests before it, for other clients' leases and for a worker; `worked`: for the file system.
    void add(std::string_view request, std::string_view client, Duration waited, Duration worked, TimePoint now) {
        if (slow_ == Duration::zero() || waited + worked < slow_ || !limiter_.allow(now))
            return;
        const auto seconds = [](Duration time) { return std::chrono::duration<double>(time).count(); };
        log::warn("{} of {} took {:.1f} s: {:.1f} until its turn came, {:.1f} in the file system{}", request,
                  log::printable(client), seconds(waited + worked), seconds(waited), seconds(worked),
                  limiter_.last() ? "; no more such lines for a minute" : "");
    }

private:
    const Duration slow_;
    LogLimiter limiter_;
};

}  // namespace remofile::server
