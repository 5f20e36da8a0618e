/* SPDX-License-Identifier: MIT */
/* Preloaded into a program, makes each of its listings below LISTING_OF wait until there is a file of the name that
 * LISTING_ALLOWED gives: a disk that takes its time. Name services list directories too. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

DIR* opendir(const char* name) {
    const char* allowed = getenv("LISTING_ALLOWED");
    const char* held = getenv("LISTING_OF");
    while (allowed != NULL && held != NULL && strncmp(name, held, strlen(held)) == 0 && access(allowed, F_OK) != 0)
        usleep(10000);
    /* ISO C knows no conversion to a pointer to a function. */
    DIR* (*real)(const char*) = NULL;
    *(void**)&real = dlsym(RTLD_NEXT, "opendir");
    return real(name);
}
