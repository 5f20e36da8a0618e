// SPDX-License-Identifier: MIT
#include "server/files/reserve.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "server/files/export.hpp"

namespace remofile::server {
namespace {

// What clients have answered and not sent is files of up to 1 MiB, some hundreds at most, and mostly of a few KiB.
constexpr std::uint64_t reserved_bytes = 64U << 20;
constexpr std::uint64_t part_bytes = 1U << 20;

}  // namespace

void Reserve::keep(int directory) {
    const std::lock_guard lock(mutex_);
    if (file_ || has_failed_)
        return;
    has_failed_ = true;
    auto file = create_unnamed(directory, O_RDWR, 0600);
    // Not posix_fallocate(3), which would write where the file system cannot allocate.
    if (!file || fallocate(file->get(), 0, 0, reserved_bytes) != 0)
        return;
    has_failed_ = false;
    file_ = std::move(*file);
    kept_bytes_ = reserved_bytes;
}

bool Reserve::give_up_part() {
    const std::lock_guard lock(mutex_);
    if (!file_)
        return false;
    const std::uint64_t left = kept_bytes_ - part_bytes;
    if (left == 0 || ftruncate(file_.get(), static_cast<off_t>(left)) != 0)
        close();
    else
        kept_bytes_ = left;
    return true;
}

void Reserve::give_up_if(const std::function<bool()>& is_unneeded) {
    const std::lock_guard lock(mutex_);
    if (file_ && is_unneeded())
        close();
}

void Reserve::close() {
    file_ = {};
    kept_bytes_ = 0;
}

}  // namespace remofile::server
