// SPDX-License-Identifier: MIT
// Writes that are not waited for: order, joining, limits, and what becomes of errors.
#include "client/write_behind.hpp"

#include "client/requests/credential_table.hpp"
#include "fake_server.hpp"

namespace remofile::client {
namespace {

constexpr std::uint64_t some_file = 5;
constexpr HandleId one_handle{1};
constexpr HandleId other_handle{2};

struct Failure {
    std::uint64_t offset;
    std::uint64_t size;
    Status status;
};

struct Fixture : SessionFixture {
    explicit Fixture(std::size_t memory_bytes = 256U << 20) : memory(memory_bytes) {
        connect();
        writes.emplace(*session, memory, counters);
        writes->on_failed = [this](const WriteBehind::Target&, std::uint64_t offset, std::uint64_t size,
                                   Status status) {
            failures.push_back({offset, size, status});
        };
        server.on_request = [](const FakeRequest&) { return std::optional<FakeReply>(); };
    }
    ~Fixture() { session->close(); }

    // As remofs does it.
    std::shared_ptr<std::optional<Status>> write(std::uint64_t offset, const std::string& data,
                                                 HandleId handle = one_handle, Cancellation* cancellation = nullptr) {
        auto outcome = std::make_shared<std::optional<Status>>();
        const WriteBehind::Target target{.file = some_file, .handle = handle};
        if (writes->join(target, offset, std::as_bytes(std::span(data))))
            *outcome = Status::ok;
        else
            spawn(keep(writes->write(target, offset, Buffer::copy_of(std::string_view(data)), cancellation), outcome));
        return outcome;
    }
    std::shared_ptr<std::optional<Status>> drain(Cancellation* cancellation = nullptr) {
        auto outcome = std::make_shared<std::optional<Status>>();
        spawn(keep(writes->drain(some_file, cancellation), outcome));
        return outcome;
    }
    template <class Outcome>
    static Task<void> keep(Task<Outcome> task, std::shared_ptr<std::optional<Status>> outcome) {
        const Outcome ended = co_await std::move(task);
        if constexpr (std::is_same_v<Outcome, Status>)
            *outcome = ended;
        else
            *outcome = ended.status();
    }
    std::vector<FakeRequest> received() { return server.of(Opcode::write); }
    void answer(std::size_t index) { server.reply(received().at(index), FakeServer::answer(received().at(index))); }
    bool received_writes(std::size_t count) {
        return wait_for([&] { return received().size() == count; });
    }

    MemoryBudget memory;
    std::optional<WriteBehind> writes;
    std::vector<Failure> failures;
};

}  // namespace

TEST_CASE("small writes in a row are joined while another is under way") {
    Fixture f;
    CHECK(*f.write(0, "aa") == Status::ok);
    CHECK(*f.write(2, "bb") == Status::ok);
    CHECK(*f.write(4, "cc") == Status::ok);
    CHECK(f.writes->pending_bytes() == 6);
    CHECK(f.writes->pending_end(some_file) == 6);
    REQUIRE(f.received_writes(1));
    CHECK(f.received()[0].bulk == "aa");
    f.answer(0);
    REQUIRE(f.received_writes(2));
    CHECK(f.received()[1].bulk == "bbcc");
    CHECK(f.received()[1].as<wire::Write>().offset == 2);
    f.answer(1);
    REQUIRE(f.wait_for([&] { return !f.writes->pending(some_file); }));
    CHECK(f.writes->pending_bytes() == 0);
    CHECK(f.memory.used_bytes() == 0);
    CHECK(f.failures.empty());
}

TEST_CASE("writes that do not continue each other go one by one, in their order") {
    Fixture f;
    f.write(100, "a");
    f.write(50, "b");
    f.write(50, "c");
    const auto drained = f.drain();
    REQUIRE(f.received_writes(3));
    CHECK(f.received()[1].bulk == "b");
    CHECK(f.received()[2].bulk == "c");
    CHECK_FALSE(drained->has_value());
    for (std::size_t i = 0; i < 3; ++i)
        f.answer(i);
    REQUIRE(f.wait_for([&] { return drained->has_value(); }));
    CHECK(**drained == Status::ok);
}

TEST_CASE("a write to bytes that another handle has pending waits for those") {
    Fixture f;
    f.write(0, "aaaa");
    const auto beside = f.write(4, "bb", other_handle);
    CHECK(beside->has_value());
    const auto over = f.write(3, "c", other_handle);
    REQUIRE(f.received_writes(2));
    CHECK_FALSE(over->has_value());
    f.answer(1);
    f.settle();
    CHECK_FALSE(over->has_value());
    f.answer(0);
    REQUIRE(f.wait_for([&] { return over->has_value(); }));
    CHECK(f.writes->pending_of_others(some_file, one_handle));
    CHECK_FALSE(f.writes->pending_of_others(some_file, other_handle));
}

TEST_CASE("draining waits for what was pending at the call and for nothing later") {
    Fixture f;
    f.write(0, std::string(300000, 'a'));
    const auto drained = f.drain();
    f.write(600000, std::string(300000, 'b'));
    REQUIRE(f.received_writes(2));
    f.answer(1);
    f.settle();
    CHECK_FALSE(drained->has_value());
    f.answer(0);
    REQUIRE(f.wait_for([&] { return drained->has_value(); }));

    f.write(0, "c");
    Cancellation cancellation;
    const auto given_up = f.drain(&cancellation);
    cancellation.cancel();
    REQUIRE(given_up->has_value());
    CHECK(**given_up == Status::interrupted);
    CHECK(f.writes->pending(some_file));
    CHECK(**f.drain(&cancellation) == Status::interrupted);
}

TEST_CASE("what a file is like behind several handles' writes is told by the one that was carried out last") {
    Fixture f;
    std::optional<wire::Attributes> told;
    f.writes->on_written_out = [&](std::uint64_t, const wire::Attributes& attributes, std::uint64_t) {
        told = attributes;
    };
    const auto answer = [&](std::size_t index, std::int64_t second, std::uint64_t size) {
        wire::WriteReply reply{.size = 2, .attributes = some_attributes()};
        reply.attributes.size = size;
        reply.attributes.modification.seconds = reply.attributes.change.seconds = second;
        f.server.reply(f.received().at(index), FakeReply::of(reply));
    };
    f.write(0, "aa");
    f.write(10, "bb", other_handle);
    f.writes->send(some_file);
    REQUIRE(f.received_writes(2));
    answer(0, 8, 12);
    answer(1, 4, 12);
    REQUIRE(f.wait_for([&] { return told.has_value(); }));
    CHECK(told->modification.seconds == 8);

    // In the same step of the server's clock.
    told.reset();
    f.write(0, "aa");
    f.write(20, "bb", other_handle);
    f.writes->send(some_file);
    REQUIRE(f.received_writes(4));
    answer(2, 9, 22);
    answer(3, 9, 12);
    REQUIRE(f.wait_for([&] { return told.has_value(); }));
    CHECK(told->size == 22);
}

TEST_CASE("no more than a limit is pending") {
    Fixture f(4U << 20);  // of which a quarter
    f.write(0, std::string(600U << 10, 'a'));
    const auto second = f.write(1U << 20, std::string(600U << 10, 'b'));
    Cancellation cancellation;
    const auto third = f.write(2U << 20, "c", one_handle, &cancellation);
    CHECK(third->has_value());  // there is room for it
    const auto fourth = f.write(3U << 20, std::string(600U << 10, 'd'), one_handle, &cancellation);
    CHECK_FALSE(second->has_value());
    cancellation.cancel();
    REQUIRE(fourth->has_value());
    CHECK(**fourth == Status::interrupted);
    REQUIRE(f.received_writes(1));
    f.answer(0);
    REQUIRE(f.wait_for([&] { return second->has_value(); }));
    CHECK(**second == Status::ok);
}

namespace {

Task<void> ask_who(Session& session, std::uint32_t uid, std::shared_ptr<std::optional<std::uint32_t>> out) {
    const auto number = co_await session.credential(uid, uid, {});
    *out = number.value_or(0);
}

}  // namespace

TEST_CASE("a write that waits for room goes as who wrote it, whoever comes meanwhile") {
    Fixture f(4U << 20);  // of which a quarter
    f.server.on_request = [](const FakeRequest& request) -> std::optional<FakeReply> {
        if (request.header.opcode == Opcode::write)
            return std::nullopt;
        return FakeServer::answer(request);
    };
    const auto number_of = [&](std::uint32_t uid) {
        const auto number = std::make_shared<std::optional<std::uint32_t>>();
        spawn(ask_who(*f.session, uid, number));
        REQUIRE(f.wait_for([&] { return number->has_value(); }));
        return number->value();
    };
    const std::uint32_t writer = number_of(1);
    REQUIRE(writer != 0);
    f.write(0, std::string(600U << 10, 'a'));
    const auto waiting = std::make_shared<std::optional<Status>>();
    const WriteBehind::Target target{.file = some_file, .handle = one_handle, .credential = writer};
    const std::string data(600U << 10, 'b');
    spawn(Fixture::keep(f.writes->write(target, 1U << 20, Buffer::copy_of(std::string_view(data)), nullptr), waiting));
    CHECK_FALSE(waiting->has_value());

    for (std::uint32_t uid = 2; uid <= CredentialTable::max_identities; ++uid)
        REQUIRE(number_of(uid) != 0);
    for (TimePoint end = f.clock.now() + 2 * CredentialTable::min_idle_time; f.clock.now() < end;) {
        f.clock.jump(5s);
        f.settle();
    }
    const std::uint32_t another = number_of(CredentialTable::max_identities + 1);
    CHECK(another != 0);
    CHECK(another != writer);
    CHECK(number_of(1) == writer);
    f.answer(0);
    REQUIRE(f.received_writes(2));
    CHECK(f.received()[1].header.detail == writer);
}

TEST_CASE("a write that fails is told, and those behind it still go") {
    Fixture f;
    f.write(0, "aa");
    f.write(10, "bb");
    const auto drained = f.drain();
    REQUIRE(f.received_writes(2));
    f.server.reply(f.received()[0], {.status = Status::no_space});
    f.answer(1);
    REQUIRE(f.wait_for([&] { return drained->has_value(); }));
    REQUIRE(f.failures.size() == 1);
    CHECK(f.failures[0].offset == 0);
    CHECK(f.failures[0].size == 2);
    CHECK(f.failures[0].status == Status::no_space);
}

TEST_CASE("the rest of a write that was carried out in part is sent again, and its error is the error") {
    Fixture f;
    f.write(100, "abcd");
    REQUIRE(f.received_writes(1));
    f.server.reply(f.received()[0], FakeReply::of(wire::WriteReply{100, 1, some_attributes()}));
    REQUIRE(f.received_writes(2));
    CHECK(f.received()[1].bulk == "bcd");
    CHECK(f.received()[1].as<wire::Write>().offset == 101);
    f.server.reply(f.received()[1], {.status = Status::no_space});
    REQUIRE(f.wait_for([&] { return !f.failures.empty(); }));
    CHECK(f.failures[0].offset == 101);
    CHECK(f.failures[0].size == 3);
    CHECK(f.failures[0].status == Status::no_space);
}

TEST_CASE("the rest of a write is not sent over what was written later") {
    Fixture f;
    f.write(100, "abcd");
    f.write(103, "X");
    f.writes->send(some_file);
    REQUIRE(f.received_writes(2));
    f.server.reply(f.received()[0], FakeReply::of(wire::WriteReply{100, 1, some_attributes()}));
    REQUIRE(f.wait_for([&] { return !f.failures.empty(); }));
    CHECK(f.failures[0].status == Status::io_error);
    CHECK(f.received().size() == 2);
}

TEST_CASE("a session that closes leaves nothing pending unsaid") {
    Fixture f;
    f.write(0, "aa");
    f.write(2, "bb");
    const auto drained = f.drain();
    f.session->close();
    CHECK(drained->has_value());
    CHECK(f.writes->pending_bytes() == 0);
    CHECK(f.failures.size() == 2);
}

}  // namespace remofile::client
