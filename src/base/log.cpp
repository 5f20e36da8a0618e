// SPDX-License-Identifier: MIT
#include "base/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <memory>

#include "base/json_text.hpp"

namespace remofile::log {
namespace {

spdlog::level::level_enum to_spdlog(Level level) {
    switch (level) {
        case Level::debug:
            return spdlog::level::debug;
        case Level::info:
            return spdlog::level::info;
        case Level::warn:
            return spdlog::level::warn;
        case Level::error:
            return spdlog::level::err;
        case Level::off:
            return spdlog::level::off;
    }
    return spdlog::level::info;
}

std::string_view level_name(spdlog::level::level_enum level) {
    const spdlog::string_view_t name = spdlog::level::to_string_view(level);
    return {name.data(), name.size()};
}

// Of syslog(3).
int priority(spdlog::level::level_enum level) {
    switch (level) {
        case spdlog::level::err:
        case spdlog::level::critical:
            return LOG_ERR;
        case spdlog::level::warn:
            return LOG_WARNING;
        case spdlog::level::info:
            return LOG_INFO;
        default:
            return LOG_DEBUG;
    }
}

std::string_view text_of(const spdlog::details::log_msg& message) {
    return {message.payload.data(), message.payload.size()};
}

class JsonLines final : public spdlog::formatter {
public:
    explicit JsonLines(bool ends_lines) : ends_lines_(ends_lines) {}

    void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& to) override {
        using namespace std::chrono;
        const std::time_t seconds = system_clock::to_time_t(floor<std::chrono::seconds>(message.time));
        const auto ms = duration_cast<milliseconds>(message.time.time_since_epoch()).count() % 1000;
        std::tm utc{};
        ::gmtime_r(&seconds, &utc);
        const std::string_view program(message.logger_name.data(), message.logger_name.size());
        fmt::format_to(
            std::back_inserter(to),
            "{{\"time\": \"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z\", \"level\": \"{}\", \"program\": {}, "
            "\"message\": {}}}{}",
            utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, ms,
            level_name(message.level), json_text(program), json_text(text_of(message)), ends_lines_ ? "\n" : "");
    }
    std::unique_ptr<spdlog::formatter> clone() const override { return std::make_unique<JsonLines>(ends_lines_); }

private:
    bool ends_lines_;
};

class JournalLines final : public spdlog::formatter {
public:
    void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& to) override {
        fmt::format_to(std::back_inserter(to), "<{}>{}\n", priority(message.level), text_of(message));
    }
    std::unique_ptr<spdlog::formatter> clone() const override { return std::make_unique<JournalLines>(); }
};

// "DEVICE:INODE" of what a service's standard error was connected to: a child may have another by now.
bool standard_error_is_journal() {
    const char* stream = std::getenv("JOURNAL_STREAM");
    struct stat status {};
    return stream != nullptr && ::fstat(STDERR_FILENO, &status) == 0 &&
           stream == fmt::format("{}:{}", status.st_dev, status.st_ino);
}

struct Log {
    std::shared_ptr<spdlog::logger> logger;
    Format format;
};

Log make_log(std::string_view program, Level level, Target target, Format format) {
    if (format == Format::automatic)
        format = target == Target::standard_error && standard_error_is_journal() ? Format::journald : Format::text;
    std::shared_ptr<spdlog::sinks::sink> sink;
    if (target == Target::syslog)
        sink = std::make_shared<spdlog::sinks::syslog_sink_mt>(std::string(program), LOG_PID, LOG_DAEMON, true);
    else
        sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    auto logger = std::make_shared<spdlog::logger>(std::string(program), std::move(sink));
    if (format == Format::json)
        logger->set_formatter(std::make_unique<JsonLines>(target == Target::standard_error));
    else if (target == Target::syslog)
        logger->set_pattern("%v");
    else if (format == Format::journald)
        logger->set_formatter(std::make_unique<JournalLines>());
    else
        logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %n %l: %v");
    logger->set_level(to_spdlog(level));
    logger->flush_on(spdlog::level::info);
    return {std::move(logger), format};
}

// spdlog keeps its own registry; this reference only spares a look-up a line. Replaced before threads start. Never
// destroyed: a program that ends without closing its library's client has a thread that may still look at it.
Log& current() {
    static auto& instance = *new Log(make_log("remofile", Level::info, Target::standard_error, Format::text));
    return instance;
}

}  // namespace

void configure(std::string_view program, Level level, Target target, Format format) {
    current() = make_log(program, level, target, format);
}

bool enabled(Level level) {
    return current().logger->should_log(to_spdlog(level));
}

void write(Level level, std::string_view text) {
    const Log& log = current();
    if (log.format == Format::json)
        log.logger->log(to_spdlog(level), text);
    else
        log.logger->log(to_spdlog(level), printable(text));
}

void flush() {
    current().logger->flush();
}

std::string printable(std::string_view text) {
    std::string result;
    result.reserve(text.size());
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte == 0x7f)
            result += fmt::format("\\x{:02x}", byte);
        else
            result += c;
    }
    return result;
}

}  // namespace remofile::log
