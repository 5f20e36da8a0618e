// SPDX-License-Identifier: MIT
#include "filesystem/lent_inodes.hpp"

#include <algorithm>
#include <ranges>

namespace remofile::filesystem {
namespace {

// What is made in two round trips should be there. Each time that more are asked for it is twice as many.
constexpr std::array<std::uint32_t, 2> wanted_at_first{32, 8};
constexpr std::array<std::uint32_t, 2> wanted_at_most{128, 32};

}  // namespace

LentInodes::LentInodes(client::Session& session, const Clock& clock, Counters& counters, bool borrows)
    : session_(session),
      clock_(clock),
      borrows_(borrows),
      taken_(counters.at("lent.taken")),
      missed_(counters.at("lent.missed")) {}

void LentInodes::begin_epoch() {
    if (std::exchange(epoch_, session_.epoch()) == session_.epoch())
        return;
    asking_ = refused_ = had_any_ = false;
    offset_.reset();
    for (std::size_t kind = 0; kind < pools_.size(); ++kind)
        pools_[kind] = {.inodes = {}, .wanted = wanted_at_first[kind]};
}

void LentInodes::lost() {
    for (Pool& pool : pools_)
        pool.inodes.clear();
}

bool LentInodes::may_ask() const {
    return (session_.hello().features & wire::feature_lent_inodes) != 0 && !session_.hello().read_only && !asking_ &&
           !refused_;
}

void LentInodes::expect(NodeId directory) {
    begin_epoch();
    if (!offset_ && may_ask())
        spawn(ask(directory, 0, 0));
}

std::optional<wire::LentInode> LentInodes::take(Kind kind, NodeId directory) {
    expect(directory);
    if (!borrows_ || !offset_)
        return std::nullopt;
    std::optional<wire::LentInode> taken;
    Pool& from = pool(kind);
    if (!from.inodes.empty()) {
        taken = std::move(from.inodes.front());
        from.inodes.pop_front();
    }
    (taken ? taken_ : missed_).add();
    if (from.inodes.size() < from.wanted / 2 && may_ask()) {
        const auto lacks = [](const Pool& pool) {
            return pool.wanted - std::min<std::uint32_t>(pool.wanted, static_cast<std::uint32_t>(pool.inodes.size()));
        };
        spawn(ask(directory, lacks(pool(Kind::file)), lacks(pool(Kind::directory))));
        auto& wanted = from.wanted;
        wanted = std::min(2 * wanted, wanted_at_most[static_cast<std::size_t>(kind)]);
    }
    return taken;
}

Task<void> LentInodes::ask(NodeId directory, std::uint32_t files, std::uint32_t directories) {
    asking_ = true;
    const std::uint64_t epoch = epoch_;
    const wire::LendInodes message{.directory = directory, .files = files, .directories = directories};
    auto reply = co_await session_.call(message);
    if (epoch != epoch_ || epoch != session_.epoch())
        co_return;
    asking_ = false;
    if (!reply) {
        refused_ = true;
        co_return;
    }
    const bool has_any = !reply->body.files.empty() || !reply->body.directories.empty();
    take_in(std::move(reply->body));
    refused_ = files + directories > 0 && !has_any;
}

void LentInodes::take_in(wire::LendInodesReply reply) {
    // It was read before the answer was sent: what is made of it is never later than the server's.
    const wire::Timestamp& now = reply.now;
    offset_ = std::chrono::seconds(now.seconds) + std::chrono::nanoseconds(now.nanoseconds) -
              std::chrono::nanoseconds(clock_.now().time_since_epoch());
    const bool has_any = !reply.files.empty() || !reply.directories.empty();
    std::ranges::move(reply.files, std::back_inserter(pool(Kind::file).inodes));
    std::ranges::move(reply.directories, std::back_inserter(pool(Kind::directory).inodes));
    if (!had_any_ && on_first && has_any) {
        had_any_ = true;
        on_first();
    }
}

std::optional<wire::LendInodes> LentInodes::ask_along(NodeId directory) {
    begin_epoch();
    if (!borrows_ || !may_ask() || !pool(Kind::file).inodes.empty() || !pool(Kind::directory).inodes.empty())
        return std::nullopt;
    asking_ = true;
    return wire::LendInodes{
        .directory = directory, .files = pool(Kind::file).wanted, .directories = pool(Kind::directory).wanted};
}

void LentInodes::came_along(const Result<wire::LendInodesReply>& reply) {
    if (epoch_ != session_.epoch())
        return;
    asking_ = false;
    // Without an answer they are asked for another time.
    if (!reply)
        return;
    refused_ = reply->files.empty() && reply->directories.empty();
    take_in(*reply);
}

std::optional<wire::Timestamp> LentInodes::now() {
    if (!offset_ || epoch_ != session_.epoch())
        return std::nullopt;
    last_ = std::max(last_, *offset_ + std::chrono::nanoseconds(clock_.now().time_since_epoch()));
    const auto seconds = std::chrono::floor<std::chrono::seconds>(last_);
    return wire::Timestamp{.seconds = seconds.count(),
                           .nanoseconds = static_cast<std::uint32_t>((last_ - seconds).count())};
}

}  // namespace remofile::filesystem
