// SPDX-License-Identifier: MIT
#include "remofs/operations.hpp"

#include "remofs/mount.hpp"

namespace remofile::remofs {
namespace {

void op_init(void* mount, fuse_conn_info* connection) {
    static_cast<Mount*>(mount)->on_init(connection);
}

// What is missing here the kernel does by itself, or refuses: poll(2) reports every file as ready, ioctl(2) fails with
// ENOTTY, FIBMAP is not supported.
constexpr fuse_lowlevel_ops table = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .symlink = op_symlink,
    .rename = op_rename,
    .link = op_link,
    .open = op_open,
    .read = op_read,
    .write = op_write,
    .flush = op_flush,
    .release = op_release,
    .fsync = op_fsync,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .releasedir = op_releasedir,
    .fsyncdir = op_fsyncdir,
    .statfs = op_statfs,
    .setxattr = op_setxattr,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
    .removexattr = op_removexattr,
    .access = op_access,
    .create = op_create,
    .getlk = op_getlk,
    .setlk = op_setlk,
    .forget_multi = op_forget_multi,
    .flock = op_flock,
    .fallocate = op_fallocate,
    .readdirplus = op_readdirplus,
    .copy_file_range = op_copy_file_range,
    .lseek = op_lseek,
#if REMOFS_HAS_TMPFILE
    .tmpfile = op_tmpfile,
#endif
};

}  // namespace

const fuse_lowlevel_ops& operations() {
    return table;
}

}  // namespace remofile::remofs
