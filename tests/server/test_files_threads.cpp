// SPDX-License-Identifier: MIT
// Many threads at once on the same few files, with hardly any descriptors. What counts is that nothing breaks, and what
// thread sanitizer sees.
#include <sys/stat.h>

#include <atomic>
#include <iostream>
#include <random>
#include <thread>

#include "catch.hpp"
#include "export_fixture.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;

namespace {

constexpr std::uint32_t read_write = wire::open_read | wire::open_write;

std::unique_ptr<Export> small_tree(std::size_t max_open_descriptors = SIZE_MAX) {
    ExportOptions options;
    options.max_idle_descriptors = 4;
    options.max_open_descriptors = max_open_descriptors;
    auto exported = std::make_unique<Export>(std::move(options));
    for (const auto* directory : {"a", "b", "c"}) {
        std::filesystem::create_directory(exported->directory / directory);
        for (const auto* file : {"x", "y"})
            write_file(exported->directory / (std::string(directory) + "/" + file), "content");
    }
    return exported;
}

// A client of a thread's own, doing this and that.
class Busy {
public:
    Busy(FileService& service, unsigned seed) : random_(seed), session_(service) {}

    void act() {
        const NodeId directory = session_.lookup(Session::root, pick({"a", "b", "c"}));
        const std::string name = pick({"x", "y", "z"});
        const NodeId node = session_.lookup(directory, name);
        switch (random_() % 12) {
            case 0:
                session_.call(wire::Rename{.parent = directory,
                                           .name = name,
                                           .new_parent = session_.lookup(Session::root, pick({"a", "b", "c"})),
                                           .new_name = pick({"x", "y", "z"}),
                                           .flags = static_cast<std::uint32_t>(random_() % 3)});
                break;
            case 1:
                session_.call(wire::Unlink{.parent = directory, .name = name});
                break;
            case 2:
                session_.call(wire::Rename{.parent = Session::root,
                                           .name = pick({"a", "b", "c"}),
                                           .new_parent = Session::root,
                                           .new_name = pick({"a", "b", "c"}),
                                           .flags = wire::rename_exchange});
                break;
            case 3:
                session_.call(wire::Link{.node = node, .new_parent = directory, .new_name = pick({"x", "y", "z"})});
                break;
            case 4:
                session_.list(directory, true);
                break;
            case 5:
                session_.call(wire::Getattr{.node = node});
                session_.call(wire::Setattr{.node = node, .which = wire::set_mode, .mode = 0600});
                break;
            case 6:
                if (node)
                    keep(session_.open(node, read_write));
                break;
            case 7:
                use_kept();
                break;
            default:
                use_file(directory, name, node);
        }
        if (random_() % 8 == 0)
            session_.call(wire::Forget{.nodes = {{.node = node, .count = 100}, {.node = directory, .count = 100}}});
    }

    // Uses of open files that failed, although only clients remove and rename anything.
    std::size_t failures() const { return failures_; }

private:
    // Some stay open, with or without a descriptor.
    void keep(HandleId handle) {
        if (!handle)
            return;
        kept_.push_back(handle);
        if (kept_.size() <= 6)
            return;
        session_.call(wire::Release{.handle = kept_.front()});
        kept_.erase(kept_.begin());
    }
    void use_kept() {
        for (const HandleId handle : kept_) {
            const bool right = session_.write(handle, 0, "content") && session_.read(handle, 0, 7) == "content" &&
                               session_.call(wire::Getattr{.handle = handle});
            failures_ += right ? 0 : 1;
        }
    }
    void use_file(NodeId directory, const std::string& name, NodeId node) {
        HandleId handle = session_.new_handle();
        if (node)
            handle = session_.open(node, read_write);
        else
            session_.create(directory, name, handle);
        session_.write(handle, 0, "content");
        session_.read(handle, 0, 100);
        session_.call(wire::Setlk{
            .handle = handle, .owner = LockOwner{1}, .range = {.type = wire::LockType::write, .start = 0, .end = 9}});
        session_.call(wire::Flock{.handle = handle, .type = wire::LockType::write});
        session_.call(wire::Flush{.handle = handle, .owner = LockOwner{1}});
        session_.call(wire::Release{.handle = handle});
    }
    std::string pick(std::initializer_list<const char*> names) { return names.begin()[random_() % names.size()]; }

    std::minstd_rand random_;
    Session session_;
    std::vector<HandleId> kept_;
    std::size_t failures_ = 0;
};

}  // namespace

TEST_CASE("sessions on several threads do as they like with the same files") {
    const auto seed = static_cast<unsigned>(std::random_device{}());
    std::cout << "seed " << seed << "\n";
    const auto exported = small_tree(8);
    std::vector<std::thread> threads;
    std::atomic<std::size_t> failures = 0;
    for (unsigned number = 0; number < 4; ++number)
        threads.emplace_back([&, number] {
            Busy busy(*exported->service, seed + number);
            for (int i = 0; i < 500; ++i)
                busy.act();
            failures += busy.failures();
        });
    for (auto& thread : threads)
        thread.join();
    CHECK(failures == 0);
    // What is left is in order.
    Session session(*exported->service);
    for (const auto* name : {"a", "b", "c"})
        for (const auto& entry : session.list(session.lookup(Session::root, name), true))
            if (entry.entry.node)
                CHECK(session.call(wire::Getattr{.node = entry.entry.node}));
}

TEST_CASE("a file that replaces another while that name is being removed keeps its handles") {
    ExportOptions options;
    options.max_idle_descriptors = 1;
    options.max_open_descriptors = 2;
    const Export exported(std::move(options));
    std::atomic<bool> over = false;
    std::vector<std::thread> removing;
    for (int number = 0; number < 3; ++number)
        removing.emplace_back([&] {
            Session session(*exported.service);
            while (!over)
                session.call(wire::Unlink{.parent = Session::root, .name = "target"});
        });
    Session session(*exported.service);
    std::size_t lost = 0;
    for (int round = 0; round < 500; ++round) {
        std::vector<HandleId> handles;
        for (const auto* name : {"a", "b", "c", "d", "e", "f"}) {
            const HandleId handle = session.new_handle();
            // With so few descriptors there may be none for a moment.
            while (session.create(Session::root, name, handle).status == Status::too_many_files)
                std::this_thread::yield();
            handles.push_back(handle);
            session.write(handle, 0, name);
        }
        // The first of them have given up their descriptors.
        for (const auto* name : {"a", "b", "c", "d", "e", "f"})
            session.call(
                wire::Rename{.parent = Session::root, .name = name, .new_parent = Session::root, .new_name = "target"});
        for (const HandleId handle : handles) {
            lost += session.read(handle, 0, 1).size() == 1 ? 0 : 1;
            session.call(wire::Release{.handle = handle});
        }
    }
    over = true;
    for (auto& thread : removing)
        thread.join();
    CHECK(lost == 0);
}

TEST_CASE("several threads carry out requests of one session while it ends") {
    for (int round = 0; round < 20; ++round) {
        const auto exported = small_tree();
        Session session(*exported->service);
        const NodeId file = session.walk("a/x");
        std::atomic<std::uint64_t> next{1000};
        std::atomic<std::size_t> decided = 0;
        std::atomic<std::size_t> waiting = 0;
        std::vector<std::thread> threads;
        const auto call = [&](const auto& request) {
            auto outcome = exported->service->carry_out(
                session.files(), RequestId{next++}, std::decay_t<decltype(request)>::opcode, wire::encode_body(request),
                {}, {}, [&](Outcome) { ++decided; });
            waiting += outcome ? 0 : 1;
            return outcome ? outcome->status : Status::ok;
        };
        for (int number = 0; number < 3; ++number)
            threads.emplace_back([&] {
                Status status = Status::ok;
                while (status != Status::no_session) {
                    const HandleId handle{next++};
                    status = call(wire::Open{.node = file, .handle = handle, .flags = read_write});
                    call(wire::Lookup{.parent = Session::root, .name = "b", .node = {NodeId{next++}}});
                    call(wire::Flock{.handle = handle, .type = wire::LockType::write, .wait = true});
                    call(wire::Setlk{.handle = handle,
                                     .owner = LockOwner{handle.value},
                                     .range = {.type = wire::LockType::write, .start = 0, .end = 9},
                                     .wait = true});
                }
            });
        while (waiting < 5)
            std::this_thread::yield();
        session.close();
        for (auto& thread : threads)
            thread.join();
        CHECK(eventually([&] { return decided == waiting; }));
        // Nothing of it is left.
        Session other(*exported->service);
        const HandleId handle = other.open(other.walk("a/x"), read_write);
        CHECK(other.call(wire::Flock{.handle = handle, .type = wire::LockType::write}));
        CHECK(other.call(wire::Setlk{
            .handle = handle, .owner = LockOwner{1}, .range = {.type = wire::LockType::write, .start = 0, .end = 9}}));
    }
}
