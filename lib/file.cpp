// SPDX-License-Identifier: MIT
#include "remofile/file.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "connection.hpp"
#include "opened.hpp"

namespace libremofile {

using detail::Connection;
using detail::FileState;
using detail::Opened;
using detail::to_public;
using remofile::Status;
using remofile::Task;
namespace wire = remofile::wire;
template <class T = void>
using Outcome = remofile::Result<T>;

namespace {

// Parts of one pread() or pwrite() under way at once: 8 MiB fill 100 ms at 600 Mbit/s. The session's own flow control
// sets the limit for all together.
constexpr std::size_t max_parts_under_way = 8;
constexpr std::uint64_t max_file_bytes = INT64_MAX;
const remofile::client::CallOptions data_lane{.lane = remofile::client::LaneKind::data};

// One pread() or pwrite(). Lives in the frame of transfer(), which waits for all parts.
struct Transfer {
    Connection& connection;
    Opened file;
    std::uint64_t offset = 0;
    std::size_t size = 0;
    std::byte* into = nullptr;        // of a reader
    const std::byte* from = nullptr;  // of a writer
    std::size_t next = 0;             // first byte that no part has taken on
    std::size_t end = 0;              // first byte that is known not to be there, or failed
    Outcome<> failure;                // of the part that begins at `end`
    std::size_t workers = 0;
    remofile::Completion<bool> done;

    void stop_at(std::size_t position, Outcome<> why) {
        if (position < end) {
            end = position;
            failure = std::move(why);
        }
    }
};

Task<void> read_part(Transfer& transfer, std::size_t begin, std::size_t size) {
    const wire::Read read{transfer.file.handle, transfer.offset + begin, static_cast<std::uint32_t>(size)};
    auto reply = co_await transfer.connection.session().call(read, data_lane);
    if (!reply) {
        transfer.stop_at(begin, reply.error());
        co_return;
    }
    const std::size_t got = std::min(size, reply->bulk.size());
    if (got > 0)
        std::memcpy(transfer.into + begin, reply->bulk.data(), got);
    if (got < size)
        transfer.stop_at(begin + got, {});
}

Task<void> write_part(Transfer& transfer, std::size_t begin, std::size_t size) {
    while (size > 0) {
        if (transfer.file.is_stale(transfer.connection)) {
            transfer.stop_at(begin, Status::stale);
            co_return;
        }
        // A copy: after a timeout the transport may hold on to it for longer than the caller waits.
        auto data = remofile::Buffer::copy_of({transfer.from + begin, size});
        const wire::Write write{transfer.file.handle, transfer.offset + begin, transfer.file.append};
        auto reply = co_await transfer.connection.session().call_with_bulk(write, std::move(data), data_lane);
        if (!reply) {
            transfer.stop_at(begin, reply.error());
            co_return;
        }
        const std::size_t written = std::min<std::size_t>(size, reply->body.size);
        if (written == 0) {
            transfer.stop_at(begin, Status::no_space);
            co_return;
        }
        begin += written;
        size -= written;
    }
}

Task<void> work(Transfer& transfer) {
    while (transfer.next < transfer.end) {
        const std::size_t begin = transfer.next;
        const std::size_t size = std::min(wire::max_bulk_bytes, transfer.size - begin);
        transfer.next += size;
        if (transfer.file.is_stale(transfer.connection))
            transfer.stop_at(begin, Status::stale);
        else if (transfer.into != nullptr)
            co_await read_part(transfer, begin, size);
        else
            co_await write_part(transfer, begin, size);
    }
    if (--transfer.workers == 0)
        transfer.done.deliver(true);
}

// How many bytes from the start were transferred; fewer without an error only at the end of the file.
Task<Outcome<std::size_t>> transfer_all(Connection& connection, Opened file, std::uint64_t offset, std::size_t size,
                                        std::byte* into, const std::byte* from) {
    Transfer transfer{.connection = connection,
                      .file = file,
                      .offset = offset,
                      .size = size,
                      .into = into,
                      .from = from,
                      .end = size};
    const std::size_t parts = (size + wire::max_bulk_bytes - 1) / wire::max_bulk_bytes;
    // Parts that are appended stay in order.
    const std::size_t workers = transfer.file.append && from != nullptr ? 1 : std::min(parts, max_parts_under_way);
    transfer.workers = workers;
    for (std::size_t i = 0; i < workers; ++i)
        remofile::spawn(work(transfer));
    co_await transfer.done;
    if (!transfer.failure)
        co_return Outcome<std::size_t>(transfer.failure.error());
    co_return Outcome<std::size_t>(transfer.end);
}

// A request about the open file.
template <class Request>
Task<Outcome<typename Request::Reply>> ask(Connection& connection, Opened file, Request request) {
    using Answer = Outcome<typename Request::Reply>;
    if (file.is_stale(connection))
        co_return Answer(Status::stale);
    auto reply = co_await connection.session().call(request);
    if (!reply)
        co_return Answer(reply.error());
    co_return Answer(std::move(reply->body));
}

Task<Outcome<>> close_file(Connection& connection, Opened file) {
    if (file.is_stale(connection))
        co_return Outcome<>(Status::stale);
    std::vector<remofile::client::EncodedRequest> requests;
    requests.push_back(remofile::client::encoded(wire::Flush{file.handle, {}}));
    requests.push_back(remofile::client::encoded(wire::Release{file.handle}));
    auto replies = co_await connection.session().call_batch(std::move(requests));
    connection.tree().forget(file.node);
    for (const remofile::client::EncodedReply& reply : replies) {
        if (reply.status != Status::ok)
            co_return Outcome<>(reply.status);
    }
    co_return Outcome<>();
}

std::unexpected<Error> not_open() {
    return std::unexpected(Error{ErrorCode::bad_handle, "the file is not open"});
}

// Has the file's connection carry out the task that `make` makes.
template <class Make>
auto carry_out(const FileState& state, Make make) {
    return to_public(state.connection->run(make(*state.connection, state.opened)));
}

Result<> without_value(const auto& result) {
    if (!result)
        return std::unexpected(result.error());
    return {};
}

}  // namespace

File::File() = default;
File::File(std::unique_ptr<FileState> state) : state_(std::move(state)) {}
File::File(File&& other) noexcept = default;
File& File::operator=(File&& other) noexcept {
    File taken(std::move(other));
    std::swap(state_, taken.state_);
    return *this;
}

File::~File() {
    if (!state_)
        return;
    Connection& connection = *state_->connection;
    connection.post([&connection, file = state_->opened](remofile::client::Session& session) {
        if (file.is_stale(connection))
            return;
        session.tell(wire::Release{file.handle});
        connection.tree().forget(file.node);
    });
}

bool File::is_open() const {
    return state_ != nullptr;
}

Result<std::size_t> File::pread(std::span<std::byte> buffer, std::uint64_t offset) const {
    if (!state_)
        return not_open();
    if (offset > max_file_bytes)
        return std::unexpected(Error{ErrorCode::invalid, "pread: beyond the size of any file"});
    const std::size_t size = std::min(buffer.size(), max_file_bytes - offset);
    if (size == 0)
        return 0;
    return carry_out(*state_, [&](Connection& connection, const Opened& file) {
        return transfer_all(connection, file, offset, size, buffer.data(), nullptr);
    });
}

Result<> File::pwrite(std::span<const std::byte> data, std::uint64_t offset) const {
    if (!state_)
        return not_open();
    if (offset > max_file_bytes || data.size() > max_file_bytes - offset)
        return std::unexpected(Error{ErrorCode::file_too_big, "pwrite: beyond the size of any file"});
    if (data.empty())
        return {};
    return without_value(carry_out(*state_, [&](Connection& connection, const Opened& file) {
        return transfer_all(connection, file, offset, data.size(), nullptr, data.data());
    }));
}

Result<> File::truncate(std::uint64_t size) const {
    if (!state_)
        return not_open();
    return without_value(carry_out(*state_, [&](Connection& connection, const Opened& file) {
        const wire::Setattr setattr{.node = file.node, .handle = file.handle, .which = wire::set_size, .size = size};
        return ask(connection, file, setattr);
    }));
}

Result<> File::sync() const {
    if (!state_)
        return not_open();
    return without_value(carry_out(*state_, [](Connection& connection, const Opened& file) {
        return ask(connection, file, wire::Fsync{file.handle, false});
    }));
}

Result<Attributes> File::stat() const {
    if (!state_)
        return not_open();
    const auto reply = carry_out(*state_, [](Connection& connection, const Opened& file) {
        return ask(connection, file, wire::Getattr{file.node, file.handle});
    });
    if (!reply)
        return std::unexpected(reply.error());
    return to_public(reply->attributes);
}

Result<> File::close() {
    if (!state_)
        return not_open();
    const auto state = std::move(state_);
    return carry_out(*state, [](Connection& connection, const Opened& file) { return close_file(connection, file); });
}

}  // namespace libremofile
