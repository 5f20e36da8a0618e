// SPDX-License-Identifier: MIT
// Whose descriptors are closed when they run short, and what each session gets.
#include <algorithm>
#include <vector>

#include "catch.hpp"
#include "server/files/descriptor_budget.hpp"

using namespace remofile;
using namespace remofile::server;

namespace {

struct Handle final : DescriptorBudget::Holder {
    DescriptorBudget::Slot slot;
    bool spare = true;
    bool slow = false;
    bool closed = false;

    bool let_go(bool thorough) override {
        if (!spare || closed || (slow && !thorough))
            return false;
        closed = true;
        slot = {};
        return true;
    }
};
using HandlePtr = std::shared_ptr<Handle>;

struct Session {
    explicit Session(DescriptorBudget& its_budget) : budget(its_budget), share(budget.new_share()) {}

    // Null if there is no room.
    HandlePtr open(bool spare = true) {
        if (!budget.make_room(share))
            return nullptr;
        auto handle = std::make_shared<Handle>();
        handle->spare = spare;
        handle->slot = budget.take(share, handle);
        handles.push_back(handle);
        return handle;
    }
    std::size_t open_all(bool spare) {
        std::size_t opened = 0;
        while (opened < 10'000 && open(spare))
            ++opened;
        return opened;
    }
    std::size_t open_now() const {
        return static_cast<std::size_t>(
            std::ranges::count_if(handles, [](const auto& handle) { return !handle->closed; }));
    }

    DescriptorBudget& budget;
    DescriptorBudget::Share share;
    std::vector<HandlePtr> handles;
};

}  // namespace

TEST_CASE("one session gets three quarters of the descriptors, and whoever comes next finds some") {
    const auto budget = std::make_shared<DescriptorBudget>(100);
    Session first(*budget);
    Session second(*budget);
    Session third(*budget);
    Session fourth(*budget);
    CHECK(first.open_all(false) == 75);
    CHECK(second.open_all(false) == 19);
    CHECK(third.open_all(false) == 5);
    // Directories are read and closed: the last one that is free will do.
    CHECK(budget->make_room_for_directory());
    CHECK(fourth.open_all(false) == 1);
    CHECK(budget->count() == 100);
    CHECK(Session(*budget).open_all(false) == 0);
    CHECK(budget->make_room_for_directory().status() == Status::too_many_files);
    first.handles.clear();
    CHECK(budget->count() == 25);
    CHECK(second.open());
}

TEST_CASE("sessions that want all descriptors end with the same number each") {
    const auto budget = std::make_shared<DescriptorBudget>(100);
    Session first(*budget);
    Session second(*budget);
    for (int i = 0; i < 1000; ++i)
        REQUIRE(first.open());
    for (int i = 0; i < 1000; ++i)
        REQUIRE(second.open());
    // 3 / (3 × 2 + 1) of a hundred.
    CHECK(first.open_now() >= 42);
    CHECK(first.open_now() <= 44);
    CHECK(second.open_now() >= 42);
    CHECK(second.open_now() <= 44);
}

TEST_CASE("a small session is not asked while a large one can do without") {
    const auto budget = std::make_shared<DescriptorBudget>(100);
    Session small(*budget);
    Session large(*budget);
    for (int i = 0; i < 10; ++i)
        REQUIRE(small.open());
    for (int i = 0; i < 1000; ++i)
        REQUIRE(large.open());
    CHECK(small.open_now() == 10);
    // But where the large one cannot, the small one is.
    Session stubborn(*budget);
    large.handles.clear();
    while (stubborn.open(false)) {
    }
    CHECK(stubborn.open_now() > 60);
    CHECK(small.open_now() < 10);
}

TEST_CASE("those that were not used lately go first, and those that need time last") {
    const auto budget = std::make_shared<DescriptorBudget>(8);
    Session session(*budget);
    for (int i = 0; i < 6; ++i)
        session.open()->slow = i == 1;
    // All were new when they were opened; from now on it counts who is used.
    REQUIRE(session.open());
    const auto closed = [&] {
        std::vector<int> which;
        for (int i = 0; i < 6; ++i)
            if (session.handles[static_cast<std::size_t>(i)]->closed)
                which.push_back(i);
        return which;
    };
    REQUIRE(closed() == std::vector<int>{0});
    session.handles[2]->touch();
    REQUIRE(session.open());
    CHECK(closed() == std::vector<int>{0, 3});
    for (std::size_t i = 2; i < session.handles.size(); ++i)
        session.handles[i]->spare = false;
    REQUIRE(session.open(false));
    CHECK(closed() == std::vector<int>{0, 1, 3});
    CHECK_FALSE(session.open(false));
}

TEST_CASE("what is open goes on counting when its session has gone") {
    auto budget = std::make_shared<DescriptorBudget>(4);
    HandlePtr kept;
    {
        Session session(*budget);
        kept = session.open();
    }
    CHECK(budget->count() == 1);
    kept->slot = {};
    CHECK(budget->count() == 0);
    // And it may outlive the budget's other owners.
    kept->slot = budget->take(budget->new_share());
    budget.reset();
}

TEST_CASE("a process's descriptors are divided so that names and connections always have some") {
    for (const std::size_t limit : {8U, 64U, 128U, 256U, 512U, 1024U, 4096U, 65'536U, 1U << 20, 1U << 30}) {
        const DescriptorPlan plan = divide_descriptors(limit, 4096);
        INFO(limit << ": " << plan.idle << " idle, " << plan.open << " open");
        const std::size_t rest = limit - plan.idle - plan.open;
        CHECK(plan.open > limit / 4);
        CHECK(plan.idle >= 1);
        CHECK(plan.idle <= 4096);
        CHECK(rest >= std::min<std::size_t>(limit / 2, 64));
        CHECK(rest <= std::max<std::size_t>(limit / 2, 2048));
    }
    CHECK(divide_descriptors(1024, 0).idle == 1);
    CHECK(divide_descriptors(1024, 1).idle == 1);
}
