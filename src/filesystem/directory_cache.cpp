// SPDX-License-Identifier: MIT
#include "filesystem/directory_cache.hpp"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace remofile::filesystem {
namespace {

// Names that are not known in an otherwise complete listing; beyond it the listing counts as incomplete.
constexpr std::size_t max_unknown_names = 1024;
// Absent names that are remembered of a directory whose listing is not complete.
constexpr std::size_t max_absent_names = 1024;
// Names that are lent of one directory at a time though it has none of them.
constexpr std::size_t max_lent_besides = 1024;
// Directories of which only the time of an event is remembered. They take some 200 bytes each.
constexpr std::size_t max_marks = 64U << 10;

// Whoever is in front keeps what it is lent from when it has taken the answer in, which is later than when the time was
// reckoned: the kernel counts from there, in ticks of its own, and after the program that waits has come to run. What
// takes longer than this takes what the server grants beyond our trust.
constexpr auto answer_under_way = std::chrono::seconds(1);

// What an entry costs beyond itself and its name: its place in the listing, in the index by name and in the order of
// names, and what malloc adds.
constexpr std::size_t entry_overhead_bytes = 104;

// Whether a lease of the directory covers the attributes: they are known, and nobody can change them by a name that
// lies elsewhere.
bool is_covered(const wire::Attributes& attributes) {
    return attributes.mode != 0 && (attributes.links <= 1 || S_ISDIR(attributes.mode));
}

}  // namespace

struct DirectoryCache::Slot {
    Entry entry;
    bool current = false;             // the attributes
    bool changed_here_alone = false;  // since they were
    InodeNumber directory = 0;        // the number under which its own entries were learned, if they were
    // What it is like now. That it has no extended attributes is not among it: it holds on if they cannot have been
    // changed meanwhile, by anybody else or by another name from here.
    void take_in(const wire::Attributes& attributes) {
        if (!current && !(changed_here_alone && is_covered(entry.attributes)))
            entry.absent_xattrs = 0;
        entry.attributes = attributes;
        current = is_covered(attributes);
        changed_here_alone = false;
    }
    std::size_t bytes() const { return sizeof *this + entry_overhead_bytes + entry.name.size() + entry.target.size(); }
};

struct DirectoryCache::Directory {
    InodeNumber number = 0;
    std::uint64_t changed_at = 0;  // by anybody: what was asked for before may be of the time before
    std::uint64_t revoked_at = 0;  // by the server
    // What was lent, until when at most somebody in front goes by it.
    TimePoint lent_until{};
    TimePoint own_lent_until{};
    std::unordered_set<std::string> lent_besides;  // names that are not in `slots`
    bool names_lent = false;                       // as they are now
    bool better_listed_anew = false;
    // The rest means something only while `known`.
    bool known = false;
    bool complete = false;  // every name that is there is in `slots` or among `unknown`
    Place place;
    wire::Attributes own;
    bool own_current = false;
    AbsentXattrs own_absent_xattrs = 0;      // true while own_current
    std::optional<TimePoint> trusted_until;  // besides the term
    std::list<Slot> slots;                   // in the order of the server; what was made since comes last
    std::unordered_map<std::string_view, std::list<Slot>::iterator> by_name;  // the names are those in the slots
    std::unordered_set<std::string> unknown;                                  // names of which nothing is known
    std::unordered_set<std::string> absent;                                   // where the listing is not complete
    // Made when asked for, and kept by who reads them: a walk opens each directory once.
    std::weak_ptr<const std::vector<Name>> names;
    mutable std::vector<const Slot*> sorted;
    std::size_t bytes = 0;
    std::list<InodeNumber>::iterator use;
};

DirectoryCache::DirectoryCache(const LeaseTerm& term, const Clock& clock, Counters& counters, std::size_t limit_bytes)
    : term_(term),
      clock_(clock),
      limit_bytes_(limit_bytes),
      hits_(counters.at("names.hits")),
      misses_(counters.at("names.misses")),
      given_up_(counters.at("names.given_up")) {}

DirectoryCache::~DirectoryCache() = default;

// ---------------------------------------------------------------- what is known

const DirectoryCache::Directory* DirectoryCache::trusted(InodeNumber number) const {
    const auto found = directories_.find(number);
    if (found == directories_.end() || !found->second.known || !term_.in_force())
        return nullptr;
    const Directory& directory = found->second;
    return directory.trusted_until && *directory.trusted_until <= clock_.now() ? nullptr : &directory;
}

DirectoryCache::Directory* DirectoryCache::trusted(InodeNumber number) {
    return const_cast<Directory*>(std::as_const(*this).trusted(number));
}

Duration DirectoryCache::life(const Directory& directory) const {
    const Duration left = term_.left();
    return directory.trusted_until ? std::min(left, *directory.trusted_until - clock_.now()) : left;
}

DirectoryCache::Answer DirectoryCache::find(InodeNumber number, std::string_view name) {
    Directory* directory = trusted(number);
    if (directory == nullptr) {
        misses_.add();
        return {};
    }
    use(*directory);
    if (const auto known = directory->by_name.find(name); known != directory->by_name.end()) {
        const Slot& found = *known->second;
        (found.current ? hits_ : misses_).add();
        return {.knowledge = Knowledge::present,
                .attributes = &found.entry.attributes,
                .current = found.current,
                .changed_here_alone = found.changed_here_alone};
    }
    const std::string text(name);
    const bool absent = directory->complete ? !directory->unknown.contains(text) : directory->absent.contains(text);
    (absent ? hits_ : misses_).add();
    if (!absent)
        return {};
    return {.knowledge = Knowledge::absent};
}

bool DirectoryCache::is_told_of(InodeNumber number) const {
    const Directory* directory = trusted(number);
    return directory != nullptr && !directory->trusted_until;
}

const wire::Attributes* DirectoryCache::own_attributes(InodeNumber number) {
    Directory* directory = trusted(number);
    if (directory == nullptr || !directory->own_current)
        return nullptr;
    use(*directory);
    return &directory->own;
}

const wire::Attributes* DirectoryCache::last_own_attributes(InodeNumber number) const {
    const Directory* directory = trusted(number);
    return directory == nullptr || directory->own.mode == 0 ? nullptr : &directory->own;
}

AbsentXattrs DirectoryCache::absent_xattrs(InodeNumber number, std::string_view name) const {
    const Directory* directory = trusted(number);
    if (directory == nullptr)
        return 0;
    const auto known = directory->by_name.find(name);
    return known != directory->by_name.end() && known->second->current ? known->second->entry.absent_xattrs
                                                                       : AbsentXattrs{};
}

AbsentXattrs DirectoryCache::own_absent_xattrs(InodeNumber number) const {
    const Directory* directory = trusted(number);
    return directory != nullptr && directory->own_current ? directory->own_absent_xattrs : AbsentXattrs{};
}

DirectoryCache::Names DirectoryCache::names(InodeNumber number) {
    Directory* directory = trusted(number);
    if (directory == nullptr || !directory->complete || !directory->unknown.empty())
        return nullptr;
    use(*directory);
    if (Names known = directory->names.lock(); known != nullptr)
        return known;
    const auto made = std::make_shared<std::vector<Name>>();
    made->reserve(directory->slots.size());
    for (const Slot& each : directory->slots)
        made->push_back({each.entry.name, each.entry.inode, each.entry.type});
    directory->names = made;
    return made;
}

// ---------------------------------------------------------------- what is lent

DirectoryCache::Loan DirectoryCache::lend(InodeNumber number, std::string_view name) {
    Directory* directory = trusted(number);
    if (directory == nullptr)
        return {};
    const Duration time = life(*directory);
    if (!is_lent(directory->lent_until))
        directory->lent_besides.clear();
    if (const auto known = directory->by_name.find(name); known != directory->by_name.end()) {
        const Slot& slot = *known->second;
        directory->lent_until = std::max(directory->lent_until, clock_.now() + time + answer_under_way);
        const bool with_attributes = slot.current && !S_ISDIR(slot.entry.attributes.mode);
        return {.name = time, .attributes = with_attributes ? time : Duration::zero()};
    }
    std::string text(name);
    const bool absent = directory->complete ? !directory->unknown.contains(text) : directory->absent.contains(text);
    if (!absent || (directory->lent_besides.size() >= max_lent_besides && !directory->lent_besides.contains(text)))
        return {};
    directory->lent_besides.insert(std::move(text));
    directory->lent_until = std::max(directory->lent_until, clock_.now() + time + answer_under_way);
    return {.name = time};
}

Duration DirectoryCache::lend_own(InodeNumber number) {
    Directory* directory = trusted(number);
    if (directory == nullptr || !directory->own_current)
        return Duration::zero();
    const Duration time = life(*directory);
    directory->own_lent_until = std::max(directory->own_lent_until, clock_.now() + time + answer_under_way);
    return time;
}

// What was lent is void when the directory that it was lent of loses it, which is another one from now on. Where that
// one cannot be trusted for as long, nothing would tell.
void DirectoryCache::loan_moves(InodeNumber from, std::string_view name, InodeNumber to, std::string_view new_name) {
    const auto source = directories_.find(from);
    if (source == directories_.end() || !is_lent(source->second.lent_until))
        return;
    const TimePoint until = source->second.lent_until;
    Directory* target = trusted(to);
    if (target != nullptr && (!target->trusted_until || until <= *target->trusted_until + answer_under_way) &&
        target->lent_besides.size() < max_lent_besides) {
        if (!is_lent(target->lent_until))
            target->lent_besides.clear();
        target->lent_until = std::max(target->lent_until, until);
        target->lent_besides.emplace(new_name);
        return;
    }
    const Entry* moved = peek(from, name);
    if (on_name_void)
        on_name_void(to, std::string(new_name), moved == nullptr ? nullptr : &moved->attributes.identity);
    if (moved != nullptr)
        attributes_void(moved->attributes.identity);
}

bool DirectoryCache::lend_names(InodeNumber number) {
    Directory* directory = trusted(number);
    if (directory == nullptr)
        return false;
    // Once single names are not lent any more, listing anew lends them all again.
    const bool anew =
        std::exchange(directory->better_listed_anew, false) || !is_lent(directory->lent_until - answer_under_way);
    return std::exchange(directory->names_lent, true) && !anew;
}

void DirectoryCache::better_listed_anew(InodeNumber number) {
    if (Directory* directory = trusted(number); directory != nullptr)
        directory->better_listed_anew = true;
}

bool DirectoryCache::are_names(InodeNumber number, const Names& names) const {
    const Directory* directory = trusted(number);
    return directory != nullptr && names != nullptr && directory->names.lock() == names;
}

void DirectoryCache::names_void(Directory& directory) {
    if (std::exchange(directory.names_lent, false) && on_names_void)
        on_names_void(directory.number);
}

// What the name stood for has changed too: it has a link less.
void DirectoryCache::name_void(const Directory& directory, const std::string& name) {
    if (!is_lent(directory.lent_until))
        return;
    const auto known = directory.by_name.find(name);
    const auto* meant = known == directory.by_name.end() ? nullptr : &known->second->entry.attributes.identity;
    if (on_name_void)
        on_name_void(directory.number, name, meant);
    if (meant != nullptr)
        attributes_void(*meant);
}

void DirectoryCache::attributes_void(const wire::FileIdentity& identity) {
    if (on_attributes_void)
        on_attributes_void(identity);
}

// All that was lent of it.
void DirectoryCache::take_back(Directory& directory) {
    names_void(directory);
    for (const Slot& slot : directory.slots)
        name_void(directory, slot.entry.name);
    for (const std::string& name : directory.lent_besides)
        name_void(directory, name);
    if (is_lent(directory.own_lent_until))
        attributes_void(directory.own.identity);
    directory.lent_until = directory.own_lent_until = {};
    directory.lent_besides.clear();
}

// What was lent of names that are known no more once the directory is what is listed: whatever the server tells of them
// would find nothing to take back.
void DirectoryCache::take_back_unlisted(const Directory& directory, const std::vector<Entry>& listed) {
    if (!is_lent(directory.lent_until))
        return;
    std::unordered_map<std::string_view, const wire::FileIdentity*> still_there;
    for (const Entry& entry : listed)
        still_there.emplace(entry.name, &entry.attributes.identity);
    for (const Slot& slot : directory.slots) {
        const auto found = still_there.find(slot.entry.name);
        if (found == still_there.end() || *found->second != slot.entry.attributes.identity)
            name_void(directory, slot.entry.name);
    }
}

// ---------------------------------------------------------------- what answers bring

bool DirectoryCache::has_changed_since(InodeNumber number, std::uint64_t asked_at) const {
    const auto found = directories_.find(number);
    return asked_at <= all_revoked_at_ || (found != directories_.end() && asked_at <= found->second.changed_at);
}

bool DirectoryCache::learn(Listed listed) {
    if (has_changed_since(listed.directory, listed.asked_at))
        return false;
    Directory& directory = directories_[listed.directory];
    directory.number = listed.directory;
    if (directory.known) {
        take_back_unlisted(directory, listed.entries);
        forget_contents(directory);
    }
    directory.known = true;
    directory.complete = listed.complete;
    directory.place = std::move(listed.place);
    directory.own = listed.attributes;
    directory.own_current = is_covered(listed.attributes);
    directory.own_absent_xattrs = listed.absent_xattrs;
    directory.trusted_until.reset();
    if (listed.trust)
        directory.trusted_until = listed.asked + *listed.trust;
    directory.use = by_use_.insert(by_use_.begin(), listed.directory);
    directory.bytes = sizeof(Directory);
    used_bytes_ += directory.bytes;
    for (Entry& entry : listed.entries) {
        // A hostile listing may name one thing twice; the first is as good as the second.
        if (directory.by_name.contains(entry.name))
            continue;
        const auto added = directory.slots.emplace(directory.slots.end());
        added->current = is_covered(entry.attributes);
        added->entry = std::move(entry);
        directory.by_name.emplace(added->entry.name, added);
        directory.bytes += added->bytes();
        used_bytes_ += added->bytes();
    }
    link(directory);
    keep_within_limit();
    return true;
}

// The entry that the directory is, if that is known, leads to it. Another one may have its name by now, but not where
// the directory is made here, and the server has not said yet what it is like.
void DirectoryCache::link(const Directory& directory) {
    Directory* parent = trusted(directory.place.parent);
    if (parent == nullptr)
        return;
    const auto found = parent->by_name.find(directory.place.name);
    if (found == parent->by_name.end())
        return;
    if (directory.own.mode == 0 || found->second->entry.attributes.identity == directory.own.identity)
        found->second->directory = directory.number;
}

void DirectoryCache::put(InodeNumber number, Place place) {
    Directory* directory = trusted(number);
    if (directory == nullptr)
        return;
    directory->place = std::move(place);
    link(*directory);
}

// The directory, if what was asked for at that time may be kept of it.
DirectoryCache::Directory* DirectoryCache::accepting(InodeNumber number, std::uint64_t asked_at) {
    Directory* directory = trusted(number);
    // What holds for a short time only is renewed by whole listings.
    if (directory == nullptr || has_changed_since(number, asked_at) || directory->trusted_until)
        return nullptr;
    return directory;
}

void DirectoryCache::forget_order(Directory& directory) {
    directory.names.reset();
    directory.names_lent = false;
    directory.sorted.clear();
}

// What the name stands for.
void DirectoryCache::put(Directory& directory, std::string_view name, const wire::Attributes& attributes) {
    auto known = directory.by_name.find(name);
    if (known == directory.by_name.end()) {
        const auto added = directory.slots.emplace(directory.slots.end());
        added->entry.name = name;
        known = directory.by_name.emplace(added->entry.name, added).first;
        directory.bytes += added->bytes();
        used_bytes_ += added->bytes();
        forget_order(directory);
    }
    Slot& slot = *known->second;
    if (slot.entry.inode != attributes.identity.inode)
        forget_order(directory);
    if (slot.entry.attributes.identity != attributes.identity) {
        directory.bytes -= slot.entry.target.size();
        used_bytes_ -= slot.entry.target.size();
        slot.entry.target.clear();
        slot.entry.absent_xattrs = 0;
        slot.directory = 0;
    }
    slot.take_in(attributes);
    slot.entry.inode = attributes.identity.inode;
    slot.entry.type = static_cast<std::uint8_t>(IFTODT(attributes.mode));
    directory.unknown.erase(slot.entry.name);
    directory.absent.erase(slot.entry.name);
    directory.lent_besides.erase(slot.entry.name);
}

// The name stands for nothing.
void DirectoryCache::take_out(Directory& directory, std::string_view name) {
    forget_name(directory, name);
    directory.unknown.erase(std::string(name));
    if (!directory.complete && directory.absent.size() < max_absent_names)
        directory.absent.emplace(name);
}

void DirectoryCache::learn(InodeNumber number, std::string_view name, const wire::Attributes& attributes,
                           std::uint64_t asked_at) {
    Directory* directory = accepting(number, asked_at);
    if (directory == nullptr)
        return;
    put(*directory, name, attributes);
    keep_within_limit();
}

void DirectoryCache::learn_absent(InodeNumber number, std::string_view name, std::uint64_t asked_at) {
    if (Directory* directory = accepting(number, asked_at); directory != nullptr)
        take_out(*directory, name);
}

void DirectoryCache::learn_own(InodeNumber number, const wire::Attributes& attributes, std::uint64_t asked_at) {
    if (Directory* directory = accepting(number, asked_at); directory != nullptr) {
        directory->own = attributes;
        directory->own_current = true;
    }
}

void DirectoryCache::note_own(InodeNumber number, const wire::Attributes& attributes) {
    if (Directory* directory = trusted(number); directory != nullptr && !directory->own_current)
        directory->own = attributes;
}

void DirectoryCache::learn_absent_xattrs(InodeNumber number, std::string_view name, AbsentXattrs absent,
                                         std::uint64_t asked_at) {
    Directory* directory = accepting(number, asked_at);
    if (directory == nullptr)
        return;
    if (const auto known = directory->by_name.find(name); known != directory->by_name.end() && known->second->current)
        known->second->entry.absent_xattrs |= absent;
}

void DirectoryCache::learn_own_absent_xattrs(InodeNumber number, AbsentXattrs absent, std::uint64_t asked_at) {
    Directory* directory = accepting(number, asked_at);
    if (directory != nullptr && directory->own_current)
        directory->own_absent_xattrs |= absent;
}

// ---------------------------------------------------------------- what happens

// Notes an event of the directory. Of many unknown ones one time for all is enough.
DirectoryCache::Directory& DirectoryCache::mark(InodeNumber number, std::uint64_t now) {
    const auto known = directories_.find(number);
    if (known == directories_.end() && directories_.size() - by_use_.size() >= max_marks) {
        std::erase_if(directories_, [](const auto& each) { return !each.second.known; });
        all_revoked_at_ = now;
    }
    Directory& directory = known != directories_.end() ? known->second : directories_[number];
    directory.number = number;
    directory.changed_at = now;
    return directory;
}

void DirectoryCache::changed_here(InodeNumber number, std::string_view name, const wire::Attributes* attributes,
                                  std::uint64_t asked_at, std::uint64_t now) {
    Directory& directory = mark(number, now);
    if (!directory.known)
        return;
    directory.own_current = false;
    if (asked_at <= directory.revoked_at || directory.trusted_until) {
        name_void(directory, std::string(name));
        forget_name(directory, name);
    } else if (attributes == nullptr)
        take_out(directory, name);
    else
        put(directory, name, *attributes);
    keep_within_limit();
}

void DirectoryCache::made_here(InodeNumber number, std::string_view name, const wire::Attributes& attributes,
                               AbsentXattrs absent, std::uint64_t asked_at, std::uint64_t now) {
    changed_here(number, name, &attributes, asked_at, now);
    const auto found = directories_.find(number);
    if (found == directories_.end())
        return;
    if (const auto known = found->second.by_name.find(name); known != found->second.by_name.end())
        known->second->entry.absent_xattrs = absent;
}

void DirectoryCache::attributes_are(InodeNumber number, std::string_view name, const wire::Attributes& attributes,
                                    std::uint64_t asked_at) {
    Directory* directory = trusted(number);
    if (directory == nullptr || directory->trusted_until || asked_at <= directory->revoked_at)
        return;
    const auto known = directory->by_name.find(name);
    if (known == directory->by_name.end() || known->second->entry.attributes.identity != attributes.identity)
        return;
    known->second->take_in(attributes);
}

void DirectoryCache::own_attributes_changed_here(InodeNumber number, std::uint64_t now) {
    Directory& directory = mark(number, now);
    directory.own_current = false;
    directory.own_lent_until = {};
}

void DirectoryCache::attributes_changed_here(InodeNumber number, std::string_view name, std::uint64_t now) {
    Directory& directory = mark(number, now);
    if (const auto known = directory.by_name.find(name); known != directory.by_name.end()) {
        Slot& slot = *known->second;
        slot.changed_here_alone |= slot.current;
        slot.current = false;
    }
}

void DirectoryCache::linked_here(InodeNumber number, std::string_view name, std::uint64_t now) {
    attributes_changed_here(number, name, now);
    Directory& directory = directories_[number];
    if (const auto known = directory.by_name.find(name); known != directory.by_name.end())
        ++known->second->entry.attributes.links;
}

void DirectoryCache::xattrs_changed_here(InodeNumber number, std::string_view name) {
    const auto found = directories_.find(number);
    if (found == directories_.end())
        return;
    if (const auto known = found->second.by_name.find(name); known != found->second.by_name.end())
        known->second->entry.absent_xattrs = 0;
}

void DirectoryCache::revoke_name(InodeNumber number, std::string_view name, std::uint64_t now) {
    Directory& directory = mark(number, now);
    directory.revoked_at = now;
    if (!directory.known)
        return;
    revoke_own_attributes(number, now);
    names_void(directory);
    name_void(directory, std::string(name));
    forget_name(directory, name);
}

void DirectoryCache::revoke_attributes(InodeNumber number, std::string_view name, std::uint64_t now) {
    attributes_changed_here(number, name, now);
    xattrs_changed_here(number, name);
    Directory& directory = directories_[number];
    directory.revoked_at = now;
    if (const auto known = directory.by_name.find(name); known != directory.by_name.end())
        known->second->changed_here_alone = false;
    if (const auto known = directory.by_name.find(name); known != directory.by_name.end())
        if (is_lent(directory.lent_until))
            attributes_void(known->second->entry.attributes.identity);
}

void DirectoryCache::revoke_own_attributes(InodeNumber number, std::uint64_t now) {
    Directory& directory = mark(number, now);
    directory.revoked_at = now;
    directory.own_current = false;
    directory.own_absent_xattrs = 0;
    if (is_lent(directory.own_lent_until))
        attributes_void(directory.own.identity);
    directory.own_lent_until = {};
}

void DirectoryCache::revoke(InodeNumber number, std::uint64_t now) {
    Directory& directory = mark(number, now);
    directory.revoked_at = now;
    take_back(directory);
    if (directory.known)
        forget_contents(directory);
}

void DirectoryCache::revoke_all(std::uint64_t now) {
    for (auto& [number, directory] : directories_)
        take_back(directory);
    all_revoked_at_ = now;
    directories_.clear();
    by_use_.clear();
    used_bytes_ = 0;
}

void DirectoryCache::remove(InodeNumber number) {
    const auto found = directories_.find(number);
    if (found == directories_.end())
        return;
    take_back(found->second);
    if (found->second.known)
        forget_contents(found->second);
    directories_.erase(found);
}

// The name may stand for anything.
void DirectoryCache::forget_name(Directory& directory, std::string_view name) {
    forget_order(directory);
    std::string text(name);  // the caller's may be the slot's
    if (const auto known = directory.by_name.find(text); known != directory.by_name.end()) {
        const auto slot = known->second;
        directory.bytes -= slot->bytes();
        used_bytes_ -= slot->bytes();
        directory.by_name.erase(known);
        directory.slots.erase(slot);
    }
    directory.absent.erase(text);
    if (!directory.complete)
        return;
    directory.unknown.insert(std::move(text));
    if (directory.unknown.size() > max_unknown_names) {
        directory.complete = false;
        directory.unknown.clear();
    }
}

void DirectoryCache::forget_contents(Directory& directory) {
    used_bytes_ -= directory.bytes;
    by_use_.erase(directory.use);
    const std::uint64_t changed_at = directory.changed_at;
    const std::uint64_t revoked_at = directory.revoked_at;
    const InodeNumber number = directory.number;
    const TimePoint lent_until = directory.lent_until;
    const TimePoint own_lent_until = directory.own_lent_until;
    auto lent_besides = std::move(directory.lent_besides);
    directory = Directory{};
    directory.lent_until = lent_until;
    directory.own_lent_until = own_lent_until;
    directory.lent_besides = std::move(lent_besides);
    directory.number = number;
    directory.changed_at = changed_at;
    directory.revoked_at = revoked_at;
}

void DirectoryCache::use(Directory& directory) {
    by_use_.splice(by_use_.begin(), by_use_, directory.use);
}

void DirectoryCache::keep_within_limit() {
    // The one in use stays, however large it is: the limit of its reply bounds it.
    while (used_bytes_ > limit_bytes_ && by_use_.size() > 1) {
        const InodeNumber oldest = by_use_.back();
        remove(oldest);
        given_up_.add();
        if (on_given_up)
            on_given_up(oldest);
    }
}

// ---------------------------------------------------------------- for those who fetch ahead

const DirectoryCache::Place* DirectoryCache::place(InodeNumber number) const {
    const Directory* directory = trusted(number);
    return directory == nullptr ? nullptr : &directory->place;
}

InodeNumber DirectoryCache::directory_at(InodeNumber parent, std::string_view name) const {
    if (const Entry* entry = peek(parent, name); entry != nullptr && entry->type != DT_DIR)
        return 0;
    if (const InodeNumber linked = known_directory(parent, name); linked != 0)
        return linked;
    const auto found = std::ranges::find_if(by_use_, [&](InodeNumber number) {
        const Place& its = directories_.at(number).place;
        return its.parent == parent && its.name == name;
    });
    return found == by_use_.end() ? 0 : *found;
}

bool DirectoryCache::is_partial(InodeNumber number) const {
    const Directory* directory = trusted(number);
    return directory != nullptr && !directory->complete;
}

const DirectoryCache::Entry* DirectoryCache::peek(InodeNumber number, std::string_view name) const {
    const Directory* directory = trusted(number);
    if (directory == nullptr)
        return nullptr;
    const auto known = directory->by_name.find(name);
    return known == directory->by_name.end() ? nullptr : &known->second->entry;
}

InodeNumber DirectoryCache::known_directory(InodeNumber parent, std::string_view name) const {
    const Directory* directory = trusted(parent);
    if (directory == nullptr)
        return 0;
    const auto known = directory->by_name.find(name);
    if (known == directory->by_name.end() || known->second->directory == 0)
        return 0;
    // It may have been given up, or moved, since.
    const Place* found = place(known->second->directory);
    return found != nullptr && found->parent == parent && found->name == name ? known->second->directory : 0;
}

const DirectoryCache::Entry* DirectoryCache::next(InodeNumber number, Order order, std::string_view name) const {
    const Directory* directory = trusted(number);
    if (directory == nullptr || directory->slots.empty())
        return nullptr;
    if (order == Order::listing) {
        auto next = directory->slots.begin();
        if (!name.empty()) {
            const auto known = directory->by_name.find(name);
            if (known == directory->by_name.end())
                return nullptr;
            next = std::next(known->second);
        }
        return next == directory->slots.end() ? nullptr : &next->entry;
    }
    const auto by_name = [](const Slot* slot) -> std::string_view { return slot->entry.name; };
    auto& sorted = directory->sorted;
    if (sorted.empty()) {
        for (const Slot& slot : directory->slots)
            sorted.push_back(&slot);
        std::ranges::sort(sorted, {}, by_name);
    }
    const auto next = std::ranges::upper_bound(sorted, name, {}, by_name);
    return next == sorted.end() ? nullptr : &(*next)->entry;
}

}  // namespace remofile::filesystem
