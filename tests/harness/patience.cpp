// SPDX-License-Identifier: MIT
#include "harness/patience.hpp"

#include <thread>

namespace remofile::test {

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define BUILT_WITH_SANITIZER
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BUILT_WITH_SANITIZER
#endif

int slowness() {
#ifdef BUILT_WITH_SANITIZER
    return 4;
#else
    return 1;
#endif
}

bool eventually(Milliseconds deadline, const std::function<bool()>& condition) {
    constexpr Milliseconds poll_interval{5};
    const auto end = std::chrono::steady_clock::now() + deadline * slowness();
    while (!condition()) {
        if (std::chrono::steady_clock::now() >= end)
            return condition();
        std::this_thread::sleep_for(poll_interval);
    }
    return true;
}

}  // namespace remofile::test
