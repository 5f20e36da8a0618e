// SPDX-License-Identifier: MIT
#include "remofs/mount.hpp"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>

#include "base/log.hpp"
#include "remofs/mountpoint.hpp"
#include "remofs/operations.hpp"

namespace remofile::remofs {
namespace {

// What FUSE passes at once, at most; the protocol's limit is the same.
constexpr unsigned max_transfer_bytes = wire::max_bulk_bytes;

// Readahead and direct I/O requests under way. Flow control by bytes is the session's; this only keeps the kernel from
// holding back what the session could send.
constexpr unsigned max_background_requests = 64;
constexpr unsigned congested_requests = 48;

// Between attempts to read when there is no memory for it: the kernel's requests wait meanwhile.
constexpr auto memory_patience = std::chrono::milliseconds(100);

}  // namespace

Mount::Mount(client::Session& session, transport::Reactor& reactor, Counters& counters, MountSettings settings)
    : session_(session),
      reactor_(reactor),
      counters_(counters),
      settings_(std::move(settings)),
      export_device_(session.hello().root_attributes.identity.device),
      inodes_(session.epoch(), session.hello().root, session.hello().root_attributes),
      pages_(reactor, inodes_),
      contents_(session, reactor.clock(), inodes_, files_, counters, settings_.cache_bytes,
                [this](InodeNumber inode) { pages_.drop(inode); }),
      callers_(reactor.clock()),
      xattr_memory_(reactor.clock()),
      second_attempts_(reactor, session),
      fresh_look_ups_(reactor.clock()) {}

Result<std::unique_ptr<Mount>> Mount::create(client::Session& session, transport::Reactor& reactor, Counters& counters,
                                             MountSettings settings) {
    std::unique_ptr<Mount> mount(new Mount(session, reactor, counters, std::move(settings)));
    auto options = mount->settings_.kernel_options;
    options.push_back(fmt::format("max_read={}", max_transfer_bytes));
    REMOFILE_TRY(channel, KernelChannel::create(options, operations(), mount.get()));
    mount->channel_ = std::move(channel);
    return mount;
}

Mount::~Mount() {
    session_.on_invalidate = nullptr;
    session_.on_new_epoch = nullptr;
    session_.on_reconnected = nullptr;
    unwatch_kernel();
    notifier_.reset();
}

Result<> Mount::start(const std::string& mountpoint, std::function<void()> on_ready,
                      std::function<void(const std::string&)> on_end) {
    mountpoint_ = mountpoint;
    on_ready_ = std::move(on_ready);
    on_end_ = std::move(on_end);
    session_.on_invalidate = [this](const std::vector<NodeId>& nodes, std::function<void()> acknowledge) {
        on_invalidate(nodes, std::move(acknowledge));
    };
    session_.on_new_epoch = [this] { on_new_epoch(); };
    session_.on_reconnected = [this] { on_reconnected(); };
    REMOFILE_CHECK(channel_->mount(mountpoint));
    notifier_.emplace(reactor_, counters_,
                      [channel = channel_.get()](InodeNumber inode) { channel->invalidate(inode); });
    pages_.notify_by(*notifier_);
    watch_kernel();
    return {};
}

void Mount::watch_kernel() {
    reactor_.watch(channel_->descriptor(), [this] { on_kernel_readable(); });
    watching_ = true;
}

void Mount::unwatch_kernel() {
    if (watch_again_)
        reactor_.cancel(*std::exchange(watch_again_, {}));
    if (std::exchange(watching_, false))
        reactor_.unwatch(channel_->descriptor());
}

void Mount::on_init(fuse_conn_info* connection) {
    connection->max_write = max_transfer_bytes;
    connection->max_read = max_transfer_bytes;
    connection->max_readahead = UINT32_MAX;  // the kernel cuts it to what it allows
    connection->max_background = max_background_requests;
    connection->congestion_threshold = congested_requests;
    connection->time_gran = 1;

    // A change of a file's size, seen in any reply, drops its pages (the default of neither AUTO_INVAL_DATA nor
    // EXPLICIT_INVAL_DATA); other changes of others are told by the server, or seen by attributes_seen().
    // AUTO_INVAL_DATA would ask for attributes before each read.
    constexpr std::uint64_t refused[] = {
        FUSE_CAP_AUTO_INVAL_DATA, FUSE_CAP_EXPLICIT_INVAL_DATA, FUSE_CAP_WRITEBACK_CACHE, FUSE_CAP_HANDLE_KILLPRIV,
        FUSE_CAP_SPLICE_READ,     FUSE_CAP_SPLICE_WRITE,        FUSE_CAP_SPLICE_MOVE,     FUSE_CAP_EXPORT_SUPPORT};
    for (const std::uint64_t capability : refused)
        refuse_capability(connection, capability);
    // DONT_MASK: the server applies the umask, because a default ACL of the directory overrides it.
    constexpr std::uint64_t wanted[] = {
        FUSE_CAP_ASYNC_READ,
        FUSE_CAP_POSIX_LOCKS,
        FUSE_CAP_FLOCK_LOCKS,
        FUSE_CAP_ATOMIC_O_TRUNC,
        FUSE_CAP_READDIRPLUS,
        FUSE_CAP_READDIRPLUS_AUTO,
        FUSE_CAP_ASYNC_DIO,
        FUSE_CAP_PARALLEL_DIROPS,
        FUSE_CAP_DONT_MASK,
#ifdef FUSE_CAP_DIRECT_IO_ALLOW_MMAP
        FUSE_CAP_DIRECT_IO_ALLOW_MMAP,
#endif
#ifdef FUSE_CAP_NO_EXPORT_SUPPORT
        // A file that the kernel has forgotten could not be found again by its number.
        FUSE_CAP_NO_EXPORT_SUPPORT,
#endif
    };
    for (const std::uint64_t capability : wanted)
        want_capability(connection, capability);
    if (settings_.check_permissions_here)
        want_capability(connection, FUSE_CAP_POSIX_ACL);
    initialised_ = true;
}

void Mount::on_kernel_readable() {
    const auto state = channel_->receive();
    if (initialised_ && on_ready_) {
        raise_kernel_readahead(mountpoint_);
        std::exchange(on_ready_, nullptr)();
    }
    if (state == KernelChannel::State::no_memory) {
        log::warn("no memory to read the kernel's requests: trying again");
        unwatch_kernel();
        watch_again_ = reactor_.after(memory_patience, [this] {
            watch_again_.reset();
            watch_kernel();
        });
    }
    if (state == KernelChannel::State::ended) {
        unwatch_kernel();
        if (const auto& [reason, text] = channel_->end(); reason != KernelChannel::ReadResult::unmounted)
            log::error("{}: {}", mountpoint_, text);
        on_end_(channel_->end().text);
    }
}

void Mount::unmount(std::function<void(bool)> on_done) {
    notifier_->run([this, mountpoint = mountpoint_, on_done = std::move(on_done)] {
        auto result = remofs::unmount(mountpoint, false);
        if (!result) {
            log::warn("{}: {}; it is detached instead", mountpoint, result.error().to_string());
            result = remofs::unmount(mountpoint, true);
        }
        reactor_.post([on_done, unmounted = result.has_value()] { on_done(unmounted); });
    });
}

void Mount::finish(std::function<void()> on_done) {
    if (notifier_)
        notifier_->finish(std::move(on_done));
    else
        on_done();
}

Result<NodeId> Mount::node_of(InodeNumber id) {
    const Inode* inode = inodes_.find(id);
    if (inode == nullptr || inodes_.stale(*inode))
        return Status::stale;
    return inode->node;
}

Result<FileHandle*> Mount::file(const fuse_file_info* info) {
    FileHandle* file = info == nullptr ? nullptr : files_.find(info->fh);
    if (file == nullptr || file->epoch != session_.epoch())
        return Status::stale;
    return file;
}

Result<DirectoryHandle*> Mount::directory(const fuse_file_info* info) {
    DirectoryHandle* directory = info == nullptr ? nullptr : directories_.find(info->fh);
    if (directory == nullptr || directory->epoch != session_.epoch())
        return Status::stale;
    return directory;
}

filesystem::CallerIdentity Mount::identity_of(const Request& request) {
    filesystem::CallerIdentity identity{.uid = settings_.ids.users.to_server(request.uid()),
                                        .gid = settings_.ids.groups.to_server(request.gid()),
                                        .groups = callers_.of(request.handle()).groups};
    for (std::uint32_t& group : identity.groups)
        group = settings_.ids.groups.to_server(group);
    return identity;
}

Task<Result<std::uint32_t>> Mount::credential_of(filesystem::CallerIdentity identity) {
    if (!session_.hello().client_identity)
        co_return Result<std::uint32_t>(0U);
    co_return co_await session_.credential(identity.uid, identity.gid, std::move(identity.groups));
}

Task<Result<std::uint32_t>> Mount::credential_of(Request& request) {
    if (!session_.hello().client_identity)
        co_return Result<std::uint32_t>(0U);
    auto identity = identity_of(request);
    co_return co_await credential_of(std::move(identity));
}

void Mount::settle_set_id(Request& request, InodeNumber id, bool said_by_kernel) {
    const Inode* inode = inodes_.find(id);
    if (!said_by_kernel && !callers_.of(request.handle()).keeps_set_id)
        request.settle_set_id(wire::SetId::drop);
    if (inode == nullptr || request.set_id() != wire::SetId::drop)
        return;
    // Whoever is of the file's group keeps its set-group-id bit where the group may not execute it. A server that acts
    // as itself does not know of the caller's groups.
    if ((inode->content.mode & (S_ISUID | S_ISGID | S_IXGRP)) != S_ISGID)
        return;
    const auto identity = identity_of(request);
    if (identity.gid == inode->content.gid ||
        std::ranges::find(identity.groups, inode->content.gid) != identity.groups.end())
        request.settle_set_id(wire::SetId::as_caller);
}

Task<void> Mount::release_locked(InodeNumber inode, HandleId handle) {
    ++locked_releases_[inode];
    const wire::Release release{handle};
    // Whatever the answer is, the server holds nothing for the handle any more.
    const client::CallOptions options{.lane = client::LaneKind::data};
    [[maybe_unused]] const auto reply = co_await session_.call(release, options);
    if (--locked_releases_[inode] == 0)
        locked_releases_.erase(inode);
    locked_release_answered_.wake(Status::ok);
}

Task<Status> Mount::locks_released(Request& request, InodeNumber inode) {
    while (locked_releases_.contains(inode)) {
        const Status status = co_await locked_release_answered_.wait(&request.cancellation());
        if (status != Status::ok)
            co_return status;
    }
    co_return Status::ok;
}

Task<std::vector<client::EncodedReply>> Mount::call_batch(Request& request,
                                                          std::vector<client::EncodedRequest> requests) {
    auto credential = co_await credential_of(request);
    if (!credential) {
        std::vector<client::EncodedReply> replies(requests.size());
        for (client::EncodedReply& reply : replies)
            reply.status = credential.status();
        co_return replies;
    }
    const client::CallOptions options{.credential = *credential, .set_id = request.set_id()};
    co_return co_await session_.call_batch(std::move(requests), options, &request.cancellation());
}

struct stat Mount::to_stat(const wire::Attributes& attributes) const {
    return remofs::to_stat(attributes, settings_.ids, export_device_);
}

fuse_entry_param Mount::tell_entry(const Inode& inode, const wire::Attributes& attributes) {
    pages_.telling(inode.id, attributes.size);
    fuse_entry_param entry{};
    entry.ino = inode.id;
    entry.attr = to_stat(attributes);
    entry.attr_timeout = attribute_timeout_s;
    entry.entry_timeout = entry_timeout_s;
    return entry;
}

Inode* Mount::adopt(InodeNumber parent, wire::EntryReply& entry, std::uint64_t asked_at) {
    std::vector<wire::ForgetNode> unneeded;
    Inode* inode = inodes_.adopt(parent, entry, unneeded);
    give_back(std::move(unneeded));
    if (inode == nullptr)
        log::warn("the server named node {} as an entry of a directory, which it cannot be", entry.node.value);
    else
        entry.attributes = contents_.seen(inode->id, entry.attributes, asked_at);
    return inode;
}

void Mount::undelivered(Inode& inode) {
    std::vector<wire::ForgetNode> unneeded;
    inodes_.undelivered(inode, unneeded);
    give_back(std::move(unneeded));
}

Inode* Mount::reply_entry(Request& request, InodeNumber parent, wire::EntryReply& entry) {
    Inode* inode = adopt(parent, entry, request.arrived_at());
    if (inode == nullptr) {
        request.error(Status::io_error);
        return nullptr;
    }
    if (!request.entry(tell_entry(*inode, entry.attributes))) {
        undelivered(*inode);
        return nullptr;
    }
    inodes_.delivered(*inode);
    return inode;
}

void Mount::reply_attributes(Request& request, InodeNumber inode, const wire::Attributes& attributes) {
    if (inode == root_inode)
        inodes_.root().last_attributes = attributes;
    pages_.telling(inode, attributes.size);
    if (request.opcode() == opcode_statx)
        return request.statx(to_statx(to_stat(attributes), attributes.identity.birth, attribute_timeout_s));
    request.attributes(to_stat(attributes), attribute_timeout_s);
}

void Mount::give_back(std::vector<wire::ForgetNode> nodes) {
    for (std::size_t start = 0; start < nodes.size(); start += wire::max_forgets) {
        const auto first = nodes.begin() + static_cast<std::ptrdiff_t>(start);
        const auto count = std::min(nodes.size() - start, wire::max_forgets);
        wire::Forget forget{.nodes = {first, first + static_cast<std::ptrdiff_t>(count)}};
        session_.tell(std::move(forget));
    }
}

void Mount::opened(InodeNumber id, bool maps) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr)
        return;
    ++inode->open_count;
    inode->pages.mappable_by += maps ? 1 : 0;
}

void Mount::released(InodeNumber id, bool maps) {
    Inode* inode = inodes_.find(id);
    if (inode == nullptr || inode->open_count == 0)
        return;
    inode->pages.mappable_by -= maps ? 1 : 0;
    if (--inode->open_count > 0)
        return;
    inode->has_byte_locks = false;
    contents_.closed(id);
}

void Mount::on_invalidate(const std::vector<NodeId>& nodes, std::function<void()> acknowledge) {
    if (nodes.empty())
        return acknowledge();
    const auto left = std::make_shared<std::size_t>(nodes.size());  // shared with the files that it waits for
    const auto done = [left, acknowledge = std::move(acknowledge)] {
        if (--*left == 0)
            acknowledge();
    };
    for (const NodeId node : nodes) {
        const Inode* inode = inodes_.find(node);
        if (inode == nullptr) {
            done();
            continue;
        }
        contents_.forget(inode->id);
        pages_.drop(inode->id, done);
    }
}

void Mount::on_new_epoch() {
    log::warn(
        "the server has lost this session (it was restarted, or was away too long): files that were open report "
        "errors, new ones work");
    inodes_.new_epoch(session_.epoch(), session_.hello().root, session_.hello().root_attributes);
    export_device_ = session_.hello().root_attributes.identity.device;
    contents_.forget_all();
    on_reconnected();
}

// What the server told while the connection was down is lost: nothing cached of an open file can be trusted.
void Mount::on_reconnected() {
    contents_.reader().reconnected();
    if (!notifier_)
        return;
    files_.for_each([&](const FileHandle& file) { contents_.outdated(file.inode); });
}

}  // namespace remofile::remofs
