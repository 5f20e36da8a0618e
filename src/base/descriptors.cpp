// SPDX-License-Identifier: MIT
#include "base/descriptors.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.hpp"

namespace remofile {
namespace {

// ZeroMQ's threads, a few connections and their monitors, and some files.
constexpr rlim_t least_descriptors = 64;

}  // namespace

void open_standard_descriptors() {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        // The lowest number that is free is this one: those below are open by now.
        if (::fcntl(fd, F_GETFD) < 0)
            (void)!::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    }
}

Result<> raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return {};
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < least_descriptors)
        return make_error(Status::limit_exceeded,
                          fmt::format("the limit of open files is {}, and at least {} are needed (ulimit -n)",
                                      limit.rlim_max, least_descriptors));
    return {};
}

}  // namespace remofile
