// SPDX-License-Identifier: MIT
#include "server/leases/mount_watch.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <sstream>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/log.hpp"
#include "server/files/export.hpp"

namespace remofile::server {
namespace {

// What is on these can be looked at without waiting for another machine or a process. Whatever else is mounted may be a
// file, as far as we know.
constexpr std::array<std::string_view, 19> prompt_file_systems{
    "ext2",    "ext3",     "ext4",  "xfs",  "btrfs", "f2fs", "zfs",  "bcachefs", "tmpfs",   "ramfs",
    "overlay", "squashfs", "erofs", "proc", "sysfs", "vfat", "nsfs", "exfat",    "devtmpfs"};

// A line of mountinfo, see proc(5).
struct Mount {
    std::string id;
    std::string above;
    std::string device;
    std::string what;   // path in its file system
    std::string where;  // path in ours
    std::string type;

    bool is_prompt() const { return std::ranges::find(prompt_file_systems, type) != prompt_file_systems.end(); }
};

// Spaces and the like are written as three octal digits.
std::string without_escapes(std::string_view text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\' || i + 3 >= text.size()) {
            plain += text[i];
            continue;
        }
        plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
        i += 3;
    }
    return plain;
}

std::vector<Mount> parse(const std::string& table) {
    std::vector<Mount> mounts;
    std::istringstream lines(table);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream fields(line);
        Mount mount;
        fields >> mount.id >> mount.above >> mount.device >> mount.what >> mount.where;
        for (std::string field; fields >> field && field != "-";) {
        }
        fields >> mount.type;
        mount.where = without_escapes(mount.where);
        mounts.push_back(std::move(mount));
    }
    return mounts;
}

Result<std::string> read_all(int descriptor) {
    std::string text;
    std::array<char, 8192> piece{};
    if (lseek(descriptor, 0, SEEK_SET) != 0)
        return errno_error();
    for (;;) {
        const ssize_t size = ::read(descriptor, piece.data(), piece.size());
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return errno_error();
        if (size == 0)
            return text;
        text.append(piece.data(), static_cast<std::size_t>(size));
    }
}

Result<std::string> path_of(int descriptor) {
    std::string path(PATH_MAX, '\0');
    const ssize_t size = readlink(DescriptorPath(descriptor).c_str(), path.data(), path.size());
    if (size < 0)
        return errno_error();
    path.resize(static_cast<std::size_t>(size));
    return path;
}

bool may_be_file(const Mount& mount) {
    struct stat about {};
    return !mount.is_prompt() || lstat(mount.where.c_str(), &about) != 0 || !S_ISDIR(about.st_mode);
}

}  // namespace

MountWatch::MountWatch(UniqueFd root, UniqueFd table, UniqueFd events)
    : root_(std::move(root)), table_(std::move(table)), events_(std::move(events)) {}

Result<std::unique_ptr<MountWatch>> MountWatch::open(int root) {
    UniqueFd copy(fcntl(root, F_DUPFD_CLOEXEC, 0));
    UniqueFd table(::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
    UniqueFd events(epoll_create1(EPOLL_CLOEXEC));
    // The table itself can be read at any time; that it has changed is an exception.
    epoll_event exception{.events = EPOLLPRI, .data = {}};
    if (!copy || !table || !events || epoll_ctl(events.get(), EPOLL_CTL_ADD, table.get(), &exception) != 0)
        return make_error(Status::not_supported,
                          fmt::format("mounts cannot be watched: {}", describe(from_errno(errno))));
    std::unique_ptr<MountWatch> watch(new MountWatch(std::move(copy), std::move(table), std::move(events)));
    REMOFILE_TRY(mounts, watch->read());
    *watch->mounts_.lock() = std::move(mounts);
    return watch;
}

bool MountWatch::changed() {
    auto now = read();
    if (!now)
        log::warn("mounts cannot be read: {}; nothing is known of what is mounted in the export",
                  describe(now.error().status));
    auto mounts = mounts_.lock();
    if (!now) {
        *mounts = {.below = {}, .with_file = {}, .is_known = false};
        return true;
    }
    const bool is_same = mounts->is_known && mounts->below == now->below;
    *mounts = std::move(*now);
    return !is_same;
}

bool MountWatch::has_mounted_file(int directory) const {
    if (mounts_.with([](const Mounts& mounts) { return mounts.is_known && mounts.with_file.empty(); }))
        return false;
    struct stat about {};
    if (fstat(directory, &about) != 0)
        return true;
    auto mounts = mounts_.lock();
    return !mounts->is_known || mounts->with_file.contains({about.st_dev, about.st_ino});
}

Result<MountWatch::Mounts> MountWatch::read() const {
    REMOFILE_TRY(root, path_of(root_.get()));
    REMOFILE_TRY(table, read_all(table_.get()));
    const std::vector<Mount> all = parse(table);
    std::unordered_map<std::string_view, const Mount*> by_id;
    for (const Mount& mount : all)
        by_id.emplace(mount.id, &mount);
    const std::string beginning = root == "/" ? root : root + "/";
    Mounts mounts;
    for (const Mount& mount : all) {
        if (!mount.where.starts_with(beginning) || mount.where == beginning)
            continue;
        mounts.below.insert(mount.id + " " + mount.device + " " + mount.what + " " + mount.where);
        // A directory on a file system that is not prompt is not watched anyway.
        const auto above = by_id.find(mount.above);
        const std::string directory = mount.where.substr(0, std::max<std::size_t>(mount.where.rfind('/'), 1));
        struct stat about {};
        if (above != by_id.end() && above->second->is_prompt() && may_be_file(mount) &&
            stat(directory.c_str(), &about) == 0)
            mounts.with_file.emplace(about.st_dev, about.st_ino);
    }
    return mounts;
}

}  // namespace remofile::server
