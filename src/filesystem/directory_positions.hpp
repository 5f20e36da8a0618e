// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace remofile::filesystem {

// Positions in one open directory: small numbers that stand for the server's cookies. Those take 63 bits, and a program
// of 32 bits can neither be told nor tell them. A number stays good as long as the directory is open; but of a long
// listing that is begun anew those of the earlier round go, as POSIX allows.
class DirectoryPositions {
public:
    static constexpr std::uint64_t start = 0;

    // The cookie that a number stands for; none for a number that was never given out.
    std::optional<std::uint64_t> cookie(std::uint64_t number) const {
        if (number == start)
            return 0;
        return number <= cookies_.size() ? std::optional(cookies_[number - 1]) : std::nullopt;
    }
    // The number for the cookie of the entry that follows the one with the number `before`.
    std::uint64_t number(std::uint64_t before, std::uint64_t cookie) {
        // A listing that is read again finds its numbers again, up to where it has changed.
        if (before < cookies_.size() && cookies_[before] == cookie)
            return before + 1;
        cookies_.push_back(cookie);
        return cookies_.size();
    }
    // The listing begins anew.
    void restart() {
        constexpr std::size_t max_kept = 65'536;
        if (cookies_.size() > max_kept)
            cookies_.clear();
    }

private:
    std::vector<std::uint64_t> cookies_;
};

}  // namespace remofile::filesystem
