/* SPDX-License-Identifier: MIT */
/**
 * @file
 * Files of a Remofile server, for C and for every language that can call C. Needs C99. Link with -lremofile
 * (`pkg-config --cflags --libs remofile`).
 *
 * Results: a function that can fail returns 0 or more when it did its work, and otherwise a negative number: minus one
 * of Linux's errno values, on every platform. remofile_error_message() then has a line for a person. Beside those that
 * the same call on a local file gives, every function may return
 * -EINVAL (22: an argument is NULL that must not be, or makes no sense), -ENOMEM (12),
 * -ESHUTDOWN (108: the session was ended by this side, the server is stopping, or this is a forked process),
 * -ETIMEDOUT (110: no answer within the time of the options), -EHOSTUNREACH (113: no connection),
 * -ESTALE (116: the session was lost, and with it this open file or directory; open it again) and
 * -EIO (5: everything that has no number of its own). No exception leaves a function.
 *
 * Paths: bytes that end with a zero, in no particular encoding. They begin at the path of the source, with or without a
 * leading slash; "." and ".." are taken out by name alone, so that none leads out of it. At most 4095 bytes
 * (-ENAMETOOLONG). Symbolic links are followed within the source's path, and only relative ones (-ELOOP otherwise): the
 * last component too, unless the function says that it does not.
 *
 * Threads: any number of threads may use one client and its files at once, each call on its own; their requests are
 * under way together. A call returns when it is done. Only what takes an object away (remofile_disconnect(),
 * remofile_close(), remofile_closedir()) must be the last call on that object, and remofile_readdir() may be called by
 * one thread at a time on one directory.
 *
 * Ownership: what a function gives out through a pointer is the caller's until it is passed to the function that takes
 * it away. If a function fails, nothing was given out, and the pointer's target is set to NULL. Arguments are only
 * looked at during the call.
 *
 * Processes: a process forked from the one that connected has no session: every call there returns -ESHUTDOWN at once.
 * It may end in any way, and may take objects away, which does not disturb the parent.
 *
 * ABI: this library's soname changes if a declaration here changes incompatibly. Structures that callers make begin
 * with their size, and so can grow; structures that the library fills have fields in reserve, which it sets to 0. All
 * have the same layout on all 64-bit platforms.
 */
#ifndef REMOFILE_REMOFILE_H
#define REMOFILE_REMOFILE_H

#include <stddef.h>
#include <stdint.h>

/** Before a function that the library exports. */
#if defined(__GNUC__)
#define REMOFILE_API __attribute__((visibility("default")))
#else
#define REMOFILE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** A session with a server. */
typedef struct remofile_client remofile_client;
/** An open file. */
typedef struct remofile_file remofile_file;
/** A directory that is being read. */
typedef struct remofile_dir remofile_dir;

/** The version of the library that runs, "MAJOR.MINOR.PATCH". Never freed. */
REMOFILE_API const char* remofile_version(void);

/**
 * One line about this thread's latest call that failed; "" if none did. Never NULL. UTF-8 wherever the names in it are.
 * Valid until this thread calls another function of the library.
 */
REMOFILE_API const char* remofile_error_message(void);

/* ------------------------------------------------------------------------------------------------ the session */

/** Bits of remofile_options.flags. */
enum remofile_connect_flag {
    REMOFILE_INSECURE = 1 << 0,  /**< Plain text, without keys: for a server told the same. */
    REMOFILE_EXCLUSIVE = 1 << 1, /**< Nobody else uses the server meanwhile; -EBUSY if somebody does. */
    REMOFILE_READ_ONLY = 1 << 2  /**< Whatever would change something answers -EROFS. */
};

/**
 * How to connect. Make one with REMOFILE_OPTIONS_INIT, or set all bytes to 0 and then `size`. 0 and NULL stand for "not
 * given": what is missing is found as the other programs of Remofile do, in the configuration directory
 * (REMOFILE_CONFIG_DIR, or /etc/remofile for root, or ~/.config/remofile).
 */
struct remofile_options {
    uint32_t size;          /**< sizeof(struct remofile_options), as the caller knows it. */
    uint32_t flags;         /**< Of enum remofile_connect_flag; -EINVAL for others. */
    const char* server_key; /**< The server's public key, or the file that holds it. */
    const char* identity;   /**< File of this client's secret key. */
    const char* token_file; /**< File of the token. */
    const char* token;      /**< The token itself, where no file is given. */
    uint32_t timeout_ms;    /**< For the answer to one request, and for connecting (at most 10 s there). 0: 30,000. */
    int32_t compression;    /**< 0: by the link's speed. -1: never. 1 to 12: always, at that level. */
};

/** The value of a new struct remofile_options. */
#define REMOFILE_OPTIONS_INIT \
    { sizeof(struct remofile_options), 0, NULL, NULL, NULL, NULL, 0, 0 }

/**
 * Connects, and waits for that. `source` is HOST[:PORT]:/PATH, remofile://HOST[:PORT]/PATH or remofile+ipc:///SOCKET.
 * `options` may be NULL. The session has threads of its own, which take no signals; a lost connection is made anew
 * behind the scenes.
 *
 * Errors: -EINVAL (source or options), -EHOSTUNREACH (no server answers there), -EACCES (the server does not know this
 * client's key, or the token is wrong), -EBUSY (others hold the server), -EKEYREJECTED (129: the server did not prove
 * that it holds the expected key, or no key is expected of it yet), -EPROTO (71: another version of the protocol),
 * -ENOENT and -ENOTDIR (the path).
 */
REMOFILE_API int remofile_connect(const char* source, const struct remofile_options* options, remofile_client** client);

/**
 * Ends the session, but leaves the object: every call on it and its files that is under way, and every later one,
 * returns -ESHUTDOWN. May be called at any time, by any thread, more than once. Returns when no call of another thread
 * on the client is under way any more (within a second, whatever the network does). NULL is ignored.
 */
REMOFILE_API void remofile_shutdown(remofile_client* client);

/**
 * As remofile_shutdown(), and takes the client away: the last call on it. Open files and directories stay the
 * caller's; calls on them return -ESHUTDOWN. NULL is ignored.
 */
REMOFILE_API void remofile_disconnect(remofile_client* client);

/* ------------------------------------------------------------------------------------------------ attributes */

/** remofile_timestamp.nanoseconds, as an argument of remofile_utimes(): the server's present time. */
#define REMOFILE_NOW UINT32_C(0x3fffffff)

/** A point in time, since 1970 in UTC. 16 bytes. */
struct remofile_timestamp {
    int64_t seconds;      /**< Negative before 1970. */
    uint32_t nanoseconds; /**< 0 to 999,999,999 */
    uint32_t reserved;    /**< 0 */
};

/** What stat(2) says of a file; the numbers are those of the server. 128 bytes. */
struct remofile_attributes {
    uint64_t inode;                         /**< Number of the file in its file system. */
    uint32_t mode;                          /**< Type and permission bits, with Linux's numbers. */
    uint32_t links;                         /**< How many names it has. */
    uint32_t uid;                           /**< Its owner. */
    uint32_t gid;                           /**< Its group. */
    uint64_t size;                          /**< Bytes. */
    uint64_t blocks;                        /**< 512-byte units. */
    uint32_t block_size;                    /**< Bytes that are good to transfer at once. */
    uint32_t reserved_0;                    /**< 0 */
    struct remofile_timestamp access;       /**< When it was last read, as far as the server keeps account. */
    struct remofile_timestamp modification; /**< When its contents last changed. */
    struct remofile_timestamp change;       /**< When its contents or attributes last changed. */
    uint64_t device;                        /**< Number of the inode's file system; both together tell files apart. */
    uint64_t reserved[3];                   /**< 0 */
};

/** What statvfs(3) says of the server's file system. 88 bytes. */
struct remofile_space {
    uint64_t block_size;       /**< Bytes; the unit of the three that follow. */
    uint64_t blocks;           /**< In all. */
    uint64_t blocks_free;      /**< To root. */
    uint64_t blocks_available; /**< To an ordinary user. */
    uint64_t files;            /**< How many files there may be. */
    uint64_t files_free;       /**< How many more. */
    uint32_t name_max;         /**< Bytes of one name. */
    uint32_t reserved_0;       /**< 0 */
    uint64_t reserved[4];      /**< 0 */
};

/* ------------------------------------------------------------------------------------------------ open files */

/** How to open a file; combine with |. */
enum remofile_open_flag {
    REMOFILE_OPEN_READ = 1 << 0,
    REMOFILE_OPEN_WRITE = 1 << 1,
    REMOFILE_OPEN_APPEND = 1 << 2,    /**< Every write goes to the end of the file. Needs write. */
    REMOFILE_OPEN_CREATE = 1 << 3,    /**< Make the file if it is not there. */
    REMOFILE_OPEN_EXCLUSIVE = 1 << 4, /**< With create: -EEXIST if it is there, even as a symbolic link. */
    REMOFILE_OPEN_TRUNCATE = 1 << 5   /**< Empty the file. Needs write. */
};

/**
 * Opens a file. `flags` are of enum remofile_open_flag, with read, write or both; -EINVAL for others. `mode` is the
 * permission bits of a file that is made, used as they are: there is no umask.
 */
REMOFILE_API int remofile_open(remofile_client* client, const char* path, uint32_t flags, uint32_t mode,
                               remofile_file** file);

/**
 * Reads up to `size` bytes from `offset`, of any size: large ones travel in parts, several under way at once. Returns
 * how many; fewer than asked for only at the end of the file, 0 at or behind it. `buffer` may be NULL only if `size` is
 * 0. -EBADF: not opened to read. After an error the contents of the buffer are undefined.
 */
REMOFILE_API int64_t remofile_pread(remofile_file* file, void* buffer, size_t size, uint64_t offset);

/**
 * Writes all of `data` at `offset` (of a file opened to append: at the end), and returns `size`; or says why not: part
 * of it may then be written. When it returns, the server's kernel has the data; remofile_sync() makes it durable.
 * -EBADF: not opened to write. -EFBIG: beyond the size of any file.
 */
REMOFILE_API int64_t remofile_pwrite(remofile_file* file, const void* data, size_t size, uint64_t offset);

/** Cuts the file to `size` bytes, or extends it with zeros. */
REMOFILE_API int remofile_ftruncate(remofile_file* file, uint64_t size);

/** When it returns 0, the contents survive a loss of power of the server. */
REMOFILE_API int remofile_sync(remofile_file* file);

/** The attributes of an open file, whatever its name is by now. */
REMOFILE_API int remofile_fstat(remofile_file* file, struct remofile_attributes* stat);

/**
 * Closes the file and takes it away in any case; says whether the server kept an error for it. The last call on it: no
 * other thread may be using it.
 */
REMOFILE_API int remofile_close(remofile_file* file);

/* ------------------------------------------------------------------------------------------------ directories */

/** Opens a directory to read its entries. */
REMOFILE_API int remofile_opendir(remofile_client* client, const char* path, remofile_dir** dir);

/**
 * The next entry, in the server's order: returns 1 and sets `*name` to its name, or returns 0 (and sets it to NULL)
 * when there are no more. "." and ".." are left out. `*name` belongs to the directory and is valid until the next call
 * on it. `stat` may be NULL; else it is filled with the attributes of the name itself: symbolic links are not followed.
 * Entries come in portions of many, so that most calls ask nobody. A directory that changes meanwhile may or may not
 * show the change.
 */
REMOFILE_API int remofile_readdir(remofile_dir* dir, const char** name, struct remofile_attributes* stat);

/** The last call on it. NULL is ignored. */
REMOFILE_API void remofile_closedir(remofile_dir* dir);

/* ------------------------------------------------------------------------------------------------ names */

/** The attributes of what a path leads to. */
REMOFILE_API int remofile_stat(remofile_client* client, const char* path, struct remofile_attributes* stat);
/** The attributes of the name itself: a symbolic link is not followed. */
REMOFILE_API int remofile_lstat(remofile_client* client, const char* path, struct remofile_attributes* stat);
/** Makes a directory. `mode` is used as it is: there is no umask. */
REMOFILE_API int remofile_mkdir(remofile_client* client, const char* path, uint32_t mode);
/** Removes an empty directory. -ENOTEMPTY for others. */
REMOFILE_API int remofile_rmdir(remofile_client* client, const char* path);
/** Removes a name that is no directory's; a symbolic link is not followed. */
REMOFILE_API int remofile_unlink(remofile_client* client, const char* path);

/** Bits of remofile_rename()'s flags. */
enum remofile_rename_flag {
    REMOFILE_RENAME_NOREPLACE = 1 << 0 /**< -EEXIST if the new name is there. */
};

/** What `to` names is replaced, as rename(2) does. Symbolic links are not followed. `flags`: remofile_rename_flag. */
REMOFILE_API int remofile_rename(remofile_client* client, const char* from, const char* to, uint32_t flags);

/** Makes a symbolic link at `path` that says `target`, whatever that is. */
REMOFILE_API int remofile_symlink(remofile_client* client, const char* target, const char* path);

/** A buffer of so many bytes holds the target of any symbolic link, and its final zero. */
#define REMOFILE_TARGET_SIZE 4096

/**
 * Stores what a symbolic link says, with a final zero, in `buffer` of `size` bytes; returns its length without the
 * zero, or -ERANGE if it does not fit. -EINVAL: no symbolic link.
 */
REMOFILE_API int64_t remofile_readlink(remofile_client* client, const char* path, char* buffer, size_t size);

/** Gives the file `from` the further name `to`; a symbolic link is not followed. */
REMOFILE_API int remofile_link(remofile_client* client, const char* from, const char* to);

/** Sets the permission bits; others of `mode` are ignored. */
REMOFILE_API int remofile_chmod(remofile_client* client, const char* path, uint32_t mode);

/** As uid or gid of remofile_chown(): it stays as it is. */
#define REMOFILE_KEEP UINT32_C(0xffffffff)

/** Sets the owner and the group. */
REMOFILE_API int remofile_chown(remofile_client* client, const char* path, uint32_t uid, uint32_t gid);

/** Sets the times of access and modification; NULL: it stays as it is. */
REMOFILE_API int remofile_utimes(remofile_client* client, const char* path, const struct remofile_timestamp* access,
                                 const struct remofile_timestamp* modification);

/** As remofile_ftruncate(). */
REMOFILE_API int remofile_truncate(remofile_client* client, const char* path, uint64_t size);

/** Of the file system that the path is on. */
REMOFILE_API int remofile_statfs(remofile_client* client, const char* path, struct remofile_space* statfs);

#ifdef __cplusplus
}
#endif

#endif
