// SPDX-License-Identifier: MIT
// The client's side of leases of directories: asks for listings under a lease, ahead of a walk too, keeps in a
// DirectoryCache what they say, and takes back what the server revokes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/counters.hpp"
#include "base/task.hpp"
#include "client/session.hpp"
#include "client/waiters.hpp"
#include "filesystem/directory_cache.hpp"
#include "filesystem/inode_map.hpp"
#include "filesystem/lease_term.hpp"
#include "filesystem/walk.hpp"

namespace remofile::filesystem {

// One thread: the session's.
class LeasedNames {
public:
    // Numbers that rise with each event of the file system; see FileContents::now().
    using Events = std::function<std::uint64_t()>;
    using GiveBack = std::function<void(std::vector<wire::ForgetNode>)>;

    // All must outlive it. Takes over Session::on_answered and on_stopping.
    LeasedNames(client::Session& session, const Clock& clock, Counters& counters, InodeMap& inodes, Events now,
                GiveBack give_back);
    ~LeasedNames();
    LeasedNames(const LeasedNames&) = delete;
    LeasedNames& operator=(const LeasedNames&) = delete;

    // Whether what is known may be used, and more be learned.
    bool in_force() const { return session_.connected() && term_.in_force(); }
    // The session is another one: nothing is known.
    void begin_session();
    // What the server tells. What is void is not known any more when this returns.
    void revoke(const client::Invalidation& invalidation);

    DirectoryCache& known() { return known_; }
    const DirectoryCache& known() const { return known_; }

    // Called when what is kept of the content of a name is void, of all names of a directory (an empty name), or of all
    // (directory 0).
    std::function<void(InodeNumber directory, std::string_view name)> on_void;

    // Called with a directory whose exclusive lease another client wants to be shared, as the server knows it and by
    // its number, 0 if it has none any more.
    std::function<void(NodeId node, InodeNumber directory)> on_shared;
    // Called with a directory that has no number here, of whose lease the server has said something.
    std::function<void(NodeId node)> on_unknown;
    // Called with a directory whose lease has ended, or who may change what in it; 0: all of them.
    std::function<void(InodeNumber directory)> on_lost;

    // ---- what asks the server; each ends when what there is to know is known. Errors: interrupted, nothing else:
    // what could not be had is not known, and whoever needs it asks for it alone.

    // The whole listing of a directory, unless that is too large to be kept: then as far as one answer goes.
    Task<Status> list(InodeNumber directory, std::uint32_t credential, client::Cancellation* cancellation);
    // Of names that are looked up: lists the directory, if it is worth it, and the directory that has the name, if the
    // look-ups show a walk; then fetches more ahead of it.
    Task<Status> prepare(InodeNumber parent, std::string_view name, std::uint32_t credential,
                         client::Cancellation* cancellation);

    // ---- what answers to other requests bring, and what is changed from here

    // The file, found under that name by a request that was asked at `asked_at`.
    void found(InodeNumber parent, std::string_view name, Inode& inode, const wire::Attributes& attributes,
               std::uint64_t asked_at);
    // A file that was fetched by its name.
    void fetched(InodeNumber parent, std::string_view name, const wire::Attributes& attributes, std::uint64_t asked_at);
    // Attributes of a file that came by its number.
    void heard(const Inode& inode, const wire::Attributes& attributes, std::uint64_t asked_at);
    // The attributes of a file, or who may enter a directory, were changed from here.
    void changed(Inode& inode);
    // Its extended attributes were, and its attributes with them.
    void xattrs_changed(Inode& inode);
    // It does not have these.
    void lacks_xattrs(const Inode& inode, AbsentXattrs absent, std::uint64_t asked_at);
    // The directory is gone.
    void forget(InodeNumber directory);
    // The current attributes of a file that is known by number; null: they have to be asked for.
    const wire::Attributes* attributes(const Inode& inode);
    // What it certainly has not.
    AbsentXattrs absent_xattrs(const Inode& inode) const;
    // What a symlink names; null: it has to be asked for. Valid until the next call that changes anything.
    const std::string* target(const Inode& inode) const;

private:
    using Key = std::pair<InodeNumber, std::string>;  // a directory by its number, or by its name in another one

    // How much of a directory is asked for: one answer, which nobody has asked for yet; one answer; all that is kept of
    // a directory.
    enum class Extent : std::uint8_t { ahead, one_answer, whole };

    // A LIST under way, with what goes on from it.
    struct Pending {
        NodeId node;  // by which it may be revoked
        Extent extent = Extent::ahead;
        bool is_void = false;
        bool abandoned = false;  // nobody is there any more to know what it brings
        client::Waiters waiters;
    };
    using PendingPtr = std::shared_ptr<Pending>;  // shared by the coroutine that asks and those that wait

    PendingPtr start(const Key& key, std::uint32_t credential, Extent extent);
    Task<void> ask(Key key, std::uint32_t credential, PendingPtr pending);
    // What answers have brought of a directory so far.
    struct Listing {
        std::vector<wire::DirectoryEntry> entries;
        bool complete = false;
    };
    Task<void> read_on(PendingPtr pending, HandleId handle, std::uint32_t credential, Listing& listing);
    void take_in(const Key& key, const Pending& pending, const wire::ListReply& reply, std::optional<Listing> listing,
                 std::uint64_t asked_at, TimePoint asked);
    Task<Status> have(Key key, std::uint32_t credential, Extent extent, client::Cancellation* cancellation);
    bool is_worth_listing(InodeNumber directory, std::string_view name);
    const DirectoryCache::Entry* entry_of(const Inode& inode) const;
    Inode* directory_of(const Key& key, const wire::ListReply& reply, std::vector<wire::ForgetNode>& unneeded);
    std::vector<InodeNumber> put_entries(InodeNumber directory, const std::vector<DirectoryCache::Entry>& entries);
    void reconcile(InodeNumber directory, const std::vector<InodeNumber>& inodes, std::uint64_t asked_at);
    void fetch_ahead(std::uint32_t credential);
    void make_void(InodeNumber directory, std::string_view name);
    void tell_lost(InodeNumber directory);
    void let_go(InodeNumber directory);
    void let_go_all();
    void lose_all();

    client::Session& session_;
    const Clock& clock_;
    InodeMap& inodes_;
    Events now_;
    GiveBack give_back_;
    LeaseTerm term_;
    DirectoryCache known_;
    Walk directories_;
    std::map<Key, PendingPtr> pending_;
    Key directory_found_alone_;  // the last one that was looked up in a directory that is not listed
    Counters::Counter& listed_;
    Counters::Counter& listed_ahead_;
};

}  // namespace remofile::filesystem
