/* SPDX-License-Identifier: MIT */
/* Preloaded into a program, makes each of its listings wait until there is a file of the name that LISTING_ALLOWED
 * gives: a disk that takes its time. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

DIR* opendir(const char* name) {
    const char* allowed = getenv("LISTING_ALLOWED");
    while (allowed != NULL && access(allowed, F_OK) != 0)
        usleep(10000);
    /* ISO C knows no conversion to a pointer to a function. */
    DIR* (*real)(const char*) = NULL;
    *(void**)&real = dlsym(RTLD_NEXT, "opendir");
    return real(name);
}
