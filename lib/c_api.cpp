// SPDX-License-Identifier: MIT
// The C interface: a thin coat over the C++ one, at which exceptions and types of C++ end.
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "remofile/client.hpp"
#include "remofile/remofile.h"

namespace {

using libremofile::Attributes;
using libremofile::Client;
using libremofile::Directory;
using libremofile::Error;
using libremofile::ErrorCode;
using libremofile::File;
using libremofile::Open;
using libremofile::Path;
using libremofile::Result;
using libremofile::Timestamp;

// Its first version; larger ones of later callers are understood if what this library does not know is 0.
constexpr std::size_t first_options_size = 48;
constexpr std::size_t max_options_size = 4096;  // as the kernel's own for such structures: a page

static_assert(sizeof(remofile_options) == first_options_size);
static_assert(sizeof(remofile_timestamp) == 16);
static_assert(sizeof(struct remofile_attributes) == 128);
static_assert(sizeof(struct remofile_space) == 88);
static_assert(REMOFILE_NOW == libremofile::server_now.nanoseconds);
static_assert(REMOFILE_OPEN_READ == unsigned(Open::read) && REMOFILE_OPEN_WRITE == unsigned(Open::write) &&
              REMOFILE_OPEN_APPEND == unsigned(Open::append) && REMOFILE_OPEN_CREATE == unsigned(Open::create) &&
              REMOFILE_OPEN_EXCLUSIVE == unsigned(Open::exclusive) &&
              REMOFILE_OPEN_TRUNCATE == unsigned(Open::truncate));
constexpr std::uint32_t all_open_flags = 2U * REMOFILE_OPEN_TRUNCATE - 1U;
constexpr std::uint32_t all_connect_flags = REMOFILE_INSECURE | REMOFILE_EXCLUSIVE | REMOFILE_READ_ONLY;

}  // namespace

struct remofile_client {
    Client client;
};

struct remofile_file {
    File file;
};

struct remofile_dir {
    Directory directory;
    std::string name;  // given out last
};

namespace {

// Of this thread's latest call that failed.
thread_local std::string latest_message;

int fail(ErrorCode code, std::string message) noexcept {
    latest_message = std::move(message);
    return -static_cast<int>(code);
}

int fail(Error error) noexcept {
    return fail(error.code, std::move(error.message));
}

// Messages of fifteen bytes need no memory.
int out_of_memory() noexcept {
    return fail(ErrorCode::out_of_memory, "out of memory");
}

int invalid(const char* what) {
    return fail(ErrorCode::invalid, what);
}

int is_null(const char* argument) {
    return fail(ErrorCode::invalid, std::string(argument) + " is NULL");
}

// What `body` returns, or why it could not.
template <class Body>
auto guarded(Body body) noexcept -> decltype(body()) {
    try {
        return body();
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    } catch (const std::exception& error) {
        try {
            return fail(ErrorCode::io_error, error.what());
        } catch (const std::exception&) {
            return out_of_memory();
        }
    }
}

int status_of(Result<> result) {
    return result ? 0 : fail(std::move(result).error());
}

// Carries out what `act` does with a client and a path, and returns its status.
template <class Act>
int with_path(remofile_client* client, const char* path, Act act) noexcept {
    return guarded([&] {
        if (client == nullptr)
            return is_null("client");
        if (path == nullptr)
            return is_null("path");
        return status_of(act(client->client, Path(path)));
    });
}

// The same with two paths, or a target and a path.
template <class Act>
int with_names(remofile_client* client, const char* first, const char* second, Act act) noexcept {
    return guarded([&] {
        if (client == nullptr)
            return is_null("client");
        if (first == nullptr || second == nullptr)
            return is_null("a name");
        return status_of(act(client->client, first, second));
    });
}

template <class Act>
int with_file(remofile_file* file, Act act) noexcept {
    return guarded([&] { return file == nullptr ? is_null("file") : status_of(act(file->file)); });
}

remofile_timestamp to_c(const Timestamp& time) {
    return {time.seconds, time.nanoseconds, 0};
}

struct remofile_attributes to_c(const Attributes& from) {
    struct remofile_attributes to {};
    to.inode = from.inode;
    to.device = from.device;
    to.mode = from.mode;
    to.links = from.links;
    to.uid = from.uid;
    to.gid = from.gid;
    to.size = from.size;
    to.blocks = from.blocks;
    to.block_size = from.block_size;
    to.access = to_c(from.access);
    to.modification = to_c(from.modification);
    to.change = to_c(from.change);
    return to;
}

// Stores the attributes if there are any.
Result<> store(const Result<Attributes>& attributes, struct remofile_attributes* stat) {
    if (!attributes)
        return std::unexpected(attributes.error());
    *stat = to_c(*attributes);
    return {};
}

std::string string_or_empty(const char* text) {
    return text == nullptr ? std::string() : std::string(text);
}

// The caller's options as this library knows them: those that it does not give are 0.
Result<remofile_options> known_options(const remofile_options* given) {
    remofile_options options = REMOFILE_OPTIONS_INIT;
    if (given == nullptr)
        return options;
    const std::size_t size = given->size;
    if (size < first_options_size || size > max_options_size)
        return std::unexpected(Error{ErrorCode::invalid, "options: the size is not that of a remofile_options"});
    const auto* bytes = reinterpret_cast<const unsigned char*>(given);
    if (std::any_of(bytes + std::min(size, sizeof(options)), bytes + size,
                    [](unsigned char byte) { return byte != 0; }))
        return std::unexpected(Error{ErrorCode::invalid, "options: some are of a later version of the library"});
    std::memcpy(&options, given, std::min(size, sizeof(options)));
    return options;
}

Result<libremofile::Options> to_cpp(const remofile_options* given) {
    const auto known = known_options(given);
    if (!known)
        return std::unexpected(known.error());
    if ((known->flags & ~all_connect_flags) != 0)
        return std::unexpected(Error{ErrorCode::invalid, "options: an unknown flag"});
    if (known->compression < -1 || known->compression > 12)
        return std::unexpected(Error{ErrorCode::invalid, "options: compression goes from -1 to 12"});
    libremofile::Options options;
    options.server_key = string_or_empty(known->server_key);
    options.identity = string_or_empty(known->identity);
    options.token_file = string_or_empty(known->token_file);
    options.token = string_or_empty(known->token);
    options.insecure = (known->flags & REMOFILE_INSECURE) != 0;
    options.exclusive = (known->flags & REMOFILE_EXCLUSIVE) != 0;
    options.read_only = (known->flags & REMOFILE_READ_ONLY) != 0;
    if (known->compression != 0)
        options.compression = static_cast<unsigned>(std::max(known->compression, 0));
    if (known->timeout_ms != 0)
        options.timeout = std::chrono::milliseconds(known->timeout_ms);
    return options;
}

Open to_cpp(std::uint32_t flags) {
    return static_cast<Open>(flags);
}

std::optional<Timestamp> to_cpp(const remofile_timestamp* time) {
    if (time == nullptr)
        return std::nullopt;
    return Timestamp{time->seconds, time->nanoseconds};
}

std::optional<std::uint32_t> unless_kept(std::uint32_t id) {
    return id == REMOFILE_KEEP ? std::nullopt : std::optional(id);
}

int connect(const char* source, const remofile_options* given, remofile_client** client) {
    if (client == nullptr)
        return is_null("client");
    *client = nullptr;
    if (source == nullptr)
        return is_null("source");
    const auto options = to_cpp(given);
    if (!options)
        return fail(options.error());
    auto connected = Client::connect(source, *options);
    if (!connected)
        return fail(std::move(connected).error());
    *client = std::make_unique<remofile_client>(std::move(*connected)).release();
    return 0;
}

int open_file(remofile_client* client, const char* path, std::uint32_t flags, std::uint32_t mode,
              remofile_file** file) {
    if (file == nullptr)
        return is_null("file");
    *file = nullptr;
    if (client == nullptr)
        return is_null("client");
    if (path == nullptr)
        return is_null("path");
    if ((flags & ~all_open_flags) != 0)
        return invalid("open: an unknown flag");
    auto opened = client->client.open(path, to_cpp(flags), mode);
    if (!opened)
        return fail(std::move(opened).error());
    *file = std::make_unique<remofile_file>(std::move(*opened)).release();
    return 0;
}

int open_directory(remofile_client* client, const char* path, remofile_dir** dir) {
    if (dir == nullptr)
        return is_null("dir");
    *dir = nullptr;
    if (client == nullptr)
        return is_null("client");
    if (path == nullptr)
        return is_null("path");
    auto opened = client->client.open_directory(path);
    if (!opened)
        return fail(std::move(opened).error());
    *dir = std::make_unique<remofile_dir>(std::move(*opened), std::string()).release();
    return 0;
}

int next_entry(remofile_dir* dir, const char** name, struct remofile_attributes* stat) {
    if (name == nullptr)
        return is_null("name");
    *name = nullptr;
    if (dir == nullptr)
        return is_null("dir");
    auto entry = dir->directory.next();
    if (!entry)
        return fail(std::move(entry).error());
    if (!entry->has_value())
        return 0;
    dir->name = std::move((*entry)->name);
    *name = dir->name.c_str();
    if (stat != nullptr)
        *stat = to_c((*entry)->attributes);
    return 1;
}

std::int64_t read_link(remofile_client* client, const char* path, char* buffer, std::size_t size) {
    if (client == nullptr)
        return is_null("client");
    if (path == nullptr)
        return is_null("path");
    if (buffer == nullptr)
        return is_null("buffer");
    const auto target = client->client.readlink(path);
    if (!target)
        return fail(target.error());
    if (target->size() >= size)
        return fail(ErrorCode{ERANGE}, "readlink: the buffer is too small for the target");
    std::memcpy(buffer, target->c_str(), target->size() + 1);
    return static_cast<std::int64_t>(target->size());
}

}  // namespace

const char* remofile_version(void) {
    return REMOFILE_VERSION;
}

const char* remofile_error_message(void) {
    return latest_message.c_str();
}

int remofile_connect(const char* source, const struct remofile_options* options, remofile_client** client) {
    return guarded([&] { return connect(source, options, client); });
}

void remofile_shutdown(remofile_client* client) {
    if (client != nullptr)
        client->client.close();
}

void remofile_disconnect(remofile_client* client) {
    delete client;
}

int remofile_open(remofile_client* client, const char* path, uint32_t flags, uint32_t mode, remofile_file** file) {
    return guarded([&] { return open_file(client, path, flags, mode, file); });
}

int64_t remofile_pread(remofile_file* file, void* buffer, size_t size, uint64_t offset) {
    return guarded([&]() -> std::int64_t {
        if (file == nullptr)
            return is_null("file");
        if (buffer == nullptr && size > 0)
            return is_null("buffer");
        const auto got = file->file.pread({static_cast<std::byte*>(buffer), size}, offset);
        return got ? static_cast<std::int64_t>(*got) : fail(got.error());
    });
}

int64_t remofile_pwrite(remofile_file* file, const void* data, size_t size, uint64_t offset) {
    return guarded([&]() -> std::int64_t {
        if (file == nullptr)
            return is_null("file");
        if (data == nullptr && size > 0)
            return is_null("data");
        const auto written = file->file.pwrite({static_cast<const std::byte*>(data), size}, offset);
        return written ? static_cast<std::int64_t>(size) : fail(written.error());
    });
}

int remofile_ftruncate(remofile_file* file, uint64_t size) {
    return with_file(file, [&](const File& its) { return its.truncate(size); });
}

int remofile_sync(remofile_file* file) {
    return with_file(file, [](const File& its) { return its.sync(); });
}

int remofile_fstat(remofile_file* file, struct remofile_attributes* stat) {
    if (stat == nullptr)
        return guarded([] { return is_null("stat"); });
    return with_file(file, [&](const File& its) { return store(its.stat(), stat); });
}

int remofile_close(remofile_file* file) {
    const std::unique_ptr<remofile_file> taken(file);
    return with_file(file, [](File& its) { return its.close(); });
}

int remofile_opendir(remofile_client* client, const char* path, remofile_dir** dir) {
    return guarded([&] { return open_directory(client, path, dir); });
}

int remofile_readdir(remofile_dir* dir, const char** name, struct remofile_attributes* stat) {
    return guarded([&] { return next_entry(dir, name, stat); });
}

void remofile_closedir(remofile_dir* dir) {
    delete dir;
}

int remofile_stat(remofile_client* client, const char* path, struct remofile_attributes* stat) {
    if (stat == nullptr)
        return guarded([] { return is_null("stat"); });
    return with_path(client, path, [&](const Client& its, const Path& name) { return store(its.stat(name), stat); });
}

int remofile_lstat(remofile_client* client, const char* path, struct remofile_attributes* stat) {
    if (stat == nullptr)
        return guarded([] { return is_null("stat"); });
    return with_path(client, path, [&](const Client& its, const Path& name) { return store(its.lstat(name), stat); });
}

int remofile_mkdir(remofile_client* client, const char* path, uint32_t mode) {
    return with_path(client, path, [&](const Client& its, const Path& name) { return its.mkdir(name, mode); });
}

int remofile_rmdir(remofile_client* client, const char* path) {
    return with_path(client, path, [](const Client& its, const Path& name) { return its.rmdir(name); });
}

int remofile_unlink(remofile_client* client, const char* path) {
    return with_path(client, path, [](const Client& its, const Path& name) { return its.unlink(name); });
}

int remofile_rename(remofile_client* client, const char* from, const char* to, uint32_t flags) {
    if ((flags & ~std::uint32_t{REMOFILE_RENAME_NOREPLACE}) != 0)
        return guarded([] { return invalid("rename: an unknown flag"); });
    return with_names(client, from, to, [&](const Client& its, const char* old_name, const char* new_name) {
        return its.rename(old_name, new_name, (flags & REMOFILE_RENAME_NOREPLACE) == 0);
    });
}

int remofile_symlink(remofile_client* client, const char* target, const char* path) {
    return with_names(client, target, path,
                      [](const Client& its, const char* says, const char* name) { return its.symlink(says, name); });
}

int64_t remofile_readlink(remofile_client* client, const char* path, char* buffer, size_t size) {
    return guarded([&] { return read_link(client, path, buffer, size); });
}

int remofile_link(remofile_client* client, const char* from, const char* to) {
    return with_names(client, from, to, [](const Client& its, const char* old_name, const char* new_name) {
        return its.link(old_name, new_name);
    });
}

int remofile_chmod(remofile_client* client, const char* path, uint32_t mode) {
    return with_path(client, path, [&](const Client& its, const Path& name) { return its.chmod(name, mode); });
}

int remofile_chown(remofile_client* client, const char* path, uint32_t uid, uint32_t gid) {
    return with_path(client, path, [&](const Client& its, const Path& name) {
        return its.chown(name, unless_kept(uid), unless_kept(gid));
    });
}

int remofile_utimes(remofile_client* client, const char* path, const struct remofile_timestamp* access,
                    const struct remofile_timestamp* modification) {
    return with_path(client, path, [&](const Client& its, const Path& name) {
        return its.utimes(name, to_cpp(access), to_cpp(modification));
    });
}

int remofile_truncate(remofile_client* client, const char* path, uint64_t size) {
    return with_path(client, path, [&](const Client& its, const Path& name) { return its.truncate(name, size); });
}

int remofile_statfs(remofile_client* client, const char* path, struct remofile_space* statfs) {
    if (statfs == nullptr)
        return guarded([] { return is_null("statfs"); });
    return with_path(client, path, [&](const Client& its, const Path& name) -> Result<> {
        const auto space = its.statfs(name);
        if (!space)
            return std::unexpected(space.error());
        *statfs = {};
        statfs->block_size = space->block_size;
        statfs->blocks = space->blocks;
        statfs->blocks_free = space->blocks_free;
        statfs->blocks_available = space->blocks_available;
        statfs->files = space->files;
        statfs->files_free = space->files_free;
        statfs->name_max = space->name_max;
        return {};
    });
}
