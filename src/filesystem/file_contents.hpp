// SPDX-License-Identifier: MIT
// What is kept of the contents of files, here and in the kernel's page cache, and when it is to go.
//
// Three rules. Bytes are kept from one open to the next only while the server's version of the file stays the same,
// and only if nothing was written from here meanwhile (a version would not tell our writes from another's). A
// version that changes while the file is open makes all that is kept go. And what programs are told of a file's size
// includes what they have written, wherever it is at that moment.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>

#include "base/clock.hpp"
#include "base/counters.hpp"
#include "base/task.hpp"
#include "client/file_reader.hpp"
#include "client/memory_budget.hpp"
#include "client/write_behind.hpp"
#include "filesystem/handle_table.hpp"
#include "filesystem/inode_map.hpp"
#include "filesystem/unsynced_writes.hpp"

namespace remofile::filesystem {

// One thread: the event loop's.
class FileContents {
public:
    // Calls `drop_pages` for a file of which the kernel may hold pages that are out of date. All must outlive it.
    FileContents(client::Session& session, const Clock& clock, InodeMap& inodes, HandleTable<FileHandle>& files,
                 Counters& counters, std::size_t cache_bytes, std::function<void(InodeNumber)> drop_pages);
    FileContents(const FileContents&) = delete;
    FileContents& operator=(const FileContents&) = delete;

    // Called when something of a file was changed from here, whose attributes are others now; by a write, or otherwise.
    std::function<void(InodeNumber)> on_written;
    std::function<void(InodeNumber)> on_changed;

    // Called when bytes of a file could not be written that nobody has open, to be told.
    std::function<void(InodeNumber, Status)> on_lost;

    client::FileReader& reader() { return reader_; }
    client::WriteBehind& writes() { return writes_; }
    const client::WriteBehind& writes() const { return writes_; }
    client::MemoryBudget& memory() { return memory_; }
    const client::MemoryBudget& memory() const { return memory_; }

    // A number that rises: what was asked for later has the larger one.
    std::uint64_t now() { return ++events_; }

    // What the server told last of a file that is open, or to which something is pending; of others perhaps nothing.
    struct Told {
        std::uint64_t size = 0;
        wire::Timestamp modification;
    };
    const Told* last_told(InodeNumber inode) const {
        const auto found = told_.find(inode);
        return found == told_.end() ? nullptr : &found->second;
    }
    void note_told(InodeNumber inode, const wire::Attributes& attributes) {
        told_[inode] = {attributes.size, attributes.modification};
    }
    // Somebody else has what is pending now: what fails is not logged.
    void be_quiet() { is_quiet_ = true; }

    // Takes in what a reply to a request of the time `asked_at` says of a file; returns what may be shown of it.
    wire::Attributes seen(InodeNumber inode, const wire::Attributes& attributes, std::uint64_t asked_at);
    // The same of the reply to a request by which the content was changed as a whole: by giving it another size, ...
    void resized(InodeNumber inode, const wire::Attributes& attributes);
    // ... by FALLOCATE, or by a COPY_RANGE, which tells no attributes.
    void allocated(InodeNumber inode, const wire::Fallocate& message, const wire::Attributes& attributes);
    void copied_to(InodeNumber inode);
    // The same of a request of ours that changed something else of the file.
    void touched(InodeNumber inode, const wire::Attributes& attributes);
    // What the server says of a file after something of it was changed from here.
    void told(InodeNumber inode, const wire::Attributes& attributes);
    // What is kept here is true no more; the kernel's pages are the caller's affair.
    void forget(InodeNumber inode);
    // The same, since somebody else has changed it.
    void changed_elsewhere(InodeNumber inode);
    // The same of all files: their versions mean nothing any more.
    void forget_all();
    // Nobody knows the file by number any more.
    void removed(InodeNumber id);
    // The content was changed from elsewhere: what is kept here and in the kernel goes.
    void outdated(InodeNumber inode);

    // What may be shown of an open file to the kernel's own questions: it asks for the size before each read that
    // reaches the end it knows, on its way to which a round trip would double the time that a small file takes. None
    // if what was heard last is older than a second, or not the whole truth.
    std::optional<wire::Attributes> recent(InodeNumber inode) const;
    // The last handle of a file is closed.
    void closed(InodeNumber inode) {
        recent_.erase(inode);
        if (!writes_.pending(inode))
            told_.erase(inode);
    }

    // Whether a file was changed from here, or what is kept of it was dropped, since `asked_at`: what was asked for
    // then may be older.
    bool changed_since(InodeNumber inode, std::uint64_t asked_at) const;
    // The same, or something was heard of it.
    bool heard_since(InodeNumber inode, std::uint64_t asked_at) const;

    // A file is opened, and had these attributes when that was asked for: whether what is kept of it is true of it
    // still. If not, it is gone.
    bool keeps(InodeNumber inode, const wire::Attributes& attributes, std::uint64_t asked_at);

    // A write was accepted into memory.
    void accepted(InodeNumber inode, std::uint64_t offset, std::uint64_t size);
    // A write that is not accepted into memory is under way, as long as this object lives.
    class WriteThrough {
    public:
        WriteThrough(FileContents& contents, InodeNumber inode, HandleId handle);
        ~WriteThrough();
        WriteThrough(const WriteThrough&) = delete;
        WriteThrough& operator=(const WriteThrough&) = delete;
        // The server has carried it out; durably, by a handle of O_SYNC or O_DSYNC.
        void written(const wire::WriteReply& reply, bool is_durable, const client::SharedBytes& bytes);

    private:
        FileContents& contents_;
        InodeNumber inode_;
        HandleId handle_;
    };

    // Makes sure that the server's file system has all that was written to the file before. Errors: interrupted, and
    // those of FSYNC; those of the writes are their handles' affair.
    Task<Status> sync(InodeNumber inode, wire::Fsync message, client::Cancellation* cancellation);
    // Sends what is pending of the file, so that a request that follows on the handle comes after it. The server does
    // not order what was written through other handles: that is waited for. Errors: interrupted.
    Task<Status> send_before(InodeNumber inode, HandleId handle, client::Cancellation* cancellation);

    // ---- what the server's machine may lose

    // Called when something more is kept until it is durable.
    std::function<void()> on_kept;
    // Called when a file need not be found again for that.
    std::function<void(InodeNumber)> on_synced;
    UnsyncedWrites& unsynced() { return unsynced_; }
    const UnsyncedWrites& unsynced() const { return unsynced_; }

    // It was lost at that time, and has started anew: what may be lost with it, UnsyncedWrites::lost(), is to be sent
    // again or given up.
    void machine_was_lost(TimePoint lost_at) { unsynced_.lose(lost_at); }
    // Whether a file that is found as `attributes` say is as what was lost may have left it, and nobody else has
    // changed it.
    bool is_as_left(InodeNumber inode, const wire::Attributes& attributes) const;
    // What was lost of it has been sent again, and it is like that.
    void sent_again(InodeNumber inode, const wire::Attributes& attributes);
    // It cannot be: whoever wrote it is told as of a write that failed.
    void give_up_lost(InodeNumber inode, Status why);
    // The file has lost a name from here: it is not looked for again for what is kept of it alone.
    void loses_name(InodeNumber inode);

    // What to read through an open handle; the file must be known.
    client::ReadSource source_of(const FileHandle& file) const;
    // Whether reading these bytes has to wait for what is pending.
    bool must_drain_before(InodeNumber inode, std::uint64_t offset, std::uint64_t size) const;

private:
    void replaced(InodeNumber inode, const wire::Attributes& attributes);
    void keep(InodeNumber inode, std::uint64_t offset, std::uint64_t size, const client::SharedBytes& bytes);
    void note_answered(InodeNumber inode, const wire::Attributes& attributes);
    void now_has(InodeNumber inode, std::uint64_t offset, std::uint64_t size);
    void written(InodeNumber inode, std::uint64_t offset, const wire::WriteReply& reply, bool by_others);
    void failed(InodeNumber inode, std::uint64_t offset, std::uint64_t size, Status status);
    bool tell_writers(InodeNumber inode, Status status);
    void tell_changed(InodeNumber inode);
    void begin_generation(Inode& inode);
    void forget(Inode& inode);
    void drop(Inode& inode);
    void remember(const Inode& inode, const wire::Attributes& attributes);
    static void heard(Inode& inode, const wire::Attributes& attributes);

    struct Recent {
        wire::Attributes attributes;
        TimePoint heard_at{};
    };

    client::Session& session_;
    const Clock& clock_;
    InodeMap& inodes_;
    HandleTable<FileHandle>& files_;
    std::function<void(InodeNumber)> drop_pages_;
    std::uint64_t events_ = 0;
    std::unordered_map<InodeNumber, Recent> recent_;  // of open files
    std::unordered_map<InodeNumber, Told> told_;
    bool is_quiet_ = false;
    client::MemoryBudget memory_;
    UnsyncedWrites unsynced_;
    client::FileReader reader_;
    client::WriteBehind writes_;
};

}  // namespace remofile::filesystem
