// SPDX-License-Identifier: MIT
// The one form of a fallible call: it returns Result<T>, and there is no throwing twin.
#pragma once

#include <cerrno>
#include <expected>
#include <string>
#include <type_traits>
#include <utility>

#include "base/status.hpp"

namespace remofile {

// What went wrong. `message` is for a person and may be empty when the status says it all: it names what happened and
// to which thing.
struct Error {
    Status status = Status::io_error;
    std::string message;

    // "MESSAGE", or the status's own phrase when there is no message.
    std::string to_string() const { return message.empty() ? std::string(describe(status)) : message; }
};

template <class T = void>
class [[nodiscard]] Result : public std::expected<T, Error> {
public:
    using std::expected<T, Error>::expected;
    // Of a call that has no value, `ok` is success.
    Result(Status status) : std::expected<T, Error>(std::unexpected(Error{status, {}})) {
        if constexpr (std::is_void_v<T>) {
            if (status == Status::ok)
                this->emplace();
        }
    }
    Result(Error error) : std::expected<T, Error>(std::unexpected(std::move(error))) {}
    Result(std::unexpected<Error> error) : std::expected<T, Error>(std::move(error)) {}

    // The status of either outcome: ok when there is a value.
    Status status() const { return this->has_value() ? Status::ok : this->error().status; }
};

inline Error make_error(Status status, std::string message = {}) {
    return Error{status, std::move(message)};
}

// The error of the system call that has just failed.
inline Error errno_error(std::string message = {}) {
    return Error{from_errno(errno), std::move(message)};
}

}  // namespace remofile

// Binds the value of a Result to `name`, or returns its error from the enclosing function (not from a coroutine).
#define REMOFILE_TRY(name, expression)                            \
    auto name##_result = (expression);                            \
    if (!name##_result)                                           \
        return std::unexpected(std::move(name##_result).error()); \
    auto name = std::move(*name##_result)

// The same for a Result<void>.
#define REMOFILE_CHECK(expression)                                   \
    do {                                                             \
        if (auto check_result = (expression); !check_result)         \
            return std::unexpected(std::move(check_result).error()); \
    } while (false)
