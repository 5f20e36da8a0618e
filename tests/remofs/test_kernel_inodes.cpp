// SPDX-License-Identifier: MIT
// When the kernel is asked to give back files, and which.
#include "remofs/kernel/kernel_inodes.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <semaphore>
#include <vector>

#include "base/guarded.hpp"
#include "catch.hpp"

using namespace remofile;
using namespace remofile::remofs;

namespace {

constexpr std::uint32_t directory_mode = S_IFDIR | 0755;

struct Fixture {
    Counters counters;
    transport::Reactor reactor;
    std::counting_semaphore<> gate{0};  // the kernel takes its time: one question is taken for each release
    Guarded<std::vector<std::vector<InodeNumber>>> asked;
    Notifier notifier{reactor, counters, nullptr};
    filesystem::InodeMap inodes{1, NodeId{1}, {.identity = {.device = 7, .inode = 1}, .mode = directory_mode}};
    KernelInodes kernel{inodes, reactor, counters, {.kept = 10, .batch = 8}};
    std::uint64_t next = 100;

    ~Fixture() {
        gate.release(1000);
        notifier.stop();
    }
    void can_prune() {
        kernel.notify_by(notifier, [this](const std::vector<InodeNumber>& files) {
            gate.acquire();
            asked.lock()->push_back(files);
        });
    }
    InodeNumber give_out() {
        const wire::Attributes attributes{.identity = {.device = 7, .inode = ++next}, .mode = S_IFREG | 0644};
        const auto* inode = inodes.adopt_listed(filesystem::root_inode, "file", attributes);
        REQUIRE(inode != nullptr);
        kernel.given_out();
        return inode->id;
    }
    // Until the notifier has done what it was given.
    void settle() {
        const auto deadline = reactor.after(std::chrono::seconds(20), [this] {
            FAIL_CHECK("the notifier does not answer");
            reactor.stop();
        });
        notifier.run([this] { reactor.post([this] { reactor.stop(); }); });
        reactor.run();
        reactor.cancel(deadline);
    }
    std::size_t questions() { return asked.lock()->size(); }
};

}  // namespace

TEST_CASE("kernel inodes: nothing is asked for as long as few are known, or the kernel cannot be asked") {
    Fixture f;
    for (int i = 0; i < 30; ++i)
        f.give_out();
    CHECK(f.counters.at("fuse.files_asked_for").value() == 0);
    Fixture few;
    few.can_prune();
    for (int i = 0; i < 9; ++i)  // and the root
        few.give_out();
    CHECK(few.counters.at("fuse.files_asked_for").value() == 0);
}

TEST_CASE("kernel inodes: beyond the limit the oldest are asked for, and the next when some more have come") {
    Fixture f;
    f.gate.release(1000);
    f.can_prune();
    std::vector<InodeNumber> files;
    for (int i = 0; i < 10; ++i)
        files.push_back(f.give_out());
    f.settle();
    REQUIRE(f.questions() == 1);
    CHECK((*f.asked.lock())[0] == std::vector<InodeNumber>(files.begin(), files.begin() + 8));
    files.push_back(f.give_out());
    f.settle();
    CHECK(f.questions() == 1);
    files.push_back(f.give_out());
    f.settle();
    REQUIRE(f.questions() == 2);
    // Those that the kernel has not given back are asked for again after the others that were there.
    std::vector<InodeNumber> expected{files[8], files[9]};
    expected.insert(expected.end(), files.begin(), files.begin() + 6);
    CHECK((*f.asked.lock())[1] == expected);
    // It gives some back: few are known, and nothing more is asked for.
    std::vector<wire::ForgetNode> unneeded;
    for (const InodeNumber file : expected)
        f.inodes.forget(file, 1, unneeded);
    for (int i = 0; i < 5; ++i)
        f.give_out();
    f.settle();
    CHECK(f.questions() == 2);
}

TEST_CASE("kernel inodes: a kernel that takes its time is asked once") {
    Fixture f;
    f.can_prune();
    for (int i = 0; i < 100; ++i)
        f.give_out();
    CHECK(f.counters.at("fuse.files_asked_for").value() == 8);
    f.gate.release(1);
    f.settle();
    f.gate.release(1000);
    f.give_out();
    f.settle();
    CHECK(f.questions() == 2);
}
