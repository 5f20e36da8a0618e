// SPDX-License-Identifier: MIT
// A file with the input as its content, for what takes the name of a file.
#pragma once

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "base/assert.hpp"
#include "base/unique_fd.hpp"

namespace remofile {

// Its owner alone may read it, as a secret's must be.
class FuzzFile {
public:
    explicit FuzzFile(std::string_view text) : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {
        REMOFILE_ASSERT(fd_ && ::fchmod(fd_.get(), 0600) == 0 &&
                        ::write(fd_.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    }
    std::string name() const { return "/proc/self/fd/" + std::to_string(fd_.get()); }

private:
    const UniqueFd fd_;
};

}  // namespace remofile
