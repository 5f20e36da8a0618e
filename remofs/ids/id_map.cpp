// SPDX-License-Identifier: MIT
#include "remofs/ids/id_map.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/log.hpp"

namespace remofile::remofs {
namespace {

// A range longer than all ids of a machine's people and services is a mistake; it also bounds the tables' memory.
constexpr std::uint32_t max_range = 65536;

std::vector<std::string_view> words_of(std::string_view line) {
    std::vector<std::string_view> words;
    constexpr std::string_view blanks = " \t\r";
    for (std::size_t start = line.find_first_not_of(blanks); start != std::string_view::npos;) {
        const std::size_t end = std::min(line.find_first_of(blanks, start), line.size());
        words.push_back(line.substr(start, end - start));
        start = line.find_first_not_of(blanks, end);
    }
    return words;
}

std::optional<std::uint32_t> number_of(std::string_view word) {
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error != std::errc() || end != word.data() + word.size())
        return std::nullopt;
    return number;
}

Result<> parse_line(std::string_view line, IdMap& map) {
    const auto words = words_of(line);
    if (words.empty() || words[0].starts_with('#'))
        return {};
    if (words.size() < 3 || words.size() > 4 || (words[0] != "uid" && words[0] != "gid"))
        return Status::invalid;
    const auto server = number_of(words[1]);
    const auto local = number_of(words[2]);
    const auto count = words.size() == 4 ? number_of(words[3]) : 1;
    if (!server || !local || !count || *count == 0 || *count > max_range)
        return Status::invalid;
    if (UINT32_MAX - *server < *count || UINT32_MAX - *local < *count)
        return Status::invalid;
    IdTable& table = words[0] == "uid" ? map.users : map.groups;
    for (std::uint32_t i = 0; i < *count; ++i)
        REMOFILE_CHECK(table.add(*server + i, *local + i));
    return {};
}

// struct posix_acl_xattr_header and _entry: a version, then tag, permissions and id of each entry; little-endian.
constexpr std::size_t acl_header_bytes = 4;
constexpr std::size_t acl_entry_bytes = 8;
constexpr std::size_t acl_id_offset = 4;
constexpr std::uint32_t acl_version = 2;
constexpr std::uint32_t acl_user = 0x02;
constexpr std::uint32_t acl_group = 0x08;

std::uint32_t load(std::span<const std::byte> bytes) {
    std::uint32_t value = 0;
    for (std::size_t i = bytes.size(); i-- > 0;)
        value = value << 8U | static_cast<std::uint32_t>(bytes[i]);
    return value;
}

void store(std::span<std::byte> bytes, std::uint32_t value) {
    for (std::byte& byte : bytes) {
        byte = static_cast<std::byte>(value);
        value >>= 8U;
    }
}

}  // namespace

Result<> IdTable::add(std::uint32_t server, std::uint32_t local) {
    if (to_local_.contains(server) || to_server_.contains(local))
        return Status::invalid;
    to_local_[server] = local;
    to_server_[local] = server;
    return {};
}

std::uint32_t IdTable::to_local(std::uint32_t server) const {
    const auto found = to_local_.find(server);
    return found == to_local_.end() ? server : found->second;
}

std::uint32_t IdTable::to_server(std::uint32_t local) const {
    const auto found = to_server_.find(local);
    return found == to_server_.end() ? local : found->second;
}

IdMap IdMap::single_user(std::uint32_t server_uid, std::uint32_t server_gid, std::uint32_t uid, std::uint32_t gid) {
    IdMap map;
    // Into empty tables: cannot fail.
    static_cast<void>(map.users.add(server_uid, uid));
    static_cast<void>(map.groups.add(server_gid, gid));
    return map;
}

Result<IdMap> IdMap::parse(std::string_view text) {
    IdMap map;
    int number = 0;
    while (!text.empty()) {
        ++number;
        const std::size_t end = std::min(text.find('\n'), text.size());
        if (!parse_line(text.substr(0, end), map))
            return make_error(Status::invalid,
                              fmt::format("line {}: expected \"uid SERVER LOCAL [COUNT]\" or the same with gid, "
                                          "and no number twice on one side",
                                          number));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return map;
}

void translate_acl(std::span<std::byte> value, const IdMap& map, IdDirection direction) {
    if (map.empty() || value.size() < acl_header_bytes || load(value.first(acl_header_bytes)) != acl_version)
        return;
    for (auto rest = value.subspan(acl_header_bytes); rest.size() >= acl_entry_bytes;
         rest = rest.subspan(acl_entry_bytes)) {
        const std::uint32_t tag = load(rest.first(2));
        if (tag != acl_user && tag != acl_group)
            continue;
        const IdTable& table = tag == acl_user ? map.users : map.groups;
        const auto id = rest.subspan(acl_id_offset, 4);
        const std::uint32_t number = load(id);
        store(id, direction == IdDirection::to_local ? table.to_local(number) : table.to_server(number));
    }
}

}  // namespace remofile::remofs
