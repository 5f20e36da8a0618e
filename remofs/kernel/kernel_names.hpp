// SPDX-License-Identifier: MIT
// When the kernel is told to drop names that it keeps.
//
// The kernel takes the lock of the directory to drop a name of it, and holds that lock while a request of its own that
// looks into the directory, or changes it, waits for our answer. Such an answer may wait for the server, which waits
// for another client to let go of a name, whose kernel is in the same position towards us. So nobody is kept waiting
// for a name to be dropped where a request that holds the lock is under way: it is dropped right after the answer. A
// program on this mount may see it until then, no longer than the kernel was allowed to keep it. The same goes for a
// lock of which no request tells, once a name has waited for it for a while; not for a thread that has not come to run,
// for what it would have dropped is still shown to everybody. But where very many names are on their way the server has
// to wait: it might go on for ever, and withhold the answer too.
//
// What is done on this mount to a name before it has been dropped, as the request that does it holds the lock, the
// kernel does to what it thinks the name stands for: rename(2) moves that to the new name, unlink(2) takes a link from
// its attributes. So these go right after the name, once the lock is free, and a name is dropped wherever it is moved.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "filesystem/front_cache.hpp"
#include "filesystem/inode_number.hpp"
#include "remofs/kernel/notifier.hpp"
#include "transport/reactor.hpp"

namespace remofile::remofs {

// One thread: the event loop's.
class KernelNames : public filesystem::FrontNames {
public:
    explicit KernelNames(transport::Reactor& reactor) : reactor_(reactor) {}
    ~KernelNames() override;
    KernelNames(const KernelNames&) = delete;
    KernelNames& operator=(const KernelNames&) = delete;

    // Makes the kernel drop a name, and then the attributes of what it stood for, unless that is 0. Runs on the
    // notifier's thread and may block.
    using Send = std::function<void(InodeNumber directory, const std::string& name, InodeNumber meant)>;
    // Makes the kernel drop what it keeps of a listing. Takes no lock that waits for an answer of ours.
    using DropListing = std::function<void(InodeNumber directory)>;

    // Until then no name is kept anywhere. The notifier must outlive all further use.
    void notify_by(Notifier& notifier, Send send, DropListing drop_listing) {
        notifier_ = &notifier;
        send_ = std::move(send);
        drop_listing_ = std::move(drop_listing);
    }

    void drop_name(InodeNumber directory, const std::string& name, InodeNumber meant) override;
    // The name has become another one by a request that is not answered yet.
    void renamed(InodeNumber directory, const std::string& name, InodeNumber new_directory,
                 const std::string& new_name);
    void drop_listing(InodeNumber directory) override {
        if (drop_listing_)
            drop_listing_(directory);
    }
    void when_names_dropped(std::function<void()> done) override;

    // The kernel holds the locks of these directories from now on, and not any more. 0 is none.
    using Directories = std::array<InodeNumber, 2>;
    void lock(const Directories& directories);
    void unlock(const Directories& directories);

    // Names that may be on their way to the kernel and confirmed already. What a mount keeps of names is less, so that
    // honest servers do not get there before their patience ends.
    static constexpr std::size_t max_on_their_way = 256U << 10;

private:
    struct Name {
        InodeNumber directory = 0;
        std::string name;
        InodeNumber meant = 0;
    };
    struct Waiting {
        std::uint64_t batch = 0;  // after which it is done
        std::function<void()> done;
        transport::TimerId timer;
    };
    using WaitingPosition = std::list<Waiting>::iterator;

    void send_queued();
    void send(const Name& name);
    Duration waits_for_lock() const;
    void be_patient(WaitingPosition waiting, Duration time);
    void dropped(std::uint64_t batch, const std::vector<Name>& names);
    void release(std::uint64_t up_to_batch);
    bool may_be_stuck() const;
    bool must_wait() const { return on_their_way_ > max_on_their_way; }

    transport::Reactor& reactor_;
    Notifier* notifier_ = nullptr;
    Send send_;
    DropListing drop_listing_;
    std::vector<Name> queued_;
    std::uint64_t sent_batches_ = 0;
    std::uint64_t dropped_batches_ = 0;
    // By their directories, what is sent and not dropped yet: names, and what they stood for.
    std::unordered_map<InodeNumber, std::multimap<std::string, InodeNumber, std::less<>>> dropping_;
    std::size_t on_their_way_ = 0;                         // all of those
    std::unordered_map<InodeNumber, std::size_t> locked_;  // requests
    std::list<Waiting> waiting_;
    std::atomic<TimePoint> sending_since_{TimePoint::max()};  // the name that the notifier's thread is busy with
};

}  // namespace remofile::remofs
