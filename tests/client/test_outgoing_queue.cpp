// SPDX-License-Identifier: MIT
#include "client/requests/outgoing_queue.hpp"

#include <catch.hpp>

namespace remofile::client {
namespace {

using BatchPtr = OutgoingQueue::BatchPtr;
constexpr SendingAllowance plenty{
    .requests = {1000}, .controls = {1000}, .head_bytes = {1U << 20}, .bulk_bytes = {1U << 20}};
constexpr SendingAllowance nothing{};

template <class Request>
BatchPtr told(const Request& request = {}) {
    return make_told({.opcode = Request::opcode, .body = wire::encode_body(request)}, LaneKind::metadata);
}
template <class Request>
BatchPtr awaited(const Request& request = {}) {
    BatchPtr batch = told(request);
    batch->call = reinterpret_cast<detail::Call*>(batch.get());  // only ever compared with nothing
    return batch;
}
BatchPtr write_of(std::size_t size) {
    BatchPtr batch = awaited(wire::Write{});
    batch->records[0].bulk = OutgoingBulk(Buffer::allocate(size));
    batch->records[0].bulk.encode(wire::EncodedBulk::of_raw);
    return batch;
}

std::vector<wire::Opcode> opcodes(const std::vector<BatchPtr>& batches) {
    std::vector<wire::Opcode> list;
    for (const BatchPtr& batch : batches)
        list.push_back(batch->records[0].traits->opcode());
    return list;
}
using Opcodes = std::vector<wire::Opcode>;
using wire::Opcode;

}  // namespace

TEST_CASE("slow requests do not share a message with others that are awaited") {
    OutgoingQueue queue(0);
    queue.push(awaited<wire::Getattr>());
    queue.push(awaited<wire::Lookup>());
    queue.push(awaited<wire::Read>());
    queue.push(awaited<wire::Read>());
    queue.push(told<wire::Release>());
    queue.push(awaited<wire::Setlk>());
    queue.push(awaited<wire::Getattr>());
    CHECK(opcodes(queue.next_message(plenty)) == Opcodes{Opcode::getattr, Opcode::lookup});
    CHECK(opcodes(queue.next_message(plenty)) == Opcodes{Opcode::read});
    CHECK(opcodes(queue.next_message(plenty)) == Opcodes{Opcode::read});
    CHECK(opcodes(queue.next_message(plenty)) == Opcodes{Opcode::release, Opcode::setlk});
    CHECK(opcodes(queue.next_message(plenty)) == Opcodes{Opcode::getattr});
    CHECK(queue.empty());
    CHECK(queue.next_message(plenty).empty());
}

TEST_CASE("only so many awaited requests share a message") {
    OutgoingQueue queue(0);
    for (std::size_t i = 0; i < max_joined_requests + 1; ++i)
        queue.push(awaited<wire::Getattr>());
    CHECK(queue.next_message(plenty).size() == max_joined_requests);
    CHECK(queue.next_message(plenty).size() == 1);
}

TEST_CASE("what nobody waits for yet shares messages with its like alone") {
    OutgoingQueue queue(0);
    const auto ahead = [] {
        auto batch = awaited<wire::Fetch>();
        batch->ahead = true;
        return batch;
    };
    queue.push(awaited<wire::Getattr>());
    for (std::size_t i = 0; i < max_joined_ahead + 1; ++i)
        queue.push(ahead());
    queue.push(awaited<wire::Getattr>());
    CHECK(opcodes(queue.next_message(plenty)) == Opcodes{Opcode::getattr});
    CHECK(queue.next_message(plenty).size() == max_joined_ahead);
    CHECK(opcodes(queue.next_message(plenty)) == Opcodes{Opcode::fetch});
    CHECK(opcodes(queue.next_message(plenty)) == Opcodes{Opcode::getattr});
}

TEST_CASE("what nobody waits for may wait for others, unless there is enough for a message") {
    OutgoingQueue queue(0);
    CHECK_FALSE(queue.may_grow());
    queue.push(told<wire::Release>());
    queue.push_forget({NodeId{2}, 1}, LaneKind::metadata);
    queue.push(told<wire::Releasedir>());
    auto change = awaited<wire::Unlink>();
    change->unhurried = true;
    queue.push(std::move(change));
    CHECK(queue.may_grow());
    SECTION("somebody waits") {
        queue.push(awaited<wire::Getattr>());
        CHECK_FALSE(queue.may_grow());
    }
    SECTION("another client waits") {
        queue.push(told<wire::ShareLeases>());
        CHECK_FALSE(queue.may_grow());
    }
    SECTION("a full message") {
        for (std::size_t i = 0; i < max_joined_in_order; ++i)
            queue.push(told<wire::Release>());
        CHECK_FALSE(queue.may_grow());
    }
}

TEST_CASE("a message has no more records, and no longer a head, than the protocol allows") {
    OutgoingQueue queue(0);
    for (std::size_t i = 0; i < wire::max_records + 1; ++i)
        queue.push(told<wire::Release>());
    CHECK(queue.next_message(plenty).size() == wire::max_records);
    CHECK(queue.next_message(plenty).size() == 1);

    for (std::uint64_t i = 0; i < 10 * wire::max_forgets; ++i)
        queue.push_forget({NodeId{i + 1}, 1}, LaneKind::metadata);
    std::size_t records = 0;
    while (!queue.empty()) {
        const auto batches = queue.next_message(plenty);
        REQUIRE_FALSE(batches.empty());
        std::vector<const Batch*> parts;
        for (const BatchPtr& batch : batches)
            parts.push_back(batch.get());
        CHECK(build_message(parts, 0, {}, 0).head.size() <= wire::max_head_bytes);
        records += batches.size();
    }
    CHECK(records == 10);
}

TEST_CASE("a FORGET keeps its place behind what was queued before it") {
    OutgoingQueue queue(0);
    queue.push_forget({NodeId{2}, 1}, LaneKind::metadata);
    CHECK(queue.only_forgets());
    CHECK(opcodes(queue.next_message(plenty)) == Opcodes{Opcode::forget});
    queue.push(awaited<wire::Read>());
    queue.push_forget({NodeId{1}, 1}, LaneKind::metadata);
    queue.push(awaited<wire::Lookup>());
    CHECK_FALSE(queue.only_forgets());
    CHECK(opcodes(queue.next_message(plenty)) == Opcodes{Opcode::read});
    CHECK(opcodes(queue.next_message(plenty)) == Opcodes{Opcode::forget, Opcode::lookup});
}

TEST_CASE("the allowance holds back what is not urgent, in order") {
    OutgoingQueue queue(0);
    queue.push(write_of(100));
    queue.push(write_of(100));
    queue.push(told<wire::Release>());
    const auto with = [](std::size_t requests, std::size_t bulk_bytes) {
        SendingAllowance allowance = plenty;
        allowance.requests.left = requests;
        allowance.bulk_bytes.left = bulk_bytes;
        return allowance;
    };
    CHECK(queue.next_message(with(10, 150)).size() == 1);
    CHECK(queue.next_message(with(10, 50)).empty());
    CHECK(queue.next_message(with(0, 150)).empty());
    SendingAllowance no_head = plenty;
    no_head.head_bytes.left = 10;
    CHECK(queue.next_message(no_head).empty());
    SendingAllowance alone = with(0, 0);
    alone.requests.nothing_unanswered = true;
    CHECK(queue.next_message(alone).empty());
    alone.bulk_bytes.nothing_unanswered = true;
    CHECK(opcodes(queue.next_message(alone)) == Opcodes{Opcode::write});
    // What gives back needs room of its own kind, and no other.
    SendingAllowance no_controls = plenty;
    no_controls.controls.left = 0;
    CHECK(queue.next_message(no_controls).empty());
    CHECK(opcodes(queue.next_message(with(0, 0))) == Opcodes{Opcode::release});
}

TEST_CASE("what others wait for goes first, and a PING whatever is unanswered") {
    OutgoingQueue queue(0);
    queue.push(told<wire::Release>());
    queue.push_urgent(told<wire::Cancel>());
    queue.push_urgent(told<wire::Invalidated>());
    queue.push_ping(told<wire::Ping>());
    CHECK(opcodes(queue.next_message(nothing)) == Opcodes{Opcode::ping});
    CHECK(queue.next_message(nothing).empty());
    SendingAllowance two = plenty;
    two.controls.left = 2;
    CHECK(opcodes(queue.next_message(two)) == Opcodes{Opcode::cancel, Opcode::invalidated});
    CHECK(opcodes(queue.next_message(plenty)) == Opcodes{Opcode::release});
}

TEST_CASE("of confirmations that have not left the latest is enough") {
    OutgoingQueue queue(0);
    for (const std::uint64_t sequence : {1, 2, 3})
        queue.push_confirmation(make_told(encoded(wire::Invalidated{sequence}), LaneKind::metadata));
    queue.push_urgent(told<wire::Cancel>());
    const auto batches = queue.next_message(plenty);
    CHECK(opcodes(batches) == Opcodes{Opcode::invalidated, Opcode::cancel});
    CHECK(wire::decode_body<wire::Invalidated>(batches[0]->records[0].body)->sequence == 3);
    queue.push_confirmation(make_told(encoded(wire::Invalidated{4}), LaneKind::metadata));
    CHECK(opcodes(queue.next_message(plenty)) == Opcodes{Opcode::invalidated});
}

TEST_CASE("one that waits for a lock travels alone, and takes nothing of what is granted to others") {
    OutgoingQueue queue(0);
    const wire::Setlk wait{.handle = HandleId{1}, .wait = true};
    queue.push(told<wire::Release>());
    queue.push(awaited(wait));
    queue.push(told<wire::Release>());
    CHECK(opcodes(queue.next_message(plenty)) == Opcodes{Opcode::release});
    SendingAllowance room = nothing;
    room.head_bytes.left = 1000;
    CHECK(opcodes(queue.next_message(room)) == Opcodes{Opcode::setlk});
    CHECK(opcodes(queue.next_message(plenty)) == Opcodes{Opcode::release});
}

TEST_CASE("what has not been sent can be taken back") {
    OutgoingQueue queue(0);
    queue.push(awaited<wire::Read>());
    BatchPtr batch = awaited<wire::Getattr>();
    const Batch* kept = batch.get();
    queue.push(std::move(batch));
    CHECK(queue.take(kept).get() == kept);
    CHECK(queue.take(kept) == nullptr);
    queue.push_forget({NodeId{1}, 1}, LaneKind::metadata);
    CHECK(opcodes(queue.take_all()) == Opcodes{Opcode::read, Opcode::forget});
    CHECK(queue.empty());
}

TEST_CASE("data is encoded once, and nothing is sent that is not") {
    OutgoingBulk none;
    CHECK(none.ready());
    CHECK(none.encoded_bytes() == 0);

    OutgoingBulk here(Buffer::copy_of("data"));
    CHECK(here.state() == OutgoingBulk::State::plain);
    CHECK_FALSE(here.ready());
    here.encode(wire::EncodedBulk::of_raw);
    CHECK(here.ready());
    CHECK(here.share().text() == "data");
    CHECK(here.share().text() == "data");  // again, after a lost connection

    OutgoingBulk elsewhere(Buffer::copy_of("data"));
    const auto encoding = elsewhere.begin_encoding();
    CHECK(elsewhere.state() == OutgoingBulk::State::encoding);
    CHECK_FALSE(elsewhere.ready());
    encoding->carry_out([](const Buffer& plain) {
        CHECK(plain.text() == "data");
        return wire::EncodedBulk{.data = Buffer::copy_of("d"), .encoding = wire::BulkEncoding::lz4, .size = 4};
    });
    CHECK(elsewhere.ready());
    CHECK(elsewhere.encoding() == wire::BulkEncoding::lz4);
    CHECK(elsewhere.encoded_bytes() == 1);
    CHECK(elsewhere.size() == 4);
}

TEST_CASE("what changes the lane keeps what became of its data") {
    OutgoingQueue data(1);
    const auto push = [&](std::string_view text) {
        BatchPtr batch = awaited(wire::Write{});
        batch->records[0].bulk = OutgoingBulk(Buffer::copy_of(text));
        data.push(std::move(batch));
    };
    push("encoded");
    push("under way");
    push("plain");
    data.next_plain()->bulk.encode(wire::EncodedBulk::of_raw);
    const auto encoding = data.next_plain()->bulk.begin_encoding();

    OutgoingQueue metadata(0);
    for (BatchPtr& batch : data.take_all())
        metadata.push(std::move(batch));
    CHECK(opcodes(metadata.next_message(plenty)) == Opcodes{Opcode::write});
    CHECK(metadata.next_message(plenty).empty());
    PendingRecord* plain = metadata.next_plain();
    REQUIRE(plain != nullptr);
    CHECK(plain->bulk.size() == 5);
    plain->bulk.encode(wire::EncodedBulk::of_raw);
    CHECK(metadata.next_plain() == nullptr);
    encoding->carry_out(wire::EncodedBulk::of_raw);
    for (const std::string_view text : {"under way", "plain"}) {
        const auto batches = metadata.next_message(plenty);
        REQUIRE(batches.size() == 1);
        CHECK(batches[0]->lane == 0);
        CHECK(batches[0]->records[0].bulk.share().text() == text);
    }
}

TEST_CASE("a message can be built again for what is still unanswered") {
    BatchPtr batch = write_of(10);
    batch->records.push_back({.traits = find_request_traits(Opcode::release),
                              .account = wire::Account::control,
                              .body = wire::encode_body(wire::Release{}),
                              .bulk = {}});
    CHECK(batch->count_of(wire::Account::request) == 1);
    CHECK(batch->count_of(wire::Account::control) == 1);
    batch->records[0].link = true;
    batch->first_id = RequestId{40};
    const auto first =
        wire::parse_message(build_message({batch.get()}, 0, RequestId{40}, 9), wire::MessageKind::request);
    REQUIRE(first.has_value());
    CHECK(first->header.received_bytes == 9);
    CHECK(first->records.size() == 2);
    CHECK(first->records[0].linked());
    CHECK(first->records[0].bulk.size() == 10);
    // Nobody needs the data of what shall not be carried out.
    constexpr std::uint8_t given_up = wire::flag_resent | wire::flag_void;
    const auto as_void =
        wire::parse_message(build_message({batch.get()}, given_up, RequestId{41}, 9), wire::MessageKind::request);
    REQUIRE(as_void.has_value());
    CHECK(as_void->records[0].header.flags == (given_up | wire::flag_link));
    CHECK(as_void->records[0].header.bulk_size == 0);
    batch->records[0].answered = true;
    const auto again = wire::parse_message(build_message({batch.get()}, wire::flag_resent, RequestId{41}, 9),
                                           wire::MessageKind::request);
    REQUIRE(again.has_value());
    REQUIRE(again->records.size() == 1);
    CHECK(again->records[0].header.id == RequestId{41});
    CHECK(again->records[0].header.flags == wire::flag_resent);
}

TEST_CASE("every request of the protocol has its row") {
    for (const wire::OpcodeFacts& facts : wire::opcode_table()) {
        INFO(facts.name);
        const RequestTraits* traits = find_request_traits(facts.opcode);
        REQUIRE(traits != nullptr);
        CHECK(traits->facts == &facts);
    }
    CHECK(find_request_traits(Opcode::push_invalidate) == nullptr);
    CHECK(find_request_traits(static_cast<Opcode>(0)) == nullptr);
}

}  // namespace remofile::client
