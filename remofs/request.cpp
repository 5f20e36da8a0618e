// SPDX-License-Identifier: MIT
#include "remofs/request.hpp"

#include <sys/uio.h>

#include <utility>
#include <vector>

#include "base/log.hpp"
#include "remofs/mount.hpp"
#include "remofs/pending_signals.hpp"

namespace remofile::remofs {

struct Request::State : std::enable_shared_from_this<Request::State> {
    State(Mount& its_mount, fuse_req_t its_request, std::string_view its_operation, Interruption its_interruption)
        : mount(its_mount), request(its_request), operation(its_operation), interruption(its_interruption) {}

    Mount& mount;
    fuse_req_t request;  // null once replied to
    std::string_view operation;
    Interruption interruption;
    const std::uint64_t arrived_at = mount.contents().now();
    const std::uint32_t opcode = mount.channel().current().opcode;
    wire::SetId set_id = mount.channel().current().drops_set_id ? wire::SetId::drop : wire::SetId::as_caller;
    const std::optional<FreshLookUps::Answer> just_looked_up = mount.fresh_look_ups().take(fuse_req_ctx(request)->pid);
    client::Cancellation cancellation;
};

Request::Request(Mount& mount, fuse_req_t request, std::string_view operation, Interruption interruption) try
    : state_(std::make_shared<State>(mount, request, operation, interruption)) {
    mount.counters().at(operation).add();
    log::debug("{} by thread {}", operation, fuse_req_ctx(request)->pid);
    fuse_req_interrupt_func(request, &Request::on_interrupt, state_.get());
} catch (...) {
    fuse_reply_err(request, ENOMEM);
    throw;
}

Request::~Request() {
    if (!state_ || state_->request == nullptr)
        return;
    log::error("{} was left without a reply", state_->operation);
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
    const auto wish = self->interruption == Interruption::at_once ? SignalWish::die
                                                                  : signal_wish_of(fuse_req_ctx(self->request)->pid);
    if (wish == SignalWish::die || (wish == SignalWish::stop && !self->mount.session().connected())) {
        self->cancellation.cancel();
        return;
    }
    // The kernel tells of the first signal only; a deadlier one may follow.
    constexpr auto interval = std::chrono::milliseconds(500);
    self->mount.reactor().after(interval, [waiting] { check_interruption(waiting); });
}

uid_t Request::uid() const {
    return fuse_req_ctx(handle())->uid;
}

gid_t Request::gid() const {
    return fuse_req_ctx(handle())->gid;
}

pid_t Request::pid() const {
    return fuse_req_ctx(handle())->pid;
}

mode_t Request::umask() const {
    return fuse_req_ctx(handle())->umask;
}

fuse_req_t Request::handle() const {
    REMOFILE_ASSERT(state_->request != nullptr);
    return state_->request;
}

std::uint32_t Request::opcode() const {
    return state_->opcode;
}

wire::SetId Request::set_id() const {
    return state_->set_id;
}

void Request::settle_set_id(wire::SetId set_id) {
    state_->set_id = set_id;
}

std::uint64_t Request::arrived_at() const {
    return state_->arrived_at;
}

const std::optional<FreshLookUps::Answer>& Request::just_looked_up() const {
    return state_->just_looked_up;
}

client::Cancellation& Request::cancellation() {
    return state_->cancellation;
}

void Request::has_what_it_waited_for() {
    state_->interruption = Interruption::when_stuck;
    if (!state_->cancellation.cancelled())
        return;
    state_->cancellation = client::Cancellation();
    state_->mount.reactor().at_end_of_turn([waiting = std::weak_ptr(state_)] { check_interruption(waiting); });
}

fuse_req_t Request::take() {
    REMOFILE_ASSERT(state_->request != nullptr);
    return std::exchange(state_->request, nullptr);
}

void Request::error(Status status) {
    if (status == Status::stale)
        state_->mount.second_attempts().expect(pid());
    error_number(to_errno(status));
}

void Request::error_number(int errno_value) {
    log::debug("{}: errno {}", state_->operation, errno_value);
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
