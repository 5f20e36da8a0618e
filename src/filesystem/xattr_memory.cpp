// SPDX-License-Identifier: MIT
#include "filesystem/xattr_memory.hpp"

#include <algorithm>

namespace remofile::filesystem {
namespace {

// A file system can be mounted anew with support; a minute's delay is no loss there, and saves nearly all questions.
constexpr auto lifetime = std::chrono::minutes(1);
// A handful of devices, types and namespaces.
constexpr std::size_t max_known = 256;

}  // namespace

// ACLs are known by their full names, other attributes by their namespace ("user.").
XattrMemory::Key XattrMemory::key_of(std::uint64_t device, std::uint32_t type, std::string_view name) {
    const bool whole = name.starts_with("system.");
    const std::size_t dot = std::min(name.find('.'), name.size() - 1);
    return {device, type, std::string(whole ? name : name.substr(0, dot + 1))};
}

bool XattrMemory::unsupported(std::uint64_t device, std::uint32_t type, std::string_view name) const {
    const auto found = name.empty() ? until_.end() : until_.find(key_of(device, type, name));
    return found != until_.end() && clock_.now() < found->second;
}

void XattrMemory::remember_unsupported(std::uint64_t device, std::uint32_t type, std::string_view name) {
    if (name.empty())
        return;
    if (until_.size() >= max_known)
        until_.clear();
    until_[key_of(device, type, name)] = clock_.now() + lifetime;
}

}  // namespace remofile::filesystem
