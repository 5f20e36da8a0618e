// SPDX-License-Identifier: MIT
// One request of the kernel, from its arrival to its only reply.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "base/result.hpp"
#include "filesystem/operation.hpp"
#include "remofs/kernel/fuse.hpp"
#include "remofs/kernel/kernel_abi.hpp"

namespace remofile::remofs {

class Mount;

// Owns the request: it is replied to exactly once, at the latest (with EIO, and a line in the log) when this object
// goes. Movable into a coroutine. Event loop only.
//
// When the caller is interrupted, what happens depends on the operation. One that waits for a lock is cancelled, as on
// a local disk. Any other is not, as on a local disk, unless the caller is to end (a signal that stops programs is
// pending) and the server is silent; see Interruption.
class Request {
public:
    enum class Interruption : std::uint8_t { when_stuck, at_once };

    Request(Mount& mount, fuse_req_t request, std::string_view name,
            Interruption interruption = Interruption::when_stuck);
    ~Request();
    Request(Request&& other) noexcept = default;
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;
    Request& operator=(Request&&) = delete;

    // Valid until the reply.
    fuse_req_t handle() const;
    // The kernel's, of linux/fuse.h or kernel_abi.hpp.
    std::uint32_t opcode() const;
    // For a request that its thread may wait for although the kernel does not count it as the one who waits: what is
    // returned, called once the request is under way, has signals of the thread looked for.
    std::function<void()> look_for_signals();
    // Does not let a thread wait that was interrupted just now and found the server silent: what it does on its way
    // out, with the signal taken.
    void interrupt_if_its_thread_was();
    // What the file system is asked on behalf of this request. Lives as long as this object, wherever that is moved to.
    filesystem::Operation& operation();

    // Replies. Those that may give the kernel something to hold (entries, a handle) return false if it did not take it,
    // because its caller has gone: the giver takes it back then.
    void ok() { error_number(0); }
    void error(Status status);
    void error(const Error& error) { this->error(error.status); }
    void error_number(int errno_value);
    bool entry(const fuse_entry_param& entry);
    bool created(const fuse_entry_param& entry, const fuse_file_info& file);
    bool opened(const fuse_file_info& file);
    void attributes(const struct stat& attributes, double timeout_s);
    void statx(const StatxReply& reply);
    // Of COPY_FILE_RANGE, in either width.
    void copied(std::uint64_t size);
    void symlink_target(const char* target);
    void written(std::size_t size);
    bool data(std::span<const std::byte> bytes);
    // The pieces, one after the other.
    bool data(std::span<const std::span<const std::byte>> pieces);
    void statistics(const struct statvfs& statistics);
    void xattr_size(std::size_t size);
    void lock(const struct flock& lock);
    void offset(off_t offset);

private:
    struct State;
    static void on_interrupt(fuse_req_t request, void* state);
    static void check_interruption(const std::weak_ptr<State>& waiting);
    static void look_for_signal(const std::weak_ptr<State>& waiting);
    static void on_wait_over(const std::weak_ptr<State>& waiting);
    fuse_req_t take();

    // Shared with work that an interrupt has put off; that work holds it weakly.
    std::shared_ptr<State> state_;
};

}  // namespace remofile::remofs
