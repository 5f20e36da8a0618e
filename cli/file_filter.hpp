// SPDX-License-Identifier: MIT
// What --include, --exclude and --exclude-from leave out of a transfer, by rsync's rules.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "cli/glob.hpp"

namespace remofile::cli {

// Rules in the order in which they were given, of which the first one that matches decides; what none matches is
// copied. A pattern (Glob) that begins with '/' is one of whole paths below the transfer's root. One that has a '/'
// elsewhere, or "**", is one of the last components of a path, as many as it has; any other one of the last component.
// One that ends with '/' is of directories only, one that ends with "/***" of a directory and all in it.
class FileFilter {
public:
    enum class Verdict : std::uint8_t { include, exclude };

    // "+ PATTERN" and "- PATTERN" say themselves what they do. Errors: bad_usage.
    Result<> add(std::string_view pattern, Verdict verdict);
    // A pattern a line, which are to exclude; without those that are empty or begin with '#' or ';'. "-": standard
    // input.
    Result<> add_file(const std::string& path);

    // `path` is relative to the transfer's root ("a/b"). What is in a directory that is left out is not asked about.
    bool excludes(std::string_view path, bool is_directory) const;
    // The same of a path that was not come to by way of its directories.
    bool excludes_on_the_way(std::string_view path, bool is_directory) const;

private:
    struct Rule {
        Glob glob;
        Verdict verdict;
        bool anchored;
        bool of_paths;  // else of last components
        bool of_directories;

        bool matches(std::string_view path, bool is_directory) const;
    };

    Result<> add_rule(std::string_view pattern, Verdict verdict);

    std::vector<Rule> rules_;
};

}  // namespace remofile::cli
