// SPDX-License-Identifier: MIT
// Finds out why a connection could not be made: libzmq 4.3.4 reports that, but not the reason. Internal to this layer.
#pragma once

#include <functional>
#include <memory>

#include "base/unique_fd.hpp"
#include "transport/reactor.hpp"
#include "transport/resolver.hpp"

namespace remofile::transport {

class ConnectProbe {
public:
    // Tries to connect to the same place and calls `on_result` once, not before the constructor has returned, with the
    // errno, or 0 if there is none after all. That takes as long as TCP takes to find out; destroying the probe ends
    // it, and the handler may do that.
    ConnectProbe(Reactor& reactor, const Candidate& candidate, std::function<void(int errno_value)> on_result);
    ~ConnectProbe();
    ConnectProbe(const ConnectProbe&) = delete;
    ConnectProbe& operator=(const ConnectProbe&) = delete;

private:
    void finish_soon(int errno_value);

    Reactor& reactor_;
    UniqueFd fd_;
    TimerId timer_;
    std::shared_ptr<std::function<void(int)>> on_result_;  // shared with a call under way
};

}  // namespace remofile::transport
