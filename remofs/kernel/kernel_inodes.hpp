// SPDX-License-Identifier: MIT
// When the kernel is asked to give back files that it keeps.
//
// The kernel keeps the files that it was told of until its own memory runs short, and as long as it does, they are
// known here by number: a walk of a large tree would fill our memory, of which the kernel knows nothing. From
// Linux 6.18 on it can be asked for them. It gives back, by FORGET, what nobody uses: nothing that is open, mapped,
// mounted on or some program's working directory, nor a directory of which it keeps names. It looks the others up again
// when they are asked for, and what it kept of their contents is gone: so those are named that were not used lately.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "base/counters.hpp"
#include "filesystem/inode_map.hpp"
#include "filesystem/inode_number.hpp"
#include "remofs/kernel/notifier.hpp"

namespace remofile::remofs {

// One thread: the event loop's.
class KernelInodes {
public:
    struct Limits {
        // Files that are known before any is asked for. Listings name files unasked up to 65,536 that are known: what
        // is asked for keeps them below that.
        std::size_t kept = 48U << 10;
        // So many are asked for at a time, and the next so many when a quarter as many have become known meanwhile: the
        // kernel does not give back all that are named.
        std::size_t batch = 4096;
    };

    // All must outlive it.
    KernelInodes(filesystem::InodeMap& inodes, transport::Reactor& reactor, Counters& counters, Limits limits);
    KernelInodes(filesystem::InodeMap& inodes, transport::Reactor& reactor, Counters& counters)
        : KernelInodes(inodes, reactor, counters, Limits{}) {}
    KernelInodes(const KernelInodes&) = delete;
    KernelInodes& operator=(const KernelInodes&) = delete;

    // Asks the kernel for these files. Runs on the notifier's thread and may block: to drop a file's pages the kernel
    // waits until those that it reads have been answered.
    using Send = std::function<void(const std::vector<InodeNumber>&)>;

    // Until then none is asked for. The notifier must outlive all further use.
    void notify_by(Notifier& notifier, Send send) {
        notifier_ = &notifier;
        send_ = std::move(send);
    }

    // An entry is given out.
    void given_out();

private:
    void ask();

    filesystem::InodeMap& inodes_;
    transport::Reactor& reactor_;
    Counters::Counter& asked_for_;
    const Limits limits_;
    Notifier* notifier_ = nullptr;
    Send send_;
    bool asking_ = false;
    std::size_t given_out_since_ = 0;  // the last were asked for
};

}  // namespace remofile::remofs
