// SPDX-License-Identifier: MIT
// What another program writes to this one, piece by piece.
#pragma once

#include "base/buffer.hpp"
#include "base/result.hpp"
#include "base/task.hpp"
#include "transport/reactor.hpp"

namespace remofile::cli {

// One thread: the reactor's, which serves others while nothing comes.
class StandardInput {
public:
    explicit StandardInput(transport::Reactor& reactor) : reactor_(reactor) {}

    // As many bytes as asked for; fewer only at the end. Errors: those of read().
    Task<Result<Buffer>> read(std::size_t bytes);

private:
    Task<void> readable();

    transport::Reactor& reactor_;
};

}  // namespace remofile::cli
