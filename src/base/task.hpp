// SPDX-License-Identifier: MIT
// Coroutines, so that an operation made of several requests reads from top to bottom although no thread waits for it.
//
// All coroutines of one reactor run on its thread; nothing here locks. A coroutine must take its parameters by value
// (a reference would dangle once it suspends), and g++ 12 destroys a braced temporary in a co_await expression twice:
// name such an argument first; and it destroys what a co_await within a
// conditional expression yields too early: choose the task first, then await it. It also copies an awaiter that a call
// returns by reference, as in co_await *pointer; since Completion cannot be copied, that does not compile.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "base/assert.hpp"

namespace remofile {

template <class T>
class Task;

namespace detail {

struct TaskPromiseBase {
    // Whoever awaits the task; nobody yet while it runs for the first time.
    std::coroutine_handle<> continuation = std::noop_coroutine();

    struct FinalAwaiter {
        bool await_ready() noexcept { return false; }
        template <class Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> finished) noexcept {
            return finished.promise().continuation;
        }
        void await_resume() noexcept {}
    };

    std::suspend_always initial_suspend() noexcept { return {}; }
    FinalAwaiter final_suspend() noexcept { return {}; }
    // Errors travel as Result<T>; an exception that gets here is a bug or exhausted memory.
    void unhandled_exception() noexcept { std::terminate(); }
};

template <class T>
struct TaskPromise : TaskPromiseBase {
    std::optional<T> value;
    Task<T> get_return_object();
    template <class U>
    void return_value(U&& result) {
        value.emplace(std::forward<U>(result));
    }
    T take() { return std::move(*value); }
};

template <>
struct TaskPromise<void> : TaskPromiseBase {
    Task<void> get_return_object();
    void return_void() {}
    void take() {}
};

}  // namespace detail

// Work that starts when it is awaited (or given to spawn), at most once, and yields one T. Destroying a Task that has
// started and not finished destroys its frame: what it waits for must have been cancelled first, or take notice by its
// destructor.
template <class T = void>
class [[nodiscard]] Task {
public:
    using promise_type = detail::TaskPromise<T>;

    explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
    Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Task(const Task&) = delete;
    Task& operator=(const Task&) = delete;
    Task& operator=(Task&&) = delete;
    ~Task() {
        if (handle_)
            handle_.destroy();
    }

    auto operator co_await() && {
        // A task that ends without waiting for anything does not suspend its caller. (Were the caller resumed from the
        // task's end, a loop of such tasks would grow the stack where the compiler makes no tail call: g++ at -O0.)
        struct Awaiter {
            std::coroutine_handle<promise_type> handle;
            bool await_ready() { return false; }
            bool await_suspend(std::coroutine_handle<> awaiting) {
                handle.resume();
                if (handle.done())
                    return false;
                handle.promise().continuation = awaiting;
                return true;
            }
            T await_resume() { return handle.promise().take(); }
        };
        REMOFILE_ASSERT(handle_ && !handle_.done());
        return Awaiter{handle_};
    }

private:
    std::coroutine_handle<promise_type> handle_;
};

namespace detail {
template <class T>
Task<T> TaskPromise<T>::get_return_object() {
    return Task<T>(std::coroutine_handle<TaskPromise>::from_promise(*this));
}
inline Task<void> TaskPromise<void>::get_return_object() {
    return Task<void>(std::coroutine_handle<TaskPromise>::from_promise(*this));
}

// A coroutine that nobody awaits; it frees itself at its end.
struct Detached {
    struct promise_type {
        Detached get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() noexcept { std::terminate(); }
    };
};
}  // namespace detail

// Starts `task` now, on this thread, and lets it finish by itself.
inline void spawn(Task<void> task) {
    [](Task<void> owned) -> detail::Detached { co_await std::move(owned); }(std::move(task));
}

// A value that a callback delivers and one coroutine awaits. The object must outlive both; deliver() at most once, and
// on the thread of the coroutine. Delivering resumes the coroutine before deliver() returns.
template <class T>
class Completion {
public:
    Completion() = default;
    Completion(const Completion&) = delete;
    Completion& operator=(const Completion&) = delete;

    void deliver(T value) {
        REMOFILE_ASSERT(!value_.has_value());
        value_.emplace(std::move(value));
        if (waiting_)
            std::exchange(waiting_, nullptr).resume();
    }

    bool await_ready() const { return value_.has_value(); }
    void await_suspend(std::coroutine_handle<> waiting) {
        REMOFILE_ASSERT(!waiting_);
        waiting_ = waiting;
    }
    T await_resume() { return std::move(*value_); }

private:
    std::optional<T> value_;
    std::coroutine_handle<> waiting_;
};

}  // namespace remofile
