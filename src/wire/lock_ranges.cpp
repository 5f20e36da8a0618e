// SPDX-License-Identifier: MIT
#include "wire/lock_ranges.hpp"

#include <algorithm>

namespace remofile::wire {

bool overlap(const LockRange& a, const LockRange& b) {
    return a.start <= b.end && b.start <= a.end;
}

bool conflict(const LockRange& held, const LockRange& wanted) {
    return overlap(held, wanted) && (held.type == LockType::write || wanted.type == LockType::write);
}

bool is_valid(const LockRange& range) {
    return range.type <= LockType::unlock && range.start <= range.end && range.end <= last_locked_byte;
}

void apply(std::vector<LockRange>& held, const LockRange& range) {
    std::vector<LockRange> result;
    for (const LockRange& old : held) {
        if (!overlap(old, range)) {
            result.push_back(old);
            continue;
        }
        if (old.start < range.start)
            result.push_back({old.type, old.start, range.start - 1, old.pid});
        if (old.end > range.end)
            result.push_back({old.type, range.end + 1, old.end, old.pid});
    }
    if (range.type != LockType::unlock)
        result.push_back(range);
    std::ranges::sort(result, {}, &LockRange::start);
    held.clear();
    for (const LockRange& next : result) {
        if (!held.empty() && held.back().type == next.type && held.back().end + 1 == next.start)
            held.back().end = next.end;
        else
            held.push_back(next);
    }
}

}  // namespace remofile::wire
