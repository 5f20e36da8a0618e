// SPDX-License-Identifier: MIT
// remofile put: sends files and trees.
#include <dirent.h>
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <vector>

#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "cli/local_files.hpp"
#include "cli/parallel.hpp"
#include "cli/transfer.hpp"

namespace remofile::cli {
namespace {

using client::encoded;
using client::EncodedRequest;
using client::RemoteFile;
using client::RemoteTree;

// Small files under way weigh what they hold, and this for what else the server does for each.
constexpr std::uint64_t small_file_weight = 64U << 10;
constexpr std::uint64_t small_files_limit = 8U << 20;
constexpr std::size_t max_link_target_bytes = wire::max_path_bytes;
const client::CallOptions data_lane{.lane = client::LaneKind::data};

// What is known of a directory of the server before anything is put there.
struct TargetDirectory {
    NodeId node;
    std::map<std::string, RemoteFile, std::less<>> entries;
};

// A file of this machine.
struct LocalFile {
    std::string path;
    std::string name;    // that it gets
    bool named = false;  // by the person, and so sent in any case
    struct stat status {};
};

wire::Timestamp to_wire(const timespec& time) {
    return {.seconds = time.tv_sec, .nanoseconds = static_cast<std::uint32_t>(time.tv_nsec)};
}

class Sender {
public:
    Sender(RemoteTree& tree, const TransferOptions& options, Progress& progress)
        : tree_(tree), session_(tree.session()), options_(options), progress_(progress), small_(small_files_limit) {}

    Task<Result<>> run(std::vector<std::string> locals, std::string destination);

private:
    struct SentDirectory {
        NodeId node;
        std::string path;
        struct stat status;
    };
    struct Target {
        NodeId directory;
        std::string partial;
        NodeId node;
        HandleId handle;
    };

    Task<void> put(TargetDirectory* into, LocalFile file);
    Task<void> put_directory(TargetDirectory* into, LocalFile file);
    Task<Result<TargetDirectory>> enter(TargetDirectory* into, const LocalFile& file);
    Task<void> put_symlink(NodeId into, LocalFile file);
    Task<void> put_small(NodeId into, LocalFile file);
    Task<Result<>> send_small(NodeId into, const LocalFile& file, int fd);
    Task<void> put_large(TargetDirectory* into, LocalFile file);
    Task<Result<>> send_large(TargetDirectory* into, const LocalFile& file, int fd);
    Task<Result<std::vector<bool>>> take_up(TargetDirectory* into, const LocalFile& file, int fd, Target& target);
    Task<Result<>> send_chunks(const LocalFile& file, int fd, HandleId handle, std::vector<bool> common);
    Task<void> send_chunk(HandleId handle, std::uint64_t offset, Buffer data, Result<>& outcome);
    Task<Result<>> give_name(const LocalFile& file, int fd, const Target& target, bool with_size);
    Task<void> finish_directories();
    std::vector<EncodedRequest> ownership(const LocalFile& file, int fd, NodeId node) const;
    wire::Setattr mode_and_times(const struct stat& status, NodeId node, HandleId handle) const;
    bool is_unchanged(const TargetDirectory& into, const LocalFile& file) const;
    Task<void> remove(NodeId directory, std::string partial);
    void let_go(const Target& target);
    void failed(const std::string& path, const Error& error);

    RemoteTree& tree_;
    client::Session& session_;
    const TransferOptions& options_;
    Progress& progress_;
    Parallel small_;
    std::vector<SentDirectory> directories_;
    Result<> outcome_;  // the first error
};

void Sender::failed(const std::string& path, const Error& error) {
    const std::string text = fmt::format("{}: {}", log::printable(path), log::printable(error.to_string()));
    if (outcome_)
        outcome_ = make_error(error.status, text);
    else
        progress_.say(text);
}

wire::Setattr Sender::mode_and_times(const struct stat& status, NodeId node, HandleId handle) const {
    return {.node = node,
            .handle = handle,
            .which = wire::set_mode | wire::set_access | wire::set_modification,
            .mode = status.st_mode & (options_.archive ? 07777U : 0777U),
            .access = to_wire(status.st_atim),
            .modification = to_wire(status.st_mtim)};
}

// What an ordinary user may not do does not keep the file from being sent.
std::vector<EncodedRequest> Sender::ownership(const LocalFile& file, int fd, NodeId node) const {
    std::vector<EncodedRequest> requests;
    if (!options_.archive)
        return requests;
    requests.push_back(encoded(wire::Setattr{
        .node = node, .which = wire::set_uid | wire::set_gid, .uid = file.status.st_uid, .gid = file.status.st_gid}));
    std::vector<char> names(wire::max_xattr_bytes);
    const ssize_t length = ::flistxattr(fd, names.data(), names.size());
    for (ssize_t at = 0; at < length && requests.size() < wire::max_records / 2;) {
        const std::string name = names.data() + at;
        at += static_cast<ssize_t>(name.size()) + 1;
        Buffer value = Buffer::allocate(wire::max_xattr_bytes);
        const ssize_t size = ::fgetxattr(fd, name.c_str(), value.data(), value.size());
        if (size < 0 || name.starts_with("security."))
            continue;
        value.shrink(static_cast<std::size_t>(size));
        requests.push_back(encoded(wire::Setxattr{node, name, 0}, std::move(value)));
    }
    return requests;
}

bool Sender::is_unchanged(const TargetDirectory& into, const LocalFile& file) const {
    const auto found = into.entries.find(file.name);
    if (options_.force || file.named || found == into.entries.end())
        return false;
    const wire::Attributes& there = found->second.attributes;
    return S_ISREG(there.mode) && there.size == static_cast<std::uint64_t>(file.status.st_size) &&
           there.modification == to_wire(file.status.st_mtim);
}

// An incomplete file that is of no use. If that fails, it is in nobody's way.
Task<void> Sender::remove(NodeId directory, std::string partial) {
    const wire::Unlink unlink{directory, std::move(partial)};
    const auto removed = co_await session_.call(unlink, data_lane);
    if (!removed)
        log::debug("{} stays on the server: {}", unlink.name, describe(removed.status()));
}

void Sender::let_go(const Target& target) {
    session_.tell(wire::Release{target.handle}, client::LaneKind::data);
    tree_.forget(target.node);
}

Task<void> Sender::put(TargetDirectory* into, LocalFile file) {
    const mode_t type = file.status.st_mode & S_IFMT;
    if (type == S_IFDIR)
        co_return co_await put_directory(into, std::move(file));
    if (type == S_IFLNK)
        co_return co_await put_symlink(into->node, std::move(file));
    if (type != S_IFREG) {
        progress_.say(log::printable(file.path) + ": is no regular file, directory or link: left out");
        co_return;
    }
    const auto size = static_cast<std::uint64_t>(file.status.st_size);
    progress_.expect(size);
    if (is_unchanged(*into, file))
        co_return progress_.file_unchanged(size);
    if (size > small_file_bytes)
        co_return co_await put_large(into, std::move(file));
    co_await small_.add(size + small_file_weight, put_small(into->node, std::move(file)));
}

// ---------------------------------------------------------------- directories and links

Task<Result<TargetDirectory>> Sender::enter(TargetDirectory* into, const LocalFile& file) {
    using Entered = Result<TargetDirectory>;
    const auto found = into->entries.find(file.name);
    if (found == into->entries.end()) {
        const wire::Mkdir mkdir{
            .parent = into->node, .name = file.name, .node = {session_.new_node_id(), false}, .mode = 0700};
        const auto made = co_await session_.call(mkdir, data_lane);
        if (!made)
            co_return Entered(made.error());
        co_return Entered(TargetDirectory{made->body.node, {}});
    }
    if (!S_ISDIR(found->second.attributes.mode))
        co_return Entered(make_error(Status::not_directory, "what is there is no directory"));
    TargetDirectory target{found->second.node, {}};
    auto listed = co_await tree_.list(target.node);
    if (!listed)
        co_return Entered(listed.error());
    for (client::RemoteEntry& entry : *listed)
        target.entries.emplace(std::move(entry.name), entry.file);
    // The node is this directory's from now on.
    into->entries.erase(found);
    co_return Entered(std::move(target));
}

Result<std::vector<std::string>> names_in(const std::string& path) {
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
    if (directory == nullptr)
        return errno_error();
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(directory.get())) {
        const std::string name = entry->d_name;
        if (name != "." && name != ".." && !is_partial(name))
            names.push_back(name);
    }
    if (errno != 0)
        return errno_error();
    std::ranges::sort(names);
    return names;
}

Task<void> Sender::put_directory(TargetDirectory* into, LocalFile file) {
    const auto names = names_in(file.path);
    if (!names)
        co_return failed(file.path, names.error());
    auto entered = co_await enter(into, file);
    if (!entered)
        co_return failed(file.path, entered.error());
    directories_.push_back({entered->node, file.path, file.status});
    for (const std::string& name : *names) {
        LocalFile child{.path = file.path + "/" + name, .name = name};
        if (::lstat(child.path.c_str(), &child.status) != 0)
            failed(child.path, errno_error());
        else
            co_await put(&*entered, std::move(child));
    }
    for (const auto& [name, entry] : entered->entries)
        tree_.forget(entry.node);
}

// Times and modes of directories come last: making files in one changes its time, and needs the permission.
Task<void> Sender::finish_directories() {
    while (!directories_.empty()) {
        const SentDirectory directory = directories_.back();
        directories_.pop_back();
        if (options_.archive) {
            const wire::Setattr owner{.node = directory.node,
                                      .which = wire::set_uid | wire::set_gid,
                                      .uid = directory.status.st_uid,
                                      .gid = directory.status.st_gid};
            // An ordinary user may not; the tree is sent all the same.
            const auto owned = co_await session_.call(owner, data_lane);
            if (!owned)
                log::debug("{}: its owner stays as it is", directory.path);
        }
        const auto set = co_await session_.call(mode_and_times(directory.status, directory.node, {}), data_lane);
        if (!set)
            failed(directory.path, set.error());
        tree_.forget(directory.node);
    }
}

Task<void> Sender::put_symlink(NodeId into, LocalFile file) {
    std::string target(max_link_target_bytes, '\0');
    const ssize_t size = ::readlink(file.path.c_str(), target.data(), target.size());
    if (size < 0)
        co_return failed(file.path, errno_error());
    target.resize(static_cast<std::size_t>(size));
    const std::string partial = partial_name(file.name, identity_of(file.status));
    const NodeId node = session_.new_node_id();
    std::vector<EncodedRequest> requests;
    // What an interrupted transfer left; mostly nothing.
    requests.push_back(encoded(wire::Unlink{into, partial}));
    requests.push_back(encoded(wire::Symlink{into, partial, {node, false}, target}, true));
    requests.push_back(encoded(wire::Rename{into, partial, into, file.name}));
    const auto replies = co_await session_.call_batch(std::move(requests), data_lane);
    if (replies[1].status == Status::ok)
        tree_.forget(node);
    const Status status = replies[1].status != Status::ok ? replies[1].status : replies[2].status;
    if (status != Status::ok)
        co_return failed(file.path, make_error(status));
    progress_.file_done();
}

// ---------------------------------------------------------------- small files

// Opens what lstat has seen, and nothing else that may have taken its place.
Result<UniqueFd> open_source(LocalFile& file) {
    UniqueFd fd(::open(file.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd || ::fstat(fd.get(), &file.status) != 0)
        return errno_error();
    if (!S_ISREG(file.status.st_mode))
        return make_error(Status::invalid, "is no regular file any more");
    return fd;
}

Error changed_meanwhile() {
    return make_error(Status::try_again, "changed while it was being sent");
}

Task<void> Sender::put_small(NodeId into, LocalFile file) {
    auto fd = open_source(file);
    if (!fd)
        co_return failed(file.path, fd.error());
    const Result<> sent = co_await send_small(into, file, fd->get());
    if (!sent)
        co_return failed(file.path, sent.error());
    progress_.advance(static_cast<std::uint64_t>(file.status.st_size), true);
    progress_.file_done();
}

Task<Result<>> Sender::send_small(NodeId into, const LocalFile& file, int fd) {
    if (static_cast<std::uint64_t>(file.status.st_size) > small_file_bytes)
        co_return Result<>(changed_meanwhile());
    Buffer content = Buffer::allocate(static_cast<std::size_t>(file.status.st_size));
    const auto size = read_at(fd, content.bytes(), 0);
    if (!size)
        co_return Result<>(size.error());
    if (*size != content.size())
        co_return Result<>(changed_meanwhile());
    const Target target{.directory = into,
                        .partial = partial_name(file.name, identity_of(file.status)),
                        .node = session_.new_node_id(),
                        .handle = session_.new_handle_id()};
    std::vector<EncodedRequest> requests;
    requests.push_back(encoded(wire::Create{.parent = into,
                                            .name = target.partial,
                                            .node = {target.node, false},
                                            .handle = target.handle,
                                            .flags = wire::open_write | wire::open_truncate,
                                            .mode = 0600},
                               true));
    if (*size > 0)
        requests.push_back(encoded(wire::Write{target.handle, 0, false}, std::move(content), true));
    if (!options_.archive) {
        requests.push_back(encoded(mode_and_times(file.status, target.node, target.handle), true));
        if (options_.sync)
            requests.push_back(encoded(wire::Fsync{target.handle, false}, true));
        requests.push_back(encoded(wire::Rename{into, target.partial, into, file.name}));
    }
    const std::size_t needed = requests.size();
    for (EncodedRequest& request : ownership(file, fd, target.node))
        requests.push_back(std::move(request));
    const auto replies = co_await session_.call_batch(std::move(requests), data_lane);
    Result<> sent;
    for (std::size_t i = 0; i < needed && sent; ++i) {
        if (replies[i].status != Status::ok)
            sent = replies[i].status;
    }
    if (sent && *size > 0) {
        const auto written = client::decoded<wire::Write>(replies[1]);
        if (!written || written->size != *size)
            sent = Status::no_space;
    }
    if (sent && options_.archive)
        sent = co_await give_name(file, fd, target, false);
    if (replies.front().status == Status::ok) {
        if (!sent)
            co_await remove(into, target.partial);
        let_go(target);
    }
    co_return sent;
}

// ---------------------------------------------------------------- large files

Task<void> Sender::put_large(TargetDirectory* into, LocalFile file) {
    auto fd = open_source(file);
    if (!fd)
        co_return failed(file.path, fd.error());
    const Result<> sent = co_await send_large(into, file, fd->get());
    if (!sent)
        co_return failed(file.path, sent.error());
    progress_.file_done();
}

// Opens or makes the incomplete file, and finds out which chunks it has.
Task<Result<std::vector<bool>>> Sender::take_up(TargetDirectory* into, const LocalFile& file, int fd, Target& target) {
    using Taken = Result<std::vector<bool>>;
    const SourceIdentity identity = identity_of(file.status);
    for (const auto& [name, entry] : into->entries) {
        if (!is_other_partial(name, file.name, identity))
            continue;
        progress_.say(log::printable(file.path) + ": changed since its transfer was interrupted: it starts over");
        co_await remove(into->node, name);
    }
    const wire::Create create{.parent = into->node,
                              .name = target.partial,
                              .node = {target.node, false},
                              .handle = target.handle,
                              .flags = wire::open_read | wire::open_write,
                              .mode = 0600};
    const auto created = co_await session_.call(create, data_lane);
    if (!created)
        co_return Taken(created.error());
    const std::uint64_t there = std::min(created->body.entry.attributes.size, identity.size);
    if (created->body.created || there == 0)
        co_return Taken(std::vector<bool>());
    co_return co_await common_chunks(session_, target.handle, fd, there);
}

Task<void> Sender::send_chunk(HandleId handle, std::uint64_t offset, Buffer data, Result<>& outcome) {
    const std::size_t size = data.size();
    const wire::Write write{handle, offset, false};
    const auto written = co_await session_.call_with_bulk(write, std::move(data), data_lane);
    if (written && written->body.size == size)
        co_return progress_.advance(size, true);
    if (outcome)
        outcome = written ? Result<>(Status::no_space) : Result<>(written.error());
}

Task<Result<>> Sender::send_chunks(const LocalFile& file, int fd, HandleId handle, std::vector<bool> common) {
    const auto size = static_cast<std::uint64_t>(file.status.st_size);
    Parallel under_way(window_bytes(size));
    Result<> outcome;
    std::uint64_t data_end = 0;  // the data that SEEK_DATA has found goes up to here
    for (std::uint64_t offset = 0; offset < size && outcome; offset += chunk_bytes) {
        const std::uint64_t length = std::min(chunk_bytes, size - offset);
        if (offset >= data_end) {
            // Whole chunks of a hole are left out; on an error (the file system knows no holes) all is data.
            const off_t data = ::lseek(fd, static_cast<off_t>(offset), SEEK_DATA);
            const bool only_hole = data < 0 && errno == ENXIO;
            if (only_hole || (data >= 0 && static_cast<std::uint64_t>(data) >= offset + length)) {
                progress_.advance(length, false);
                continue;
            }
            const off_t hole = data < 0 ? -1 : ::lseek(fd, data, SEEK_HOLE);
            data_end = hole < 0 ? size : static_cast<std::uint64_t>(hole);
        }
        if (offset / chunk_bytes < common.size() && common[offset / chunk_bytes]) {
            progress_.advance(length, false);
            continue;
        }
        Buffer chunk = Buffer::allocate(length);
        const auto read = read_at(fd, chunk.bytes(), offset);
        if (!read || *read != length)
            outcome = read ? changed_meanwhile() : read.error();
        else
            co_await under_way.add(length, send_chunk(handle, offset, std::move(chunk), outcome));
    }
    co_await under_way.idle();
    co_return outcome;
}

// The last steps: nobody has seen the file before.
Task<Result<>> Sender::give_name(const LocalFile& file, int fd, const Target& target, bool with_size) {
    struct stat now {};
    if (::fstat(fd, &now) != 0 || identity_of(now) != identity_of(file.status))
        co_return Result<>(changed_meanwhile());
    wire::Setattr attributes = mode_and_times(file.status, target.node, target.handle);
    std::vector<EncodedRequest> requests;
    if (with_size) {
        // By itself: setting a size changes the times.
        requests.push_back(encoded(wire::Setattr{.node = target.node,
                                                 .handle = target.handle,
                                                 .which = wire::set_size,
                                                 .size = static_cast<std::uint64_t>(file.status.st_size)},
                                   true));
    }
    requests.push_back(encoded(attributes, true));
    if (options_.sync)
        requests.push_back(encoded(wire::Fsync{target.handle, false}, true));
    requests.push_back(encoded(wire::Rename{target.directory, target.partial, target.directory, file.name}));
    const auto replies = co_await session_.call_batch(std::move(requests), data_lane);
    for (const client::EncodedReply& reply : replies) {
        if (reply.status != Status::ok)
            co_return Result<>(reply.status);
    }
    co_return Result<>();
}

Task<Result<>> Sender::send_large(TargetDirectory* into, const LocalFile& file, int fd) {
    Target target{.directory = into->node,
                  .partial = partial_name(file.name, identity_of(file.status)),
                  .node = session_.new_node_id(),
                  .handle = session_.new_handle_id()};
    auto common = co_await take_up(into, file, fd, target);
    if (!common)
        co_return Result<>(common.error());
    Result<> sent = co_await send_chunks(file, fd, target.handle, std::move(*common));
    if (sent && options_.archive) {
        auto requests = ownership(file, fd, target.node);
        co_await session_.call_batch(std::move(requests), data_lane);
    }
    if (sent)
        sent = co_await give_name(file, fd, target, true);
    // What can be gone on with stays. A full disk is not made worse by what nobody can use.
    if (sent.status() == Status::no_space || sent.status() == Status::quota_exceeded ||
        sent.status() == Status::try_again)
        co_await remove(into->node, target.partial);
    let_go(target);
    co_return sent;
}

// ---------------------------------------------------------------- the command

// The name that a local path gives its copy.
std::string base_name(const std::string& path) {
    std::error_code error;
    const std::filesystem::path absolute = std::filesystem::absolute(path, error).lexically_normal();
    return absolute.has_filename() ? absolute.filename() : absolute.parent_path().filename();
}

Task<Result<>> Sender::run(std::vector<std::string> locals, std::string destination) {
    TargetDirectory target;
    std::string name;  // of the one file, where the destination is no directory
    const auto existing = co_await tree_.find(destination, client::Symlinks::follow);
    if (existing && S_ISDIR(existing->attributes.mode)) {
        target.node = existing->node;
    } else if (!existing && existing.status() != Status::no_entry) {
        co_return Result<>(existing.error());
    } else if (locals.size() > 1 || destination.ends_with('/')) {
        co_return Result<>(make_error(Status::not_directory,
                                      log::printable(destination) + ": there is no such directory on the server"));
    } else {
        auto place = co_await tree_.find_place(destination);
        if (!place)
            co_return Result<>(place.error());
        target.node = place->directory;
        name = place->name;
        if (existing)
            tree_.forget(existing->node);
    }
    auto listed = co_await tree_.list(target.node);
    if (!listed)
        co_return Result<>(listed.error());
    for (client::RemoteEntry& entry : *listed)
        target.entries.emplace(std::move(entry.name), entry.file);
    for (const std::string& local : locals) {
        LocalFile file{.path = local, .name = name.empty() ? base_name(local) : name, .named = true};
        // What a person names is meant itself, also through a link.
        if (::stat(local.c_str(), &file.status) != 0)
            failed(local, errno_error());
        else if (file.name.empty())
            failed(local, make_error(Status::bad_usage, "has no name to be sent under"));
        else
            co_await put(&target, std::move(file));
    }
    co_await small_.idle();
    co_await finish_directories();
    for (const auto& [entry_name, entry] : target.entries)
        tree_.forget(entry.node);
    tree_.forget(target.node);
    co_return outcome_;
}

Task<Result<>> send(RemoteTree& tree, const TransferOptions& options, std::vector<std::string> locals,
                    std::string destination) {
    Progress progress(Clock::system(), progress_form(options), "sent");
    Result<> sent;
    // A server that was restarted knows nothing of our nodes; what it has of the files is found again.
    for (int attempt = 0; attempt < max_transfer_attempts; ++attempt) {
        const std::uint64_t epoch = tree.session().epoch();
        if (attempt > 0) {
            progress.say("the session with the server was lost: going on in a new one");
            progress.start_over();
            const Result<> introduced = co_await act_as_caller(tree.session());
            if (!introduced)
                break;
        }
        Sender sender(tree, options, progress);
        sent = co_await sender.run(locals, destination);
        if (sent || tree.session().epoch() == epoch)
            break;
    }
    progress.finish();
    co_return sent;
}

}  // namespace

std::function<ExitStatus()> prepare_put(CLI::App& app) {
    const auto options = std::make_shared<TransferOptions>();  // shared by the parser and the action
    add_transfer_options(app, *options);
    app.footer("FILES are local files or directories, and last the SOURCE they go to.");
    return [options] {
        if (const Result<> completed = complete(*options); !completed)
            return complain(completed.error());
        std::vector<std::string> locals = options->files;
        const std::string destination = locals.back();
        locals.pop_back();
        return with_files(options->connect, {&destination, 1},
                          [options, locals](RemoteTree& tree, std::vector<std::string> paths) {
                              return send(tree, *options, locals, paths.front());
                          });
    };
}

}  // namespace remofile::cli
