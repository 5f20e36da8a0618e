// SPDX-License-Identifier: MIT
#include "server/leases/change_watch.hpp"

#include <fcntl.h>
#include <sys/fanotify.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/log.hpp"
#include "server/files/export.hpp"

namespace remofile::server {
namespace {

constexpr std::uint64_t interesting = FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO | FAN_MODIFY |
                                      FAN_ATTRIB | FAN_CLOSE_WRITE | FAN_DELETE_SELF | FAN_MOVE_SELF | FAN_ONDIR |
                                      FAN_EVENT_ON_CHILD;
// After these the name stands for something else.
constexpr std::uint64_t new_meaning = FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO;

// Some hundred events at a time.
constexpr std::size_t buffer_bytes = 64U << 10;

// Numbers of statfs(2), from linux/magic.h and the file systems' sources. What is not here may change by itself: NFS,
// SMB, FUSE (also of local disks: nobody knows), 9P, Ceph and the like.
constexpr std::array<unsigned long, 18> watchable_file_systems{
    0xEF53 /* ext2 to ext4 */, 0x58465342 /* XFS */,      0x9123683E /* Btrfs */,
    0xF2F52010 /* F2FS */,     0x01021994 /* tmpfs */,    0x858458F6 /* ramfs */,
    0x2FC12FC1 /* ZFS */,      0xCA451A4E /* bcachefs */, 0x794C7630 /* overlayfs */,
    0x4D44 /* FAT */,          0x2011BAB0 /* exFAT */,    0x7366746E /* NTFS */,
    0x3153464A /* JFS */,      0x3434 /* NILFS */,        0x73717368 /* SquashFS */,
    0xE0F5E1E2 /* EROFS */,    0x9660 /* ISO 9660 */,     0x15013346 /* UDF */};

bool is_watchable(int descriptor) {
    struct statfs64 about {};
    return fstatfs64(descriptor, &about) == 0 && is_watchable_file_system(static_cast<unsigned long>(about.f_type));
}

std::string text_of(const KernelHandle& handle) {
    std::string text(reinterpret_cast<const char*>(&handle.type), sizeof handle.type);
    text.append(reinterpret_cast<const char*>(handle.bytes.data()), handle.bytes.size());
    return text;
}

Result<> mark(int queue, unsigned how, int descriptor) {
    if (fanotify_mark(queue, how | FAN_MARK_ONLYDIR, interesting, AT_FDCWD, DescriptorPath(descriptor).c_str()) != 0)
        return errno_error();
    return {};
}

// A name that nobody else uses; it is gone at once.
std::string passing_name() {
    return fmt::format(".remofile-watch-{}", ::getpid());
}

}  // namespace

bool is_watchable_file_system(unsigned long type) {
    return std::ranges::find(watchable_file_systems, type) != watchable_file_systems.end();
}

ChangeWatch::ChangeWatch(UniqueFd queue, std::unique_ptr<MountWatch> mounts, Counters& counters)
    : queue_(std::move(queue)),
      mounts_(std::move(mounts)),
      watched_(counters.at("leases.watched")),
      unwatched_(counters.at("leases.unwatched")),
      events_(counters.at("leases.watch_events")),
      buffer_(buffer_bytes) {}

Result<std::unique_ptr<ChangeWatch>> ChangeWatch::open(int root, bool may_write, Counters& counters) {
    if (!is_watchable(root))
        return make_error(Status::not_supported, "the export is on a file system that others may change");
    constexpr unsigned flags = FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME | FAN_CLOEXEC | FAN_NONBLOCK;
    // Root's server may have any number of marks; another's as many as its user may.
    UniqueFd queue(fanotify_init(flags | FAN_UNLIMITED_MARKS, O_RDONLY));
    if (!queue)
        queue = UniqueFd(fanotify_init(flags, O_RDONLY));
    if (!queue)
        return make_error(Status::not_supported,
                          fmt::format("fanotify is not to be had: {}", describe(from_errno(errno))));
    REMOFILE_TRY(mounts, MountWatch::open(root));
    std::unique_ptr<ChangeWatch> watch(new ChangeWatch(std::move(queue), std::move(mounts), counters));
    REMOFILE_CHECK(watch->try_out(root, may_write));
    return watch;
}

// Makes and removes a file, and looks whether that is told.
Result<> ChangeWatch::try_out(int root, bool may_write) {
    // A handle by which files can be opened stays the same. Without, as with overlayfs unless it is to be exported,
    // what the kernel calls a directory changes once something in it does.
    if (!kernel_handle_of(root))
        return make_error(Status::not_supported, "the export's file system has no lasting names for its directories");
    if (auto marked = mark(queue_.get(), FAN_MARK_ADD, root); !marked)
        return make_error(Status::not_supported,
                          fmt::format("the export cannot be watched: {}", describe(marked.status())));
    const auto name = EntryName::check(passing_name());
    const auto file = may_write ? create_entry(root, *name, O_WRONLY, 0600) : Status::read_only;
    bool told = !file;  // where nothing can be made, nothing is known to be wrong
    if (file) {
        static_cast<void>(remove_file(root, *name));
        const ssize_t size = ::read(queue_.get(), buffer_.data(), buffer_.size());
        told = size > 0 && std::string_view(buffer_.data(), static_cast<std::size_t>(size)).find(name->text()) !=
                               std::string_view::npos;
    }
    static_cast<void>(mark(queue_.get(), FAN_MARK_REMOVE, root));
    // What has come meanwhile is nobody's.
    while (::read(queue_.get(), buffer_.data(), buffer_.size()) > 0) {
    }
    if (!told)
        return make_error(Status::not_supported, "changes in the export are not told of");
    return {};
}

bool ChangeWatch::add(const InodePtr& directory, int descriptor) {
    const bool is_exposed = !is_watchable(descriptor) || mounts_->has_mounted_file(descriptor);
    auto state = state_.lock();
    const auto handle = !is_exposed ? kernel_handle_of(descriptor) : Status::not_supported;
    // Also what is marked already: the mark goes, unseen, when the directory's file system is unmounted.
    if (!handle || !mark(queue_.get(), FAN_MARK_ADD, descriptor)) {
        unwatched_.add();
        return false;
    }
    if (state->directories.contains(directory.get()))
        return true;
    const std::string text = text_of(*handle);
    state->directories.emplace(directory.get(), Watched{directory, text});
    state->by_handle.emplace(text, directory.get());
    watched_.add();
    return true;
}

void ChangeWatch::remove(const InodePtr& directory, int descriptor, const std::function<bool()>& needed) {
    Watched removed;  // let go after the lock
    auto state = state_.lock();
    const auto found = state->directories.find(directory.get());
    if (found == state->directories.end() || needed())
        return;
    // One that has been deleted has no mark any more.
    if (descriptor >= 0)
        static_cast<void>(mark(queue_.get(), FAN_MARK_REMOVE, descriptor));
    const auto [begin, end] = state->by_handle.equal_range(found->second.handle);
    state->by_handle.erase(std::find_if(begin, end, [&](const auto& each) { return each.second == directory.get(); }));
    removed = std::move(found->second);
    state->directories.erase(found);
    watched_.subtract();
}

std::size_t ChangeWatch::directories() const {
    return state_.lock()->directories.size();
}

ChangeWatch::Seen ChangeWatch::read() {
    Seen seen;
    const ssize_t size = ::read(queue_.get(), buffer_.data(), buffer_.size());
    if (size <= 0)
        return seen;
    auto left = static_cast<std::size_t>(size);
    for (const char* at = buffer_.data(); left >= sizeof(fanotify_event_metadata);) {
        fanotify_event_metadata event{};
        std::memcpy(&event, at, sizeof event);
        if (event.event_len < sizeof event || event.event_len > left)
            break;
        if ((event.mask & FAN_Q_OVERFLOW) != 0)
            seen.lost = true;
        else if (event.pid != ::getpid())
            take_event(at, seen);
        at += event.event_len;
        left -= event.event_len;
    }
    return seen;
}

// The directory and the name that an event tells of; "." is the directory itself.
void ChangeWatch::take_event(const void* bytes, Seen& seen) {
    events_.add();
    fanotify_event_metadata event{};
    std::memcpy(&event, bytes, sizeof event);
    const char* begin = static_cast<const char*>(bytes) + sizeof event;
    const char* end = static_cast<const char*>(bytes) + event.event_len;
    fanotify_event_info_fid about{};
    file_handle head{};
    if (static_cast<std::size_t>(end - begin) < sizeof about + sizeof head)
        return;
    std::memcpy(&about, begin, sizeof about);
    std::memcpy(&head, begin + sizeof about, sizeof head);
    const char* bytes_of_handle = begin + sizeof about + sizeof head;
    const auto room = static_cast<std::size_t>(end - bytes_of_handle);
    if (about.hdr.info_type != FAN_EVENT_INFO_TYPE_DFID_NAME || head.handle_bytes > room)
        return;
    const char* name = bytes_of_handle + head.handle_bytes;
    const std::string_view text(name, strnlen(name, room - head.handle_bytes));
    // Another server of this export has begun or ended to lend.
    if (EntryName::is_reserved(text))
        return;
    KernelHandle handle{.mount = 0, .type = head.handle_type, .bytes = {}};
    handle.bytes.assign(bytes_of_handle, bytes_of_handle + head.handle_bytes);

    auto state = state_.lock();
    const auto [first, last] = state->by_handle.equal_range(text_of(handle));
    for (auto entry = first; entry != last; ++entry) {
        const bool is_itself = text == ".";
        seen.touched.push_back({state->directories.at(entry->second).directory,
                                is_itself ? std::string() : std::string(text),
                                !is_itself && (event.mask & new_meaning) != 0});
    }
}

}  // namespace remofile::server
