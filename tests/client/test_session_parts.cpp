// SPDX-License-Identifier: MIT
// What always holds of the parts of a session, each by itself.
#include <catch.hpp>

#include "client/requests/request_accounts.hpp"
#include "client/requests/unanswered_requests.hpp"
#include "client/session/admission.hpp"
#include "client/session/bandwidth.hpp"
#include "client/session/connection_traffic.hpp"
#include "client/session/data_lane.hpp"
#include "client/session/flush_schedule.hpp"
#include "client/session/identities.hpp"
#include "client/session/server_contact.hpp"
#include "client/session/server_keys.hpp"
#include "client/session/session_terms.hpp"
#include "client/session/unconfirmed_pushes.hpp"
#include "transport/fixture.hpp"

namespace remofile::client {
namespace {

using namespace std::chrono_literals;
using transport::run_until;

void run_one_turn(transport::Reactor& reactor) {
    reactor.after(0s, [&] { reactor.stop(); });
    reactor.run();
}

// A server that is asked about identities, and answers when the test says so.
struct FakeServer {
    struct Question {
        wire::Credential credential;
        Completion<Status> answer;
    };
    std::vector<std::unique_ptr<Question>> questions;

    Task<Status> ask(wire::Credential credential) {
        Question& question = *questions.emplace_back(std::make_unique<Question>());
        question.credential = std::move(credential);
        co_return co_await question.answer;
    }
};

// One who wants the number of an identity.
struct Asker {
    std::optional<Result<std::uint32_t>> number;
    Cancellation cancellation;

    void ask(Identities& identities, std::uint32_t uid) { spawn(wait(identities, uid)); }

private:
    Task<void> wait(Identities& identities, std::uint32_t uid) {
        Identities::Identity identity{.uid = uid, .gid = 1, .groups = {}};
        number.emplace(co_await identities.number_of(std::move(identity), &cancellation));
    }
};

struct IdentitiesFixture {
    transport::FakeClock clock;
    transport::Reactor reactor{clock};
    FakeServer server;
    std::shared_ptr<Identities> identities = std::make_shared<Identities>(
        reactor, std::nullopt, [this](wire::Credential credential) { return server.ask(std::move(credential)); });
};

}  // namespace

TEST_CASE("of what a bandwidth limit allows, each direction is used up by itself") {
    TimePoint now{1h};
    Bandwidth bandwidth(1000, now);
    const auto may_go = [&] {
        SendingAllowance allowance;
        bandwidth.restrict(allowance, now);
        return std::pair(allowance.contents_sent.takes(1), allowance.contents_asked.takes(1));
    };
    CHECK(may_go() == std::pair(true, true));
    bandwidth.sent(1250, now);  // 250 of it at once
    CHECK(may_go() == std::pair(false, true));
    bandwidth.asked(5250, now);
    CHECK(may_go() == std::pair(false, false));
    CHECK(bandwidth.wait(now) > 999ms);
    CHECK(bandwidth.wait(now) < 1100ms);
    now += bandwidth.wait(now);
    CHECK(may_go() == std::pair(true, false));
    CHECK(bandwidth.wait(now) > 3s);
    // The answer has brought little of what was asked for.
    bandwidth.received(50, now);
    bandwidth.answered(5250, now);
    CHECK(may_go() == std::pair(true, true));
    CHECK(bandwidth.wait(now) == 0s);
    // However large, if nothing is owed; and one at a time.
    SendingAllowance allowance;
    bandwidth.restrict(allowance, now);
    CHECK(allowance.contents_sent.takes(1'000'000));
    allowance.contents_sent.take(1'000'000);
    CHECK_FALSE(allowance.contents_sent.takes(1));
    CHECK(allowance.contents_sent.takes(0));

    Bandwidth unlimited(0, now);
    unlimited.sent(1'000'000, now);
    CHECK(unlimited.wait(now) == 0s);
    CHECK_FALSE(unlimited.is_limited());
}

TEST_CASE("a server's keys are tried once each, from the one that it had last") {
    std::vector<transport::PublicKey> keys(4);
    for (std::size_t i = 0; i < keys.size(); ++i)
        keys[i].bytes[0] = static_cast<std::uint8_t>(i + 1);
    const auto &a = keys[0], &b = keys[1], &c = keys[2], &d = keys[3];
    ServerKeys known({a, b, c});
    CHECK(known.current() == a);
    CHECK(known.try_next());
    CHECK(known.current() == b);
    known.proved();
    CHECK(known.current() == b);
    // It is another server: after a round the next begins as this one did.
    for (const transport::PublicKey& next : {c, a}) {
        CHECK(known.try_next());
        CHECK(known.current() == next);
    }
    CHECK_FALSE(known.try_next());
    CHECK(known.current() == b);

    // What it announces counts beside the one that it has, once, and nothing else.
    const std::vector announced{b, d, d, a};
    CHECK(known.announced(announced));
    CHECK(known.all() == std::vector{b, d, a});
    CHECK(known.current() == b);
    CHECK_FALSE(known.announced(announced));
    CHECK(known.try_next());
    known.proved();
    CHECK(known.announced({}));
    CHECK(known.all() == std::vector{d});
    CHECK_FALSE(known.try_next());
    CHECK(known.current() == d);
}

TEST_CASE("an identity is asked about once, however many wait for its number") {
    IdentitiesFixture f;
    Asker first;
    Asker second;
    Asker other;
    first.ask(*f.identities, 1000);
    second.ask(*f.identities, 1000);
    other.ask(*f.identities, 1001);
    REQUIRE(f.server.questions.size() == 2);
    CHECK(f.server.questions[0]->credential.uid == 1000);
    CHECK_FALSE(f.identities->carry(f.server.questions[0]->credential.number).has_value());
    f.server.questions[0]->answer.deliver(Status::ok);
    REQUIRE(first.number.has_value());
    REQUIRE(second.number.has_value());
    CHECK(first.number->value() == f.server.questions[0]->credential.number);
    CHECK(second.number->value() == first.number->value());
    CHECK(f.identities->carry(first.number->value()).has_value());
    CHECK_FALSE(other.number.has_value());
    f.server.questions[1]->answer.deliver(Status::not_permitted);
    REQUIRE(other.number.has_value());
    CHECK(other.number->error().status == Status::not_permitted);

    Asker later;
    later.ask(*f.identities, 1000);
    REQUIRE(later.number.has_value());
    CHECK(later.number->value() == first.number->value());
    CHECK(f.server.questions.size() == 2);
}

TEST_CASE("a number that is asked about stays its identity's when those who asked have gone") {
    IdentitiesFixture f;
    Asker first;
    first.ask(*f.identities, 1000);
    first.cancellation.cancel();
    REQUIRE(first.number.has_value());
    CHECK(first.number->error().status == Status::interrupted);

    Asker other;
    other.ask(*f.identities, 1001);
    Asker again;
    again.ask(*f.identities, 1000);
    REQUIRE(f.server.questions.size() == 2);
    CHECK(f.server.questions[1]->credential.number != f.server.questions[0]->credential.number);
    f.server.questions[0]->answer.deliver(Status::ok);
    REQUIRE(again.number.has_value());
    CHECK(again.number->value() == f.server.questions[0]->credential.number);
    f.server.questions[1]->answer.deliver(Status::ok);
}

TEST_CASE("the answer to a question of an earlier epoch binds nothing") {
    IdentitiesFixture f;
    Asker before;
    before.ask(*f.identities, 1000);
    f.identities->begin_epoch();
    Asker after;
    after.ask(*f.identities, 1000);
    REQUIRE(f.server.questions.size() == 2);
    f.server.questions[0]->answer.deliver(Status::ok);
    REQUIRE(before.number.has_value());
    CHECK(before.number->error().status == Status::no_session);
    CHECK_FALSE(after.number.has_value());
    CHECK_FALSE(f.identities->carry(f.server.questions[0]->credential.number).has_value());
    f.server.questions[1]->answer.deliver(Status::ok);
    REQUIRE(after.number.has_value());
    CHECK(f.identities->carry(after.number->value()).has_value());
    // Requests that say nobody carry nobody.
    REQUIRE(f.identities->carry(0).has_value());
    CHECK(f.identities->carry(0)->number == 0);
}

TEST_CASE("however often a flush is asked for, one comes at the end of the turn") {
    transport::Reactor reactor;
    int flushes = 0;
    int with_forgets = 0;
    std::shared_ptr<FlushSchedule> schedule = std::make_shared<FlushSchedule>(reactor, [&] {
        ++flushes;
        with_forgets += schedule->forgets_are_due() ? 1 : 0;
    });
    schedule->soon();
    schedule->soon();
    CHECK(run_until(reactor, [&] { return flushes > 0; }));
    CHECK(flushes == 1);
    schedule->for_forgets();
    schedule->for_forgets();
    CHECK(run_until(reactor, [&] { return with_forgets > 0; }));
    CHECK(flushes == 2);
    CHECK_FALSE(schedule->forgets_are_due());

    // None once it is stopped, or gone.
    schedule->soon();
    schedule->stop();
    schedule->soon();
    run_one_turn(reactor);
    CHECK(flushes == 2);
    schedule = std::make_shared<FlushSchedule>(reactor, [&] { ++flushes; });
    schedule->soon();
    schedule.reset();
    run_one_turn(reactor);
    CHECK(flushes == 2);
}

TEST_CASE("who is let in is decided once, and waiting for one's turn ends with it") {
    transport::FakeClock clock;
    transport::Reactor reactor(clock);
    Admission admission(reactor);
    bool timed_out = false;
    admission.begin(10s, 1s, [&] { timed_out = true; });
    CHECK(admission.opening());
    CHECK(admission.hello_wait_ms() == 0);
    CHECK(admission.refused_as_in_use({wire::Client{}}));
    CHECK(admission.holders().size() == 1);
    CHECK(admission.announce_wait());
    CHECK_FALSE(admission.announce_wait());
    CHECK(admission.hello_wait_ms() == 10'000);
    clock.advance(10s + 900ms);
    run_one_turn(reactor);
    CHECK_FALSE(timed_out);
    SECTION("if the server says nothing, a little later") {
        clock.advance(200ms);
        run_one_turn(reactor);
        CHECK(timed_out);
    }
    CHECK_FALSE(admission.refused_as_in_use({}));
    CHECK(admission.decide());
    CHECK_FALSE(admission.decide());
    CHECK_FALSE(admission.opening());
    // A session that was let in before waits for as long as it takes.
    CHECK(admission.refused_as_in_use({}));
}

TEST_CASE("a session is gone on with, taken up in another on the same terms, or begun anew") {
    using Adopted = SessionTerms::Adopted;
    SessionTerms terms;
    CHECK(terms.epoch() == 0);
    CHECK_FALSE(terms.may_resume());
    constexpr std::uint64_t asked = wire::feature_lz4;
    const auto reply = [](std::uint64_t session, bool resumed, std::uint64_t root = 1) {
        wire::HelloReply hello{
            .features = wire::feature_lz4 | wire::feature_leases, .session = SessionId{session}, .resumed = resumed};
        hello.root_attributes.identity.inode = root;
        return hello;
    };
    CHECK(terms.adopt(reply(7, true), asked) == Adopted::anew);
    terms.begin_epoch();
    CHECK(terms.epoch() == 1);
    CHECK(terms.has(wire::feature_lz4));
    CHECK_FALSE(terms.has(wire::feature_leases));
    CHECK(terms.adopt(reply(7, true), asked) == Adopted::resumed);
    CHECK(terms.may_resume());
    // Until it knows what ids stand for, it is not gone on with.
    CHECK(terms.adopt(reply(8, true), asked) == Adopted::likewise);
    CHECK_FALSE(terms.may_resume());
    CHECK(terms.adopt(reply(9, false), asked) == Adopted::likewise);
    terms.is_whole();
    CHECK(terms.may_resume());
    CHECK(terms.epoch() == 1);
    // Another root, or other features.
    CHECK(terms.adopt(reply(10, false, 2), asked) == Adopted::anew);
    terms.begin_epoch();
    CHECK(terms.epoch() == 2);
    CHECK(terms.adopt(reply(11, false, 2), 0) == Adopted::anew);
}

TEST_CASE("a push is confirmed when all before it are done, and with them") {
    UnconfirmedPushes pushes;
    CHECK(pushes.add(1));
    CHECK(pushes.add(2));
    CHECK(pushes.add(4));
    CHECK_FALSE(pushes.add(2));
    CHECK_FALSE(pushes.done(2));
    CHECK_FALSE(pushes.done(7));
    CHECK(pushes.done(1) == 2);
    CHECK_FALSE(pushes.done(1));
    CHECK(pushes.done(4) == 4);
    // One that is repeated after that is acted upon and confirmed again: the confirmation was lost.
    CHECK(pushes.add(4));
    CHECK(pushes.done(4) == 4);
    for (std::uint64_t sequence = 5; sequence < 5 + UnconfirmedPushes::max_open; ++sequence) {
        CHECK_FALSE(pushes.full());
        CHECK(pushes.add(sequence));
    }
    CHECK(pushes.full());
    pushes.clear();
    CHECK_FALSE(pushes.done(5));
}

TEST_CASE("each message acknowledges what was received before it, and what is left may be worth one") {
    ConnectionTraffic traffic(acknowledged_window_share);
    constexpr std::uint64_t window = 1U << 20;
    traffic.begin();
    traffic.note_received(window / 4 - 1);
    CHECK_FALSE(traffic.owes_acknowledgement(window));
    traffic.note_received(1);
    CHECK(traffic.owes_acknowledgement(window));
    traffic.note_sent(wire::Message(), TimePoint(7s));
    CHECK_FALSE(traffic.owes_acknowledgement(window));
    CHECK(traffic.received_bytes() == window / 4);
    CHECK(traffic.last_sent() == TimePoint(7s));
    // Less than 64 KiB is not worth a message, however small the window.
    traffic.note_received((64U << 10) - 1);
    CHECK_FALSE(traffic.owes_acknowledgement(1000));
    traffic.begin();
    CHECK(traffic.received_bytes() == 0);
    CHECK_FALSE(traffic.owes_acknowledgement(1000));
}

TEST_CASE("what unanswered requests take is given back as they are answered") {
    RequestAccounts accounts;
    const wire::HelloReply granted{.max_requests = 2, .request_bytes = 800};
    const auto getattr = make_told(encoded(wire::Getattr{}), LaneKind::metadata);
    const auto write = make_told(encoded(wire::Write{}), LaneKind::data);
    write->lane = data_lane;
    write->records.front().bulk = OutgoingBulk(Buffer::copy_of(std::string(600, 'x')));
    write->records.front().bulk.encode([](Buffer plain) { return wire::EncodedBulk::of_raw(std::move(plain)); });
    CHECK(accounts.allowance(data_lane, granted).bulk_bytes.left == 700);  // an eighth is the metadata lane's
    accounts.charge(*getattr);
    accounts.charge(*write);
    CHECK(accounts.allowance(data_lane, granted).requests.left == 0);
    CHECK(accounts.allowance(data_lane, granted).bulk_bytes.left == 100);
    CHECK(accounts.allowance(metadata_lane, granted).bulk_bytes.left == 200);
    CHECK(accounts.allowance(metadata_lane, granted).controls.nothing_unanswered);
    // As when the one connection takes all.
    accounts.move_lane(data_lane, metadata_lane);
    write->lane = metadata_lane;
    CHECK(accounts.allowance(metadata_lane, granted).bulk_bytes.left == 200);
    accounts.release(*getattr, getattr->records.front());
    accounts.release_unanswered(*write);
    CHECK(accounts.allowance(metadata_lane, granted).requests.nothing_unanswered);
    CHECK(accounts.allowance(metadata_lane, granted).bulk_bytes.nothing_unanswered);

    const std::size_t head_room = accounts.allowance(metadata_lane, granted).head_bytes.left;
    auto head = accounts.head(100);
    CHECK(accounts.allowance(metadata_lane, granted).head_bytes.left == head_room - 100);
    head.reset();
    CHECK(accounts.allowance(metadata_lane, granted).head_bytes.left == head_room);

    std::vector<Tally> waits;
    while (auto wait = accounts.wait_for_lock())
        waits.push_back(std::move(*wait));
    CHECK(waits.size() == wire::max_lock_waits);
    waits.pop_back();
    CHECK(accounts.wait_for_lock());
}

TEST_CASE("requests are found by their numbers, and all below the first that is not answered are") {
    UnansweredRequests requests;
    const auto enter = [&](std::size_t records, std::size_t lane) {
        auto batch = make_told(encoded(wire::Getattr{}), kind_of(lane));
        while (batch->records.size() < records)
            batch->records.push_back({.traits = batch->records.front().traits});
        batch->lane = lane;
        Batch* entered = batch.get();
        requests.enter(batch);
        return entered;
    };
    CHECK(requests.enter_greeting(metadata_lane) == RequestId{1});
    CHECK(requests.answered_below() == RequestId{1});
    CHECK(requests.is_greeting(metadata_lane, RequestId{1}));
    CHECK_FALSE(requests.is_greeting(data_lane, RequestId{1}));
    requests.end_greeting(metadata_lane);
    CHECK_FALSE(requests.is_greeting(metadata_lane, RequestId{1}));
    CHECK_FALSE(requests.is_greeting(metadata_lane, RequestId{}));
    CHECK(requests.answered_below() == RequestId{2});

    Batch* const first = enter(2, metadata_lane);  // 2, 3
    Batch* const second = enter(1, data_lane);     // 4
    Batch* const third = enter(1, metadata_lane);  // 5
    REQUIRE(requests.find(RequestId{3}, metadata_lane));
    CHECK(requests.find(RequestId{3}, metadata_lane)->batch == first);
    CHECK(requests.find(RequestId{3}, metadata_lane)->index == 1);
    CHECK_FALSE(requests.find(RequestId{3}, data_lane));
    CHECK_FALSE(requests.find(RequestId{1}, metadata_lane));
    CHECK_FALSE(requests.find(RequestId{6}, metadata_lane));
    CHECK(requests.has(data_lane, LaneKind::data));
    CHECK_FALSE(requests.has(metadata_lane, LaneKind::data));

    CHECK(requests.answered_below() == RequestId{2});
    first->records[0].answered = true;
    CHECK_FALSE(requests.find(RequestId{2}, metadata_lane));
    CHECK(requests.answered_below() == RequestId{3});
    first->records[1].answered = true;
    const auto taken = requests.take(*first);
    CHECK(taken.get() == first);
    CHECK(requests.answered_below() == RequestId{4});

    CHECK(requests.move_lane(data_lane, metadata_lane));
    CHECK_FALSE(requests.move_lane(data_lane, metadata_lane));
    CHECK(requests.of_lane(metadata_lane) == std::vector<Batch*>{second, third});
    CHECK(requests.find_batch(RequestId{5}) == third);
    CHECK(requests.take_lane(metadata_lane).size() == 2);
    // Numbers go on from where they were.
    CHECK(requests.answered_below() == RequestId{6});
    CHECK(requests.number_of_unanswerable() == RequestId{6});
    CHECK(enter(1, data_lane)->first_id == RequestId{7});
    CHECK(requests.take_all().size() == 1);
}

TEST_CASE("a server is silent when it has said nothing since it was suspected") {
    ServerContact contact;
    contact.heard(TimePoint(10s));
    CHECK_FALSE(contact.silent(TimePoint(100s)));
    // What was asked before its latest word is no sign of silence.
    contact.suspect(TimePoint(5s));
    CHECK_FALSE(contact.silent(TimePoint(10s) + silence_after - 1ms));
    CHECK(contact.silent(TimePoint(10s) + silence_after));
    contact.suspect(TimePoint(100s));
    CHECK(contact.silent(TimePoint(100s)));
    contact.heard(TimePoint(100s));
    CHECK_FALSE(contact.silent(TimePoint(200s)));

    CHECK(contact.lost(TimePoint(200s)));
    CHECK_FALSE(contact.lost(TimePoint(201s)));
    CHECK(contact.back(TimePoint(203s)) == Duration(3s));
    CHECK_FALSE(contact.back(TimePoint(204s)));

    contact.ping_answered();
    CHECK_FALSE(contact.has_something_to_answer());
    for (std::size_t i = 0; i < ServerContact::max_idle_pings; ++i) {
        CHECK(contact.may_ping());
        contact.pinged();
    }
    CHECK_FALSE(contact.may_ping());
    contact.begin_epoch();
    CHECK(contact.may_ping());
}

TEST_CASE("requests of the data lane go by one connection at a time") {
    DataLane data;
    CHECK(data.lane_for(LaneKind::data) == data_lane);
    CHECK(data.lane_for(LaneKind::metadata) == metadata_lane);
    CHECK_FALSE(data.part());  // it has its own
    data.merge();
    CHECK(data.lane_for(LaneKind::data) == metadata_lane);
    CHECK(data.part());
    CHECK(data.is_parting());
    CHECK_FALSE(data.part());
    CHECK(data.lane_for(LaneKind::data) == data_lane);
    data.parted();
    CHECK_FALSE(data.is_parting());
    CHECK_FALSE(data.is_merged());

    const auto first = data.begin_sealing();
    const auto second = data.begin_sealing();
    CHECK_FALSE(data.is_latest_attempt(first));
    CHECK(data.is_latest_attempt(second));
    data.sealing_failed();
    CHECK_FALSE(data.may_seal(wire::feature_sealed_lanes));
    data.greeted();
    CHECK(data.may_seal(wire::feature_sealed_lanes));
    CHECK_FALSE(data.may_seal(wire::feature_lz4));
}

}  // namespace remofile::client
