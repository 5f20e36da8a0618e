// SPDX-License-Identifier: MIT
// When the kernel is told to drop pages, and when it need not be.
#include "remofs/kernel/kernel_pages.hpp"

#include <sys/stat.h>

#include <semaphore>

#include "catch.hpp"

using namespace remofile;
using namespace remofile::remofs;

namespace {

struct Fixture {
    Counters counters;
    transport::Reactor reactor;
    InodeMap inodes{1, NodeId{1}, {}};
    std::counting_semaphore<> gate{1000};  // one notification may pass for each release
    Notifier notifier{reactor, counters, [this](InodeNumber) { gate.acquire(); }};
    KernelPages pages{reactor, inodes};
    InodeNumber file = add_file();

    std::vector<std::uint64_t> stored;
    std::vector<InodeNumber> without_attributes;

    Fixture() {
        pages.notify_by(
            notifier, [this](InodeNumber, std::uint64_t offset, std::byte) { stored.push_back(offset); },
            [this](InodeNumber inode) { without_attributes.push_back(inode); });
    }
    ~Fixture() {
        gate.release(1000);
        notifier.stop();
    }
    InodeNumber add_file() {
        wire::EntryReply entry{.node = NodeId{2}, .attributes = {}};
        entry.attributes.mode = S_IFREG | 0644;
        entry.attributes.identity.inode = 7;
        std::vector<wire::ForgetNode> unneeded;
        Inode* inode = inodes.adopt(filesystem::root_inode, entry, unneeded);
        inode->open_count = 1;
        return inode->id;
    }
    std::uint64_t notifications() { return counters.at("fuse.notifications").value(); }
    // Until the notifier has nothing left to do.
    void settle() {
        bool settled = false;
        reactor.at_end_of_turn([&] {
            notifier.when_settled(file, [&] {
                settled = true;
                reactor.stop();
            });
        });
        const auto deadline = reactor.after(std::chrono::seconds(20), [this] { reactor.stop(); });
        reactor.run();
        reactor.cancel(deadline);
        REQUIRE(settled);
    }
};

}  // namespace

TEST_CASE("pages: a file of which nothing was read or written needs no notification") {
    Fixture f;
    bool done = false;
    f.pages.drop(f.file, [&] { done = true; });
    CHECK(done);
    f.settle();
    CHECK(f.notifications() == 0);
}

TEST_CASE("pages: what was read is dropped once, however often it is void") {
    Fixture f;
    f.pages.filled(f.file);
    int done = 0;
    f.pages.drop(f.file, [&] { ++done; });
    f.pages.drop(f.file, [&] { ++done; });
    CHECK(done == 0);
    f.settle();
    CHECK(done == 2);
    CHECK(f.notifications() == 1);
    f.pages.drop(f.file);
    f.settle();
    CHECK(f.notifications() == 1);
    f.pages.filled(f.file);
    f.pages.drop(f.file);
    f.settle();
    CHECK(f.notifications() == 2);
}

TEST_CASE("pages: an answer that tells of another size takes the place of the notification") {
    Fixture f;
    f.pages.telling(f.file, 100);
    f.pages.filled(f.file);
    bool done = false;
    {
        const KernelPages::Question question(f.pages, f.file);
        f.pages.drop(f.file, [&] { done = true; });
        f.settle();
        CHECK_FALSE(done);
        f.pages.telling(f.file, 200);
        CHECK(done);
    }
    f.settle();
    CHECK(f.notifications() == 0);

    // The kernel may have missed it.
    f.pages.telling(f.file, 200);
    f.settle();
    CHECK(f.notifications() == 1);
}

TEST_CASE("pages: an answer of the same size goes before the notification") {
    Fixture f;
    f.pages.telling(f.file, 100);
    f.pages.filled(f.file);
    bool done = false;
    {
        const KernelPages::Question question(f.pages, f.file);
        f.pages.drop(f.file, [&] { done = true; });
        f.settle();
        CHECK(f.notifications() == 0);
        f.pages.telling(f.file, 100);
        CHECK(f.notifications() == 0);
    }
    f.settle();
    CHECK(done);
    CHECK(f.notifications() == 1);
}

TEST_CASE("pages: for a while after a notification, sizes that have grown are stored before they are told") {
    Fixture f;
    CHECK_FALSE(f.pages.may_refuse(f.file, 200));
    f.pages.telling(f.file, 100);
    f.pages.filled(f.file);
    f.pages.drop(f.file);
    f.settle();
    CHECK(f.notifications() == 1);
    CHECK(f.pages.may_refuse(f.file, 200));
    std::optional<Status> outcome;
    spawn([](KernelPages& pages, InodeNumber file, std::optional<Status>& status) -> Task<void> {
        status = co_await pages.store_last(file, 200, std::byte{1}, nullptr);
    }(f.pages, f.file, outcome));
    f.pages.filled(f.file);
    f.pages.drop(f.file);
    f.settle();
    REQUIRE(outcome == Status::ok);
    CHECK(f.stored == std::vector<std::uint64_t>{199});
    CHECK_FALSE(f.pages.may_refuse(f.file, 200));
    CHECK(f.pages.may_refuse(f.file, 201));
    f.pages.extended(f.file, 300);
    CHECK_FALSE(f.pages.may_refuse(f.file, 300));

    // An answer that may be refused takes no notification's place.
    f.pages.filled(f.file);
    bool done = false;
    {
        const KernelPages::Question question(f.pages, f.file);
        f.pages.drop(f.file, [&] { done = true; });
        f.pages.telling(f.file, 250);
        CHECK_FALSE(done);
    }
    f.settle();
    CHECK(done);
    CHECK(f.pages.may_refuse(f.file, 300));
}

TEST_CASE("pages: whoever waits for them to be current has them dropped at once, and may be told to give up") {
    Fixture f;
    while (f.gate.try_acquire()) {
    }
    f.pages.filled(f.file);
    const KernelPages::Question question(f.pages, f.file);
    f.pages.drop(f.file);
    client::Cancellation cancellation;
    std::optional<Status> first, second;
    const auto wait = [](KernelPages& pages, InodeNumber file, client::Cancellation* given,
                         std::optional<Status>& outcome) -> Task<void> {
        outcome = co_await pages.current(file, given);
    };
    spawn(wait(f.pages, f.file, &cancellation, first));
    spawn(wait(f.pages, f.file, nullptr, second));
    CHECK_FALSE(first.has_value());
    cancellation.cancel();
    REQUIRE(first.has_value());
    CHECK(*first == Status::interrupted);
    CHECK_FALSE(second.has_value());
    f.gate.release(1000);
    f.settle();
    REQUIRE(second.has_value());
    CHECK(*second == Status::ok);
    CHECK(f.notifications() == 1);
}

TEST_CASE("pages: attributes are dropped at once, and an answer that was asked for before may be refused then") {
    Fixture f;
    CHECK_FALSE(f.pages.may_refuse(f.file, 10));
    f.pages.drop_attributes(f.file);
    CHECK(f.without_attributes == std::vector<InodeNumber>{f.file});
    CHECK(f.pages.may_refuse(f.file, 10));
}
