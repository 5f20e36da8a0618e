// SPDX-License-Identifier: MIT
#include "remofs/operations/operations.hpp"

#include "base/exception.hpp"
#include "remofs/operations/mount.hpp"

namespace remofile::remofs {
namespace {

void op_init(void* mount, fuse_conn_info* connection) {
    static_cast<Mount*>(mount)->on_init(connection);
}

// libfuse is C: no exception passes it. What one keeps from being answered the Request answers when it goes.
template <auto operation>
struct Bounded;
template <class... Arguments, void (*operation)(fuse_req_t, Arguments...)>
struct Bounded<operation> {
    static void call(fuse_req_t request, Arguments... arguments) {
        try {
            operation(request, arguments...);
        } catch (...) {
            status_of_exception("a request of the kernel");
        }
    }
};

// What is missing here the kernel does by itself, or refuses: poll(2) reports every file as ready, ioctl(2) fails with
// ENOTTY, FIBMAP is not supported. What libfuse does not know, in some version, comes as something that it does know
// (make_familiar): O_TMPFILE by create, statx by getattr.
constexpr fuse_lowlevel_ops table = {
    .init = op_init,
    .lookup = Bounded<op_lookup>::call,
    .forget = Bounded<op_forget>::call,
    .getattr = Bounded<op_getattr>::call,
    .setattr = Bounded<op_setattr>::call,
    .readlink = Bounded<op_readlink>::call,
    .mknod = Bounded<op_mknod>::call,
    .mkdir = Bounded<op_mkdir>::call,
    .unlink = Bounded<op_unlink>::call,
    .rmdir = Bounded<op_rmdir>::call,
    .symlink = Bounded<op_symlink>::call,
    .rename = Bounded<op_rename>::call,
    .link = Bounded<op_link>::call,
    .open = Bounded<op_open>::call,
    .read = Bounded<op_read>::call,
    .write = Bounded<op_write>::call,
    .flush = Bounded<op_flush>::call,
    .release = Bounded<op_release>::call,
    .fsync = Bounded<op_fsync>::call,
    .opendir = Bounded<op_opendir>::call,
    .readdir = Bounded<op_readdir>::call,
    .releasedir = Bounded<op_releasedir>::call,
    .fsyncdir = Bounded<op_fsyncdir>::call,
    .statfs = Bounded<op_statfs>::call,
    .setxattr = Bounded<op_setxattr>::call,
    .getxattr = Bounded<op_getxattr>::call,
    .listxattr = Bounded<op_listxattr>::call,
    .removexattr = Bounded<op_removexattr>::call,
    .access = Bounded<op_access>::call,
    .create = Bounded<op_create>::call,
    .getlk = Bounded<op_getlk>::call,
    .setlk = Bounded<op_setlk>::call,
    .forget_multi = Bounded<op_forget_multi>::call,
    .flock = Bounded<op_flock>::call,
    .fallocate = Bounded<op_fallocate>::call,
    .readdirplus = Bounded<op_readdirplus>::call,
    .copy_file_range = Bounded<op_copy_file_range>::call,
    .lseek = Bounded<op_lseek>::call,
};

}  // namespace

const fuse_lowlevel_ops& operations() {
    return table;
}

}  // namespace remofile::remofs
