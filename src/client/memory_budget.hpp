// SPDX-License-Identifier: MIT
// The one hard limit (cache_size) on what a client keeps in memory: cached blocks, blocks on their way, dirty data.
#pragma once

#include <cstddef>
#include <functional>
#include <utility>

namespace remofile::client {

// One thread. Whoever wants bytes charges them first; caches that can give some back are asked when it gets tight.
class MemoryBudget {
public:
    explicit MemoryBudget(std::size_t limit_bytes) : limit_bytes_(limit_bytes) {}
    MemoryBudget(const MemoryBudget&) = delete;
    MemoryBudget& operator=(const MemoryBudget&) = delete;

    // Bytes charged for the life of the object.
    class Charge {
    public:
        Charge() = default;
        Charge(Charge&& other) noexcept
            : budget_(std::exchange(other.budget_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
        Charge& operator=(Charge&& other) noexcept {
            resize(0);
            budget_ = std::exchange(other.budget_, nullptr);
            bytes_ = std::exchange(other.bytes_, 0);
            return *this;
        }
        ~Charge() { resize(0); }
        std::size_t bytes() const { return bytes_; }
        // Gives back what is more than `bytes`; never grows.
        void resize(std::size_t bytes) {
            if (budget_ == nullptr || bytes >= bytes_)
                return;
            budget_->used_bytes_ -= bytes_ - bytes;
            bytes_ = bytes;
        }

    private:
        friend MemoryBudget;
        Charge(MemoryBudget* budget, std::size_t bytes) : budget_(budget), bytes_(bytes) {}
        MemoryBudget* budget_ = nullptr;
        std::size_t bytes_ = 0;
    };

    // Charges `bytes`, after the reclaimer has freed what is missing. False, and nothing charged, if it could not.
    bool charge(std::size_t bytes, Charge& charge) {
        if (bytes > limit_bytes_)
            return false;
        if (used_bytes_ + bytes > limit_bytes_ && reclaim_)
            reclaim_(used_bytes_ + bytes - limit_bytes_);
        if (used_bytes_ + bytes > limit_bytes_)
            return false;
        used_bytes_ += bytes;
        charge = Charge(this, bytes);
        turnover_bytes_ += bytes;
        if (turnover_bytes_ >= watch_bytes && watch_) {
            turnover_bytes_ = 0;
            watch_();
        }
        return true;
    }

    // Called to free at least so many bytes, if it can.
    void set_reclaimer(std::function<void(std::size_t bytes)> reclaim) { reclaim_ = std::move(reclaim); }

    // Called whenever another `watch_bytes` have been charged; charges nothing itself.
    static constexpr std::size_t watch_bytes = 8U << 20;
    void set_watch(std::function<void()> watch) { watch_ = std::move(watch); }

    std::size_t limit_bytes() const { return limit_bytes_; }
    std::size_t used_bytes() const { return used_bytes_; }

private:
    std::size_t limit_bytes_;
    std::size_t used_bytes_ = 0;
    std::size_t turnover_bytes_ = 0;  // since the watch was called last
    std::function<void(std::size_t)> reclaim_;
    std::function<void()> watch_;
};

}  // namespace remofile::client
