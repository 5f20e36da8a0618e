// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string>

namespace remofile::transport {

// The ZeroMQ context of the program: its I/O threads. Make it after the last fork(): threads do not survive one.
// It must outlive all lanes and listeners; its destructor waits for nothing (every socket lingers for a bounded time).
class Context {
public:
    explicit Context(int io_threads = 1);
    ~Context();
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    void* handle() const;  // libzmq's, for this layer alone
    // A name that no other call has returned, for an inproc endpoint. Callable from any thread.
    std::string unique_name();

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace remofile::transport
