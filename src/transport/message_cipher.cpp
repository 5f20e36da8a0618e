// SPDX-License-Identifier: MIT
#include "transport/message_cipher.hpp"

#include <openssl/evp.h>
#include <sodium.h>

#include <cstring>
#include <span>
#include <utility>

#include "base/assert.hpp"

namespace remofile::transport {
namespace {

constexpr std::size_t nonce_bytes = 12;

using Nonce = std::array<std::uint8_t, nonce_bytes>;

template <class Integer>
void put_little_endian(std::uint8_t* to, Integer value) {
    for (std::size_t i = 0; i < sizeof value; ++i)
        to[i] = static_cast<std::uint8_t>(value >> (8 * i));
}

// No two frames under one key have the same: messages are counted, and the frames of each.
Nonce nonce_of(std::uint64_t message, std::uint32_t frame) {
    Nonce nonce;
    put_little_endian(nonce.data(), message);
    put_little_endian(nonce.data() + sizeof message, frame);
    return nonce;
}

unsigned char* as_octets(std::byte* bytes) {
    return reinterpret_cast<unsigned char*>(bytes);
}

const unsigned char* as_octets(const std::byte* bytes) {
    return reinterpret_cast<const unsigned char*>(bytes);
}

// One direction. The number of frames is sealed with the first: ZeroMQ's marks between frames are not.
class Direction {
public:
    Direction(const CipherKey& key, bool encrypts) : context_(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free) {
        REMOFILE_ASSERT(context_ != nullptr);
        REMOFILE_ASSERT(
            EVP_CipherInit_ex(context_.get(), EVP_aes_256_gcm(), nullptr, key.data(), nullptr, encrypts ? 1 : 0) == 1);
    }

    void begin_message(std::size_t frames) {
        ++message_;
        frame_ = 0;
        frames_ = static_cast<std::uint32_t>(frames);
    }

    Buffer seal(std::span<const std::byte> plain) {
        Buffer sealed = Buffer::allocate(plain.size() + seal_bytes);
        begin_frame();
        transform(plain, sealed.data());
        int rest = 0;
        REMOFILE_ASSERT(EVP_CipherFinal_ex(context_.get(), as_octets(sealed.data()) + plain.size(), &rest) == 1);
        REMOFILE_ASSERT(
            EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_GCM_GET_TAG, seal_bytes, sealed.data() + plain.size()) == 1);
        return sealed;
    }

    // In place. False: it was not sealed with this key as this frame.
    bool open(Buffer& frame) {
        if (frame.size() < seal_bytes)
            return false;
        const std::size_t size = frame.size() - seal_bytes;
        begin_frame();
        transform(frame.bytes().first(size), frame.data());
        REMOFILE_ASSERT(EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_GCM_SET_TAG, seal_bytes, frame.data() + size) ==
                        1);
        std::array<unsigned char, 16> nothing{};
        int rest = 0;
        if (EVP_CipherFinal_ex(context_.get(), nothing.data(), &rest) != 1)
            return false;
        frame.shrink(size);
        return true;
    }

private:
    void begin_frame() {
        const Nonce nonce = nonce_of(message_, frame_);
        REMOFILE_ASSERT(EVP_CipherInit_ex(context_.get(), nullptr, nullptr, nullptr, nonce.data(), -1) == 1);
        if (frame_++ > 0)
            return;
        std::array<std::uint8_t, sizeof frames_> count{};
        put_little_endian(count.data(), frames_);
        int done = 0;
        REMOFILE_ASSERT(EVP_CipherUpdate(context_.get(), nullptr, &done, count.data(), count.size()) == 1);
    }

    // `to` may be where `from` is.
    void transform(std::span<const std::byte> from, std::byte* to) {
        int done = 0;
        if (!from.empty())
            REMOFILE_ASSERT(EVP_CipherUpdate(context_.get(), as_octets(to), &done, as_octets(from.data()),
                                             static_cast<int>(from.size())) == 1);
    }

    std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context_;
    std::uint64_t message_ = 0;
    std::uint32_t frame_ = 0;
    std::uint32_t frames_ = 0;
};

}  // namespace

LaneKeys::~LaneKeys() {
    sodium_memzero(to_server.data(), to_server.size());
    sodium_memzero(to_client.data(), to_client.size());
}

std::string LaneTicket::name() const {
    std::string hexadecimal(2 * id.size() + 1, '\0');
    sodium_bin2hex(hexadecimal.data(), hexadecimal.size(), id.data(), id.size());
    hexadecimal.pop_back();
    return hexadecimal;
}

bool has_fast_cipher() {
    static const bool available = sodium_init() >= 0 && crypto_aead_aes256gcm_is_available() == 1;
    return available;
}

struct MessageCipher::State {
    Direction sending;
    Direction receiving;
    bool broken = false;
};

MessageCipher::MessageCipher(const LaneKeys& keys, End end)
    : state_(std::make_unique<State>(
          State{.sending = Direction(end == End::client ? keys.to_server : keys.to_client, true),
                .receiving = Direction(end == End::client ? keys.to_client : keys.to_server, false)})) {}

MessageCipher::~MessageCipher() = default;
MessageCipher::MessageCipher(MessageCipher&&) noexcept = default;
MessageCipher& MessageCipher::operator=(MessageCipher&&) noexcept = default;

wire::Message MessageCipher::seal(const wire::Message& message) {
    Direction& direction = state_->sending;
    direction.begin_message(1 + message.bulk.size());
    wire::Message sealed;
    sealed.head = direction.seal(message.head.bytes());
    sealed.bulk.reserve(message.bulk.size());
    for (const Buffer& bulk : message.bulk)
        sealed.bulk.push_back(direction.seal(bulk.bytes()));
    return sealed;
}

Result<wire::Message> MessageCipher::open(wire::Message message) {
    Direction& direction = state_->receiving;
    direction.begin_message(1 + message.bulk.size());
    bool opened = !state_->broken && direction.open(message.head);
    for (Buffer& bulk : message.bulk)
        opened = opened && direction.open(bulk);
    if (!opened) {
        state_->broken = true;
        return make_error(Status::malformed, "a message was not sealed by the other end, or changed on its way");
    }
    return message;
}

}  // namespace remofile::transport
