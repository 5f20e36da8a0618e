// SPDX-License-Identifier: MIT
// The file of idmap=, and with what it says a server's ACL: the input is the length of the text (u16), the text, and
// the value of the attribute.
#include <algorithm>
#include <vector>

#include "base/assert.hpp"
#include "fuzz_input.hpp"
#include "fuzz_target.hpp"
#include "remofs/ids/id_map.hpp"

using namespace remofile;
using namespace remofile::remofs;

namespace {

std::string seed(std::string_view text, std::string_view acl) {
    std::string input;
    append_frame(input, text);
    return input += acl;
}

// One entry: tag, permissions, id.
std::string acl_entry(std::uint16_t tag, std::uint32_t id) {
    std::string entry;
    append_number(entry, tag);
    append_number(entry, std::uint16_t{6});
    append_number(entry, id);
    return entry;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    FuzzInput input(data, size);
    const auto parsed = IdMap::parse(input.frame());
    REMOFILE_ASSERT(parsed || parsed.error().status == Status::invalid);
    const IdMap map = parsed ? *parsed : IdMap::single_user(1, 1, 1000, 1000);
    const auto acl = std::as_bytes(std::span(input.rest()));
    for (const std::uint32_t id : {0U, 1U, 1000U, UINT32_MAX}) {
        static_cast<void>(map.users.to_local(map.users.to_server(id)));
        static_cast<void>(map.groups.to_local(map.groups.to_server(id)));
    }
    for (const IdDirection direction : {IdDirection::to_local, IdDirection::to_server}) {
        std::vector<std::byte> value(acl.begin(), acl.end());
        translate_acl(value, map, direction);
        if (map.empty())
            REMOFILE_ASSERT(std::ranges::equal(value, acl));
    }
    return 0;
}

std::vector<std::string> fuzz_seeds() {
    std::string acl;
    append_number(acl, std::uint32_t{2});
    acl += acl_entry(0x01, UINT32_MAX) + acl_entry(0x02, 1000) + acl_entry(0x08, 1) + acl_entry(0x20, UINT32_MAX);
    return {seed("uid 1000 1\ngid 1 1000\n", acl), seed("# comment\n\nuid 1000 5000 10\n", acl),
            seed("gid 4294967295 1 2\n", acl.substr(0, 15)), seed("uid 1 2\nuid 1 3\n", ""), seed("", acl)};
}

std::vector<std::string> fuzz_words() {
    return {"uid ", "gid ", "\n", "#", " 4294967295", std::string("\x02\0\0\0", 4)};
}
