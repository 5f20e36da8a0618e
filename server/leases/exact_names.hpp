// SPDX-License-Identifier: MIT
#pragma once

namespace remofile::server {

// Whether each name in the directory, an open one, is found as it is listed and in no other way. Where upper and lower
// case are the same, or names have short forms, nobody can tell from a listing that a name is not there.
bool has_exact_names(int directory);

}  // namespace remofile::server
