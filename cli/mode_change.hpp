// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace remofile::cli {

// What chmod is to do to permission bits, as POSIX writes it: "644", "u+x,go-w", "a=rX", "g=u".
class ModeChange {
public:
    // `umask` is what clauses leave alone that say nobody's. Errors: bad_usage.
    static Result<ModeChange> parse(std::string_view text, std::uint32_t umask);

    std::uint32_t apply(std::uint32_t mode, bool is_directory) const;

private:
    struct Action {
        std::uint32_t whom;  // the bits that may change
        char operation;      // '+', '-' or '='
        std::uint32_t bits;  // for everybody
        bool execute_if_any;
        char copied_from;  // 'u', 'g', 'o', or none
    };

    std::vector<Action> actions_;
};

}  // namespace remofile::cli
