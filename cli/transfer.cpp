// SPDX-License-Identifier: MIT
#include "cli/transfer.hpp"

#include <unistd.h>
#include <xxhash.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <random>

#include "base/log.hpp"
#include "cli/local_files.hpp"

namespace remofile::cli {
namespace {

// Sessions that one transfer may lose before it is given up.
constexpr int max_attempts = 5;
constexpr std::string_view partial_suffix = ".remofile-partial";
constexpr std::size_t digest_digits = 16;
// ".", the name, ".", the digest, and the suffix, within what a name may have.
constexpr std::size_t max_named_bytes = wire::max_name_bytes - 2 - digest_digits - partial_suffix.size();

// A long name is cut: the digest keeps its successors apart.
std::string stem_of(std::string_view name) {
    return "." + std::string(name.substr(0, max_named_bytes)) + ".";
}

// In the order in which they stand on the command line, whichever of the three they are.
void add_filter_options(CLI::App& app, FileFilter& filter) {
    const auto add = [&app](const char* name, const char* type, const char* description, auto rule) {
        app.add_option_function<std::string>(
               name,
               [name, rule](const std::string& text) {
                   if (const Result<> added = rule(text); !added)
                       throw CLI::ValidationError(name, added.error().to_string());
               },
               description)
            ->type_name(type)
            ->trigger_on_parse();
    };
    add("--exclude", "PATTERN",
        "Leave out what matches, and what is in it, as rsync does; the first rule that matches decides",
        [&filter](const std::string& text) { return filter.add(text, FileFilter::Verdict::exclude); });
    add("--include", "PATTERN", "Copy what matches, in spite of what is left out by rules that come later",
        [&filter](const std::string& text) { return filter.add(text, FileFilter::Verdict::include); });
    add("--exclude-from", "FILE", "The same as --exclude with each line of a file; - is standard input",
        [&filter](const std::string& text) { return filter.add_file(text); });
}

bool same_digest(const XXH128_hash_t& local, std::span<const std::byte> remote) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, local);
    return std::memcmp(&canonical, remote.data(), sizeof(canonical)) == 0;
}

}  // namespace

void add_transfer_options(CLI::App& app, TransferOptions& options) {
    add_copy_options(app, options);
    app.add_option("FILES", options.files, "What to copy, and last where to")->required()->expected(2, -1);
    app.add_flag("-f,--force", options.force, "Of a tree, copy also what is there with the same size and time");
}

void add_copy_options(CLI::App& app, TransferOptions& options) {
    add_key_options(app, options.connect);
    app.add_flag("-a,--archive", options.archive,
                 "Keep owner, group, set-id bits and extended attributes too, as far as one may");
    app.add_flag("--fsync", options.sync, "Have each file on the disk before it gets its name");
    app.add_flag("-q,--quiet", options.quiet, "Say nothing but errors");
    app.add_flag("--json", options.json, "Say what was done as one JSON object");
    app.add_flag("-z,--compress", options.compress, "Compress whatever the link's speed");
    app.add_option("--compress-level", options.compress_level, "The same, from 1 (fast) to 12; 0: not at all")
        ->check(CLI::Range(0, int{wire::max_compression_level}));
    app.add_option_function<std::string>(
           "--bandwidth-limit",
           [&options](const std::string& text) {
               const auto limit = client::parse_bandwidth_limit(text);
               if (!limit)
                   throw CLI::ValidationError("--bandwidth-limit", limit.error().to_string());
               options.connect.bandwidth_limit = *limit;
           },
           "Bytes a second at most in each direction, such as 5M; 64K at least")
        ->type_name("RATE");
    add_filter_options(app, options.filter);
    add_activity_options(app, options.activity);
}

Error into_itself() {
    return make_error(Status::invalid, "a directory is not copied into itself: left out");
}

Error on_server(Error error) {
    if (error.message.empty())
        error.message = fmt::format("on the server: {}", describe(error.status));
    return error;
}

Error here(Error error) {
    if (error.message.empty())
        error.message = fmt::format("here: {}", describe(error.status));
    return error;
}

Result<> here(Result<> result) {
    return result ? result : Result<>(here(result.error()));
}

Result<> complete(TransferOptions& options) {
    if (options.compress_level >= 0)
        options.connect.compression =
            options.compress_level == 0 ? wire::compression_off : static_cast<std::uint8_t>(options.compress_level);
    else if (options.compress)
        options.connect.compression = 1;
    if (options.compress && options.compress_level == 0)
        return make_error(Status::bad_usage, "--compress and --compress-level=0 contradict each other");
    return {};
}

ProgressForm progress_form(const TransferOptions& options) {
    if (options.json)
        return ProgressForm::json;
    if (options.quiet)
        return ProgressForm::none;
    return isatty(STDERR_FILENO) != 0 ? ProgressForm::bar : ProgressForm::line;
}

SourceIdentity identity_of(const struct stat& status) {
    return {.size = static_cast<std::uint64_t>(status.st_size),
            .seconds = status.st_mtim.tv_sec,
            .nanoseconds = static_cast<std::uint32_t>(status.st_mtim.tv_nsec),
            .inode = status.st_ino};
}

SourceIdentity identity_of(const wire::Attributes& attributes) {
    return {.size = attributes.size,
            .seconds = attributes.modification.seconds,
            .nanoseconds = attributes.modification.nanoseconds,
            .inode = attributes.identity.inode};
}

std::string partial_name(std::string_view name, const SourceIdentity& identity) {
    const std::string text =
        fmt::format("{}\n{}\n{}\n{}\n{}", name, identity.size, identity.seconds, identity.nanoseconds, identity.inode);
    return fmt::format("{}{:016x}{}", stem_of(name), XXH3_64bits(text.data(), text.size()), partial_suffix);
}

std::string unique_partial_name(std::string_view name) {
    std::random_device random;
    return partial_name(name, {.size = random(), .inode = random()});
}

bool is_other_partial(std::string_view candidate, std::string_view name, const SourceIdentity& identity) {
    return is_partial(candidate) && name.size() <= max_named_bytes &&
           candidate.substr(0, candidate.size() - partial_suffix.size() - digest_digits) == stem_of(name) &&
           candidate != partial_name(name, identity);
}

bool is_partial(std::string_view name) {
    if (!name.starts_with('.') || !name.ends_with(partial_suffix) ||
        name.size() < 2 + digest_digits + partial_suffix.size())
        return false;
    name.remove_suffix(partial_suffix.size());
    const std::string_view digits = name.substr(name.size() - digest_digits);
    return digits.find_first_not_of("0123456789abcdef") == digits.npos && name[name.size() - digest_digits - 1] == '.';
}

std::uint64_t window_bytes(std::uint64_t file_size) {
    constexpr std::uint64_t least = 2U << 20;
    constexpr std::uint64_t most = 8U << 20;
    return std::clamp(file_size / 100, least, most);
}

std::uint64_t chunk_bytes(std::uint64_t file_size) {
    constexpr std::uint64_t least = 256U << 10;
    constexpr std::uint64_t most = wire::max_bulk_bytes;
    const std::uint64_t eighth = window_bytes(file_size) / 8 / block_bytes * block_bytes;
    return std::clamp(eighth, least, most);
}

Task<Result<>> in_one_session(client::Session& session, Progress& progress, std::function<Task<Result<>>()> work) {
    Result<> done;
    for (int attempt = 0; attempt < max_attempts; ++attempt) {
        const std::uint64_t epoch = session.epoch();
        if (attempt > 0) {
            progress.say("the session with the server was lost: going on in a new one");
            progress.start_over();
            const Result<> introduced = co_await session.act_as_process();
            if (!introduced)
                break;
        }
        done = co_await work();
        if (done || session.epoch() == epoch)
            break;
    }
    co_return done;
}

void tell_taken_up(Progress& progress, const std::string& path, const std::vector<bool>& common) {
    const auto blocks = static_cast<std::uint64_t>(std::ranges::count(common, true));
    if (blocks > 0)
        progress.tell(fmt::format("take up where it was interrupted: {}, of which {} are there", log::printable(path),
                                  size_text(static_cast<double>(blocks * block_bytes))));
}

void Origins::add(const std::vector<bool>& common, Origin origin) {
    const std::size_t count = std::min<std::uint64_t>(common.size(), (size_ + block_bytes - 1) / block_bytes);
    blocks_.resize(std::max(blocks_.size(), count), Origin::other_end);
    for (std::size_t i = 0; i < count; ++i) {
        if (common[i] && blocks_[i] == Origin::other_end)
            blocks_[i] = origin;
    }
}

Run Origins::run_at(std::uint64_t offset, std::uint64_t max_bytes) const {
    const std::uint64_t first = offset / block_bytes;
    const auto origin_of = [this](std::uint64_t block) {
        return block < blocks_.size() ? blocks_[block] : Origin::other_end;
    };
    std::uint64_t end = first + 1;
    while (end * block_bytes < size_ && origin_of(end) == origin_of(first) && (end - first) * block_bytes < max_bytes)
        ++end;
    return {origin_of(first), std::min(end * block_bytes, size_) - offset};
}

Task<Result<std::vector<bool>>> common_blocks(client::Session& session, HandleId remote, int local,
                                              std::uint64_t size) {
    using Blocks = Result<std::vector<bool>>;
    constexpr std::uint64_t blocks_a_request = wire::max_hashed_bytes / block_bytes;
    static_assert(blocks_a_request <= wire::max_hashed_blocks);
    std::vector<bool> common((size + block_bytes - 1) / block_bytes, false);
    Buffer block = Buffer::allocate(block_bytes);
    for (std::uint64_t first = 0; first < common.size(); first += blocks_a_request) {
        const std::uint64_t count = std::min<std::uint64_t>(blocks_a_request, common.size() - first);
        const wire::Hash hash{remote, first * block_bytes, static_cast<std::uint32_t>(block_bytes),
                              static_cast<std::uint16_t>(count)};
        const client::CallOptions options{.lane = client::LaneKind::data};
        const auto reply = co_await session.call(hash, options);
        if (reply.status() == Status::not_implemented)
            co_return Blocks(std::move(common));
        if (!reply)
            co_return Blocks(reply.error());
        const auto digests = reply->bulk.bytes();
        for (std::uint64_t i = 0; (i + 1) * wire::digest_bytes <= digests.size() && i < count; ++i) {
            const auto read = read_at(local, block.bytes(), (first + i) * block_bytes);
            if (!read)
                co_return Blocks(read.error());
            common[first + i] = same_digest(XXH3_128bits(block.data(), *read),
                                            digests.subspan(i * wire::digest_bytes, wire::digest_bytes));
        }
    }
    co_return Blocks(std::move(common));
}

}  // namespace remofile::cli
