// SPDX-License-Identifier: MIT
#include "remofs/kernel/kernel_channel.hpp"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/guarded.hpp"
#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "remofs/kernel/init_reply.hpp"
#include "remofs/kernel/kernel_abi.hpp"

namespace remofile::remofs {
namespace {

// Requests taken in a row before replies from the network get their turn: enough to share the cost of a turn, few
// enough that starting them takes well under a millisecond.
constexpr int max_requests_per_turn = 16;

// Idle request buffers (1 MiB each) kept for reuse: fresh memory of that size costs 256 page faults a write.
constexpr std::size_t max_idle_buffers = 8;

// Below this a payload is copied rather than pinning a whole request buffer of 1 MiB for it: what is pinned beyond the
// payload is accounted for nowhere.
constexpr std::size_t min_taken_payload_bytes = 768U << 10;

// What is written to standard error while it exists: fusermount3 and libfuse say there why a mount failed.
class CapturedStandardError {
public:
    CapturedStandardError() : saved_(::dup(STDERR_FILENO)), capture_(::memfd_create("remofs-mount", MFD_CLOEXEC)) {
        if (saved_ && capture_)
            ::dup2(capture_.get(), STDERR_FILENO);
    }
    ~CapturedStandardError() {
        if (saved_)
            ::dup2(saved_.get(), STDERR_FILENO);
    }
    CapturedStandardError(const CapturedStandardError&) = delete;
    CapturedStandardError& operator=(const CapturedStandardError&) = delete;

    // On one line.
    std::string text() const {
        std::string text(1024, '\0');
        const ssize_t size = ::pread(capture_.get(), text.data(), text.size(), 0);
        text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
        while (text.ends_with('\n'))
            text.pop_back();
        std::ranges::replace(text, '\n', ' ');
        return text;
    }

private:
    UniqueFd saved_;
    UniqueFd capture_;
};

// argv for libfuse, which keeps pointers into it while it parses.
class Arguments {
public:
    explicit Arguments(const std::vector<std::string>& options) {
        fuse_opt_add_arg(&args_, "remofs");
        for (const std::string& option : options) {
            fuse_opt_add_arg(&args_, "-o");
            // A comma within an option is escaped, or libfuse would take it for two.
            std::string escaped;
            for (const char c : option) {
                if (c == ',' || c == '\\')
                    escaped += '\\';
                escaped += c;
            }
            fuse_opt_add_arg(&args_, escaped.c_str());
        }
    }
    ~Arguments() { fuse_opt_free_args(&args_); }
    Arguments(const Arguments&) = delete;
    Arguments& operator=(const Arguments&) = delete;

    fuse_args* get() { return &args_; }

private:
    fuse_args args_ = FUSE_ARGS_INIT(0, nullptr);
};

// libfuse frees the mountpoint's name in fuse_session_unmount() only, which also unmounts whatever is at that place by
// then, unless its descriptor reports an error: that the mount is gone. So it is given one that does: ours has ended,
// or was detached, and another may be there.
void release_mountpoint(fuse_session* session) {
    const int descriptor = fuse_session_fd(session);
    std::array<int, 2> ends{};
    if (descriptor < 0 || ::pipe2(ends.data(), O_CLOEXEC) != 0)
        return;
    UniqueFd read_end(ends[0]);
    const UniqueFd write_end(ends[1]);
    read_end.reset();
    if (::dup3(write_end.get(), descriptor, O_CLOEXEC) == descriptor)
        fuse_session_unmount(session);
}

}  // namespace

// Request buffers, allocated by libfuse with malloc and used again.
class KernelChannel::Memory {
public:
    ~Memory() {
        // Named, or g++ 12 lets go of the lock before the first turn.
        auto idle = idle_.lock();
        for (const fuse_buf& buffer : *idle)
            std::free(buffer.mem);
    }
    fuse_buf get() {
        auto idle = idle_.lock();
        if (idle->empty())
            return {};
        const fuse_buf buffer = idle->back();
        idle->pop_back();
        return buffer;
    }
    void put(const fuse_buf& buffer) {
        auto idle = idle_.lock();
        if (idle->size() < max_idle_buffers)
            idle->push_back(buffer);
        else
            std::free(buffer.mem);
    }

private:
    Guarded<std::vector<fuse_buf>> idle_;
};

KernelChannel::KernelChannel() : memory_(std::make_shared<Memory>()) {}

Result<std::unique_ptr<KernelChannel>> KernelChannel::create(const std::vector<std::string>& options,
                                                             const fuse_lowlevel_ops& operations, void* userdata) {
    std::unique_ptr<KernelChannel> channel(new KernelChannel);
    Arguments arguments(options);
    const CapturedStandardError said;
    channel->session_ = fuse_session_new(arguments.get(), &operations, sizeof operations, userdata);
    if (channel->session_ == nullptr)
        return make_error(Status::bad_usage, "libfuse refuses the mount options: " + said.text());
    return channel;
}

KernelChannel::~KernelChannel() {
    if (session_ != nullptr) {
        release_mountpoint(session_);
        fuse_session_destroy(session_);
    }
    if (buffer_.mem != nullptr)
        memory_->put(buffer_);
}

Result<> KernelChannel::mount(const std::string& mountpoint) {
    {
        const CapturedStandardError said;
        if (fuse_session_mount(session_, mountpoint.c_str()) != 0) {
            const std::string reason = said.text();
            return make_error(Status::access_denied, reason.empty() ? "the kernel refuses the mount" : reason);
        }
    }
    if (!complete_init_reply(session_))
        log::debug("this libfuse leaves no way to complete the answer to INIT");
    const int flags = ::fcntl(descriptor(), F_GETFL);
    if (flags < 0 || ::fcntl(descriptor(), F_SETFL, flags | O_NONBLOCK) != 0)
        return errno_error("cannot read the kernel's requests without blocking");
    return {};
}

int KernelChannel::descriptor() const {
    return fuse_session_fd(session_);
}

KernelChannel::ReadResult KernelChannel::read_result(int returned) {
    if (returned > 0)
        return ReadResult::request;
    switch (-returned) {
        case EINTR:
        case ENOENT:  // the request was interrupted before it was read
            return ReadResult::again;
        case EAGAIN:
            return ReadResult::nothing;
        case ENOMEM:
            return ReadResult::no_memory;
        case 0:  // libfuse's word for ENODEV
        case ENODEV:
            return ReadResult::unmounted;
        case ECONNABORTED:
            return ReadResult::aborted;
        default:
            return ReadResult::broken;
    }
}

KernelChannel::State KernelChannel::receive() {
    for (int i = 0; i < max_requests_per_turn; ++i) {
        if (buffer_.mem == nullptr)
            buffer_ = memory_->get();
        const int returned = fuse_session_receive_buf(session_, &buffer_);
        switch (read_result(returned)) {
            case ReadResult::request: {
                const fuse_buf received = buffer_;  // take_payload() may empty the original
                const std::span message(static_cast<std::byte*>(received.mem), static_cast<std::size_t>(returned));
                current_ = describe_request(message);
                if (is_refused(current_)) {
                    refuse(current_);
                    break;
                }
                make_familiar(message);
                fuse_session_process_buf(session_, &received);
                break;
            }
            case ReadResult::again:
                break;
            case ReadResult::nothing:
                return State::open;
            case ReadResult::no_memory:
                return State::no_memory;
            case ReadResult::unmounted:
                return ended(ReadResult::unmounted, "it has been unmounted");
            case ReadResult::aborted:
                return ended(ReadResult::aborted, "the kernel's connection was aborted");
            case ReadResult::broken:
                return ended(ReadResult::broken, fmt::format("reading the kernel's requests failed: {} (errno {})",
                                                             std::strerror(-returned), -returned));
        }
    }
    return State::open;
}

bool KernelChannel::is_refused(const KernelRequest& request) const {
    constexpr std::uint32_t root = 0;
    return admitted_user_ && request.uid != *admitted_user_ && request.uid != root && !is_open_to_all(request.opcode);
}

void KernelChannel::refuse(const KernelRequest& request) {
    const fuse_out_header answer{.len = sizeof answer, .error = -EACCES, .unique = request.number};
    // ENOENT: it was interrupted meanwhile.
    if (::write(descriptor(), &answer, sizeof answer) < 0 && errno != ENOENT)
        log::debug("refusing a request of user {}: {}", request.uid, std::strerror(errno));
}

KernelChannel::State KernelChannel::ended(ReadResult reason, std::string text) {
    end_ = {reason, std::move(text)};
    return State::ended;
}

Buffer KernelChannel::take_payload(const char* data, std::size_t size) {
    const auto* start = static_cast<const char*>(buffer_.mem);
    const bool inside = start != nullptr && data >= start && data + size <= start + buffer_.size;
    if (!inside || size < min_taken_payload_bytes)
        return Buffer::copy_of({reinterpret_cast<const std::byte*>(data), size});
    struct Lease {
        std::shared_ptr<Memory> memory;
        fuse_buf buffer;
    };
    auto* lease = new Lease{memory_, buffer_};
    auto* payload = static_cast<std::byte*>(buffer_.mem) + (data - start);
    buffer_ = {};
    const auto release = [](void* hint) noexcept {
        const std::unique_ptr<Lease> ended(static_cast<Lease*>(hint));
        ended->memory->put(ended->buffer);
    };
    return {payload, size, release, lease};
}

void KernelChannel::invalidate(InodeNumber inode) {
    const int result = fuse_lowlevel_notify_inval_inode(session_, inode, 0, 0);
    // ENOENT: the kernel has forgotten the file meanwhile, and everything of it.
    if (result != 0 && result != -ENOENT)
        log::debug("invalidating file {}: {}", inode, std::strerror(-result));
}

void KernelChannel::invalidate_attributes(InodeNumber inode) {
    constexpr off_t no_content = -1;
    const int result = fuse_lowlevel_notify_inval_inode(session_, inode, no_content, 0);
    if (result != 0 && result != -ENOENT)
        log::debug("invalidating attributes of file {}: {}", inode, std::strerror(-result));
}

void KernelChannel::invalidate_name(InodeNumber directory, const std::string& name) {
    DropName body{
        .directory = directory, .name_bytes = static_cast<std::uint32_t>(name.size()), .flags = drop_name_expire_only};
    fuse_out_header header{};
    header.len = static_cast<std::uint32_t>(sizeof header + sizeof body + name.size() + 1);
    header.error = FUSE_NOTIFY_INVAL_ENTRY;
    // libfuse 3.14 cannot say that the name is to be looked up again, no more: to drop it would unmount what is
    // mounted on it.
    const std::array<iovec, 3> parts{iovec{&header, sizeof header}, iovec{&body, sizeof body},
                                     iovec{const_cast<char*>(name.c_str()), name.size() + 1}};
    if (::writev(descriptor(), parts.data(), parts.size()) < 0 && errno != ENOENT)
        log::debug("invalidating a name in directory {}: {}", directory, std::strerror(errno));
}

bool KernelChannel::can_expire_names() const {
    return (init_exchange_.offered & has_expire_only) != 0;
}

void KernelChannel::prune(const std::vector<InodeNumber>& inodes) {
    PruneFiles body{.count = static_cast<std::uint32_t>(inodes.size())};
    fuse_out_header header{};
    header.len = static_cast<std::uint32_t>(sizeof header + sizeof body + inodes.size() * sizeof(InodeNumber));
    header.error = notify_prune;
    const std::array<iovec, 3> parts{
        iovec{&header, sizeof header}, iovec{&body, sizeof body},
        iovec{const_cast<InodeNumber*>(inodes.data()), inodes.size() * sizeof(InodeNumber)}};
    if (::writev(descriptor(), parts.data(), parts.size()) < 0)
        log::debug("asking for {} files: {}", inodes.size(), std::strerror(errno));
}

bool KernelChannel::can_prune() const {
    return init_exchange_.minor >= first_minor_with_prune;
}

void KernelChannel::store(InodeNumber inode, std::uint64_t offset, std::span<const std::byte> bytes) {
    fuse_bufvec data{};
    data.count = 1;
    data.buf[0].size = bytes.size();
    data.buf[0].mem = const_cast<std::byte*>(bytes.data());
    const int result = fuse_lowlevel_notify_store(session_, inode, static_cast<off_t>(offset), &data,
                                                  static_cast<fuse_buf_copy_flags>(0));
    if (result != 0 && result != -ENOENT)
        log::debug("storing {} bytes of file {}: {}", bytes.size(), inode, std::strerror(-result));
}

}  // namespace remofile::remofs
