// SPDX-License-Identifier: MIT
// remofile get: fetches files and trees. What a server says is written below the destination and nowhere else: names
// are checked, and no link below it is followed.
#include <dirent.h>
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <functional>
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

constexpr std::uint64_t small_file_weight = 64U << 10;
constexpr std::uint64_t small_files_limit = 8U << 20;
// Zeros are looked for in pieces of the size in which file systems keep holes.
constexpr std::size_t hole_bytes = 4096;
constexpr std::uint64_t stat_block_bytes = 512;
const client::CallOptions data_lane{.lane = client::LaneKind::data};

timespec to_timespec(const wire::Timestamp& time) {
    return {.tv_sec = time.seconds, .tv_nsec = static_cast<long>(time.nanoseconds)};
}

// A directory of this machine that is written to.
struct ReceivedDirectory {
    UniqueFd fd;
    // Called when nothing is written to it any more: times and mode come last.
    std::function<void(const ReceivedDirectory&)> finish = {};
    std::string shown = {};
    wire::Attributes attributes = {};

    int get() const { return fd.get(); }
    ~ReceivedDirectory() {
        if (finish)
            finish(*this);
    }
};
using LocalDirectory = std::shared_ptr<const ReceivedDirectory>;  // shared by the files that are under way

// A remote file, and the name that its copy gets.
struct Item {
    RemoteFile file;
    std::string name;
    std::string shown;   // in messages
    bool named = false;  // by the person, and so fetched in any case
};

// A local file that is being written; without its name until it is complete.
class PartialFile {
public:
    PartialFile(LocalDirectory directory, std::string name, UniqueFd fd, std::uint64_t size)
        : directory_(std::move(directory)), name_(std::move(name)), fd_(std::move(fd)), size_(size) {}

    // Opens the one that is there, or makes one.
    static Result<PartialFile> open(LocalDirectory directory, const std::string& name) {
        UniqueFd fd(
            ::openat(directory->get(), name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
        struct stat status {};
        if (!fd || ::fstat(fd.get(), &status) != 0)
            return errno_error();
        if (!S_ISREG(status.st_mode))
            return make_error(Status::exists, "what is in the way is no regular file: " + name);
        return PartialFile(std::move(directory), name, std::move(fd), static_cast<std::uint64_t>(status.st_size));
    }

    int fd() const { return fd_.get(); }
    std::uint64_t size_at_opening() const { return size_; }

    Result<> give_name(const std::string& name) {
        if (::renameat(directory_->get(), name_.c_str(), directory_->get(), name.c_str()) != 0)
            return errno_error();
        return {};
    }
    void remove() { ::unlinkat(directory_->get(), name_.c_str(), 0); }

private:
    LocalDirectory directory_;
    std::string name_;
    UniqueFd fd_;
    std::uint64_t size_;
};

class Receiver {
public:
    Receiver(RemoteTree& tree, const TransferOptions& options, Progress& progress)
        : tree_(tree), session_(tree.session()), options_(options), progress_(progress), small_(small_files_limit) {}

    Task<Result<>> run(std::vector<std::string> remotes, std::string destination);

private:
    Task<void> get(LocalDirectory into, Item item);
    Task<void> get_directory(LocalDirectory into, Item item);
    Task<void> get_symlink(LocalDirectory into, Item item);
    Task<void> get_small(LocalDirectory into, Item item);
    Task<Result<>> receive_small(LocalDirectory into, const Item& item);
    Task<void> get_large(LocalDirectory into, Item item);
    Task<Result<>> receive_large(LocalDirectory into, const Item& item);
    Task<Result<>> receive_chunks(const Item& item, HandleId handle, PartialFile& partial);
    Task<void> receive_chunk(wire::Read read, int fd, bool sparse, Result<>& outcome);
    Task<Result<>> complete_file(const Item& item, HandleId handle, PartialFile& partial);
    Task<Result<>> copy_xattrs(NodeId node, int fd);
    Result<LocalDirectory> make_directory(const LocalDirectory& into, const Item& item);
    void finish_directory(const ReceivedDirectory& directory);
    void remove_other_partials(const LocalDirectory& into, const Item& item);
    bool is_unchanged(const LocalDirectory& into, const Item& item) const;
    void failed(const std::string& shown, const Error& error);

    RemoteTree& tree_;
    client::Session& session_;
    const TransferOptions& options_;
    Progress& progress_;
    Parallel small_;
    Result<> outcome_;  // the first error
};

void Receiver::failed(const std::string& shown, const Error& error) {
    const std::string text = fmt::format("{}: {}", log::printable(shown), log::printable(error.to_string()));
    if (outcome_)
        outcome_ = make_error(error.status, text);
    else
        progress_.say(text);
}

bool Receiver::is_unchanged(const LocalDirectory& into, const Item& item) const {
    struct stat there {};
    if (options_.force || item.named || ::fstatat(into->get(), item.name.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    const wire::Timestamp& modification = item.file.attributes.modification;
    return S_ISREG(there.st_mode) && static_cast<std::uint64_t>(there.st_size) == item.file.attributes.size &&
           there.st_mtim.tv_sec == modification.seconds && there.st_mtim.tv_nsec == long{modification.nanoseconds};
}

Task<void> Receiver::get(LocalDirectory into, Item item) {
    const wire::Attributes& attributes = item.file.attributes;
    if (S_ISDIR(attributes.mode))
        co_return co_await get_directory(std::move(into), std::move(item));
    if (S_ISLNK(attributes.mode))
        co_return co_await get_symlink(std::move(into), std::move(item));
    if (!S_ISREG(attributes.mode)) {
        tree_.forget(item.file.node);
        co_return progress_.say(log::printable(item.shown) + ": is no regular file, directory or link: left out");
    }
    const std::uint64_t size = attributes.size;
    progress_.expect(size);
    if (is_unchanged(into, item)) {
        tree_.forget(item.file.node);
        co_return progress_.file_unchanged(size);
    }
    if (size > small_file_bytes)
        co_return co_await get_large(std::move(into), std::move(item));
    Task<void> small = get_small(std::move(into), std::move(item));
    co_await small_.add(size + small_file_weight, std::move(small));
}

// ---------------------------------------------------------------- directories and links

Result<LocalDirectory> Receiver::make_directory(const LocalDirectory& into, const Item& item) {
    if (::mkdirat(into->get(), item.name.c_str(), 0700) != 0 && errno != EEXIST)
        return errno_error();
    UniqueFd fd(::openat(into->get(), item.name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (!fd)
        return errno_error(fmt::format("{} (a link is not followed here)", describe(from_errno(errno))));
    return std::make_shared<const ReceivedDirectory>(
        std::move(fd), [this](const ReceivedDirectory& directory) { finish_directory(directory); }, item.shown,
        item.file.attributes);
}

void Receiver::finish_directory(const ReceivedDirectory& directory) {
    const wire::Attributes& attributes = directory.attributes;
    const int fd = directory.get();
    if (options_.archive && ::fchown(fd, attributes.uid, attributes.gid) != 0)
        log::debug("{}: its owner stays as it is", directory.shown);
    const timespec times[] = {to_timespec(attributes.access), to_timespec(attributes.modification)};
    if (::fchmod(fd, attributes.mode & (options_.archive ? 07777U : 0777U)) != 0 || ::futimens(fd, times) != 0)
        failed(directory.shown, errno_error());
}

Task<void> Receiver::get_directory(LocalDirectory into, Item item) {
    auto listed = co_await tree_.list(item.file.node);
    tree_.forget(item.file.node);
    if (!listed)
        co_return failed(item.shown, listed.error());
    const auto directory = make_directory(into, item);
    if (!directory) {
        tree_.forget(*listed);
        co_return failed(item.shown, directory.error());
    }
    for (client::RemoteEntry& entry : *listed) {
        if (is_partial(entry.name)) {
            tree_.forget(entry.file.node);
            continue;
        }
        Item child{.file = entry.file, .name = entry.name, .shown = item.shown + "/" + entry.name};
        co_await get(*directory, std::move(child));
    }
}

Task<void> Receiver::get_symlink(LocalDirectory into, Item item) {
    const auto link = co_await session_.call(wire::Readlink{item.file.node}, data_lane);
    tree_.forget(item.file.node);
    if (!link)
        co_return failed(item.shown, link.error());
    const std::string partial = partial_name(item.name, identity_of(item.file.attributes));
    ::unlinkat(into->get(), partial.c_str(), 0);
    if (::symlinkat(link->body.target.c_str(), into->get(), partial.c_str()) != 0 ||
        ::renameat(into->get(), partial.c_str(), into->get(), item.name.c_str()) != 0)
        co_return failed(item.shown, errno_error());
    progress_.file_done();
}

// ---------------------------------------------------------------- all files

Task<Result<>> Receiver::copy_xattrs(NodeId node, int fd) {
    const wire::Listxattr list{node, static_cast<std::uint32_t>(wire::max_xattr_bytes)};
    const auto names = co_await session_.call(list, data_lane);
    if (!names)
        co_return Result<>();  // where there are none, none are lost
    std::string_view rest = names->bulk.text();
    while (!rest.empty()) {
        const std::string name(rest.substr(0, rest.find('\0')));
        rest.remove_prefix(std::min(name.size() + 1, rest.size()));
        if (name.starts_with("security."))
            continue;
        const wire::Getxattr get{node, name, static_cast<std::uint32_t>(wire::max_xattr_bytes)};
        const auto value = co_await session_.call(get, data_lane);
        if (!value)
            co_return Result<>(value.error());
        if (::fsetxattr(fd, name.c_str(), value->bulk.data(), value->bulk.size(), 0) != 0)
            log::debug("the attribute {} is not kept: {}", name, std::strerror(errno));
    }
    co_return Result<>();
}

// The content is there: the rest of what belongs to it, then its name.
Task<Result<>> Receiver::complete_file(const Item& item, HandleId handle, PartialFile& partial) {
    const wire::Attributes& attributes = item.file.attributes;
    const wire::Getattr getattr{item.file.node, handle};
    const auto now = co_await session_.call(getattr, data_lane);
    if (!now)
        co_return Result<>(now.error());
    if (identity_of(now->body.attributes) != identity_of(attributes))
        co_return Result<>(make_error(Status::try_again, "changed while it was being fetched"));
    const int fd = partial.fd();
    if (options_.archive) {
        if (::fchown(fd, attributes.uid, attributes.gid) != 0)
            log::debug("{}: its owner stays as it is", item.shown);
        const Result<> copied = co_await copy_xattrs(item.file.node, fd);
        if (!copied)
            co_return copied;
    }
    const timespec times[] = {to_timespec(attributes.access), to_timespec(attributes.modification)};
    if (::ftruncate(fd, static_cast<off_t>(attributes.size)) != 0 ||
        ::fchmod(fd, attributes.mode & (options_.archive ? 07777U : 0777U)) != 0 || ::futimens(fd, times) != 0 ||
        (options_.sync && ::fsync(fd) != 0))
        co_return Result<>(errno_error());
    co_return partial.give_name(item.name);
}

// ---------------------------------------------------------------- small files

Task<void> Receiver::get_small(LocalDirectory into, Item item) {
    const Result<> received = co_await receive_small(std::move(into), item);
    tree_.forget(item.file.node);
    if (!received)
        co_return failed(item.shown, received.error());
    progress_.advance(item.file.attributes.size, true);
    progress_.file_done();
}

Task<Result<>> Receiver::receive_small(LocalDirectory into, const Item& item) {
    const HandleId handle = session_.new_handle_id();
    std::vector<EncodedRequest> requests;
    requests.push_back(encoded(wire::Open{item.file.node, handle, wire::open_read}, true));
    requests.push_back(encoded(wire::Read{handle, 0, static_cast<std::uint32_t>(small_file_bytes)}));
    const auto replies = co_await session_.call_batch(std::move(requests), data_lane);
    if (replies[0].status != Status::ok)
        co_return Result<>(replies[0].status);
    Result<> received = replies[1].status;
    if (replies[1].status == Status::ok)
        received = Result<>();
    if (received && replies[1].bulk.size() != item.file.attributes.size)
        received = make_error(Status::try_again, "changed while it was being fetched");
    if (received) {
        auto partial = PartialFile::open(into, partial_name(item.name, identity_of(item.file.attributes)));
        received = partial ? write_at(partial->fd(), replies[1].bulk.bytes(), 0) : Result<>(partial.error());
        if (received)
            received = co_await complete_file(item, handle, *partial);
        if (!received && partial)
            partial->remove();
    }
    session_.tell(wire::Release{handle}, client::LaneKind::data);
    co_return received;
}

// ---------------------------------------------------------------- large files

void Receiver::remove_other_partials(const LocalDirectory& into, const Item& item) {
    const int fd = ::openat(into->get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(fd < 0 ? nullptr : ::fdopendir(fd), ::closedir);
    if (directory == nullptr)
        return;
    while (const dirent* entry = ::readdir(directory.get())) {
        if (!is_other_partial(entry->d_name, item.name, identity_of(item.file.attributes)))
            continue;
        progress_.say(log::printable(item.shown) + ": changed since its transfer was interrupted: it starts over");
        ::unlinkat(into->get(), entry->d_name, 0);
    }
}

Task<void> Receiver::get_large(LocalDirectory into, Item item) {
    remove_other_partials(into, item);
    const Result<> received = co_await receive_large(std::move(into), item);
    tree_.forget(item.file.node);
    if (!received)
        co_return failed(item.shown, received.error());
    progress_.file_done();
}

Task<Result<>> Receiver::receive_large(LocalDirectory into, const Item& item) {
    auto partial = PartialFile::open(into, partial_name(item.name, identity_of(item.file.attributes)));
    if (!partial)
        co_return Result<>(partial.error());
    const HandleId handle = session_.new_handle_id();
    const wire::Open open{item.file.node, handle, wire::open_read};
    const auto opened = co_await session_.call(open, data_lane);
    if (!opened)
        co_return Result<>(opened.error());
    Result<> received = co_await receive_chunks(item, handle, *partial);
    if (received)
        received = co_await complete_file(item, handle, *partial);
    session_.tell(wire::Release{handle}, client::LaneKind::data);
    // What can be gone on with stays.
    if (received.status() == Status::no_space || received.status() == Status::quota_exceeded ||
        received.status() == Status::try_again)
        partial->remove();
    co_return received;
}

// All but whole pieces of zeros, which become holes.
Result<> write_sparsely(int fd, std::span<const std::byte> bytes, std::uint64_t offset) {
    const auto is_zero = [](std::span<const std::byte> piece) {
        return piece.front() == std::byte{0} && std::memcmp(piece.data(), piece.data() + 1, piece.size() - 1) == 0;
    };
    while (!bytes.empty()) {
        std::size_t size = 0;
        bool zero = false;
        // As many pieces as are alike.
        while (size < bytes.size()) {
            const auto piece = bytes.subspan(size, std::min(hole_bytes, bytes.size() - size));
            const bool piece_is_zero = is_zero(piece);
            if (size > 0 && piece_is_zero != zero)
                break;
            zero = piece_is_zero;
            size += piece.size();
        }
        if (!zero)
            REMOFILE_CHECK(write_at(fd, bytes.first(size), offset));
        bytes = bytes.subspan(size);
        offset += size;
    }
    return {};
}

Task<void> Receiver::receive_chunk(wire::Read read, int fd, bool sparse, Result<>& outcome) {
    const auto reply = co_await session_.call(read, data_lane);
    Result<> received;
    if (!reply)
        received = reply.error();
    else if (reply->bulk.size() != read.size)
        received = make_error(Status::try_again, "changed while it was being fetched");
    else
        received = sparse ? write_sparsely(fd, reply->bulk.bytes(), read.offset)
                          : write_at(fd, reply->bulk.bytes(), read.offset);
    if (received)
        co_return progress_.advance(read.size, true);
    if (outcome)
        outcome = received;
}

Task<Result<>> Receiver::receive_chunks(const Item& item, HandleId handle, PartialFile& partial) {
    const wire::Attributes& attributes = item.file.attributes;
    const std::uint64_t there = std::min(partial.size_at_opening(), attributes.size);
    std::vector<bool> common;
    if (there > 0) {
        auto compared = co_await common_chunks(session_, handle, partial.fd(), there);
        if (!compared)
            co_return Result<>(compared.error());
        common = std::move(*compared);
    }
    // Holes are made only in a new file: in one that is taken up, zeros may be needed over what is there.
    const bool sparse = there == 0 && attributes.blocks < attributes.size / stat_block_bytes;
    Parallel under_way(window_bytes(attributes.size));
    Result<> outcome;
    for (std::uint64_t offset = 0; offset < attributes.size && outcome; offset += chunk_bytes) {
        const std::uint64_t length = std::min(chunk_bytes, attributes.size - offset);
        if (offset / chunk_bytes < common.size() && common[offset / chunk_bytes]) {
            progress_.advance(length, false);
            continue;
        }
        const wire::Read read{handle, offset, static_cast<std::uint32_t>(length)};
        Task<void> chunk = receive_chunk(read, partial.fd(), sparse, outcome);
        co_await under_way.add(length, std::move(chunk));
    }
    co_await under_way.idle();
    co_return outcome;
}

// ---------------------------------------------------------------- the command

std::string last_component(const std::string& path) {
    const auto components = client::split_path(path);
    return components && !components->empty() ? components->back() : std::string();
}

Task<Result<>> Receiver::run(std::vector<std::string> remotes, std::string destination) {
    struct stat there {};
    const bool is_directory = ::stat(destination.c_str(), &there) == 0 && S_ISDIR(there.st_mode);
    if (!is_directory && (remotes.size() > 1 || destination.ends_with('/')))
        co_return Result<>(make_error(Status::not_directory, log::printable(destination) + ": is no directory"));
    std::string name;
    std::string parent = destination;
    if (!is_directory) {
        const std::size_t slash = destination.rfind('/');
        name = slash == destination.npos ? destination : destination.substr(slash + 1);
        parent = slash == destination.npos ? "." : destination.substr(0, slash + 1);
    }
    UniqueFd fd(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd)
        co_return Result<>(errno_error(fmt::format("{}: {}", log::printable(parent), describe(from_errno(errno)))));
    const LocalDirectory into = std::make_shared<const ReceivedDirectory>(std::move(fd));
    for (const std::string& remote : remotes) {
        const auto found = co_await tree_.find(remote, client::Symlinks::follow);
        if (!found) {
            if (outcome_)
                outcome_ = found.error();
            else
                progress_.say(found.error().to_string());
            continue;
        }
        Item item{.file = *found, .name = name.empty() ? last_component(remote) : name, .shown = remote, .named = true};
        if (item.name.empty()) {
            // The whole export, into a directory that is there: what it holds.
            auto listed = co_await tree_.list(found->node);
            if (!listed) {
                failed(remote, listed.error());
                continue;
            }
            for (client::RemoteEntry& entry : *listed) {
                Item child{.file = entry.file, .name = entry.name, .shown = "/" + entry.name};
                co_await get(into, std::move(child));
            }
        } else {
            co_await get(into, std::move(item));
        }
    }
    co_await small_.idle();
    co_return outcome_;
}

Task<Result<>> receive(RemoteTree& tree, const TransferOptions& options, std::vector<std::string> remotes,
                       std::string destination) {
    Progress progress(Clock::system(), progress_form(options), "fetched");
    Result<> received;
    for (int attempt = 0; attempt < max_transfer_attempts; ++attempt) {
        const std::uint64_t epoch = tree.session().epoch();
        if (attempt > 0) {
            progress.say("the session with the server was lost: going on in a new one");
            progress.start_over();
            const Result<> introduced = co_await act_as_caller(tree.session());
            if (!introduced)
                break;
        }
        Receiver receiver(tree, options, progress);
        received = co_await receiver.run(remotes, destination);
        if (received || tree.session().epoch() == epoch)
            break;
    }
    progress.finish();
    co_return received;
}

}  // namespace

std::function<ExitStatus()> prepare_get(CLI::App& app) {
    const auto options = std::make_shared<TransferOptions>();  // shared by the parser and the action
    add_transfer_options(app, *options);
    app.footer("FILES are SOURCEs, files or directories of one server, and last the local place they go to.");
    return [options] {
        if (const Result<> completed = complete(*options); !completed)
            return complain(completed.error());
        std::vector<std::string> remotes = options->files;
        const std::string destination = remotes.back();
        remotes.pop_back();
        return with_files(options->connect, remotes,
                          [options, destination](RemoteTree& tree, std::vector<std::string> paths) {
                              return receive(tree, *options, std::move(paths), destination);
                          });
    };
}

}  // namespace remofile::cli
