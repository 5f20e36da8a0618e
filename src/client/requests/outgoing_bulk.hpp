// SPDX-License-Identifier: MIT
// The bulk data of one request on its way out: plain, being encoded, or encoded. It is encoded once, and only what is
// encoded can be sent.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <variant>

#include "base/assert.hpp"
#include "base/buffer.hpp"
#include "client/shared_buffer.hpp"
#include "wire/compression.hpp"

namespace remofile::client {

// One thread, but for the Encoding that another one works on.
class OutgoingBulk {
public:
    enum class State : std::uint8_t { none, plain, encoding, encoded };

    // What another thread encodes. Shared by it and the data's owner, who may have gone before it has finished.
    class Encoding {
    public:
        explicit Encoding(Buffer plain) : plain_(std::move(plain)) {}
        // `encode` makes a wire::EncodedBulk of a Buffer, and does not throw. Once, on any thread.
        template <class Encode>
        void carry_out(Encode&& encode) {
            result_ = encode(std::move(plain_));
            done_.store(true, std::memory_order_release);
        }

    private:
        friend class OutgoingBulk;
        Buffer plain_;
        wire::EncodedBulk result_;
        std::atomic<bool> done_ = false;
    };

    OutgoingBulk() = default;  // a request without
    explicit OutgoingBulk(Buffer plain) : size_(static_cast<std::uint32_t>(plain.size())), stage_(std::move(plain)) {}

    State state() const { return static_cast<State>(stage_.index()); }
    explicit operator bool() const { return state() != State::none; }
    std::uint32_t size() const { return size_; }  // once decoded

    // plain → encoded. `encode` as above, on this thread.
    template <class Encode>
    void encode(Encode&& encode) {
        REMOFILE_ASSERT(state() == State::plain);
        auto data = std::make_shared<Buffer>();  // or the data would be lost if there were no memory for it
        wire::EncodedBulk bulk = encode(std::move(std::get<Buffer>(stage_)));
        *data = std::move(bulk.data);
        stage_ = Encoded{std::move(data), bulk.encoding};
    }
    // plain → encoding. What is returned is to be carried out.
    std::shared_ptr<Encoding> begin_encoding() {
        REMOFILE_ASSERT(state() == State::plain);
        auto encoding = std::make_shared<Encoding>(std::move(std::get<Buffer>(stage_)));
        stage_ = encoding;
        return encoding;
    }

    // Whether it can be sent; takes over what the other thread has finished.
    bool ready() {
        if (state() == State::encoding) {
            const std::shared_ptr<Encoding> encoding = std::get<std::shared_ptr<Encoding>>(stage_);
            if (encoding->done_.load(std::memory_order_acquire))
                stage_ =
                    Encoded{std::make_shared<Buffer>(std::move(encoding->result_.data)), encoding->result_.encoding};
        }
        return state() == State::none || state() == State::encoded;
    }

    // Bytes that travel; 0 for none. Precondition: ready.
    std::size_t encoded_bytes() const { return state() == State::none ? 0 : encoded().data->size(); }
    wire::BulkEncoding encoding() const { return encoded().encoding; }
    // What travels, without a copy. The request may have to be sent again.
    Buffer share() const { return view_of(encoded().data); }

private:
    struct Encoded {
        std::shared_ptr<Buffer> data;  // shared with the messages on their way
        wire::BulkEncoding encoding = wire::BulkEncoding::raw;
    };

    const Encoded& encoded() const {
        REMOFILE_ASSERT(state() == State::encoded);
        return std::get<Encoded>(stage_);
    }

    std::uint32_t size_ = 0;
    // In the order of State.
    std::variant<std::monostate, Buffer, std::shared_ptr<Encoding>, Encoded> stage_;
};

}  // namespace remofile::client
