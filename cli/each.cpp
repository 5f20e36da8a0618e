// SPDX-License-Identifier: MIT
#include "cli/each.hpp"

#include "base/log.hpp"
#include "cli/command.hpp"

namespace remofile::cli {

Error at(const std::string& path, const Error& error) {
    // What has a message of its own names the file already.
    return error.message.empty()
               ? make_error(error.status, fmt::format("{}: {}", log::printable(path), describe(error.status)))
               : error;
}

Task<Result<>> each(client::RemoteTree& tree, std::vector<std::string> paths, FileAction action) {
    Result<> outcome;
    for (const std::string& path : paths) {
        const Result<> done = co_await action(tree, path);
        if (done)
            continue;
        if (outcome)
            outcome = at(path, done.error());
        else
            complain(at(path, done.error()));
    }
    co_return outcome;
}

}  // namespace remofile::cli
