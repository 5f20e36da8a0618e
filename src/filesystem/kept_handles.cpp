// SPDX-License-Identifier: MIT
#include "filesystem/kept_handles.hpp"

#include <algorithm>
#include <utility>

namespace remofile::filesystem {

KeptHandles::KeptHandles(transport::Reactor& reactor, Release release, Duration life)
    : reactor_(reactor), release_(std::move(release)), life_(life) {}

KeptHandles::~KeptHandles() {
    if (timer_)
        reactor_.cancel(*timer_);
}

void KeptHandles::put(Kept kept) {
    kept_.push_back({std::move(kept), reactor_.clock().now() + life_});
    if (kept_.size() > max_kept) {
        release_(kept_.front().kept.handle);
        kept_.pop_front();
    }
    wait_for_next();
}

std::optional<HandleId> KeptHandles::take(InodeNumber inode, std::uint32_t credential) {
    const auto found = std::ranges::find_if(
        kept_, [&](const Timed& each) { return each.kept.inode == inode && each.kept.credential == credential; });
    if (found == kept_.end())
        return std::nullopt;
    const HandleId handle = found->kept.handle;
    kept_.erase(found);
    return handle;
}

void KeptHandles::drop(InodeNumber directory, std::string_view name) {
    std::erase_if(kept_, [&](const Timed& each) {
        const bool is_of_it =
            directory == 0 || (each.kept.directory == directory && (name.empty() || each.kept.name == name));
        if (is_of_it)
            release_(each.kept.handle);
        return is_of_it;
    });
}

void KeptHandles::expire() {
    timer_.reset();
    const TimePoint now = reactor_.clock().now();
    while (!kept_.empty() && kept_.front().ends <= now) {
        release_(kept_.front().kept.handle);
        kept_.pop_front();
    }
    wait_for_next();
}

void KeptHandles::wait_for_next() {
    if (!timer_ && !kept_.empty())
        timer_ = reactor_.after(kept_.front().ends - reactor_.clock().now(), [this] { expire(); });
}

}  // namespace remofile::filesystem
