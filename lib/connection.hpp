// SPDX-License-Identifier: MIT
// The thread on which a Client's session lives, and the way there from the program's threads.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <thread>

#include "base/counters.hpp"
#include "client/connect_options.hpp"
#include "client/remote_tree.hpp"
#include "client/session.hpp"
#include "client/waiters.hpp"
#include "remofile/client.hpp"
#include "transport/context.hpp"
#include "transport/reactor.hpp"

namespace libremofile::detail {

// The public form of an internal error.
Error to_public(const remofile::Error& error);
Attributes to_public(const remofile::wire::Attributes& attributes);

template <class T>
Result<T> to_public(remofile::Result<T> result) {
    if (!result)
        return std::unexpected(to_public(result.error()));
    if constexpr (std::is_void_v<T>)
        return {};
    else
        return std::move(*result);
}

// Shared by a Client, its open files and directories. What runs on its own thread refers to it without a share, so that
// the last one never goes there.
class Connection {
public:
    // Connects, and waits for that.
    static remofile::Result<std::shared_ptr<Connection>> open(remofile::client::SessionOptions options);
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    // Carries out `task` on the connection's thread and waits for its result. Any thread but that one; the task's
    // requests have their own deadlines. shutting_down once the connection is closed, or in a forked process.
    template <class T>
    remofile::Result<T> run(remofile::Task<remofile::Result<T>> task);
    // Carries out `work` there, without waiting; not at all once the connection is closed.
    void post(std::move_only_function<void(remofile::client::Session&)> work);

    // Ends the session and the thread; calls of other threads end with shutting_down, and it returns after them. Any
    // thread but the connection's own, any number of times.
    void close();

    // For tasks.
    remofile::client::Session& session() { return *session_; }
    remofile::client::RemoteTree& tree() { return *tree_; }
    // As RemoteTree::find(), tried again in the new session if the old one is lost meanwhile: nothing is changed yet.
    remofile::Task<remofile::Result<remofile::client::RemoteFile>> find(std::string path,
                                                                        remofile::client::Symlinks symlinks);
    remofile::Task<remofile::Result<remofile::client::RemotePlace>> find_place(std::string path);

private:
    Connection();
    bool enter();
    void leave();
    void end();
    remofile::Task<void> begin(remofile::client::SessionOptions options, std::promise<remofile::Result<>> opened);
    remofile::Task<remofile::Result<>> act_as_caller();
    remofile::Task<remofile::Result<>> tell_caller();
    template <class T>
    remofile::Task<void> carry_out(remofile::Task<remofile::Result<T>> task, std::promise<remofile::Result<T>> promise);

    // Constant after construction.
    const pid_t process_;
    // The thread's own.
    remofile::transport::Context context_;
    remofile::transport::Reactor reactor_;
    remofile::Counters counters_;
    std::unique_ptr<remofile::client::Session> session_;
    std::unique_ptr<remofile::client::RemoteTree> tree_;
    std::uint64_t acting_in_epoch_ = 0;  // as the caller
    bool telling_caller_ = false;
    remofile::client::Waiters caller_told_;

    std::once_flag end_once_;
    // Guarded by mutex_.
    std::mutex mutex_;
    std::condition_variable left_;
    bool closed_ = false;
    int inside_ = 0;  // calls of run() and post()

    std::thread thread_;
};

// What was promised; an exception that ended the task (it is logged) has broken the promise.
template <class T>
remofile::Result<T> outcome_of(std::future<remofile::Result<T>>& future) {
    try {
        return future.get();
    } catch (const std::future_error&) {
        return remofile::Status::out_of_memory;
    }
}

template <class T>
remofile::Task<void> Connection::carry_out(remofile::Task<remofile::Result<T>> task,
                                           std::promise<remofile::Result<T>> promise) {
    auto acting = co_await act_as_caller();
    if (!acting) {
        promise.set_value(acting.error());
        co_return;
    }
    auto result = co_await std::move(task);
    promise.set_value(std::move(result));
}

template <class T>
remofile::Result<T> Connection::run(remofile::Task<remofile::Result<T>> task) {
    if (!enter())
        return remofile::Status::shutting_down;
    std::promise<remofile::Result<T>> promise;
    auto future = promise.get_future();
    reactor_.post([this, task = std::move(task), promise = std::move(promise)]() mutable {
        remofile::spawn(carry_out(std::move(task), std::move(promise)));
    });
    remofile::Result<T> result = outcome_of(future);
    leave();
    return result;
}

}  // namespace libremofile::detail
