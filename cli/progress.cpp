// SPDX-License-Identifier: MIT
#include "cli/progress.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/log.hpp"

namespace remofile::cli {
namespace {

// Often enough to look alive, seldom enough to cost nothing.
constexpr Duration redraw_interval = std::chrono::milliseconds(200);
constexpr int bar_columns = 24;

std::string time_text(double seconds) {
    const auto whole = static_cast<std::uint64_t>(std::clamp(seconds, 0.0, 359'999.0));
    return whole >= 3600 ? fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
                         : fmt::format("{}:{:02}", whole / 60, whole % 60);
}

}  // namespace

std::string size_text(double bytes) {
    constexpr auto units = std::to_array<const char*>({"B", "KiB", "MiB", "GiB", "TiB", "PiB"});
    std::size_t unit = 0;
    for (; bytes >= 1024 && unit + 1 < units.size(); ++unit)
        bytes /= 1024;
    return fmt::format("{:.{}f} {}", bytes, unit == 0 ? 0 : 1, units[unit]);
}

Progress::Progress(const Clock& clock, ProgressForm form, std::string verb, Activity& activity)
    : clock_(clock), form_(form), verb_(std::move(verb)), activity_(activity), begun_(clock.now()), drawn_(begun_) {}

void Progress::advance(std::uint64_t bytes, bool sent) {
    done_bytes_ += bytes;
    sent_bytes_ += sent ? bytes : 0;
    draw();
}

void Progress::file_unchanged(std::uint64_t bytes) {
    ++unchanged_;
    advance(bytes, false);
}

void Progress::start_over() {
    total_bytes_ = 0;
    done_bytes_ = 0;
    unchanged_ = 0;
}

void Progress::draw() {
    if (form_ != ProgressForm::bar || clock_.now() - drawn_ < redraw_interval)
        return;
    drawn_ = clock_.now();
    const double seconds = std::chrono::duration<double>(drawn_ - begun_).count();
    const double rate = static_cast<double>(sent_bytes_) / seconds;
    const double share =
        total_bytes_ == 0 ? 0 : std::min(1.0, static_cast<double>(done_bytes_) / static_cast<double>(total_bytes_));
    const auto left = static_cast<double>(total_bytes_ - std::min(total_bytes_, done_bytes_));
    const auto full = static_cast<int>(share * bar_columns);
    const std::string line =
        fmt::format("[{}{}] {:3.0f} %  {} of {}  {}/s  {} left", std::string(static_cast<std::size_t>(full), '#'),
                    std::string(static_cast<std::size_t>(bar_columns - full), ' '), share * 100,
                    size_text(static_cast<double>(done_bytes_)), size_text(static_cast<double>(total_bytes_)),
                    size_text(rate), rate > 0 ? time_text(left / rate) : "?");
    // What is longer than a line of the terminal would scroll it, and could not be drawn over.
    winsize size{};
    const std::size_t columns = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
    std::fputs(("\r" + line.substr(0, columns - 1) + "\x1b[K").c_str(), stderr);
    visible_ = true;
}

void Progress::wipe() {
    if (visible_)
        std::fputs("\r\x1b[K", stderr);
    visible_ = false;
}

void Progress::say(const std::string& line) {
    wipe();
    std::fprintf(stderr, "remofile: %s\n", line.c_str());
    activity_.note(line);
}

void Progress::tell(const std::string& line) {
    if (activity_.is_shown())
        wipe();
    activity_.tell(line);
}

double Progress::seconds() const {
    return std::chrono::duration<double>(clock_.now() - begun_).count();
}

std::string Progress::summary() const {
    const double seconds = this->seconds();
    std::string line = fmt::format("{} file{} {}, {} in {:.1f} s ({}/s)", files_, files_ == 1 ? "" : "s", verb_,
                                   size_text(static_cast<double>(sent_bytes_)), seconds,
                                   size_text(seconds > 0 ? static_cast<double>(sent_bytes_) / seconds : 0));
    if (unchanged_ > 0)
        line += fmt::format("; {} unchanged", unchanged_);
    if (sent_bytes_ < done_bytes_)
        line += fmt::format("; {} were there already", size_text(static_cast<double>(done_bytes_ - sent_bytes_)));
    return line;
}

void Progress::finish() {
    wipe();
    if (is_dry_run())
        return;
    if (files_ + unchanged_ > 0)
        activity_.note(summary());
    if (form_ == ProgressForm::json) {
        std::printf("%s\n", fmt::format("{{\"files\": {}, \"unchanged\": {}, \"bytes\": {}, \"bytes_{}\": {}, "
                                        "\"seconds\": {:.3f}}}",
                                        files_, unchanged_, done_bytes_, verb_, sent_bytes_, seconds())
                                .c_str());
    } else if (form_ != ProgressForm::none && files_ + unchanged_ > 0) {
        std::printf("%s\n", summary().c_str());
    }
}

}  // namespace remofile::cli
