// SPDX-License-Identifier: MIT
// Patterns of names, as those of a shell and of rsync.
#pragma once

#include <bitset>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace remofile::cli {

// `?` is any byte but '/', `*` any number of these, `**` any number of bytes, `[...]` one of a set ([!a-z],
// [[:digit:]]); a backslash takes from the next one what it means.
class Glob {
public:
    // Errors: bad_usage for a set without an end.
    static Result<Glob> compile(std::string_view pattern);
    // What matches this text alone.
    static Glob of_text(std::string_view text);
    // Whether a pattern can match anything but its own text.
    static bool has_wildcards(std::string_view pattern) { return pattern.find_first_of("*?[") != pattern.npos; }

    // Takes time in proportion to the text times the pattern, whatever they are.
    bool matches(std::string_view text) const;

private:
    // One byte of a set, or any number of them.
    struct Token {
        std::bitset<256> bytes;
        bool repeats = false;
    };

    void add_byte(char byte);
    void enter(std::vector<bool>& states, std::size_t state) const;

    std::vector<Token> tokens_;
};

}  // namespace remofile::cli
