// SPDX-License-Identifier: MIT
#include "client/directory.hpp"

#include <dirent.h>
#include <sys/stat.h>

#include "base/log.hpp"
#include "client/requests/request_traits.hpp"
#include "wire/codec.hpp"

namespace remofile::client {
namespace {

bool is_component(std::string_view name) {
    return !name.empty() && name.size() <= wire::max_name_bytes &&
           name.find_first_of(std::string_view("/\0", 2)) == name.npos;
}

Error bad_listing(std::string_view why) {
    log::warn("the server sent a directory listing that is rejected: {}", why);
    return make_error(Status::io_error, "the server sent a wrong directory listing");
}

}  // namespace

bool is_valid_name(std::string_view name) {
    return is_component(name) && name != "." && name != "..";
}

Result<std::vector<wire::DirectoryEntry>> decode_directory(const Buffer& bulk, std::uint16_t count,
                                                           std::uint64_t cookie) {
    std::vector<wire::DirectoryEntry> entries;
    wire::Decoder decoder(bulk.bytes());
    std::uint64_t previous = cookie;
    for (std::size_t i = 0; i < count; ++i) {
        wire::DirectoryEntry& entry = entries.emplace_back();
        decoder.get(entry);
        if (!decoder.ok())
            return bad_listing("it is shorter than its count says");
        if (!is_component(entry.name))
            return bad_listing("a name that cannot be one");
        const bool has_attributes = entry.entry.node || entry.entry.attributes.mode != 0;
        if (has_attributes && !are_valid(entry.entry.attributes))
            return bad_listing("attributes that no file has");
        if (has_attributes)
            entry.type = static_cast<std::uint8_t>(IFTODT(entry.entry.attributes.mode));
        if (entry.cookie == 0 || entry.cookie == cookie || entry.cookie == previous)
            return bad_listing("it does not advance");
        previous = entry.cookie;
    }
    if (!decoder.finished())
        return bad_listing("bytes are left over");
    return entries;
}

}  // namespace remofile::client
