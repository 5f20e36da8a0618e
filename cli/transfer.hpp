// SPDX-License-Identifier: MIT
// What put and get have in common: how files are named while they are incomplete, and how two ends find out what they
// have in common.
//
// A file is written under a name of its own beside its final one and gets that by a rename, so that nobody sees half of
// it. The name of the incomplete file holds a digest of what the source was (size, time of modification, inode): a
// later transfer of the same source finds it and goes on; one of a source that has changed finds that out.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/activity.hpp"
#include "cli/connection.hpp"
#include "cli/file_filter.hpp"
#include "cli/progress.hpp"
#include "wire/messages.hpp"

namespace remofile::cli {

// Files up to this size go in one message with everything that belongs to them, many at a time.
inline constexpr std::uint64_t small_file_bytes = 256U << 10;
// Small files under way weigh what they hold, and this for what else there is to do for each.
inline constexpr std::uint64_t small_file_weight = 16U << 10;
inline constexpr std::uint64_t small_files_limit = 8U << 20;
// Directories of a tree that are worked on at a time: a link with a long delay is not waited for at each.
inline constexpr std::uint64_t max_directories = 16;
// What is compared by digest: a byte that differs costs as much, and its digests a file 1/4096 of its size.
inline constexpr std::uint64_t block_bytes = 64U << 10;

// What whoever fills a directory needs to do in it.
inline constexpr std::uint32_t private_directory = 0700;

struct TransferOptions {
    client::ConnectOptions connect;
    std::vector<std::string> files;  // what is to be copied, and last where to
    bool archive = false;            // owner, group, all mode bits and extended attributes too
    bool force = false;              // also what seems to be there already in a tree
    bool sync = false;               // the data is on the disk before a file gets its name
    bool delta = false;              // of a file that is to be replaced, only what differs is sent
    bool quiet = false;
    bool json = false;
    bool compress = false;
    int compress_level = -1;  // not given
    FileFilter filter;        // what is left out
    ActivityOptions activity;
};

void add_transfer_options(CLI::App& app, TransferOptions& options);
// Those of them that every command has which copies contents.
void add_copy_options(CLI::App& app, TransferOptions& options);
// Checks what the parser cannot, and sets what follows from it. Call it once all is parsed.
Result<> complete(TransferOptions& options);
ProgressForm progress_form(const TransferOptions& options);

// Why a directory is left out.
Error into_itself();
// An error of the one end, of what messages call by its path at the other.
Error on_server(Error error);
Error here(Error error);
Result<> here(Result<> result);

// What tells one state of a source from another.
struct SourceIdentity {
    std::uint64_t size = 0;
    std::int64_t seconds = 0;  // of the modification
    std::uint32_t nanoseconds = 0;
    std::uint64_t inode = 0;
    friend bool operator==(const SourceIdentity&, const SourceIdentity&) = default;
};
SourceIdentity identity_of(const struct stat& status);
SourceIdentity identity_of(const wire::Attributes& attributes);

// Of the incomplete copy of a file that is to have `name`.
std::string partial_name(std::string_view name, const SourceIdentity& identity);
// Of one that nobody goes on with, nor anybody else uses.
std::string unique_partial_name(std::string_view name);
// Whether `candidate` is that of another state of the source.
bool is_other_partial(std::string_view candidate, std::string_view name, const SourceIdentity& identity);
// Whether it is one of any file.
bool is_partial(std::string_view name);

// How much may be under way for one file: what an interruption may cost, at most a hundredth of it but 2 MiB.
std::uint64_t window_bytes(std::uint64_t file_size);
// What one request carries of it: several fill the window.
std::uint64_t chunk_bytes(std::uint64_t file_size);

// Carries out `work` until it succeeds or fails within one session: if that is lost, all is looked at again in the new
// one, in which the server knows nothing of this client's nodes.
Task<Result<>> in_one_session(client::Session& session, Progress& progress, std::function<Task<Result<>>()> work);

// What may be under the name that a copy gets in the end; the transfer fails with try_again if something else is.
struct Occupant {
    enum class Kind : std::uint8_t { anything, nothing, only } kind = Kind::anything;
    SourceIdentity identity = {};  // of the `only` thing
};

// What is told of a file that goes on from the blocks that its incomplete copy has in common with it; nothing if these
// are none.
void tell_taken_up(Progress& progress, const std::string& path, const std::vector<bool>& common);

// Where a part of a copy comes from.
enum class Origin : std::uint8_t {
    other_end,  // over the network
    taken_up,   // is in the incomplete copy already
    base,       // of the file that the copy replaces
};

struct Run {
    Origin origin = Origin::other_end;
    std::uint64_t length = 0;
};

// Where each block of a file of `size` bytes comes from.
class Origins {
public:
    explicit Origins(std::uint64_t size) : size_(size) {}

    // Blocks that a file has in common with the source and nothing else had before.
    void add(const std::vector<bool>& common, Origin origin);
    // From `offset` (a multiple of block_bytes, below the size) on: at most `max_bytes`, which is one too.
    Run run_at(std::uint64_t offset, std::uint64_t max_bytes) const;

private:
    std::uint64_t size_;
    std::vector<Origin> blocks_;  // all behind them are at the other end
};

// The blocks of the first `size` bytes that a remote file has in common with a local one, by digests. None if the
// server cannot tell.
Task<Result<std::vector<bool>>> common_blocks(client::Session& session, HandleId remote, int local, std::uint64_t size);

}  // namespace remofile::cli
