// SPDX-License-Identifier: MIT
// What a program needs of its file descriptors before it does anything else.
#pragma once

#include "base/result.hpp"

namespace remofile {

// Takes the numbers of standard input, output and error where they are closed, so that no file or socket gets them.
// Reading from or writing to them is an error then, as it was before.
void open_standard_descriptors();

// Raises the limit of open files as far as the process may: the usual one is as low as select(2) wants it. Error:
// limit_exceeded, if that is too few for ZeroMQ, which ends the process where it runs out of them.
Result<> raise_descriptor_limit();

}  // namespace remofile
