// SPDX-License-Identifier: MIT
// Configuration files in TOML: taking them apart, with errors that name file and line.
#pragma once

#include <toml++/toml.h>

#include <string>
#include <string_view>

#include "base/log.hpp"
#include "base/result.hpp"

namespace remofile {

// bad_usage, "FILE:LINE: WHAT".
inline Error toml_error(std::string_view file, const toml::source_region& where, std::string_view what) {
    return make_error(Status::bad_usage, fmt::format("{}:{}: {}", file, where.begin.line, what));
}

// `text`, the content of `file`, which messages name.
inline Result<toml::table> parse_toml(std::string_view text, std::string_view file) {
    try {
        return toml::parse(text, file);
    } catch (const toml::parse_error& error) {
        return toml_error(file, error.source(), error.description());
    }
}

}  // namespace remofile
