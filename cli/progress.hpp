// SPDX-License-Identifier: MIT
// What a person sees of a transfer.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.hpp"
#include "cli/activity.hpp"

namespace remofile::cli {

enum class ProgressForm : std::uint8_t {
    none,
    bar,   // on standard error, drawn over and over: for a terminal
    json,  // on standard output, one object at the end
    line,  // on standard output, one line at the end
};

// "1.5 MiB"
std::string size_text(double bytes);

// One thread. The activity must outlive it.
class Progress {
public:
    Progress(const Clock& clock, ProgressForm form, std::string verb, Activity& activity);

    void expect(std::uint64_t bytes) { total_bytes_ += bytes; }
    // Bytes that the other end has. `sent` says that they went over the network now; others were there already.
    void advance(std::uint64_t bytes, bool sent);
    void file_done() { ++files_; }
    // A file that is as it should be without any work.
    void file_unchanged(std::uint64_t bytes);

    // Everything is looked at again; what was sent before counts as there.
    void start_over();

    // A line that is to stay, on standard error, past the bar.
    void say(const std::string& line);
    // One of the activity, which goes past the bar too.
    void tell(const std::string& line);
    bool is_dry_run() const { return activity_.is_dry_run(); }
    // The last line; none of a dry run.
    void finish();

    // Bytes that went over the network, and how long all has taken so far.
    std::uint64_t sent_bytes() const { return sent_bytes_; }
    double seconds() const;

private:
    void draw();
    void wipe();
    std::string summary() const;

    const Clock& clock_;
    ProgressForm form_;
    std::string verb_;  // "sent", "fetched"
    Activity& activity_;
    TimePoint begun_;
    TimePoint drawn_;
    bool visible_ = false;
    std::uint64_t files_ = 0;
    std::uint64_t unchanged_ = 0;
    std::uint64_t total_bytes_ = 0;
    std::uint64_t done_bytes_ = 0;
    std::uint64_t sent_bytes_ = 0;
};

}  // namespace remofile::cli
