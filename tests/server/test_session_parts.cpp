// SPDX-License-Identifier: MIT
// The parts of a session by themselves: accounts, reply cache, lane, token.
#include <sys/stat.h>
#include <unistd.h>

#include <catch.hpp>

#include "export_fixture.hpp"
#include "server/sessions/reply_cache.hpp"
#include "server/sessions/session_accounts.hpp"
#include "server/sessions/session_lane.hpp"
#include "server/sessions/session_token.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t unlimited = UINT64_MAX;

ReplyPtr reply_of(std::uint64_t id, std::size_t bulk_bytes = 0, bool kept = false) {
    auto reply = std::make_shared<Reply>();
    reply->header.id = RequestId{id};
    reply->kept = kept;
    if (bulk_bytes != 0) {
        reply->bulk = Buffer::allocate(bulk_bytes);
        reply->has_bulk = true;
    }
    return reply;
}

}  // namespace

TEST_CASE("the reply cache forgets what was answered, and keeps no more than it may") {
    ReplyCache cache(5, 1U << 20);
    for (std::uint64_t id = 1; id <= 8; ++id)
        cache.keep(RequestId{id}, {.reply = reply_of(id)});
    CHECK(cache.full());
    CHECK(cache.size() == 5);
    CHECK(cache.find(RequestId{6}) == nullptr);
    cache.drop(RequestId{2});
    CHECK(cache.find(RequestId{2}) == nullptr);
    cache.drop_below(RequestId{5});
    CHECK(cache.size() == 1);
    REQUIRE(cache.find(RequestId{5}) != nullptr);
    CHECK(cache.find(RequestId{5})->reply->header.id == RequestId{5});
}

TEST_CASE("a lane packs small replies into one message, and large ones apart") {
    SessionLane lane(0);
    lane.attach({"a"});
    for (std::uint64_t id = 1; id <= 100; ++id)
        lane.queue(reply_of(id));
    lane.queue(reply_of(101, 1U << 20));
    lane.queue(reply_of(102, 1U << 20));
    std::vector<std::size_t> sizes;
    while (auto outgoing = lane.next_message(unlimited))
        sizes.push_back(outgoing->replies.size());
    CHECK(sizes == std::vector<std::size_t>{64, 37, 1});
}

TEST_CASE("a lane sends no more than there is room for") {
    SessionLane lane(0);
    lane.attach({"a"});
    for (std::uint64_t id = 1; id <= 3; ++id)
        lane.queue(reply_of(id, 1000));
    const std::uint64_t one = reply_of(1, 1000)->byte_count();
    CHECK_FALSE(lane.next_message(one - 1).has_value());
    CHECK(lane.next_message(2 * one + 1)->replies.size() == 2);
    CHECK(lane.unacknowledged_bytes() >= 2 * one);
    CHECK(lane.open_bytes() == lane.unacknowledged_bytes() + one);
    CHECK(lane.next_message(unlimited)->replies.size() == 1);
}

TEST_CASE("the reply cache is bounded by bytes, and forgets what the client has gone on from") {
    ReplyCache cache(100, 5000);
    for (std::uint64_t id = 1; id <= 20; ++id)
        cache.keep(RequestId{id},
                   {.reply = reply_of(id, 1000), .lane = static_cast<std::uint8_t>(id % 2), .generation = 1});
    CHECK(cache.full());
    CHECK(cache.size() == 5);
    cache.find(RequestId{3})->generation = 2;  // asked for again
    cache.drop_earlier(1, 2);
    CHECK_FALSE(cache.full());
    CHECK(cache.find(RequestId{1}) == nullptr);
    CHECK(cache.find(RequestId{2}) != nullptr);
    CHECK(cache.find(RequestId{3}) != nullptr);
    cache.drop_below(RequestId{100});
    CHECK(cache.size() == 0);
}

TEST_CASE("what is counted comes out even, and gross excess shows") {
    SessionAccounts accounts(10, 3, 1000);
    using wire::Account;
    for (int i = 0; i < 10; ++i)
        accounts.enter(Account::request);
    CHECK_FALSE(accounts.has_room(Account::request));
    CHECK(accounts.has_room(Account::control));
    CHECK(accounts.has_room(Account::lock_wait));
    for (int i = 0; i < 6; ++i)
        accounts.enter(Account::lock_wait);
    CHECK_FALSE(accounts.grossly_exceeded());
    accounts.enter(Account::lock_wait);
    CHECK(accounts.grossly_exceeded());
    accounts.leave(Account::lock_wait);
    CHECK(accounts.unanswered() == 16);
    accounts.enter_bulk(900);
    CHECK(accounts.has_room_for(100));
    CHECK_FALSE(accounts.has_room_for(101));
    accounts.leave_bulk(900);
    CHECK(accounts.enter_head(wire::max_unanswered_head_bytes));
    CHECK_FALSE(accounts.enter_head(1));
    accounts.leave_head(wire::max_unanswered_head_bytes);
    CHECK(accounts.enter_head(1));
}

TEST_CASE("a lane says which kept replies have arrived") {
    SessionLane lane(0);
    lane.attach({"a"});
    lane.queue(reply_of(1, 100, true));
    const auto first = lane.next_message(unlimited);
    lane.queue(reply_of(2, 100, false));
    lane.queue(reply_of(3, 100, true));
    const auto second = lane.next_message(unlimited);
    const std::uint64_t first_bytes = first->message.byte_count();
    CHECK(first->replies.front()->bulk.size() == 100);  // kept: shared with the message
    CHECK(lane.acknowledge(first_bytes - 1).empty());
    CHECK(lane.acknowledge(first_bytes) == std::vector{RequestId{1}});
    CHECK(lane.open_bytes() == second->message.byte_count());
    CHECK(lane.acknowledge(0).empty());
    CHECK(lane.open_bytes() == second->message.byte_count());
    CHECK(lane.acknowledge(1U << 20) == std::vector{RequestId{3}});
    CHECK(lane.open_bytes() == 0);
}

TEST_CASE("a lane without a connection sends nothing, and hands back what it had") {
    SessionLane lane(0);
    lane.attach({"a"});
    lane.queue(reply_of(1));
    CHECK(lane.detach().size() == 1);
    CHECK_FALSE(lane.next_message(unlimited).has_value());
    lane.attach({"b"});
    CHECK(lane.generation() == 2);
    CHECK_FALSE(lane.next_message(unlimited).has_value());
}

TEST_CASE("a token file must be one's own and private") {
    const test::TemporaryDirectory directory;
    const std::string file = directory / "token";
    CHECK(load_token(file).status() == Status::no_entry);
    test::write_file(file, " \tsecret word\n\n");
    ::chmod(file.c_str(), 0600);
    CHECK(*load_token(file) == "secret word");
    ::chmod(file.c_str(), 0640);
    const auto readable = load_token(file);
    CHECK(readable.status() == Status::access_denied);
    CHECK(readable.error().message.find("chmod 600") != std::string::npos);
    ::chmod(file.c_str(), 0600);
    test::write_file(file, "\n");
    CHECK(load_token(file).status() == Status::invalid);
    test::write_file(file, std::string(2000, 'x'));
    CHECK(load_token(file).status() == Status::invalid);
    CHECK(load_token(directory.path()).status() == Status::access_denied);
}

TEST_CASE("guesses at the token are limited for each origin, and remembered for so many") {
    TokenGuard guard("right");
    TimePoint now{1h};
    CHECK(guard.admit("right", {"a"}, now));
    CHECK_FALSE(guard.admit("righ", {"a"}, now));
    CHECK_FALSE(guard.admit(std::string("right") + '\0', {"a"}, now));
    CHECK_FALSE(guard.admit("", {"a"}, now));
    CHECK(guard.admit("right", {"a"}, now));
    CHECK_FALSE(guard.admit(std::string(5000, 'r'), {"a", "key"}, now));
    now += 50s;
    CHECK_FALSE(guard.admit("wrong", {"a"}, now));
    CHECK_FALSE(guard.admit("right", {"a"}, now));
    CHECK_FALSE(guard.admit("right", {"b", "a"}, now));
    CHECK(guard.admit("right", {"b"}, now));
    now += 60s;
    CHECK(guard.admit("right", {"a"}, now));
    // Failures older than the period do not count.
    for (int i = 0; i < 20; ++i) {
        CHECK_FALSE(guard.admit("wrong", {"slow"}, now));
        now += 20s;
    }
    CHECK(guard.admit("right", {"slow"}, now));
    // However many come, memory is bounded: nothing to see but that it goes on working.
    for (std::size_t i = 0; i < 2 * TokenGuard::max_remembered; ++i)
        CHECK_FALSE(guard.admit("wrong", {"origin" + std::to_string(i)}, now));
    CHECK(guard.admit("right", {"a"}, now));
}
