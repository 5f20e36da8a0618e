// SPDX-License-Identifier: MIT
#include "cli/sender.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "cli/local_files.hpp"
#include "cli/parallel.hpp"
#include "cli/xattrs.hpp"

namespace remofile::cli {

using client::encoded;
using client::EncodedRequest;

struct FileSender::Target {
    NodeId directory;
    std::string partial;
    NodeId node;
    HandleId handle;
    std::uint64_t old_bytes = 0;  // that an interrupted transfer has left in it
};

namespace {

constexpr std::size_t max_link_target_bytes = wire::max_path_bytes;
const client::CallOptions data_lane{.lane = client::LaneKind::data};

Error changed_meanwhile(const char* where = "") {
    return make_error(Status::try_again, fmt::format("changed{} while it was being sent", where));
}

// Opens what has been seen before, and nothing else that may have taken its place: whoever may change the tree must not
// choose which files of another are sent.
Result<UniqueFd> open_source(LocalFile& file) {
    const struct stat seen = file.status;
    UniqueFd fd(::openat(file.at(), file.name_there(), file.open_flags()));
    if (!fd || ::fstat(fd.get(), &file.status) != 0)
        return errno_error();
    if (!S_ISREG(file.status.st_mode) || file.status.st_dev != seen.st_dev || file.status.st_ino != seen.st_ino)
        return changed_meanwhile();
    return fd;
}

// The rename that ends a transfer.
EncodedRequest naming(NodeId directory, const std::string& partial, const std::string& name, const Occupant& occupant) {
    const std::uint32_t flags = occupant.kind == Occupant::Kind::nothing ? wire::rename_noreplace : 0;
    return encoded(wire::Rename{directory, partial, directory, name, flags});
}

// The outcome of requests of which the last is such a rename.
Result<> outcome_of(std::span<const client::EncodedReply> replies, const Occupant& occupant) {
    for (const client::EncodedReply& reply : replies) {
        if (reply.status == Status::exists && occupant.kind == Occupant::Kind::nothing)
            return changed_meanwhile(" on the server");
        if (reply.status != Status::ok)
            return on_server(make_error(reply.status));
    }
    return {};
}

}  // namespace

wire::Timestamp to_wire(const timespec& time) {
    return {.seconds = time.tv_sec, .nanoseconds = static_cast<std::uint32_t>(time.tv_nsec)};
}

wire::Setattr FileSender::mode_and_times(const struct stat& status, NodeId node, HandleId handle) const {
    return {.node = node,
            .handle = handle,
            .which = wire::set_mode | wire::set_access | wire::set_modification,
            .mode = status.st_mode & (options_.archive ? 07777U : 0777U),
            .access = to_wire(status.st_atim),
            .modification = to_wire(status.st_mtim)};
}

std::vector<EncodedRequest> FileSender::ownership(const struct stat& status, const Xattrs& xattrs, NodeId node,
                                                  std::span<const std::string> there) const {
    std::vector<EncodedRequest> requests;
    if (!options_.archive)
        return requests;
    requests = xattr_requests(node, xattrs, there);
    // First: a change of owner takes capabilities away.
    requests.insert(
        requests.begin(),
        encoded(wire::Setattr{
            .node = node, .which = wire::set_uid | wire::set_gid, .uid = status.st_uid, .gid = status.st_gid}));
    return requests;
}

// Of a file that the transfer has made.
std::vector<EncodedRequest> FileSender::ownership(const LocalFile& file, int fd, NodeId node) const {
    const std::string inherited(access_acl);
    return ownership(file.status, options_.archive ? local_xattrs(fd) : Xattrs(), node, {&inherited, 1});
}

Task<Result<>> FileSender::finish_directory(NodeId node, Xattrs xattrs, struct stat status) {
    std::vector<EncodedRequest> requests;
    if (options_.archive)
        requests = ownership(status, xattrs, node, co_await remote_xattr_names(session_, node));
    requests.push_back(encoded(mode_and_times(status, node, {})));
    const auto replies = co_await session_.call_batch(std::move(requests), data_lane);
    co_return outcome_of(std::span(replies).last(1), {});
}

// An incomplete file that is of no use. If that fails, it is in nobody's way.
Task<void> FileSender::remove(NodeId directory, std::string partial) {
    const wire::Unlink unlink{directory, std::move(partial)};
    const auto removed = co_await session_.call(unlink, data_lane);
    if (!removed)
        log::debug("{} stays on the server: {}", unlink.name, describe(removed.status()));
}

void FileSender::let_go(const Target& target) {
    session_.tell(wire::Release{target.handle}, client::LaneKind::data);
    tree_.forget(target.node);
}

// Before something else gets its name: that it is what was seen when that was decided.
Task<Result<>> FileSender::check(NodeId directory, std::string name, Occupant occupant) {
    if (occupant.kind != Occupant::Kind::only)
        co_return Result<>();
    const auto there = co_await tree_.find_entry(directory, std::move(name));
    if (!there)
        co_return Result<>(there.status() == Status::no_entry ? changed_meanwhile(" on the server")
                                                              : on_server(there.error()));
    tree_.forget(there->node);
    if (identity_of(there->attributes) != occupant.identity)
        co_return Result<>(changed_meanwhile(" on the server"));
    co_return Result<>();
}

// ---------------------------------------------------------------- small files and links

Task<Result<>> FileSender::send_small(NodeId into, LocalFile& file, Occupant occupant) {
    auto fd = open_source(file);
    if (!fd)
        co_return Result<>(fd.error());
    if (static_cast<std::uint64_t>(file.status.st_size) > small_file_bytes)
        co_return Result<>(changed_meanwhile());
    Buffer content = Buffer::allocate(static_cast<std::size_t>(file.status.st_size));
    const auto size = read_at(fd->get(), content.bytes(), 0);
    if (!size)
        co_return Result<>(size.error());
    struct stat now {};
    if (*size != content.size() || ::fstat(fd->get(), &now) != 0 || identity_of(now) != identity_of(file.status))
        co_return Result<>(changed_meanwhile());
    const Target target{.directory = into,
                        .partial = partial_name(file.name, identity_of(file.status)),
                        .node = session_.new_node_id(),
                        .handle = session_.new_handle_id()};
    std::vector<EncodedRequest> requests;
    requests.push_back(encoded(wire::Create{.parent = into,
                                            .name = target.partial,
                                            .node = {target.node, false},
                                            .handle = target.handle,
                                            .flags = wire::open_write | wire::open_truncate,
                                            .mode = 0600},
                               true));
    if (*size > 0)
        requests.push_back(encoded(wire::Write{target.handle, 0, false}, std::move(content), true));
    // Where nothing has to be looked at before, the name comes in the same message.
    const bool at_once = !options_.archive && occupant.kind != Occupant::Kind::only;
    if (at_once) {
        requests.push_back(encoded(mode_and_times(file.status, target.node, target.handle), true));
        if (options_.sync)
            requests.push_back(encoded(wire::Fsync{target.handle, false}, true));
        requests.push_back(naming(into, target.partial, file.name, occupant));
    }
    const std::size_t needed = requests.size();
    for (EncodedRequest& request : ownership(file, fd->get(), target.node))
        requests.push_back(std::move(request));
    // Hundreds of files may be under way.
    fd->reset();
    file.directory.reset();
    const auto replies = co_await session_.call_batch(std::move(requests), data_lane);
    Result<> sent = outcome_of(std::span(replies).first(needed), occupant);
    if (sent && *size > 0) {
        const auto written = client::decoded<wire::Write>(replies[1]);
        if (!written || written->size != *size)
            sent = on_server(make_error(Status::no_space));
    }
    if (sent && !at_once)
        sent = co_await give_name(file, target, false, occupant);
    if (replies.front().status == Status::ok) {
        if (!sent)
            co_await remove(into, target.partial);
        let_go(target);
    }
    if (sent)
        progress_.advance(*size, true);
    co_return sent;
}

Task<Result<>> FileSender::send_symlink(NodeId into, const LocalFile& file, Occupant occupant) {
    std::string link_target(max_link_target_bytes, '\0');
    const UniqueFd link(::openat(file.at(), file.name_there(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    const ssize_t size = link ? ::readlinkat(link.get(), "", link_target.data(), link_target.size()) : -1;
    if (size < 0)
        co_return Result<>(errno_error());
    link_target.resize(static_cast<std::size_t>(size));
    const Result<> unchanged = co_await check(into, file.name, occupant);
    if (!unchanged)
        co_return unchanged;
    const std::string partial = partial_name(file.name, identity_of(file.status));
    const NodeId node = session_.new_node_id();
    std::vector<EncodedRequest> requests;
    // What an interrupted transfer left; mostly nothing.
    requests.push_back(encoded(wire::Unlink{into, partial}));
    requests.push_back(encoded(wire::Symlink{into, partial, {node, false}, link_target}, true));
    // Whatever becomes of these, there is a link then.
    for (EncodedRequest& request : ownership(file, link.get(), node))
        requests.push_back(std::move(request));
    wire::Setattr times = mode_and_times(file.status, node, {});
    times.which &= ~wire::set_mode;
    requests.push_back(encoded(times));
    requests.push_back(naming(into, partial, file.name, occupant));
    const auto replies = co_await session_.call_batch(std::move(requests), data_lane);
    if (replies[1].status == Status::ok)
        tree_.forget(node);
    Result<> sent = outcome_of(std::span(replies).subspan(1, 1), occupant);
    if (sent)
        sent = outcome_of(std::span(replies).last(1), occupant);
    if (!sent && replies[1].status == Status::ok)
        co_await remove(into, partial);
    co_return sent;
}

// ---------------------------------------------------------------- large files

// Opens or makes the incomplete file, and finds out which blocks it has.
Task<Result<>> FileSender::take_up(const RemoteDirectory* into, const LocalFile& file, int fd, Target& target,
                                   Origins& origins) {
    const SourceIdentity identity = identity_of(file.status);
    for (const auto& [name, entry] : into->entries) {
        if (!is_other_partial(name, file.name, identity))
            continue;
        progress_.say(log::printable(file.path) + ": changed since its transfer was interrupted: it starts over");
        co_await remove(into->node, name);
    }
    const wire::Create create{.parent = into->node,
                              .name = target.partial,
                              .node = {target.node, false},
                              .handle = target.handle,
                              .flags = wire::open_read | wire::open_write,
                              .mode = 0600};
    auto created = co_await session_.call(create, data_lane);
    if (created.status() == Status::access_denied) {
        // It was complete and had its mode already when something else went wrong.
        co_await remove(into->node, target.partial);
        created = co_await session_.call(create, data_lane);
    }
    if (!created)
        co_return Result<>(on_server(created.error()));
    target.old_bytes = created->body.entry.attributes.size;
    const std::uint64_t there = std::min(created->body.entry.attributes.size, identity.size);
    if (created->body.created || there == 0)
        co_return Result<>();
    const auto common = co_await common_blocks(session_, target.handle, fd, there);
    if (!common)
        co_return Result<>(common.error());
    origins.add(*common, Origin::taken_up);
    tell_taken_up(progress_, file.relative, *common);
    co_return Result<>();
}

// The file that is to be replaced, if there is one and what it has is of use; else no handle.
Task<HandleId> FileSender::open_base(const RemoteDirectory* into, const LocalFile& file, int fd, Origins& origins) {
    const auto found = into->entries.find(file.name);
    if (!options_.delta || found == into->entries.end() || !S_ISREG(found->second.attributes.mode))
        co_return HandleId();
    const HandleId handle = session_.new_handle_id();
    const wire::Open open{found->second.node, handle, wire::open_read};
    const auto opened = co_await session_.call(open, data_lane);
    if (!opened)
        co_return HandleId();
    const std::uint64_t size = std::min(found->second.attributes.size, static_cast<std::uint64_t>(file.status.st_size));
    const auto common = co_await common_blocks(session_, handle, fd, size);
    if (common)
        origins.add(*common, Origin::base);
    co_return handle;
}

Task<void> FileSender::send_chunk(HandleId handle, std::uint64_t offset, Buffer data, Result<>& outcome) {
    const std::size_t size = data.size();
    const wire::Write write{handle, offset, false};
    const auto written = co_await session_.call_with_bulk(write, std::move(data), data_lane);
    if (written && written->body.size == size)
        co_return progress_.advance(size, true);
    if (outcome)
        outcome = on_server(written ? make_error(Status::no_space) : written.error());
}

Task<void> FileSender::copy_range(HandleId from, HandleId to, std::uint64_t offset, std::uint64_t size,
                                  Result<>& outcome) {
    while (size > 0 && outcome) {
        const wire::CopyRange copy{from, offset, to, offset, size};
        const auto copied = co_await session_.call(copy, data_lane);
        if (!copied) {
            outcome = on_server(copied.error());
        } else if (copied->body.size == 0 || copied->body.size > size) {
            outcome = changed_meanwhile(" on the server");
        } else {
            progress_.advance(copied->body.size, false);
            offset += copied->body.size;
            size -= copied->body.size;
        }
    }
}

Task<Result<>> FileSender::send_chunks(const LocalFile& file, int fd, const Target& target, HandleId base,
                                       const Origins& origins) {
    const auto size = static_cast<std::uint64_t>(file.status.st_size);
    Parallel under_way(window_bytes(size));
    Result<> outcome;
    std::uint64_t length = 0;
    std::uint64_t data_end = 0;  // the data that SEEK_DATA has found goes up to here
    for (std::uint64_t offset = 0; offset < size && outcome; offset += length) {
        const Run run = origins.run_at(offset, chunk_bytes(size));
        length = run.length;
        if (offset >= data_end) {
            // Whole chunks of a hole are left out, where nothing has been written before; on an error (the file system
            // knows no holes) all is data.
            const off_t data = ::lseek(fd, static_cast<off_t>(offset), SEEK_DATA);
            const bool only_hole = data < 0 && errno == ENXIO;
            const bool is_hole = only_hole || (data >= 0 && static_cast<std::uint64_t>(data) >= offset + length);
            if (is_hole && offset >= target.old_bytes) {
                const std::uint64_t end = only_hole ? size : static_cast<std::uint64_t>(data);
                // Up to a chunk's beginning: all chunks begin where blocks do.
                length = std::max(length, end == size ? size - offset : (end - offset) / length * length);
                progress_.advance(length, false);
                continue;
            }
            if (!is_hole) {
                const off_t hole = data < 0 ? -1 : ::lseek(fd, data, SEEK_HOLE);
                data_end = hole < 0 ? size : static_cast<std::uint64_t>(hole);
            }
        }
        if (run.origin == Origin::taken_up) {
            progress_.advance(length, false);
            continue;
        }
        if (run.origin == Origin::base) {
            co_await under_way.add(length, copy_range(base, target.handle, offset, length, outcome));
            continue;
        }
        Buffer chunk = Buffer::allocate(length);
        const auto read = read_at(fd, chunk.bytes(), offset);
        if (!read || *read != length)
            outcome = read ? changed_meanwhile() : read.error();
        else
            co_await under_way.add(length, send_chunk(target.handle, offset, std::move(chunk), outcome));
    }
    co_await under_way.idle();
    co_return outcome;
}

// The last steps: nobody has seen the file before.
Task<Result<>> FileSender::give_name(const LocalFile& file, const Target& target, bool with_size, Occupant occupant) {
    const Result<> unchanged = co_await check(target.directory, file.name, occupant);
    if (!unchanged)
        co_return unchanged;
    std::vector<EncodedRequest> requests;
    if (with_size) {
        // By itself: setting a size changes the times.
        requests.push_back(encoded(wire::Setattr{.node = target.node,
                                                 .handle = target.handle,
                                                 .which = wire::set_size,
                                                 .size = static_cast<std::uint64_t>(file.status.st_size)},
                                   true));
    }
    requests.push_back(encoded(mode_and_times(file.status, target.node, target.handle), true));
    if (options_.sync)
        requests.push_back(encoded(wire::Fsync{target.handle, false}, true));
    requests.push_back(naming(target.directory, target.partial, file.name, occupant));
    const auto replies = co_await session_.call_batch(std::move(requests), data_lane);
    co_return outcome_of(replies, occupant);
}

Task<Result<>> FileSender::send_large(const RemoteDirectory* into, LocalFile& file, Occupant occupant) {
    const auto fd = open_source(file);
    if (!fd)
        co_return Result<>(fd.error());
    Target target{.directory = into->node,
                  .partial = partial_name(file.name, identity_of(file.status)),
                  .node = session_.new_node_id(),
                  .handle = session_.new_handle_id()};
    Origins origins(static_cast<std::uint64_t>(file.status.st_size));
    const Result<> taken = co_await take_up(into, file, fd->get(), target, origins);
    if (!taken)
        co_return taken;
    const HandleId base = co_await open_base(into, file, fd->get(), origins);
    Result<> sent = co_await send_chunks(file, fd->get(), target, base, origins);
    if (sent && options_.archive) {
        auto requests = ownership(file, fd->get(), target.node);
        co_await session_.call_batch(std::move(requests), data_lane);
    }
    struct stat now {};
    if (sent && (::fstat(fd->get(), &now) != 0 || identity_of(now) != identity_of(file.status)))
        sent = changed_meanwhile();
    if (sent)
        sent = co_await give_name(file, target, true, occupant);
    // What can be gone on with stays. A full disk is not made worse by what nobody can use.
    if (sent.status() == Status::no_space || sent.status() == Status::quota_exceeded ||
        sent.status() == Status::try_again)
        co_await remove(into->node, target.partial);
    if (base)
        session_.tell(wire::Release{base}, client::LaneKind::data);
    let_go(target);
    co_return sent;
}

// ---------------------------------------------------------------- streams

Task<Result<>> FileSender::send_pieces(HandleId handle, NextPiece next) {
    constexpr std::uint64_t unknown = 0;
    const std::uint64_t piece_bytes = chunk_bytes(unknown);
    Parallel under_way(window_bytes(unknown));
    Result<> outcome;
    bool end = false;
    for (std::uint64_t offset = 0; outcome && !end; offset += piece_bytes) {
        auto piece = co_await next(piece_bytes);
        if (!piece) {
            outcome = here(piece.error());
            break;
        }
        const std::size_t size = piece->size();
        end = size < piece_bytes;
        progress_.expect(size);
        if (size > 0)
            co_await under_way.add(size, send_chunk(handle, offset, std::move(*piece), outcome));
    }
    co_await under_way.idle();
    co_return outcome;
}

Task<Result<>> FileSender::send_stream(NodeId into, std::string name, NextPiece next) {
    const Target target{.directory = into,
                        .partial = unique_partial_name(name),
                        .node = session_.new_node_id(),
                        .handle = session_.new_handle_id()};
    const wire::Create create{.parent = into,
                              .name = target.partial,
                              .node = {target.node, false},
                              .handle = target.handle,
                              .flags = wire::open_write | wire::open_exclusive,
                              .mode = 0666,
                              .umask = current_umask()};
    const auto created = co_await session_.call(create, data_lane);
    if (!created)
        co_return Result<>(on_server(created.error()));
    Result<> sent = co_await send_pieces(target.handle, std::move(next));
    if (sent) {
        std::vector<EncodedRequest> requests;
        if (options_.sync)
            requests.push_back(encoded(wire::Fsync{target.handle, false}, true));
        requests.push_back(naming(into, target.partial, name, {}));
        const auto replies = co_await session_.call_batch(std::move(requests), data_lane);
        sent = outcome_of(replies, {});
    }
    if (!sent)
        co_await remove(into, target.partial);
    let_go(target);
    co_return sent;
}

}  // namespace remofile::cli
