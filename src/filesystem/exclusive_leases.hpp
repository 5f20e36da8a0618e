// SPDX-License-Identifier: MIT
// The directories that no other client looks into before what was answered from here is carried out: asks for their
// leases, and shares them when another wants to look.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/counters.hpp"
#include "base/task.hpp"
#include "client/session.hpp"
#include "filesystem/inode_map.hpp"
#include "filesystem/leased_names.hpp"

namespace remofile::filesystem {

// One thread: the session's.
class ExclusiveLeases {
public:
    // Ends when all is carried out that was answered from here and that whoever looks into the directory could miss.
    using CarriedOut = std::function<Task<void>(InodeNumber directory)>;
    // Numbers that rise with each event of the file system; see FileContents::now().
    using Events = std::function<std::uint64_t()>;

    // All must outlive it. Takes over LeasedNames::on_shared and on_lost.
    ExclusiveLeases(client::Session& session, const Clock& clock, Counters& counters, InodeMap& inodes,
                    LeasedNames& names, Events now, CarriedOut carried_out);
    ~ExclusiveLeases();
    ExclusiveLeases(const ExclusiveLeases&) = delete;
    ExclusiveLeases& operator=(const ExclusiveLeases&) = delete;

    // Never asks for one.
    void disable() { disabled_ = true; }

    // Whether names of the directory may be made and removed from here, without asking, as far as they are known.
    bool holds(InodeNumber directory) const;

    // Something is about to be changed in the directory, by a request that is waited for. With the second in a row its
    // lease is asked for: one alone is not worth that others lose theirs. With a removal, those of directories that are
    // likely to follow too.
    enum class Change : std::uint8_t { any, removal };
    void ask_for(InodeNumber directory, Change change = Change::any);
    // The directory is made by the request that was sent right before: nobody else knows of it, and it is empty.
    void made(InodeNumber directory);
    // A directory is about to be made, as that node, by a request that is waited for: what is to go along with it, for
    // the directory to be held when the answers come; nothing if it is not to be asked for.
    std::optional<wire::TakeLeases> ask_with(NodeId node);
    // They have come. `directory` and what it is like: none if it could not be made.
    void came_with(NodeId node, InodeNumber directory, const wire::Attributes& attributes,
                   const Result<wire::TakeLeasesReply>& reply);

private:
    enum class State : std::uint8_t {
        changed,  // once
        asked,    // the answer decides
        made,     // asked for along with the directory itself: held until the answer says otherwise
        held,
        refused,  // or shared: not asked for again before its time
    };
    struct Directory {
        State state = State::asked;
        bool lost = false;  // while it was asked for
        TimePoint time{};   // of changed ones, and when refused ones may be asked for again
    };

    void begin_epoch();
    bool may_ask() const;
    bool is_worth_asking(InodeNumber directory) const;
    std::vector<InodeNumber> likely_to_follow(InodeNumber directory) const;
    // `unhurried`: as CallOptions::ahead.
    Task<void> take(std::vector<InodeNumber> directories, bool unhurried);
    // `attributes`: without a mode they are not known.
    void taken(InodeNumber directory, const wire::TakenLease& lease, bool is_watched, std::uint64_t asked_at,
               TimePoint asked, const wire::Attributes& attributes = {});
    void refuse(InodeNumber directory);
    Task<void> share(NodeId node, InodeNumber directory);
    void lost(InodeNumber directory);

    client::Session& session_;
    const Clock& clock_;
    InodeMap& inodes_;
    LeasedNames& names_;
    Events now_;
    CarriedOut carried_out_;
    std::unordered_map<InodeNumber, Directory> directories_;
    struct Asked {
        std::uint64_t at = 0;
        TimePoint time{};
    };
    std::map<NodeId, Asked> asked_with_;  // those that have no number yet, and of which nothing has been heard
    std::uint64_t epoch_ = 0;             // of which they are
    bool disabled_ = false;
    Counters::Counter& taken_;
    Counters::Counter& refused_;
    Counters::Counter& shared_;
};

}  // namespace remofile::filesystem
