// SPDX-License-Identifier: MIT
// Files and directories that the server has lent, so that programs can be told the number of what they make before the
// server has been asked, and its time. docs/adr/0021-lent-inodes.md.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>

#include "base/clock.hpp"
#include "base/counters.hpp"
#include "base/task.hpp"
#include "client/session.hpp"

namespace remofile::filesystem {

// One thread: the session's.
class LentInodes {
public:
    enum class Kind : std::uint8_t { file, directory };

    // `borrows`: else there are never any. All must outlive it.
    LentInodes(client::Session& session, const Clock& clock, Counters& counters, bool borrows);
    LentInodes(const LentInodes&) = delete;
    LentInodes& operator=(const LentInodes&) = delete;

    // The server has lent some for the first time, for which it may have made a place in the export's root.
    std::function<void()> on_first;

    // The server has nothing lent any more.
    void lost();

    // Something is about to be made: what the server's clock says is found out, if it is not known.
    // `directory`: any on the file system of the export's root.
    void expect(NodeId directory);
    // What is to be asked along with something that is made there, for what will be made next; nothing if there are
    // some already, or none to be had. Then the answer is to be told.
    std::optional<wire::LendInodes> ask_along(NodeId directory);
    void came_along(const Result<wire::LendInodesReply>& reply);
    // One, if there is any, from which something is made now. More are asked for when few are left.
    std::optional<wire::LentInode> take(Kind kind, NodeId directory);
    // The time from which the server's file system takes its own, or a little earlier, but no earlier than at the last
    // call; nothing if it is not known.
    std::optional<wire::Timestamp> now();

private:
    struct Pool {
        std::deque<wire::LentInode> inodes;
        std::uint32_t wanted = 0;
    };
    Pool& pool(Kind kind) { return pools_[static_cast<std::size_t>(kind)]; }

    void begin_epoch();
    bool may_ask() const;
    Task<void> ask(NodeId directory, std::uint32_t files, std::uint32_t directories);
    void take_in(wire::LendInodesReply reply);

    client::Session& session_;
    const Clock& clock_;
    const bool borrows_;
    std::uint64_t epoch_ = 0;  // of which all this is
    bool asking_ = false;
    bool refused_ = false;  // there are none to be had
    bool had_any_ = false;
    std::array<Pool, 2> pools_;                       // by Kind
    std::optional<std::chrono::nanoseconds> offset_;  // of the server's clock from ours, or a little less
    std::chrono::nanoseconds last_{};
    Counters::Counter& taken_;
    Counters::Counter& missed_;
};

}  // namespace remofile::filesystem
