// SPDX-License-Identifier: MIT
// How many descriptors the handles and locks of all sessions have open, and whose are closed when more are wanted.
//
// The process has one limit for everything: what one client's open files take is missing to the others and to every
// look at a name. So names and connections have descriptors of their own (file_service.cpp divides them), and the rest
// is shared here by dynamic thresholds (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet
// switches", IEEE/ACM Transactions on Networking 6(2), 1998): a session may have three times as many as are free. Alone
// it gets three quarters, n of them that want all get 3/(3n + 1) each, and whoever comes next finds some.
//
// At the threshold somebody has to do without: of the session that has the most, whoever was not used lately and can
// be opened again. Only where nobody can is a request refused.
#pragma once

#include <atomic>
#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"

namespace remofile::server {

// What a process that may have `limit` descriptors does with them. The rest is for connections and for what requests
// under way open for a moment.
struct DescriptorPlan {
    std::size_t idle;  // of inodes that nobody works with; `wanted_idle` where there is room for them
    std::size_t open;  // of handles and locks
};
DescriptorPlan divide_descriptors(std::size_t limit, std::size_t wanted_idle);

// Callable from any thread. Shared by the export, its sessions and all that is counted, which may outlive the export.
class DescriptorBudget : public std::enable_shared_from_this<DescriptorBudget> {
public:
    // Something that has a descriptor open and can perhaps do without.
    class Holder {
    public:
        virtual ~Holder() = default;
        // Closes it and drops its slot. False if it cannot be spared now. `thorough`: also where that takes time.
        // Called with no lock held.
        virtual bool let_go(bool thorough) = 0;
        // It is wanted: others go first.
        void touch() { used_.store(true, std::memory_order_relaxed); }

    private:
        friend DescriptorBudget;
        std::atomic<bool> used_ = true;
    };

private:
    using Ring = std::list<std::weak_ptr<Holder>>;
    struct Account {
        std::size_t count = 0;
        Ring ring;  // those that can be asked to let go, the one to be asked next first
    };

public:
    // What one session has.
    using Share = std::shared_ptr<Account>;

    // A descriptor that counts as open as long as this lives. Without one, it is nothing.
    class Slot {
    public:
        Slot() = default;
        Slot(Slot&& other) noexcept;
        Slot& operator=(Slot&& other) noexcept;
        ~Slot();

    private:
        friend DescriptorBudget;
        void drop();
        std::shared_ptr<DescriptorBudget> budget_;
        Share share_;
        std::optional<Ring::iterator> position_;
    };

    explicit DescriptorBudget(std::size_t limit) : limit_(limit) {}

    Share new_share();
    // Before one more is opened. Error: too_many_files.
    Result<> make_room(const Share& share);
    // The same for a directory's, which are read and closed: as long as any are free, so that a client whose files have
    // all that it may have still lists its directories.
    Result<> make_room_for_directory();
    // The process has none left, whatever was counted: one is closed. False if nobody can do without.
    bool reclaim_one();
    // Counts one, whether there is room or not: what a client has open goes on working.
    Slot take(const Share& share, std::weak_ptr<Holder> holder = {});

    std::size_t count() const;

private:
    template <class Enough>
    bool reclaim_until(Enough&& enough);
    bool fits(const Account& account) const { return total_ < limit_ && account.count < 3 * (limit_ - total_); }
    std::shared_ptr<Holder> next_victim(std::unordered_map<const Account*, std::size_t>& asked, std::size_t rounds);

    const std::size_t limit_;
    mutable std::mutex mutex_;  // inside it: nothing
    // Guarded by mutex_, as what they point to.
    std::size_t total_ = 0;
    std::vector<std::weak_ptr<Account>> accounts_;
};

}  // namespace remofile::server
