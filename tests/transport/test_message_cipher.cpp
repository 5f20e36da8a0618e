// SPDX-License-Identifier: MIT
#include "transport/message_cipher.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "fixture.hpp"

using namespace remofile;
using namespace remofile::transport;

namespace {

LaneKeys some_keys() {
    LaneKeys keys;
    keys.to_server.fill(1);
    keys.to_client.fill(2);
    return keys;
}

struct Ends {
    LaneKeys keys = some_keys();
    MessageCipher client{keys, MessageCipher::End::client};
    MessageCipher server{keys, MessageCipher::End::server};
};

std::vector<std::string> texts_of(const wire::Message& message) {
    std::vector<std::string> texts{std::string(message.head.text())};
    for (const Buffer& bulk : message.bulk)
        texts.emplace_back(bulk.text());
    return texts;
}

wire::Message copy_of(const wire::Message& message) {
    wire::Message copy;
    copy.head = Buffer::copy_of(message.head.bytes());
    for (const Buffer& bulk : message.bulk)
        copy.bulk.push_back(Buffer::copy_of(bulk.bytes()));
    return copy;
}

std::string hexadecimal(const Buffer& buffer) {
    std::string digits;
    for (const std::byte byte : buffer.bytes())
        digits += fmt::format("{:02x}", static_cast<unsigned>(byte));
    return digits;
}

}  // namespace

TEST_CASE("what one end seals the other opens, in both directions") {
    Ends ends;
    const std::vector<std::vector<std::string>> messages{
        {"head"}, {"head", "bulk"}, {"", ""}, {"head", std::string(1 << 20, 'x'), "", "more"}, {std::string(1, '\0')}};
    for (int round = 0; round < 3; ++round) {
        for (const auto& frames : messages) {
            const wire::Message plain = message_of(frames.front(), {frames.begin() + 1, frames.end()});
            wire::Message sealed = ends.client.seal(plain);
            CHECK(texts_of(plain) == frames);  // as it was
            CHECK(sealed.head.size() == plain.head.size() + seal_bytes);
            CHECK(texts_of(value_of(ends.server.open(std::move(sealed)))) == frames);
            CHECK(texts_of(value_of(ends.client.open(ends.server.seal(plain)))) == frames);
        }
    }
}

TEST_CASE("sealed bytes are those that docs/PROTOCOL.md describes") {
    // From another implementation (Python's cryptography): AES-256-GCM with a key of 32 bytes 01, nonces
    // 0100000000000000 00000000 and 0100000000000000 01000000, and the additional data 02000000 for the first.
    Ends ends;
    const wire::Message sealed = ends.client.seal(message_of("head", {"bulk data"}));
    CHECK(hexadecimal(sealed.head) == "3ff27d5c4a3966c2253f1aa726c26c9c989dc995");
    CHECK(hexadecimal(sealed.bulk.at(0)) == "b925a56301cc9de0ecf5fed5bfa72fd2f7b518ca37a12dd302");
}

TEST_CASE("nothing of the text and of its likeness shows") {
    Ends ends;
    const std::string text(64, 'a');
    const wire::Message once = ends.client.seal(message_of(text, {text}));
    const wire::Message again = ends.client.seal(message_of(text, {text}));
    const std::vector<std::string> sealed{std::string(once.head.text()), std::string(once.bulk[0].text()),
                                          std::string(again.head.text()), std::string(again.bulk[0].text())};
    for (std::size_t i = 0; i < sealed.size(); ++i) {
        CHECK(sealed[i].find("aaaa") == std::string::npos);
        CHECK(std::count(sealed.begin(), sealed.end(), sealed[i]) == 1);
    }
}

TEST_CASE("a message with any bit changed is refused, and so is all that follows") {
    const std::size_t bytes = 4 + seal_bytes;
    for (std::size_t frame = 0; frame < 2; ++frame) {
        for (std::size_t at = 0; at < bytes; ++at) {
            Ends ends;
            wire::Message sealed = ends.client.seal(message_of("head", {"bulk"}));
            Buffer& changed = frame == 0 ? sealed.head : sealed.bulk[0];
            REQUIRE(changed.size() == bytes);
            changed.bytes()[at] ^= std::byte{1};
            CHECK(ends.server.open(std::move(sealed)).status() == Status::malformed);
            CHECK(ends.server.open(ends.client.seal(message_of("next"))).status() == Status::malformed);
        }
    }
}

TEST_CASE("messages that are left out, repeated or exchanged are refused") {
    Ends ends;
    wire::Message first = ends.client.seal(message_of("first"));
    wire::Message second = ends.client.seal(message_of("second"));
    SECTION("left out") {
        CHECK(ends.server.open(std::move(second)).status() == Status::malformed);
    }
    SECTION("repeated") {
        wire::Message repeated = copy_of(first);
        CHECK(ends.server.open(std::move(first)).has_value());
        CHECK(ends.server.open(std::move(repeated)).status() == Status::malformed);
    }
    SECTION("sent back") {
        CHECK(ends.client.open(std::move(first)).status() == Status::malformed);
    }
    SECTION("of another connection") {
        LaneKeys others = some_keys();
        others.to_server[31] ^= 1;
        MessageCipher other(others, MessageCipher::End::server);
        CHECK(other.open(std::move(first)).status() == Status::malformed);
    }
}

TEST_CASE("frames that are moved, cut off or added are refused") {
    Ends ends;
    wire::Message sealed = ends.client.seal(message_of("head", {"one!", "two!"}));
    SECTION("exchanged") {
        std::swap(sealed.bulk[0], sealed.bulk[1]);
    }
    SECTION("the last one cut off") {
        sealed.bulk.pop_back();
    }
    SECTION("one added") {
        sealed.bulk.push_back(Buffer::copy_of(sealed.bulk[0].bytes()));
    }
    SECTION("cut into two messages") {
        wire::Message rest;
        rest.head = std::move(sealed.bulk[1]);
        sealed.bulk.pop_back();
    }
    SECTION("shortened") {
        sealed.bulk[1].shrink(sealed.bulk[1].size() - 1);
    }
    SECTION("shorter than a seal") {
        sealed.bulk[1].shrink(seal_bytes - 1);
    }
    SECTION("empty") {
        sealed.head.shrink(0);
    }
    CHECK(ends.server.open(std::move(sealed)).status() == Status::malformed);
}
