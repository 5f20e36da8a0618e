// SPDX-License-Identifier: MIT
#include "remofs/program/spooler.hpp"

#include <grp.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <utility>
#include <vector>

#include "base/log.hpp"
#include "filesystem/replay.hpp"

namespace remofile::remofs {
namespace {

// A mount that ends waits so long for its server, and its disk takes some time.
constexpr auto patience_with_mount_before = std::chrono::seconds(25);
constexpr auto time_between_looks = std::chrono::milliseconds(100);

std::vector<std::uint32_t> groups_of_process() {
    std::vector<gid_t> groups(static_cast<std::size_t>(std::max(0, ::getgroups(0, nullptr))));
    groups.resize(static_cast<std::size_t>(std::max(0, ::getgroups(static_cast<int>(groups.size()), groups.data()))));
    return {groups.begin(), groups.end()};
}

}  // namespace

Spooler::Spooler(spool::Directory directory, std::string source, Counters& counters)
    : directory_(std::move(directory)), source_(std::move(source)), counters_(counters) {}

Task<void> Spooler::wait_for_turn(transport::Reactor& reactor) {
    const TimePoint until = reactor.clock().now() + patience_with_mount_before;
    bool is_first = true;
    for (;;) {
        auto turn = directory_.lock(source_);
        if (!turn)
            log::warn("{}: {}", directory_.path(), turn.error().to_string());
        else
            turn_ = std::move(*turn);
        if (!turn || turn_ || reactor.clock().now() >= until)
            co_return;
        if (std::exchange(is_first, false))
            log::info("another mount of {} is ending, or sends what it kept in {}: waiting for it", source_,
                      directory_.path());
        Completion<bool> pause;
        reactor.after(time_between_looks, [&pause] { pause.deliver(true); });
        co_await pause;
    }
}

Task<void> Spooler::send(client::Session& session, transport::Reactor& reactor, Tell tell) {
    co_await wait_for_turn(reactor);
    const auto names = directory_.names();
    if (!names) {
        const std::string line = fmt::format("{}: {}", directory_.path(), names.error().to_string());
        log::error("{}", line);
        tell(line);
        co_return;
    }
    bool may_go_on = turn_.has_value();
    for (const std::string& name : *names) {
        auto contents = directory_.read(name);
        if (!contents) {
            const std::string line = fmt::format("{} is {}: it stays there, and nothing of it is sent",
                                                 directory_.path_of(name), contents.error().to_string());
            log::error("{}", line);
            tell(line);
            continue;
        }
        if (contents->source != source_)
            continue;
        ++left_;
        if (may_go_on)
            may_go_on = co_await send_file(session, name, std::move(*contents), tell);
        if (may_go_on)
            --left_;
        else
            log::warn("{} is kept for another time", directory_.path_of(name));
    }
    turn_.reset();
}

Task<bool> Spooler::send_file(client::Session& session, std::string name, spool::Contents contents, Tell tell) {
    const std::string path = directory_.path_of(name);
    const auto say = [&tell](const std::string& line) {
        log::warn("{}", line);
        tell(line);
    };
    const wire::FileIdentity& root = contents.objects.front().identity;
    const wire::HelloReply& hello = session.hello();
    if (hello.root_attributes.identity.inode != root.inode || hello.root_attributes.identity.birth != root.birth) {
        say(fmt::format("{} is of another directory than {} is now: it stays there, and nothing of it is sent", path,
                        source_));
        co_return false;
    }
    log::info("sending what was kept in {}: {} files with {} bytes, and {} changes of names and attributes", path,
              contents.written.size(), contents.bytes(), contents.changes.size());
    for (;;) {
        std::uint32_t credential = 0;
        if (session.hello().client_identity) {
            const auto number = co_await session.credential(::geteuid(), ::getegid(), groups_of_process());
            credential = number.value_or(0U);
        }
        auto progress = spool::Progress::open(directory_, name);
        if (!progress) {
            say(fmt::format("{}: {}", path, progress.error().to_string()));
            co_return false;
        }
        filesystem::Replay replay(session, contents, *progress, credential);
        const auto outcome = co_await replay.run();
        if (outcome.status() == Status::no_session) {
            log::info("the server has lost the session while {} was being sent: it is sent on", path);
            continue;
        }
        if (!outcome) {
            say(fmt::format("{} is not sent to its end: {}; the next mount goes on", path, describe(outcome.status())));
            co_return false;
        }
        for (const std::string& conflict : outcome->conflicts)
            say(conflict);
        counters_.at("spool.sent_files").add(outcome->files);
        counters_.at("spool.sent_changes").add(outcome->changes);
        counters_.at("spool.conflicts").add(outcome->conflicts.size());
        if (!outcome->failure.empty()) {
            say(fmt::format("{} is not sent to its end: {}; the next mount goes on", path, outcome->failure));
            co_return false;
        }
        if (const auto removed = directory_.remove(name); !removed)
            say(fmt::format("{} {}", path, removed.error().to_string()));
        log::info("all that was kept in {} is at the server: {} files and {} changes, {} conflicts", path,
                  outcome->files, outcome->changes, outcome->conflicts.size());
        co_return true;
    }
}

void Spooler::announce_end() {
    if (auto turn = directory_.lock(source_))
        turn_ = std::move(*turn);
}

void Spooler::keep(filesystem::FileSystem& files) {
    const filesystem::FileSystem::Usage usage = files.usage();
    auto unsent = files.take_unsent();
    unsent.contents.source = source_;
    unsent.contents.ended_at = std::time(nullptr);
    for (const std::string& lost : unsent.lost)
        log::error("what was done in the mount is lost: {}", lost);
    if (unsent.contents.empty())
        return;
    const auto name = directory_.keep(unsent.contents);
    if (!name)
        return log::error(
            "what the server has not got could not be kept in {}: the file {}; {} bytes and {} changes of names and "
            "attributes are lost",
            directory_.path(), name.error().to_string(), usage.pending_write_bytes, usage.pending_changes);
    log::warn(
        "kept what the server has not got in {}: {} files with {} bytes, and {} changes of names and attributes; the "
        "next mount of {} with spool={} sends it",
        directory_.path_of(*name), unsent.contents.written.size(), unsent.contents.bytes(),
        unsent.contents.changes.size(), source_, directory_.path());
}

}  // namespace remofile::remofs
