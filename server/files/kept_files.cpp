// SPDX-License-Identifier: MIT
#include "server/files/kept_files.hpp"

#include <sys/stat.h>

#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/log.hpp"

namespace remofile::server {
namespace {

// Inode number, seconds and nanoseconds of the time of birth, holder: hexadecimal digits of fixed width, and "-"
// between them.
constexpr std::size_t inode_digits = 16;
constexpr std::size_t seconds_digits = 16;
constexpr std::size_t nanoseconds_digits = 8;
constexpr std::size_t name_bytes =
    inode_digits + 1 + seconds_digits + 1 + nanoseconds_digits + 1 + 2 * std::tuple_size_v<HolderTag>;

EntryName name_of(const wire::FileIdentity& identity, const HolderTag& holder) {
    std::array<char, name_bytes + 1> text{};
    int size = std::snprintf(text.data(), text.size(), "%016" PRIx64 "-%016" PRIx64 "-%08" PRIx32 "-", identity.inode,
                             static_cast<std::uint64_t>(identity.birth.seconds), identity.birth.nanoseconds);
    for (const std::uint8_t byte : holder)
        size += std::snprintf(text.data() + size, text.size() - static_cast<std::size_t>(size), "%02x", byte);
    return EntryName::check(text.data()).value();
}

// Takes the digits, and the "-" that follows them if any do, from the front.
template <class Number>
bool take_digits(std::string_view& text, std::size_t digits, Number& number) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + std::min(digits, text.size()), number, 16);
    if (error != std::errc() || end != text.data() + digits)
        return false;
    text.remove_prefix(digits);
    return true;
}

struct Named {
    wire::FileIdentity identity;  // but for the device
    HolderTag holder{};
};

// Nothing if the name is not of the form that name_of() makes.
std::optional<Named> read_name(const std::string& name) {
    if (name.size() != name_bytes)
        return std::nullopt;
    Named named;
    std::uint64_t seconds = 0;
    std::string_view rest = name;
    if (!take_digits(rest, inode_digits, named.identity.inode) || !rest.starts_with('-'))
        return std::nullopt;
    rest.remove_prefix(1);
    if (!take_digits(rest, seconds_digits, seconds) || !rest.starts_with('-'))
        return std::nullopt;
    rest.remove_prefix(1);
    if (!take_digits(rest, nanoseconds_digits, named.identity.birth.nanoseconds) || !rest.starts_with('-'))
        return std::nullopt;
    rest.remove_prefix(1);
    for (std::uint8_t& byte : named.holder) {
        if (!take_digits(rest, 2, byte))
            return std::nullopt;
    }
    named.identity.birth.seconds = static_cast<std::int64_t>(seconds);
    return name_of(named.identity, named.holder).text() == name ? std::optional(named) : std::nullopt;
}

}  // namespace

KeptFiles::~KeptFiles() {
    for (auto& [inode, left] : *left_.lock())
        left.link->stays_ = true;
}

// ---------------------------------------------------------------- links

KeptFiles::Link::~Link() {
    if (!stays_)
        static_cast<void>(remove_file(directory_->fd(), name_));
}

Result<UniqueFd> KeptFiles::Link::open() const {
    REMOFILE_TRY(opened, open_entry(directory_->fd(), name_));
    REMOFILE_TRY(attributes, stat_descriptor(opened.get()));
    if (attributes.identity != identity_ || !S_ISREG(attributes.mode))
        return Status::stale;
    return opened;
}

Result<KeptFiles::LinkPtr> KeptFiles::Link::again_for(const HolderTag& holder) const {
    REMOFILE_TRY(opened, open());
    EntryName name = name_of(identity_, holder);
    REMOFILE_CHECK(link_entry(opened.get(), directory_->fd(), name));
    return std::make_shared<Link>(directory_, std::move(name), identity_, holder);
}

Result<std::shared_ptr<HiddenDirectory>> KeptFiles::directory(bool& root_changed) {
    const std::lock_guard guard(making_);
    if (hidden_ && hidden_->is_gone())
        hidden_.reset();
    if (!hidden_) {
        REMOFILE_TRY(made, HiddenDirectory::make(root_.get(), EntryName::Reserved::kept));
        root_changed = true;
        hidden_ = std::move(made);
    }
    return hidden_;
}

Result<KeptFiles::LinkPtr> KeptFiles::keep(int descriptor, const wire::FileIdentity& identity, const HolderTag& holder,
                                           bool& root_changed) {
    // What can be seen to be in vain leaves the root as it is.
    REMOFILE_TRY(root, stat_descriptor(root_.get()));
    if (root.identity.device != identity.device)
        return Status::cross_device;
    REMOFILE_TRY(above, directory(root_changed));
    EntryName name = name_of(identity, holder);
    REMOFILE_CHECK(link_entry(descriptor, above->fd(), name));
    return std::make_shared<Link>(std::move(above), std::move(name), identity, holder);
}

// ---------------------------------------------------------------- what is left

// A file of which there are more links than these has a name: its server had not removed that yet.
void KeptFiles::take_over_leftovers() {
    const auto root = stat_descriptor(root_.get());
    if (!root)
        return;
    std::map<std::uint64_t, std::vector<LinkPtr>> by_inode;
    std::map<std::uint64_t, std::uint64_t> links;
    bool others_live = false;
    for (const auto& directory : HiddenDirectory::take_over_all(root_.get(), EntryName::Reserved::kept, &others_live)) {
        bool has_others = false;
        for (const std::string& each : entry_names(directory->fd())) {
            auto named = read_name(each);
            auto name = EntryName::check(each);
            const auto attributes = named && name ? stat_entry(directory->fd(), *name) : Status::stale;
            if (named)
                named->identity.device = root->identity.device;
            if (!attributes || !S_ISREG(attributes->mode) || attributes->identity != named->identity) {
                has_others |= each != "." && each != "..";
                continue;
            }
            by_inode[named->identity.inode].push_back(
                std::make_shared<Link>(directory, std::move(*name), named->identity, named->holder));
            links[named->identity.inode] = attributes->links;
        }
        if (has_others)
            log::warn("{}, which a server has left in the export, has something else in it", directory->name().text());
    }
    may_find_more_ = others_live;
    for (auto& [inode, found] : by_inode) {
        if (links[inode] > found.size())
            continue;
        for (LinkPtr& link : found)
            leave(std::move(link));
    }
}

void KeptFiles::leave(LinkPtr link) {
    put({.link = std::move(link)});
}

// One too many goes after the lock, with the parameter.
void KeptFiles::put(Left left) {
    auto all = left_.lock();
    if (all->size() < max_left) {
        const std::uint64_t inode = left.link->identity().inode;
        all->emplace(inode, std::move(left));
    }
}

void KeptFiles::take_place(const HolderTag& from, const HolderTag& by) {
    if (may_find_more_)
        take_over_leftovers();
    std::vector<Left> known;
    {
        auto left = left_.lock();
        for (auto each = left->begin(); each != left->end();) {
            if (each->second.link->holder() != from && each->second.in_its_place != from) {
                ++each;
                continue;
            }
            known.push_back(std::move(each->second));
            each = left->erase(each);
        }
    }
    for (Left& each : known) {
        if (each.link->holder() == from) {
            if (auto again = each.link->again_for(by))
                put({.link = std::move(*again)});
        }
        each.in_its_place = by;
        put(std::move(each));
    }
}

KeptFiles::LinkPtr KeptFiles::take(const wire::FileIdentity& identity, const HolderTag& holder) {
    std::vector<LinkPtr> needless;  // removed after the lock
    LinkPtr taken;
    auto left = left_.lock();
    const auto [begin, end] = left->equal_range(identity.inode);
    for (auto each = begin; each != end;) {
        if (each->second.link->identity() != identity) {
            ++each;
        } else if (!taken && each->second.link->holder() == holder) {
            taken = std::move(each->second.link);
            each = left->erase(each);
        } else if (each->second.in_its_place == holder) {
            needless.push_back(std::move(each->second.link));
            each = left->erase(each);
        } else {
            ++each;
        }
    }
    return taken;
}

bool KeptFiles::has_left() const {
    return !left_.lock()->empty();
}

void KeptFiles::remove_all_left() {
    LeftByInode all;  // removed after the lock
    std::swap(all, *left_.lock());
}

void KeptFiles::remove_unclaimed() {
    std::vector<LinkPtr> unclaimed;  // removed after the lock
    auto left = left_.lock();
    for (auto each = left->begin(); each != left->end();) {
        if (!std::exchange(each->second.is_old, true)) {
            ++each;
            continue;
        }
        unclaimed.push_back(std::move(each->second.link));
        each = left->erase(each);
    }
}

}  // namespace remofile::server
