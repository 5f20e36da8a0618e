// SPDX-License-Identifier: MIT
#pragma once

namespace remofile::server {

// As meson.build has it.
inline constexpr const char* version = REMOFILE_VERSION;

}  // namespace remofile::server
