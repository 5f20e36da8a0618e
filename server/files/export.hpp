// SPDX-License-Identifier: MIT
// The one place where a name becomes a file.
//
// Every function takes a descriptor of a directory that is held open and one name that EntryName has checked: a single
// component, neither "." nor "..", without "/" or zero byte. Nothing here follows a symlink and nothing resolves "..",
// so whatever is reached from the export's root lies below it at that moment, however directories are renamed
// meanwhile. A directory that somebody on the server moves out of the export while a session knows it stays reachable
// for that session, as a process keeps its working directory; a client itself can only move things between
// directories of the export.
//
// File systems mounted below the export are part of it.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "wire/messages.hpp"

namespace remofile::server {

// A name that a client sent, checked. Bytes that are not UTF-8 are as good as any.
class EntryName {
public:
    // Errors: invalid (empty, ".", "..", with "/" or a zero byte), name_too_long, no_entry (reserved).
    static Result<EntryName> check(std::string name);
    // The same of a name that shall be given to something: not_permitted if it is reserved.
    static Result<EntryName> check_new(std::string name);

    // Reserved names are those of the servers' hidden directories (hidden_directory.hpp): of what they lend, and of
    // what they keep. No client gets to see them, in whatever directory.
    enum class Reserved : std::uint8_t { lent, kept };
    static bool is_reserved(std::string_view name);
    static EntryName reserved(Reserved what, std::uint64_t number);
    // None if the name is not reserved for that.
    static std::optional<EntryName> as_reserved(Reserved what, std::string name);

    const std::string& text() const { return text_; }
    const char* c_str() const { return text_.c_str(); }

private:
    explicit EntryName(std::string text) : text_(std::move(text)) {}
    std::string text_;
};

// A descriptor that its inode and the requests at work on it share: it is closed when the last of them is done, so an
// eviction never takes it from under a request.
using Descriptor = std::shared_ptr<const UniqueFd>;

// The path by which the kernel finds the file behind one of our own descriptors: "/proc/self/fd/N".
//
// This is a magic link, which lookups never follow. Here it is safe because the number is ours and not a client's, the
// descriptor was opened by the functions below, and the kernel jumps to the very inode that the descriptor refers to
// without looking at any name; the inode's permissions are checked as ever. If that inode is a symlink, the
// jump ends at the symlink itself.
class DescriptorPath {
public:
    explicit DescriptorPath(int descriptor);
    const char* c_str() const { return text_.data(); }

private:
    std::array<char, 32> text_{};
};

// Whether the directory that a descriptor was opened on has been removed since.
bool is_removed(int directory);
// A number of the mount that the descriptor was opened through. Errors: not_supported (before Linux 5.8).
Result<std::uint64_t> mount_of(int descriptor);

// Opens the root of an export: the only path given by whoever runs the server, followed as any path is. Errors:
// no_entry, not_directory, access_denied, not_supported (no openat2(2), or /proc is not mounted); the message names the
// directory.
Result<UniqueFd> open_export_root(const std::string& directory);

// Attributes less the version, which Inode::stamp adds: of it only version_is_fresh is there, by the clock of this
// machine.
Result<wire::Attributes> stat_descriptor(int descriptor);
// Of the entry itself if it is a symlink.
Result<wire::Attributes> stat_entry(int directory, const EntryName& name);
// Of a symlink; name_too_long beyond max_path_bytes.
Result<std::string> read_symlink_entry(int directory, const EntryName& name);

// An O_PATH descriptor of the entry, whatever it is. Needs the permission to search the directory, nothing else.
Result<UniqueFd> open_entry(int directory, const EntryName& name);

// Makes a regular file that was not there and opens it. `flags`: access mode, O_APPEND, O_SYNC and the like.
// Error if the name is taken: exists.
Result<UniqueFd> create_entry(int directory, const EntryName& name, int flags, mode_t mode);
// A file without a name in the directory's file system. Errors: not_supported.
Result<UniqueFd> create_unnamed(int directory, int flags, mode_t mode);

// Opens for input and output what an O_PATH descriptor refers to: a regular file or a directory (`type` is its S_IFMT
// bits), never a fifo, socket or device, which could block or have effects of their own: no_device.
// symlink_loop for a symlink.
Result<UniqueFd> open_for_io(int descriptor, mode_t type, int flags);
// One more O_PATH descriptor of what an open descriptor refers to.
Result<UniqueFd> duplicate_as_path(int descriptor);

// What can be done with an O_PATH descriptor, whatever it refers to, a symlink included.
Result<std::string> read_symlink(int descriptor);  // name_too_long beyond max_path_bytes
Result<> check_access(int descriptor, int mask);   // R_OK, W_OK, X_OK, for the effective uid and gid
// What keeps who may write to a directory from changing names in it.
struct Restrictions {
    bool names_are_fixed = false;  // it is immutable, or names are only added
    bool sticky = false;           // they are only their owners', and the directory's
    uid_t owner = 0;
};
Result<Restrictions> restrictions_of(int directory);
// Whether a flag may keep the entry from being changed, removed or renamed (chattr +i, +a), whoever may change the
// directory.
bool may_be_fixed(int directory, const EntryName& name);
Result<> change_owner(int descriptor, uid_t uid, gid_t gid);  // -1: as it is
Result<> change_mode(int descriptor, mode_t mode);
Result<> change_size(int descriptor, off_t size);
Result<> change_times(int descriptor, const std::array<timespec, 2>& times);

Result<> make_node(int directory, const EntryName& name, mode_t mode, dev_t device);
Result<> make_directory(int directory, const EntryName& name, mode_t mode);
Result<> make_symlink(int directory, const EntryName& name, const std::string& target);
Result<> remove_file(int directory, const EntryName& name);
Result<> remove_directory(int directory, const EntryName& name);
// `flags`: RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT. The kernel refuses a whiteout (a character device 0:0)
// to whoever may not make one by mknod(2), and with `invalid` where the file system has none.
Result<> rename_entry(int directory, const EntryName& name, int new_directory, const EntryName& new_name,
                      unsigned flags);
// Gives the file behind an O_PATH descriptor one more name.
Result<> link_entry(int descriptor, int new_directory, const EntryName& new_name);

// What the kernel gives to find a file again without a name (name_to_handle_at(2)). Never comes from a client.
struct KernelHandle {
    int mount = 0;
    int type = 0;
    std::vector<unsigned char> bytes;
};
Result<KernelHandle> kernel_handle_of(int descriptor);
// An O_PATH descriptor. `root` is of the same mount. Needs CAP_DAC_READ_SEARCH. Error where the file is gone: stale.
Result<UniqueFd> open_kernel_handle(int root, const KernelHandle& handle);

}  // namespace remofile::server
