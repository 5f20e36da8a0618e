/* SPDX-License-Identifier: MIT */
/* Preloaded into a program, makes the file system one whose renames cannot tell whether they replace something
 * (REFUSE_RENAME=22, EINVAL, as on NFS), or one that fails otherwise (another number); with REFUSE_LINK, without hard
 * links. */
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int renameat2(int directory, const char* name, int new_directory, const char* new_name, unsigned flags) {
    const char* error = getenv("REFUSE_RENAME");
    if (flags != 0 && error != NULL) {
        errno = atoi(error);
        return -1;
    }
    return (int)syscall(SYS_renameat2, directory, name, new_directory, new_name, flags);
}

int linkat(int directory, const char* name, int new_directory, const char* new_name, int flags) {
    if (getenv("REFUSE_LINK") != NULL) {
        errno = EPERM;
        return -1;
    }
    return (int)syscall(SYS_linkat, directory, name, new_directory, new_name, flags);
}
