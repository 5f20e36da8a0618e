// SPDX-License-Identifier: MIT
// A session's thread for what would hold up the reactor: compressing what is sent, decompressing what has arrived.
#pragma once

#include <functional>
#include <memory>

namespace remofile::client {

// The thread begins with the first work: most sessions on fast links never need it. What is submitted and not done is
// bounded by the users: the replies of a window, and max_prepared_batches of requests.
class CodecThread {
public:
    using Work = std::move_only_function<void()>;

    CodecThread();
    // Drops what has not begun and waits for the rest: one block of at most wire::max_bulk_bytes.
    ~CodecThread();
    CodecThread(const CodecThread&) = delete;
    CodecThread& operator=(const CodecThread&) = delete;

    // Runs `work` on the thread, in the order given. Reactor's thread only.
    void submit(Work work);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace remofile::client
