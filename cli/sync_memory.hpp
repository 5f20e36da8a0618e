// SPDX-License-Identifier: MIT
// What remofile sync remembers of two trees between its runs: a file in the configuration directory, one for each pair.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "cli/sync_plan.hpp"

namespace remofile::cli {

class SyncMemory {
public:
    // Of a local directory (its absolute path) and one of a server (its endpoint and path). Nobody else can have that
    // pair until the object goes. Errors: busy, if somebody has it now; those of the file system.
    static Result<SyncMemory> open(const std::string& local, const std::string& server);

    // Nothing, if these two were never alike. Errors: io_error, also for a file that is not whole or not ours.
    Result<Memory> load() const;
    // When it returns, the new memory is on the disk; until then the old one is.
    Result<> save(const Memory& memory) const;

    const std::filesystem::path& path() const { return path_; }

private:
    SyncMemory(std::filesystem::path path, UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}

    std::filesystem::path path_;
    UniqueFd lock_;
};

}  // namespace remofile::cli
