// SPDX-License-Identifier: MIT
// LOOKUP to STATFS: names, and attributes by node.
#include <fcntl.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>

#include "server/operations/operation.hpp"

namespace remofile::server {

Result<Context::Held> Context::hold(NodeId node) const {
    REMOFILE_TRY(inode, files->node(node));
    REMOFILE_TRY(descriptor, inodes.descriptor(inode));
    return Held{std::move(inode), std::move(descriptor)};
}

Result<Context::Held> Context::hold_directory(NodeId node) const {
    REMOFILE_TRY(inode, files->node(node));
    if (!inode->is_directory())
        return Status::not_directory;
    REMOFILE_TRY(descriptor, inodes.descriptor(inode));
    return Held{std::move(inode), std::move(descriptor)};
}

Result<HeldFile> Context::hold_file(HandleId handle) const {
    REMOFILE_TRY(file, files->file(handle));
    REMOFILE_TRY(descriptor, file->open->hold());
    return HeldFile{std::move(file), std::move(descriptor)};
}

InodePtr Context::known_entry(const Held& directory, const EntryName& name) const {
    const auto attributes = stat_entry(directory.fd(), name);
    return attributes ? inodes.find(attributes->identity) : nullptr;
}

namespace operations {
namespace {

using wire::Attributes;
using wire::Empty;
using wire::EntryReply;

constexpr std::uint32_t all_set_bits = wire::set_mode | wire::set_uid | wire::set_gid | wire::set_size |
                                       wire::set_access | wire::set_access_now | wire::set_modification |
                                       wire::set_modification_now;

// Makes an entry that must not be there yet, by `make(directory, name)`, and gives it the id.
template <class Make>
Result<EntryReply> make_entry(Context& context, NodeId parent, const std::string& unchecked_name,
                              const wire::NewNode& node, mode_t type, mode_t umask, Make&& make) {
    REMOFILE_TRY(directory, context.hold_directory(parent));
    REMOFILE_TRY(name, EntryName::check_new(unchecked_name));
    REMOFILE_CHECK(context.files->check_free(node.id));
    context.asks(directory.inode, name);
    Result<Attributes> made = Status::io_error;
    {
        const auto lock = context.inodes.names().lock(*directory.inode, name.text());
        REMOFILE_TRY(acting, context.act());
        const CreationMask mask(umask);
        REMOFILE_CHECK(make(directory.fd(), name, mask));
        made = stat_entry(directory.fd(), name);
    }
    context.note_name(directory.inode, name);
    if (!made)
        return made.error();
    // Somebody may have put another file there at once; what was made is gone then.
    if ((made->mode & S_IFMT) != type)
        return Status::stale;
    const InodePtr inode = context.inodes.intern(*made, directory.inode, name);
    REMOFILE_TRY(id, context.files->bind(node, inode));
    return EntryReply{id, *made};
}

// Before the name of a file goes that sessions may have open. Not where the caller cannot remove it in any case.
InodeTable::Keeping begin_keeping(Context& context, const Context::Held& directory, const InodePtr& target) {
    if (context.kept_files == nullptr || !target || !target->is_open())
        return {};
    if (const auto acting = context.act(); !acting || !check_access(directory.fd(), W_OK | X_OK))
        return {};
    bool root_changed = false;
    auto keeping = context.inodes.begin_keeping(target, *context.kept_files, root_changed);
    if (root_changed)
        context.note_change(context.inodes.root());
    return keeping;
}

template <class Remove>
Result<Empty> remove_entry(Context& context, NodeId parent, const std::string& unchecked_name, Remove&& remove) {
    REMOFILE_TRY(directory, context.hold_directory(parent));
    REMOFILE_TRY(name, EntryName::check(unchecked_name));
    const auto lock = context.inodes.names().lock(*directory.inode, name.text());
    const InodePtr target = context.known_entry(directory, name);
    REMOFILE_TRY(removal, context.inodes.begin_removal(target, context.files->share()));
    context.asks(directory.inode, name);
    auto keeping = begin_keeping(context, directory, target);
    if (keeping)
        context.note_change(target);
    {
        REMOFILE_TRY(acting, context.act());
        REMOFILE_CHECK(remove(directory.fd(), name));
    }
    keeping.done();
    context.note_name(directory.inode, name);
    if (target) {
        context.note_change(target);
        context.inodes.removed(target, directory.inode, name);
    }
    return Empty{};
}

timespec to_timespec(bool set, bool now, const wire::Timestamp& time) {
    if (now)
        return {.tv_sec = 0, .tv_nsec = UTIME_NOW};
    if (set)
        return {.tv_sec = time.seconds, .tv_nsec = time.nanoseconds};
    return {.tv_sec = 0, .tv_nsec = UTIME_OMIT};
}

Result<> set_owner(int fd, const wire::Setattr& request) {
    constexpr std::uint32_t unchanged = UINT32_MAX;
    const bool uid = (request.which & wire::set_uid) != 0;
    const bool gid = (request.which & wire::set_gid) != 0;
    if ((uid && request.uid == unchanged) || (gid && request.gid == unchanged))
        return Status::invalid;
    return change_owner(fd, uid ? request.uid : unchanged, gid ? request.gid : unchanged);
}

Result<> set_times(int fd, const wire::Setattr& request) {
    const auto has = [&](std::uint32_t bit) { return (request.which & bit) != 0; };
    constexpr std::uint32_t second_ns = 1'000'000'000;
    if ((has(wire::set_access) && request.access.nanoseconds >= second_ns) ||
        (has(wire::set_modification) && request.modification.nanoseconds >= second_ns))
        return Status::invalid;
    const std::array<timespec, 2> times{
        to_timespec(has(wire::set_access), has(wire::set_access_now), request.access),
        to_timespec(has(wire::set_modification), has(wire::set_modification_now), request.modification)};
    return change_times(fd, times);
}

Result<> set_size(int fd, const std::optional<HeldFile>& handle, const wire::Setattr& request) {
    if (request.size > INT64_MAX)
        return Status::invalid;
    const auto size = static_cast<off_t>(request.size);
    if (handle)
        return ftruncate(handle->fd(), size) == 0 ? Result<>{} : errno_error();
    return change_size(fd, size);
}

// In the order in which each step leaves the ones before it as they are: chown clears set-id bits that the
// chmod may then set, and only the times survive a truncate if they are set last.
Result<> set_all(int fd, const std::optional<HeldFile>& handle, const wire::Setattr& request) {
    const std::uint32_t which = request.which;
    if ((which & (wire::set_uid | wire::set_gid)) != 0)
        REMOFILE_CHECK(set_owner(fd, request));
    if ((which & wire::set_mode) != 0)
        REMOFILE_CHECK(change_mode(fd, request.mode & 07777));
    if ((which & wire::set_size) != 0)
        REMOFILE_CHECK(set_size(fd, handle, request));
    if ((which & (wire::set_access | wire::set_access_now | wire::set_modification | wire::set_modification_now)) != 0)
        REMOFILE_CHECK(set_times(fd, request));
    return {};
}

}  // namespace

Result<EntryReply> lookup(Context& context, const wire::Lookup& request) {
    REMOFILE_TRY(directory, context.hold_directory(request.parent));
    REMOFILE_TRY(name, EntryName::check(request.name));
    REMOFILE_TRY(found, context.find_entry(directory, name));
    REMOFILE_TRY(id, context.files->bind(request.node, found.inode));
    return EntryReply{id, found.attributes};
}

Result<Empty> forget(Context& context, const wire::Forget& request) {
    if (request.nodes.size() > wire::max_forgets)
        return Status::limit_exceeded;
    context.forget(request.nodes);
    return Empty{};
}

Result<Empty> return_leases(Context& context, const wire::ReturnLeases& request) {
    if (request.directories.size() > wire::max_returned_leases)
        return Status::limit_exceeded;
    for (const NodeId node : request.directories) {
        // Of one that is forgotten there is no lease.
        if (const auto directory = context.files->node(node); directory && context.leases != nullptr)
            context.leases->give_back(context.files.get(), **directory);
    }
    return Empty{};
}

Result<wire::AttributesReply> getattr_at_once(Context& context, const wire::Getattr& request) {
    InodePtr inode;
    if (request.handle) {
        REMOFILE_TRY(file, context.files->file(request.handle));
        inode = file->inode;
    } else {
        REMOFILE_TRY(known, context.files->node(request.node));
        inode = known;
    }
    if (!context.inodes.knows_attributes(inode))
        return Status::try_again;
    return getattr(context, request);
}

Result<wire::AttributesReply> getattr(Context& context, const wire::Getattr& request) {
    if (request.handle) {
        InodePtr inode;
        Descriptor descriptor;
        if (auto file = context.files->file(request.handle)) {
            inode = (*file)->inode;
            descriptor = (*file)->open->held();
        } else {
            REMOFILE_TRY(directory, context.files->directory(request.handle));
            inode = directory->inode;
            descriptor = directory->open->held();
        }
        if (const auto node = context.files->node(request.node); node && *node != inode)
            return Status::invalid;
        context.asks(inode);
        if (descriptor) {
            REMOFILE_TRY(attributes, stat_descriptor(descriptor->get()));
            inode->stamp(attributes);
            return wire::AttributesReply{attributes};
        }
        REMOFILE_TRY(attributes, context.inodes.attributes(inode));
        return wire::AttributesReply{attributes};
    }
    REMOFILE_TRY(inode, context.files->node(request.node));
    REMOFILE_TRY(attributes, context.attributes(inode));
    return wire::AttributesReply{attributes};
}

Result<wire::AttributesReply> setattr(Context& context, const wire::Setattr& request) {
    if ((request.which & ~all_set_bits) != 0)
        return Status::invalid;
    REMOFILE_TRY(target, context.hold(request.node));
    std::optional<HeldFile> handle;
    if (request.handle && (request.which & wire::set_size) != 0) {
        REMOFILE_TRY(file, context.hold_file(request.handle));
        if (file->inode != target.inode)
            return Status::invalid;
        handle = std::move(file);
    }
    // A server that is not root could not open it again for what its handles may do.
    const bool changes_permission = (request.which & (wire::set_mode | wire::set_uid | wire::set_gid)) != 0;
    const auto kept_open =
        changes_permission ? context.inodes.hold_for_change(target.inode) : std::vector<Descriptor>{};
    Result<> outcome;
    {
        REMOFILE_TRY(acting, context.act());
        outcome = set_all(target.fd(), handle, request);
    }
    // Also after an error: the steps before it have been taken.
    context.note_change(target.inode);
    if (!outcome)
        return outcome.error();
    REMOFILE_TRY(attributes, context.attributes(target.inode));
    return wire::AttributesReply{attributes};
}

Result<wire::ReadlinkReply> readlink(Context& context, const wire::Readlink& request) {
    REMOFILE_TRY(link, context.hold(request.node));
    if (link.inode->type() != S_IFLNK)
        return Status::invalid;
    REMOFILE_TRY(target, read_symlink(link.fd()));
    return wire::ReadlinkReply{std::move(target)};
}

Result<EntryReply> mknod(Context& context, const wire::Mknod& request) {
    const mode_t type = (request.mode & S_IFMT) == 0 ? S_IFREG : request.mode & S_IFMT;
    if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK && type != S_IFCHR && type != S_IFBLK)
        return type == S_IFDIR ? Status::not_permitted : Status::invalid;
    return make_entry(context, request.parent, request.name, request.node, type, request.umask,
                      [&](int directory, const EntryName& name, const CreationMask& mask) {
                          return make_node(directory, name, type | mask.apply(request.mode & 07777, directory),
                                           makedev(request.rdev_major, request.rdev_minor));
                      });
}

Result<EntryReply> mkdir(Context& context, const wire::Mkdir& request) {
    return make_entry(context, request.parent, request.name, request.node, S_IFDIR, request.umask,
                      [&](int directory, const EntryName& name, const CreationMask& mask) {
                          return make_directory(directory, name, mask.apply(request.mode & 07777, directory));
                      });
}

Result<EntryReply> symlink(Context& context, const wire::Symlink& request) {
    if (request.target.find('\0') != std::string::npos)
        return Status::invalid;
    if (request.target.size() > wire::max_path_bytes)
        return Status::name_too_long;
    return make_entry(context, request.parent, request.name, request.node, S_IFLNK, 0,
                      [&](int directory, const EntryName& name, const CreationMask&) {
                          return make_symlink(directory, name, request.target);
                      });
}

Result<Empty> unlink(Context& context, const wire::Unlink& request) {
    return remove_entry(context, request.parent, request.name, remove_file);
}

Result<Empty> rmdir(Context& context, const wire::Rmdir& request) {
    return remove_entry(context, request.parent, request.name, remove_directory);
}

Result<Empty> rename(Context& context, const wire::Rename& request) {
    if ((request.flags & ~(wire::rename_noreplace | wire::rename_exchange | wire::rename_whiteout)) != 0)
        return Status::invalid;
    REMOFILE_TRY(from, context.hold_directory(request.parent));
    REMOFILE_TRY(to, context.hold_directory(request.new_parent));
    REMOFILE_TRY(name, EntryName::check(request.name));
    REMOFILE_TRY(new_name, EntryName::check_new(request.new_name));
    const bool exchange = (request.flags & wire::rename_exchange) != 0;
    const unsigned flags = ((request.flags & wire::rename_noreplace) != 0 ? unsigned{RENAME_NOREPLACE} : 0) |
                           ((request.flags & wire::rename_whiteout) != 0 ? unsigned{RENAME_WHITEOUT} : 0) |
                           (exchange ? unsigned{RENAME_EXCHANGE} : 0);
    const auto locks = context.inodes.names().lock(*from.inode, name.text(), *to.inode, new_name.text());
    const InodePtr source = context.known_entry(from, name);
    const InodePtr target = context.known_entry(to, new_name);
    REMOFILE_TRY(removal, context.inodes.begin_removal(exchange ? nullptr : target, context.files->share()));
    context.asks(from.inode, name);
    context.asks(to.inode, new_name);
    const bool replaces = source != target && (flags & (RENAME_NOREPLACE | RENAME_EXCHANGE)) == 0;
    auto keeping = begin_keeping(context, to, replaces ? target : nullptr);
    if (keeping)
        context.note_change(target);
    {
        REMOFILE_TRY(acting, context.act());
        REMOFILE_CHECK(rename_entry(from.fd(), name, to.fd(), new_name, flags));
    }
    keeping.done();
    context.note_name(from.inode, name);
    context.note_name(to.inode, new_name);
    // A rename between two names of one file does nothing.
    if (source == target)
        return Empty{};
    if (source) {
        context.inodes.moved(source, to.inode, new_name);
        context.inodes.removed(source, from.inode, name);
        context.note_change(source);
    }
    if (target) {
        if (exchange)
            context.inodes.moved(target, from.inode, name);
        context.inodes.removed(target, to.inode, new_name);
        context.note_change(target);
    }
    return Empty{};
}

Result<EntryReply> link(Context& context, const wire::Link& request) {
    REMOFILE_TRY(file, context.hold(request.node));
    REMOFILE_TRY(directory, context.hold_directory(request.new_parent));
    REMOFILE_TRY(name, EntryName::check_new(request.new_name));
    // As the kernel says of what has no name left.
    if (file.inode->is_kept())
        return Status::no_entry;
    context.asks(directory.inode, name);
    {
        const auto lock = context.inodes.names().lock(*directory.inode, name.text());
        REMOFILE_TRY(acting, context.act());
        REMOFILE_CHECK(link_entry(file.fd(), directory.fd(), name));
    }
    // One of them may have to make room for the new one.
    context.note_places(file.inode);
    context.inodes.moved(file.inode, directory.inode, name);
    context.note_name(directory.inode, name);
    context.note_change(file.inode);
    REMOFILE_TRY(attributes, context.attributes(file.inode));
    REMOFILE_CHECK(context.files->count(request.node));
    return EntryReply{request.node, attributes};
}

Result<Empty> access(Context& context, const wire::Access& request) {
    if ((request.mask & ~std::uint32_t{R_OK | W_OK | X_OK}) != 0)
        return Status::invalid;
    REMOFILE_TRY(file, context.hold(request.node));
    REMOFILE_TRY(acting, context.act());
    REMOFILE_CHECK(check_access(file.fd(), static_cast<int>(request.mask)));
    const mode_t type = file.inode->type();
    if ((request.mask & W_OK) != 0 && context.files->read_only() &&
        (type == S_IFREG || type == S_IFDIR || type == S_IFLNK))
        return Status::read_only;
    return Empty{};
}

Result<wire::StatfsReply> statfs(Context& context, const wire::Statfs& request) {
    REMOFILE_TRY(file, context.hold(request.node));
    struct statvfs stat {};
    if (fstatvfs(file.fd(), &stat) != 0)
        return errno_error();
    // f_bfree and its like count in fragments.
    return wire::StatfsReply{.block_size = stat.f_frsize,
                             .blocks = stat.f_blocks,
                             .blocks_free = stat.f_bfree,
                             .blocks_available = stat.f_bavail,
                             .files = stat.f_files,
                             .files_free = stat.f_ffree,
                             .name_max = static_cast<std::uint32_t>(stat.f_namemax)};
}

// Only what was kept for the session in whose place this one is. What may be done with it is asked when it is opened.
Result<EntryReply> find_kept(Context& context, const wire::FindKept& request) {
    KeptFiles* kept_files = context.files->kept_files();
    if (kept_files == nullptr)
        return Status::no_entry;
    const HolderTag& holder = *context.files->holder();
    InodePtr inode = context.inodes.find(request.identity);
    // Under another id it may have been asked for before.
    if (!inode || !inode->is_kept_for(holder)) {
        auto link = kept_files->take(request.identity, holder);
        if (!link)
            return Status::no_entry;
        inode = context.inodes.intern_kept(std::move(link));
    }
    const auto descriptor = context.inodes.descriptor(inode);
    auto attributes = descriptor ? stat_descriptor((*descriptor)->get()) : descriptor.error();
    const auto id = attributes ? context.files->bind(request.node, inode) : attributes.error();
    if (!id) {
        inode->leave(*kept_files, holder);
        return id.error();
    }
    inode->stamp(*attributes);
    return EntryReply{*id, *attributes};
}

}  // namespace operations
}  // namespace remofile::server
