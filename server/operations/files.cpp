// SPDX-License-Identifier: MIT
// OPEN to HASH: open files.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "server/operations/opening.hpp"
#include "wire/compression.hpp"

namespace remofile::server::operations {
namespace {

using wire::Attributes;
using wire::Empty;

// What has come to a file while no server ran is looked through for what a server before this one had appended.
constexpr std::size_t max_looked_through = 16U << 20;
constexpr std::uint32_t all_open_bits = wire::open_read | wire::open_write | wire::open_append | wire::open_truncate |
                                        wire::open_exclusive | wire::open_sync | wire::open_dsync | wire::open_noatime |
                                        wire::open_execute;

// What one COPY_RANGE copies at most: it holds a thread for that long, some tenths of a second on a disk. The client
// asks again for the rest.
constexpr std::uint64_t max_copy_bytes = 128U << 20;
// Of the copy through memory, where the kernel cannot copy by itself.
constexpr std::size_t copy_chunk_bytes = 256U << 10;
// A file of that name may come and go while CREATE tries to make or open it; more often than this is no accident.
constexpr int max_create_attempts = 16;
// Reads up to here get a buffer of the size asked for without a look at the file's size.
constexpr std::size_t small_read_bytes = 16U << 10;

// Of struct stat's st_blocks, whatever the file system's own blocks are.
constexpr off_t stat_block_bytes = 512;
// A shorter write of zeros is written as it is: holes are whole blocks, of 4 KiB at least, and looking for them costs
// system calls.
constexpr std::size_t min_sparse_bytes = 64U << 10;

// A longer read is worth a worker, which copies it while others are served.
constexpr std::size_t max_read_at_once_bytes = 16U << 10;

// cachestat(2) and its structures, of Linux 6.5, which the headers of Debian 12 do not have.
constexpr long cachestat_number = 451;
struct CacheRange {
    std::uint64_t offset, size;
};
struct CachedPages {
    std::uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

bool has(std::uint32_t flags, std::uint32_t bit) {
    return (flags & bit) != 0;
}

bool changes(std::uint32_t flags) {
    return has(flags, wire::open_write | wire::open_truncate);
}

// Opens a file that is there, as the caller.
Result<UniqueFd> open_existing(Context& context, const Context::Held& file, std::uint32_t flags) {
    REMOFILE_TRY(kernel_flags, to_kernel_flags(flags));
    if (file.inode->is_directory())
        return Status::is_directory;
    if (context.files->read_only() && changes(flags))
        return Status::read_only;
    const auto open_it = [&] { return open_for_io(file.fd(), file.inode->type(), kernel_flags); };
    if (has(flags, wire::open_execute)) {
        // The kernel reads a program for whoever may execute it, even if they may not read it; so does NFS.
        REMOFILE_TRY(acting, context.act());
        REMOFILE_CHECK(check_access(file.fd(), X_OK));
        if (has(flags, wire::open_read | wire::open_write))
            return context.inodes.with_room(open_it);
    } else {
        REMOFILE_TRY(acting, context.act());
        return context.inodes.with_room(open_it);
    }
    return context.inodes.with_room(open_it);
}

Result<Attributes> attributes_of(const Context& context, const HeldFile& file) {
    context.asks(file->inode);
    REMOFILE_TRY(attributes, stat_descriptor(file.fd()));
    file->inode->stamp(attributes);
    return attributes;
}

// A handle that serves for nothing but that the file stays, as open(2) with O_PATH: files of any type, whatever their
// permissions.
Result<wire::AttributesReply> hold_open(Context& context, const Context::Held& held,
                                        SessionFiles::Reservation& reservation) {
    auto file = std::make_shared<OpenFile>();
    file->inode = held.inode;
    REMOFILE_TRY(path, context.inodes.with_room([&] { return duplicate_as_path(held.fd()); }));
    file->open = OpenDescription::make(context.inodes, held.inode, std::move(path), O_PATH, context.files->share(),
                                       context.files->holder());
    REMOFILE_TRY(attributes, context.inodes.attributes(held.inode));
    REMOFILE_CHECK(reservation.commit(std::move(file)));
    return wire::AttributesReply{attributes};
}

// Makes the file; exists if the name is taken.
Result<wire::CreateReply> create_new(Context& context, const wire::Create& request, const Context::Held& directory,
                                     const EntryName& name, SessionFiles::Reservation& reservation) {
    REMOFILE_TRY(kernel_flags, to_kernel_flags(request.flags));
    context.asks(directory.inode, name);
    Result<UniqueFd> made = Status::io_error;
    {
        const auto lock = context.inodes.names().lock(*directory.inode, name.text());
        REMOFILE_TRY(acting, context.act());
        const CreationMask mask(request.umask);
        made = context.inodes.with_room([&] {
            // A new file has nothing to truncate.
            return create_entry(directory.fd(), name, kernel_flags & ~O_TRUNC,
                                mask.apply(request.mode & 07777, directory.fd()));
        });
    }
    if (!made)
        return made.error();
    context.note_name(directory.inode, name);
    REMOFILE_TRY(attributes, stat_descriptor(made->get()));
    const InodePtr inode = context.inodes.intern(attributes, directory.inode, name);
    REMOFILE_TRY(id, context.files->bind(request.node, inode));
    REMOFILE_CHECK(reservation.commit(make_handle(context, inode, std::move(*made), request.flags)));
    return wire::CreateReply{{id, attributes}, true};
}

// Opens the file that has the name; no_entry if there is none.
Result<wire::CreateReply> create_existing(Context& context, const wire::Create& request, const Context::Held& directory,
                                          const EntryName& name, SessionFiles::Reservation& reservation) {
    REMOFILE_TRY(found, context.find_entry(directory, name));
    const InodePtr inode = found.inode;
    auto descriptor = context.inodes.descriptor(inode);
    if (!descriptor)
        return descriptor.error().status == Status::stale ? Status::no_entry : descriptor.error().status;
    REMOFILE_TRY(opened, open_existing(context, {inode, *descriptor}, request.flags));
    if (has(request.flags, wire::open_truncate))
        context.note_change(inode);
    context.asks(inode);
    REMOFILE_TRY(attributes, stat_descriptor(opened.get()));
    inode->stamp(attributes);
    REMOFILE_TRY(id, context.files->bind(request.node, inode));
    REMOFILE_CHECK(reservation.commit(make_handle(context, inode, std::move(opened), request.flags)));
    return wire::CreateReply{{id, attributes}, false};
}

struct Written {
    std::uint64_t offset = 0;
    std::size_t size = 0;
};

Result<Written> write_at(int fd, std::span<const std::byte> bytes, std::uint64_t offset) {
    std::size_t done = 0;
    while (done < bytes.size()) {
        const ssize_t size = pwrite(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0 && done == 0)
            return errno_error();
        if (size <= 0)
            break;
        done += static_cast<std::size_t>(size);
    }
    return Written{offset, done};
}

bool has_holes(const struct stat& stat) {
    return S_ISREG(stat.st_mode) && stat.st_blocks < stat.st_size / stat_block_bytes;
}

// Where data begins at or after `offset`; INT64_MAX if there is only a hole up to the end of the file.
Result<std::uint64_t> next_data(const HeldFile& file, std::uint64_t offset) {
    const std::lock_guard guard(file->position);
    const off_t data = lseek(file.fd(), static_cast<off_t>(offset), SEEK_DATA);
    if (data < 0 && errno == ENXIO)
        return static_cast<std::uint64_t>(INT64_MAX);
    if (data < 0)
        return errno_error();
    return static_cast<std::uint64_t>(data);
}

// Where a hole begins at or after `offset`, the end of the file being one.
Result<std::uint64_t> next_hole(const HeldFile& file, std::uint64_t offset) {
    const std::lock_guard guard(file->position);
    const off_t hole = lseek(file.fd(), static_cast<off_t>(offset), SEEK_HOLE);
    if (hole < 0)
        return errno_error();
    return static_cast<std::uint64_t>(hole);
}

// As many bytes as the range and the file have in common; an error only if nothing was read before it.
Result<std::size_t> read_fully(int fd, std::span<std::byte> into, std::uint64_t offset) {
    std::size_t done = 0;
    while (done < into.size()) {
        const ssize_t size = pread(fd, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0 && done == 0)
            return errno_error();
        if (size <= 0)
            break;
        done += static_cast<std::size_t>(size);
    }
    return done;
}

// Reads as much as there is, if the file system can tell that it need not wait for it.
std::optional<std::size_t> read_without_waiting(const HeldFile& file, std::span<std::byte> into, std::uint64_t offset) {
    const int fd = file.fd();
    const iovec whole{into.data(), into.size()};
    const ssize_t size = preadv2(fd, &whole, 1, static_cast<off_t>(offset), RWF_NOWAIT);
    if (size < 0 && errno != EAGAIN)
        file->no_wait = OpenFile::NoWait::page_cache;
    if (size < 0)
        return std::nullopt;
    const auto done = static_cast<std::size_t>(size);
    if (done < into.size()) {
        // The end of the file, or of what is in memory.
        struct stat stat {};
        if (fstat(fd, &stat) != 0 || offset + done < static_cast<std::uint64_t>(stat.st_size))
            return std::nullopt;
    }
    return done;
}

// The same where the file system cannot tell, tmpfs above all, whose pages may have been swapped out. For files that
// are on this machine; the page cache knows nothing of what reading from others takes.
std::optional<std::size_t> read_from_page_cache(const HeldFile& file, std::span<std::byte> into, std::uint64_t offset) {
    const int fd = file.fd();
    struct stat stat {};
    if (fstat(fd, &stat) != 0)
        return std::nullopt;
    const auto end = std::min<std::uint64_t>(offset + into.size(), stat.st_size);
    if (offset >= end)
        return 0;
    static const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    const CacheRange range{offset, end - offset};
    CachedPages pages{};
    if (syscall(cachestat_number, fd, &range, &pages, 0) != 0) {
        file->no_wait = OpenFile::NoWait::nothing;
        return std::nullopt;
    }
    if (pages.cached != (end - 1) / page - offset / page + 1)
        return std::nullopt;
    const auto size = read_fully(fd, into, offset);
    return size ? std::optional(*size) : std::nullopt;
}

// Whether the file has nothing but a hole in all of a range. What lies beyond the end, also of a file that has just
// been cut, is none.
bool is_hole(const HeldFile& file, std::uint64_t offset, std::uint64_t size) {
    const auto data = next_data(file, offset);
    if (!data || *data < offset + size)
        return false;
    struct stat stat {};
    return fstat(file.fd(), &stat) == 0 && static_cast<std::uint64_t>(stat.st_size) >= offset + size;
}

// Whether a write of zeros may leave alone what is a hole. Not where it is also asked to take away the rights that a
// write takes away: set-id bits, and the capabilities that only programs have.
bool may_stay_sparse(const struct stat& stat) {
    return S_ISREG(stat.st_mode) && (stat.st_mode & (S_ISUID | S_ISGID | S_IXUSR | S_IXGRP | S_IXOTH)) == 0;
}

// Writes zeros so that what is a hole stays one. A hole of the kernel's telling may be space that fallocate(2) has set
// aside, which stays set aside because nothing is given back: no range is punched. Beyond the end only the last byte is
// written, for ftruncate(2) would cut what others append at the same time. Empty if it is no such case, or failed in
// part: all of it has to be written then.
std::optional<Written> write_zeros(const HeldFile& file, std::span<const std::byte> zeros, std::uint64_t offset) {
    const int fd = file.fd();
    struct stat stat {};
    if (fstat(fd, &stat) != 0 || !may_stay_sparse(stat) || offset > INT64_MAX - zeros.size())
        return std::nullopt;
    const std::uint64_t end = offset + zeros.size();
    const auto file_end = static_cast<std::uint64_t>(stat.st_size);
    const std::uint64_t inner_end = std::min(end, file_end);
    for (std::uint64_t at = offset; at < inner_end;) {
        const auto data = next_data(file, at);
        if (!data)
            return std::nullopt;
        if (*data >= inner_end)
            break;
        const auto hole = next_hole(file, *data);
        if (!hole)
            return std::nullopt;
        const std::uint64_t data_end = std::min(*hole, inner_end);
        if (data_end <= *data)
            return std::nullopt;
        const auto written = write_at(fd, zeros.first(data_end - *data), *data);
        if (!written || written->size != data_end - *data)
            return std::nullopt;
        at = data_end;
    }
    if (end > file_end) {
        const auto written = write_at(fd, zeros.first(1), end - 1);
        if (!written || written->size != 1)
            return std::nullopt;
        return Written{offset, zeros.size()};
    }
    // A write is seen in the file's times even if it changed nothing.
    const timespec now[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, {.tv_sec = 0, .tv_nsec = UTIME_NOW}};
    if (futimens(fd, now) != 0)
        return std::nullopt;
    return Written{offset, zeros.size()};
}

// The kernel finds the end of the file and writes there in one step. It leaves the file position behind what it wrote,
// which is how the place becomes known.
Result<Written> append_to(const HeldFile& file, std::span<const std::byte> bytes) {
    const std::lock_guard guard(file->position);
    const int fd = file.fd();
    std::size_t done = 0;
    while (done < bytes.size()) {
        iovec rest{const_cast<std::byte*>(bytes.data()) + done, bytes.size() - done};
        constexpr off_t at_position = -1;
        const ssize_t size = pwritev2(fd, &rest, 1, at_position, RWF_APPEND);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0 && done == 0)
            return errno_error();
        if (size <= 0)
            break;
        done += static_cast<std::size_t>(size);
    }
    const off_t end = done == 0 ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    if (end < 0)
        return errno_error();
    return Written{static_cast<std::uint64_t>(end) - done, done};
}

// The same of what a server before this one had begun to append when the file ended at `begun_at`; it may have been
// ended in the middle. What is there of it since then is not written again.
Result<Written> append_rest(const HeldFile& file, std::span<const std::byte> bytes, std::uint64_t begun_at) {
    // Opened as the server itself, for whoever appends need not be allowed to read. Nobody is told what is read.
    const UniqueFd reading(::open(DescriptorPath(file.fd()).c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (!reading)
        return Status::io_error;
    std::vector<std::byte> since(max_looked_through);
    const ssize_t got = pread(reading.get(), since.data(), since.size(), static_cast<off_t>(begun_at));
    if (got < 0)
        return errno_error();
    since.resize(static_cast<std::size_t>(got));
    if (since.size() == max_looked_through)
        return Status::io_error;  // so much has come meanwhile that it is not looked for
    // Others may have appended before it.
    if (const auto found = std::ranges::search(since, bytes); bytes.empty() || !found.empty())
        return Written{begun_at + static_cast<std::uint64_t>(found.begin() - since.begin()), bytes.size()};
    const bool has_begun =
        !since.empty() && since.size() < bytes.size() && std::ranges::equal(since, bytes.first(since.size()));
    const std::size_t done = has_begun ? since.size() : 0;
    REMOFILE_TRY(rest, append_to(file, bytes.subspan(done)));
    return Written{rest.offset - done, done + rest.size};
}

Result<Written> write_bytes(const HeldFile& file, std::span<const std::byte> bytes, std::uint64_t offset) {
    if (bytes.size() >= min_sparse_bytes && wire::is_all_zeros(bytes)) {
        if (const auto written = write_zeros(file, bytes, offset))
            return *written;
    }
    return write_at(file.fd(), bytes, offset);
}

// Where copy_file_range(2) cannot: between file systems, or within one that does not have it.
Result<std::uint64_t> copy_through_memory(int from, off_t from_offset, int to, off_t to_offset, std::uint64_t size) {
    const auto memory = std::make_unique<std::byte[]>(copy_chunk_bytes);
    std::uint64_t copied = 0;
    while (copied < size) {
        const auto step = static_cast<off_t>(copied);
        const ssize_t got =
            pread(from, memory.get(), std::min<std::uint64_t>(copy_chunk_bytes, size - copied), from_offset + step);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && copied == 0)
            return errno_error();
        if (got <= 0)
            break;
        const auto written =
            write_at(to, {memory.get(), static_cast<std::size_t>(got)}, static_cast<std::uint64_t>(to_offset + step));
        if (!written && copied == 0)
            return written.error();
        if (!written)
            break;
        copied += written->size;
        if (written->size < static_cast<std::size_t>(got))
            break;
    }
    return copied;
}

Result<std::uint64_t> copy_in_kernel(int from, off_t from_offset, int to, off_t to_offset, std::uint64_t size) {
    std::uint64_t copied = 0;
    while (copied < size) {
        const ssize_t step = copy_file_range(from, &from_offset, to, &to_offset, size - copied, 0);
        if (step < 0 && errno == EINTR)
            continue;
        if (step < 0 && copied == 0)
            return errno_error();
        if (step <= 0)
            break;
        copied += static_cast<std::uint64_t>(step);
    }
    return copied;
}

}  // namespace

Result<int> to_kernel_flags(std::uint32_t flags) {
    if ((flags & ~all_open_bits) != 0 || !has(flags, wire::open_read | wire::open_write | wire::open_execute))
        return Status::invalid;
    // Opened for execution alone, a file is opened as the server: what needs rights of its own is not for that.
    if (!has(flags, wire::open_read | wire::open_write) && has(flags, wire::open_truncate | wire::open_noatime))
        return Status::invalid;
    int kernel = !has(flags, wire::open_write)                                   ? O_RDONLY
                 : has(flags, wire::open_read) || has(flags, wire::open_execute) ? O_RDWR
                                                                                 : O_WRONLY;
    kernel |= has(flags, wire::open_append) ? O_APPEND : 0;
    kernel |= has(flags, wire::open_truncate) ? O_TRUNC : 0;
    kernel |= has(flags, wire::open_sync) ? O_SYNC : 0;
    kernel |= has(flags, wire::open_dsync) ? O_DSYNC : 0;
    kernel |= has(flags, wire::open_noatime) ? O_NOATIME : 0;
    return kernel;
}

OpenFilePtr make_handle(Context& context, const InodePtr& inode, UniqueFd opened, std::uint32_t flags) {
    auto file = std::make_shared<OpenFile>();
    file->inode = inode;
    file->open = OpenDescription::make(context.inodes, inode, std::move(opened), to_kernel_flags(flags).value(),
                                       context.files->share(), context.files->holder());
    file->readable = has(flags, wire::open_read) || has(flags, wire::open_execute);
    file->writable = has(flags, wire::open_write);
    file->append = has(flags, wire::open_append);
    return file;
}

Result<wire::AttributesReply> open(Context& context, const wire::Open& request) {
    REMOFILE_TRY(file, context.hold(request.node));
    REMOFILE_TRY(reservation, context.files->reserve(request.handle));
    REMOFILE_CHECK(context.make_room());
    if (request.flags == wire::open_hold)
        return hold_open(context, file, reservation);
    REMOFILE_TRY(opened, open_existing(context, file, request.flags & ~wire::open_exclusive));
    if (has(request.flags, wire::open_truncate))
        context.note_change(file.inode);
    context.asks(file.inode);
    REMOFILE_TRY(attributes, stat_descriptor(opened.get()));
    file.inode->stamp(attributes);
    REMOFILE_CHECK(reservation.commit(make_handle(context, file.inode, std::move(opened), request.flags)));
    return wire::AttributesReply{attributes};
}

Result<wire::CreateReply> create(Context& context, const wire::Create& request) {
    REMOFILE_TRY(directory, context.hold_directory(request.parent));
    REMOFILE_TRY(name, EntryName::check_new(request.name));
    REMOFILE_TRY(reservation, context.files->reserve(request.handle));
    REMOFILE_CHECK(context.make_room());
    // Of a file that is there, the id may be in use already; a new one needs a free one.
    const Result<> free = context.files->check_free(request.node.id);
    const bool may_make = !context.files->read_only() && free;
    for (int attempt = 0; attempt < max_create_attempts; ++attempt) {
        if (may_make) {
            auto made = create_new(context, request, directory, name, reservation);
            if (made || made.error().status != Status::exists || has(request.flags, wire::open_exclusive))
                return made;
        }
        auto opened = create_existing(context, request, directory, name, reservation);
        if (opened && has(request.flags, wire::open_exclusive))
            return Status::exists;
        if (opened || opened.error().status != Status::no_entry)
            return opened;
        if (!may_make)
            return context.files->read_only() ? Status::read_only : free.status();
    }
    return Status::stale;
}

Result<wire::EntryReply> tmpfile(Context& context, const wire::Tmpfile& request) {
    REMOFILE_TRY(directory, context.hold_directory(request.parent));
    REMOFILE_CHECK(context.files->check_free(request.node.id));
    REMOFILE_TRY(reservation, context.files->reserve(request.handle));
    REMOFILE_CHECK(context.make_room());
    REMOFILE_TRY(kernel_flags, to_kernel_flags(request.flags));
    // O_EXCL keeps LINK from giving it a name.
    kernel_flags |= has(request.flags, wire::open_exclusive) ? O_EXCL : 0;
    Result<UniqueFd> made = Status::io_error;
    {
        REMOFILE_TRY(acting, context.act());
        const CreationMask mask(request.umask);
        made = context.inodes.with_room([&] {
            return create_unnamed(directory.fd(), kernel_flags & ~O_TRUNC,
                                  mask.apply(request.mode & 07777, directory.fd()));
        });
    }
    if (!made)
        return made.error();
    REMOFILE_TRY(attributes, stat_descriptor(made->get()));
    const InodePtr inode = context.inodes.intern_unnamed(attributes);
    REMOFILE_TRY(id, context.files->bind(request.node, inode));
    REMOFILE_CHECK(reservation.commit(make_handle(context, inode, std::move(*made), request.flags)));
    return wire::EntryReply{id, attributes};
}

Result<Empty> read(Context& context, const wire::Read& request) {
    REMOFILE_TRY(file, context.hold_file(request.handle));
    if (!file->readable)
        return Status::bad_handle;
    if (request.size > wire::max_bulk_bytes || request.offset > INT64_MAX)
        return Status::invalid;
    const int fd = file.fd();
    std::size_t wanted = request.size;
    if (wanted > small_read_bytes) {
        // A small file read in large steps needs no large buffer. Some files (of /proc, say) have bytes but no size.
        struct stat stat {};
        if (fstat(fd, &stat) == 0 && stat.st_size > 0) {
            const auto size = static_cast<std::uint64_t>(stat.st_size);
            wanted = std::min<std::uint64_t>(wanted, size > request.offset ? size - request.offset : 0);
            if (wanted > small_read_bytes && has_holes(stat) && is_hole(file, request.offset, wanted)) {
                context.reply_with(wire::EncodedBulk::of_zeros(static_cast<std::uint32_t>(wanted)));
                return Empty{};
            }
        }
    }
    Buffer buffer = Buffer::allocate(wanted);
    REMOFILE_TRY(size, read_fully(fd, buffer.bytes(), request.offset));
    buffer.shrink(size);
    context.reply_with(std::move(buffer));
    context.reply_stream = {file.file, &file->compressibility};
    return Empty{};
}

Result<Empty> read_at_once(Context& context, const wire::Read& request) {
    if (request.size > max_read_at_once_bytes || request.offset > INT64_MAX)
        return Status::try_again;
    REMOFILE_TRY(open_file, context.files->file(request.handle));
    const HeldFile file{open_file, open_file->open->held()};
    if (!file->readable || !file.descriptor)
        return Status::try_again;
    Buffer buffer = Buffer::allocate(request.size);
    std::optional<std::size_t> size;
    if (file->no_wait == OpenFile::NoWait::file_system)
        size = read_without_waiting(file, buffer.bytes(), request.offset);
    if (file->no_wait == OpenFile::NoWait::page_cache && context.inodes.knows_attributes(file->inode))
        size = read_from_page_cache(file, buffer.bytes(), request.offset);
    if (!size)
        return Status::try_again;
    buffer.shrink(*size);
    context.reply_with(std::move(buffer));
    context.reply_stream = {file.file, &file->compressibility};
    return Empty{};
}

Result<wire::WriteReply> write(Context& context, const wire::Write& request) {
    REMOFILE_TRY(file, context.hold_file(request.handle));
    if (!file->writable)
        return Status::bad_handle;
    if (request.offset > INT64_MAX)
        return Status::invalid;
    REMOFILE_TRY(before, attributes_of(context, file));
    Result<Written> written = Status::io_error;
    {
        // Who writes matters for set-id bits, which a write by an ordinary user clears, and for quotas.
        REMOFILE_TRY(acting, context.act());
        const auto bytes = context.bulk.bytes();
        if (!request.append && !file->append)
            written = write_bytes(file, bytes, request.offset);
        else if (context.begun_at)
            written = append_rest(file, bytes, *context.begun_at);
        else
            written = append_to(file, bytes);
    }
    file->open->set_unsynced(true);
    // Also after an error: a part may have been written before it.
    context.note_change(file->inode);
    if (!written)
        return written.error();
    REMOFILE_TRY(attributes, attributes_of(context, file));
    return wire::WriteReply{written->offset, static_cast<std::uint32_t>(written->size), attributes, before.version};
}

Result<Empty> release(Context& context, const wire::Release& request) {
    REMOFILE_TRY(file, context.files->take_file(request.handle));
    context.locks.close_handle(context.files->share(), file);
    const InodePtr inode = file->inode;
    file.reset();
    context.inodes.closed(inode);
    return Empty{};
}

Result<Empty> flush(Context& context, const wire::Flush& request) {
    REMOFILE_TRY(file, context.files->file(request.handle));
    context.locks.close_owner(context.files->share(), request.owner, file->inode);
    // Where the file system reports errors at close (NFS, quotas), the close of any descriptor does. One that was given
    // up has been closed after all was written.
    const Descriptor descriptor = file->open->held();
    if (!descriptor)
        return Empty{};
    const int copy = fcntl(descriptor->get(), F_DUPFD_CLOEXEC, 0);
    if (copy >= 0 && ::close(copy) != 0 && errno != EINTR)
        return errno_error();
    return Empty{};
}

Result<Empty> fsync(Context& context, const wire::Fsync& request) {
    REMOFILE_TRY(file, context.hold_file(request.handle));
    const int fd = file.fd();
    file->open->set_unsynced(false);
    if ((request.data_only ? ::fdatasync(fd) : ::fsync(fd)) != 0)
        return errno_error();
    if (const Status earlier = file->open->take_deferred_error(); earlier != Status::ok)
        return earlier;
    return Empty{};
}

Result<wire::AttributesReply> fallocate(Context& context, const wire::Fallocate& request) {
    REMOFILE_TRY(file, context.hold_file(request.handle));
    if (!file->writable)
        return Status::bad_handle;
    if (request.offset > INT64_MAX || request.length > INT64_MAX || request.mode > INT32_MAX)
        return Status::invalid;
    Result<> done;
    {
        REMOFILE_TRY(acting, context.act());
        while (::fallocate(file.fd(), static_cast<int>(request.mode), static_cast<off_t>(request.offset),
                           static_cast<off_t>(request.length)) != 0)
            if (errno != EINTR) {
                done = errno_error();
                break;
            }
    }
    file->open->set_unsynced(true);
    // Also after an error: a part may have been done before it.
    context.note_change(file->inode);
    if (!done)
        return done.error();
    REMOFILE_TRY(attributes, attributes_of(context, file));
    return wire::AttributesReply{attributes};
}

Result<wire::SeekReply> seek(Context& context, const wire::Seek& request) {
    REMOFILE_TRY(file, context.hold_file(request.handle));
    if (request.what > wire::SeekWhat::hole)
        return Status::invalid;
    // Beyond what an offset can be is beyond the end of any file.
    if (request.offset > INT64_MAX)
        return Status::no_device;
    const std::lock_guard guard(file->position);
    const off_t offset = lseek(file.fd(), static_cast<off_t>(request.offset),
                               request.what == wire::SeekWhat::data ? SEEK_DATA : SEEK_HOLE);
    if (offset < 0)
        return errno_error();
    return wire::SeekReply{static_cast<std::uint64_t>(offset)};
}

Result<Empty> hash(Context& context, const wire::Hash& request) {
    REMOFILE_TRY(file, context.hold_file(request.handle));
    if (!file->readable)
        return Status::bad_handle;
    if (request.block_size == 0 || request.block_size > wire::max_bulk_bytes ||
        request.count > wire::max_hashed_blocks ||
        std::uint64_t{request.block_size} * request.count > wire::max_hashed_bytes ||
        request.offset > INT64_MAX - wire::max_hashed_bytes)
        return Status::invalid;
    Buffer block = Buffer::allocate(request.block_size);
    Buffer digests = Buffer::allocate(request.count * wire::digest_bytes);
    std::size_t done = 0;
    for (std::uint64_t offset = request.offset; done < digests.size(); offset += request.block_size) {
        REMOFILE_TRY(size, read_fully(file.fd(), block.bytes(), offset));
        if (size == 0)
            break;
        XXH128_canonical_t digest;
        static_assert(sizeof(digest) == wire::digest_bytes);
        XXH128_canonicalFromHash(&digest, XXH3_128bits(block.data(), size));
        std::memcpy(digests.data() + done, &digest, sizeof(digest));
        done += sizeof(digest);
        if (size < request.block_size)
            break;
    }
    digests.shrink(done);
    context.reply_with(std::move(digests));
    return Empty{};
}

Result<wire::CopyRangeReply> copy_range(Context& context, const wire::CopyRange& request) {
    REMOFILE_TRY(from, context.hold_file(request.from));
    REMOFILE_TRY(to, context.hold_file(request.to));
    if (!from->readable || !to->writable || to->append)
        return Status::bad_handle;
    std::uint64_t size = std::min(request.size, max_copy_bytes);
    if (request.from_offset > INT64_MAX - size || request.to_offset > INT64_MAX - size)
        return Status::overflow;
    const int source = from.fd();
    const int target = to.fd();
    // A copy within one file may move its end; what counts is where it was.
    struct stat stat {};
    if (fstat(source, &stat) != 0)
        return errno_error();
    const auto end = static_cast<std::uint64_t>(stat.st_size);
    size = std::min(size, end > request.from_offset ? end - request.from_offset : 0);
    const auto source_offset = static_cast<off_t>(request.from_offset);
    const auto target_offset = static_cast<off_t>(request.to_offset);
    Result<std::uint64_t> copied = std::uint64_t{0};
    {
        REMOFILE_TRY(acting, context.act());
        copied = copy_in_kernel(source, source_offset, target, target_offset, size);
        // "Invalid" is also what some file systems say who cannot copy; within one file it means ranges that overlap.
        const Status status = copied.status();
        if (status == Status::cross_device || status == Status::not_supported || status == Status::not_implemented ||
            (status == Status::invalid && from->inode != to->inode))
            copied = copy_through_memory(source, source_offset, target, target_offset, size);
    }
    to->open->set_unsynced(true);
    if (!copied)
        return copied.error();
    if (*copied > 0)
        context.note_change(to->inode);
    return wire::CopyRangeReply{*copied};
}

}  // namespace remofile::server::operations
