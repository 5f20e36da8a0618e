// SPDX-License-Identifier: MIT
// Little-endian encoding of plain structures. A structure lists its members once, in wire order:
//
//     struct Rename {
//         NodeId parent;
//         std::string name;
//         static constexpr auto fields = std::tuple{&Rename::parent, &Rename::name};
//     };
//
// and encode() and decode() follow that list. Integers have their own width; enumerations that of their underlying
// type; bool is one byte, 0 or 1; a strong id 8 bytes; a string a u16 length and its bytes; a vector a u16 count and
// its elements; std::array its elements; a nested structure its fields.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "base/assert.hpp"
#include "base/strong_id.hpp"

namespace remofile::wire {

template <class T>
concept Structure = requires {
    T::fields;
};

// Appends to a byte vector.
class Encoder {
public:
    explicit Encoder(std::vector<std::byte>& out) : out_(out) {}

    template <std::unsigned_integral T>
    void put(T value) {
        for (std::size_t i = 0; i < sizeof(T); ++i)
            out_.push_back(static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * i)));
    }
    template <std::signed_integral T>
    void put(T value) {
        put(static_cast<std::make_unsigned_t<T>>(value));
    }
    void put(bool value) { put(static_cast<std::uint8_t>(value)); }
    template <class T>
    requires std::is_enum_v<T>
    void put(T value) { put(static_cast<std::underlying_type_t<T>>(value)); }
    template <class Tag>
    void put(StrongId<Tag> id) {
        put(id.value);
    }
    void put(const std::string& text) {
        REMOFILE_ASSERT(text.size() <= UINT16_MAX);
        put(static_cast<std::uint16_t>(text.size()));
        const auto bytes = std::as_bytes(std::span(text));
        out_.insert(out_.end(), bytes.begin(), bytes.end());
    }
    template <class T>
    void put(const std::vector<T>& elements) {
        REMOFILE_ASSERT(elements.size() <= UINT16_MAX);
        put(static_cast<std::uint16_t>(elements.size()));
        for (const auto& element : elements)
            put(element);
    }
    template <class T, std::size_t N>
    void put(const std::array<T, N>& elements) {
        for (const auto& element : elements)
            put(element);
    }
    template <Structure T>
    void put(const T& value) {
        std::apply([&](auto... member) { (put(value.*member), ...); }, T::fields);
    }

private:
    std::vector<std::byte>& out_;
};

// Reads from bytes that a peer sent. Nothing throws: the first field that does not fit makes ok() false for good, and
// all later ones read as zero or empty. Memory claimed is bounded by the bytes present.
class Decoder {
public:
    explicit Decoder(std::span<const std::byte> in) : rest_(in) {}

    bool ok() const { return ok_; }
    // True when all bytes were read and all fitted. Trailing bytes are an error: a field that the receiver does not
    // know must be negotiated by a feature.
    bool finished() const { return ok_ && rest_.empty(); }
    std::size_t remaining() const { return rest_.size(); }

    template <std::unsigned_integral T>
    void get(T& value) {
        std::uint64_t read = 0;
        const auto bytes = take(sizeof(T));
        for (std::size_t i = 0; i < bytes.size(); ++i)
            read |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
        value = static_cast<T>(read);
    }
    template <std::signed_integral T>
    void get(T& value) {
        std::make_unsigned_t<T> read = 0;
        get(read);
        value = static_cast<T>(read);
    }
    void get(bool& value) {
        std::uint8_t read = 0;
        get(read);
        if (read > 1)
            fail();
        value = read == 1;
    }
    // Any number of the underlying type: whoever uses an enumeration from a peer checks it.
    template <class T>
    requires std::is_enum_v<T>
    void get(T& value) {
        std::underlying_type_t<T> read{};
        get(read);
        value = static_cast<T>(read);
    }
    template <class Tag>
    void get(StrongId<Tag>& id) {
        get(id.value);
    }
    void get(std::string& text) {
        std::uint16_t size = 0;
        get(size);
        const auto bytes = take(size);
        text.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    template <class T>
    void get(std::vector<T>& elements) {
        std::uint16_t count = 0;
        get(count);
        elements.clear();
        for (std::size_t i = 0; i < count && ok_; ++i)
            get(elements.emplace_back());
        if (!ok_)
            elements.clear();
    }
    template <class T, std::size_t N>
    void get(std::array<T, N>& elements) {
        for (auto& element : elements)
            get(element);
    }
    template <Structure T>
    void get(T& value) {
        std::apply([&](auto... member) { (get(value.*member), ...); }, T::fields);
    }

private:
    std::span<const std::byte> take(std::size_t size) {
        if (!ok_ || rest_.size() < size) {
            fail();
            return {};
        }
        const auto bytes = rest_.first(size);
        rest_ = rest_.subspan(size);
        return bytes;
    }
    void fail() {
        ok_ = false;
        rest_ = {};
    }

    std::span<const std::byte> rest_;
    bool ok_ = true;
};

}  // namespace remofile::wire
