// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace remofile::server {

// Says which process serves, and that it does: the file is locked for as long as it does, so that one that a killed
// server left behind is told from a live server's.
class PidFile {
public:
    // Writes this process's id. Errors: busy, naming the process that holds the file; or that of the system call,
    // naming the file.
    static Result<PidFile> create(std::string path);

    PidFile(PidFile&&) noexcept = default;
    PidFile& operator=(PidFile&&) = delete;
    // Removes the file.
    ~PidFile();

private:
    PidFile(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

    std::string path_;
    UniqueFd fd_;
};

}  // namespace remofile::server
