// SPDX-License-Identifier: MIT
// The files that are known by number: what the numbers stand for on the server, and who counts what.
//
// Whoever we answer counts, for each number, the entries that it was given; the server counts, for each node, the
// replies that named it. The two differ: two nodes may turn out to be one file, and one of an older session another. So
// both counts are kept, and the server gets its own back in one piece when nobody holds the number any more.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/clock.hpp"
#include "base/strong_id.hpp"
#include "filesystem/inode_number.hpp"
#include "wire/messages.hpp"

namespace remofile::filesystem {

// A walk makes one for each file that it meets: what few of them need is elsewhere.
struct Inode {
    InodeNumber id = 0;
    NodeId node;              // the server's name for it, in `epoch`; 0 while it is known from a listing alone
    std::uint64_t epoch = 0;  // of the session; an inode of an older one is stale until a look-up finds it again
    wire::FileIdentity identity;
    std::uint32_t type = 0;     // S_IFMT bits
    std::uint64_t version = 0;  // of the attributes seen last; set by adopt() for new ones only
    // The directory in which it was found last or, for what may have several names, the one nearest to the root; 0
    // for the root and for files without a name.
    InodeNumber parent = 0;
    // Where it was found last, which is the only name whose attributes may count as current (DirectoryCache). Without a
    // name: by none, or by one that is not known.
    struct Place {
        InodeNumber parent = 0;
        std::string name;
    };
    Place place;
    bool leased = false;           // a directory that stays known for its lease's sake
    bool unlistable = false;       // a directory that could not be listed ahead
    bool unmade = false;           // the request that makes it is not answered
    bool unsynced = false;         // a file that must be found again for what was written to it; see UnsyncedWrites
    std::uint8_t looked_into = 0;  // a directory: look-ups in it while it was not leased, as far as they matter
    std::uint64_t changed_at = 0;  // FileContents::now() when something of it was last changed from here
    std::uint64_t changed_otherwise_at = 0;  // the same, but for its content by writes
    bool has_byte_locks = false;             // bytes of it have been locked from here since it was opened
    bool too_large = false;                  // a leased directory with more names than are kept of one
    std::uint16_t looked_beyond = 0;         // a directory: look-ups of what its listing was too short for
    std::uint32_t open_count = 0;            // handles: while it is not 0, what is kept in front is relied on
    std::uint64_t entry_count = 0;           // entries that were given out and not forgotten
    std::uint64_t server_count = 0;          // replies that named `node`
    // Its neighbours in the order of use; see InodeMap::not_used_lately().
    Inode* used_before = nullptr;
    Inode* used_after = nullptr;

    // Of a regular file; see FileContents.
    struct Content {
        std::uint64_t generation = 0;      // rises when all that is kept of it has to go
        std::uint64_t kept_version = 0;    // of which all is that is kept; 0: nothing may be kept at the next open
        std::uint64_t size = 0;            // with writes that are pending
        std::uint64_t size_at_server = 0;  // as last heard
        std::uint64_t written_at = 0;      // FileContents::now() when a write was last accepted or answered
        std::uint64_t forgotten_at = 0;    // the same when what is kept of it was last dropped
        std::uint64_t heard_at = 0;        // the same when attributes were last taken in
        std::uint32_t mode = 0;            // of the attributes heard last, and
        std::uint32_t gid = 0;             // the group's number at the server
        std::uint32_t writes_through = 0;  // writes under way that are not write-behind's
        bool written_by_several = false;   // handles at once, when a write was last answered
    };
    Content content;

    // Of the kernel's page cache; see KernelPages.
    struct Pages {
        bool kept = false;              // it may hold some
        bool outdated = false;          // which are void, and it has to be told
        bool doubtful = false;          // an answer of another size may have told it
        std::uint64_t size = 0;         // as it should know it
        std::uint32_t questions = 0;    // for attributes, which it awaits
        std::uint32_t mappable_by = 0;  // handles through which a mapping may change them
        std::uint32_t notifying = 0;    // notifications under way
        TimePoint notified_at{};        // when the last one was done
        std::uint64_t sure_size = 0;    // what it knows of the file's size at least
    };
    Pages pages;
};
// A client that walks a million files where the kernel gives none of them back keeps so many of these.
static_assert(sizeof(Inode) <= 304);

// One thread. References to inodes stay valid until the inode is forgotten.
class InodeMap {
public:
    // The kernel has given back an inode, which goes now. Its number is not used again.
    std::function<void(InodeNumber)> on_removed;

    // The table starts with its root.
    InodeMap(std::uint64_t epoch, NodeId root, const wire::Attributes& attributes);
    InodeMap(const InodeMap&) = delete;
    InodeMap& operator=(const InodeMap&) = delete;

    Inode& root();
    // The root's, as heard last.
    const wire::Attributes& root_attributes() const { return root_attributes_; }
    void heard_of_root(const wire::Attributes& attributes) { root_attributes_ = attributes; }
    Inode* find(InodeNumber id);
    Inode* find(NodeId node);
    template <class Visit>
    void for_each(Visit visit) {
        for (auto& [id, inode] : inodes_)
            visit(inode);
    }

    // Takes in a reply that named a file, which is given out as an entry: the inode that stands for it, new or known.
    // The reply's count is accounted for: either it belongs to the inode now, or it joins `give_back`, to be told to
    // the server with FORGET. Null if the server names what it must not: no node, or the root as an entry of a
    // directory.
    Inode* adopt(InodeNumber parent, const wire::EntryReply& entry, std::vector<wire::ForgetNode>& give_back);

    // Entries come back, and the inode goes if nothing else holds it. A count larger than what was given out is cut.
    void forget(InodeNumber id, std::uint64_t count, std::vector<wire::ForgetNode>& give_back);

    // The inode that a listing under a lease has shown under that name, given out as an entry: one that is not known is
    // made without a node. Null for what cannot be an entry, the root.
    Inode* adopt_listed(InodeNumber parent, std::string_view name, const wire::Attributes& attributes);
    // A new file that the server does not know yet, which will know it as `node`: given out as an entry. Its identity
    // is one that no file has, until confirm().
    Inode& make_unconfirmed(InodeNumber parent, std::string_view name, std::uint32_t type, NodeId node);
    // The same of one that was lent: its identity is that of `lent`.
    Inode& make_lent(InodeNumber parent, std::string_view name, const wire::Attributes& lent, NodeId node);
    // Whether its identity is that of a file of the server's.
    static bool has_identity(const Inode& inode);
    // The server has made it, or has refused to: then it is stale for good.
    void confirm(Inode& inode, const wire::Attributes& attributes);
    void condemn(Inode& inode);
    // One that is known is given out as an entry once more.
    void hand_out(Inode& inode);
    // Null if it is not known.
    Inode* find(const wire::FileIdentity& identity);
    // It was found there.
    static void put(Inode& inode, InodeNumber parent, std::string_view name);
    // It was moved there.
    void move(Inode& inode, InodeNumber parent, std::string_view name);

    // A directory stays known while its lease is held.
    static void hold(Inode& inode) { inode.leased = true; }
    void let_go(Inode& inode, std::vector<wire::ForgetNode>& give_back);
    // A file does while something may have to be written to it again.
    static void hold_unsynced(Inode& inode) { inode.unsynced = true; }
    void let_go_synced(Inode& inode, std::vector<wire::ForgetNode>& give_back);

    // A handle of the file has come.
    void opened(Inode& inode);
    // One has gone, and the inode goes if nothing else holds it.
    void closed(Inode& inode, std::vector<wire::ForgetNode>& give_back);

    // Another session has its own count of a node: one reply has named it there.
    static void restored(Inode& inode) { inode.server_count = 1; }
    // All that has a node, but for the root; what is nearer to the root first.
    std::vector<InodeNumber> with_nodes();
    // How many names lead to the place where it was found last; without one: more than any.
    std::size_t levels_of_place(const Inode& inode) const;
    // The session was replaced: every inode but the root is stale from now on.
    void new_epoch(std::uint64_t epoch, NodeId root, const wire::Attributes& attributes);
    bool stale(const Inode& inode) const { return inode.epoch != epoch_; }

    // How many levels below the root a directory was found last; 0 if that cannot be told.
    std::size_t depth(InodeNumber directory) const;

    std::size_t size() const { return inodes_.size(); }

    // Up to `count` files that are known for nothing but the entries that were given out, those first that were given
    // out or opened longest ago, and rather those of which no page is kept in front. Looks at four times `count` at
    // most. Those that it looked at are the last to be looked at again.
    std::vector<InodeNumber> not_used_lately(std::size_t count);

private:
    struct IdentityHash {
        using is_transparent = void;
        std::size_t operator()(const wire::FileIdentity& identity) const noexcept;
        std::size_t operator()(const Inode* inode) const noexcept { return (*this)(inode->identity); }
    };
    struct SameIdentity {
        using is_transparent = void;
        static const wire::FileIdentity& of(const wire::FileIdentity& identity) { return identity; }
        static const wire::FileIdentity& of(const Inode* inode) { return inode->identity; }
        bool operator()(const auto& one, const auto& other) const { return of(one) == of(other); }
    };

    Inode* known_as(const wire::FileIdentity& identity, std::uint32_t type);
    Inode& make(InodeNumber parent, const wire::Attributes& attributes);
    void claim(Inode& inode, const wire::EntryReply& entry, std::vector<wire::ForgetNode>& give_back);
    void found_in(Inode& inode, InodeNumber parent);
    void remember_other_node(const Inode& inode, NodeId node);
    void bind_node(Inode& inode, NodeId node);
    void unbind_node(const Inode& inode);
    void remove_unless_held(Inode& inode, std::vector<wire::ForgetNode>& give_back);
    void used(Inode& inode);
    void leave_order(Inode& inode);

    std::uint64_t epoch_;
    InodeNumber next_id_ = root_inode + 1;
    std::unordered_map<InodeNumber, Inode> inodes_;
    std::unordered_set<Inode*, IdentityHash, SameIdentity> by_identity_;
    std::unordered_map<NodeId, InodeNumber> by_node_;  // of the present epoch
    // Those among them by which directories are not known any more, as they have another one; the oldest first.
    std::deque<NodeId> other_nodes_;
    wire::Attributes root_attributes_;
    // All but the root, in the order in which they were used.
    Inode* used_first_ = nullptr;
    Inode* used_last_ = nullptr;
};

}  // namespace remofile::filesystem
