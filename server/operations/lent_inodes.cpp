// SPDX-License-Identifier: MIT
// LEND_INODES and MAKE_LENT: docs/adr/0021-lent-inodes.md.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "base/file_time.hpp"
#include "server/operations/opening.hpp"

namespace remofile::server::operations {
namespace {

using wire::EntryReply;

constexpr std::uint32_t second_ns = 1'000'000'000;

Result<Context::Held> hold_root(const Context& context) {
    const InodePtr& root = context.inodes.root();
    REMOFILE_TRY(descriptor, context.inodes.descriptor(root));
    return Context::Held{root, std::move(descriptor)};
}

// Where it can be made; null if nothing is to be lent for that directory.
std::shared_ptr<LendingDirectory> place_for(Context& context, const Context::Held& directory) {
    if (context.lender == nullptr || context.caller.switch_identity || context.files->read_only() ||
        !context.inodes.has_our_clock())
        return nullptr;
    const auto opened =
        context.inodes.with_room([&] { return open_for_io(directory.fd(), S_IFDIR, O_RDONLY | O_DIRECTORY); });
    if (!opened || !context.room.is_ample(opened->get(), context.reserve.kept_bytes()))
        return nullptr;
    bool root_changed = false;
    auto place = context.lender->place_for(opened->get(), root_changed);
    if (root_changed)
        context.note_change(context.inodes.root());
    return place;
}

std::vector<wire::LentInode> lend(Context& context, const std::shared_ptr<LendingDirectory>& place, mode_t type,
                                  std::size_t wanted) {
    std::vector<wire::LentInode> lent;
    const std::size_t most = std::min(wanted, context.files->lendable(type == S_IFDIR));
    while (lent.size() < most) {
        auto loan = context.lender->make(place, type);
        if (!loan)
            break;
        lent.push_back({.number = loan->number(), .attributes = loan->attributes()});
        if (!context.files->lend(std::move(*loan))) {
            lent.pop_back();
            break;
        }
    }
    return lent;
}

// All that MAKE_LENT needs, but for the move.
struct Prepared {
    Context::Held directory;
    EntryName name;
    Loan loan;
    UniqueFd path;
    UniqueFd opened;                                       // of a file
    std::optional<SessionFiles::Reservation> reservation;  // likewise
};

// What the kernel would give to what is made in that directory by open(2) or mkdir(2).
Result<> set_group_and_mode(const Prepared& prepared, const wire::MakeLent& request) {
    REMOFILE_TRY(above, stat_descriptor(prepared.directory.fd()));
    const bool is_directory = prepared.loan.is_directory();
    mode_t mode = request.mode & (is_directory ? 01777 : 07777) & ~(request.umask & 0777);
    if ((above.mode & S_ISGID) != 0) {
        if (above.gid != prepared.loan.attributes().gid)
            REMOFILE_CHECK(change_owner(prepared.path.get(), static_cast<uid_t>(-1), above.gid));
        mode |= is_directory ? S_ISGID : 0;
    }
    return change_mode(prepared.path.get(), mode);
}

// Error: whatever it is, the file is to be made in the ordinary way, and that says what is wrong.
Result<Prepared> prepare(Context& context, const wire::MakeLent& request, Loan loan) {
    const bool is_file = static_cast<bool>(request.handle);
    if (context.caller.switch_identity || is_file == loan.is_directory())
        return Status::invalid;
    REMOFILE_TRY(directory, context.hold_directory(request.parent));
    REMOFILE_TRY(name, EntryName::check_new(request.name));
    REMOFILE_CHECK(context.files->check_free(request.node.id));
    std::optional<SessionFiles::Reservation> reservation;
    int kernel_flags = 0;
    if (is_file) {
        REMOFILE_TRY(reserved, context.files->reserve(request.handle));
        reservation.emplace(std::move(reserved));
        REMOFILE_CHECK(context.make_room());
        REMOFILE_TRY(flags, to_kernel_flags(request.flags));
        kernel_flags = flags & ~O_TRUNC;  // there is nothing to truncate
    }
    {
        REMOFILE_TRY(parent, context.inodes.with_room(
                                 [&] { return open_for_io(directory.fd(), S_IFDIR, O_RDONLY | O_DIRECTORY); }));
        if (!loan.suits(parent.get()))
            return Status::cross_device;
    }
    REMOFILE_TRY(path, context.inodes.with_room([&] { return loan.open(); }));
    REMOFILE_TRY(acting, context.act());
    Prepared prepared{.directory = std::move(directory),
                      .name = std::move(name),
                      .loan = std::move(loan),
                      .path = std::move(path),
                      .opened = {},
                      .reservation = std::move(reservation)};
    // While its mode lets the server.
    if (is_file) {
        REMOFILE_TRY(opened,
                     context.inodes.with_room([&] { return open_for_io(prepared.path.get(), S_IFREG, kernel_flags); }));
        prepared.opened = std::move(opened);
    }
    REMOFILE_CHECK(set_group_and_mode(prepared, request));
    const timespec time{.tv_sec = request.time.seconds, .tv_nsec = request.time.nanoseconds};
    REMOFILE_CHECK(change_times(prepared.path.get(), {time, time}));
    return prepared;
}

Result<> move_into_place(Context& context, Prepared& prepared) {
    const InodePtr& directory = prepared.directory.inode;
    context.asks(directory, prepared.name);
    const auto lock = context.inodes.names().lock(*directory, prepared.name.text());
    REMOFILE_TRY(acting, context.act());
    return prepared.loan.move_to(prepared.directory.fd(), prepared.name);
}

Result<EntryReply> introduce(Context& context, const wire::MakeLent& request, Prepared& prepared) {
    const InodePtr& directory = prepared.directory.inode;
    context.note_name(directory, prepared.name);
    REMOFILE_TRY(attributes, stat_descriptor(prepared.path.get()));
    const InodePtr inode = context.inodes.intern(attributes, directory, prepared.name);
    REMOFILE_TRY(id, context.files->bind(request.node, inode));
    if (prepared.reservation)
        REMOFILE_CHECK(
            prepared.reservation->commit(make_handle(context, inode, std::move(prepared.opened), request.flags)));
    return EntryReply{id, attributes};
}

Result<EntryReply> make_ordinarily(Context& context, const wire::MakeLent& request) {
    if (!request.handle)
        return mkdir(context, {.parent = request.parent,
                               .name = request.name,
                               .node = request.node,
                               .mode = request.mode,
                               .umask = request.umask});
    REMOFILE_TRY(made, create(context, {.parent = request.parent,
                                        .name = request.name,
                                        .node = request.node,
                                        .handle = request.handle,
                                        .flags = request.flags | wire::open_exclusive,
                                        .mode = request.mode,
                                        .umask = request.umask}));
    return made.entry;
}

}  // namespace

Result<wire::LendInodesReply> lend_inodes(Context& context, const wire::LendInodes& request) {
    // First: no time of what is made by then is after this.
    const timespec now = coarse_now();
    if (request.files > wire::max_lent_inodes || request.directories > wire::max_lent_inodes)
        return Status::limit_exceeded;
    auto directory = context.hold_directory(request.directory);
    // It may be about to be made. Whether what is lent suits it is looked at again when it is used.
    if (directory.status() == Status::stale)
        directory = hold_root(context);
    if (!directory)
        return directory.error();
    wire::LendInodesReply reply;
    reply.now = {.seconds = now.tv_sec, .nanoseconds = static_cast<std::uint32_t>(now.tv_nsec)};
    if (const auto place = place_for(context, *directory)) {
        reply.files = lend(context, place, S_IFREG, request.files);
        reply.directories = lend(context, place, S_IFDIR, request.directories);
    }
    return reply;
}

Result<EntryReply> make_lent(Context& context, const wire::MakeLent& request) {
    // It is lent no more, whatever comes of this.
    auto loan = context.files->take_lent(request.lent);
    if (request.time.nanoseconds >= second_ns)
        return Status::invalid;
    if (loan) {
        auto prepared = prepare(context, request, std::move(*loan));
        const auto moved = prepared ? move_into_place(context, *prepared) : Result<>(prepared.error());
        if (moved)
            return introduce(context, request, *prepared);
        if (prepared && moved.status() == Status::exists)
            return Status::exists;
    }
    return make_ordinarily(context, request);
}

}  // namespace remofile::server::operations
