// SPDX-License-Identifier: MIT
#include "cli/sync_memory.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <xxhash.h>

#include <array>
#include <charconv>
#include <fstream>
#include <iterator>
#include <string_view>

#include "base/log.hpp"
#include "cli/local_files.hpp"
#include "transport/keys.hpp"

// The file is text: a heading, a line for each path with its fields between tabs, and last a digest of all before.
// Fields: path, then of the local and the server's end: type, size, seconds, nanoseconds mode, target. Tabs, newlines
// and backslashes in paths and targets are written as \t, \n and \\.

namespace remofile::cli {
namespace {

constexpr std::string_view heading = "remofile sync memory 1\n";
constexpr std::string_view digest_mark = "digest ";
constexpr std::size_t fields_an_item = 6;
constexpr std::size_t fields_a_line = 1 + 2 * fields_an_item;

std::string escaped(std::string_view text) {
    std::string result;
    for (const char c : text) {
        switch (c) {
            case '\\':
                result += "\\\\";
                break;
            case '\t':
                result += "\\t";
                break;
            case '\n':
                result += "\\n";
                break;
            default:
                result += c;
        }
    }
    return result;
}

std::string unescaped(std::string_view text) {
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\' || i + 1 == text.size())
            result += text[i];
        else if (const char c = text[++i]; c == 't')
            result += '\t';
        else
            result += c == 'n' ? '\n' : c;
    }
    return result;
}

std::string to_text(const Item& item) {
    return fmt::format("\t{}\t{}\t{}\t{}\t{}\t{}", static_cast<int>(item.type), item.size, item.seconds,
                       item.nanoseconds, item.mode, escaped(item.target));
}

template <class Number>
bool parse(std::string_view text, Number& number) {
    const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
    return result.ec == std::errc() && result.ptr == text.data() + text.size();
}

bool parse(std::span<const std::string_view> fields, Item& item) {
    int type = 0;
    if (!parse(fields[0], type) || !parse(fields[1], item.size) || !parse(fields[2], item.seconds) ||
        !parse(fields[3], item.nanoseconds) || !parse(fields[4], item.mode))
        return false;
    item.type = static_cast<ItemType>(type);
    item.target = unescaped(fields[5]);
    return item.type == ItemType::file || item.type == ItemType::directory || item.type == ItemType::symlink;
}

bool parse_line(std::string_view line, Memory& memory) {
    std::array<std::string_view, fields_a_line> fields;
    for (std::size_t i = 0; i < fields.size(); ++i) {
        const std::size_t tab = line.find('\t');
        if ((tab == line.npos) != (i + 1 == fields.size()))
            return false;
        fields[i] = line.substr(0, tab);
        line.remove_prefix(tab == line.npos ? line.size() : tab + 1);
    }
    Known known;
    const std::span<const std::string_view> items = std::span(fields).subspan(1);
    if (!parse(items.first(fields_an_item), known.local) || !parse(items.subspan(fields_an_item), known.server))
        return false;
    return memory.emplace(unescaped(fields[0]), known).second;
}

std::string digest_of(std::string_view text) {
    return fmt::format("{}{:016x}\n", digest_mark, XXH3_64bits(text.data(), text.size()));
}

Error file_error(const std::filesystem::path& path) {
    return errno_error(fmt::format("{}: {}", log::printable(path.native()), describe(from_errno(errno))));
}

}  // namespace

Result<SyncMemory> SyncMemory::open(const std::string& local, const std::string& server) {
    REMOFILE_TRY(directory, transport::config_directory());
    directory /= "sync";
    std::error_code error;
    std::filesystem::create_directories(directory, error);
    if (error)
        return make_error(Status::io_error, fmt::format("{}: {}", log::printable(directory.native()), error.message()));
    const std::string pair = local + "\n" + server;
    const std::filesystem::path path = directory / fmt::format("{:016x}", XXH3_64bits(pair.data(), pair.size()));
    UniqueFd lock(::open((path.native() + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!lock)
        return file_error(path);
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0)
        return make_error(Status::busy, "these two directories are being synchronised by another process");
    return SyncMemory(path, std::move(lock));
}

Result<Memory> SyncMemory::load() const {
    std::ifstream in(path_, std::ios::binary);
    if (!in)
        return errno == ENOENT ? Result<Memory>(Memory()) : file_error(path_);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const Error broken = make_error(
        Status::io_error, fmt::format("{}: what was remembered of these two directories is damaged; remove the file to "
                                      "begin anew (what was deleted since on one side comes back then)",
                                      log::printable(path_.native())));
    const std::size_t end = text.rfind(digest_mark);
    if (in.bad() || end == text.npos || !text.starts_with(heading) ||
        text.substr(end) != digest_of(text.substr(0, end)))
        return broken;
    Memory memory;
    std::string_view rest = std::string_view(text).substr(heading.size(), end - heading.size());
    while (!rest.empty()) {
        const std::size_t newline = rest.find('\n');
        if (newline == rest.npos || !parse_line(rest.substr(0, newline), memory))
            return broken;
        rest.remove_prefix(newline + 1);
    }
    return memory;
}

Result<> SyncMemory::save(const Memory& memory) const {
    std::string text(heading);
    for (const auto& [path, known] : memory)
        text += escaped(path) + to_text(known.local) + to_text(known.server) + "\n";
    text += digest_of(text);
    const std::string partial = path_.native() + ".new";
    const UniqueFd fd(::open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd)
        return file_error(partial);
    REMOFILE_CHECK(write_all(fd.get(), std::as_bytes(std::span(text))));
    if (::fsync(fd.get()) != 0 || ::rename(partial.c_str(), path_.c_str()) != 0)
        return file_error(path_);
    return {};
}

}  // namespace remofile::cli
