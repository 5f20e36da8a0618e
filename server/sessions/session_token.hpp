// SPDX-License-Identifier: MIT
// The token that clients must know, and the limit on guesses at it. docs/PROTOCOL.md, "Authentication".
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace remofile::server {

// Reads a token file: its content without surrounding white space. Errors: no_entry; access_denied when others than
// its owner may read it or it belongs to neither this user nor root; invalid when it is empty or too long. Each message
// names the file and the remedy.
Result<std::string> load_token(const std::string& file);

// One thread.
class TokenGuard {
public:
    static constexpr std::size_t max_failures = 5;  // within `period`
    static constexpr Duration period = std::chrono::minutes(1);
    // Addresses and keys remembered at a time: beyond it the longest untouched are forgotten.
    static constexpr std::size_t max_remembered = 4096;

    // An empty token: none is asked for.
    explicit TokenGuard(std::string token) : token_(std::move(token)) {}

    // Failures so far still count.
    void change(std::string token) { token_ = std::move(token); }

    // Whether `offered` is right, compared in constant time, and none of `origins` (the client's address and key) is
    // locked out.
    bool admit(std::string_view offered, const std::vector<std::string>& origins, TimePoint now);

private:
    struct Origin {
        std::deque<TimePoint> failures;
        TimePoint locked_until{};
        TimePoint touched{};
    };
    bool matches(std::string_view offered) const;
    void note_failure(const std::string& name, TimePoint now);

    std::string token_;
    std::map<std::string, Origin> origins_;
};

}  // namespace remofile::server
