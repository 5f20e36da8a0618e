// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <tuple>

#include "base/clock.hpp"

namespace remofile::filesystem {

// Which extended attributes a file system of the server does not support, so that it is not asked for each file again.
// What is true of one file holds for files of the same type on the same device.
class XattrMemory {
public:
    explicit XattrMemory(const Clock& clock) : clock_(clock) {}

    bool unsupported(std::uint64_t device, std::uint32_t type, std::string_view name) const;
    void remember_unsupported(std::uint64_t device, std::uint32_t type, std::string_view name);

private:
    using Key = std::tuple<std::uint64_t, std::uint32_t, std::string>;
    static Key key_of(std::uint64_t device, std::uint32_t type, std::string_view name);
    const Clock& clock_;
    std::map<Key, TimePoint> until_;
};

}  // namespace remofile::filesystem
