// SPDX-License-Identifier: MIT
#include "remofile/directory.hpp"

#include <utility>

#include "connection.hpp"
#include "opened.hpp"

namespace libremofile {

using detail::Connection;
using detail::DirectoryState;
using detail::Opened;
using remofile::client::DirectoryPart;
using Part = remofile::Result<DirectoryPart>;

namespace {

remofile::Task<Part> read_part(Connection& connection, Opened directory, std::uint64_t cookie) {
    if (directory.is_stale(connection))
        co_return Part(remofile::Status::stale);
    auto part = co_await connection.tree().list_part(directory.node, directory.handle, cookie);
    if (part)
        connection.tree().forget(part->entries);
    // Better no listing than one that leaves something out.
    if (part && first_problem(part->entries) != remofile::Status::ok)
        co_return Part(first_problem(part->entries));
    co_return part;
}

}  // namespace

Directory::Directory() = default;
Directory::Directory(std::unique_ptr<DirectoryState> state) : state_(std::move(state)) {}
Directory::Directory(Directory&& other) noexcept = default;
Directory& Directory::operator=(Directory&& other) noexcept {
    Directory taken(std::move(other));
    std::swap(state_, taken.state_);
    return *this;
}

Directory::~Directory() {
    if (!state_)
        return;
    Connection& connection = *state_->connection;
    connection.post([&connection, directory = state_->opened](remofile::client::Session& session) {
        if (directory.is_stale(connection))
            return;
        session.tell(remofile::wire::Releasedir{directory.handle});
        connection.tree().forget(directory.node);
    });
}

Result<std::optional<DirectoryEntry>> Directory::next() {
    if (!state_)
        return std::unexpected(Error{ErrorCode::bad_handle, "the directory is not open"});
    while (state_->next == state_->part.entries.size()) {
        if (state_->part.end)
            return std::nullopt;
        Connection& connection = *state_->connection;
        auto part = connection.run(read_part(connection, state_->opened, state_->part.cookie));
        if (!part)
            return std::unexpected(detail::to_public(part.error()));
        state_->part = std::move(*part);
        state_->next = 0;
    }
    remofile::client::RemoteEntry& entry = state_->part.entries[state_->next++];
    return DirectoryEntry{std::move(entry.name), detail::to_public(entry.file.attributes)};
}

}  // namespace libremofile
