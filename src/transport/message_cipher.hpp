// SPDX-License-Identifier: MIT
// Encryption of the messages of a sealed lane: AES-256-GCM, by keys that came over an encrypted connection.
// docs/PROTOCOL.md, "Sealed lanes", says how; docs/adr/0014-sealed-lanes.md why.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "wire/frame.hpp"

namespace remofile::transport {

using CipherKey = std::array<std::uint8_t, 32>;

// One connection's two keys, each for one direction and one connection only. Wiped from memory when they go.
struct LaneKeys {
    CipherKey to_server{};
    CipherKey to_client{};

    LaneKeys() = default;
    LaneKeys(const LaneKeys&) = default;
    LaneKeys& operator=(const LaneKeys&) = default;
    ~LaneKeys();
};

// What a client gets over its encrypted connection, to open one sealed lane.
struct LaneTicket {
    std::array<std::uint8_t, 16> id{};
    LaneKeys keys;

    // As the connection's PLAIN user name.
    std::string name() const;
};

// Bytes that sealing adds to each frame.
inline constexpr std::size_t seal_bytes = 16;

// Whether this processor encrypts so fast that sealed lanes are worth it. Both ends must.
bool has_fast_cipher();

// One end of one connection. Messages must be opened in the order in which they were sealed, none left out: that is
// how one that was held back, repeated or taken from elsewhere is found out. One thread.
class MessageCipher {
public:
    enum class End : std::uint8_t { client, server };
    MessageCipher(const LaneKeys& keys, End end);
    ~MessageCipher();
    MessageCipher(MessageCipher&&) noexcept;
    MessageCipher& operator=(MessageCipher&&) noexcept;

    // `message` itself may be shared with others: it is left as it is.
    wire::Message seal(const wire::Message& message);
    // Error: malformed, for a message that the other end has not sealed so. Nothing more can be opened then.
    Result<wire::Message> open(wire::Message message);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace remofile::transport
