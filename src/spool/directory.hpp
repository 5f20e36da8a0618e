// SPDX-License-Identifier: MIT
// The directory in which mounts keep what their servers had not answered (-o spool=): one file for each ended mount,
// "TIME-PID.spool", and, while it is being carried out, its neighbour "TIME-PID.progress".
//
// Any thread, one at a time. Calls block for the disk.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "spool/contents.hpp"
#include "spool/format.hpp"

namespace remofile::spool {

class Directory {
public:
    // Makes it if it is missing. Errors, each with a message: bad_usage (not absolute, inside `mountpoint`, of somebody
    // else, or others may write to it), and those of the system.
    static Result<Directory> open(const std::string& path, const std::string& mountpoint);

    const std::string& path() const { return path_; }
    std::string path_of(const std::string& name) const { return path_ + "/" + name; }

    // Returns the file's name once it is on the disk. After an error nothing of it is left.
    Result<std::string> keep(const Contents& contents) const;
    // The files in it, the oldest first.
    Result<std::vector<std::string>> names() const;
    // Errors: malformed and version_mismatch (not one of ours), not_permitted (another user's), and those of the
    // system; the message does not name the file.
    Result<Contents> read(const std::string& name) const;
    Result<> remove(const std::string& name) const;

    // While it lives, nobody else carries out what is kept of `source`, nor is about to keep more. Nothing if somebody
    // else has it.
    Result<std::optional<UniqueFd>> lock(const std::string& source) const;

private:
    Directory(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

    std::string path_;
    UniqueFd fd_;
};

// How far a file has been carried out: steps that whoever goes on can rely on.
class Progress {
public:
    // Goes on with what is there.
    static Result<Progress> open(const Directory& directory, const std::string& spool_name);

    const std::vector<Step>& before() const { return before_; }
    // Survives the end of this process; `durably`, also that of the machine.
    Result<> add(const Step& step, bool durably = false);

private:
    Progress(UniqueFd fd, std::vector<Step> before) : fd_(std::move(fd)), before_(std::move(before)) {}

    UniqueFd fd_;
    std::vector<Step> before_;
};

}  // namespace remofile::spool
