// SPDX-License-Identifier: MIT
#include "cli/expand.hpp"

#include <algorithm>
#include <iterator>

#include "base/log.hpp"
#include "cli/glob.hpp"

namespace remofile::cli {
namespace {

using client::RemoteEntry;
using client::RemoteTree;
using Paths = std::vector<std::string>;

// What a directory that cannot be looked into answers: nothing in it matches.
bool means_no_match(Status status) {
    switch (status) {
        case Status::no_entry:
        case Status::not_directory:
        case Status::access_denied:
        case Status::symlink_loop:
        case Status::name_too_long:
        case Status::invalid:
            return true;
        default:
            return false;
    }
}

// Adds what matches in one directory.
Task<Result<>> add_matches(RemoteTree& tree, std::string directory, Glob glob, bool with_hidden, Paths& matches) {
    const std::string path = directory + "/";
    const auto found = co_await tree.find(path, client::Symlinks::follow);
    if (!found)
        co_return means_no_match(found.status()) ? Result<>() : Result<>(found.error());
    const auto entries = co_await tree.list(found->node);
    tree.forget(found->node);
    if (!entries)
        co_return means_no_match(entries.status()) ? Result<>() : Result<>(entries.error());
    for (const RemoteEntry& entry : *entries) {
        if (glob.matches(entry.name) && (with_hidden || !entry.name.starts_with('.')))
            matches.push_back(path + entry.name);
    }
    tree.forget(*entries);
    co_return Result<>();
}

// Errors: those of the session.
Task<Result<bool>> is_there(RemoteTree& tree, std::string path) {
    const auto found = co_await tree.find(std::move(path), client::Symlinks::keep);
    if (found)
        tree.forget(found->node);
    if (!found && !means_no_match(found.status()))
        co_return Result<bool>(found.error());
    co_return found.has_value();
}

Task<Result<Paths>> matches_of(RemoteTree& tree, std::string pattern) {
    const auto components = client::split_path(pattern);
    if (!components)
        co_return Paths();
    Paths paths{""};
    bool is_found = false;  // each of them is known to be there
    for (const std::string& component : *components) {
        is_found = Glob::has_wildcards(component);
        const auto glob = Glob::compile(component);
        if (is_found && !glob)
            co_return Result<Paths>(make_error(
                Status::bad_usage, fmt::format("{}: {}", log::printable(pattern), glob.error().to_string())));
        Paths further;
        for (const std::string& path : paths) {
            Result<> added;
            if (is_found)
                added = co_await add_matches(tree, path, *glob, component.starts_with('.'), further);
            else
                further.push_back(path + "/" + component);
            if (!added)
                co_return Result<Paths>(added.error());
        }
        paths = std::move(further);
    }
    if (is_found)
        co_return paths;
    Paths matches;
    for (std::string& path : paths) {
        const auto there = co_await is_there(tree, path);
        if (!there)
            co_return Result<Paths>(there.error());
        if (*there)
            matches.push_back(std::move(path));
    }
    co_return matches;
}

Task<Result<>> expand_and_work(RemoteTree& tree, Paths patterns, FileWork work) {
    auto paths = co_await expand_all(tree, std::move(patterns));
    if (!paths)
        co_return Result<>(paths.error());
    co_return co_await work(tree, std::move(*paths));
}

}  // namespace

Task<Result<Paths>> expand(RemoteTree& tree, std::string pattern) {
    Paths itself{pattern};
    if (!Glob::has_wildcards(pattern))
        co_return itself;
    const auto there = co_await is_there(tree, pattern);
    if (!there || *there)
        co_return there ? Result<Paths>(std::move(itself)) : Result<Paths>(there.error());
    auto matches = co_await matches_of(tree, std::move(pattern));
    if (matches && matches->empty())
        co_return itself;
    co_return matches;
}

Task<Result<Paths>> expand_all(RemoteTree& tree, Paths patterns) {
    Paths paths;
    for (const std::string& pattern : patterns) {
        auto matches = co_await expand(tree, pattern);
        if (!matches)
            co_return matches;
        std::ranges::move(*matches, std::back_inserter(paths));
    }
    co_return paths;
}

FileWork expanding(FileWork work) {
    return [work = std::move(work)](RemoteTree& tree, Paths paths) {
        return expand_and_work(tree, std::move(paths), work);
    };
}

}  // namespace remofile::cli
