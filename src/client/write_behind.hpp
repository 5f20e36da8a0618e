// SPDX-License-Identifier: MIT
// Writes that their writers need not wait for.
//
// A write is accepted into memory and sent at once, or joined with its neighbours while another one of the same file is
// under way. What has been accepted is called pending until the server has answered; whoever must not overtake it waits
// with drain(). A write that fails is told to `on_failed`: it is the caller's to report.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/buffer.hpp"
#include "base/counters.hpp"
#include "base/result.hpp"
#include "base/task.hpp"
#include "client/memory_budget.hpp"
#include "client/session.hpp"
#include "client/shared_buffer.hpp"
#include "client/waiters.hpp"

namespace remofile::client {

// One thread: that of the session. Must outlive the session's requests.
class WriteBehind {
public:
    // Charges what is pending to `budget`.
    WriteBehind(Session& session, MemoryBudget& budget, Counters& counters);
    ~WriteBehind();
    WriteBehind(const WriteBehind&) = delete;
    WriteBehind& operator=(const WriteBehind&) = delete;

    // What is written: the caller's number for the file, one open handle of it, and who writes.
    struct Target {
        std::uint64_t file = 0;
        HandleId handle;
        std::uint32_t credential = 0;
        wire::SetId set_id = wire::SetId::as_caller;
        friend bool operator==(const Target&, const Target&) = default;
    };

    // The server has carried a write out, of these bytes.
    std::function<void(const Target&, std::uint64_t offset, const wire::WriteReply&, const SharedBytes&)> on_written;
    // All that was pending of the file has been carried out, in order; what the server said of it behind the last of
    // it, and when the last write was accepted, as `now` numbers it.
    std::function<void(std::uint64_t file, const wire::Attributes&, std::uint64_t accepted_at)> on_written_out;
    std::function<std::uint64_t()> now;
    // Whether the request that makes the handle is still under way, on the metadata lane. Little that is written to it
    // follows it there; what else is written waits until made() is called.
    std::function<bool(const Target&)> is_being_made;
    void made(std::uint64_t file);
    // It has not, and will not.
    std::function<void(const Target&, std::uint64_t offset, std::uint64_t size, Status)> on_failed;

    // Takes in bytes that continue what is waiting to be sent, by copying them. False, and nothing done, if there is
    // nothing that they continue, or no room.
    bool join(const Target& target, std::uint64_t offset, std::span<const std::byte> bytes);
    // Takes in a write. Waits while too much is pending, or while a write to the same bytes through another handle is.
    // Errors: interrupted; nothing is written then.
    Task<Result<>> write(Target target, std::uint64_t offset, Buffer data, Cancellation* cancellation);

    // Sends what waits to be joined.
    void send(std::uint64_t file);
    // The same, and ends when all that is pending of the file at the call has been answered. Errors: interrupted.
    Task<Status> drain(std::uint64_t file, Cancellation* cancellation);
    // The same of all files.
    Task<Status> drain_all(Cancellation* cancellation);

    bool pending(std::uint64_t file) const { return files_.contains(file); }
    // Whether some of it goes, or is to go, by the data lane.
    bool pending_by_data_lane(std::uint64_t file) const;
    // Whether some of it is under way behind the request that makes its handle.
    bool pending_in_order(std::uint64_t file) const;
    // How often the server has taken a part of a write, and the rest was sent behind what had been sent meanwhile.
    std::uint64_t continued() const { return continued_; }
    // Whether something is pending that another handle wrote.
    bool pending_of_others(std::uint64_t file, HandleId handle) const;
    bool overlaps(std::uint64_t file, std::uint64_t offset, std::uint64_t size) const;
    // The offset behind the furthest byte pending; 0 if nothing is.
    std::uint64_t pending_end(std::uint64_t file) const;
    std::size_t pending_bytes() const { return pending_bytes_; }
    std::uint64_t pending_bytes(std::uint64_t file) const;
    // The files of which something is pending, and what that is, in the order in which it was accepted.
    std::vector<std::uint64_t> pending_files() const;
    void visit_pending(std::uint64_t file,
                       const std::function<void(std::uint64_t offset, std::span<const std::byte>)>& visit) const;

private:
    // Consecutive bytes of one writer, in the order in which they were accepted.
    struct Extent {
        Target target;
        std::uint64_t number = 0;
        std::uint64_t offset = 0;
        std::uint64_t size = 0;
        Buffer memory;                        // of which the first `size` bytes are in use; empty once sent
        std::shared_ptr<Buffer> sent_memory;  // until it is answered; shared with the request that carries it
        MemoryBudget::Charge charge;
        std::uint64_t done = 0;  // of its bytes, written
        bool sent = false;
        bool answered = false;
        bool in_order = false;  // sent behind the request that makes its handle
        std::uint64_t accepted_at = 0;
        std::uint64_t end() const { return offset + size; }
    };
    // Extents stay until all earlier ones are answered. Only the last may be unsent.
    struct File {
        std::map<std::uint64_t, Extent> extents;
        std::uint64_t last_number = 0;
        std::size_t under_way = 0;
        Waiters answered;
        std::size_t in_order = 0;   // of those under way
        bool by_data_lane = false;  // something goes there, and so does all after it
        wire::Attributes latest{};  // that an answer has told
        Waiters turn;               // of what waits for that which goes in order
    };
    using FilePtr = std::shared_ptr<File>;  // shared with the coroutines that wait for its answers

    FilePtr find(std::uint64_t file) const;
    Extent* unsent(File& file) const;
    static bool conflicts(const File& file, const Target& target, std::uint64_t offset, std::uint64_t size);
    void add(const Target& target, std::uint64_t offset, Buffer data);
    void grow(Extent& extent, std::size_t size);
    void send_last(const FilePtr& file);
    Task<void> carry_out(FilePtr file, std::uint64_t number);
    bool goes_in_order(const File& file, const Extent& extent) const;
    bool may_go(const File& file, const Target& target) const;
    static bool is_overtaken(const File& file, const Extent& extent);
    void fail(const FilePtr& file, Extent& extent, Status status);
    void settle(const FilePtr& file, Extent& extent);

    Session& session_;
    MemoryBudget& budget_;
    Counters::Counter& accepted_;
    Counters::Counter& sent_;
    std::size_t limit_bytes_;
    std::size_t pending_bytes_ = 0;
    std::uint64_t continued_ = 0;
    Waiters room_;
    std::map<std::uint64_t, FilePtr> files_;  // those with something pending
};

}  // namespace remofile::client
