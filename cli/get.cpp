// SPDX-License-Identifier: MIT
// remofile get: fetches files and trees. What a server says is written below the destination and nowhere else: names
// are checked, and no link below it is followed.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "base/log.hpp"
#include "cli/each.hpp"
#include "cli/expand.hpp"
#include "cli/local_files.hpp"
#include "cli/parallel.hpp"
#include "cli/receiver.hpp"
#include "cli/same_directory.hpp"
#include "cli/transfer.hpp"

namespace remofile::cli {
namespace {

using client::RemoteTree;

// A directory of this machine that is written to.
struct ReceivedDirectory {
    UniqueFd fd;
    // Called when nothing is written to it any more: times and mode come last.
    std::function<void(const ReceivedDirectory&)> finish = {};
    std::string shown = {};
    wire::Attributes attributes = {};
    Xattrs xattrs = {};

    int get() const { return fd.get(); }
    ~ReceivedDirectory() {
        if (finish)
            finish(*this);
    }
};
using LocalDirectory = std::shared_ptr<const ReceivedDirectory>;  // shared by the files that are under way

// Fetches trees.
class Receiver {
public:
    Receiver(RemoteTree& tree, const TransferOptions& options, Progress& progress)
        : tree_(tree),
          options_(options),
          progress_(progress),
          files_(tree, options, progress),
          listings_(max_directories),
          small_(small_files_limit),
          large_(1) {}

    Task<Result<>> run(std::vector<std::string> remotes, std::string destination);

private:
    struct FoundDirectory {
        LocalDirectory into;
        RemoteItem item;
        bool named;
    };

    // `named` by the person, and so fetched in any case.
    Task<void> get(LocalDirectory into, RemoteItem item, bool named);
    Task<void> get_directories();
    Task<void> get_directory(FoundDirectory found);
    Task<Result<LocalDirectory>> enter(FoundDirectory found);
    Task<void> get_root(LocalDirectory into, client::RemoteFile root);
    Task<bool> is_destination(client::RemoteFile directory);
    Result<> add_destination(const LocalDirectory& directory);
    // Of a directory that is shown so, and has that path below the transfer's root.
    Task<void> get_entries(LocalDirectory into, std::vector<client::RemoteEntry> entries, std::string shown,
                           std::string relative);
    Task<void> get_small(LocalDirectory into, RemoteItem item);
    Task<void> get_large(LocalDirectory into, RemoteItem item);
    void ended(const RemoteItem& item, const Result<>& received);
    void would_fetch(const RemoteItem& item);
    void tell_of_copy(const RemoteItem& item) { progress_.tell("fetch: " + log::printable(item.relative)); }
    void tell_of_directory(const RemoteItem& item) {
        progress_.tell("make directory here: " + log::printable(item.relative));
    }
    Result<LocalDirectory> look_at_directory(const LocalDirectory& into, const RemoteItem& item);
    Result<LocalDirectory> make_directory(const LocalDirectory& into, const RemoteItem& item, Xattrs xattrs);
    void finish_directory(const ReceivedDirectory& directory);
    bool is_unchanged(const LocalDirectory& into, const RemoteItem& item) const;
    void failed(const std::string& shown, const Error& error);

    RemoteTree& tree_;
    const TransferOptions& options_;
    Progress& progress_;
    FileReceiver files_;
    Parallel listings_;
    Parallel small_;
    Parallel large_;                             // one, so that an interruption costs no more than its window
    std::vector<FoundDirectory> next_;           // directories not yet begun with
    Destinations<LocalDirectory> destinations_;  // what the directories that the person named become
    Result<> outcome_;                           // the first error
};

void Receiver::failed(const std::string& shown, const Error& error) {
    const std::string text = fmt::format("{}: {}", log::printable(shown), log::printable(error.to_string()));
    if (outcome_)
        outcome_ = make_error(error.status, text);
    else
        progress_.say(text);
}

void Receiver::ended(const RemoteItem& item, const Result<>& received) {
    tree_.forget(item.file.node);
    if (!received)
        return failed(item.shown, received.error());
    tell_of_copy(item);
    progress_.file_done();
}

void Receiver::would_fetch(const RemoteItem& item) {
    tree_.forget(item.file.node);
    tell_of_copy(item);
}

bool Receiver::is_unchanged(const LocalDirectory& into, const RemoteItem& item) const {
    struct stat there {};
    if (options_.force || ::fstatat(into->get(), item.name.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    const wire::Timestamp& modification = item.file.attributes.modification;
    return S_ISREG(there.st_mode) && static_cast<std::uint64_t>(there.st_size) == item.file.attributes.size &&
           there.st_mtim.tv_sec == modification.seconds && there.st_mtim.tv_nsec == long{modification.nanoseconds};
}

Task<void> Receiver::get(LocalDirectory into, RemoteItem item, bool named) {
    const wire::Attributes& attributes = item.file.attributes;
    if (options_.filter.excludes(item.relative, S_ISDIR(attributes.mode))) {
        tree_.forget(item.file.node);
        co_return;
    }
    if (S_ISDIR(attributes.mode)) {
        next_.push_back({std::move(into), std::move(item), named});
        co_return;
    }
    if (S_ISLNK(attributes.mode) && progress_.is_dry_run())
        co_return would_fetch(item);
    if (S_ISLNK(attributes.mode))
        co_return ended(item, co_await files_.receive_symlink(into->get(), item));
    if (!S_ISREG(attributes.mode) && named)
        co_return ended(item, make_error(Status::invalid, "is no regular file, directory or link"));
    if (!S_ISREG(attributes.mode)) {
        tree_.forget(item.file.node);
        co_return progress_.say(log::printable(item.shown) + ": is no regular file, directory or link: left out");
    }
    const std::uint64_t size = attributes.size;
    progress_.expect(size);
    if (!named && is_unchanged(into, item)) {
        tree_.forget(item.file.node);
        co_return progress_.file_unchanged(size);
    }
    if (progress_.is_dry_run())
        co_return would_fetch(item);
    if (size > small_file_bytes)
        co_await large_.add(1, get_large(std::move(into), std::move(item)));
    else
        co_await small_.add(size + small_file_weight, get_small(std::move(into), std::move(item)));
}

Task<void> Receiver::get_large(LocalDirectory into, RemoteItem item) {
    ended(item, co_await files_.receive_large(into->get(), item));
}

Task<void> Receiver::get_small(LocalDirectory into, RemoteItem item) {
    ended(item, co_await files_.receive_small(into->get(), item));
}

// One that is there already, its owner's, who may not write to it as it is. It gets its mode at the end.
void open_up(int directory, const std::string& name) {
    const UniqueFd fd(::openat(directory, name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    struct stat status {};
    if (!fd || ::fstat(fd.get(), &status) != 0 || status.st_uid != ::geteuid() || ::geteuid() == 0)
        return;
    if ((status.st_mode & private_directory) != private_directory)
        ::chmod(path_of(fd.get()).c_str(), (status.st_mode & 07777U) | private_directory);
}

Error no_directory_here() {
    return make_error(Status::not_directory,
                      "what is in its place here is no directory (or a link, which is not followed)");
}

// What a dry run has in the place of a directory: what is there, or nothing, in which nothing is found.
Result<LocalDirectory> Receiver::look_at_directory(const LocalDirectory& into, const RemoteItem& item) {
    UniqueFd fd;
    if (into->fd) {
        fd = UniqueFd(::openat(into->get(), item.name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
        if (!fd && errno != ENOENT)
            return errno == ENOTDIR || errno == ELOOP ? no_directory_here() : here(errno_error());
    }
    if (!fd)
        tell_of_directory(item);
    return std::make_shared<const ReceivedDirectory>(std::move(fd));
}

Result<LocalDirectory> Receiver::make_directory(const LocalDirectory& into, const RemoteItem& item, Xattrs xattrs) {
    if (progress_.is_dry_run())
        return look_at_directory(into, item);
    if (::mkdirat(into->get(), item.name.c_str(), private_directory) != 0) {
        if (errno != EEXIST)
            return here(errno_error());
        open_up(into->get(), item.name);
    } else {
        tell_of_directory(item);
    }
    UniqueFd fd(::openat(into->get(), item.name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (!fd && errno == ENOTDIR)
        return no_directory_here();
    if (!fd)
        return here(errno_error());
    return std::make_shared<const ReceivedDirectory>(
        std::move(fd), [this](const ReceivedDirectory& directory) { finish_directory(directory); }, item.shown,
        item.file.attributes, std::move(xattrs));
}

void Receiver::finish_directory(const ReceivedDirectory& directory) {
    const Result<> set =
        here(files_.set_attributes(directory.get(), directory.attributes, directory.xattrs, directory.shown));
    if (!set)
        failed(directory.shown, set.error());
}

// Those found last come first: they hold the fewest directories open.
Task<void> Receiver::get_directories() {
    while (!next_.empty()) {
        while (!next_.empty()) {
            FoundDirectory found = std::move(next_.back());
            next_.pop_back();
            co_await listings_.add(1, get_directory(std::move(found)));
        }
        co_await listings_.idle();
    }
}

Result<> Receiver::add_destination(const LocalDirectory& directory) {
    struct stat status {};
    if (::fstat(directory->get(), &status) != 0)
        return errno_error();
    destinations_.add(numbers_of(status), directory);
    return {};
}

Task<bool> Receiver::is_destination(client::RemoteFile directory) {
    for (const LocalDirectory& destination : destinations_.like(numbers_of(directory.attributes, tree_.session()))) {
        struct stat status {};
        bool same = false;
        if (!progress_.is_dry_run())
            same = co_await is_same_made_here(tree_, directory.node, destination->get());
        else if (::fstat(destination->get(), &status) == 0)
            same = looks_the_same(directory.attributes, status, tree_.session());
        if (same)
            co_return true;
    }
    co_return false;
}

// Makes the directory that a directory of the server becomes.
Task<Result<LocalDirectory>> Receiver::enter(FoundDirectory found) {
    Result<Xattrs> xattrs;
    if (options_.archive)
        xattrs = co_await remote_xattrs(tree_.session(), found.item.file.node);
    if (!xattrs)
        co_return Result<LocalDirectory>(xattrs.error());
    auto made = make_directory(found.into, found.item, std::move(*xattrs));
    if (!made || !found.named || !(*made)->fd)
        co_return made;
    const Result<> added = add_destination(*made);
    if (!added)
        co_return Result<LocalDirectory>(added.error());
    const bool onto_this = co_await is_destination(found.item.file);
    if (onto_this)
        co_return Result<LocalDirectory>(into_itself());
    co_return made;
}

Task<void> Receiver::get_directory(FoundDirectory found) {
    const RemoteItem& item = found.item;
    Result<LocalDirectory> entered = into_itself();
    bool into_this = false;
    if (!found.named)
        into_this = co_await is_destination(item.file);
    if (!into_this) {
        auto listed = co_await tree_.list(item.file.node);
        if (listed)
            entered = co_await enter(found);
        else
            entered = listed.error();
        if (entered)
            co_await get_entries(*entered, std::move(*listed), item.shown, item.relative);
        else if (listed)
            tree_.forget(*listed);
    }
    if (!entered)
        failed(item.shown, entered.error());
    tree_.forget(item.file.node);
}

// The whole export, into a directory that is there: what it holds.
Task<void> Receiver::get_root(LocalDirectory into, client::RemoteFile root) {
    const Result<> added = add_destination(into);
    if (!added)
        co_return failed("/", added.error());
    const bool onto_this = co_await is_destination(root);
    if (onto_this)
        co_return failed("/", into_itself());
    auto listed = co_await tree_.list(root.node);
    if (!listed)
        co_return failed("/", listed.error());
    co_await get_entries(into, std::move(*listed), "", "");
}

Task<void> Receiver::get_entries(LocalDirectory into, std::vector<client::RemoteEntry> entries, std::string shown,
                                 std::string relative) {
    for (client::RemoteEntry& entry : entries) {
        RemoteItem child{.file = entry.file,
                         .name = entry.name,
                         .shown = shown + "/" + entry.name,
                         .relative = relative.empty() ? entry.name : relative + "/" + entry.name};
        if (entry.problem != Status::ok)
            failed(child.shown, make_error(entry.problem));
        else if (is_partial(entry.name))
            tree_.forget(entry.file.node);
        else
            co_await get(into, std::move(child), false);
    }
}

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
    const auto all = co_await find_all(tree_, remotes, client::Symlinks::follow);
    for (std::size_t i = 0; i < remotes.size(); ++i) {
        const std::string& remote = remotes[i];
        const Result<client::RemoteFile>& found = all[i];
        if (!found) {
            if (outcome_)
                outcome_ = found.error();
            else
                progress_.say(found.error().to_string());
            continue;
        }
        const std::string own_name = last_component(remote);
        RemoteItem item{.file = *found, .name = name.empty() ? own_name : name, .shown = remote, .relative = own_name};
        if (item.name.empty()) {
            co_await get_root(into, *found);
        } else {
            co_await get(into, std::move(item), true);
        }
    }
    co_await get_directories();
    co_await small_.idle();
    co_await large_.idle();
    // They are finished by that.
    destinations_ = {};
    co_return outcome_;
}

Task<Result<>> receive(RemoteTree& tree, const TransferOptions& options, std::vector<std::string> remotes,
                       std::string destination, Activity& activity) {
    if (!options.quiet)
        say_who_else_is_there(tree.session());
    Progress progress(Clock::system(), progress_form(options), "fetched", activity);
    const Result<> received = co_await in_one_session(tree.session(), progress, [&]() -> Task<Result<>> {
        Receiver one(tree, options, progress);
        co_return co_await one.run(remotes, destination);
    });
    progress.finish();
    co_return activity.end(received);
}

}  // namespace

std::function<ExitStatus()> prepare_get(CLI::App& app) {
    const auto options = std::make_shared<TransferOptions>();  // shared by the parser and the action
    add_transfer_options(app, *options);
    app.footer("FILES are SOURCEs, files or directories of one server, and last the local place they go to.");
    return [options] {
        if (const Result<> completed = complete(*options); !completed)
            return complain(completed.error());
        auto activity = Activity::open(options->activity);
        if (!activity)
            return complain(activity.error());
        std::vector<std::string> remotes = options->files;
        const std::string destination = remotes.back();
        remotes.pop_back();
        return with_files(
            options->connect, remotes,
            expanding([options, destination, &activity](RemoteTree& tree, std::vector<std::string> paths) {
                return receive(tree, *options, std::move(paths), destination, *activity);
            }));
    };
}

}  // namespace remofile::cli
