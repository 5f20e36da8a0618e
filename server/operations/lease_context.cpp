// SPDX-License-Identifier: MIT
// How an operation keeps the order that leases need: see lease_table.hpp.
#include <algorithm>

#include "server/leases/change_watch.hpp"
#include "server/operations/exclusive_leases.hpp"

namespace remofile::server {
namespace {

// An entry may be replaced between two looks at it; more often than this is no accident.
constexpr int max_looks = 4;
// How long an answer may be used: without a limit, or where changes by programs on the server go unnoticed.
constexpr std::uint32_t watched_trust_ms = UINT32_MAX;
constexpr std::uint32_t unwatched_trust_ms = 1000;

}  // namespace

bool Context::asks(const InodePtr& directory, const EntryName& name) const {
    if (leases == nullptr)
        return false;
    const bool may_keep = leases->asks_for_name(files.get(), *directory, name.text());
    if (leases->on_asked)
        leases->on_asked();
    return may_keep;
}

bool Context::asks(const InodePtr& file) const {
    if (leases == nullptr || leases->nobody())
        return false;
    bool was_told = false;
    if (file->is_directory()) {
        was_told = leases->asks_for_attributes(files.get(), *file, {});
    } else {
        for (const Place& place : inodes.places(*file).places)
            was_told |= leases->asks_for_attributes(files.get(), *place.parent, place.name.text());
    }
    if (leases->on_asked)
        leases->on_asked();
    return was_told;
}

Result<wire::Attributes> Context::attributes(const InodePtr& file) const {
    asks(file);
    return inodes.attributes(file);
}

std::optional<std::uint32_t> Context::lease(const Held& directory, NodeId node) const {
    if (leases == nullptr || !leases->grant(files.get(), directory.inode, node))
        return std::nullopt;
    const auto trust_ms = trust_in_lease(directory, node);
    if (!trust_ms)
        node_gone(node, directory.inode);
    return trust_ms;
}

std::optional<std::uint32_t> Context::take_lease(const Held& directory, NodeId node) const {
    const std::vector<Place> places = inodes.places(*directory.inode).places;
    const Inode* above = places.empty() ? nullptr : places.front().parent.get();
    const LeaseTable::Taking taking = leases->take(files.get(), directory.inode, above, node);
    if (!taking.taken)
        return std::nullopt;
    const auto trust_ms = trust_in_lease(directory, node);
    // Others may have changed that it may be changed until the lease was taken.
    if (trust_ms && may_change(directory, own))
        return trust_ms;
    if (taking.is_new)
        leases->give_back(files.get(), *directory.inode);
    else
        leases->share(files.get(), *directory.inode);
    if (!trust_ms)
        node_gone(node, directory.inode);
    return std::nullopt;
}

// Once it has been granted. None if the node has gone.
std::optional<std::uint32_t> Context::trust_in_lease(const Held& directory, NodeId node) const {
    // After the grant, or it might be thought to be watched in vain.
    const bool watched = watch != nullptr && watch->add(directory.inode, directory.fd());
    if (leases->on_asked)
        leases->on_asked();
    // A FORGET by another lane may have come between, and not have seen that it was granted under this one.
    const auto known = files->node(node);
    if (!known || *known != directory.inode)
        return std::nullopt;
    return watched ? watched_trust_ms : unwatched_trust_ms;
}

bool Context::is_anothers(const wire::Attributes& attributes, std::uint64_t shares) const {
    if (leases == nullptr || !S_ISDIR(attributes.mode))
        return false;
    const bool may_have_been = leases->shares() != shares;
    if (!may_have_been && leases->exclusive() == 0)
        return false;
    const InodePtr directory = inodes.find(attributes.identity);
    return directory && (may_have_been || leases->is_exclusive_to_another(files.get(), *directory));
}

void Context::forget(std::span<const wire::ForgetNode> nodes) const {
    for (const auto& [node, inode] : files->forget(nodes))
        node_gone(node, inode);
}

// The session has no node of that number any more, but may have others for the same directory.
void Context::node_gone(NodeId node, const InodePtr& inode) const {
    if (leases == nullptr || !inode->is_directory())
        return;
    do {
        const std::vector<NodeId> others = files->ids_of(std::span(&inode, 1));
        const auto in_its_place = leases->node_gone(files.get(), node, others.empty() ? NodeId{} : others.front());
        if (!in_its_place)
            return;
        node = *in_its_place;
    } while (!files->node(node));
}

void Context::note_places(const InodePtr& file) {
    if (leases == nullptr || leases->nobody())
        return;
    for (const Place& place : inodes.places(*file).places)
        names_changed.push_back({place.parent, place.name.text()});
}

// The place is remembered before the attributes that count are read: a change finds the names of its file after it was
// made, so it either is seen here or finds this one.
Result<Context::Found> Context::find_entry(const Held& directory, const EntryName& name) const {
    const bool may_keep = asks(directory.inode, name);
    for (int look = 1;; ++look) {
        Result<wire::Attributes> attributes = Status::no_entry;
        {
            REMOFILE_TRY(acting, act());
            attributes = stat_entry(directory.fd(), name);
        }
        if (!attributes)
            return attributes.error();
        bool is_news = false;
        InodePtr inode = inodes.intern(*attributes, directory.inode, name, &is_news);
        const bool was_told = asks(inode);
        if ((!was_told && !(is_news && may_keep)) || look == max_looks)
            return Found{std::move(inode), *attributes};
    }
}

bool Context::settle(wire::Attributes& attributes, const InodePtr& directory, const EntryName& name) const {
    const InodeTable::Recognized recognized = inodes.recognize(attributes, directory, name);
    const bool was_told = recognized.inode && asks(recognized.inode);
    return !recognized.is_news && !was_told;
}

void Context::report_touched(Outcome& outcome) const {
    if (leases == nullptr || changed.empty() || !leases->others_than(files.get()))
        return;
    outcome.touched = names_changed;
    const auto add = [&](const InodePtr& directory, std::string name) {
        const bool known = std::ranges::any_of(outcome.touched, [&](const Touched& touched) {
            return touched.directory == directory && touched.name == name;
        });
        if (!known)
            outcome.touched.push_back({directory, std::move(name)});
    };
    for (const InodePtr& inode : changed) {
        // What a directory's attributes are, its own lease covers, not that of the one above.
        if (inode->is_directory()) {
            add(inode, {});
            continue;
        }
        const InodeTable::Places places = inodes.places(*inode);
        for (const Place& place : places.places)
            add(place.parent, place.name.text());
        if (!places.all)
            outcome.touched_unplaced.push_back(inode);
    }
}

}  // namespace remofile::server
