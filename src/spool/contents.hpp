// SPDX-License-Identifier: MIT
// What a mount had been told to do, and its server had not answered when the mount ended.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "wire/messages.hpp"

namespace remofile::spool {

// Files and directories are known by their places in Contents::objects. The first is the mount's root.
using ObjectNumber = std::uint32_t;
inline constexpr ObjectNumber root_object = 0;
inline constexpr ObjectNumber no_object = std::numeric_limits<ObjectNumber>::max();

// A file as the server told of it last.
struct Told {
    std::uint64_t size = 0;
    wire::Timestamp modification;
    friend bool operator==(const Told&, const Told&) = default;
    static constexpr auto fields = std::tuple{&Told::size, &Told::modification};
};

struct Object {
    bool is_new = false;  // made by one of the changes
    std::string path;     // of one that is not new: below the mount's root, before the changes; "a/b"
    // Of a new one: its inode number is 0 if the mount did not know it.
    wire::FileIdentity identity;
    std::uint32_t type = 0;  // S_IFMT bits
    bool is_told = false;    // a regular file of which `told` is known
    Told told;
    static constexpr auto fields =
        std::tuple{&Object::is_new, &Object::path, &Object::identity, &Object::type, &Object::is_told, &Object::told};
};

enum class ChangeKind : std::uint8_t { make, link, remove, rename, set };

// A change of names or attributes.
struct Change {
    ChangeKind kind = ChangeKind::make;
    ObjectNumber object = no_object;
    // The name that it gets (make, link) or loses (remove, rename).
    ObjectNumber directory = no_object;
    std::string name;
    // The name that it gets by a rename, and what that stood for before.
    ObjectNumber new_directory = no_object;
    std::string new_name;
    ObjectNumber replaced = no_object;
    std::uint32_t flags = 0;  // of the rename
    // Of what is made.
    std::uint32_t mode = 0;
    std::uint32_t umask = 0;
    std::uint32_t rdev_major = 0;
    std::uint32_t rdev_minor = 0;
    std::string target;
    // Without node and handle.
    wire::Setattr setting;
    static constexpr auto fields = std::tuple{
        &Change::kind,       &Change::object,     &Change::directory, &Change::name,   &Change::new_directory,
        &Change::new_name,   &Change::replaced,   &Change::flags,     &Change::mode,   &Change::umask,
        &Change::rdev_major, &Change::rdev_minor, &Change::target,    &Change::setting};
};

struct Extent {
    std::uint64_t offset = 0;
    std::vector<std::byte> bytes;
    std::uint64_t end() const { return offset + bytes.size(); }
    friend bool operator==(const Extent&, const Extent&) = default;
};

// What was written to a file, in its order.
struct Written {
    ObjectNumber object = no_object;
    std::uint64_t size = 0;  // of the file, as programs saw it
    std::vector<Extent> extents;
};

struct Contents {
    std::string source;         // as the mount was given it
    std::int64_t ended_at = 0;  // seconds since 1970
    std::vector<Object> objects;
    std::vector<Change> changes;  // in the order in which programs made them
    std::vector<Written> written;

    std::uint64_t bytes() const {
        std::uint64_t sum = 0;
        for (const Written& file : written)
            for (const Extent& extent : file.extents)
                sum += extent.bytes.size();
        return sum;
    }
    bool empty() const { return changes.empty() && written.empty(); }
};

}  // namespace remofile::spool
