// SPDX-License-Identifier: MIT
// Logging to standard error or, for a daemon, to syslog. The one place that knows which library does it.
#pragma once

#include <string>
#include <string_view>

// spdlog bundles {fmt}; std::format is not in g++ 12's library.
#include <spdlog/fmt/fmt.h>

namespace remofile::log {

enum class Level { debug, info, warn, error, off };
enum class Target { standard_error, syslog };
enum class Format {
    automatic,  // journald where standard error is the journal ($JOURNAL_STREAM, systemd.exec(5)), else text
    text,       // time, program and level before the message
    json,       // one object a line, with "time" (RFC 3339, of UTC), "level", "program" and "message"
    journald,   // the message behind its priority, as sd-daemon(3) has it: the journal knows the rest
};

// Call before threads start. `program` leads each line. The default is standard error at level info. For syslog, which
// knows time, program and level by itself, all but json is the message alone.
void configure(std::string_view program, Level level, Target target, Format format = Format::text);

bool enabled(Level level);
// Control characters in `text` are escaped (in JSON as JSON does), so that what a peer sent cannot forge a line or
// steer a terminal.
void write(Level level, std::string_view text);
void flush();

template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
    if (enabled(Level::debug))
        write(Level::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
    if (enabled(Level::info))
        write(Level::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
    if (enabled(Level::warn))
        write(Level::warn, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
    if (enabled(Level::error))
        write(Level::error, fmt::format(format, std::forward<Args>(args)...));
}

// `text` with control characters as \xNN.
std::string printable(std::string_view text);

}  // namespace remofile::log
