// SPDX-License-Identifier: MIT
#include "base/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/spdlog.h>

#include <memory>

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

std::shared_ptr<spdlog::logger> make_logger(std::string_view program, Level level, Target target) {
    std::shared_ptr<spdlog::sinks::sink> sink;
    if (target == Target::syslog)
        sink = std::make_shared<spdlog::sinks::syslog_sink_mt>(std::string(program), LOG_PID, LOG_DAEMON, true);
    else
        sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    auto logger = std::make_shared<spdlog::logger>(std::string(program), std::move(sink));
    logger->set_pattern(target == Target::syslog ? "%v" : "%Y-%m-%dT%H:%M:%S.%e %n %l: %v");
    logger->set_level(to_spdlog(level));
    logger->flush_on(spdlog::level::info);
    return logger;
}

// spdlog keeps its own registry; this reference only spares a look-up a line. Replaced before threads start. Never
// destroyed: a program that ends without closing its library's client has a thread that may still look at it.
std::shared_ptr<spdlog::logger>& logger() {
    static auto& instance =
        *new std::shared_ptr<spdlog::logger>(make_logger("remofile", Level::info, Target::standard_error));
    return instance;
}

}  // namespace

void configure(std::string_view program, Level level, Target target) {
    logger() = make_logger(program, level, target);
}

bool enabled(Level level) {
    return logger()->should_log(to_spdlog(level));
}

void write(Level level, std::string_view text) {
    logger()->log(to_spdlog(level), printable(text));
}

void flush() {
    logger()->flush();
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
