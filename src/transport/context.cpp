// SPDX-License-Identifier: MIT
#include "transport/context.hpp"

#include <zmq.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

#include "base/assert.hpp"

namespace remofile::transport {
namespace {

// Sockets of one process: a lane has two, a listener two and its ZAP handler two. Far above what one program opens.
constexpr int max_sockets = 4096;

}  // namespace

struct Context::State {
    void* zmq_context = nullptr;
    std::atomic<std::uint64_t> names{0};
};

Context::Context(int io_threads) : state_(std::make_unique<State>()) {
    state_->zmq_context = zmq_ctx_new();
    REMOFILE_ASSERT(state_->zmq_context != nullptr);
    REMOFILE_ASSERT(zmq_ctx_set(state_->zmq_context, ZMQ_IO_THREADS, io_threads) == 0);
    REMOFILE_ASSERT(zmq_ctx_set(state_->zmq_context, ZMQ_MAX_SOCKETS, max_sockets) == 0);
}

Context::~Context() {
    while (zmq_ctx_term(state_->zmq_context) != 0)
        REMOFILE_ASSERT(zmq_errno() == EINTR);
}

void* Context::handle() const {
    return state_->zmq_context;
}

std::string Context::unique_name() {
    return std::to_string(state_->names.fetch_add(1, std::memory_order_relaxed));
}

}  // namespace remofile::transport
