// SPDX-License-Identifier: MIT
// The directory that is mounted on: whether it can be, and taking a mount away again. Nothing here touches a live
// remofs mount's files, which could wait for its server.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace remofile::remofs {

// The file system type as `mount` shows it.
inline constexpr std::string_view file_system_type = "fuse.remofs";

// A line of /proc/self/mountinfo.
struct MountEntry {
    std::string device;  // "MAJOR:MINOR"
    std::string type;
    std::string source;
    std::string options = {};  // of the mount, then of the file system, separated by commas
};

// What is mounted at an absolute path, topmost; none if it is no mountpoint. `mountinfo` is that file's text.
std::optional<MountEntry> find_mount(std::string_view mountinfo, std::string_view path);
std::optional<MountEntry> find_mount(std::string_view path);

// Absolute, without following a symlink in the last place: that could be the root of a mount whose server is away.
std::string absolute_path(const std::string& path);

// Takes the mount of remofs at an absolute path away if its process has died. Errors, naming the path: busy (it is
// alive, or cannot be taken away).
Result<> clear_of_remofs(const std::string& path);

// Checks that `path` is a directory that can be mounted on and returns it absolute, without symlinks. A mount of remofs
// whose process has died is taken away first. Errors, each naming the path: no_entry, not_directory, access_denied,
// busy (remofs is mounted there already, or a dead mount cannot be taken away).
Result<std::string> prepare_mountpoint(const std::string& path);

// Has umount(8) call umount.fuse.remofs for the mount: of those that its table of mounts in /run says nothing of, it
// looks at the first half of the type alone. Only root can, and for other users it asks fusermount3. Runs a program.
Result<> note_for_umount(const std::string& mountpoint, const std::string& source);
// The mount has ended: umount(8) takes its line away, others who unmount do not.
void forget_for_umount(const std::string& mountpoint);

// Unmounts; as an ordinary user by way of fusermount3. `lazy` detaches a mount that is in use. Blocks until dirty pages
// are written. Errors: busy, not_permitted and others of umount(2).
Result<> unmount(const std::string& mountpoint, bool lazy);

// Raises how far the kernel reads ahead on the mount there, which FUSE can only lower: the 128 KiB that it starts from
// keep a link of any delay idle. Needs root; does nothing without.
void raise_kernel_readahead(const std::string& mountpoint);

}  // namespace remofile::remofs
