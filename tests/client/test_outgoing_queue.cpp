// SPDX-License-Identifier: MIT
#include "client/outgoing_queue.hpp"

#include <catch.hpp>

namespace remofile::client {
namespace {

using BatchPtr = OutgoingQueue::BatchPtr;
constexpr SendingAllowance plenty{.requests = 1000, .bulk_bytes = 1U << 20};

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
        list.push_back(batch->records[0].traits->opcode);
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
    // A lock that is waited for ends its message.
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
        CHECK(build_message(parts, false, {}, 0).head.size() <= wire::max_head_bytes);
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
    CHECK(queue.next_message({.requests = 10, .bulk_bytes = 150}).size() == 1);
    CHECK(queue.next_message({.requests = 10, .bulk_bytes = 50}).empty());
    CHECK(queue.next_message({.requests = 0, .bulk_bytes = 150}).empty());
    queue.push_urgent(told<wire::Cancel>());
    CHECK(opcodes(queue.next_message({})) == Opcodes{Opcode::cancel});
    CHECK(queue.next_message({.requests = 0, .bulk_bytes = 0, .no_requests_unanswered = true}).empty());
    const SendingAllowance alone{.no_requests_unanswered = true, .no_bulk_unanswered = true};
    CHECK(opcodes(queue.next_message(alone)) == Opcodes{Opcode::write});
    CHECK(opcodes(queue.next_message({})) == Opcodes{Opcode::release});
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
    batch->records.push_back(
        {.traits = find_request_traits(Opcode::release), .body = wire::encode_body(wire::Release{}), .bulk = {}});
    batch->records[0].link = true;
    batch->first_id = RequestId{40};
    const auto first =
        wire::parse_message(build_message({batch.get()}, false, RequestId{40}, 9), wire::MessageKind::request);
    REQUIRE(first.has_value());
    CHECK(first->header.received_bytes == 9);
    CHECK(first->records.size() == 2);
    CHECK(first->records[0].linked());
    CHECK(first->records[0].bulk.size() == 10);
    batch->records[0].answered = true;
    const auto again =
        wire::parse_message(build_message({batch.get()}, true, RequestId{41}, 9), wire::MessageKind::request);
    REQUIRE(again.has_value());
    REQUIRE(again->records.size() == 1);
    CHECK(again->records[0].header.id == RequestId{41});
    CHECK(again->records[0].header.flags == wire::flag_resent);
}

TEST_CASE("every request of the protocol has its row, in ascending order") {
    for (const Opcode opcode :
         {Opcode::hello,       Opcode::attach,        Opcode::bye,         Opcode::ping,     Opcode::cancel,
          Opcode::credential,  Opcode::server_status, Opcode::invalidated, Opcode::lookup,   Opcode::forget,
          Opcode::getattr,     Opcode::setattr,       Opcode::readlink,    Opcode::mknod,    Opcode::mkdir,
          Opcode::unlink,      Opcode::rmdir,         Opcode::symlink,     Opcode::rename,   Opcode::link,
          Opcode::access,      Opcode::statfs,        Opcode::open,        Opcode::create,   Opcode::tmpfile,
          Opcode::read,        Opcode::write,         Opcode::release,     Opcode::flush,    Opcode::fsync,
          Opcode::fallocate,   Opcode::seek,          Opcode::copy_range,  Opcode::hash,     Opcode::opendir,
          Opcode::readdir,     Opcode::releasedir,    Opcode::fsyncdir,    Opcode::getxattr, Opcode::setxattr,
          Opcode::listxattr,   Opcode::removexattr,   Opcode::getlk,       Opcode::setlk,    Opcode::flock,
          Opcode::lane_ticket, Opcode::return_leases, Opcode::fetch,       Opcode::list}) {
        const RequestTraits* traits = find_request_traits(opcode);
        REQUIRE(traits != nullptr);
        CHECK(traits->opcode == opcode);
    }
    CHECK(find_request_traits(Opcode::push_invalidate) == nullptr);
    CHECK(find_request_traits(static_cast<Opcode>(0)) == nullptr);
}

}  // namespace remofile::client
