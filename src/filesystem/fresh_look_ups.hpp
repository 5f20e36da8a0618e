// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>

#include "base/clock.hpp"
#include "filesystem/inode_number.hpp"
#include "wire/messages.hpp"

namespace remofile::filesystem {

// What threads have just been told of the names that they looked up. The kernel makes two requests of stat(2) with a
// path, LOOKUP and GETATTR, and the answer to the first is good for the second, which follows within microseconds.
// One thread: the session's.
class FreshLookUps {
public:
    struct Answer {
        InodeNumber inode = 0;
        wire::Attributes attributes;
        std::uint64_t event = 0;  // FileContents::now() when it was given
        TimePoint given_at{};
    };

    explicit FreshLookUps(const Clock& clock) : clock_(clock) {}

    void add(std::uint32_t thread, Answer answer) {
        // Threads of other process namespaces have no number.
        if (thread == 0)
            return;
        if (answers_.size() == max_threads)
            answers_.clear();
        answer.given_at = clock_.now();
        answers_.insert_or_assign(thread, std::move(answer));
    }
    // For the next request of the thread, whatever it is: none if it cannot be of the same system call.
    std::optional<Answer> take(std::uint32_t thread) {
        const auto found = answers_.find(thread);
        if (found == answers_.end())
            return std::nullopt;
        const Answer answer = found->second;
        answers_.erase(found);
        return clock_.now() - answer.given_at <= life ? std::optional(answer) : std::nullopt;
    }

private:
    static constexpr auto life = std::chrono::milliseconds(1);
    static constexpr std::size_t max_threads = 64;

    const Clock& clock_;
    std::unordered_map<std::uint32_t, Answer> answers_;
};

}  // namespace remofile::filesystem
