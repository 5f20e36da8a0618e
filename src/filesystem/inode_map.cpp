// SPDX-License-Identifier: MIT
#include "filesystem/inode_map.hpp"

#include <sys/stat.h>

#include <algorithm>

#include "base/assert.hpp"

namespace remofile::filesystem {

std::size_t InodeMap::IdentityHash::operator()(const wire::FileIdentity& identity) const noexcept {
    // Inode numbers are dense; spread them (Fibonacci hashing) so that devices and birth times can be added in.
    constexpr std::uint64_t spread = 0x9e3779b97f4a7c15;
    std::uint64_t hash = identity.inode * spread;
    hash = (hash ^ identity.device) * spread;
    hash = (hash ^ static_cast<std::uint64_t>(identity.birth.seconds) ^ identity.birth.nanoseconds) * spread;
    return hash;
}

namespace {

// No file system has inodes of such numbers and none of a time.
constexpr std::uint64_t unconfirmed_inodes = 1ULL << 63;
constexpr std::uint64_t no_epoch = 0;  // sessions have others
// More than can be on their way back to the server.
constexpr std::size_t max_other_nodes = 4096;

// Deeper than any path that a program can name (PATH_MAX / 2); ends a ring that a server might make up.
constexpr std::size_t max_depth = 2048;

}  // namespace

InodeMap::InodeMap(std::uint64_t epoch, NodeId root, const wire::Attributes& attributes) : epoch_(epoch) {
    Inode& inode = inodes_[root_inode];
    inode.id = root_inode;
    inode.type = S_IFDIR;
    new_epoch(epoch, root, attributes);
}

Inode& InodeMap::root() {
    return inodes_.at(root_inode);
}

Inode* InodeMap::find(InodeNumber id) {
    const auto found = inodes_.find(id);
    return found == inodes_.end() ? nullptr : &found->second;
}

Inode* InodeMap::find(NodeId node) {
    const auto found = by_node_.find(node);
    return found == by_node_.end() ? nullptr : find(found->second);
}

Inode* InodeMap::adopt(InodeNumber parent, const wire::EntryReply& entry, std::vector<wire::ForgetNode>& give_back) {
    if (!entry.node)
        return nullptr;
    const wire::FileIdentity& identity = entry.attributes.identity;
    const std::uint32_t type = entry.attributes.mode & S_IFMT;
    if (identity == root().identity) {
        give_back.push_back({entry.node, 1});
        return nullptr;
    }
    if (Inode* known = known_as(identity, type); known != nullptr) {
        claim(*known, entry, give_back);
        found_in(*known, parent);
        hand_out(*known);
        return known;
    }
    Inode& inode = make(parent, entry.attributes);
    inode.server_count = 1;
    bind_node(inode, entry.node);
    return &inode;
}

Inode* InodeMap::adopt_listed(InodeNumber parent, std::string_view name, const wire::Attributes& attributes) {
    if (attributes.identity == root().identity)
        return nullptr;
    Inode* inode = known_as(attributes.identity, attributes.mode & S_IFMT);
    if (inode != nullptr) {
        if (stale(*inode)) {
            inode->epoch = epoch_;
            inode->server_count = 0;
            inode->node = NodeId{};
        }
        found_in(*inode, parent);
        hand_out(*inode);
    } else {
        inode = &make(parent, attributes);
    }
    put(*inode, parent, name);
    return inode;
}

Inode* InodeMap::known_as(const wire::FileIdentity& identity, std::uint32_t type) {
    const auto known = by_identity_.find(identity);
    if (known == by_identity_.end())
        return nullptr;
    if ((*known)->type == type)
        return *known;
    // The server's file system has used the inode's number again, and keeps no birth time to tell: another file.
    by_identity_.erase(known);
    return nullptr;
}

// A new one, given out as an entry once.
Inode& InodeMap::make(InodeNumber parent, const wire::Attributes& attributes) {
    const InodeNumber id = next_id_++;
    Inode& inode = inodes_[id];
    inode.id = id;
    inode.identity = attributes.identity;
    inode.type = attributes.mode & S_IFMT;
    inode.version = attributes.version;
    inode.parent = parent;
    inode.epoch = epoch_;
    hand_out(inode);
    // In place of one that has the same identity, and is another file, if there is any.
    by_identity_.erase(&inode);
    by_identity_.insert(&inode);
    return inode;
}

Inode* InodeMap::find(const wire::FileIdentity& identity) {
    const auto known = by_identity_.find(identity);
    return known == by_identity_.end() ? nullptr : *known;
}

Inode& InodeMap::make_unconfirmed(InodeNumber parent, std::string_view name, std::uint32_t type, NodeId node) {
    wire::Attributes attributes{.mode = type};
    attributes.identity = {.device = root().identity.device, .inode = unconfirmed_inodes + next_id_};
    return make_lent(parent, name, attributes, node);
}

bool InodeMap::has_identity(const Inode& inode) {
    return inode.identity.inode < unconfirmed_inodes;
}

Inode& InodeMap::make_lent(InodeNumber parent, std::string_view name, const wire::Attributes& lent, NodeId node) {
    Inode& inode = make(parent, lent);
    inode.version = 0;
    inode.unmade = true;
    inode.server_count = 1;
    bind_node(inode, node);
    put(inode, parent, name);
    return inode;
}

void InodeMap::confirm(Inode& inode, const wire::Attributes& attributes) {
    by_identity_.erase(&inode);
    inode.unmade = false;
    inode.identity = attributes.identity;
    if (inode.version == 0)
        inode.version = attributes.version & ~wire::version_is_fresh;
    by_identity_.erase(&inode);
    by_identity_.insert(&inode);
}

void InodeMap::condemn(Inode& inode) {
    unbind_node(inode);
    inode.node = NodeId{};
    inode.epoch = no_epoch;
}

void InodeMap::hand_out(Inode& inode) {
    ++inode.entry_count;
    used(inode);
}

void InodeMap::put(Inode& inode, InodeNumber parent, std::string_view name) {
    inode.place.parent = parent;
    inode.place.name = name;
}

void InodeMap::move(Inode& inode, InodeNumber parent, std::string_view name) {
    put(inode, parent, name);
    found_in(inode, parent);
}

void InodeMap::let_go(Inode& inode, std::vector<wire::ForgetNode>& give_back) {
    inode.leased = false;
    inode.too_large = false;
    remove_unless_held(inode, give_back);
}

void InodeMap::let_go_synced(Inode& inode, std::vector<wire::ForgetNode>& give_back) {
    inode.unsynced = false;
    remove_unless_held(inode, give_back);
}

// Accounts for a reply that named a known inode.
void InodeMap::claim(Inode& inode, const wire::EntryReply& entry, std::vector<wire::ForgetNode>& give_back) {
    if (stale(inode) || !inode.node) {
        inode.epoch = epoch_;
        inode.server_count = 1;
        bind_node(inode, entry.node);
    } else if (inode.node == entry.node) {
        ++inode.server_count;
    } else {
        give_back.push_back({entry.node, 1});
        // Until the server has forgotten it, too, it may name the directory so.
        if (inode.type == S_IFDIR)
            remember_other_node(inode, entry.node);
    }
}

void InodeMap::remember_other_node(const Inode& inode, NodeId node) {
    if (!by_node_.try_emplace(node, inode.id).second)
        return;
    other_nodes_.push_back(node);
    if (other_nodes_.size() <= max_other_nodes)
        return;
    // It may have become the only one.
    const Inode* oldest = find(other_nodes_.front());
    if (oldest == nullptr || oldest->node != other_nodes_.front())
        by_node_.erase(other_nodes_.front());
    other_nodes_.pop_front();
}

void InodeMap::found_in(Inode& inode, InodeNumber parent) {
    if (parent == 0 || inode.parent == parent)
        return;
    const bool one_place = inode.type == S_IFDIR || inode.parent == 0;
    if (one_place || depth(parent) < depth(inode.parent))
        inode.parent = parent;
}

std::size_t InodeMap::depth(InodeNumber directory) const {
    std::size_t levels = 0;
    while (directory != root_inode) {
        const auto found = inodes_.find(directory);
        if (found == inodes_.end() || ++levels > max_depth)
            return 0;
        directory = found->second.parent;
    }
    return levels;
}

void InodeMap::bind_node(Inode& inode, NodeId node) {
    inode.node = node;
    by_node_[node] = inode.id;
}

void InodeMap::unbind_node(const Inode& inode) {
    const auto found = by_node_.find(inode.node);
    if (found != by_node_.end() && found->second == inode.id)
        by_node_.erase(found);
}

void InodeMap::forget(InodeNumber id, std::uint64_t count, std::vector<wire::ForgetNode>& give_back) {
    Inode* inode = find(id);
    if (inode == nullptr)
        return;
    inode->entry_count -= std::min(count, inode->entry_count);
    remove_unless_held(*inode, give_back);
}

void InodeMap::opened(Inode& inode) {
    ++inode.open_count;
    used(inode);
}

void InodeMap::closed(Inode& inode, std::vector<wire::ForgetNode>& give_back) {
    REMOFILE_ASSERT(inode.open_count > 0);
    --inode.open_count;
    remove_unless_held(inode, give_back);
}

void InodeMap::remove_unless_held(Inode& inode, std::vector<wire::ForgetNode>& give_back) {
    if (inode.id == root_inode || inode.entry_count > 0 || inode.open_count > 0 || inode.leased || inode.unsynced)
        return;
    if (!stale(inode) && inode.node) {
        give_back.push_back({inode.node, inode.server_count});
        unbind_node(inode);
    }
    if (const auto known = by_identity_.find(&inode); known != by_identity_.end() && *known == &inode)
        by_identity_.erase(known);
    leave_order(inode);
    const InodeNumber id = inode.id;
    inodes_.erase(id);
    if (on_removed)
        on_removed(id);
}

std::vector<InodeNumber> InodeMap::with_nodes() {
    std::vector<std::pair<std::size_t, InodeNumber>> by_depth;
    for (const auto& [id, inode] : inodes_) {
        if (id != root_inode && inode.node && !stale(inode))
            by_depth.emplace_back(levels_of_place(inode), id);
    }
    std::ranges::sort(by_depth);
    std::vector<InodeNumber> numbers;
    numbers.reserve(by_depth.size());
    for (const auto& [levels, id] : by_depth)
        numbers.push_back(id);
    return numbers;
}

std::size_t InodeMap::levels_of_place(const Inode& inode) const {
    const Inode* at = &inode;
    for (std::size_t levels = 0; levels <= max_depth; ++levels) {
        if (at->id == root_inode)
            return levels;
        const auto found = inodes_.find(at->place.parent);
        if (found == inodes_.end())
            break;
        at = &found->second;
    }
    return max_depth;
}

void InodeMap::new_epoch(std::uint64_t epoch, NodeId root_id, const wire::Attributes& attributes) {
    epoch_ = epoch;
    by_node_.clear();
    other_nodes_.clear();
    Inode& inode = root();
    inode.epoch = epoch;
    inode.identity = attributes.identity;
    inode.version = attributes.version;
    root_attributes_ = attributes;
    inode.server_count = 1;
    bind_node(inode, root_id);
}

// ---------------------------------------------------------------- the order of use

void InodeMap::used(Inode& inode) {
    if (inode.id == root_inode || used_last_ == &inode)
        return;
    leave_order(inode);
    inode.used_before = used_last_;
    (used_last_ == nullptr ? used_first_ : used_last_->used_after) = &inode;
    used_last_ = &inode;
}

void InodeMap::leave_order(Inode& inode) {
    if (inode.used_before != nullptr)
        inode.used_before->used_after = inode.used_after;
    else if (used_first_ == &inode)
        used_first_ = inode.used_after;
    if (inode.used_after != nullptr)
        inode.used_after->used_before = inode.used_before;
    else if (used_last_ == &inode)
        used_last_ = inode.used_before;
    inode.used_before = inode.used_after = nullptr;
}

std::vector<InodeNumber> InodeMap::not_used_lately(std::size_t count) {
    constexpr std::size_t looks_each = 4;
    std::vector<InodeNumber> chosen;
    std::vector<InodeNumber> with_pages;
    std::size_t looks = std::min(looks_each * count, inodes_.size() - 1);
    for (; looks > 0 && chosen.size() < count; --looks) {
        Inode& inode = *used_first_;
        used(inode);
        if (inode.entry_count > 0 && inode.open_count == 0 && !inode.leased)
            (inode.pages.kept ? with_pages : chosen).push_back(inode.id);
    }
    with_pages.resize(std::min(with_pages.size(), count - chosen.size()));
    chosen.insert(chosen.end(), with_pages.begin(), with_pages.end());
    return chosen;
}

}  // namespace remofile::filesystem
