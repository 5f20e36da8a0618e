// SPDX-License-Identifier: MIT
// What the kernel can ask for, as libfuse's table lists it. Each function starts a coroutine that asks the server and
// replies when its answer is there. They are grouped by meaning into files.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "remofs/kernel/fuse.hpp"

namespace remofile::remofs {

const fuse_lowlevel_ops& operations();

// names.cpp
void op_lookup(fuse_req_t request, fuse_ino_t parent, const char* name);
void op_forget(fuse_req_t request, fuse_ino_t inode, std::uint64_t count);
void op_forget_multi(fuse_req_t request, std::size_t count, fuse_forget_data* forgets);
void op_readlink(fuse_req_t request, fuse_ino_t inode);
void op_mknod(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, dev_t device);
void op_mkdir(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode);
void op_unlink(fuse_req_t request, fuse_ino_t parent, const char* name);
void op_rmdir(fuse_req_t request, fuse_ino_t parent, const char* name);
void op_symlink(fuse_req_t request, const char* target, fuse_ino_t parent, const char* name);
void op_rename(fuse_req_t request, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
               unsigned flags);
void op_link(fuse_req_t request, fuse_ino_t inode, fuse_ino_t new_parent, const char* new_name);

// attributes.cpp
void op_getattr(fuse_req_t request, fuse_ino_t inode, fuse_file_info* file);
void op_setattr(fuse_req_t request, fuse_ino_t inode, struct stat* attributes, int which, fuse_file_info* file);
void op_access(fuse_req_t request, fuse_ino_t inode, int mask);
void op_statfs(fuse_req_t request, fuse_ino_t inode);

// files.cpp
void op_open(fuse_req_t request, fuse_ino_t inode, fuse_file_info* file);
void op_create(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* file);
void op_release(fuse_req_t request, fuse_ino_t inode, fuse_file_info* file);

// data.cpp
void op_read(fuse_req_t request, fuse_ino_t inode, std::size_t size, off_t offset, fuse_file_info* file);
void op_write(fuse_req_t request, fuse_ino_t inode, const char* data, std::size_t size, off_t offset,
              fuse_file_info* file);
void op_flush(fuse_req_t request, fuse_ino_t inode, fuse_file_info* file);
void op_fsync(fuse_req_t request, fuse_ino_t inode, int data_only, fuse_file_info* file);
void op_fallocate(fuse_req_t request, fuse_ino_t inode, int mode, off_t offset, off_t length, fuse_file_info* file);
void op_lseek(fuse_req_t request, fuse_ino_t inode, off_t offset, int whence, fuse_file_info* file);
void op_copy_file_range(fuse_req_t request, fuse_ino_t from_inode, off_t from_offset, fuse_file_info* from,
                        fuse_ino_t to_inode, off_t to_offset, fuse_file_info* to, std::size_t size, int flags);

// directories.cpp
void op_opendir(fuse_req_t request, fuse_ino_t inode, fuse_file_info* file);
void op_readdir(fuse_req_t request, fuse_ino_t inode, std::size_t size, off_t offset, fuse_file_info* file);
void op_readdirplus(fuse_req_t request, fuse_ino_t inode, std::size_t size, off_t offset, fuse_file_info* file);
void op_releasedir(fuse_req_t request, fuse_ino_t inode, fuse_file_info* file);
void op_fsyncdir(fuse_req_t request, fuse_ino_t inode, int data_only, fuse_file_info* file);

// xattrs.cpp
void op_getxattr(fuse_req_t request, fuse_ino_t inode, const char* name, std::size_t size);
void op_setxattr(fuse_req_t request, fuse_ino_t inode, const char* name, const char* value, std::size_t size,
                 int flags);
void op_listxattr(fuse_req_t request, fuse_ino_t inode, std::size_t size);
void op_removexattr(fuse_req_t request, fuse_ino_t inode, const char* name);

// locks.cpp
void op_getlk(fuse_req_t request, fuse_ino_t inode, fuse_file_info* file, struct flock* lock);
void op_setlk(fuse_req_t request, fuse_ino_t inode, fuse_file_info* file, struct flock* lock, int wait);
void op_flock(fuse_req_t request, fuse_ino_t inode, fuse_file_info* file, int operation);

}  // namespace remofile::remofs
