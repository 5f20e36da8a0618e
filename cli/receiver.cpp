// SPDX-License-Identifier: MIT
#include "cli/receiver.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/log.hpp"
#include "cli/local_files.hpp"
#include "cli/parallel.hpp"

namespace remofile::cli {

using client::encoded;
using client::EncodedRequest;

namespace {

// Zeros are looked for in pieces of the size in which file systems keep holes.
constexpr std::size_t hole_bytes = 4096;
constexpr std::uint64_t stat_block_bytes = 512;
const client::CallOptions data_lane{.lane = client::LaneKind::data};

Error changed_meanwhile(const char* where = "") {
    return make_error(Status::try_again, fmt::format("changed{} while it was being fetched", where));
}

// Gives what is complete its name, if there is nothing else than expected.
Result<> give_name(int directory, const std::string& partial, const std::string& name, const Occupant& occupant) {
    if (occupant.kind == Occupant::Kind::nothing) {
        const Result<> named = give_new_name(directory, partial, name);
        return named.status() == Status::exists ? Result<>(changed_meanwhile(" here")) : here(named);
    }
    if (occupant.kind == Occupant::Kind::only) {
        struct stat there {};
        if (::fstatat(directory, name.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0)
            return errno == ENOENT ? changed_meanwhile(" here") : here(errno_error());
        if (identity_of(there) != occupant.identity)
            return changed_meanwhile(" here");
    }
    return ::renameat(directory, partial.c_str(), directory, name.c_str()) == 0 ? Result<>() : here(errno_error());
}

// All but whole pieces of zeros, which become holes.
Result<> write_sparsely(int fd, std::span<const std::byte> bytes, std::uint64_t offset) {
    const auto is_zero = [](std::span<const std::byte> piece) {
        return piece.front() == std::byte{0} && std::memcmp(piece.data(), piece.data() + 1, piece.size() - 1) == 0;
    };
    while (!bytes.empty()) {
        std::size_t size = 0;
        bool zero = false;
        // As many pieces as are alike.
        while (size < bytes.size()) {
            const auto piece = bytes.subspan(size, std::min(hole_bytes, bytes.size() - size));
            const bool piece_is_zero = is_zero(piece);
            if (size > 0 && piece_is_zero != zero)
                break;
            zero = piece_is_zero;
            size += piece.size();
        }
        if (!zero)
            REMOFILE_CHECK(write_at(fd, bytes.first(size), offset));
        bytes = bytes.subspan(size);
        offset += size;
    }
    return {};
}

}  // namespace

timespec to_timespec(const wire::Timestamp& time) {
    return {.tv_sec = time.seconds, .tv_nsec = static_cast<long>(time.nanoseconds)};
}

// A local file that is being written; without its name until it is complete.
class FileReceiver::PartialFile {
public:
    // Opens the one that is there, or makes one. The name can be foreseen: in a directory that others may write to,
    // what is there may be theirs, or another file's second name.
    static Result<PartialFile> open(int directory, std::string name) {
        constexpr int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
        UniqueFd fd(::openat(directory, name.c_str(), flags, 0600));
        // It was complete and had its mode already when something else went wrong.
        if (!fd && errno == EACCES && ::unlinkat(directory, name.c_str(), 0) == 0)
            fd = UniqueFd(::openat(directory, name.c_str(), flags | O_EXCL, 0600));
        struct stat status {};
        if (!fd || ::fstat(fd.get(), &status) != 0)
            return here(errno_error());
        if (!S_ISREG(status.st_mode))
            return make_error(Status::exists, "what is in the way is no regular file: " + name);
        if (status.st_uid != ::geteuid() || status.st_nlink != 1) {
            ::unlinkat(directory, name.c_str(), 0);
            fd = UniqueFd(::openat(directory, name.c_str(), flags | O_EXCL, 0600));
            if (!fd || ::fstat(fd.get(), &status) != 0)
                return here(errno_error());
        }
        return PartialFile(directory, std::move(name), std::move(fd), static_cast<std::uint64_t>(status.st_size));
    }

    int fd() const { return fd_.get(); }
    std::uint64_t size_at_opening() const { return size_; }
    Result<> give_name(const std::string& name, const Occupant& occupant) const {
        return cli::give_name(directory_, name_, name, occupant);
    }
    void remove() const { ::unlinkat(directory_, name_.c_str(), 0); }

private:
    PartialFile(int directory, std::string name, UniqueFd fd, std::uint64_t size)
        : directory_(directory), name_(std::move(name)), fd_(std::move(fd)), size_(size) {}

    int directory_;
    std::string name_;
    UniqueFd fd_;
    std::uint64_t size_;
};

// ---------------------------------------------------------------- all files

Result<> FileReceiver::set_attributes(int fd, const wire::Attributes& attributes, const Xattrs& xattrs,
                                      const std::string& shown) const {
    if (options_.archive) {
        // First: a change of owner takes capabilities away.
        if (::fchown(fd, attributes.uid, attributes.gid) != 0)
            log::debug("{}: its owner stays as it is", shown);
        set_local_xattrs(fd, xattrs, shown);
    }
    const timespec times[] = {to_timespec(attributes.access), to_timespec(attributes.modification)};
    if (::fchmod(fd, attributes.mode & (options_.archive ? 07777U : 0777U)) != 0 || ::futimens(fd, times) != 0)
        return here(errno_error());
    return {};
}

Task<Result<>> FileReceiver::set_link_attributes(int into, std::string name, client::RemoteFile link,
                                                 std::string shown) {
    if (options_.archive) {
        const auto xattrs = co_await remote_xattrs(session_, link.node);
        if (!xattrs)
            co_return Result<>(xattrs.error());
        const UniqueFd fd(::openat(into, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
        if (!fd || ::fchownat(fd.get(), "", link.attributes.uid, link.attributes.gid, AT_EMPTY_PATH) != 0)
            log::debug("{}: its owner stays as it is", shown);
        if (fd)
            set_local_xattrs(fd.get(), *xattrs, shown);
    }
    const timespec times[] = {to_timespec(link.attributes.access), to_timespec(link.attributes.modification)};
    if (::utimensat(into, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
        log::debug("{}: its times stay as they are", shown);
    co_return Result<>();
}

// The content is there: the rest of what belongs to it, then its name.
Task<Result<>> FileReceiver::complete(const RemoteItem& item, const PartialFile& partial, Occupant occupant) {
    const wire::Attributes& attributes = item.file.attributes;
    Result<Xattrs> xattrs;
    if (options_.archive)
        xattrs = co_await remote_xattrs(session_, item.file.node);
    if (!xattrs)
        co_return Result<>(xattrs.error());
    if (::ftruncate(partial.fd(), static_cast<off_t>(attributes.size)) != 0)
        co_return Result<>(here(errno_error()));
    const Result<> set = set_attributes(partial.fd(), attributes, *xattrs, item.shown);
    if (!set)
        co_return set;
    if (options_.sync && ::fsync(partial.fd()) != 0)
        co_return Result<>(here(errno_error()));
    co_return partial.give_name(item.name, occupant);
}

// ---------------------------------------------------------------- small files and links

Task<Result<>> FileReceiver::receive_small(int into, const RemoteItem& item, Occupant occupant) {
    const HandleId handle = session_.new_handle_id();
    std::vector<EncodedRequest> requests;
    requests.push_back(encoded(wire::Open{item.file.node, handle, wire::open_read}, true));
    requests.push_back(encoded(wire::Read{handle, 0, static_cast<std::uint32_t>(small_file_bytes)}, true));
    requests.push_back(encoded(wire::Getattr{item.file.node, handle}));
    const auto replies = co_await session_.call_batch(std::move(requests), data_lane);
    if (replies[0].status != Status::ok)
        co_return Result<>(replies[0].status);
    const auto now = client::decoded<wire::Getattr>(replies[2]);
    Result<> received;
    if (replies[1].status != Status::ok)
        received = replies[1].status;
    else if (!now)
        received = now.error();
    else if (replies[1].bulk.size() != item.file.attributes.size ||
             identity_of(now->attributes) != identity_of(item.file.attributes))
        received = changed_meanwhile();
    if (received) {
        auto partial = PartialFile::open(into, partial_name(item.name, identity_of(item.file.attributes)));
        received = partial ? here(write_at(partial->fd(), replies[1].bulk.bytes(), 0)) : Result<>(partial.error());
        if (received)
            received = co_await complete(item, *partial, occupant);
        if (!received && partial)
            partial->remove();
    }
    session_.tell(wire::Release{handle}, client::LaneKind::data);
    if (received)
        progress_.advance(item.file.attributes.size, true);
    co_return received;
}

Task<Result<>> FileReceiver::receive_symlink(int into, const RemoteItem& item, Occupant occupant) {
    const auto link = co_await session_.call(wire::Readlink{item.file.node}, data_lane);
    if (!link)
        co_return Result<>(link.error());
    const std::string partial = partial_name(item.name, identity_of(item.file.attributes));
    ::unlinkat(into, partial.c_str(), 0);
    if (::symlinkat(link->body.target.c_str(), into, partial.c_str()) != 0)
        co_return Result<>(here(errno_error()));
    Result<> named = co_await set_link_attributes(into, partial, item.file, item.shown);
    if (named)
        named = give_name(into, partial, item.name, occupant);
    if (!named)
        ::unlinkat(into, partial.c_str(), 0);
    co_return named;
}

// ---------------------------------------------------------------- large files

void FileReceiver::remove_other_partials(int into, const RemoteItem& item) {
    const auto names = names_in(fmt::format("/proc/self/fd/{}", into));
    if (!names)
        return;
    for (const std::string& name : *names) {
        if (!is_other_partial(name, item.name, identity_of(item.file.attributes)))
            continue;
        progress_.say(log::printable(item.shown) + ": changed since its transfer was interrupted: it starts over");
        ::unlinkat(into, name.c_str(), 0);
    }
}

// The file that is to be replaced, if there is one and what it has is of use; else none.
Task<Result<UniqueFd>> FileReceiver::open_base(int into, const RemoteItem& item, HandleId handle, Origins& origins) {
    struct stat status {};
    UniqueFd fd(options_.delta ? ::openat(into, item.name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
                               : -1);
    if (!fd || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode))
        co_return Result<UniqueFd>(UniqueFd());
    const std::uint64_t size = std::min(static_cast<std::uint64_t>(status.st_size), item.file.attributes.size);
    const auto common = co_await common_blocks(session_, handle, fd.get(), size);
    if (!common)
        co_return Result<UniqueFd>(common.error());
    origins.add(*common, Origin::base);
    co_return Result<UniqueFd>(std::move(fd));
}

Task<void> FileReceiver::receive_chunk(wire::Read read, int fd, bool sparse, Result<>& outcome) {
    const auto reply = co_await session_.call(read, data_lane);
    Result<> received;
    if (!reply)
        received = reply.error();
    else if (reply->bulk.size() != read.size)
        received = changed_meanwhile();
    else
        received = here(sparse ? write_sparsely(fd, reply->bulk.bytes(), read.offset)
                               : write_at(fd, reply->bulk.bytes(), read.offset));
    if (received)
        co_return progress_.advance(read.size, true);
    if (outcome)
        outcome = received;
}

Task<Result<>> FileReceiver::receive_chunks(const RemoteItem& item, HandleId handle, const PartialFile& partial,
                                            int base, const Origins& origins) {
    const wire::Attributes& attributes = item.file.attributes;
    // Holes are made only in a new file: in one that is taken up, zeros may be needed over what is there.
    const bool sparse = partial.size_at_opening() == 0 && attributes.blocks < attributes.size / stat_block_bytes;
    Parallel under_way(window_bytes(attributes.size));
    Result<> outcome;
    std::uint64_t length = 0;
    for (std::uint64_t offset = 0; offset < attributes.size && outcome; offset += length) {
        const Run run = origins.run_at(offset, chunk_bytes(attributes.size));
        length = run.length;
        if (run.origin == Origin::other_end) {
            const wire::Read read{handle, offset, static_cast<std::uint32_t>(length)};
            co_await under_way.add(length, receive_chunk(read, partial.fd(), sparse, outcome));
            continue;
        }
        if (run.origin == Origin::base)
            outcome = copy_range(base, partial.fd(), offset, length);
        progress_.advance(length, false);
    }
    co_await under_way.idle();
    co_return outcome;
}

Task<Result<>> FileReceiver::receive_large(int into, const RemoteItem& item, Occupant occupant) {
    remove_other_partials(into, item);
    auto partial = PartialFile::open(into, partial_name(item.name, identity_of(item.file.attributes)));
    if (!partial)
        co_return Result<>(partial.error());
    const HandleId handle = session_.new_handle_id();
    const wire::Open open{item.file.node, handle, wire::open_read};
    const auto opened = co_await session_.call(open, data_lane);
    if (!opened)
        co_return Result<>(opened.error());
    const std::uint64_t size = item.file.attributes.size;
    Origins origins(size);
    const auto taken =
        co_await common_blocks(session_, handle, partial->fd(), std::min(partial->size_at_opening(), size));
    Result<> received;
    if (!taken) {
        received = taken.error();
    } else {
        origins.add(*taken, Origin::taken_up);
        tell_taken_up(progress_, item.relative, *taken);
        const auto base = co_await open_base(into, item, handle, origins);
        if (base)
            received = co_await receive_chunks(item, handle, *partial, base->get(), origins);
        else
            received = base.error();
    }
    if (received) {
        const wire::Getattr getattr{item.file.node, handle};
        const auto now = co_await session_.call(getattr, data_lane);
        if (!now)
            received = now.error();
        else if (identity_of(now->body.attributes) != identity_of(item.file.attributes))
            received = changed_meanwhile();
        else
            received = co_await complete(item, *partial, occupant);
    }
    session_.tell(wire::Release{handle}, client::LaneKind::data);
    // What can be gone on with stays.
    if (received.status() == Status::no_space || received.status() == Status::quota_exceeded ||
        received.status() == Status::try_again)
        partial->remove();
    co_return received;
}

}  // namespace remofile::cli
