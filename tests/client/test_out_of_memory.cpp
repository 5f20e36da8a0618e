// SPDX-License-Identifier: MIT
// The first allocation fails, or the second, or the third …: one request ends with an error, and all else goes on.
#include <cstdlib>
#include <new>

#include "base/log.hpp"
#include "client/file_reader.hpp"
#include "client/write_behind.hpp"
#include "fake_server.hpp"

namespace {

// Small allocations are taken as sure: libzmq, which runs on the same thread, ends the process without.
constexpr std::size_t least_that_fails = 200;

thread_local bool armed = false;
thread_local std::size_t until_failure = 0;

bool fails_now(std::size_t size) {
    return armed && size >= least_that_fails && !remofile::client::serving_as_fake && until_failure > 0 &&
           --until_failure == 0;
}

void* allocate(std::size_t size) {
    if (fails_now(size))
        throw std::bad_alloc();
    if (void* memory = std::malloc(size == 0 ? 1 : size))
        return memory;
    throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t size) {
    return allocate(size);
}
void* operator new[](std::size_t size) {
    return allocate(size);
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    return fails_now(size) ? nullptr : std::malloc(size == 0 ? 1 : size);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
    return fails_now(size) ? nullptr : std::malloc(size == 0 ? 1 : size);
}
void operator delete(void* memory) noexcept {
    std::free(memory);
}
void operator delete[](void* memory) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
    std::free(memory);
}

namespace remofile::client {
namespace {

constexpr std::size_t file_bytes = 3 * block_bytes;

// What a mount does with two files, each step told how it ended.
struct Work : SessionFixture {
    MemoryBudget memory{64U << 20};
    std::string content = std::string(file_bytes, 'r');
    std::optional<FileReader> reader;
    std::optional<WriteBehind> writes;
    Readahead readahead;
    std::size_t failed_writes = 0;
    std::vector<Status> ended;

    Work() {
        log::configure("test", log::Level::off, log::Target::standard_error);
        options.compression = GENERATE(wire::compression_off, 1);
        connect();
        reader.emplace(*session, memory, counters);
        writes.emplace(*session, memory, counters);
        writes->on_failed = [this](const auto&, std::uint64_t, std::uint64_t, Status) { ++failed_writes; };
        server.on_request = [this](const FakeRequest& request) -> std::optional<FakeReply> {
            if (request.header.opcode == Opcode::read) {
                const auto read = request.as<wire::Read>();
                const std::size_t start = std::min<std::size_t>(read.offset, content.size());
                return FakeReply{.bulk = content.substr(start, read.size)};
            }
            if (request.header.opcode == Opcode::write)
                return FakeReply::of(wire::WriteReply{0, request.header.bulk_size, some_attributes()});
            return FakeServer::answer(request);
        };
    }
    ~Work() { session->close(); }

    // Steps end in ok or an error, however little memory there is, but end they must: the last resort is spawn's.
    void begin(Task<void> step) {
        spawn(std::move(step), [this](Status status) { ended.push_back(status); });
    }
    Task<void> read(std::uint64_t offset) {
        const ReadSource source{.file = 7, .generation = 1, .file_size = file_bytes, .handle = HandleId{1}};
        const auto data = co_await reader->read(source, &readahead, offset, 300'000, nullptr);
        if (data) {
            std::size_t size = 0;
            for (const auto piece : data->pieces)
                size += piece.size();
            CHECK(size == 300'000);
        }
        ended.push_back(data.status());
    }
    Task<void> write(std::uint64_t offset) {
        const WriteBehind::Target target{.file = 8, .handle = HandleId{2}};
        Buffer data = Buffer::copy_of(std::string(300'000, 'w'));
        const auto accepted = co_await writes->write(target, offset, std::move(data), nullptr);
        Status status = accepted.status();
        if (accepted)
            status = co_await writes->drain(8, nullptr);
        ended.push_back(status);
    }
    Task<void> look() {
        const wire::Lookup lookup{NodeId{1}, std::string(300, 'n'), {NodeId{5}, false}};
        const auto reply = co_await session->call(lookup);
        ended.push_back(reply.status());
    }
    void all() {
        ended.clear();
        begin(read(0));
        begin(look());
        begin(write(0));
        begin(write(300'000));
        begin(read(300'000));
    }
};

}  // namespace

TEST_CASE("whichever allocation fails, requests end, one of them with an error at most") {
    Work f;
    std::size_t failures = 0;
    for (std::size_t which = 1;; ++which) {
        CAPTURE(which);
        // Nothing is in memory, so that each round asks for the same.
        f.reader->changed(7, 1, 0, file_bytes);
        until_failure = which;
        armed = true;
        f.all();
        const bool all_ended = f.wait_for([&] { return f.ended.size() == 5; });
        armed = false;
        REQUIRE(all_ended);
        const bool happened = until_failure == 0;
        failures += happened ? 1 : 0;
        if (!happened)
            break;

        REQUIRE(f.wait_for([&] { return f.session->connected(); }));
        CHECK(f.session->epoch() == 1);
        CHECK(f.writes->pending_bytes() == 0);
        f.all();
        REQUIRE(f.wait_for([&] { return f.ended.size() == 5; }));
        CHECK(f.ended == std::vector<Status>(5, Status::ok));
    }
    CHECK(failures > 20);
}

}  // namespace remofile::client
