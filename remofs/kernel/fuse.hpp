// SPDX-License-Identifier: MIT
// libfuse's low-level interface, and the one place that knows how its versions differ: 3.14 (Debian 12) to 3.17
// (Debian 13).
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <cstdint>

namespace remofile::remofs {

// Asks the kernel for a capability if it has it; says whether it does.
inline bool want_capability(fuse_conn_info* connection, std::uint64_t flag) {
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
    return fuse_set_feature_flag(connection, flag);
#else
    if ((connection->capable & flag) == 0)
        return false;
    connection->want |= static_cast<unsigned>(flag);
    return true;
#endif
}

inline void refuse_capability(fuse_conn_info* connection, std::uint64_t flag) {
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
    fuse_unset_feature_flag(connection, flag);
#else
    connection->want &= ~static_cast<unsigned>(flag);
#endif
}

}  // namespace remofile::remofs
