// SPDX-License-Identifier: MIT
// remofile put: sends files and trees.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <vector>

#include "base/log.hpp"
#include "cli/local_files.hpp"
#include "cli/parallel.hpp"
#include "cli/same_directory.hpp"
#include "cli/sender.hpp"
#include "cli/standard_input.hpp"
#include "cli/transfer.hpp"

namespace remofile::cli {
namespace {

using client::RemoteTree;

// What stands for standard input.
constexpr std::string_view input_name = "-";
const client::CallOptions data_lane{.lane = client::LaneKind::data};

// Sends trees.
class Sender {
public:
    Sender(RemoteTree& tree, const TransferOptions& options, Progress& progress)
        : tree_(tree),
          session_(tree.session()),
          options_(options),
          progress_(progress),
          files_(tree, options, progress),
          listings_(max_directories),
          small_(small_files_limit),
          large_(1) {}

    Task<Result<>> run(std::vector<std::string> locals, std::string destination);

private:
    using Directory = std::shared_ptr<RemoteDirectory>;  // shared by what is put into it
    struct FoundDirectory {
        Directory into;
        LocalFile file;
        bool named;
    };
    struct SentDirectory {
        NodeId node;
        std::string path;
        struct stat status;
        Xattrs xattrs;
    };

    // `named` by the person, and so sent in any case.
    Task<void> put(Directory into, LocalFile file, bool named);
    Task<void> put_directories();
    Task<void> put_directory(FoundDirectory found);
    Task<bool> is_destination(int fd, struct stat status);
    Task<Result<client::RemoteFile>> make_or_open(Directory into, LocalFile local);
    Task<Result<Directory>> enter(Directory into, LocalFile file, bool named);
    Result<Directory> make_known(NodeId node, Result<std::vector<client::RemoteEntry>> listed);
    Task<void> put_small(NodeId into, LocalFile file);
    Task<void> put_large(Directory into, LocalFile file);
    void ended(const LocalFile& file, const Result<>& sent);
    void tell_of_copy(const LocalFile& file) { progress_.tell("send: " + log::printable(file.relative)); }
    Task<void> finish_directories();
    Task<void> finish_directory(SentDirectory directory);
    bool is_unchanged(const RemoteDirectory& into, const LocalFile& file) const;
    void failed(const std::string& path, const Error& error);

    RemoteTree& tree_;
    client::Session& session_;
    const TransferOptions& options_;
    Progress& progress_;
    FileSender files_;
    Parallel listings_;
    Parallel small_;
    Parallel large_;                    // one, so that an interruption costs no more than its window
    std::vector<FoundDirectory> next_;  // directories not yet begun with
    std::vector<SentDirectory> directories_;
    Destinations<NodeId> destinations_;  // what the directories that the person named become
    Result<> outcome_;                   // the first error
};

void Sender::failed(const std::string& path, const Error& error) {
    const std::string text = fmt::format("{}: {}", log::printable(path), log::printable(error.to_string()));
    if (outcome_)
        outcome_ = make_error(error.status, text);
    else
        progress_.say(text);
}

void Sender::ended(const LocalFile& file, const Result<>& sent) {
    if (!sent)
        return failed(file.path, sent.error());
    tell_of_copy(file);
    progress_.file_done();
}

bool Sender::is_unchanged(const RemoteDirectory& into, const LocalFile& file) const {
    const auto found = into.entries.find(file.name);
    if (options_.force || found == into.entries.end())
        return false;
    const wire::Attributes& there = found->second.attributes;
    return S_ISREG(there.mode) && there.size == static_cast<std::uint64_t>(file.status.st_size) &&
           there.modification == to_wire(file.status.st_mtim);
}

Task<void> Sender::put(Directory into, LocalFile file, bool named) {
    const mode_t type = file.status.st_mode & S_IFMT;
    if (options_.filter.excludes(file.relative, type == S_IFDIR))
        co_return;
    if (type == S_IFDIR) {
        next_.push_back({std::move(into), std::move(file), named});
        co_return;
    }
    if (type == S_IFLNK && progress_.is_dry_run())
        co_return tell_of_copy(file);
    if (type == S_IFLNK)
        co_return ended(file, co_await files_.send_symlink(into->node, file));
    if (type != S_IFREG && named)
        co_return failed(file.path, make_error(Status::invalid, "is no regular file, directory or link"));
    if (type != S_IFREG) {
        progress_.say(log::printable(file.path) + ": is no regular file, directory or link: left out");
        co_return;
    }
    const auto size = static_cast<std::uint64_t>(file.status.st_size);
    progress_.expect(size);
    if (!named && is_unchanged(*into, file))
        co_return progress_.file_unchanged(size);
    if (progress_.is_dry_run())
        co_return tell_of_copy(file);
    if (size > small_file_bytes)
        co_await large_.add(1, put_large(std::move(into), std::move(file)));
    else
        co_await small_.add(size + small_file_weight, put_small(into->node, std::move(file)));
}

Task<void> Sender::put_large(Directory into, LocalFile file) {
    const Result<> sent = co_await files_.send_large(into.get(), file);
    ended(file, sent);
}

Task<void> Sender::put_small(NodeId into, LocalFile file) {
    const Result<> sent = co_await files_.send_small(into, file);
    ended(file, sent);
}

Result<Sender::Directory> Sender::make_known(NodeId node, Result<std::vector<client::RemoteEntry>> listed) {
    if (!listed)
        return on_server(listed.error());
    const Directory directory(new RemoteDirectory{node, {}}, [this](const RemoteDirectory* object) {
        for (const auto& [name, entry] : object->entries)
            tree_.forget(entry.node);
        delete object;
    });
    for (client::RemoteEntry& entry : *listed) {
        if (entry.problem == Status::ok)
            directory->entries.emplace(std::move(entry.name), entry.file);
    }
    return directory;
}

// No node: a dry run, which makes none.
Task<Result<client::RemoteFile>> Sender::make_or_open(Directory into, LocalFile local) {
    using Opened = Result<client::RemoteFile>;
    const auto found = into->entries.find(local.name);
    if (found == into->entries.end()) {
        client::RemoteFile directory;
        if (!progress_.is_dry_run()) {
            const wire::Mkdir mkdir{.parent = into->node,
                                    .name = local.name,
                                    .node = {session_.new_node_id(), false},
                                    .mode = private_directory};
            const auto made = co_await session_.call(mkdir, data_lane);
            if (!made)
                co_return Opened(on_server(made.error()));
            directory = {made->body.node, made->body.attributes};
        }
        progress_.tell("make directory on the server: " + log::printable(local.relative));
        co_return Opened(directory);
    }
    const client::RemoteFile file = found->second;
    if (!S_ISDIR(file.attributes.mode))
        co_return Opened(make_error(Status::not_directory, "what is in its place on the server is no directory"));
    // It is this directory's own from now on.
    into->entries.erase(found);
    if ((file.attributes.mode & private_directory) != private_directory && !progress_.is_dry_run()) {
        // Its owner may not write to it as it is. It gets its mode at the end; whether others may change it shows then.
        const wire::Setattr opening{
            .node = file.node, .which = wire::set_mode, .mode = (file.attributes.mode & 07777U) | private_directory};
        co_await session_.call(opening, data_lane);
    }
    co_return Opened(file);
}

Task<Result<Sender::Directory>> Sender::enter(Directory into, LocalFile file, bool named) {
    const auto opened = co_await make_or_open(into, file);
    if (!opened)
        co_return Result<Directory>(opened.error());
    if (!opened->node)
        co_return Result<Directory>(std::make_shared<RemoteDirectory>());
    if (named)
        destinations_.add(numbers_of(opened->attributes, session_), opened->node);
    co_return make_known(opened->node, co_await tree_.list(opened->node));
}

Task<bool> Sender::is_destination(int fd, struct stat status) {
    for (const NodeId destination : destinations_.like(numbers_of(status))) {
        bool same = false;
        if (progress_.is_dry_run())
            same = co_await looks_the_same_now(session_, destination, status);
        else
            same = co_await is_same_made_there(tree_, destination, fd);
        if (same)
            co_return true;
    }
    co_return false;
}

// Those found last come first: they hold the fewest others in memory.
Task<void> Sender::put_directories() {
    while (!next_.empty()) {
        while (!next_.empty()) {
            FoundDirectory found = std::move(next_.back());
            next_.pop_back();
            co_await listings_.add(1, put_directory(std::move(found)));
        }
        co_await listings_.idle();
    }
}

Task<void> Sender::put_directory(FoundDirectory found) {
    LocalFile& file = found.file;
    auto fd = std::make_shared<const UniqueFd>(::openat(file.at(), file.name_there(), file.open_flags() | O_DIRECTORY));
    struct stat status {};
    if (!*fd || ::fstat(fd->get(), &status) != 0)
        co_return failed(file.path, errno_error());
    if (status.st_dev != file.status.st_dev || status.st_ino != file.status.st_ino)
        co_return failed(file.path, make_error(Status::try_again, "changed while it was being sent"));
    const auto names = names_in(fmt::format("/proc/self/fd/{}", fd->get()));
    if (!names)
        co_return failed(file.path, names.error());
    file.directory.reset();
    if (!found.named) {
        const bool into_this = co_await is_destination(fd->get(), status);
        if (into_this)
            co_return failed(file.path, into_itself());
    }
    auto entered = co_await enter(found.into, file, found.named);
    if (!entered)
        co_return failed(file.path, entered.error());
    if (!progress_.is_dry_run())
        directories_.push_back(
            {(*entered)->node, file.path, file.status, options_.archive ? local_xattrs(fd->get()) : Xattrs()});
    if (found.named) {
        const bool onto_this = co_await is_destination(fd->get(), status);
        if (onto_this)
            co_return failed(file.path, into_itself());
    }
    for (const std::string& name : *names) {
        if (is_partial(name))
            continue;
        LocalFile child{.path = file.path + "/" + name,
                        .name = name,
                        .relative = file.relative + "/" + name,
                        .status = {},
                        .directory = fd};
        if (::fstatat(child.at(), child.name_there(), &child.status, AT_SYMLINK_NOFOLLOW) != 0)
            failed(child.path, errno_error());
        else
            co_await put(*entered, std::move(child), false);
    }
}

// Times and modes of directories come last, those of the deepest first: making files in one changes its time, and
// needs the permission.
Task<void> Sender::finish_directories() {
    const auto depth = [](const SentDirectory& directory) { return std::ranges::count(directory.path, '/'); };
    std::ranges::stable_sort(directories_, std::ranges::greater(), depth);
    for (std::size_t i = 0; i < directories_.size(); ++i) {
        if (i > 0 && depth(directories_[i]) != depth(directories_[i - 1]))
            co_await listings_.idle();
        co_await listings_.add(1, finish_directory(directories_[i]));
    }
    co_await listings_.idle();
}

Task<void> Sender::finish_directory(SentDirectory directory) {
    const Result<> set =
        co_await files_.finish_directory(directory.node, std::move(directory.xattrs), directory.status);
    if (!set)
        failed(directory.path, set.error());
    tree_.forget(directory.node);
}

// The name that a local path gives its copy.
std::string base_name(const std::string& path) {
    std::error_code error;
    const std::filesystem::path absolute = std::filesystem::absolute(path, error).lexically_normal();
    return absolute.has_filename() ? absolute.filename() : absolute.parent_path().filename();
}

Task<Result<>> Sender::run(std::vector<std::string> locals, std::string destination) {
    NodeId node;
    std::string name;  // of the one file, where the destination is no directory
    const auto existing = co_await tree_.find(destination, client::Symlinks::follow);
    if (existing && S_ISDIR(existing->attributes.mode)) {
        node = existing->node;
    } else if (!existing && existing.status() != Status::no_entry) {
        co_return Result<>(existing.error());
    } else if (locals.size() > 1 || destination.ends_with('/')) {
        co_return Result<>(make_error(Status::not_directory,
                                      log::printable(destination) + ": there is no such directory on the server"));
    } else {
        auto place = co_await tree_.find_place(destination);
        if (!place)
            co_return Result<>(place.error());
        node = place->directory;
        name = place->name;
        if (existing)
            tree_.forget(existing->node);
    }
    auto target = make_known(node, co_await tree_.list(node));
    if (!target)
        co_return Result<>(target.error());
    for (const std::string& local : locals) {
        const std::string own_name = base_name(local);
        LocalFile file{.path = local, .name = name.empty() ? own_name : name, .relative = own_name};
        // What a person names is meant itself, also through a link.
        if (::stat(local.c_str(), &file.status) != 0)
            failed(local, errno_error());
        else if (file.name.empty())
            failed(local, make_error(Status::bad_usage, "has no name to be sent under"));
        else
            co_await put(*target, std::move(file), true);
    }
    co_await put_directories();
    co_await small_.idle();
    co_await large_.idle();
    co_await finish_directories();
    tree_.forget(node);
    co_return outcome_;
}

Task<Result<>> send(RemoteTree& tree, const TransferOptions& options, std::vector<std::string> locals,
                    std::string destination, Activity& activity) {
    if (!options.quiet)
        say_who_else_is_there(tree.session());
    Progress progress(Clock::system(), progress_form(options), "sent", activity);
    const Result<> sent = co_await in_one_session(tree.session(), progress, [&]() -> Task<Result<>> {
        Sender one(tree, options, progress);
        co_return co_await one.run(locals, destination);
    });
    progress.finish();
    co_return activity.end(sent);
}

// The place that a stream goes to, which has no name of its own.
Task<Result<client::RemotePlace>> find_place_of_file(RemoteTree& tree, std::string path) {
    using Place = Result<client::RemotePlace>;
    const auto existing = co_await tree.find(path, client::Symlinks::follow);
    if (existing)
        tree.forget(existing->node);
    const bool is_directory = existing && S_ISDIR(existing->attributes.mode);
    if (is_directory || path.ends_with('/'))
        co_return Place(make_error(is_directory ? Status::is_directory : Status::not_directory,
                                   log::printable(path) + ": standard input needs the name of a file to go to"));
    co_return co_await tree.find_place(path);
}

// Not in one session: what has been read does not come again.
Task<Result<>> send_input(RemoteTree& tree, transport::Reactor& reactor, const TransferOptions& options,
                          std::string path, Activity& activity) {
    if (!options.quiet)
        say_who_else_is_there(tree.session());
    const auto place = co_await find_place_of_file(tree, path);
    if (!place)
        co_return activity.end(place.error());
    Progress progress(Clock::system(), progress_form(options), "sent", activity);
    Result<> sent;
    if (!activity.is_dry_run()) {
        FileSender sender(tree, options, progress);
        StandardInput input(reactor);
        const auto next = [&input](std::size_t bytes) { return input.read(bytes); };
        sent = co_await sender.send_stream(place->directory, place->name, next);
    }
    if (sent) {
        progress.tell("send: " + std::string(input_name));
        progress.file_done();
    } else {
        sent = make_error(sent.status(), fmt::format("standard input: {}", sent.error().to_string()));
    }
    tree.forget(place->directory);
    progress.finish();
    co_return activity.end(sent);
}

}  // namespace

std::function<ExitStatus()> prepare_put(CLI::App& app) {
    const auto options = std::make_shared<TransferOptions>();  // shared by the parser and the action
    add_transfer_options(app, *options);
    app.footer("FILES are local files or directories, or - for standard input, and last the SOURCE they go to.");
    return [options] {
        if (const Result<> completed = complete(*options); !completed)
            return complain(completed.error());
        auto activity = Activity::open(options->activity);
        if (!activity)
            return complain(activity.error());
        std::vector<std::string> locals = options->files;
        const std::string destination = locals.back();
        locals.pop_back();
        const bool from_input = std::ranges::find(locals, input_name) != locals.end();
        if (from_input && locals.size() > 1)
            return complain(make_error(Status::bad_usage, "standard input (-) goes alone; a file of that name is ./-"));
        if (from_input)
            return with_files(options->connect, {&destination, 1},
                              [&](RemoteTree& tree, transport::Reactor& reactor, std::vector<std::string> paths) {
                                  return send_input(tree, reactor, *options, paths.front(), *activity);
                              });
        return with_files(options->connect, {&destination, 1},
                          [options, locals, &activity](RemoteTree& tree, std::vector<std::string> paths) {
                              return send(tree, *options, locals, paths.front(), *activity);
                          });
    };
}

}  // namespace remofile::cli
