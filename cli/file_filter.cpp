// SPDX-License-Identifier: MIT
#include "cli/file_filter.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iostream>

#include "base/log.hpp"

namespace remofile::cli {
namespace {

// Each is tried on each name of a tree. A person's lists have hundreds.
constexpr std::size_t max_rules = 10'000;

Error about(std::string_view pattern, std::string_view what) {
    return make_error(Status::bad_usage, fmt::format("pattern \"{}\": {}", log::printable(pattern), what));
}

}  // namespace

Result<> FileFilter::add(std::string_view pattern, Verdict verdict) {
    if (pattern.starts_with("+ ") || pattern.starts_with("- ")) {
        verdict = pattern.starts_with('+') ? Verdict::include : Verdict::exclude;
        pattern.remove_prefix(2);
    }
    constexpr std::string_view with_contents = "/***";
    if (!pattern.ends_with(with_contents))
        return add_rule(pattern, verdict);
    pattern.remove_suffix(2);  // "/*" is left: what is in it, and then all below
    REMOFILE_CHECK(add_rule(pattern.substr(0, pattern.size() - 1), verdict));
    return add_rule(std::string(pattern) + "*", verdict);
}

Result<> FileFilter::add_rule(std::string_view pattern, Verdict verdict) {
    const std::string_view given = pattern;
    const bool anchored = pattern.starts_with('/');
    if (anchored)
        pattern.remove_prefix(1);
    const bool of_directories = pattern.ends_with('/');
    if (of_directories)
        pattern.remove_suffix(1);
    if (pattern.empty())
        return about(given, "it matches nothing");
    if (rules_.size() == max_rules)
        return make_error(Status::bad_usage, fmt::format("more than {} patterns", max_rules));
    const bool of_paths = anchored || pattern.find('/') != pattern.npos || pattern.find("**") != pattern.npos;
    // Before any of the places that are tried anyway.
    while (!anchored && pattern.starts_with("**/"))
        pattern.remove_prefix(3);
    // As rsync has it, a backslash is one where there is nothing to quote.
    const auto glob = Glob::has_wildcards(pattern) ? Glob::compile(pattern) : Result<Glob>(Glob::of_text(pattern));
    if (!glob)
        return about(given, glob.error().message);
    rules_.push_back({*glob, verdict, anchored, of_paths, of_directories});
    return {};
}

Result<> FileFilter::add_file(const std::string& path) {
    std::ifstream file;
    if (path != "-") {
        errno = 0;
        file.open(path);
        if (!file)
            return errno_error(fmt::format("{}: {}", log::printable(path), describe(from_errno(errno))));
    }
    std::istream& in = path == "-" ? std::cin : file;
    std::string line;
    for (int number = 1; std::getline(in, line); ++number) {
        if (line.empty() || line.starts_with('#') || line.starts_with(';'))
            continue;
        const Result<> added = add(line, Verdict::exclude);
        if (!added)
            return make_error(added.status(),
                              fmt::format("{}, line {}: {}", log::printable(path), number, added.error().message));
    }
    // A directory can be opened and not read.
    if (in.bad())
        return errno_error(fmt::format("{}: {}", log::printable(path), describe(from_errno(errno))));
    return {};
}

bool FileFilter::Rule::matches(std::string_view path, bool is_directory) const {
    if (of_directories && !is_directory)
        return false;
    if (anchored)
        return glob.matches(path);
    if (!of_paths)
        return glob.matches(path.substr(path.rfind('/') + 1));
    for (std::size_t begin = 0;;) {
        if (glob.matches(path.substr(begin)))
            return true;
        const std::size_t slash = path.find('/', begin);
        if (slash == path.npos)
            return false;
        begin = slash + 1;
    }
}

bool FileFilter::excludes(std::string_view path, bool is_directory) const {
    const auto first = std::ranges::find_if(rules_, [&](const Rule& rule) { return rule.matches(path, is_directory); });
    return first != rules_.end() && first->verdict == Verdict::exclude;
}

bool FileFilter::excludes_on_the_way(std::string_view path, bool is_directory) const {
    for (std::size_t slash = path.find('/'); slash != path.npos; slash = path.find('/', slash + 1)) {
        if (excludes(path.substr(0, slash), true))
            return true;
    }
    return excludes(path, is_directory);
}

}  // namespace remofile::cli
