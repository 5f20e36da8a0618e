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

}  // namespace remofile::filesystem
