// SPDX-License-Identifier: MIT
#include "remofs/operations/mount.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "remofs/kernel/mountpoint.hpp"
#include "remofs/operations/operations.hpp"

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
      callers_(reactor.clock()),
      interrupted_threads_(reactor.clock()),
      file_system_(session, reactor, Clock::with_sleep(), counters,
                   {.cache_bytes = settings_.cache_bytes,
                    .contain_symlinks = settings_.contain_symlinks,
                    .front_checks_permissions = settings_.check_permissions_here,
                    .is_single_user = settings_.is_single_user,
                    .waits_for_names = settings_.waits_for_names,
                    .keeps_unsent = settings_.keeps_unsent,
                    .facts_of = [this](const filesystem::Caller& caller) { return facts_of(caller); }}),
      pages_(reactor, file_system_.inodes()),
      names_(reactor),
      known_to_kernel_(file_system_.inodes(), reactor, counters) {
    file_system_.set_front(&pages_);
    file_system_.set_front(&names_);
}

Result<std::unique_ptr<Mount>> Mount::create(client::Session& session, transport::Reactor& reactor, Counters& counters,
                                             MountSettings settings) {
    std::unique_ptr<Mount> mount(new Mount(session, reactor, counters, std::move(settings)));
    auto options = mount->settings_.kernel_options;
    options.push_back(fmt::format("max_read={}", max_transfer_bytes));
    REMOFILE_TRY(channel, KernelChannel::create(options, operations(), mount.get()));
    mount->channel_ = std::move(channel);
    if (mount->settings_.only_user)
        mount->channel_->admit_only(*mount->settings_.only_user);
    return mount;
}

Mount::~Mount() {
    unwatch_kernel();
    name_notifier_.reset();
    notifier_.reset();
}

Result<> Mount::start(const std::string& mountpoint, std::function<void()> on_ready,
                      std::function<void(const std::string&)> on_end) {
    mountpoint_ = mountpoint;
    on_ready_ = std::move(on_ready);
    on_end_ = std::move(on_end);
    REMOFILE_CHECK(channel_->mount(mountpoint));
    notifier_.emplace(reactor_, counters_,
                      [channel = channel_.get()](InodeNumber inode) { channel->invalidate(inode); });
    pages_.notify_by(
        *notifier_,
        [channel = channel_.get()](InodeNumber inode, std::uint64_t offset, std::byte byte) {
            channel->store(inode, offset, {&byte, 1});
        },
        [channel = channel_.get()](InodeNumber inode) { channel->invalidate_attributes(inode); });
    name_notifier_.emplace(reactor_, counters_, nullptr);
    names_.notify_by(
        *name_notifier_,
        [channel = channel_.get()](InodeNumber directory, const std::string& name, InodeNumber meant) {
            channel->invalidate_name(directory, name);
            if (meant != 0)
                channel->invalidate_attributes(meant);
        },
        [channel = channel_.get()](InodeNumber directory) { channel->invalidate(directory); });
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
    // EXPLICIT_INVAL_DATA); other changes of others are told by the server, or seen by FileContents::seen().
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
    // ACLs say nothing of an owner, a group and permissions that are only shown.
    if (settings_.check_permissions_here && settings_.overrides == Overrides{})
        want_capability(connection, FUSE_CAP_POSIX_ACL);
    initialised_ = true;
}

void Mount::on_kernel_readable() {
    const auto state = channel_->receive();
    if (initialised_ && on_ready_) {
        if (channel_->can_prune())
            known_to_kernel_.notify_by(*notifier_, [channel = channel_.get()](const std::vector<InodeNumber>& inodes) {
                channel->prune(inodes);
            });
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

void Mount::note_for_umount(const std::string& source) {
    notifier_->run([mountpoint = mountpoint_, source] {
        if (const auto noted = remofs::note_for_umount(mountpoint, source); !noted)
            log::debug("umount will not wait until all is at the server: {}", noted.error().to_string());
    });
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
    if (!notifier_)
        return on_done();
    name_notifier_->finish([this, on_done = std::move(on_done)]() mutable { notifier_->finish(std::move(on_done)); });
}

filesystem::Operation Mount::begin(fuse_req_t request) {
    const fuse_ctx& caller = *fuse_req_ctx(request);
    auto operation = file_system_.begin({.uid = settings_.ids.users.to_server(caller.uid),
                                         .gid = settings_.ids.groups.to_server(caller.gid),
                                         .umask = caller.umask,
                                         .thread = static_cast<std::uint32_t>(caller.pid),
                                         .is_root = caller.uid == 0});
    if (channel_->current().drops_set_id)
        operation.set_id = wire::SetId::drop;
    return operation;
}

filesystem::CallerFacts Mount::facts_of(const filesystem::Caller& caller) {
    filesystem::CallerFacts facts = callers_.of(caller);
    for (std::uint32_t& group : facts.groups)
        group = settings_.ids.groups.to_server(group);
    return facts;
}

struct stat Mount::to_stat(const wire::Attributes& attributes) const {
    struct stat stat = remofs::to_stat(attributes, settings_.ids, file_system_.export_device());
    settings_.overrides.apply(stat);
    return stat;
}

fuse_entry_param Mount::tell_entry(const filesystem::Entry& entry) {
    fuse_entry_param param{};
    param.ino = entry.inode;
    if (entry.inode != 0) {
        param.attr = tell_attributes(entry.inode, entry.attributes);
        known_to_kernel_.given_out();
    }
    param.attr_timeout = to_seconds(entry.attributes_life);
    const bool may_be_mounted_on = entry.inode != 0 && S_ISDIR(entry.attributes.mode);
    if (!may_be_mounted_on || channel_->can_expire_names())
        param.entry_timeout = to_seconds(entry.entry_life);
    return param;
}

Task<Status> Mount::size_will_be_known(Request& request, InodeNumber inode, std::uint64_t size) {
    if (!pages_.may_refuse(inode, size))
        co_return Status::ok;
    const auto last = co_await file_system_.peek(request.operation(), inode, size - 1);
    if (last.status() == Status::interrupted)
        co_return Status::interrupted;
    // Only who reads can map the file, and it may be shorter again by now.
    if (!last || !last->has_value())
        co_return Status::ok;
    co_return co_await pages_.store_last(inode, size, **last, &request.operation().cancellation);
}

struct stat Mount::tell_attributes(InodeNumber inode, const wire::Attributes& attributes) {
    pages_.telling(inode, attributes.size);
    struct stat stat = to_stat(attributes);
    // The kernel answers from what it keeps without asking, whom we would refuse too. So it is made to refuse others
    // itself, at the door.
    if (inode == filesystem::root_inode && settings_.only_user) {
        stat.st_uid = *settings_.only_user;
        stat.st_mode = (stat.st_mode & ~mode_t{ACCESSPERMS}) | S_IRWXU;
    }
    return stat;
}

std::string Mount::status_text() const {
    const filesystem::FileSystem::Usage usage = file_system_.usage();
    std::string text = fmt::format("{{\"connected\": {}, \"silent\": {}", session_.connected(), server_is_silent());
    const auto add = [&text](std::string_view separator, std::string_view name, std::uint64_t value) {
        text += fmt::format("{}\"{}\": {}", separator, name, value);
    };
    if (settings_.keeps_unsent) {
        text += ", \"keeps_unsent\": true";
        add(", ", "spool_files_left", settings_.spool_files_left);
    }
    add(", ", "pending_changes", usage.pending_changes);
    add(", ", "pending_write_bytes", usage.pending_write_bytes);
    add(", ", "known_files", usage.known_files);
    add(", ", "open_files", usage.open_files);
    add(", ", "open_directories", usage.open_directories);
    add(", ", "cached_bytes", usage.cached_bytes);
    add(", ", "cache_limit_bytes", usage.cache_limit_bytes);
    text += ", \"counters\": {";
    std::string_view separator;
    for (const auto& [name, value] : counters_.snapshot()) {
        add(separator, name, value);
        separator = ", ";
    }
    return text + "}}";
}

}  // namespace remofile::remofs
