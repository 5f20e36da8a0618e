// SPDX-License-Identifier: MIT
// How files are opened and written, and what is answered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/buffer.hpp"
#include "filesystem/entry.hpp"
#include "filesystem/handle_table.hpp"

namespace remofile::filesystem {

struct OpenHow {
    std::uint32_t flags = 0;  // wire::open_*
    bool past_cache = false;  // nothing that is read through the handle is kept, neither here nor in front
};

struct Opened {
    HandleNumber handle{};
    std::uint64_t size = 0;  // of the file
    // What is kept in front of the file's content is true of it; if not, it has to go.
    bool front_is_true = false;
};

struct Created {
    Entry entry;
    Opened opened;
};

struct WriteHow {
    bool append = false;      // to the end of the file, wherever that is
    bool through = false;     // the write ends when the server has carried it out
    bool of_mapping = false;  // a page of a mapping: of no caller in particular, and always through
};

// What is to be written.
struct Payload {
    std::span<const std::byte> bytes;  // valid until the operation first waits
    std::function<Buffer()> take;      // makes the bytes the file system's own; until then, and once
};

// An extended attribute, or the list of them.
struct Xattr {
    std::uint32_t size = 0;  // as the server states it
    Buffer bytes;            // empty if only the size was asked for
};

}  // namespace remofile::filesystem
