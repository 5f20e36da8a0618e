// SPDX-License-Identifier: MIT
#include "server/operations/session_files.hpp"

#include <algorithm>

#include "server/locks/lock_table.hpp"

namespace remofile::server {

SessionFiles::SessionFiles(const ExportOptions& options, bool read_only, std::shared_ptr<LockTable> locks,
                           DescriptorBudget& budget)
    : max_nodes_(options.max_nodes),
      max_handles_(options.max_handles),
      read_only_(read_only),
      locks_(std::move(locks)),
      share_(budget.new_share()) {}

SessionFiles::~SessionFiles() {
    close();
}

// ---------------------------------------------------------------- nodes

Result<InodePtr> SessionFiles::node(NodeId id) {
    auto nodes = nodes_.lock();
    const auto found = nodes->by_id.find(id);
    if (found == nodes->by_id.end())
        return Status::stale;
    return found->second.inode;
}

Result<> SessionFiles::check_free(NodeId id) {
    auto nodes = nodes_.lock();
    if (!id || nodes->by_id.contains(id))
        return Status::invalid;
    if (nodes->by_id.size() >= max_nodes_)
        return Status::limit_exceeded;
    return {};
}

Result<NodeId> SessionFiles::bind(const wire::NewNode& wanted, const InodePtr& inode) {
    auto nodes = nodes_.lock();
    if (closed())
        return Status::no_session;
    if (!wanted.id)
        return Status::invalid;
    if (wanted.reuse)
        if (const auto known = nodes->by_inode.find(inode.get()); known != nodes->by_inode.end()) {
            ++nodes->by_id[known->second].count;
            return known->second;
        }
    if (const auto present = nodes->by_id.find(wanted.id); present != nodes->by_id.end()) {
        if (present->second.inode != inode)
            return Status::invalid;
        ++present->second.count;
        return wanted.id;
    }
    if (nodes->by_id.size() >= max_nodes_)
        return Status::limit_exceeded;
    nodes->by_id.emplace(wanted.id, Node{inode, 1});
    nodes->by_inode.emplace(inode.get(), wanted.id);
    return wanted.id;
}

Result<std::vector<NodeId>> SessionFiles::bind_all(NodeId first, std::size_t most, std::span<const InodePtr> inodes) {
    auto nodes = nodes_.lock();
    if (closed())
        return Status::no_session;
    // Decided first, done second, so that a refusal leaves nothing behind.
    std::vector<NodeId> ids;
    std::unordered_map<const Inode*, NodeId> fresh;
    for (const InodePtr& inode : inodes) {
        if (!inode) {
            ids.emplace_back();
        } else if (const auto known = nodes->by_inode.find(inode.get()); known != nodes->by_inode.end()) {
            ids.push_back(known->second);
        } else if (const auto twice = fresh.find(inode.get()); twice != fresh.end()) {
            ids.push_back(twice->second);
        } else {
            const NodeId id{first.value + fresh.size()};
            if (fresh.size() >= most || !first || id < first || nodes->by_id.contains(id))
                return Status::invalid;
            if (nodes->by_id.size() + fresh.size() >= max_nodes_)
                return Status::limit_exceeded;
            fresh.emplace(inode.get(), id);
            ids.push_back(id);
        }
    }
    for (std::size_t i = 0; i < inodes.size(); ++i) {
        if (!inodes[i])
            continue;
        Node& node = nodes->by_id[ids[i]];
        if (node.count++ == 0) {
            node.inode = inodes[i];
            nodes->by_inode.emplace(inodes[i].get(), ids[i]);
        }
    }
    return ids;
}

Result<> SessionFiles::count(NodeId id) {
    auto nodes = nodes_.lock();
    const auto found = nodes->by_id.find(id);
    if (found == nodes->by_id.end())
        return Status::stale;
    ++found->second.count;
    return {};
}

std::vector<SessionFiles::Freed> SessionFiles::forget(std::span<const wire::ForgetNode> forgotten) {
    std::vector<Freed> free;
    auto nodes = nodes_.lock();
    for (const wire::ForgetNode& one : forgotten) {
        const auto found = nodes->by_id.find(one.node);
        if (found == nodes->by_id.end())
            continue;
        if (found->second.count > one.count) {
            found->second.count -= one.count;
            continue;
        }
        const auto [begin, end] = nodes->by_inode.equal_range(found->second.inode.get());
        const auto link = std::find_if(begin, end, [&](const auto& entry) { return entry.second == one.node; });
        nodes->by_inode.erase(link);
        free.push_back({one.node, std::move(found->second.inode)});
        nodes->by_id.erase(found);
    }
    return free;
}

std::vector<NodeId> SessionFiles::ids_of(std::span<const InodePtr> inodes) const {
    std::vector<NodeId> ids;
    auto nodes = nodes_.lock();
    for (const InodePtr& inode : inodes) {
        const auto [begin, end] = nodes->by_inode.equal_range(inode.get());
        for (auto entry = begin; entry != end; ++entry)
            ids.push_back(entry->second);
    }
    return ids;
}

// ---------------------------------------------------------------- handles

std::optional<std::uint64_t> SessionFiles::locks_lost_at() const {
    auto predecessor = predecessor_.lock();
    return *predecessor ? std::optional((*predecessor)->locks_lost_at) : std::nullopt;
}

void SessionFiles::take_place_of(std::uint64_t locks_lost_at, std::function<void()> has_locks) {
    predecessor_.lock()->emplace(Predecessor{locks_lost_at, std::move(has_locks)});
}

void SessionFiles::has_locks() {
    const std::optional<Predecessor> predecessor = std::exchange(*predecessor_.lock(), std::nullopt);
    if (predecessor)
        predecessor->has_locks();
}

SessionFiles::Reservation::~Reservation() {
    if (files_ != nullptr)
        files_->handles_.lock()->erase(id_);
}

Result<> SessionFiles::Reservation::commit(OpenFilePtr file) {
    return std::exchange(files_, nullptr)->commit(id_, Handle{std::move(file), nullptr});
}

Result<> SessionFiles::Reservation::commit(OpenDirectoryPtr directory) {
    return std::exchange(files_, nullptr)->commit(id_, Handle{nullptr, std::move(directory)});
}

Result<SessionFiles::Reservation> SessionFiles::reserve(HandleId id) {
    auto handles = handles_.lock();
    if (!id || handles->contains(id))
        return Status::invalid;
    if (handles->size() >= max_handles_)
        return Status::too_many_files;
    handles->emplace(id, Handle{});
    return Reservation(*this, id);
}

Result<> SessionFiles::commit(HandleId id, Handle handle) {
    auto handles = handles_.lock();
    if (closed()) {
        handles->erase(id);
        return Status::no_session;
    }
    (*handles)[id] = std::move(handle);
    return {};
}

Result<OpenFilePtr> SessionFiles::file(HandleId id) {
    auto handles = handles_.lock();
    const auto found = handles->find(id);
    if (found == handles->end() || !found->second.file)
        return Status::bad_handle;
    return found->second.file;
}

Result<OpenDirectoryPtr> SessionFiles::directory(HandleId id) {
    auto handles = handles_.lock();
    const auto found = handles->find(id);
    if (found == handles->end() || !found->second.directory)
        return Status::bad_handle;
    return found->second.directory;
}

Result<SessionFiles::Handle> SessionFiles::take(HandleId id, bool directory) {
    auto handles = handles_.lock();
    const auto found = handles->find(id);
    if (found == handles->end() || (directory ? !found->second.directory : !found->second.file))
        return Status::bad_handle;
    Handle handle = std::move(found->second);
    handles->erase(found);
    return handle;
}

Result<OpenFilePtr> SessionFiles::take_file(HandleId id) {
    REMOFILE_TRY(handle, take(id, false));
    return std::move(handle.file);
}

Result<OpenDirectoryPtr> SessionFiles::take_directory(HandleId id) {
    REMOFILE_TRY(handle, take(id, true));
    return std::move(handle.directory);
}

// ---------------------------------------------------------------- what is lent

std::size_t SessionFiles::lendable(bool directories) const {
    return wire::max_lent_inodes - lent_.lock()->count(directories);
}

bool SessionFiles::lend(Loan loan) {
    // What is not taken goes after the lock, with the parameter.
    auto lent = lent_.lock();
    std::size_t& count = lent->count(loan.is_directory());
    if (closed() || count == wire::max_lent_inodes)
        return false;
    ++count;
    const std::uint64_t number = loan.number();
    lent->by_number.emplace(number, std::move(loan));
    return true;
}

std::optional<Loan> SessionFiles::take_lent(std::uint64_t number) {
    auto lent = lent_.lock();
    const auto found = lent->by_number.find(number);
    if (found == lent->by_number.end())
        return std::nullopt;
    std::optional<Loan> loan(std::move(found->second));
    lent->by_number.erase(found);
    --lent->count(loan->is_directory());
    return loan;
}

void SessionFiles::leave_kept_files(const std::unordered_map<HandleId, Handle>& handles, const Nodes& nodes) {
    for (const auto& [id, handle] : handles)
        if (handle.file)
            handle.file->inode->leave(*kept_files_, *holder_);
    // It may have found some that it has not opened yet.
    for (const auto& [id, node] : nodes.by_id)
        node.inode->leave(*kept_files_, *holder_);
}

void SessionFiles::close() {
    if (closed_.exchange(true))
        return;
    locks_->close_session(share_);
    std::unordered_map<HandleId, Handle> handles;
    std::swap(handles, *handles_.lock());
    for (const auto& [id, handle] : handles)
        if (handle.file)
            locks_->close_handle(share_, handle.file);
    Nodes nodes;
    std::swap(nodes, *nodes_.lock());
    if (holder_ && is_expected_back_)
        leave_kept_files(handles, nodes);
    Lent lent;
    std::swap(lent, *lent_.lock());
}

}  // namespace remofile::server
