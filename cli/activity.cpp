// SPDX-License-Identifier: MIT
#include "cli/activity.hpp"

#include <fcntl.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <ctime>
#include <span>

#include "base/log.hpp"
#include "cli/local_files.hpp"

namespace remofile::cli {
namespace {

std::string time_text() {
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    std::array<char, 32> text{};
    ::localtime_r(&now, &local);
    return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &local)};
}

}  // namespace

void add_activity_options(CLI::App& app, ActivityOptions& options) {
    app.add_flag("-n,--dry-run", options.dry_run, "Only say what would be done");
    app.add_flag("-v,--verbose", options.verbose, "Say what is done");
    app.add_option("--log-file", options.log_file, "Add what is done, with the time, to the end of this file")
        ->type_name("FILE");
}

Activity::Activity(const ActivityOptions& options, UniqueFd file)
    : dry_run_(options.dry_run),
      shown_(options.dry_run || options.verbose),
      path_(options.log_file),
      file_(std::move(file)) {}

Result<Activity> Activity::open(const ActivityOptions& options) {
    UniqueFd file;
    if (!options.log_file.empty())
        file = UniqueFd(::open(options.log_file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666));
    if (!options.log_file.empty() && !file)
        return make_error(Status::bad_usage,
                          fmt::format("{}: {}", log::printable(options.log_file), describe(from_errno(errno))));
    return Activity(options, std::move(file));
}

void Activity::tell(const std::string& line) {
    const std::string text = (dry_run_ ? "would " : "") + line;
    if (shown_)
        std::printf("%s\n", text.c_str());
    note(text);
}

// By one write, so that several commands may use one file.
void Activity::note(const std::string& line) {
    if (!file_ || !written_)
        return;
    const std::string text = fmt::format("{} {}\n", time_text(), line);
    written_ = write_all(file_.get(), std::as_bytes(std::span(text)));
}

Result<> Activity::end(Result<> outcome) {
    if (!outcome)
        note(log::printable(outcome.error().to_string()));
    if (!outcome || written_)
        return outcome;
    return make_error(Status::io_error, fmt::format("{}: {}", log::printable(path_), written_.error().to_string()));
}

}  // namespace remofile::cli
