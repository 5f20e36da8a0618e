// SPDX-License-Identifier: MIT
#include "base/assert.hpp"

#include <cstdlib>

#include "base/log.hpp"

namespace remofile {

void assertion_failed(const char* condition, const char* file, int line) {
    log::error("internal error, please report it: {} does not hold at {}:{}", condition, file, line);
    log::flush();
    std::abort();
}

}  // namespace remofile
