// SPDX-License-Identifier: MIT
#include "remofs/kernel/kernel_names.hpp"

#include <algorithm>
#include <iterator>
#include <memory>

namespace remofile::remofs {
namespace {

// A directory's lock may also be held by who waits for another one, as rename(2) does: then no request tells of it.
constexpr auto patience = std::chrono::milliseconds(100);

}  // namespace

KernelNames::~KernelNames() {
    for (const Waiting& waiting : waiting_)
        reactor_.cancel(waiting.timer);
}

void KernelNames::drop_name(InodeNumber directory, const std::string& name, InodeNumber meant) {
    if (notifier_ == nullptr)
        return;
    if (queued_.empty())
        reactor_.at_end_of_turn([this] { send_queued(); });
    queued_.push_back({directory, name, meant});
}

void KernelNames::renamed(InodeNumber directory, const std::string& name, InodeNumber new_directory,
                          const std::string& new_name) {
    send_queued();
    const auto names = dropping_.find(directory);
    if (names == dropping_.end())
        return;
    const auto [begin, end] = names->second.equal_range(name);
    for (auto each = begin; each != end; ++each)
        drop_name(new_directory, new_name, each->second);
}

void KernelNames::send_queued() {
    if (queued_.empty())
        return;
    const auto names = std::make_shared<const std::vector<Name>>(std::exchange(queued_, {}));
    for (const Name& each : *names)
        dropping_[each.directory].emplace(each.name, each.meant);
    on_their_way_ += names->size();
    notifier_->run([this, names, batch = ++sent_batches_] {
        for (const Name& name : *names)
            send(name);
        reactor_.post([this, names, batch] { dropped(batch, *names); });
    });
}

// On the notifier's thread.
void KernelNames::send(const Name& name) {
    sending_since_ = reactor_.clock().now();
    send_(name.directory, name.name, name.meant);
    sending_since_ = TimePoint::max();
}

// For how long the name has waited that is being dropped; zero if none is.
Duration KernelNames::waits_for_lock() const {
    const TimePoint since = sending_since_;
    return since == TimePoint::max() ? Duration::zero() : reactor_.clock().now() - since;
}

void KernelNames::dropped(std::uint64_t batch, const std::vector<Name>& names) {
    for (const Name& each : names) {
        const auto directory = dropping_.find(each.directory);
        const auto [begin, end] = directory->second.equal_range(each.name);
        directory->second.erase(
            std::find_if(begin, end, [&](const auto& dropping) { return dropping.second == each.meant; }));
        if (directory->second.empty())
            dropping_.erase(directory);
    }
    on_their_way_ -= names.size();
    dropped_batches_ = batch;
    release(batch);
}

void KernelNames::when_names_dropped(std::function<void()> done) {
    send_queued();
    if (dropped_batches_ == sent_batches_ || (may_be_stuck() && !must_wait()))
        return done();
    waiting_.push_back({.batch = sent_batches_, .done = std::move(done), .timer = {}});
    be_patient(std::prev(waiting_.end()), patience);
}

void KernelNames::be_patient(WaitingPosition waiting, Duration time) {
    waiting->timer = reactor_.after(time, [this, waiting] {
        if (const Duration waited = waits_for_lock(); waited < patience)
            be_patient(waiting, patience - waited);
        else if (!must_wait())
            release(waiting->batch);
    });
}

// Those who wait for no later batch. In the order in which they came.
void KernelNames::release(std::uint64_t up_to_batch) {
    while (!waiting_.empty() && waiting_.front().batch <= up_to_batch) {
        const Waiting waiting = std::move(waiting_.front());
        waiting_.pop_front();
        reactor_.cancel(waiting.timer);
        waiting.done();
    }
}

bool KernelNames::may_be_stuck() const {
    return std::ranges::any_of(dropping_, [this](const auto& each) { return locked_.contains(each.first); });
}

void KernelNames::lock(const Directories& directories) {
    bool stuck = false;
    for (const InodeNumber directory : directories) {
        if (directory == 0)
            continue;
        ++locked_[directory];
        stuck |= dropping_.contains(directory);
    }
    if (stuck && !must_wait())
        release(sent_batches_);
}

void KernelNames::unlock(const Directories& directories) {
    for (const InodeNumber directory : directories)
        if (const auto found = locked_.find(directory); found != locked_.end() && --found->second == 0)
            locked_.erase(found);
}

}  // namespace remofile::remofs
