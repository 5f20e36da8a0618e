// SPDX-License-Identifier: MIT
// TAKE_LEASES and SHARE_LEASES, and which directories other requests have to do with:
// docs/adr/0020-exclusive-leases.md.
#include "server/operations/exclusive_leases.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "server/files/xattr_names.hpp"
#include "server/leases/exact_names.hpp"
#include "wire/frame.hpp"

namespace remofile::server {
namespace {

// An entry that a request names. Not those that must not be there: a name that is taken is an answer by itself.
struct NamedEntry {
    NodeId directory;
    std::string name;
};

template <class Request>
void add_entry(std::vector<NamedEntry>& entries, std::span<const std::byte> body) {
    auto request = wire::decode_body<Request>(body);
    if (request)
        entries.push_back({request->parent, std::move(request->name)});
}

std::vector<NamedEntry> entries_of(wire::Opcode opcode, std::span<const std::byte> body) {
    std::vector<NamedEntry> entries;
    switch (opcode) {
        case wire::Opcode::lookup:
            add_entry<wire::Lookup>(entries, body);
            break;
        case wire::Opcode::fetch:
            add_entry<wire::Fetch>(entries, body);
            break;
        case wire::Opcode::create:
            add_entry<wire::Create>(entries, body);
            break;
        case wire::Opcode::unlink:
            add_entry<wire::Unlink>(entries, body);
            break;
        case wire::Opcode::rmdir:
            add_entry<wire::Rmdir>(entries, body);
            break;
        case wire::Opcode::list:
            if (auto request = wire::decode_body<wire::List>(body); request && !request->name.empty())
                entries.push_back({request->node, std::move(request->name)});
            break;
        case wire::Opcode::rename:
            add_entry<wire::Rename>(entries, body);
            if (auto request = wire::decode_body<wire::Rename>(body))
                entries.push_back({request->new_parent, std::move(request->new_name)});
            break;
        default:
            break;
    }
    return entries;
}

void add_inode(const InodeTable& inodes, const InodePtr& inode, LeaseTable::Concerned& concerned) {
    if (inode->is_directory()) {
        concerned.directories.push_back(inode);
        return;
    }
    const InodeTable::Places places = inodes.places(*inode);
    for (const Place& place : places.places)
        concerned.directories.push_back(place.parent);
    concerned.everywhere |= !places.all;
}

// What the name stands for, if it may be another directory's affair: a directory, or a file that has other names.
void add_entry_found(InodeTable& inodes, SessionFiles& files, const NamedEntry& entry,
                     LeaseTable::Concerned& concerned) {
    const auto directory = files.node(entry.directory);
    const auto name = EntryName::check(entry.name);
    if (!directory || !(*directory)->is_directory() || !name)
        return;
    const auto descriptor = inodes.descriptor(*directory);
    if (!descriptor)
        return;
    const auto attributes = stat_entry((*descriptor)->get(), *name);
    if (!attributes || (!S_ISDIR(attributes->mode) && attributes->links < 2))
        return;
    if (const InodePtr inode = inodes.find(attributes->identity))
        add_inode(inodes, inode, concerned);
}

InodePtr inode_of(SessionFiles& files, const Dependency& dependency) {
    if (dependency.kind == Dependency::Kind::node)
        return files.node(NodeId{dependency.id}).value_or(nullptr);
    if (dependency.kind != Dependency::Kind::handle)
        return nullptr;
    const HandleId handle{dependency.id};
    if (const auto file = files.file(handle))
        return (*file)->inode;
    const auto directory = files.directory(handle);
    return directory ? (*directory)->inode : nullptr;
}

// False also if that cannot be found out.
bool is_empty(int directory) {
    std::array<std::byte, 4096> entries;
    if (lseek(directory, 0, SEEK_SET) < 0)
        return false;
    for (;;) {
        const long size = syscall(SYS_getdents64, directory, entries.data(), entries.size());
        if (size <= 0)
            return size == 0;
        for (long at = 0; at < size;) {
            dirent64 entry{};
            std::memcpy(&entry, entries.data() + at, offsetof(dirent64, d_name));
            const std::string_view name(reinterpret_cast<const char*>(entries.data() + at) +
                                        offsetof(dirent64, d_name));
            if (name != "." && name != ".." && !EntryName::is_reserved(name))
                return false;
            at += entry.d_reclen;
        }
    }
}

struct Taken {
    bool empty = false;
    std::uint32_t trust_ms = 0;
};

// None if it is not to be had, for whatever reason: then the client asks the server, as ever.
std::optional<Taken> take(Context& context, NodeId node) {
    if (context.leases == nullptr || context.caller.switch_identity || context.files->read_only())
        return std::nullopt;
    auto directory = context.hold_directory(node);
    if (!directory || directory->inode->identity().device != context.inodes.root()->identity().device)
        return std::nullopt;
    auto opened =
        context.inodes.with_room([&] { return open_for_io(directory->fd(), S_IFDIR, O_RDONLY | O_DIRECTORY); });
    if (!opened)
        return std::nullopt;
    const Context::Held held{std::move(directory->inode), std::make_shared<const UniqueFd>(std::move(*opened))};
    if (!may_change(held, context.own) || !has_exact_names(held.fd()) ||
        !context.room.is_ample(held.fd(), context.reserve.kept_bytes()))
        return std::nullopt;
    const auto trust_ms = context.take_lease(held, node);
    if (!trust_ms)
        return std::nullopt;
    context.reserve.keep(held.fd());
    return Taken{.empty = is_empty(held.fd()), .trust_ms = *trust_ms};
}

}  // namespace

bool may_change(const Context::Held& directory, const OwnIdentity& own) {
    if (is_removed(directory.fd()) || !check_access(directory.fd(), W_OK | X_OK))
        return false;
    // The client takes what it makes to have no ACL.
    if (has_default_acl(DescriptorPath(directory.fd()).c_str()))
        return false;
    const auto restrictions = restrictions_of(directory.fd());
    return restrictions && !restrictions->names_are_fixed && (!restrictions->sticky || restrictions->owner == own.uid);
}

LeaseTable::Concerned concerned_by_ids(const InodeTable& inodes, SessionFiles& files, wire::Opcode opcode,
                                       std::span<const std::byte> body) {
    LeaseTable::Concerned concerned;
    const auto dependencies = dependencies_of(opcode, body);
    if (!dependencies)
        return concerned;
    for (const Dependency& dependency : *dependencies) {
        if (const InodePtr inode = inode_of(files, dependency))
            add_inode(inodes, inode, concerned);
    }
    return concerned;
}

void add_concerned_by_names(InodeTable& inodes, SessionFiles& files, wire::Opcode opcode,
                            std::span<const std::byte> body, LeaseTable::Concerned& concerned) {
    for (const NamedEntry& entry : entries_of(opcode, body))
        add_entry_found(inodes, files, entry, concerned);
}

namespace operations {

Result<wire::TakeLeasesReply> take_leases(Context& context, const wire::TakeLeases& request) {
    if (request.directories.size() > wire::max_taken_leases)
        return Status::limit_exceeded;
    wire::TakeLeasesReply reply;
    reply.leases.reserve(request.directories.size());
    for (const NodeId node : request.directories) {
        const std::optional<Taken> taken = take(context, node);
        reply.leases.push_back({.taken = taken.has_value(), .empty = taken && taken->empty});
        if (taken)
            reply.trust_ms = reply.trust_ms == 0 ? taken->trust_ms : std::min(reply.trust_ms, taken->trust_ms);
    }
    return reply;
}

Result<wire::Empty> share_leases(Context& context, const wire::ShareLeases& request) {
    if (request.directories.size() > wire::max_returned_leases)
        return Status::limit_exceeded;
    for (const NodeId node : request.directories) {
        // Of one that is forgotten there is no lease.
        if (const auto directory = context.files->node(node); directory && context.leases != nullptr)
            context.leases->share(context.files.get(), **directory);
    }
    return wire::Empty{};
}

}  // namespace operations
}  // namespace remofile::server
