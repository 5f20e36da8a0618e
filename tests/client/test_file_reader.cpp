// SPDX-License-Identifier: MIT
// Reading through the cache, ahead of the reader.
#include <random>

#include "client/file_reader.hpp"
#include "fake_server.hpp"

namespace remofile::client {
namespace {

constexpr HandleId some_handle{1};

std::string random_text(std::size_t size) {
    std::mt19937 random(1);
    std::string text(size, '\0');
    for (char& c : text)
        c = static_cast<char>(random());
    return text;
}

// A server with one file.
struct Fixture : SessionFixture {
    explicit Fixture(std::size_t size, std::size_t memory_bytes = 64U << 20)
        : content(random_text(size)), memory(memory_bytes) {
        source = {.file = 7, .generation = 1, .file_size = size, .handle = some_handle};
        connect();
        reader.emplace(*session, memory, counters);
        server.on_request = [this](const FakeRequest& request) -> std::optional<FakeReply> {
            if (request.header.opcode != Opcode::read)
                return FakeServer::answer(request);
            if (silent)
                return std::nullopt;
            return read_reply(request);
        };
    }
    ~Fixture() { session->close(); }

    FakeReply read_reply(const FakeRequest& request) const {
        const auto read = request.as<wire::Read>();
        const std::size_t start = std::min<std::size_t>(read.offset, content.size());
        return {.bulk = content.substr(start, read.size)};
    }
    struct Outcome {
        std::optional<Status> status;
        std::string text;
    };
    std::shared_ptr<Outcome> start(std::uint64_t offset, std::uint32_t size, Cancellation* cancellation = nullptr) {
        auto outcome = std::make_shared<Outcome>();
        spawn(keep(offset, size, cancellation, outcome));
        return outcome;
    }
    Task<void> keep(std::uint64_t offset, std::uint32_t size, Cancellation* cancellation,
                    std::shared_ptr<Outcome> outcome) {
        const auto data = co_await reader->read(source, &readahead, offset, size, cancellation);
        outcome->status = data.status();
        if (!data)
            co_return;
        for (const auto piece : data->pieces)
            outcome->text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    }
    std::string read(std::uint64_t offset, std::uint32_t size) {
        const auto outcome = start(offset, size);
        REQUIRE(wait_for([&] { return outcome->status.has_value(); }));
        CHECK(*outcome->status == Status::ok);
        return outcome->text;
    }
    std::size_t requests() { return server.of(Opcode::read).size(); }

    std::string content;
    bool silent = false;
    ReadSource source;
    MemoryBudget memory;
    Readahead readahead;
    std::optional<FileReader> reader;
};

constexpr std::uint32_t step = 128U << 10;

}  // namespace

TEST_CASE("a file read from its beginning is fetched ahead in blocks, and read right") {
    Fixture f(5 * block_bytes + 1000);
    std::string text;
    for (std::uint64_t offset = 0; offset < f.content.size(); offset += step)
        text += f.read(offset, step);
    CHECK(text == f.content);
    CHECK(f.read(f.content.size(), step).empty());
    CHECK(f.requests() == 6);
    CHECK(f.counted("readahead.blocks") > 0);
    for (const FakeRequest& request : f.server.of(Opcode::read))
        CHECK(request.as<wire::Read>().size == block_bytes);
    // All of it is in memory now.
    CHECK(f.read(1000, 5 * step) == f.content.substr(1000, 5 * step));
    CHECK(f.requests() == 6);
}

TEST_CASE("reading goes on to its end when there is no session any more") {
    Fixture f(64 * block_bytes);
    f.session->close();
    for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{step}, 5 * block_bytes + 7}) {
        const auto outcome = f.start(offset, step);
        REQUIRE(outcome->status.has_value());
        CHECK(*outcome->status == Status::shutting_down);
    }
    CHECK(f.memory.used_bytes() == 0);
}

TEST_CASE("a block that another handle could not have is asked for again, though the session has ended meanwhile") {
    Fixture f(block_bytes);
    f.silent = true;
    const auto first = f.start(0, 100);
    f.source.handle = HandleId{2};
    const auto second = f.start(100, 100);
    REQUIRE(f.wait_for([&] { return f.requests() == 1; }));
    f.session->close();
    CHECK(*first->status == Status::shutting_down);
    CHECK(*second->status == Status::shutting_down);
}

TEST_CASE("reads without a pattern ask for what they need and no more") {
    Fixture f(64 * block_bytes);
    for (const std::uint64_t index : {50, 3, 27, 61, 12, 40})
        CHECK(f.read(index * block_bytes + 4096, 4096) == f.content.substr(index * block_bytes + 4096, 4096));
    CHECK(f.requests() == 6);
    for (const FakeRequest& request : f.server.of(Opcode::read))
        CHECK(request.as<wire::Read>().size == 4096);
    CHECK(f.memory.used_bytes() == 0);
}

TEST_CASE("readers of one block share one request, and one may give up") {
    Fixture f(block_bytes);
    f.silent = true;
    Cancellation cancellation;
    const auto patient = f.start(0, 100);
    const auto impatient = f.start(100, 100, &cancellation);
    REQUIRE(f.wait_for([&] { return f.requests() == 1; }));
    cancellation.cancel();
    REQUIRE(impatient->status.has_value());
    CHECK(*impatient->status == Status::interrupted);
    f.server.reply(f.server.of(Opcode::read)[0], f.read_reply(f.server.of(Opcode::read)[0]));
    REQUIRE(f.wait_for([&] { return patient->status.has_value(); }));
    CHECK(patient->text == f.content.substr(0, 100));
    CHECK(f.requests() == 1);
}

TEST_CASE("what was written is fetched again") {
    Fixture f(2 * block_bytes);
    f.read(0, step);
    f.settle();
    f.content[10] = '!';
    f.reader->changed(f.source.file, f.source.generation, 10, 1);
    CHECK(f.read(0, step) == f.content.substr(0, step));
    CHECK(f.read(block_bytes, step) == f.content.substr(block_bytes, step));
}

TEST_CASE("a block on its way while the file is written is not kept") {
    Fixture f(block_bytes);
    f.silent = true;
    const auto before = f.start(0, 100);
    REQUIRE(f.wait_for([&] { return f.requests() == 1; }));
    const FakeReply outdated = f.read_reply(f.server.of(Opcode::read)[0]);
    f.content[10] = '!';
    f.reader->changed(f.source.file, f.source.generation, 10, 1);
    f.silent = false;
    CHECK(f.read(0, 100) == f.content.substr(0, 100));
    f.server.reply(f.server.of(Opcode::read)[0], outdated);
    REQUIRE(f.wait_for([&] { return before->status.has_value(); }));
    CHECK(f.read(0, 100) == f.content.substr(0, 100));
    CHECK(f.requests() == 2);
}

TEST_CASE("a file that grew shows no end where its end was") {
    Fixture f(1000);
    CHECK(f.read(0, step).size() == 1000);
    f.content += random_text(5000);
    f.source.file_size = f.content.size();
    CHECK(f.read(0, step) == f.content);
}

TEST_CASE("another generation of a file has blocks of its own") {
    Fixture f(1000);
    f.read(0, step);
    f.content = std::string(1000, 'n');
    ++f.source.generation;
    CHECK(f.read(0, step) == f.content);
}

TEST_CASE("a file that is forgotten takes no memory any more, nor does what is on its way") {
    Fixture f(2 * block_bytes);
    f.read(0, step);
    f.settle();
    CHECK(f.memory.used_bytes() >= block_bytes);
    f.reader->forget_before(f.source.file, FileReader::every_generation);
    CHECK(f.memory.used_bytes() == 0);

    f.silent = true;
    const std::size_t before = f.requests();
    const auto reading = f.start(0, 100);
    REQUIRE(f.wait_for([&] { return f.requests() == before + 1; }));
    f.reader->forget_before(f.source.file, ++f.source.generation);
    const FakeRequest request = f.server.of(Opcode::read)[before];
    f.server.reply(request, f.read_reply(request));
    REQUIRE(f.wait_for([&] { return reading->status.has_value(); }));
    CHECK(reading->text == f.content.substr(0, 100));
    CHECK(f.memory.used_bytes() == 0);
    f.silent = false;
    CHECK(f.read(0, 100) == f.content.substr(0, 100));
    CHECK(f.requests() == before + 2);
}

TEST_CASE("the beginning of a file that came with its opening is not asked for") {
    Fixture f(1000);
    f.reader->put_beginning(f.source.file, f.source.generation, Buffer::copy_of(std::string_view(f.content)));
    CHECK(f.reader->knows_beginning(f.source.file, f.source.generation));
    CHECK(f.read(0, step) == f.content);
    CHECK(f.requests() == 0);
}

TEST_CASE("an error reaches the reader, and is not kept") {
    Fixture f(block_bytes);
    f.silent = true;
    const auto outcome = f.start(0, 100);
    REQUIRE(f.wait_for([&] { return f.requests() == 1; }));
    f.server.reply(f.server.of(Opcode::read)[0], {.status = Status::io_error});
    REQUIRE(f.wait_for([&] { return outcome->status.has_value(); }));
    CHECK(*outcome->status == Status::io_error);
    f.silent = false;
    CHECK(f.read(0, 100) == f.content.substr(0, 100));
}

TEST_CASE("windows shrink when what was fetched ahead had to go unread") {
    Fixture f(64 * block_bytes, 4U << 20);
    // Eight readers of one handle, each of which would like a quarter of the memory.
    std::uint64_t largest = 0;
    bool shrank = false;
    for (std::uint64_t offset = 0; offset < 8 * block_bytes; offset += step) {
        for (std::uint64_t reader_start = 0; reader_start < f.content.size(); reader_start += 8 * block_bytes) {
            CHECK(f.read(reader_start + offset, step) == f.content.substr(reader_start + offset, step));
            shrank = shrank || f.readahead.window_bytes() < largest;
            largest = std::max(largest, f.readahead.window_bytes());
        }
    }
    CHECK(f.counted("cache.wasted") > 0);
    CHECK(shrank);
}

TEST_CASE("memory stays within its limit whatever is read") {
    Fixture f(40 * block_bytes, 4U << 20);
    std::mt19937 random(3);
    for (int i = 0; i < 200; ++i) {
        const std::uint64_t offset = random() % 4 == 0 ? random() % f.content.size() : (i * step) % f.content.size();
        CHECK(f.read(offset, step) == f.content.substr(offset, step));
        REQUIRE(f.memory.used_bytes() <= f.memory.limit_bytes());
    }
}

}  // namespace remofile::client
