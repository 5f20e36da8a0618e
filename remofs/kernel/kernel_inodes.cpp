// SPDX-License-Identifier: MIT
#include "remofs/kernel/kernel_inodes.hpp"

#include <utility>

namespace remofile::remofs {

KernelInodes::KernelInodes(filesystem::InodeMap& inodes, transport::Reactor& reactor, Counters& counters, Limits limits)
    : inodes_(inodes),
      reactor_(reactor),
      asked_for_(counters.at("fuse.files_asked_for")),
      limits_(limits),
      given_out_since_(limits.batch) {}

void KernelInodes::given_out() {
    ++given_out_since_;
    if (notifier_ == nullptr || asking_ || inodes_.size() <= limits_.kept || given_out_since_ < limits_.batch / 4)
        return;
    ask();
}

void KernelInodes::ask() {
    given_out_since_ = 0;
    auto chosen = inodes_.not_used_lately(limits_.batch);
    if (chosen.empty())
        return;
    asking_ = true;
    asked_for_.add(chosen.size());
    notifier_->run([this, chosen = std::move(chosen)] {
        send_(chosen);
        reactor_.post([this] { asking_ = false; });
    });
}

}  // namespace remofile::remofs
