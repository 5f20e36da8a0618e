// SPDX-License-Identifier: MIT
#include "remofs/operations/request.hpp"

#include <sys/uio.h>

#include <utility>
#include <vector>

#include "base/log.hpp"
#include "remofs/kernel/pending_signals.hpp"
#include "remofs/operations/mount.hpp"

namespace remofile::remofs {

namespace {

// Between looks at what signals a thread has got.
constexpr auto interruption_interval = std::chrono::milliseconds(250);

}  // namespace

struct Request::State : std::enable_shared_from_this<Request::State> {
    State(Mount& its_mount, fuse_req_t its_request, std::string_view its_name, Interruption its_interruption)
        : mount(its_mount),
          request(its_request),
          name(its_name),
          interruption(its_interruption),
          operation(its_mount.begin(its_request)) {
        mount.names().lock(locks);
    }
    ~State() { answered(); }
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    // The kernel goes on, and gives its locks back.
    void answered() { mount.names().unlock(std::exchange(locks, {})); }

    Mount& mount;
    fuse_req_t request;  // null once replied to
    std::string_view name;
    Interruption interruption;
    const std::uint32_t opcode = mount.channel().current().opcode;
    KernelNames::Directories locks = mount.channel().current().locks;
    filesystem::Operation operation;
};

Request::Request(Mount& mount, fuse_req_t request, std::string_view name, Interruption interruption) try
    : state_(std::make_shared<State>(mount, request, name, interruption)) {
    mount.counters().at(name).add();
    log::debug("{} by thread {}", name, fuse_req_ctx(request)->pid);
    state_->operation.on_wait_over = [waiting = std::weak_ptr(state_)] { on_wait_over(waiting); };
    fuse_req_interrupt_func(request, &Request::on_interrupt, state_.get());
} catch (...) {
    fuse_reply_err(request, ENOMEM);
    throw;
}

Request::~Request() {
    if (!state_ || state_->request == nullptr)
        return;
    log::error("{} was left without a reply", state_->name);
    error_number(EIO);
}

// libfuse calls this while it reads from the kernel; a reply from here would pull the rug from under it.
void Request::on_interrupt(fuse_req_t, void* state) {
    const auto self = static_cast<State*>(state)->shared_from_this();
    self->mount.counters().at("fuse.interrupts").add();
    self->mount.reactor().at_end_of_turn([waiting = std::weak_ptr(self)] { check_interruption(waiting); });
}

void Request::check_interruption(const std::weak_ptr<State>& waiting) {
    const auto self = waiting.lock();
    if (!self || self->request == nullptr)
        return;
    const pid_t thread = fuse_req_ctx(self->request)->pid;
    const auto wish =
        self->interruption == Interruption::at_once ? SignalWish::die : signal_wish_of(thread, SignalWish::stop);
    // What the thread does next, on its way out, need not wait to find out anew.
    if (wish != SignalWish::go_on)
        self->mount.suspect_server();
    if (wish == SignalWish::die || (wish == SignalWish::stop && self->mount.server_is_silent())) {
        self->mount.interrupted_threads().add(thread);
        self->operation.cancellation.cancel();
        return;
    }
    // The kernel tells of the first signal only; a deadlier one may follow.
    self->mount.reactor().after(interruption_interval, [waiting] { check_interruption(waiting); });
}

// A thread that waits for pages that are read ahead waits for none of its requests, and the kernel tells of no signal.
std::function<void()> Request::look_for_signals() {
    return [waiting = std::weak_ptr(state_)] {
        if (const auto self = waiting.lock(); self && self->request != nullptr)
            self->mount.reactor().after(interruption_interval, [waiting] { look_for_signal(waiting); });
    };
}

void Request::look_for_signal(const std::weak_ptr<State>& waiting) {
    const auto self = waiting.lock();
    if (!self || self->request == nullptr)
        return;
    // Who is gone, or unknown here, has not asked for anything.
    if (signal_wish_of(fuse_req_ctx(self->request)->pid, SignalWish::go_on) != SignalWish::go_on)
        return check_interruption(waiting);
    self->mount.reactor().after(interruption_interval, [waiting] { look_for_signal(waiting); });
}

void Request::interrupt_if_its_thread_was() {
    if (state_->mount.server_is_silent() &&
        state_->mount.interrupted_threads().contains(fuse_req_ctx(state_->request)->pid))
        state_->operation.cancellation.cancel();
}

fuse_req_t Request::handle() const {
    REMOFILE_ASSERT(state_->request != nullptr);
    return state_->request;
}

std::uint32_t Request::opcode() const {
    return state_->opcode;
}

filesystem::Operation& Request::operation() {
    return state_->operation;
}

// What it waited for it has, and a signal that came at that moment does not take that away.
void Request::on_wait_over(const std::weak_ptr<State>& waiting) {
    const auto self = waiting.lock();
    if (!self)
        return;
    self->interruption = Interruption::when_stuck;
    if (!self->operation.cancellation.cancelled())
        return;
    self->operation.cancellation = client::Cancellation();
    self->mount.reactor().at_end_of_turn([waiting] { check_interruption(waiting); });
}

fuse_req_t Request::take() {
    REMOFILE_ASSERT(state_->request != nullptr);
    state_->answered();
    return std::exchange(state_->request, nullptr);
}

void Request::error(Status status) {
    if (status == Status::stale)
        state_->mount.file_system().told_stale(state_->operation);
    error_number(to_errno(status));
}

void Request::error_number(int errno_value) {
    log::debug("{}: errno {}", state_->name, errno_value);
    fuse_reply_err(take(), errno_value);
}

bool Request::entry(const fuse_entry_param& entry) {
    return fuse_reply_entry(take(), &entry) == 0;
}

bool Request::created(const fuse_entry_param& entry, const fuse_file_info& file) {
    return fuse_reply_create(take(), &entry, &file) == 0;
}

bool Request::opened(const fuse_file_info& file) {
    return fuse_reply_open(take(), &file) == 0;
}

void Request::attributes(const struct stat& attributes, double timeout_s) {
    fuse_reply_attr(take(), &attributes, timeout_s);
}

void Request::statx(const StatxReply& reply) {
    data(std::as_bytes(std::span(&reply, 1)));
}

void Request::copied(std::uint64_t size) {
    if (opcode() != opcode_copy_file_range_64)
        return written(static_cast<std::size_t>(size));
    const CopyFileRangeReply reply{.bytes = size};
    data(std::as_bytes(std::span(&reply, 1)));
}

void Request::symlink_target(const char* target) {
    fuse_reply_readlink(take(), target);
}

void Request::written(std::size_t size) {
    fuse_reply_write(take(), size);
}

bool Request::data(std::span<const std::byte> bytes) {
    return fuse_reply_buf(take(), reinterpret_cast<const char*>(bytes.data()), bytes.size()) == 0;
}

bool Request::data(std::span<const std::span<const std::byte>> pieces) {
    std::vector<iovec> vectors;
    vectors.reserve(pieces.size());
    for (const auto piece : pieces)
        vectors.push_back({const_cast<std::byte*>(piece.data()), piece.size()});
    return fuse_reply_iov(take(), vectors.data(), static_cast<int>(vectors.size())) == 0;
}

void Request::statistics(const struct statvfs& statistics) {
    fuse_reply_statfs(take(), &statistics);
}

void Request::xattr_size(std::size_t size) {
    fuse_reply_xattr(take(), size);
}

void Request::lock(const struct flock& lock) {
    fuse_reply_lock(take(), &lock);
}

void Request::offset(off_t offset) {
    fuse_reply_lseek(take(), offset);
}

}  // namespace remofile::remofs
