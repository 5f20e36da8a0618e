// SPDX-License-Identifier: MIT
// The mounted file system: what leads from the kernel to filesystem::FileSystem and back. Everything here happens on
// the event loop's thread; nothing waits and nothing locks.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/counters.hpp"
#include "base/result.hpp"
#include "base/task.hpp"
#include "client/session.hpp"
#include "filesystem/file_system.hpp"
#include "remofs/ids/attributes.hpp"
#include "remofs/ids/credentials.hpp"
#include "remofs/ids/id_map.hpp"
#include "remofs/kernel/interrupted_threads.hpp"
#include "remofs/kernel/kernel_channel.hpp"
#include "remofs/kernel/kernel_inodes.hpp"
#include "remofs/kernel/kernel_names.hpp"
#include "remofs/kernel/kernel_pages.hpp"
#include "remofs/kernel/notifier.hpp"
#include "remofs/operations/request.hpp"
#include "transport/reactor.hpp"

namespace remofile::remofs {

using filesystem::InodeNumber;

// The kernel's number for who holds a lock. 0 is nobody in the protocol, but may be somebody's number here.
inline LockOwner to_lock_owner(std::uint64_t kernel_owner) {
    constexpr std::uint64_t stand_in = ~std::uint64_t{0};
    return LockOwner{kernel_owner == 0 ? stand_in : kernel_owner};
}

// The number under which a request names an open file or directory, if it does.
inline filesystem::HandleNumber handle_of(const fuse_file_info* info) {
    return {info == nullptr ? 0 : info->fh};
}

// For how long the kernel may keep what it is told.
inline double to_seconds(Duration life) {
    return std::chrono::duration<double>(life).count();
}

struct MountSettings {
    std::vector<std::string> kernel_options;  // for mount(2) and libfuse
    std::string lasting_options;              // for whoever asks: what a remount does not change, as -o has it
    bool check_permissions_here = false;      // the kernel checks permissions and ACLs, besides the server
    bool is_single_user = false;              // the kernel lets no other user in
    std::optional<std::uint32_t> only_user;   // of those whom the kernel lets in: this one and root. For mounts that
                                              // check permissions here
    bool contain_symlinks = false;
    bool waits_for_names = false;  // whoever makes, removes or renames something waits for the server
    IdMap ids;
    Overrides overrides;
    std::size_t cache_bytes = 0;  // for contents of files, all together
    // What the server has not answered when the mount ends is kept; and of mounts before so many files are left.
    bool keeps_unsent = false;
    std::size_t spool_files_left = 0;
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

    // See kernel/mountpoint.hpp; on the thread "notify".
    void note_for_umount(const std::string& source);

    // Unmounts from the thread "notify" while requests go on being served, so that what is dirty can be written.
    // `on_done` is called afterwards with whether the mountpoint is free.
    void unmount(std::function<void(bool)> on_done);

    // Runs `on_done` once the thread "notify" has nothing left to do; nothing is told to the kernel afterwards. The
    // session must be closed already, so that whatever the thread waits for is answered.
    void finish(std::function<void()> on_done);

    // For the operations:

    static Mount& of(fuse_req_t request) { return *static_cast<Mount*>(fuse_req_userdata(request)); }

    transport::Reactor& reactor() { return reactor_; }
    Counters& counters() { return counters_; }
    KernelChannel& channel() { return *channel_; }
    KernelPages& pages() { return pages_; }
    KernelNames& names() { return names_; }
    filesystem::FileSystem& file_system() { return file_system_; }
    const filesystem::FileSystem& file_system() const { return file_system_; }
    const IdMap& ids() const { return settings_.ids; }
    const Overrides& overrides() const { return settings_.overrides; }
    bool connected() const { return session_.connected(); }
    // Whether what is asked now is not answered for long; suspect() makes that known soon.
    bool server_is_silent() const { return !session_.connected() || session_.silent(); }
    InterruptedThreads& interrupted_threads() { return interrupted_threads_; }
    void suspect_server() { session_.suspect(reactor_.clock().now()); }
    // What is under way, held and counted: the value of the attribute `status_attribute` of the mount's root, which
    // exists for whoever asks for it by name. JSON, of numbers and booleans.
    static constexpr std::string_view status_attribute = "remofs.status";
    std::string status_text() const;
    // Another of that kind: the options that last as long as the mount, as -o would have them.
    static constexpr std::string_view options_attribute = "remofs.options";
    const std::string& lasting_options() const { return settings_.lasting_options; }

    // The beginning of what a request of the kernel asks for.
    filesystem::Operation begin(fuse_req_t request);

    // What an answer that is about to be written tells of a file.
    fuse_entry_param tell_entry(const filesystem::Entry& entry);
    struct stat tell_attributes(InodeNumber inode, const wire::Attributes& attributes);
    // Ends once the kernel takes that size, of an open file, from the answer to the request. Errors: interrupted.
    Task<Status> size_will_be_known(Request& request, InodeNumber inode, std::uint64_t size);
    // The number that programs see.
    std::uint64_t visible_inode(const wire::FileIdentity& identity) const {
        return remofs::visible_inode(identity, file_system_.export_device());
    }

    // Called by libfuse through the table of operations.
    void on_init(fuse_conn_info* connection);

private:
    Mount(client::Session& session, transport::Reactor& reactor, Counters& counters, MountSettings settings);

    filesystem::CallerFacts facts_of(const filesystem::Caller& caller);
    struct stat to_stat(const wire::Attributes& attributes) const;
    void watch_kernel();
    void unwatch_kernel();
    void on_kernel_readable();

    client::Session& session_;
    transport::Reactor& reactor_;
    Counters& counters_;
    MountSettings settings_;
    std::string mountpoint_;
    KnownCallers callers_;
    InterruptedThreads interrupted_threads_;
    filesystem::FileSystem file_system_;
    KernelPages pages_;
    KernelNames names_;
    KernelInodes known_to_kernel_;
    std::function<void()> on_ready_;
    std::function<void(const std::string&)> on_end_;
    bool initialised_ = false;
    bool watching_ = false;
    std::optional<transport::TimerId> watch_again_;
    std::unique_ptr<KernelChannel> channel_;
    // They stop before the channel goes. Names have a thread of their own: the kernel may hold a directory's lock for
    // long, and nothing that makes it do so must wait for pages behind it.
    std::optional<Notifier> notifier_;
    std::optional<Notifier> name_notifier_;
};

}  // namespace remofile::remofs
