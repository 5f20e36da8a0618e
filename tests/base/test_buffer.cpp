// SPDX-License-Identifier: MIT
#include "base/buffer.hpp"

#include <string>

#include "catch.hpp"

using namespace remofile;

namespace {

struct Foreign {
    std::string text = "foreign";
    int released = 0;

    Buffer lend() {
        return {reinterpret_cast<std::byte*>(text.data()), text.size(),
                [](void* hint) noexcept { ++static_cast<Foreign*>(hint)->released; }, this};
    }
};

}  // namespace

TEST_CASE("an empty buffer") {
    const Buffer buffer;
    CHECK(buffer.empty());
    CHECK(buffer.text().empty());
    CHECK(Buffer::copy_of("").empty());
}

TEST_CASE("a copy is its own") {
    std::string text = "text";
    Buffer copy = Buffer::copy_of(text);
    text = "changed";
    CHECK(copy.text() == "text");
    copy.data()[0] = std::byte{'T'};
    CHECK(copy.text() == "Text");
}

TEST_CASE("foreign memory is released once, whoever holds it last") {
    Foreign foreign;
    {
        Buffer first = foreign.lend();
        Buffer second = std::move(first);
        CHECK(first.empty());  // NOLINT(bugprone-use-after-move): moved-from buffers are empty by contract
        CHECK(second.text() == "foreign");
        Buffer third;
        third = std::move(second);
        CHECK(foreign.released == 0);
    }
    CHECK(foreign.released == 1);
}

TEST_CASE("assigning to a buffer releases what it held") {
    Foreign old;
    Foreign fresh;
    Buffer buffer = old.lend();
    buffer = fresh.lend();
    CHECK(old.released == 1);
    CHECK(fresh.released == 0);
    Buffer& same = buffer;
    buffer = std::move(same);
    CHECK(fresh.released == 0);
    CHECK(buffer.text() == "foreign");
}

TEST_CASE("a buffer shrinks and does not grow") {
    Buffer buffer = Buffer::copy_of("0123456789");
    buffer.shrink(20);
    CHECK(buffer.size() == 10);
    buffer.shrink(3);
    CHECK(buffer.text() == "012");
}

TEST_CASE("ownership given up is not released") {
    Foreign foreign;
    {
        Buffer buffer = foreign.lend();
        const auto released = buffer.take();
        CHECK(released.size == 7);
        CHECK(buffer.empty());
        CHECK(foreign.released == 0);
        released.release(released.hint);
    }
    CHECK(foreign.released == 1);
}
