// SPDX-License-Identifier: MIT
// The files that the sessions know: one Inode for each, whatever names and sessions lead to it.
//
// An Inode remembers where it was found (a directory and a name), so that it needs a descriptor only while somebody
// works with it. Descriptors are kept for later use up to a limit; beyond it those not used lately are closed, and
// opened again by place when needed. What is found there counts only if its identity (device, inode number, birth
// time) is the same: otherwise the file is stale, unless a handle is open on it or, where the server may, its kernel
// handle leads to it. Handles do the same with their descriptors (open_description.hpp); before we remove a name of a
// file whose handles did, its inode takes a descriptor that stays until they are closed.
//
// Everything here is done as the server itself, never with a caller's identity: that a session knows a file is proof
// that its caller reached it once, as an open descriptor is for a local process.
//
// Locks, other than those of names: each is held for a few instructions, never across a system call, and no two at a
// time.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/counters.hpp"
#include "base/guarded.hpp"
#include "base/result.hpp"
#include "server/file_service.hpp"
#include "server/files/descriptor_budget.hpp"
#include "server/files/export.hpp"
#include "server/files/kept_files.hpp"
#include "server/files/name_locks.hpp"
#include "wire/messages.hpp"

namespace remofile::server {

struct InodeIndex;
class OpenDescription;

// Where a file was found.
struct Place {
    InodePtr parent;
    EntryName name;
    std::uint64_t found = 0;  // differs each time that it is found there
};

// Callable from any thread. Shared by the sessions that know the file, the places of its children, open handles, and
// requests at work on it.
class Inode : public std::enable_shared_from_this<Inode> {
public:
    Inode(std::shared_ptr<InodeIndex> index, const wire::FileIdentity& identity, mode_t type);
    ~Inode();
    Inode(const Inode&) = delete;
    Inode& operator=(const Inode&) = delete;

    const wire::FileIdentity& identity() const { return identity_; }
    mode_t type() const { return type_; }  // S_IFMT bits
    bool is_directory() const { return (type_ & S_IFMT) == S_IFDIR; }

    // A request of ours has changed content or attributes: attributes read from now on get another version.
    void note_change();
    // Fills in the version of attributes just read, and takes the links by which the file is kept off: XXH3 over change
    // time, modification time, size and a salt. The salt is 0 as long as the file system's times tell states apart.
    // They do not where two changes fall within one of its steps (base/file_time.hpp), and then, if a change was ours,
    // the salt does. Others' changes are why a version is fresh for so long: version_is_fresh of attributes read by
    // stat_entry() and stat_descriptor().
    void stamp(wire::Attributes& attributes);

    // A handle leads to the file even when no name does any more; it says when it goes.
    void add_open(OpenDescription& open);
    void remove_open(OpenDescription& open);
    bool is_open() const;

    // It has lost its last name, and is there for its handles, which other servers may know again.
    bool is_kept() const { return is_kept_.load(std::memory_order_relaxed); }
    bool is_kept_for(const HolderTag& holder) const;
    // The holder goes, and may come back as another.
    void leave(KeptFiles& kept_files, const HolderTag& holder);

private:
    friend class InodeTable;
    friend class OpenDescription;
    friend struct InodeIndex;

    struct State {
        Descriptor descriptor;                        // O_PATH, or none at the moment
        std::vector<OpenDescription*> open;           // of all handles
        std::unique_ptr<KernelHandle> kernel_handle;  // taken when a descriptor was given up
        // While a name of the file may be going, no handle gives up its descriptor.
        std::uint32_t removing = 0;
        std::uint32_t removals = 0;                          // that were begun or ended
        std::unique_ptr<DescriptorBudget::Slot> kept;        // the descriptor stays until all handles are closed
        std::uint64_t stamped = 0;                           // hash that the last version was made from
        std::chrono::steady_clock::time_point stamped_at{};  // when that was first seen
        std::uint32_t salt = 0;
        bool changed_since_stamp = false;
        // By which it is kept, for each of those that have it open; while its last name may be going, too.
        std::vector<KeptFiles::LinkPtr> links;
        bool may_be_kept = false;  // its last name may be going
    };

    Descriptor held();
    Descriptor open_descriptor() const;
    void has_name();
    std::uint64_t names_of(const wire::Attributes& attributes) const { return is_kept() ? 0 : attributes.links; }

    // Constant.
    const std::shared_ptr<InodeIndex> index_;  // shared by the table and all inodes, which may outlive the table
    const wire::FileIdentity identity_;
    const mode_t type_;

    mutable Guarded<State> state_;
    std::atomic<bool> used_ = false;     // since the last round of eviction
    std::atomic<bool> is_kept_ = false;  // changed with the state's lock

    // Guarded by index_->places. Newest first; a directory has at most one.
    std::vector<Place> places_;
    bool has_more_places_ = false;
    // Guarded by index_->ring.
    std::optional<std::list<Inode*>::iterator> ring_position_;
};

class InodeTable {
public:
    // `root` is never closed. `max_descriptors`: see ExportOptions::max_idle_descriptors. `budget`: of handles.
    static Result<std::unique_ptr<InodeTable>> open(UniqueFd root, std::size_t max_descriptors,
                                                    std::shared_ptr<DescriptorBudget> budget, Counters& counters);
    ~InodeTable();

    const InodePtr& root() const { return root_; }

    // The inode that `attributes` (of stat_entry in `parent`) describe, whether it was known or not; remembers its
    // place and stamps the attributes.
    // `is_news`, if given, is set as recognize() says.
    InodePtr intern(wire::Attributes& attributes, const InodePtr& parent, const EntryName& name,
                    bool* is_news = nullptr);
    // The same for an answer after which nobody need know the file: one that nobody knows stays unknown, and its
    // attributes are stamped all the same. `is_news`: somebody knew the file, but not this place of it. A change that
    // did not look for it here may have come after the attributes were read, so that they must be read again.
    struct Recognized {
        InodePtr inode;  // null if nobody knows the file
        bool is_news = false;
    };
    Recognized recognize(wire::Attributes& attributes, const InodePtr& parent, const EntryName& name);
    // The same for a file without a name.
    InodePtr intern_unnamed(wire::Attributes& attributes);
    // Where the file is known to be. Not `all`: it is known to have been in more places than are remembered.
    struct Places {
        std::vector<Place> places;
        bool all = true;
    };
    Places places(const Inode& inode) const;
    // Null if nobody knows the file.
    InodePtr find(const wire::FileIdentity& identity);

    // An O_PATH descriptor of the file. Errors: stale, and what opening can give.
    Result<Descriptor> descriptor(const InodePtr& inode);
    // Its attributes, stamped. Errors: stale also for a file that has neither a name nor an open handle left.
    Result<wire::Attributes> attributes(const InodePtr& inode);

    // Whether the kernel has the attributes in memory: a descriptor holds the inode, on a file system of this machine.
    // (It may be given up meanwhile, which is rare and costs a look-up.)
    bool knows_attributes(const InodePtr& inode) const;

    // Whether the root's file system takes its times from this machine's clock.
    bool has_our_clock() const;

    // A rename or link by the server: the file is now there.
    void moved(const InodePtr& inode, const InodePtr& parent, const EntryName& name);
    // It is no longer there, unless it has come back meanwhile. A file that has no other known place and no handle is
    // let go, so that its blocks are freed.
    void removed(const InodePtr& inode, const InodePtr& parent, const EntryName& name);
    // The handle whose descriptor this was has been closed.
    void closed(const InodePtr& inode);

    // Who changes which file a name leads to has its lock.
    NameLocks& names() { return names_; }

    // While it lives, one of the file's names may be going: its handles find it without.
    class Removal {
    public:
        Removal() = default;
        explicit Removal(InodePtr inode);
        Removal(Removal&& other) noexcept = default;
        Removal& operator=(Removal&& other) = delete;
        ~Removal();

    private:
        InodePtr inode_;
    };
    // To be called with the name's lock. `share`: who pays for the descriptor that this may take. Error:
    // too_many_files, where there is none left for it. Nothing for a null inode.
    Result<Removal> begin_removal(const InodePtr& inode, const DescriptorBudget::Share& share);

    // While it lives, the last name of a file that is open may be going. Without done() the file is not kept.
    class Keeping {
    public:
        Keeping() = default;
        Keeping(InodePtr inode, Descriptor descriptor) : inode_(std::move(inode)), descriptor_(std::move(descriptor)) {}
        Keeping(Keeping&& other) noexcept = default;
        Keeping& operator=(Keeping&& other) = delete;
        ~Keeping();

        explicit operator bool() const { return inode_ != nullptr; }
        // The name is gone.
        void done();

    private:
        InodePtr inode_;
        Descriptor descriptor_;
    };
    // To be called with the name's lock. Links the file for those that have it open, if this is its last name; what
    // cannot be linked goes with its name. `root_changed`: as KeptFiles::keep(). Nothing for a null inode.
    Keeping begin_keeping(const InodePtr& inode, KeptFiles& kept_files, bool& root_changed);
    // A file that was kept, and has no name.
    InodePtr intern_kept(KeptFiles::LinkPtr link);
    // Before who may open the file changes: descriptors of all its handles, which are opened again if they must be.
    // None where the server may open whatever it knows. Those that cannot be had are left out.
    std::vector<Descriptor> hold_for_change(const InodePtr& inode);

    // Whether the inode behind one of its descriptors can be found once that is closed.
    bool can_find_again(const InodePtr& inode, int descriptor);

    // Runs `open`, which opens a descriptor; as long as the process has none left, once more after closing idle ones.
    template <class Open>
    auto with_room(Open&& open) {
        auto result = open();
        while (!result && result.error().status == Status::too_many_files &&
               (give_up_idle(0) > 0 || budget_->reclaim_one()))
            result = open();
        return result;
    }

    DescriptorBudget& budget() { return *budget_; }
    void count_reopening() { reopens_.add(); }
    // Descriptors held for inodes.
    std::size_t descriptor_count() const;

private:
    InodeTable(std::size_t max_descriptors, std::shared_ptr<DescriptorBudget> budget, Counters& counters);
    void find_out_about(int root, std::uint64_t device);
    // False if it was known.
    bool remember_place(const InodePtr& inode, const InodePtr& parent, const EntryName& name);
    InodePtr at(const wire::Attributes& attributes, bool* made = nullptr);
    bool is_at(const InodePtr& inode, const Place& place);
    std::vector<Place> places_of(const Inode& inode) const;
    Descriptor adopt(const InodePtr& inode, UniqueFd opened);
    std::size_t give_up_idle(std::size_t keep);
    std::unique_ptr<KernelHandle> usable_kernel_handle(int descriptor) const;
    bool is_last_way_to_open_file(Inode& inode, int descriptor);
    void give_up(const InodePtr& inode);
    Result<Descriptor> directory_descriptor(const InodePtr& directory);
    Result<Descriptor> open_at_place(const InodePtr& inode, const Place& place, const Descriptor& parent);
    Result<Descriptor> open_by_kernel_handle(const InodePtr& inode);
    Result<Descriptor> open_kept(const InodePtr& inode);
    Result<wire::Attributes> attributes_at_place(const InodePtr& inode);
    bool is_at_place(const InodePtr& inode);

    NameLocks names_;
    const std::shared_ptr<InodeIndex> index_;
    const std::size_t max_descriptors_;
    const std::shared_ptr<DescriptorBudget> budget_;  // shared with handles
    bool has_kernel_handles_ = false;                 // constant once opened
    Counters::Counter& reopens_;
    Counters::Counter& evictions_;
    InodePtr root_;
    int root_mount_ = 0;
    bool root_is_local_ = false;  // its file system asks no other machine
};

}  // namespace remofile::server
