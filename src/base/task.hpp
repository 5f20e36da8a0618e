// SPDX-License-Identifier: MIT
// Coroutines, so that an operation made of several requests reads from top to bottom although no thread waits for it.
//
// All coroutines of one reactor run on its thread; nothing here locks. A coroutine must take its parameters by value
// (a reference would dangle once it suspends), and g++ 12 destroys a braced temporary in a co_await expression twice:
// name such an argument first; and it destroys what a co_await within a
// conditional expression yields too early: choose the task first, then await it. It also copies an awaiter that a call
// returns by reference, as in co_await *pointer; since Completion cannot be copied, that does not compile.
//
// An exception ends the work that it happens to, not the process: a task of a Result or of a Status yields it as an
// error, any other task throws it where it is awaited, and spawn() reports it.
#pragma once

#include <coroutine>
#include <exception>
#include <new>
#include <optional>
#include <utility>

#include "base/assert.hpp"
#include "base/exception.hpp"
#include "base/result.hpp"

namespace remofile {

template <class T>
class Task;

namespace detail {

// Whether a value of the type may say what went wrong.
template <class T>
inline constexpr bool holds_errors = std::is_same_v<T, Status>;
template <class T>
inline constexpr bool holds_errors<Result<T>> = true;

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
};

template <class T>
struct TaskPromise : TaskPromiseBase {
    std::optional<T> value;
    std::exception_ptr exception;  // in place of a value

    Task<T> get_return_object();
    static Task<T> get_return_object_on_allocation_failure() noexcept;
    template <class U>
    void return_value(U&& result) {
        value.emplace(std::forward<U>(result));
    }
    void unhandled_exception() noexcept {
        if constexpr (holds_errors<T>)
            value.emplace(status_of_exception("a task"));
        else
            exception = std::current_exception();
    }
    T take() {
        if (exception)
            std::rethrow_exception(exception);
        return std::move(*value);
    }
    // In place of take() for a task that there was no memory for.
    static T take_nothing() {
        if constexpr (holds_errors<T>)
            return Status::out_of_memory;
        else
            throw std::bad_alloc();
    }
};

template <>
struct TaskPromise<void> : TaskPromiseBase {
    std::exception_ptr exception;

    Task<void> get_return_object();
    static Task<void> get_return_object_on_allocation_failure() noexcept;
    void return_void() {}
    void unhandled_exception() noexcept { exception = std::current_exception(); }
    void take() {
        if (exception)
            std::rethrow_exception(exception);
    }
    [[noreturn]] static void take_nothing() { throw std::bad_alloc(); }
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
    // There was no memory for its frame; whoever awaits it is told.
    explicit Task(std::nullptr_t) noexcept : failed_(true) {}
    Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)), failed_(other.failed_) {}
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
            bool await_ready() { return !handle; }
            bool await_suspend(std::coroutine_handle<> awaiting) {
                handle.resume();
                if (handle.done())
                    return false;
                handle.promise().continuation = awaiting;
                return true;
            }
            T await_resume() { return handle ? handle.promise().take() : promise_type::take_nothing(); }
        };
        REMOFILE_ASSERT(failed_ || (handle_ && !handle_.done()));
        return Awaiter{handle_};
    }

private:
    std::coroutine_handle<promise_type> handle_;
    bool failed_ = false;
};

namespace detail {
template <class T>
Task<T> TaskPromise<T>::get_return_object_on_allocation_failure() noexcept {
    return Task<T>(nullptr);
}
inline Task<void> TaskPromise<void>::get_return_object_on_allocation_failure() noexcept {
    return Task<void>(nullptr);
}
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
        Detached get_return_object() { return {true}; }
        static Detached get_return_object_on_allocation_failure() noexcept { return {false}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() noexcept { status_of_exception("what follows a failed task"); }
    };
    bool started;
};

template <class OnFailure>
Detached run_detached(Task<void> task, OnFailure on_failure) {
    Status status = Status::ok;
    {
        Task<void> owned = std::move(task);  // what it holds goes before anybody hears of its end
        try {
            co_await std::move(owned);
        } catch (...) {
            status = status_of_exception("a task");
        }
    }
    if (status != Status::ok)
        on_failure(status);
}
}  // namespace detail

// Starts `task` now, on this thread, and lets it finish by itself. If an exception ends it, or there is no memory to
// start it, `on_failure` is called with the status, once what the task held is gone: it is for what the task would have
// done at its end. Copies of `on_failure` must not throw.
template <class OnFailure>
void spawn(Task<void> task, OnFailure on_failure) {
    if (!detail::run_detached(std::move(task), on_failure).started)
        on_failure(Status::out_of_memory);
}
inline void spawn(Task<void> task) {
    spawn(std::move(task), [](Status) {});
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
