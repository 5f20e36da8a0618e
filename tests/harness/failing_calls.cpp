// SPDX-License-Identifier: MIT
// Preloaded into a server: the system calls by which it changes files, some of which fail (failing_disk.hpp).
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/quota.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdlib>

#include "harness/failing_disk.hpp"

using remofile::test::FailingCalls;

namespace {

constexpr long quotactl_fd_number = 443;  // which older headers do not know

FailingCalls* map_calls() {
    const char* path = std::getenv(FailingCalls::variable);
    const int fd = path == nullptr ? -1 : ::open(path, O_RDWR | O_CLOEXEC);
    void* mapped = MAP_FAILED;
    if (fd >= 0)
        mapped = ::mmap(nullptr, sizeof(FailingCalls), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        ::close(fd);
    return mapped == MAP_FAILED ? nullptr : static_cast<FailingCalls*>(mapped);
}

// Before the server confines itself.
FailingCalls* const calls = map_calls();

// The error that a call of that kind gives; 0: it is carried out.
int refusal(FailingCalls::Kind kind) {
    if (calls != nullptr && (calls->slow_kinds & kind) != 0)
        ::usleep(calls->delay_ms * 1'000);
    if (calls == nullptr || (calls->kinds & kind) == 0 || --calls->passing >= 0 || --calls->failing < 0)
        return 0;
    ++calls->failed;
    return calls->error;
}

bool is_refused(FailingCalls::Kind kind) {
    const int error = refusal(kind);
    if (error != 0)
        errno = error;
    return error != 0;
}

bool says_full() {
    return calls != nullptr && calls->says_full;
}

template <class Function>
Function* next(Function*, const char* name) {
    return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

// The function of that name in the C library.
#define NEXT(name)                                         \
    ([] {                                                  \
        static const auto function = next(&(name), #name); \
        return function;                                   \
    }())

extern "C" {

ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t offset) {
    return is_refused(FailingCalls::contents) ? -1 : NEXT(pwrite64)(fd, bytes, size, offset);
}
ssize_t pwritev64v2(int fd, const iovec* parts, int count, off64_t offset, int flags) {
    return is_refused(FailingCalls::contents) ? -1 : NEXT(pwritev64v2)(fd, parts, count, offset, flags);
}
int ftruncate64(int fd, off64_t size) noexcept {
    return is_refused(FailingCalls::contents) ? -1 : NEXT(ftruncate64)(fd, size);
}
int fallocate64(int fd, int mode, off64_t offset, off64_t size) {
    return is_refused(FailingCalls::contents) ? -1 : NEXT(fallocate64)(fd, mode, offset, size);
}
int posix_fallocate64(int fd, off64_t offset, off64_t size) {
    const int error = refusal(FailingCalls::contents);
    return error != 0 ? error : NEXT(posix_fallocate64)(fd, offset, size);
}
ssize_t copy_file_range(int in, off64_t* from, int out, off64_t* to, size_t size, unsigned flags) {
    return is_refused(FailingCalls::contents) ? -1 : NEXT(copy_file_range)(in, from, out, to, size, flags);
}

int mkdirat(int directory, const char* name, mode_t mode) noexcept {
    return is_refused(FailingCalls::making) ? -1 : NEXT(mkdirat)(directory, name, mode);
}
int symlinkat(const char* target, int directory, const char* name) noexcept {
    return is_refused(FailingCalls::making) ? -1 : NEXT(symlinkat)(target, directory, name);
}
int linkat(int from, const char* old_name, int to, const char* name, int flags) noexcept {
    return is_refused(FailingCalls::making) ? -1 : NEXT(linkat)(from, old_name, to, name, flags);
}
int renameat2(int from, const char* old_name, int to, const char* name, unsigned flags) noexcept {
    return is_refused(FailingCalls::making) ? -1 : NEXT(renameat2)(from, old_name, to, name, flags);
}

int fsync(int fd) {
    return is_refused(FailingCalls::syncing) ? -1 : NEXT(fsync)(fd);
}
int fdatasync(int fd) {
    return is_refused(FailingCalls::syncing) ? -1 : NEXT(fdatasync)(fd);
}

int fstatvfs64(int fd, struct statvfs64* statistics) noexcept {
    const int result = NEXT(fstatvfs64)(fd, statistics);
    if (result == 0 && says_full())
        statistics->f_bavail = 0;
    return result;
}

// openat2(2) and quotactl_fd(2) have no functions of their own.
long syscall(long number, ...) noexcept {
    va_list list;
    va_start(list, number);
    long given[6];
    for (long& each : given)
        each = va_arg(list, long);
    va_end(list);
    if (number == SYS_openat2) {
        const auto* how = reinterpret_cast<const open_how*>(given[2]);
        if ((how->flags & O_CREAT) != 0 && is_refused(FailingCalls::making))
            return -1;
    }
    if (number == quotactl_fd_number && says_full()) {
        auto* quota = reinterpret_cast<if_dqblk*>(given[3]);
        *quota = {.dqb_bhardlimit = 1, .dqb_curspace = QIF_DQBLKSIZE, .dqb_valid = QIF_BLIMITS | QIF_SPACE};
        return 0;
    }
    return NEXT(syscall)(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}

}  // extern "C"
