/* SPDX-License-Identifier: MIT */
/* The C interface, from C. Arguments: the SOURCE of an empty export that this program may write to. */
/* S_IFMT and its like, which C itself does not have. */
#define _XOPEN_SOURCE 700

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "remofile/remofile.h"

static int faults = 0;

#define EXPECT(is, expected)                                                                                         \
    do {                                                                                                             \
        const int64_t value = (is);                                                                                  \
        if (value != (int64_t)(expected)) {                                                                          \
            fprintf(stderr, "%s:%d: %s is %" PRId64 ", expected %" PRId64 " (%s)\n", __FILE__, __LINE__, #is, value, \
                    (int64_t)(expected), remofile_error_message());                                                  \
            ++faults;                                                                                                \
        }                                                                                                            \
    } while (0)

_Static_assert(sizeof(struct remofile_options) == 48, "layout");
_Static_assert(offsetof(struct remofile_options, server_key) == 8, "layout");
_Static_assert(offsetof(struct remofile_options, timeout_ms) == 40, "layout");
_Static_assert(sizeof(struct remofile_timestamp) == 16, "layout");
_Static_assert(sizeof(struct remofile_attributes) == 128, "layout");
_Static_assert(offsetof(struct remofile_attributes, size) == 24, "layout");
_Static_assert(offsetof(struct remofile_attributes, access) == 48, "layout");
_Static_assert(offsetof(struct remofile_attributes, change) == 80, "layout");
_Static_assert(sizeof(struct remofile_space) == 88, "layout");
_Static_assert(offsetof(struct remofile_space, name_max) == 48, "layout");

static void use_a_file(remofile_client* client) {
    remofile_file* file = NULL;
    EXPECT(remofile_open(client, "file",
                         REMOFILE_OPEN_READ | REMOFILE_OPEN_WRITE | REMOFILE_OPEN_CREATE | REMOFILE_OPEN_EXCLUSIVE,
                         0640, &file),
           0);
    EXPECT(remofile_pwrite(file, "some bytes", 10, 3), 10);
    EXPECT(remofile_pwrite(file, NULL, 0, 3), 0);
    EXPECT(remofile_sync(file), 0);
    char buffer[32];
    EXPECT(remofile_pread(file, buffer, sizeof buffer, 3), 10);
    EXPECT(memcmp(buffer, "some bytes", 10), 0);
    EXPECT(remofile_pread(file, buffer, sizeof buffer, 13), 0);
    EXPECT(remofile_pread(file, buffer, sizeof buffer, UINT64_MAX), -EINVAL);
    EXPECT(remofile_pwrite(file, buffer, 1, INT64_MAX), -EFBIG);
    EXPECT(remofile_ftruncate(file, 5), 0);
    EXPECT(remofile_ftruncate(file, UINT64_MAX) < 0, 1);
    struct remofile_attributes stat;
    memset(&stat, 0xff, sizeof stat);
    EXPECT(remofile_fstat(file, &stat), 0);
    EXPECT(stat.size, 5);
    EXPECT(stat.mode, S_IFREG | 0640);
    EXPECT(stat.links, 1);
    EXPECT(stat.reserved_0 | stat.reserved[0] | stat.reserved[2] | stat.access.reserved, 0);
    EXPECT(remofile_close(file), 0);

    EXPECT(remofile_open(client, "file", REMOFILE_OPEN_READ, 0, &file), 0);
    EXPECT(remofile_pwrite(file, "x", 1, 0), -EBADF);
    EXPECT(strlen(remofile_error_message()) > 0, 1);
    EXPECT(remofile_close(file), 0);
}

static void use_names(remofile_client* client) {
    EXPECT(remofile_mkdir(client, "directory", 0750), 0);
    EXPECT(remofile_mkdir(client, "directory", 0750), -EEXIST);
    EXPECT(remofile_symlink(client, "directory/../file", "link"), 0);
    char target[REMOFILE_TARGET_SIZE];
    EXPECT(remofile_readlink(client, "link", target, sizeof target), 17);
    EXPECT(strcmp(target, "directory/../file"), 0);
    EXPECT(remofile_readlink(client, "link", target, 18), 17);
    EXPECT(remofile_readlink(client, "link", target, 17), -ERANGE);
    EXPECT(remofile_readlink(client, "file", target, sizeof target), -EINVAL);

    struct remofile_attributes stat;
    EXPECT(remofile_stat(client, "/link", &stat), 0);
    EXPECT(stat.mode & S_IFMT, S_IFREG);
    EXPECT(remofile_lstat(client, "/link", &stat), 0);
    EXPECT(stat.mode & S_IFMT, S_IFLNK);
    EXPECT(remofile_stat(client, "missing", &stat), -ENOENT);
    EXPECT(strstr(remofile_error_message(), "missing") != NULL, 1);

    EXPECT(remofile_link(client, "file", "second"), 0);
    EXPECT(remofile_rename(client, "second", "link", REMOFILE_RENAME_NOREPLACE), -EEXIST);
    EXPECT(remofile_rename(client, "second", "directory/third", 0), 0);
    EXPECT(remofile_rmdir(client, "directory"), -ENOTEMPTY);
    EXPECT(remofile_chmod(client, "directory/third", 0600), 0);
    EXPECT(remofile_chown(client, "directory/third", REMOFILE_KEEP, REMOFILE_KEEP), 0);
    EXPECT(remofile_truncate(client, "directory/third", 77), 0);
    const struct remofile_timestamp then = {1000000000, 5, 0};
    const struct remofile_timestamp now = {0, REMOFILE_NOW, 0};
    const struct remofile_timestamp never = {0, 1000000000, 0};
    EXPECT(remofile_utimes(client, "directory/third", &now, &then), 0);
    EXPECT(remofile_utimes(client, "directory/third", &never, NULL), -EINVAL);
    EXPECT(remofile_utimes(client, "directory/third", NULL, NULL), 0);
    EXPECT(remofile_stat(client, "directory/third", &stat), 0);
    EXPECT(stat.mode, S_IFREG | 0600);
    EXPECT(stat.size, 77);
    EXPECT(stat.modification.seconds, 1000000000);
    EXPECT(stat.modification.nanoseconds, 5);
    EXPECT(stat.access.seconds > 1700000000, 1);

    struct remofile_space statfs;
    memset(&statfs, 0xff, sizeof statfs);
    EXPECT(remofile_statfs(client, "/", &statfs), 0);
    EXPECT(statfs.name_max, 255);
    EXPECT(statfs.reserved[3], 0);
}

static void read_directories(remofile_client* client) {
    remofile_dir* dir = NULL;
    EXPECT(remofile_opendir(client, "/", &dir), 0);
    const char* name = NULL;
    struct remofile_attributes stat;
    int seen = 0;
    while (remofile_readdir(dir, &name, &stat) == 1) {
        if (strcmp(name, "file") == 0)
            seen += S_ISREG(stat.mode) ? 1 : 1000;
        else if (strcmp(name, "link") == 0)
            seen += S_ISLNK(stat.mode) ? 10 : 1000;
        else if (strcmp(name, "directory") == 0)
            seen += S_ISDIR(stat.mode) ? 100 : 1000;
        else
            seen += 1000;
    }
    EXPECT(seen, 111);
    EXPECT(name == NULL, 1);
    EXPECT(remofile_readdir(dir, &name, NULL), 0);
    remofile_closedir(dir);
    EXPECT(remofile_opendir(client, "file", &dir), -ENOTDIR);
    EXPECT(dir == NULL, 1);

    EXPECT(remofile_unlink(client, "directory/third"), 0);
    EXPECT(remofile_unlink(client, "directory"), -EISDIR);
    EXPECT(remofile_opendir(client, "directory", &dir), 0);
    EXPECT(remofile_readdir(dir, &name, NULL), 0);
    remofile_closedir(dir);
    EXPECT(remofile_rmdir(client, "directory"), 0);
}

static void pass_nonsense(const char* source, remofile_client* client) {
    struct remofile_options options = REMOFILE_OPTIONS_INIT;
    struct remofile_attributes stat;
    struct remofile_space statfs;
    remofile_client* none = client;
    remofile_file* file = NULL;
    remofile_dir* dir = NULL;
    const char* name = NULL;
    char buffer[8];

    EXPECT(remofile_connect(NULL, NULL, &none), -EINVAL);
    EXPECT(none == NULL, 1);
    EXPECT(remofile_connect(source, NULL, NULL), -EINVAL);
    EXPECT(remofile_connect("nonsense", NULL, &none), -EINVAL);
    EXPECT(remofile_connect("", &options, &none), -EINVAL);
    options.size = 8;
    EXPECT(remofile_connect(source, &options, &none), -EINVAL);
    options.size = UINT32_MAX;
    EXPECT(remofile_connect(source, &options, &none), -EINVAL);
    options.size = sizeof options;
    options.flags = 1U << 30;
    EXPECT(remofile_connect(source, &options, &none), -EINVAL);
    options.flags = 0;
    options.compression = 13;
    EXPECT(remofile_connect(source, &options, &none), -EINVAL);
    options.compression = -2;
    EXPECT(remofile_connect(source, &options, &none), -EINVAL);

    EXPECT(remofile_open(NULL, "file", REMOFILE_OPEN_READ, 0, &file), -EINVAL);
    EXPECT(remofile_open(client, NULL, REMOFILE_OPEN_READ, 0, &file), -EINVAL);
    EXPECT(remofile_open(client, "file", REMOFILE_OPEN_READ, 0, NULL), -EINVAL);
    EXPECT(remofile_open(client, "file", 0, 0, &file), -EINVAL);
    EXPECT(remofile_open(client, "file", REMOFILE_OPEN_READ | 1U << 20, 0, &file), -EINVAL);
    EXPECT(remofile_open(client, "file", REMOFILE_OPEN_READ | REMOFILE_OPEN_TRUNCATE, 0, &file), -EINVAL);
    EXPECT(remofile_open(client, "file", REMOFILE_OPEN_READ | REMOFILE_OPEN_EXCLUSIVE, 0, &file), -EINVAL);
    EXPECT(remofile_open(client, "/", REMOFILE_OPEN_WRITE, 0, &file), -EISDIR);
    EXPECT(file == NULL, 1);
    EXPECT(remofile_pread(NULL, buffer, 1, 0), -EINVAL);
    EXPECT(remofile_pwrite(NULL, buffer, 1, 0), -EINVAL);
    EXPECT(remofile_ftruncate(NULL, 0), -EINVAL);
    EXPECT(remofile_sync(NULL), -EINVAL);
    EXPECT(remofile_fstat(NULL, &stat), -EINVAL);
    EXPECT(remofile_close(NULL), -EINVAL);
    EXPECT(remofile_open(client, "file", REMOFILE_OPEN_READ | REMOFILE_OPEN_WRITE, 0, &file), 0);
    EXPECT(remofile_pread(file, NULL, 1, 0), -EINVAL);
    EXPECT(remofile_pwrite(file, NULL, 1, 0), -EINVAL);
    EXPECT(remofile_fstat(file, NULL), -EINVAL);
    EXPECT(remofile_close(file), 0);
    EXPECT(remofile_opendir(NULL, "/", &dir), -EINVAL);
    EXPECT(remofile_opendir(client, NULL, &dir), -EINVAL);
    EXPECT(remofile_opendir(client, "/", NULL), -EINVAL);
    EXPECT(remofile_readdir(NULL, &name, NULL), -EINVAL);
    EXPECT(remofile_stat(NULL, "file", &stat), -EINVAL);
    EXPECT(remofile_stat(client, NULL, &stat), -EINVAL);
    EXPECT(remofile_stat(client, "file", NULL), -EINVAL);
    EXPECT(remofile_lstat(client, "file", NULL), -EINVAL);
    EXPECT(remofile_mkdir(NULL, "a", 0), -EINVAL);
    EXPECT(remofile_rmdir(client, NULL), -EINVAL);
    EXPECT(remofile_unlink(client, NULL), -EINVAL);
    EXPECT(remofile_rename(client, NULL, "a", 0), -EINVAL);
    EXPECT(remofile_rename(client, "file", NULL, 0), -EINVAL);
    EXPECT(remofile_rename(client, "file", "a", 8), -EINVAL);
    EXPECT(remofile_symlink(client, NULL, "a"), -EINVAL);
    EXPECT(remofile_readlink(client, "link", NULL, 10), -EINVAL);
    EXPECT(remofile_link(client, "file", NULL), -EINVAL);
    EXPECT(remofile_chmod(client, NULL, 0), -EINVAL);
    EXPECT(remofile_chown(NULL, "file", 0, 0), -EINVAL);
    EXPECT(remofile_utimes(NULL, "file", NULL, NULL), -EINVAL);
    EXPECT(remofile_truncate(NULL, "file", 0), -EINVAL);
    EXPECT(remofile_truncate(client, "file", UINT64_MAX) < 0, 1);
    EXPECT(remofile_statfs(client, "/", NULL), -EINVAL);
    EXPECT(remofile_statfs(NULL, "/", &statfs), -EINVAL);
    remofile_closedir(NULL);
    remofile_shutdown(NULL);
    remofile_disconnect(NULL);
}

/* Options of a caller that knows more of them than this library: accepted as long as they are not used. */
static void connect_from_the_future(const char* source) {
    struct {
        struct remofile_options known;
        uint64_t more[2];
    } options = {REMOFILE_OPTIONS_INIT, {0, 0}};
    remofile_client* client = NULL;
    options.known.size = sizeof options;
    options.known.timeout_ms = 20000;
    EXPECT(remofile_connect(source, &options.known, &client), 0);
    remofile_disconnect(client);
    options.more[1] = 1;
    EXPECT(remofile_connect(source, &options.known, &client), -EINVAL);
}

static void end_the_session(remofile_client* client) {
    remofile_file* file = NULL;
    remofile_dir* dir = NULL;
    struct remofile_attributes stat;
    EXPECT(remofile_open(client, "file", REMOFILE_OPEN_READ, 0, &file), 0);
    EXPECT(remofile_opendir(client, "/", &dir), 0);
    remofile_shutdown(client);
    remofile_shutdown(client);
    EXPECT(remofile_stat(client, "file", &stat), -ESHUTDOWN);
    EXPECT(remofile_fstat(file, &stat), -ESHUTDOWN);
    remofile_disconnect(client);
    EXPECT(remofile_fstat(file, &stat), -ESHUTDOWN);
    EXPECT(remofile_close(file), -ESHUTDOWN);
    remofile_closedir(dir);
}

int main(int argc, char** argv) {
    remofile_client* client = NULL;
    if (argc != 2)
        return 2;
    EXPECT(strcmp(remofile_version(), "") != 0, 1);
    EXPECT(strcmp(remofile_error_message(), ""), 0);
    EXPECT(remofile_connect(argv[1], NULL, &client), 0);
    if (client == NULL)
        return 1;
    use_a_file(client);
    use_names(client);
    read_directories(client);
    pass_nonsense(argv[1], client);
    connect_from_the_future(argv[1]);
    end_the_session(client);
    return faults == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
