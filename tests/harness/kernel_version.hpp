// SPDX-License-Identifier: MIT
#pragma once

#include <sys/utsname.h>

#include <cstdio>

namespace remofile::test {

// For what only newer kernels ask of a FUSE file system.
inline bool kernel_is_at_least(int major, int minor) {
    utsname names = {};
    int running_major = 0;
    int running_minor = 0;
    if (uname(&names) != 0 || std::sscanf(names.release, "%d.%d", &running_major, &running_minor) != 2)
        return false;
    return running_major != major ? running_major > major : running_minor >= minor;
}

}  // namespace remofile::test
