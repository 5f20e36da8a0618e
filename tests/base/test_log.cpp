// SPDX-License-Identifier: MIT
#include "base/log.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>

#include "base/unique_fd.hpp"
#include "catch.hpp"

using namespace remofile;

namespace {

// What `work` writes to standard error.
template <class Work>
std::string captured(Work work) {
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) == 0);
    const UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    const UniqueFd saved(::dup(STDERR_FILENO));
    ::dup2(writer.get(), STDERR_FILENO);
    work();
    log::flush();
    ::dup2(saved.get(), STDERR_FILENO);
    std::string text(8192, '\0');
    const ssize_t size = ::read(reader.get(), text.data(), text.size());
    text.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return text;
}

}  // namespace

TEST_CASE("control characters are shown as what they are") {
    CHECK(log::printable("plain text, \xc3\xa9\xff") == "plain text, \xc3\xa9\xff");
    CHECK(log::printable("a\nb\r\t") == "a\\x0ab\\x0d\\x09");
    CHECK(log::printable(std::string_view("\0\x1b[31m\x7f", 7)) == "\\x00\\x1b[31m\\x7f");
}

TEST_CASE("a peer's text cannot forge a line of the log") {
    log::configure("test", log::Level::info, log::Target::standard_error);
    const std::string text =
        captured([] { log::warn("client {} came", std::string("x\n2026-01-01T00:00:00.000 test info: all is well")); });
    CHECK(std::count(text.begin(), text.end(), '\n') == 1);
    CHECK_THAT(text, ContainsSubstring("test warning: client x\\x0a2026"));
}

TEST_CASE("lines below the level are not written") {
    log::configure("test", log::Level::warn, log::Target::standard_error);
    CHECK_FALSE(log::enabled(log::Level::info));
    CHECK(log::enabled(log::Level::error));
    const std::string text = captured([] {
        log::debug("one");
        log::info("two");
        log::error("three {}", 3);
    });
    CHECK(text.find("one") == std::string::npos);
    CHECK(text.find("two") == std::string::npos);
    CHECK_THAT(text, ContainsSubstring("three 3"));
}

TEST_CASE("a brace in a peer's text is text") {
    log::configure("test", log::Level::info, log::Target::standard_error);
    CHECK_THAT(captured([] { log::info("{}", "{0} {} %s %n"); }), ContainsSubstring("{0} {} %s %n"));
}

TEST_CASE("as JSON, a line is an object with what a peer sent escaped") {
    log::configure("te\"st", log::Level::debug, log::Target::standard_error, log::Format::json);
    const std::string text = captured([] {
        log::warn("client {} came", std::string("x\n\"\\\xff\xc3\xa9"));
        log::debug("two");
    });
    CHECK(std::count(text.begin(), text.end(), '\n') == 2);
    CHECK_THAT(text,
               Catch::Matchers::Matches(R"(\{"time": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "level": "warning", )"
                                        R"("program": "te\\"st", "message": "client x\\u000a\\"\\\\\\ufffd)"
                                        "\xc3\xa9"
                                        R"( came"\}\n\{.*"level": "debug".*"message": "two"\}\n)"));
}

TEST_CASE("for the journal, a line is the message behind its priority") {
    log::configure("test", log::Level::debug, log::Target::standard_error, log::Format::journald);
    const std::string text = captured([] {
        log::debug("one");
        log::info("two\n<0>forged");
        log::warn("three");
        log::error("four");
    });
    CHECK(text == "<7>one\n<6>two\\x0a<0>forged\n<4>three\n<3>four\n");
}

TEST_CASE("the journal is known by what standard error is") {
    struct stat status {};
    const auto line = [&](const std::function<std::string()>& stream) {
        return captured([&] {
            REQUIRE(::fstat(STDERR_FILENO, &status) == 0);
            ::setenv("JOURNAL_STREAM", stream().c_str(), 1);
            log::configure("test", log::Level::info, log::Target::standard_error, log::Format::automatic);
            ::unsetenv("JOURNAL_STREAM");
            log::info("hello");
        });
    };
    const auto here = [&] { return fmt::format("{}:{}", status.st_dev, status.st_ino); };
    const auto elsewhere = [&] { return fmt::format("{}:{}", status.st_dev, status.st_ino + 1); };
    CHECK(line(here) == "<6>hello\n");
    CHECK_THAT(line(elsewhere), ContainsSubstring("test info: hello"));
    CHECK_THAT(line([] { return std::string(); }), ContainsSubstring("test info: hello"));
    log::configure("test", log::Level::info, log::Target::standard_error);
}
