// SPDX-License-Identifier: MIT
#include "remofs/program/remount.hpp"

#include <linux/limits.h>
#include <sys/mount.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "base/log.hpp"
#include "remofs/kernel/mountpoint.hpp"
#include "remofs/operations/mount.hpp"

namespace remofile::remofs {
namespace {

struct Row {
    std::string_view name;
    unsigned long set;
    unsigned long cleared;
};
// mount(2) takes away what is not said again; "sync" is here for that alone.
constexpr auto rows = std::to_array<Row>({{"ro", MS_RDONLY, 0},
                                          {"rw", 0, MS_RDONLY},
                                          {"dev", 0, MS_NODEV},
                                          {"nodev", MS_NODEV, 0},
                                          {"suid", 0, MS_NOSUID},
                                          {"nosuid", MS_NOSUID, 0},
                                          {"exec", 0, MS_NOEXEC},
                                          {"noexec", MS_NOEXEC, 0},
                                          {"atime", MS_RELATIME, MS_NOATIME},
                                          {"noatime", MS_NOATIME, MS_RELATIME},
                                          {"sync", MS_SYNCHRONOUS, 0}});

unsigned long with_option(unsigned long flags, std::string_view option) {
    const auto* row = std::ranges::find(rows, option, &Row::name);
    return row == rows.end() ? flags : (flags & ~row->cleared) | row->set;
}

unsigned long flags_of(const MountEntry& mount) {
    unsigned long flags = 0;
    for (const std::string& option : split_options(mount.options))
        if (option != "rw")  // said of the mount and of the file system, and "ro" of either counts
            flags = with_option(flags, option);
    return flags;
}

// What its driver says. Errors: of getxattr(2).
Result<std::vector<std::string>> lasting_options_of(const std::string& mountpoint) {
    std::string value(XATTR_SIZE_MAX, '\0');
    const ssize_t size = ::getxattr(mountpoint.c_str(), Mount::options_attribute.data(), value.data(), value.size());
    if (size < 0)
        return from_errno(errno);
    value.resize(static_cast<std::size_t>(size));
    return split_options(value);
}

// Whether the driver can go on with what is asked of it: `others`, of its options, and writing, if that is new.
Result<> check_with_driver(const std::string& mountpoint, std::vector<std::string> others, bool becomes_writable) {
    const auto lasting = lasting_options_of(mountpoint);
    if (!lasting)
        return make_error(lasting.status(), fmt::format("cannot ask the mount at {} for its options: {}", mountpoint,
                                                        describe(lasting.status())));
    std::erase_if(others, [&](const std::string& option) { return std::ranges::count(*lasting, option) != 0; });
    // Its session is for reading alone.
    if (becomes_writable && std::ranges::count(*lasting, "ro") != 0)
        others.emplace_back("ro, as which it was mounted");
    if (others.empty())
        return {};
    return make_error(Status::not_supported, fmt::format("remount cannot change {}: unmount {} and mount it again",
                                                         others.front(), mountpoint));
}

}  // namespace

Result<> remount(const Options& options) {
    const std::string mountpoint = absolute_path(options.mountpoint);
    const auto mount = find_mount(mountpoint);
    if (!mount || mount->type != file_system_type)
        return make_error(Status::no_entry,
                          fmt::format("{} is no mountpoint of remofs, so there is nothing to change", mountpoint));
    const unsigned long flags_now = flags_of(*mount);
    unsigned long flags = flags_now;
    for (const std::string& option : options.kernel_options)
        flags = with_option(flags, option);
    std::vector<std::string> others = options.lasting_options;
    const auto shown = split_options(mount->options);
    std::erase_if(others, [&](const std::string& option) { return std::ranges::count(shown, option) != 0; });
    const bool becomes_writable = (flags_now & ~flags & MS_RDONLY) != 0;
    if (!others.empty() || becomes_writable)
        REMOFILE_CHECK(check_with_driver(mountpoint, std::move(others), becomes_writable));
    if (::mount(mount->source.c_str(), mountpoint.c_str(), nullptr, MS_REMOUNT | flags, nullptr) == 0)
        return {};
    const bool has_writers = errno == EBUSY && (flags & MS_RDONLY) != 0;
    return errno_error(fmt::format("cannot change the mount at {}: {}", mountpoint,
                                   has_writers ? "files are open for writing there" : describe(from_errno(errno))));
}

}  // namespace remofile::remofs
