// SPDX-License-Identifier: MIT
// What STATFS said last of the export. find(1), git and many others ask for it whenever they begin; they need not wait.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "base/clock.hpp"
#include "base/task.hpp"
#include "client/session.hpp"
#include "transport/reactor.hpp"

namespace remofile::filesystem {

// One thread: the session's.
class Statistics {
public:
    // All must outlive it. `root`: the node to ask about. `all_is_sent`: whether the server has all that was written
    // here.
    Statistics(client::Session& session, transport::Reactor& reactor, const Clock& clock, std::function<NodeId()> root,
               std::function<bool()> all_is_sent);
    ~Statistics();
    Statistics(const Statistics&) = delete;
    Statistics& operator=(const Statistics&) = delete;

    // Something that takes room or gives it back was done from here: what was asked for before is not current.
    void changed() { ++changes_; }

    // When a question was asked.
    struct Asked {
        TimePoint at{};
        std::uint64_t changes = 0;
    };
    // What is on its way takes room when it arrives: an answer of before is not current for a moment.
    Asked asking() const { return {clock_.now(), all_is_sent_() ? changes_ : never_current}; }
    void learn(const Asked& asked, const wire::StatfsReply& reply) { known_ = {asked, reply}; }

    // What may be told without asking: not older than `life`, and nothing was done from here since. Null if there is
    // none. For a while after somebody wanted it, it is asked for now and then.
    const wire::StatfsReply* current();
    // What was told last, however old.
    const wire::StatfsReply* last() const { return known_ ? &known_->reply : nullptr; }

    static constexpr std::chrono::seconds life{10};

private:
    static constexpr std::uint64_t never_current = UINT64_MAX;

    struct Known {
        Asked asked;
        wire::StatfsReply reply;
    };
    struct Question {
        bool is_void = false;  // nobody is there any more to know the answer
    };

    void tick();
    Task<void> ask(std::shared_ptr<Question> question);

    client::Session& session_;
    transport::Reactor& reactor_;
    const Clock& clock_;
    std::function<NodeId()> root_;
    std::function<bool()> all_is_sent_;
    std::uint64_t changes_ = 0;
    std::optional<Known> known_;
    TimePoint wanted_at_{};
    std::optional<transport::TimerId> timer_;
    std::shared_ptr<Question> question_;  // under way; shared with the coroutine that asks
};

}  // namespace remofile::filesystem
