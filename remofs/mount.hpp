// SPDX-License-Identifier: MIT
// The mounted file system: what the operations (names.cpp, data.cpp, ...) share. Everything here happens on the event
// loop's thread; nothing waits and nothing locks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/counters.hpp"
#include "base/result.hpp"
#include "base/task.hpp"
#include "client/session.hpp"
#include "client/waiters.hpp"
#include "filesystem/file_contents.hpp"
#include "filesystem/handle_table.hpp"
#include "filesystem/inode_map.hpp"
#include "filesystem/xattr_memory.hpp"
#include "remofs/attributes.hpp"
#include "remofs/credentials.hpp"
#include "remofs/fresh_look_ups.hpp"
#include "remofs/id_map.hpp"
#include "remofs/kernel_channel.hpp"
#include "remofs/kernel_pages.hpp"
#include "remofs/notifier.hpp"
#include "remofs/request.hpp"
#include "remofs/second_attempts.hpp"
#include "transport/reactor.hpp"

namespace remofile::remofs {

using namespace filesystem;

// For how long the kernel may use names and attributes without asking. Zero: each look-up and each stat asks the
// server, so that this mount, other mounts and programs on the server agree at any moment. Longer lives need a promise
// by the server to tell of changes first (a lease).
inline constexpr double entry_timeout_s = 0;
inline constexpr double attribute_timeout_s = 0;

// The kernel's number for who holds a lock. 0 is nobody in the protocol, but may be somebody's number here.
inline LockOwner to_lock_owner(std::uint64_t kernel_owner) {
    constexpr std::uint64_t stand_in = ~std::uint64_t{0};
    return LockOwner{kernel_owner == 0 ? stand_in : kernel_owner};
}

struct MountSettings {
    std::vector<std::string> kernel_options;  // for mount(2) and libfuse
    bool check_permissions_here = false;      // the kernel checks permissions and ACLs, besides the server
    bool contain_symlinks = false;
    IdMap ids;
    std::size_t cache_bytes = 0;  // for contents of files, all together
};

class Mount {
public:
    // `session` and `reactor` must outlive the mount.
    static Result<std::unique_ptr<Mount>> create(client::Session& session, transport::Reactor& reactor,
                                                 Counters& counters, MountSettings settings);
    ~Mount();
    Mount(const Mount&) = delete;
    Mount& operator=(const Mount&) = delete;

    // Mounts and starts to serve. `on_ready` is called once the kernel can use the mount, `on_end` with the reason when
    // the kernel has no more requests. Errors: access_denied.
    Result<> start(const std::string& mountpoint, std::function<void()> on_ready,
                   std::function<void(const std::string& reason)> on_end);

    // Unmounts from the thread "notify" while requests go on being served, so that what is dirty can be written.
    // `on_done` is called afterwards with whether the mountpoint is free.
    void unmount(std::function<void(bool)> on_done);

    // Runs `on_done` once the thread "notify" has nothing left to do; nothing is told to the kernel afterwards. The
    // session must be closed already, so that whatever the thread waits for is answered.
    void finish(std::function<void()> on_done);

    // For the operations:

    static Mount& of(fuse_req_t request) { return *static_cast<Mount*>(fuse_req_userdata(request)); }

    client::Session& session() { return session_; }
    transport::Reactor& reactor() { return reactor_; }
    Counters& counters() { return counters_; }
    KernelChannel& channel() { return *channel_; }
    InodeMap& inodes() { return inodes_; }
    HandleTable<FileHandle>& files() { return files_; }
    HandleTable<DirectoryHandle>& directories() { return directories_; }
    KernelPages& pages() { return pages_; }
    FileContents& contents() { return contents_; }
    const IdMap& ids() const { return settings_.ids; }
    XattrMemory& xattr_memory() { return xattr_memory_; }
    SecondAttempts& second_attempts() { return second_attempts_; }
    FreshLookUps& fresh_look_ups() { return fresh_look_ups_; }
    std::optional<struct statvfs>& last_statistics() { return last_statistics_; }
    bool contains_symlinks() const { return settings_.contain_symlinks; }

    // The server's name for one of the kernel's files. Error: stale.
    Result<NodeId> node_of(InodeNumber inode);
    wire::NewNode new_node() { return {session_.new_node_id(), true}; }
    // A handle of the present session. Error: stale for one whose session has ended.
    Result<FileHandle*> file(const fuse_file_info* info);
    Result<DirectoryHandle*> directory(const fuse_file_info* info);

    // Whom requests act as on behalf of the caller: by the server's numbers, and the number of the session. As itself
    // where the server does not act as others.
    filesystem::CallerIdentity identity_of(const Request& request);
    Task<Result<std::uint32_t>> credential_of(filesystem::CallerIdentity identity);
    Task<Result<std::uint32_t>> credential_of(Request& request);
    // Settles what a request says of set-id bits of the file that it changes. The kernel has said whether its caller
    // may keep them, except of FALLOCATE, COPY_FILE_RANGE and a change of owner.
    void settle_set_id(Request& request, InodeNumber inode, bool said_by_kernel = true);
    // Sends a request that acts as the caller. Coroutine: `request` must outlive it.
    template <class Message>
    Task<Result<client::Reply<Message>>> call(Request& request, Message message);
    template <class Message>
    Task<Result<client::Reply<Message>>> call_with_bulk(Request& request, Message message, Buffer bulk,
                                                        client::LaneKind lane = client::LaneKind::metadata);
    // The same for a request on a handle that changes the file. What reads and writes travels on one lane, in order.
    template <class Message>
    Task<Result<client::Reply<Message>>> change(Request& request, Message message);
    // Sends a request for a handle, whose rights were settled when it was opened.
    template <class Message>
    Task<Result<client::Reply<Message>>> call_on_lane(Request& request, Message message, client::LaneKind lane) {
        return session_.call(std::move(message), {.lane = lane}, &request.cancellation());
    }
    template <class Message>
    Task<Result<client::Reply<Message>>> call_on_handle(Request& request, Message message) {
        return call_on_lane(request, std::move(message), client::LaneKind::data);
    }

    // Ends when the server has answered all that was written to the file before, for a request that must not overtake
    // it. Errors of those writes are their handles' affair. Errors: interrupted.
    Task<Status> written_out(Request& request, InodeNumber inode) {
        return contents_.writes().drain(inode, &request.cancellation());
    }
    // The kernel waits for no RELEASE, but a process that has ended must not hold a lock against the next one. Gives
    // back a handle that locks were taken through.
    Task<void> release_locked(InodeNumber inode, HandleId handle);
    // Ends when the server has answered those of the file. Errors: interrupted.
    Task<Status> locks_released(Request& request, InodeNumber inode);

    // Sends several requests as one message.
    Task<std::vector<client::EncodedReply>> call_batch(Request& request, std::vector<client::EncodedRequest> requests);

    // Takes in a reply that names a file and hands it to the kernel. Null if that has not taken it.
    Inode* reply_entry(Request& request, InodeNumber parent, wire::EntryReply& entry);
    // The first half of it. What the entry says becomes what may be shown of the file.
    Inode* adopt(InodeNumber parent, wire::EntryReply& entry, std::uint64_t asked_at);
    void undelivered(Inode& inode);
    // What the answer that is about to be written tells of a file.
    fuse_entry_param tell_entry(const Inode& inode, const wire::Attributes& attributes);
    void reply_attributes(Request& request, InodeNumber inode, const wire::Attributes& attributes);
    struct stat to_stat(const wire::Attributes& attributes) const;
    std::uint64_t visible_inode(const wire::FileIdentity& identity) const {
        return remofs::visible_inode(identity, export_device_);
    }

    void give_back(std::vector<wire::ForgetNode> nodes);
    // A handle of a file has come, and gone; `maps`: a mapping that is written to can be made through it.
    void opened(InodeNumber inode, bool maps);
    void released(InodeNumber inode, bool maps);

    // Called by libfuse through the table of operations.
    void on_init(fuse_conn_info* connection);

private:
    Mount(client::Session& session, transport::Reactor& reactor, Counters& counters, MountSettings settings);

    void watch_kernel();
    void unwatch_kernel();
    void on_kernel_readable();
    void on_invalidate(const std::vector<NodeId>& nodes, std::function<void()> acknowledge);
    void on_new_epoch();
    void on_reconnected();

    client::Session& session_;
    transport::Reactor& reactor_;
    Counters& counters_;
    MountSettings settings_;
    std::string mountpoint_;
    std::uint64_t export_device_;
    InodeMap inodes_;
    HandleTable<FileHandle> files_;
    HandleTable<DirectoryHandle> directories_;
    KernelPages pages_;
    FileContents contents_;
    KnownCallers callers_;
    XattrMemory xattr_memory_;
    SecondAttempts second_attempts_;
    FreshLookUps fresh_look_ups_;
    std::unordered_map<InodeNumber, unsigned> locked_releases_;  // under way
    client::Waiters locked_release_answered_;
    std::optional<struct statvfs> last_statistics_;
    std::function<void()> on_ready_;
    std::function<void(const std::string&)> on_end_;
    bool initialised_ = false;
    bool watching_ = false;
    std::optional<transport::TimerId> watch_again_;
    std::unique_ptr<KernelChannel> channel_;
    std::optional<Notifier> notifier_;  // stops before the channel goes
};

template <class Message>
Task<Result<client::Reply<Message>>> Mount::call(Request& request, Message message) {
    auto credential = co_await credential_of(request);
    if (!credential)
        co_return Result<client::Reply<Message>>(credential.error());
    const client::CallOptions options{.credential = *credential, .set_id = request.set_id()};
    co_return co_await session_.call(std::move(message), options, &request.cancellation());
}

template <class Message>
Task<Result<client::Reply<Message>>> Mount::change(Request& request, Message message) {
    auto credential = co_await credential_of(request);
    if (!credential)
        co_return Result<client::Reply<Message>>(credential.error());
    const client::CallOptions options{
        .lane = client::LaneKind::data, .credential = *credential, .set_id = request.set_id()};
    co_return co_await session_.call(std::move(message), options, &request.cancellation());
}

template <class Message>
Task<Result<client::Reply<Message>>> Mount::call_with_bulk(Request& request, Message message, Buffer bulk,
                                                           client::LaneKind lane) {
    auto credential = co_await credential_of(request);
    if (!credential)
        co_return Result<client::Reply<Message>>(credential.error());
    const client::CallOptions options{.lane = lane, .credential = *credential, .set_id = request.set_id()};
    co_return co_await session_.call_with_bulk(std::move(message), std::move(bulk), options, &request.cancellation());
}

}  // namespace remofile::remofs
