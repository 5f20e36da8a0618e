// SPDX-License-Identifier: MIT
// A value that can only be reached with its lock held.
#pragma once

#include <mutex>
#include <utility>

namespace remofile {

template <class T>
class Guarded {
public:
    Guarded() = default;
    explicit Guarded(T value) : value_(std::move(value)) {}

    class Access {
    public:
        T* operator->() { return value_; }
        T& operator*() { return *value_; }

    private:
        friend Guarded;
        Access(std::mutex& mutex, T& value) : lock_(mutex), value_(&value) {}
        std::unique_lock<std::mutex> lock_;
        T* value_;
    };

    // Holds the lock for the life of the returned object. Never keep it across I/O, a callback or a reply.
    [[nodiscard]] Access lock() { return Access(mutex_, value_); }

    // Runs `work` on the value under the lock and returns what it returns.
    template <class Work>
    decltype(auto) with(Work&& work) {
        const std::lock_guard guard(mutex_);
        return std::forward<Work>(work)(value_);
    }

private:
    std::mutex mutex_;
    T value_;
};

}  // namespace remofile
