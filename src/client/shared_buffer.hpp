// SPDX-License-Identifier: MIT
#pragma once

#include <memory>

#include "base/buffer.hpp"

namespace remofile::client {

// Bytes of a shared buffer from `start` on, without a copy; they keep it alive. Any thread may drop it.
inline Buffer view_of(const std::shared_ptr<Buffer>& whole, std::size_t start = 0) {
    auto* owner = new std::shared_ptr<Buffer>(whole);
    return {whole->data() + start, whole->size() - start,
            [](void* hint) noexcept { delete static_cast<std::shared_ptr<Buffer>*>(hint); }, owner};
}

// The same, and no more than `size` of them.
inline Buffer view_of(const std::shared_ptr<Buffer>& whole, std::size_t start, std::size_t size) {
    Buffer view = view_of(whole, start);
    view.shrink(size);
    return view;
}

// Bytes that others may keep as well.
struct SharedBytes {
    std::shared_ptr<Buffer> memory;
    std::size_t start = 0;
    std::size_t allocated = 0;  // in bytes, for all of it
};

}  // namespace remofile::client
