// SPDX-License-Identifier: MIT
// An input as a list of numbers and frames, each frame led by its length (u16). One that is cut short anywhere is as
// good as any: what is missing is zero or empty.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "wire/frame.hpp"

namespace remofile {

class FuzzInput {
public:
    FuzzInput(const std::uint8_t* data, std::size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

    bool empty() const { return rest_.empty(); }
    std::string_view rest() const { return rest_; }

    std::string_view bytes(std::size_t size) {
        const std::string_view taken = rest_.substr(0, size);
        rest_.remove_prefix(taken.size());
        return taken;
    }
    template <std::unsigned_integral T>
    T number() {
        std::uint64_t value = 0;
        const std::string_view octets = bytes(sizeof(T));
        for (std::size_t i = 0; i < octets.size(); ++i)
            value |= std::uint64_t{static_cast<unsigned char>(octets[i])} << (8 * i);
        return static_cast<T>(value);
    }
    std::string_view frame() { return bytes(number<std::uint16_t>()); }
    wire::Message message(unsigned bulk_frames) {
        wire::Message message{.head = Buffer::copy_of(frame()), .bulk = {}};
        for (; bulk_frames > 0; --bulk_frames)
            message.bulk.push_back(Buffer::copy_of(frame()));
        return message;
    }

private:
    std::string_view rest_;
};

// The same the other way, for seeds.
template <std::unsigned_integral T>
void append_number(std::string& input, T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i)
        input += static_cast<char>(value >> (8 * i));
}
inline void append_frame(std::string& input, std::string_view frame) {
    append_number(input, static_cast<std::uint16_t>(frame.size()));
    input += frame;
}
inline void append_frames(std::string& input, const wire::Message& message) {
    append_frame(input, message.head.text());
    for (const Buffer& bulk : message.bulk)
        append_frame(input, bulk.text());
}

}  // namespace remofile
