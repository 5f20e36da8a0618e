// SPDX-License-Identifier: MIT
#include "cli/each.hpp"

#include "base/log.hpp"
#include "cli/command.hpp"
#include "cli/parallel.hpp"

namespace remofile::cli {
namespace {

constexpr std::uint64_t looks_under_way = 64;

Task<void> find_into(client::RemoteTree& tree, std::string path, client::Symlinks symlinks,
                     Result<client::RemoteFile>& found) {
    found = co_await tree.find(std::move(path), symlinks);
}

}  // namespace

Error at(const std::string& path, const Error& error) {
    // What has a message of its own names the file already.
    return error.message.empty()
               ? make_error(error.status, fmt::format("{}: {}", log::printable(path), describe(error.status)))
               : error;
}

void note_error(Result<>& outcome, const Error& error) {
    if (outcome)
        outcome = error;
    else
        complain(error);
}

Task<Result<>> each(client::RemoteTree& tree, std::vector<std::string> paths, FileAction action) {
    Result<> outcome;
    for (const std::string& path : paths) {
        const Result<> done = co_await action(tree, path);
        if (!done)
            note_error(outcome, at(path, done.error()));
    }
    co_return outcome;
}

Task<std::vector<Result<client::RemoteFile>>> find_all(client::RemoteTree& tree, std::vector<std::string> paths,
                                                       client::Symlinks symlinks) {
    std::vector<Result<client::RemoteFile>> found(paths.size(), Status::no_entry);
    Parallel looks(looks_under_way);
    for (std::size_t i = 0; i < paths.size(); ++i)
        co_await looks.add(1, find_into(tree, paths[i], symlinks, found[i]));
    co_await looks.idle();
    co_return found;
}

}  // namespace remofile::cli
