// SPDX-License-Identifier: MIT
// This machine's side of a transfer.
#pragma once

#include <sys/stat.h>

#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace remofile::cli {

// The process's umask. Not while another thread makes files.
std::uint32_t current_umask();

// What an open file can be reached by, for calls that take no descriptor, or none that was opened with O_PATH. A link
// that was opened so is the link itself.
std::string path_of(int fd);

// All but "." and "..", sorted.
Result<std::vector<std::string>> names_in(const std::string& directory);

// As many bytes as the file has from there; fewer than asked for only at its end.
Result<std::size_t> read_at(int fd, std::span<std::byte> into, std::uint64_t offset);
Result<> write_at(int fd, std::span<const std::byte> bytes, std::uint64_t offset);
// The same range of another file; io_error if that is too short.
Result<> copy_range(int from, int to, std::uint64_t offset, std::uint64_t size);
// Renames a file within its directory; `exists` if there is something of that name. Where the file system has no rename
// that looks, a link tells, and where it has no links either, a look just before.
Result<> give_new_name(int directory, const std::string& name, const std::string& new_name);
// To a pipe or terminal too.
Result<> write_all(int fd, std::span<const std::byte> bytes);

// Of EPIPE, which no file has, and so no status either.
Error broken_pipe();

}  // namespace remofile::cli
