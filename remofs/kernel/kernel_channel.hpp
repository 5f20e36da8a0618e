// SPDX-License-Identifier: MIT
// The connection to the kernel: /dev/fuse, mounted, read without blocking, and the memory that requests arrive in.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/buffer.hpp"
#include "base/result.hpp"
#include "filesystem/inode_number.hpp"
#include "remofs/kernel/fuse.hpp"
#include "remofs/kernel/init_reply.hpp"
#include "remofs/kernel/kernel_request.hpp"

namespace remofile::remofs {

using filesystem::InodeNumber;

class KernelChannel {
public:
    // Parses `options` (what mount(2) and libfuse know) for operations that get `userdata`.
    static Result<std::unique_ptr<KernelChannel>> create(const std::vector<std::string>& options,
                                                         const fuse_lowlevel_ops& operations, void* userdata);
    // Ends the kernel's connection: what still uses the mount gets ENOTCONN.
    ~KernelChannel();
    KernelChannel(const KernelChannel&) = delete;
    KernelChannel& operator=(const KernelChannel&) = delete;

    // Mounts at an absolute path. Errors: access_denied, with what the kernel or fusermount3 says.
    Result<> mount(const std::string& mountpoint);
    // From now on requests of other users than this one and root end with EACCES, but for those that are open to all
    // (is_open_to_all). The kernel must have been told to let others in.
    void admit_only(std::uint32_t uid) { admitted_user_ = uid; }
    // To be watched; readable when receive() has something to do.
    int descriptor() const;

    // What became of reading a request, by what libfuse returns: a size, or a negative errno.
    enum class ReadResult : std::uint8_t { request, again, nothing, no_memory, unmounted, aborted, broken };
    static ReadResult read_result(int returned);

    // no_memory: to be tried again a little later. ended: see end().
    enum class State : std::uint8_t { open, no_memory, ended };
    // Takes in and starts a bounded number of requests.
    State receive();

    // Why it has ended, for the log.
    struct End {
        ReadResult reason = ReadResult::unmounted;
        std::string text;
    };
    const End& end() const { return end_; }

    // During an operation's call: what libfuse does not say of it.
    const KernelRequest& current() const { return current_; }
    // The same: takes over the memory that holds `data`, which libfuse handed to it.
    Buffer take_payload(const char* data, std::size_t size);

    // Tells the kernel that a file's cached attributes and pages are void. Blocks; see Notifier. Any thread.
    void invalidate(InodeNumber inode);
    // The same of its attributes alone. Does not block.
    void invalidate_attributes(InodeNumber inode);
    // Makes the kernel look the name up again before it uses it. Blocks while the kernel holds the directory's lock.
    void invalidate_name(InodeNumber directory, const std::string& name);
    // Whether that leaves alone what is mounted on the name.
    bool can_expire_names() const;
    // Asks for files that nobody uses to be forgotten. Blocks as invalidate() does.
    void prune(const std::vector<InodeNumber>& inodes);
    // Whether the kernel knows how. Once it has begun the mount.
    bool can_prune() const;
    // Puts a byte into the kernel's page cache, which makes the file at least so long. As invalidate().
    void store(InodeNumber inode, std::uint64_t offset, std::span<const std::byte> bytes);

    // For init_reply.cpp alone.
    InitExchange& init_exchange() { return init_exchange_; }

private:
    KernelChannel();
    State ended(ReadResult reason, std::string text);
    bool is_refused(const KernelRequest& request) const;
    void refuse(const KernelRequest& request);
    class Memory;

    fuse_session* session_ = nullptr;
    // Shared with the payloads taken, which may outlive the channel on ZeroMQ's threads.
    std::shared_ptr<Memory> memory_;
    fuse_buf buffer_{};
    KernelRequest current_;
    std::optional<std::uint32_t> admitted_user_;  // none: whoever the kernel lets in
    InitExchange init_exchange_;
    End end_;
};

}  // namespace remofile::remofs
