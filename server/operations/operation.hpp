// SPDX-License-Identifier: MIT
// What an operation works with, and the functions that carry operations out: one for each opcode, from the decoded
// request to the body of its reply.
//
// Each goes the same way: look up ids and get descriptors as the server, check what can be checked, act as the caller
// for the system calls that permissions matter for, then note what changed and give ids.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "server/file_service.hpp"
#include "server/files/caller_identity.hpp"
#include "server/files/inode_table.hpp"
#include "server/files/lender.hpp"
#include "server/files/reserve.hpp"
#include "server/files/room.hpp"
#include "server/leases/lease_table.hpp"
#include "server/locks/lock_table.hpp"
#include "server/operations/session_files.hpp"

namespace remofile::server {

// One request under way, on the thread that carries it out.
struct Context {
    InodeTable& inodes;
    LockTable& locks;
    LeaseTable* leases;  // none: there are no leases
    ChangeWatch* watch;  // none: changes by programs on the server go unnoticed
    const Room& room;
    Reserve& reserve;
    Lender* lender;         // none: the export is only read
    KeptFiles* kept_files;  // none: likewise
    const OwnIdentity& own;
    const std::shared_ptr<SessionFiles>& files;
    const Caller& caller;
    RequestId request;
    std::optional<std::uint64_t> begun_at;  // as Asked::begun_at
    Buffer bulk;                            // of the request

    // Filled by the operation.
    wire::EncodedBulk reply_bulk{};
    bool has_reply_bulk = false;
    std::shared_ptr<wire::Compressibility> reply_stream{};  // as Outcome::stream
    std::vector<InodePtr> changed{};                        // also by one that failed half-way
    std::vector<Touched> names_changed{};                   // likewise
    // Set by a request that waits: its outcome then goes to `later`, and what the function returns is not used.
    bool waits = false;
    std::function<void(Outcome)> later{};

    Result<ActingAs> act() const { return ActingAs::take_on(own, caller); }
    void note_change(const InodePtr& inode) {
        inode->note_change();
        changed.push_back(inode);
    }
    // The name stands for something else now, or for nothing, or for something again. The directory has changed too.
    void note_name(const InodePtr& directory, const EntryName& name) {
        note_change(directory);
        names_changed.push_back({directory, name.text(), true});
    }
    // Attributes of the file have changed for all its names of now, whatever becomes of them.
    void note_places(const InodePtr& file);
    // What changed as those who hold leases know it, for the outcome. To be called once all has been done.
    void report_touched(Outcome& outcome) const;

    // What the session asks for, it may keep if it has a lease: it must be told of the next change. To be called before
    // the files are looked at; lease_table.hpp says why. What a name stands for: true if the answer may be kept.
    bool asks(const InodePtr& directory, const EntryName& name) const;
    // A file's attributes: true if the session had been told that they changed, so that what was read before is not to
    // be kept.
    bool asks(const InodePtr& file) const;
    // Its attributes, which the session may keep.
    Result<wire::Attributes> attributes(const InodePtr& file) const;
    // Gives back counts of nodes; nothing is kept of what is not known any more.
    void forget(std::span<const wire::ForgetNode> nodes) const;
    void node_gone(NodeId node, const InodePtr& inode) const;
    void reply_with(wire::EncodedBulk data) {
        reply_bulk = std::move(data);
        has_reply_bulk = true;
    }
    void reply_with(Buffer buffer) { reply_with(wire::EncodedBulk::of_raw(std::move(buffer))); }
    // A node and an O_PATH descriptor of it.
    struct Held {
        InodePtr inode;
        Descriptor descriptor;
        int fd() const { return descriptor->get(); }
    };
    Result<Held> hold(NodeId node) const;
    // The same for one that must be a directory: not_directory.
    Result<Held> hold_directory(NodeId node) const;
    // An open file with its descriptor, opened again if need be. Errors: bad_handle, stale.
    Result<HeldFile> hold_file(HandleId handle) const;
    // Before a descriptor is opened that lasts. Errors: too_many_files.
    Result<> make_room() const { return inodes.budget().make_room(files->share()); }
    // The session may rely on a directory from now on, an open one, and on each answer for so long (milliseconds); none
    // if it may not. To be called before it is listed.
    std::optional<std::uint32_t> lease(const Held& directory, NodeId node) const;
    // The same for an exclusive lease, which may be taken only of a directory that the server may change.
    std::optional<std::uint32_t> take_lease(const Held& directory, NodeId node) const;
    std::optional<std::uint32_t> trust_in_lease(const Held& directory, NodeId node) const;
    // The entry as the caller sees it, and its attributes, which the session may keep.
    struct Found {
        InodePtr inode;
        wire::Attributes attributes;
    };
    Result<Found> find_entry(const Held& directory, const EntryName& name) const;
    // For attributes, just read, of an entry that nobody need know, and that was asked for: stamps them. False if they
    // must be read again, because a change may have come that did not find this place.
    bool settle(wire::Attributes& attributes, const InodePtr& directory, const EntryName& name) const;
    // Where a directory has come to be, or is, another's alone, what is known of it here is no answer any more.
    // `shares`: LeaseTable::shares() from before its attributes were read.
    bool is_anothers(const wire::Attributes& attributes, std::uint64_t shares) const;
    // The inode of an entry, if some session knows it.
    InodePtr known_entry(const Held& directory, const EntryName& name) const;
};

namespace operations {

// Names and attributes.
Result<wire::EntryReply> lookup(Context& context, const wire::Lookup& request);
Result<wire::Empty> forget(Context& context, const wire::Forget& request);
Result<wire::AttributesReply> getattr(Context& context, const wire::Getattr& request);
Result<wire::AttributesReply> setattr(Context& context, const wire::Setattr& request);
Result<wire::ReadlinkReply> readlink(Context& context, const wire::Readlink& request);
Result<wire::EntryReply> mknod(Context& context, const wire::Mknod& request);
Result<wire::EntryReply> mkdir(Context& context, const wire::Mkdir& request);
Result<wire::Empty> unlink(Context& context, const wire::Unlink& request);
Result<wire::Empty> rmdir(Context& context, const wire::Rmdir& request);
Result<wire::EntryReply> symlink(Context& context, const wire::Symlink& request);
Result<wire::Empty> rename(Context& context, const wire::Rename& request);
Result<wire::EntryReply> link(Context& context, const wire::Link& request);
Result<wire::Empty> access(Context& context, const wire::Access& request);
Result<wire::StatfsReply> statfs(Context& context, const wire::Statfs& request);
Result<wire::EntryReply> find_kept(Context& context, const wire::FindKept& request);

// Open files.
Result<wire::AttributesReply> open(Context& context, const wire::Open& request);
Result<wire::CreateReply> create(Context& context, const wire::Create& request);
Result<wire::EntryReply> tmpfile(Context& context, const wire::Tmpfile& request);
Result<wire::Empty> read(Context& context, const wire::Read& request);
// As read and getattr where that cannot block; try_again if it might.
Result<wire::Empty> read_at_once(Context& context, const wire::Read& request);
Result<wire::AttributesReply> getattr_at_once(Context& context, const wire::Getattr& request);
Result<wire::WriteReply> write(Context& context, const wire::Write& request);
Result<wire::Empty> release(Context& context, const wire::Release& request);
Result<wire::Empty> flush(Context& context, const wire::Flush& request);
Result<wire::Empty> fsync(Context& context, const wire::Fsync& request);
Result<wire::AttributesReply> fallocate(Context& context, const wire::Fallocate& request);
Result<wire::SeekReply> seek(Context& context, const wire::Seek& request);
Result<wire::CopyRangeReply> copy_range(Context& context, const wire::CopyRange& request);
Result<wire::Empty> hash(Context& context, const wire::Hash& request);
Result<wire::FetchReply> fetch(Context& context, const wire::Fetch& request);

// Directories.
Result<wire::AttributesReply> opendir(Context& context, const wire::Opendir& request);
Result<wire::ReaddirReply> readdir(Context& context, const wire::Readdir& request);
Result<wire::Empty> releasedir(Context& context, const wire::Releasedir& request);
Result<wire::Empty> fsyncdir(Context& context, const wire::Fsyncdir& request);
Result<wire::ListReply> list(Context& context, const wire::List& request);
Result<wire::Empty> return_leases(Context& context, const wire::ReturnLeases& request);
Result<wire::TakeLeasesReply> take_leases(Context& context, const wire::TakeLeases& request);
Result<wire::Empty> share_leases(Context& context, const wire::ShareLeases& request);

// Lent inodes.
Result<wire::LendInodesReply> lend_inodes(Context& context, const wire::LendInodes& request);
Result<wire::EntryReply> make_lent(Context& context, const wire::MakeLent& request);

// Extended attributes.
Result<wire::XattrReply> getxattr(Context& context, const wire::Getxattr& request);
Result<wire::Empty> setxattr(Context& context, const wire::Setxattr& request);
Result<wire::XattrReply> listxattr(Context& context, const wire::Listxattr& request);
Result<wire::Empty> removexattr(Context& context, const wire::Removexattr& request);

// Locks.
Result<wire::LockReply> getlk(Context& context, const wire::Getlk& request);
Result<wire::Empty> setlk(Context& context, const wire::Setlk& request);
Result<wire::Empty> flock(Context& context, const wire::Flock& request);
Result<wire::ReclaimLocksReply> reclaim_locks(Context& context, const wire::ReclaimLocks& request);

}  // namespace operations
}  // namespace remofile::server
