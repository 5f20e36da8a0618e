// SPDX-License-Identifier: MIT
// What the server has of files and was not asked to make durable: if its machine loses its power, it may have lost it.
// Kept here until then, so that it can be sent again: what a file's content has become, by writes, holes and sizes,
// each of which gives the same when it is carried out twice. What does not fit is not kept, and its file cannot be sent
// again before it is durable, or old.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "client/memory_budget.hpp"
#include "client/shared_buffer.hpp"
#include "filesystem/inode_number.hpp"
#include "wire/messages.hpp"

namespace remofile::filesystem {

// One thread: the event loop's. Pure bookkeeping.
class UnsyncedWrites {
public:
    // A kernel writes by itself what is half a minute old; and it takes a while to notice that a machine is gone.
    static constexpr Duration written_back_after = std::chrono::seconds(90);

    // Charges what is kept to `memory`, which must outlive it; `limit_bytes` at most.
    UnsyncedWrites(client::MemoryBudget& memory, std::size_t limit_bytes) : memory_(memory), kept_(limit_bytes) {}

    // Something is known of the file from now on, which must be found again; and nothing any more.
    std::function<void(InodeNumber)> on_begun;
    std::function<void(InodeNumber)> on_ended;

    // ---- what is done

    // A program was told that it has changed something of the content.
    void accepted(InodeNumber file) { ++files_[file].accepted; }
    // The server has it since then. Of what it has, in its order:
    void answered(InodeNumber file, TimePoint now);
    void keep(InodeNumber file, std::uint64_t offset, std::uint64_t size, const client::SharedBytes& bytes,
              TimePoint now);
    void keep_hole(InodeNumber file, std::uint64_t offset, std::uint64_t size, TimePoint now);
    void keep_size(InodeNumber file, std::uint64_t size, TimePoint now);
    // The content is not, or not only, what is kept.
    void cannot_keep(InodeNumber file, TimePoint now);

    // What the server says of the file after something that was done from here; `event`: FileContents::now().
    struct Told {
        wire::Timestamp modification;  // as of the last answer
        wire::Timestamp latest_modification;
        wire::Timestamp latest_change;
        std::uint64_t event = 0;
    };
    void told(InodeNumber file, const wire::Attributes& attributes, std::uint64_t event);
    // Null: nothing.
    const Told* told(InodeNumber file) const;

    // ---- making it durable

    // How far a file has come.
    struct Mark {
        std::uint64_t accepted = 0;
        std::uint64_t kept = 0;
    };
    Mark mark(InodeNumber file) const;
    // What had been accepted, and what had been kept, at the mark is durable.
    void synced(InodeNumber file, const Mark& mark);
    // Nothing is to be known of it any more.
    void forget(InodeNumber file);
    void forget_old(TimePoint now);

    bool knows(InodeNumber file) const { return files_.contains(file); }
    bool empty() const { return files_.empty(); }
    std::vector<InodeNumber> files() const;
    std::size_t size() const { return files_.size(); }
    std::size_t kept_bytes() const { return kept_.used_bytes(); }

    // ---- when it is lost

    // Of the files of which something may be lost if the machine was lost at that time, in their order: those that
    // were not yet sent again, nor forgotten.
    void lose(TimePoint lost_at);
    std::vector<InodeNumber> lost() const;
    bool is_lost(InodeNumber file) const;
    // Whether all that may be lost is kept.
    bool is_whole(InodeNumber file) const;
    // The server has it once more.
    void sent_again(InodeNumber file, TimePoint now);

    // Shared by the pieces that are left of a write.
    struct Bytes {
        std::shared_ptr<Buffer> memory;  // none: a hole
        client::MemoryBudget::Charge kept;
        client::MemoryBudget::Charge charge;
    };
    struct Change {
        std::shared_ptr<const Bytes> bytes;  // none: the size of the file
        std::uint64_t offset = 0;
        std::uint64_t size = 0;
        std::size_t start = 0;  // in `bytes`
        std::uint64_t number = 0;
    };
    // What is kept, in the order in which it is to be sent. Between two sizes no two overlap.
    std::vector<Change> changes(InodeNumber file) const;

private:
    struct Piece {
        std::shared_ptr<const Bytes> bytes;
        std::uint64_t size = 0;
        std::size_t start = 0;
        std::uint64_t number = 0;
        TimePoint at{};
    };
    struct Size {
        std::uint64_t size = 0;
        std::uint64_t number = 0;
        TimePoint at{};
    };
    struct File {
        std::uint64_t accepted = 0;
        std::optional<TimePoint> answered_at;   // the last one
        std::map<std::uint64_t, Piece> pieces;  // by their offsets
        std::vector<Size> sizes;                // each larger than the one before
        std::uint64_t kept_bytes = 0;           // by the pieces
        std::uint64_t since = 0;                // the number of the first piece
        std::uint64_t last = 0;                 // number
        std::optional<TimePoint> broken_at;     // when something was last not kept
        std::optional<Told> told;
        bool is_lost = false;
    };

    void add(InodeNumber id, std::uint64_t offset, std::uint64_t size, std::shared_ptr<Bytes> bytes, std::size_t start,
             std::size_t charged, TimePoint now);
    bool make_room(InodeNumber wanted_by, TimePoint now);
    static void cut_out(File& file, std::uint64_t begin, std::uint64_t end);
    void break_off(InodeNumber id, File& file, TimePoint now);
    void note_kept(InodeNumber id, File& file);
    void erase(InodeNumber id);

    client::MemoryBudget& memory_;
    client::MemoryBudget kept_;
    std::uint64_t last_number_ = 0;
    std::unordered_map<InodeNumber, File> files_;
    std::map<std::uint64_t, InodeNumber> by_age_;  // those with pieces
};

}  // namespace remofile::filesystem
