// SPDX-License-Identifier: MIT
// What is known of directories under leases: which names there are and which there are not, and the attributes of what
// they name. It answers in place of the server, so it must never know more than what is true.
//
// Three rules keep it so. A directory is known only while its lease is in force. What the server revokes, and what was
// changed from here, is not known any more until it has been asked for again. And an answer counts only if it was asked
// for after the latest such event of its directory: one that was under way meanwhile may tell of the time before.
// (Times are numbers that rise with each event of the file system.)
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/clock.hpp"
#include "base/counters.hpp"
#include "filesystem/inode_number.hpp"
#include "filesystem/lease_term.hpp"
#include "wire/messages.hpp"

namespace remofile::filesystem {

// Which extended attributes a file is known not to have, as a sum of bits.
using AbsentXattrs = std::uint8_t;
inline constexpr AbsentXattrs no_access_acl = 1;
inline constexpr AbsentXattrs no_default_acl = 2;
inline constexpr AbsentXattrs no_listed_xattrs = 4;
inline constexpr AbsentXattrs no_xattrs_at_all = no_access_acl | no_default_acl | no_listed_xattrs;

// One thread: that of the session.
class DirectoryCache {
public:
    // An entry as a listing shows it. Attributes of mode 0: the caller may not see them.
    struct Entry {
        std::string name;
        std::uint64_t inode = 0;  // the server's number
        std::uint8_t type = 0;    // DT_*
        wire::Attributes attributes;
        AbsentXattrs absent_xattrs = 0;  // true while the attributes are current
        std::string target;              // of a symlink, if it is known
    };

    // Where a directory was found; the root has none.
    struct Place {
        InodeNumber parent = 0;
        std::string name;
    };

    // Keeps at most `limit_bytes`, and gives up what was used longest ago.
    DirectoryCache(const LeaseTerm& term, const Clock& clock, Counters& counters, std::size_t limit_bytes);
    ~DirectoryCache();
    DirectoryCache(const DirectoryCache&) = delete;
    DirectoryCache& operator=(const DirectoryCache&) = delete;

    // Called with a directory that was given up for want of room: nothing of it is kept, its lease can be returned.
    std::function<void(InodeNumber)> on_given_up;

    // ---- what is known

    enum class Knowledge : std::uint8_t { unknown, absent, present };
    struct Answer {
        Knowledge knowledge = Knowledge::unknown;
        // Of what is present; they may be out of date unless `current`. Valid until the next call that changes
        // anything.
        const wire::Attributes* attributes = nullptr;
        bool current = false;
        // They are out of date only by what was changed from here: times, mode, owner, size.
        bool changed_here_alone = false;
    };
    Answer find(InodeNumber directory, std::string_view name);
    // Whether the server tells of all changes in it: what is known is then no older than the news.
    bool is_told_of(InodeNumber directory) const;
    // The directory's own attributes, if they are current.
    const wire::Attributes* own_attributes(InodeNumber directory);
    // The same as they were when they were last heard of, if anything is known of the directory.
    const wire::Attributes* last_own_attributes(InodeNumber directory) const;

    // What a file has not, if its attributes are current. That of directories: of their own.
    AbsentXattrs absent_xattrs(InodeNumber directory, std::string_view name) const;
    AbsentXattrs own_absent_xattrs(InodeNumber directory) const;

    // The names in the server's order, if all of them are known. Shared with those who read it: it is not changed.
    struct Name {
        std::string name;
        std::uint64_t inode = 0;
        std::uint8_t type = 0;
    };
    using Names = std::shared_ptr<const std::vector<Name>>;
    Names names(InodeNumber directory);

    // ---- what is lent to whoever is in front

    // For how long it may go by what is known of a name, that it is there or is not, and by the attributes of what it
    // names; zero: not at all. The attributes of a directory are lent by lend_own().
    struct Loan {
        Duration name = Duration::zero();
        Duration attributes = Duration::zero();
    };
    Loan lend(InodeNumber directory, std::string_view name);
    Duration lend_own(InodeNumber directory);

    // Whoever is in front has taken what it was lent of a name along to another name. Before what is known moves.
    void loan_moves(InodeNumber from, std::string_view name, InodeNumber to, std::string_view new_name);

    // Notes that the names of the directory, as names() gives them, are read by somebody in front who may keep them.
    // Whether those were lent before, so that what is kept is true; and whether they are what names() would give.
    bool lend_names(InodeNumber directory);
    bool are_names(InodeNumber directory, const Names& names) const;
    // The attributes of a file of the directory will be asked for again, whatever was lent: whoever lists the directory
    // next had better do it anew, which brings them all.
    void better_listed_anew(InodeNumber directory);

    // Called with what was lent and may not be true any more: a name, with what it stood for if that is known, the
    // names of a directory, the attributes of a file. Not for what is changed from here, as that goes through whoever
    // is in front. They must not change what is known.
    std::function<void(InodeNumber directory, const std::string& name, const wire::FileIdentity* meant)> on_name_void;
    std::function<void(InodeNumber directory)> on_names_void;
    std::function<void(const wire::FileIdentity&)> on_attributes_void;

    // ---- what answers bring, asked for at `asked_at`

    // A listing under a lease, which holds for `trust` from `asked`, the time by the clock, if that is less than the
    // term. Not `complete`: the directory has more names than these. False if it came too late to be kept: if the
    // directory has changed since.
    struct Listed {
        InodeNumber directory = 0;
        Place place;
        wire::Attributes attributes;
        AbsentXattrs absent_xattrs = 0;
        std::vector<Entry> entries;
        bool complete = false;
        std::uint64_t asked_at = 0;
        TimePoint asked{};
        std::optional<Duration> trust;  // none: as long as the lease
    };
    bool learn(Listed listed);
    // Whether what was asked for at that time may be of the time before an event of the directory.
    bool has_changed_since(InodeNumber directory, std::uint64_t asked_at) const;
    void learn(InodeNumber directory, std::string_view name, const wire::Attributes& attributes,
               std::uint64_t asked_at);
    void learn_absent(InodeNumber directory, std::string_view name, std::uint64_t asked_at);
    void learn_own(InodeNumber directory, const wire::Attributes& attributes, std::uint64_t asked_at);
    // They were so, and need not be any more.
    void note_own(InodeNumber directory, const wire::Attributes& attributes);
    // Of a file whose attributes are current.
    void learn_absent_xattrs(InodeNumber directory, std::string_view name, AbsentXattrs absent, std::uint64_t asked_at);
    void learn_own_absent_xattrs(InodeNumber directory, AbsentXattrs absent, std::uint64_t asked_at);

    // ---- what happens, at `now`

    // A request of ours that was asked at `asked_at` has been carried out: what the name stands for now; null for
    // nothing. If the server has revoked something of the directory meanwhile it is not clear which came first, and the
    // name is unknown.
    void changed_here(InodeNumber directory, std::string_view name, const wire::Attributes* attributes,
                      std::uint64_t asked_at, std::uint64_t now);
    // The same of a file that was made or moved there from here, and does not have these.
    void made_here(InodeNumber directory, std::string_view name, const wire::Attributes& attributes,
                   AbsentXattrs absent, std::uint64_t asked_at, std::uint64_t now);
    // The file that has the name was changed by a request of ours, asked at that time, after which nothing else of it
    // was changed from here: what it is like now.
    void attributes_are(InodeNumber directory, std::string_view name, const wire::Attributes& attributes,
                        std::uint64_t asked_at);
    // The directory's own attributes were changed from here, or are about to be: they are out of date.
    void own_attributes_changed_here(InodeNumber directory, std::uint64_t now);
    // The file of that name was changed from here: its attributes are out of date.
    void attributes_changed_here(InodeNumber directory, std::string_view name, std::uint64_t now);

    // The file was given one more name from here.
    void linked_here(InodeNumber directory, std::string_view name, std::uint64_t now);
    // Its extended attributes were: attributes_changed_here() comes besides.
    void xattrs_changed_here(InodeNumber directory, std::string_view name);

    // What the server revokes: a name (with the directory's own attributes), the attributes of a name, the directory's
    // own, or the lease itself. Of an unknown directory the time is remembered, as an answer may be under way.
    void revoke_name(InodeNumber directory, std::string_view name, std::uint64_t now);
    void revoke_attributes(InodeNumber directory, std::string_view name, std::uint64_t now);
    void revoke_own_attributes(InodeNumber directory, std::uint64_t now);
    void revoke(InodeNumber directory, std::uint64_t now);
    void revoke_all(std::uint64_t now);

    // The directory, of which something is known, was found there.
    void put(InodeNumber directory, Place place);
    // The number means nothing any more.
    void remove(InodeNumber directory);

    // ---- for those who fetch ahead

    // Where the directory was found, if anything is known of it.
    const Place* place(InodeNumber directory) const;
    // The known directory that has its place there, whether or not the names of the one above are known; 0: none.
    InodeNumber directory_at(InodeNumber parent, std::string_view name) const;
    // The entry, if it is known to be there. Valid until the next call that changes anything.
    const Entry* peek(InodeNumber directory, std::string_view name) const;
    // The number of the entry, if it is a directory of which something is known; else 0.
    InodeNumber known_directory(InodeNumber parent, std::string_view name) const;
    // Whether it is known, but not all of its names are.
    bool is_partial(InodeNumber directory) const;
    // The entry that comes after `name` in that order; the first, if `name` is empty. Null at the end, and where
    // nothing is known of the directory or of the name. Valid until the next call that changes anything.
    enum class Order : std::uint8_t { listing, names };
    const Entry* next(InodeNumber directory, Order order, std::string_view name) const;

    std::size_t size() const { return directories_.size(); }
    std::size_t used_bytes() const { return used_bytes_; }

private:
    struct Slot;
    struct Directory;

    Duration life(const Directory& directory) const;
    bool is_lent(TimePoint until) const { return until > clock_.now(); }
    void names_void(Directory& directory);
    void name_void(const Directory& directory, const std::string& name);
    void attributes_void(const wire::FileIdentity& identity);
    void take_back(Directory& directory);
    void take_back_unlisted(const Directory& directory, const std::vector<Entry>& listed);
    Directory* trusted(InodeNumber directory);
    const Directory* trusted(InodeNumber directory) const;
    Directory* accepting(InodeNumber directory, std::uint64_t asked_at);
    Directory& mark(InodeNumber directory, std::uint64_t now);
    void link(const Directory& directory);
    void put(Directory& directory, std::string_view name, const wire::Attributes& attributes);
    void take_out(Directory& directory, std::string_view name);
    void forget_name(Directory& directory, std::string_view name);
    static void forget_order(Directory& directory);
    void forget_contents(Directory& directory);
    void use(Directory& directory);
    void keep_within_limit();

    const LeaseTerm& term_;
    const Clock& clock_;
    const std::size_t limit_bytes_;
    Counters::Counter& hits_;
    Counters::Counter& misses_;
    Counters::Counter& given_up_;
    std::size_t used_bytes_ = 0;
    std::uint64_t all_revoked_at_ = 0;
    std::unordered_map<InodeNumber, Directory> directories_;
    std::list<InodeNumber> by_use_;  // the latest first; those of which something is known
};

}  // namespace remofile::filesystem
