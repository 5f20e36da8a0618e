// SPDX-License-Identifier: MIT
// A process that works on files at another's word, one system call after the other: one of the two whose view of the
// same files is compared.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.hpp"
#include "harness/child.hpp"

namespace remofile::test {

// Of a file, and so of what one read or write concerns.
constexpr std::size_t max_data_file_size = 4 << 20;
// Files that a worker holds open.
constexpr int data_slots = 4;

enum class Action : std::uint8_t {
    open,         // path, flags -> slot
    close,        // slot
    read,         // slot, offset, size -> area
    scan,         // slot, size, piece, pattern: the whole file in many reads -> area
    read_mapped,  // slot, size -> area, through a mapping
    read_path,    // path -> area: open, read to the end, close
    write,        // slot, offset, size, seed
    write_mapped,
    write_path,  // path, flags, size, seed: open, write, close
    truncate,    // slot, offset
    truncate_path,
    allocate,       // slot, flags as fallocate(2) takes them, offset, size
    copy,           // from other_slot at other_offset to slot at offset, size
    sync,           // slot; flags 1: fdatasync
    lock,           // slot; flags: an operation of flock(2), or of fcntl(2) if `posix` is set
    seek_data,      // slot, offset
    stat,           // slot
    stat_path,      // path
    set_times,      // slot, time
    set_path_time,  // path, time
    rename,         // path, other_path, flags
    link,           // path, other_path
    unlink,         // path
};

enum class Pattern : std::uint8_t { forward, backward, strided };

struct Request {
    Action action = Action::stat_path;
    int slot = 0;
    int other_slot = 0;
    std::array<char, 16> path = {};
    std::array<char, 16> other_path = {};
    int flags = 0;
    bool posix = false;
    Pattern pattern = Pattern::forward;
    off_t offset = 0;
    off_t other_offset = 0;
    std::size_t size = 0;
    std::size_t piece = 0;
    unsigned seed = 0;
    timespec time = {};

    std::string to_string() const;
};

struct Reply {
    long result = 0;
    int error = 0;  // errno if result is -1
    off_t file_size = 0;
    timespec modified = {};
    nlink_t links = 0;
};

struct Piece {
    std::size_t offset;
    std::size_t size;
};

// What a scan reads of a file of `size` bytes, in this order. Strided leaves gaps of two pieces.
std::vector<Piece> pieces_of(Pattern pattern, std::size_t size, std::size_t piece);

class DataWorker {
public:
    // Works below `root`.
    explicit DataWorker(std::string root);
    ~DataWorker();
    DataWorker(const DataWorker&) = delete;
    DataWorker& operator=(const DataWorker&) = delete;

    // One request is under way at a time.
    void send(const Request& request);
    // Nothing if the worker has hung, or died, at the deadline.
    std::optional<Reply> receive();
    // Where read bytes are, each at its offset in the file, or for `read` from the beginning on.
    const char* area() const { return area_; }

private:
    std::string root_;
    char* area_;  // shared with the process
    UniqueFd socket_;
    std::optional<Child> process_;
};

}  // namespace remofile::test
