// SPDX-License-Identifier: MIT
// What a command does to files, a line each.
#pragma once

#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace CLI {
class App;
}

namespace remofile::cli {

struct ActivityOptions {
    bool verbose = false;
    bool dry_run = false;
    std::string log_file;  // empty: none
};
void add_activity_options(CLI::App& app, ActivityOptions& options);

// Where its lines go: to standard output if the person wants to see them, and with the time to the end of a file. One
// thread.
class Activity {
public:
    // Errors: those of the file.
    static Result<Activity> open(const ActivityOptions& options);

    bool is_dry_run() const { return dry_run_; }
    bool is_shown() const { return shown_; }
    // What has been done; in a dry run, what would be.
    void tell(const std::string& line);
    // For the file alone: what the person has been told otherwise.
    void note(const std::string& line);
    // The command's outcome, which is noted. An error of the file, if there is no other.
    Result<> end(Result<> outcome);

private:
    Activity(const ActivityOptions& options, UniqueFd file);

    bool dry_run_;
    bool shown_;
    std::string path_;
    UniqueFd file_;
    Result<> written_;
};

}  // namespace remofile::cli
