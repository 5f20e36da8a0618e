// SPDX-License-Identifier: MIT
#include "client/write_behind.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace remofile::client {
namespace {

// What may be pending: a part of the memory, and no more than fills a link of 200 Mbit/s with a delay of 100 ms by data
// that LZ4 makes eight times smaller, with as much again while that is compressed. Whoever drains waits for that much.
constexpr std::size_t limit_share = 4;
constexpr std::size_t max_pending_bytes = 32U << 20;

// A write of that size goes by itself; smaller ones are joined up to it, as long as others are under way. A message
// costs both ends as much time as copying some 100 KiB.
constexpr std::size_t worth_sending_bytes = 512U << 10;
// So much follows the request that makes its file on the lane of metadata: more would keep others waiting there.
constexpr std::size_t max_in_order_bytes = 64U << 10;
// From here on, copying to join costs more than it saves.
constexpr std::size_t max_joined_bytes = 256U << 10;

// Writes through several handles are carried out side by side, and none of them makes a file smaller.
void take_in(wire::Attributes& latest, const wire::Attributes& answer) {
    const wire::Attributes earlier = latest;
    if (answer.change >= earlier.change)
        latest = answer;
    latest.size = std::max(answer.size, earlier.size);
    latest.blocks = std::max(answer.blocks, earlier.blocks);
}

}  // namespace

WriteBehind::WriteBehind(Session& session, MemoryBudget& budget, Counters& counters)
    : session_(session),
      budget_(budget),
      accepted_(counters.at("writes.accepted")),
      sent_(counters.at("writes.sent")),
      limit_bytes_(std::min(budget.limit_bytes() / limit_share, max_pending_bytes)) {}

WriteBehind::~WriteBehind() = default;

WriteBehind::FilePtr WriteBehind::find(std::uint64_t file) const {
    const auto found = files_.find(file);
    return found == files_.end() ? nullptr : found->second;
}

WriteBehind::Extent* WriteBehind::unsent(File& file) const {
    if (file.extents.empty() || file.extents.rbegin()->second.sent)
        return nullptr;
    return &file.extents.rbegin()->second;
}

// Writes through one handle reach the file in their order, those through several may not.
bool WriteBehind::conflicts(const File& file, const Target& target, std::uint64_t offset, std::uint64_t size) {
    return std::ranges::any_of(file.extents, [&](const auto& entry) {
        const Extent& extent = entry.second;
        return !extent.answered && extent.target.handle != target.handle && extent.offset < offset + size &&
               offset < extent.end();
    });
}

// ---------------------------------------------------------------- taking in

bool WriteBehind::join(const Target& target, std::uint64_t offset, std::span<const std::byte> bytes) {
    const FilePtr file = find(target.file);
    Extent* last = file == nullptr ? nullptr : unsent(*file);
    if (last == nullptr || last->target != target || last->end() != offset ||
        last->size + bytes.size() > worth_sending_bytes || pending_bytes_ + bytes.size() > limit_bytes_ ||
        conflicts(*file, target, offset, bytes.size()))
        return false;
    if (last->size + bytes.size() > last->memory.size())
        grow(*last, worth_sending_bytes);
    std::memcpy(last->memory.data() + last->size, bytes.data(), bytes.size());
    last->size += bytes.size();
    last->accepted_at = now ? now() : 0;
    pending_bytes_ += bytes.size();
    accepted_.add();
    if (last->size == worth_sending_bytes)
        send_last(file);
    return true;
}

void WriteBehind::grow(Extent& extent, std::size_t size) {
    // Where there is no memory to charge, what has been accepted must be kept all the same.
    MemoryBudget::Charge charge;
    if (budget_.charge(size, charge))
        extent.charge = std::move(charge);
    Buffer larger = Buffer::allocate(size);
    std::memcpy(larger.data(), extent.memory.data(), extent.size);
    extent.memory = std::move(larger);
}

Task<Result<>> WriteBehind::write(Target target, std::uint64_t offset, Buffer data, Cancellation* cancellation) {
    const auto held = session_.hold(target.credential);
    for (;;) {
        const FilePtr file = find(target.file);
        Status status = Status::ok;
        if (file != nullptr && conflicts(*file, target, offset, data.size())) {
            send(target.file);
            status = co_await file->answered.wait(cancellation);
        } else if (pending_bytes_ > 0 && pending_bytes_ + data.size() > limit_bytes_) {
            status = co_await room_.wait(cancellation);
        } else {
            break;
        }
        if (status != Status::ok)
            co_return Result<>(status);
    }
    add(target, offset, std::move(data));
    co_return Result<>();
}

void WriteBehind::add(const Target& target, std::uint64_t offset, Buffer data) {
    FilePtr& file = files_[target.file];
    if (file == nullptr)
        file = std::make_shared<File>();
    send_last(file);
    const std::uint64_t number = ++file->last_number;
    Extent& extent = file->extents[number];
    extent = Extent{.target = target, .number = number, .offset = offset, .size = data.size(), .memory = {}};
    extent.memory = std::move(data);
    extent.accepted_at = now ? now() : 0;
    // The limit on what is pending leaves room; should blocks that are being read take it all the same, the bytes are
    // there already.
    budget_.charge(extent.size, extent.charge);
    pending_bytes_ += extent.size;
    accepted_.add();
    // Credentials are for use at once. And where nothing is under way, no answer would come to send the rest.
    if (file->under_way == 0 || extent.size > max_joined_bytes || target.credential != 0)
        send_last(file);
}

// ---------------------------------------------------------------- sending

void WriteBehind::send(std::uint64_t file) {
    if (const FilePtr found = find(file))
        send_last(found);
}

void WriteBehind::send_last(const FilePtr& file) {
    Extent* last = unsent(*file);
    if (last == nullptr)
        return;
    last->sent = true;
    ++file->under_way;
    sent_.add();
    spawn(carry_out(file, last->number), [this, file, number = last->number](Status status) {
        Extent& extent = file->extents.at(number);
        fail(file, extent, status);
    });
}

bool WriteBehind::goes_in_order(const File& file, const Extent& extent) const {
    return !file.by_data_lane && extent.size <= max_in_order_bytes && is_being_made && is_being_made(extent.target);
}

// By the data lane: once there is something to write to, and what went in order is there.
bool WriteBehind::may_go(const File& file, const Target& target) const {
    return file.in_order == 0 && !(is_being_made && is_being_made(target));
}

void WriteBehind::made(std::uint64_t number) {
    if (const FilePtr file = find(number); file != nullptr)
        file->turn.wake(Status::ok);
}

Task<void> WriteBehind::carry_out(FilePtr file, std::uint64_t number) {
    Extent& extent = file->extents.at(number);
    const std::size_t allocated = extent.memory.size();
    auto data = std::make_shared<Buffer>(std::move(extent.memory));
    data->shrink(extent.size);
    extent.sent_memory = data;
    const Target target = extent.target;
    const auto held = session_.hold(target.credential);
    Status status = Status::ok;
    extent.in_order = goes_in_order(*file, extent);
    file->in_order += extent.in_order ? 1 : 0;
    file->by_data_lane |= !extent.in_order;
    // They are woken, and so go, in the order in which they came.
    while (!extent.in_order && !may_go(*file, target))
        co_await file->turn.wait(nullptr);
    // A file system that is nearly full takes a part; what it says of the rest is the error to report.
    while (status == Status::ok && extent.done < extent.size) {
        const wire::Write message{target.handle, extent.offset + extent.done, false};
        const CallOptions options{.lane = extent.in_order ? LaneKind::metadata : LaneKind::data,
                                  .credential = target.credential,
                                  .set_id = target.set_id,
                                  .ahead = extent.in_order,
                                  .in_order = extent.in_order};
        const auto reply = co_await session_.call_with_bulk(message, view_of(data, extent.done), options);
        status = reply.status();
        if (!reply)
            break;
        const SharedBytes written{data, extent.done, allocated};
        extent.done += reply->body.size;
        take_in(file->latest, reply->body.attributes);
        if (on_written)
            on_written(target, extent.offset + written.start, reply->body, written);
        continued_ += extent.done < extent.size ? 1 : 0;
        if (reply->body.size == 0 || (extent.done < extent.size && is_overtaken(*file, extent)))
            status = Status::io_error;
    }
    data.reset();
    const std::uint64_t accepted_at = extent.accepted_at;
    const bool is_last = number == file->last_number;
    if (status != Status::ok)
        fail(file, extent, status);
    else
        settle(file, extent);
    if (status == Status::ok && is_last && !pending(target.file) && on_written_out)
        on_written_out(target.file, file->latest, accepted_at);
}

void WriteBehind::fail(const FilePtr& file, Extent& extent, Status status) {
    try {
        if (on_failed)
            on_failed(extent.target, extent.offset + extent.done, extent.size - extent.done, status);
    } catch (...) {
        status_of_exception("the report of a failed write");  // whoever waits for the write is not to wait on
    }
    settle(file, extent);
}

// Whether bytes of the extent have been written anew since: then its rest must not be sent again.
bool WriteBehind::is_overtaken(const File& file, const Extent& extent) {
    return std::any_of(file.extents.upper_bound(extent.number), file.extents.end(), [&](const auto& later) {
        return later.second.sent && later.second.offset < extent.end() && extent.offset < later.second.end();
    });
}

void WriteBehind::settle(const FilePtr& file, Extent& extent) {
    const std::uint64_t number = extent.target.file;
    pending_bytes_ -= extent.size;
    extent.answered = true;
    extent.sent_memory.reset();
    extent.charge.resize(0);
    --file->under_way;
    if (extent.in_order && --file->in_order == 0)
        file->turn.wake(Status::ok);
    while (!file->extents.empty() && file->extents.begin()->second.answered)
        file->extents.erase(file->extents.begin());
    if (file->under_way == 0)
        send_last(file);
    if (file->extents.empty())
        files_.erase(number);
    file->answered.wake(Status::ok);
    room_.wake(Status::ok);
}

// ---------------------------------------------------------------- waiting

Task<Status> WriteBehind::drain(std::uint64_t number, Cancellation* cancellation) {
    const FilePtr file = find(number);
    if (file == nullptr)
        co_return Status::ok;
    send_last(file);
    const std::uint64_t last = file->last_number;
    while (!file->extents.empty() && file->extents.begin()->first <= last) {
        const Status status = co_await file->answered.wait(cancellation);
        if (status != Status::ok)
            co_return status;
    }
    co_return Status::ok;
}

Task<Status> WriteBehind::drain_all(Cancellation* cancellation) {
    std::vector<std::uint64_t> numbers;
    for (const auto& [number, file] : files_)
        numbers.push_back(number);
    for (const std::uint64_t number : numbers)
        send(number);
    for (const std::uint64_t number : numbers) {
        const Status status = co_await drain(number, cancellation);
        if (status != Status::ok)
            co_return status;
    }
    co_return Status::ok;
}

bool WriteBehind::pending_by_data_lane(std::uint64_t number) const {
    const FilePtr file = find(number);
    if (file == nullptr)
        return false;
    const Extent* last = unsent(*file);
    return file->by_data_lane || (last != nullptr && last->size > max_in_order_bytes);
}

bool WriteBehind::pending_in_order(std::uint64_t number) const {
    const FilePtr file = find(number);
    return file != nullptr && file->in_order > 0;
}

bool WriteBehind::pending_of_others(std::uint64_t number, HandleId handle) const {
    const FilePtr file = find(number);
    return file != nullptr && std::ranges::any_of(file->extents, [&](const auto& entry) {
               return !entry.second.answered && entry.second.target.handle != handle;
           });
}

bool WriteBehind::overlaps(std::uint64_t number, std::uint64_t offset, std::uint64_t size) const {
    const FilePtr file = find(number);
    return file != nullptr && std::ranges::any_of(file->extents, [&](const auto& entry) {
               const Extent& extent = entry.second;
               return !extent.answered && extent.offset < offset + size && offset < extent.end();
           });
}

std::vector<std::uint64_t> WriteBehind::pending_files() const {
    std::vector<std::uint64_t> numbers;
    for (const auto& [number, file] : files_)
        numbers.push_back(number);
    return numbers;
}

void WriteBehind::visit_pending(std::uint64_t number,
                                const std::function<void(std::uint64_t, std::span<const std::byte>)>& visit) const {
    const FilePtr file = find(number);
    if (file == nullptr)
        return;
    for (const auto& [_, extent] : file->extents) {
        const Buffer& memory = extent.sent_memory != nullptr ? *extent.sent_memory : extent.memory;
        if (!extent.answered)
            visit(extent.offset + extent.done, memory.bytes().subspan(extent.done, extent.size - extent.done));
    }
}

std::uint64_t WriteBehind::pending_bytes(std::uint64_t number) const {
    std::uint64_t bytes = 0;
    if (const FilePtr file = find(number)) {
        for (const auto& [_, extent] : file->extents)
            bytes += extent.answered ? 0 : extent.size;
    }
    return bytes;
}

std::uint64_t WriteBehind::pending_end(std::uint64_t number) const {
    std::uint64_t end = 0;
    if (const FilePtr file = find(number)) {
        for (const auto& [_, extent] : file->extents)
            end = std::max(end, extent.answered ? 0 : extent.end());
    }
    return end;
}

}  // namespace remofile::client
