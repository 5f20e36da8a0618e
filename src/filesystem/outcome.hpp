// SPDX-License-Identifier: MIT
#pragma once

#include "base/result.hpp"

namespace remofile::filesystem {

// What became of a request whose answer says nothing else.
inline Result<> outcome_of(Status status) {
    return status == Status::ok ? Result<>() : Result<>(status);
}
template <class T>
Result<> outcome_of(const Result<T>& result) {
    return result ? Result<>() : Result<>(result.error());
}

// That the connection, or the session, is lost, and not what was asked for.
inline bool is_of_connection(Status status) {
    return status == Status::no_session || status == Status::shutting_down || status == Status::timed_out ||
           status == Status::unreachable;
}

}  // namespace remofile::filesystem
