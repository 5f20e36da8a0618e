// SPDX-License-Identifier: MIT
// Bytes with one owner, whoever allocated them: data goes from a socket to a reply without a copy.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

namespace remofile {

class Buffer {
public:
    // Frees what `hint` stands for; runs on whichever thread drops the buffer, so it must be safe on any.
    using Release = void (*)(void* hint) noexcept;

    Buffer() = default;

    // Allocates `size` bytes, uninitialised.
    static Buffer allocate(std::size_t size) {
        auto* memory = new std::byte[size];
        return Buffer(
            memory, size, [](void* hint) noexcept { delete[] static_cast<std::byte*>(hint); }, memory);
    }
    static Buffer copy_of(std::span<const std::byte> bytes) {
        Buffer copy = allocate(bytes.size());
        if (!bytes.empty())
            std::memcpy(copy.data_, bytes.data(), bytes.size());
        return copy;
    }
    static Buffer copy_of(std::string_view text) { return copy_of(std::as_bytes(std::span(text))); }

    // Takes over foreign memory: `release(hint)` is called once, when the buffer goes.
    Buffer(std::byte* data, std::size_t size, Release release, void* hint)
        : data_(data), size_(size), release_(release), hint_(hint) {}

    Buffer(Buffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)),
          release_(std::exchange(other.release_, nullptr)),
          hint_(std::exchange(other.hint_, nullptr)) {}
    Buffer& operator=(Buffer&& other) noexcept {
        Buffer taken(std::move(other));
        std::swap(data_, taken.data_);
        std::swap(size_, taken.size_);
        std::swap(release_, taken.release_);
        std::swap(hint_, taken.hint_);
        return *this;
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() {
        if (release_ != nullptr)
            release_(hint_);
    }

    std::byte* data() { return data_; }
    const std::byte* data() const { return data_; }
    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    std::span<const std::byte> bytes() const { return {data_, size_}; }
    std::span<std::byte> bytes() { return {data_, size_}; }
    std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

    // Forgets the bytes from `size` on; never grows.
    void shrink(std::size_t size) { size_ = size < size_ ? size : size_; }

    // Gives up ownership to a caller that will call `release(hint)` itself.
    struct Released {
        std::byte* data;
        std::size_t size;
        Release release;
        void* hint;
    };
    Released take() {
        return {std::exchange(data_, nullptr), std::exchange(size_, 0), std::exchange(release_, nullptr),
                std::exchange(hint_, nullptr)};
    }

private:
    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
    Release release_ = nullptr;
    void* hint_ = nullptr;
};

}  // namespace remofile
