// SPDX-License-Identifier: MIT
#include "server/files/export.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cinttypes>
#include <climits>
#include <cstdio>
#include <cstring>

#include "base/file_time.hpp"
#include "wire/protocol.hpp"

namespace remofile::server {
namespace {

// openat2 of one component. Any component that is a symlink fails with ELOOP; with O_PATH | O_NOFOLLOW the symlink
// itself is what opens.
Result<UniqueFd> open_beneath(int directory, const char* name, int flags, mode_t mode) {
    open_how how{};
    how.flags = static_cast<std::uint64_t>(flags) | O_CLOEXEC | O_NOFOLLOW;
    how.mode = mode;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    long descriptor = 0;
    do {
        descriptor = syscall(SYS_openat2, directory, name, &how, sizeof how);
    } while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0)
        return errno_error();
    return UniqueFd(static_cast<int>(descriptor));
}

wire::Timestamp timestamp_of(const struct statx_timestamp& time) {
    return {.seconds = time.tv_sec, .nanoseconds = time.tv_nsec};
}

wire::Attributes attributes_of(const struct statx& stat) {
    wire::Attributes attributes;
    attributes.identity.device = makedev(stat.stx_dev_major, stat.stx_dev_minor);
    attributes.identity.inode = stat.stx_ino;
    if ((stat.stx_mask & STATX_BTIME) != 0)
        attributes.identity.birth = timestamp_of(stat.stx_btime);
    attributes.mode = stat.stx_mode;
    attributes.links = stat.stx_nlink;
    attributes.uid = stat.stx_uid;
    attributes.gid = stat.stx_gid;
    attributes.rdev_major = stat.stx_rdev_major;
    attributes.rdev_minor = stat.stx_rdev_minor;
    attributes.size = stat.stx_size;
    attributes.blocks = stat.stx_blocks;
    attributes.block_size = stat.stx_blksize;
    attributes.access = timestamp_of(stat.stx_atime);
    attributes.modification = timestamp_of(stat.stx_mtime);
    attributes.change = timestamp_of(stat.stx_ctime);
    return attributes;
}

Result<wire::Attributes> stat_at(int directory, const char* name, int flags) {
    // Before the look: a change after it must not be taken for one before.
    const timespec now = coarse_now();
    struct statx stat {};
    if (statx(directory, name, flags | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME, &stat) !=
        0)
        return errno_error();
    wire::Attributes attributes = attributes_of(stat);
    const timespec change{.tv_sec = attributes.change.seconds, .tv_nsec = attributes.change.nanoseconds};
    attributes.version = may_recur(change, now) ? wire::version_is_fresh : 0;
    return attributes;
}

// In the order of EntryName::Reserved.
constexpr std::array<std::string_view, 2> reserved_prefixes{".remofile-lent-", ".remofile-kept-"};
constexpr std::size_t reserved_digits = 16;

std::string_view prefix_of(EntryName::Reserved what) {
    return reserved_prefixes[static_cast<std::size_t>(what)];
}

bool has_reserved_form(std::string_view name, std::string_view prefix) {
    return name.size() == prefix.size() + reserved_digits && name.starts_with(prefix) &&
           name.find_first_not_of("0123456789abcdef", prefix.size()) == std::string_view::npos;
}

Result<> outcome_of(int result) {
    if (result != 0)
        return errno_error();
    return {};
}

}  // namespace

Result<EntryName> EntryName::check(std::string name) {
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
        name.find('\0') != std::string::npos)
        return Status::invalid;
    if (name.size() > wire::max_name_bytes)
        return Status::name_too_long;
    if (is_reserved(name))
        return Status::no_entry;
    return EntryName(std::move(name));
}

Result<EntryName> EntryName::check_new(std::string name) {
    if (is_reserved(name))
        return Status::not_permitted;
    return check(std::move(name));
}

bool EntryName::is_reserved(std::string_view name) {
    return std::ranges::any_of(reserved_prefixes,
                               [&](std::string_view prefix) { return has_reserved_form(name, prefix); });
}

EntryName EntryName::reserved(Reserved what, std::uint64_t number) {
    std::array<char, reserved_digits + 1> digits{};
    std::snprintf(digits.data(), digits.size(), "%016" PRIx64, number);
    return EntryName(std::string(prefix_of(what)) + digits.data());
}

std::optional<EntryName> EntryName::as_reserved(Reserved what, std::string name) {
    if (!has_reserved_form(name, prefix_of(what)))
        return std::nullopt;
    return EntryName(std::move(name));
}

DescriptorPath::DescriptorPath(int descriptor) {
    std::snprintf(text_.data(), text_.size(), "/proc/self/fd/%d", descriptor);
}

bool is_removed(int directory) {
    constexpr std::string_view mark = " (deleted)";
    std::string path(PATH_MAX, '\0');
    const ssize_t size = readlink(DescriptorPath(directory).c_str(), path.data(), path.size());
    struct stat attributes {};
    // Either may be so of a directory that is there.
    return size > 0 && std::string_view(path).substr(0, static_cast<std::size_t>(size)).ends_with(mark) &&
           fstat(directory, &attributes) == 0 && attributes.st_nlink == 0;
}

Result<std::uint64_t> mount_of(int descriptor) {
    struct statx stat {};
    if (statx(descriptor, "", AT_EMPTY_PATH, STATX_MNT_ID, &stat) != 0)
        return errno_error();
    if ((stat.stx_mask & STATX_MNT_ID) == 0)
        return Status::not_supported;
    return stat.stx_mnt_id;
}

Result<UniqueFd> open_export_root(const std::string& directory) {
    UniqueFd root(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root) {
        const Status status = from_errno(errno);
        return make_error(status, "cannot open " + directory + ": " + std::string(describe(status)));
    }
    // Whether lookups will work is better known now than at the first of them.
    if (auto again = open_beneath(root.get(), ".", O_PATH | O_DIRECTORY, 0); !again) {
        if (again.error().status != Status::not_implemented)
            return make_error(again.error().status, "cannot search " + directory + ": " + again.error().to_string());
        return make_error(Status::not_supported, "cannot export " + directory + ": this kernel lacks openat2(2)");
    }
    if (access(DescriptorPath(root.get()).c_str(), F_OK) != 0)
        return make_error(Status::not_supported, "cannot export " + directory + ": /proc is not mounted");
    return root;
}

Result<wire::Attributes> stat_descriptor(int descriptor) {
    return stat_at(descriptor, "", AT_EMPTY_PATH);
}

Result<wire::Attributes> stat_entry(int directory, const EntryName& name) {
    return stat_at(directory, name.c_str(), 0);
}

Result<UniqueFd> open_entry(int directory, const EntryName& name) {
    return open_beneath(directory, name.c_str(), O_PATH, 0);
}

Result<UniqueFd> create_entry(int directory, const EntryName& name, int flags, mode_t mode) {
    return open_beneath(directory, name.c_str(), flags | O_CREAT | O_EXCL | O_NOCTTY | O_NONBLOCK, mode & 07777);
}

Result<UniqueFd> create_unnamed(int directory, int flags, mode_t mode) {
    auto file = open_beneath(directory, ".", flags | O_TMPFILE, mode & 07777);
    // A kernel or file system without O_TMPFILE sees a directory that is to be opened for writing.
    if (!file && file.error().status == Status::is_directory)
        return Status::not_supported;
    return file;
}

Result<UniqueFd> open_for_io(int descriptor, mode_t type, int flags) {
    if (type == S_IFLNK)
        return Status::symlink_loop;
    if (type != S_IFREG && type != S_IFDIR)
        return Status::no_device;
    // O_NONBLOCK: a lease that a process on the server holds must not block the thread until it is given up.
    UniqueFd opened(open(DescriptorPath(descriptor).c_str(), flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (!opened)
        return errno_error();
    return opened;
}

Result<UniqueFd> duplicate_as_path(int descriptor) {
    UniqueFd opened(open(DescriptorPath(descriptor).c_str(), O_PATH | O_CLOEXEC));
    if (!opened)
        return errno_error();
    return opened;
}

namespace {

// An empty name: what the descriptor itself refers to.
Result<std::string> read_symlink_at(int descriptor, const char* name) {
    std::string target(wire::max_path_bytes + 1, '\0');
    const ssize_t size = readlinkat(descriptor, name, target.data(), target.size());
    if (size < 0)
        return errno_error();
    if (static_cast<std::size_t>(size) > wire::max_path_bytes)
        return Status::name_too_long;
    target.resize(static_cast<std::size_t>(size));
    return target;
}

}  // namespace

Result<std::string> read_symlink(int descriptor) {
    return read_symlink_at(descriptor, "");
}

Result<std::string> read_symlink_entry(int directory, const EntryName& name) {
    return read_symlink_at(directory, name.c_str());
}

Result<> check_access(int descriptor, int mask) {
    return outcome_of(faccessat(descriptor, "", mask, AT_EACCESS | AT_EMPTY_PATH));
}

Result<Restrictions> restrictions_of(int directory) {
    struct statx stat {};
    if (statx(directory, "", AT_EMPTY_PATH, STATX_MODE | STATX_UID, &stat) != 0)
        return errno_error();
    return Restrictions{
        .names_are_fixed = (stat.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) != 0,
        .sticky = (stat.stx_mode & S_ISVTX) != 0,
        .owner = stat.stx_uid,
    };
}

bool may_be_fixed(int directory, const EntryName& name) {
    struct statx stat {};
    constexpr std::uint64_t flags = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND;
    return statx(directory, name.c_str(), AT_SYMLINK_NOFOLLOW, 0, &stat) != 0 || (stat.stx_attributes & flags) != 0;
}

Result<> change_owner(int descriptor, uid_t uid, gid_t gid) {
    return outcome_of(fchownat(descriptor, "", uid, gid, AT_EMPTY_PATH));
}

Result<> change_mode(int descriptor, mode_t mode) {
    return outcome_of(chmod(DescriptorPath(descriptor).c_str(), mode));
}

Result<> change_size(int descriptor, off_t size) {
    return outcome_of(truncate(DescriptorPath(descriptor).c_str(), size));
}

Result<> change_times(int descriptor, const std::array<timespec, 2>& times) {
    return outcome_of(utimensat(AT_FDCWD, DescriptorPath(descriptor).c_str(), times.data(), 0));
}

Result<> make_node(int directory, const EntryName& name, mode_t mode, dev_t device) {
    return outcome_of(mknodat(directory, name.c_str(), mode, device));
}

Result<> make_directory(int directory, const EntryName& name, mode_t mode) {
    return outcome_of(mkdirat(directory, name.c_str(), mode));
}

Result<> make_symlink(int directory, const EntryName& name, const std::string& target) {
    return outcome_of(symlinkat(target.c_str(), directory, name.c_str()));
}

Result<> remove_file(int directory, const EntryName& name) {
    return outcome_of(unlinkat(directory, name.c_str(), 0));
}

Result<> remove_directory(int directory, const EntryName& name) {
    return outcome_of(unlinkat(directory, name.c_str(), AT_REMOVEDIR));
}

Result<> rename_entry(int directory, const EntryName& name, int new_directory, const EntryName& new_name,
                      unsigned flags) {
    const auto renamed = outcome_of(renameat2(directory, name.c_str(), new_directory, new_name.c_str(), flags));
    if (flags != RENAME_NOREPLACE || renamed.status() != Status::invalid)
        return renamed;
    // A file system without that flag (NFS): a link does not replace anything either. Directories have none.
    if (linkat(directory, name.c_str(), new_directory, new_name.c_str(), 0) != 0)
        return errno == EEXIST ? Result<>(Status::exists) : renamed;
    return outcome_of(unlinkat(directory, name.c_str(), 0));
}

Result<> link_entry(int descriptor, int new_directory, const EntryName& new_name) {
    // linkat with AT_EMPTY_PATH needs CAP_DAC_READ_SEARCH; this is the way that linkat(2) recommends without it.
    return outcome_of(
        linkat(AT_FDCWD, DescriptorPath(descriptor).c_str(), new_directory, new_name.c_str(), AT_SYMLINK_FOLLOW));
}

Result<KernelHandle> kernel_handle_of(int descriptor) {
    alignas(file_handle) std::array<unsigned char, sizeof(file_handle) + MAX_HANDLE_SZ> memory{};
    auto* handle = reinterpret_cast<file_handle*>(memory.data());
    handle->handle_bytes = MAX_HANDLE_SZ;
    KernelHandle result;
    if (name_to_handle_at(descriptor, "", handle, &result.mount, AT_EMPTY_PATH) != 0)
        return errno_error();
    result.type = handle->handle_type;
    result.bytes.assign(handle->f_handle, handle->f_handle + handle->handle_bytes);
    return result;
}

Result<UniqueFd> open_kernel_handle(int root, const KernelHandle& kernel_handle) {
    alignas(file_handle) std::array<unsigned char, sizeof(file_handle) + MAX_HANDLE_SZ> memory{};
    auto* handle = reinterpret_cast<file_handle*>(memory.data());
    handle->handle_bytes = static_cast<unsigned>(kernel_handle.bytes.size());
    handle->handle_type = kernel_handle.type;
    std::memcpy(handle->f_handle, kernel_handle.bytes.data(), kernel_handle.bytes.size());
    // An O_PATH descriptor does not name the mount; one that can be read does.
    REMOFILE_TRY(mount, open_for_io(root, S_IFDIR, O_RDONLY | O_DIRECTORY));
    UniqueFd opened(open_by_handle_at(mount.get(), handle, O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!opened)
        return errno_error();
    return opened;
}

}  // namespace remofile::server
