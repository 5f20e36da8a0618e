// SPDX-License-Identifier: MIT
#include "cli/same_directory.hpp"

#include <fcntl.h>
#include <unistd.h>

#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "cli/sender.hpp"
#include "cli/transfer.hpp"

namespace remofile::cli {
namespace {

// As remofs sets it for numbers that are not the server's own.
constexpr std::uint64_t mixed_bit = std::uint64_t{1} << 63U;
const client::CallOptions data_lane{.lane = client::LaneKind::data};

// One that every transfer leaves out should it be left behind.
std::string marker_name() {
    return unique_partial_name("remofile");
}

}  // namespace

DirectoryNumbers numbers_of(const struct stat& local) {
    return {.inode = local.st_ino, .may_be_mixed = (local.st_ino & mixed_bit) != 0};
}

DirectoryNumbers numbers_of(const wire::Attributes& remote, const client::Session& session) {
    return {.inode = remote.identity.inode,
            .may_be_mixed = remote.identity.device != session.hello().root_attributes.identity.device};
}

Task<bool> is_same_made_there(client::RemoteTree& tree, NodeId remote, int local) {
    client::Session& session = tree.session();
    const std::string name = marker_name();
    const HandleId handle = session.new_handle_id();
    const wire::Create create{.parent = remote,
                              .name = name,
                              .node = {session.new_node_id(), false},
                              .handle = handle,
                              .flags = wire::open_write | wire::open_exclusive,
                              .mode = 0600};
    const auto created = co_await session.call(create, data_lane);
    if (!created)
        co_return false;  // then nothing else is made there either
    const bool seen = ::faccessat(local, name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    session.tell(wire::Release{handle}, client::LaneKind::data);
    tree.forget(created->body.entry.node);
    const wire::Unlink unlink{remote, name};
    const auto removed = co_await session.call(unlink, data_lane);
    if (!removed)
        log::debug("{} stays on the server: {}", name, describe(removed.status()));
    co_return seen;
}

Task<bool> is_same_made_here(client::RemoteTree& tree, NodeId remote, int local) {
    const std::string name = marker_name();
    if (!UniqueFd(::openat(local, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)))
        co_return false;
    const auto seen = co_await tree.find_entry(remote, name);
    ::unlinkat(local, name.c_str(), 0);
    if (seen)
        tree.forget(seen->node);
    co_return seen.has_value();
}

bool looks_the_same(const wire::Attributes& remote, const struct stat& local, const client::Session& session) {
    const DirectoryNumbers here = numbers_of(local);
    const DirectoryNumbers there = numbers_of(remote, session);
    return (here.inode == there.inode || (here.may_be_mixed && there.may_be_mixed)) && remote.mode == local.st_mode &&
           remote.modification == to_wire(local.st_mtim) && remote.change == to_wire(local.st_ctim);
}

Task<bool> looks_the_same_now(client::Session& session, NodeId remote, struct stat local) {
    const wire::Getattr getattr{remote, {}};
    const auto now = co_await session.call(getattr, data_lane);
    co_return now.has_value() && looks_the_same(now->body.attributes, local, session);
}

}  // namespace remofile::cli
