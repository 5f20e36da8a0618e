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
#include "cli/sender.hpp"
#include "cli/transfer.hpp"

namespace remofile::cli {
namespace {

using client::RemoteTree;

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
          small_(small_files_limit) {}

    Task<Result<>> run(std::vector<std::string> locals, std::string destination);

private:
    struct SentDirectory {
        NodeId node;
        std::string path;
        struct stat status;
    };

    // `named` by the person, and so sent in any case.
    Task<void> put(RemoteDirectory* into, LocalFile file, bool named);
    Task<void> put_directory(RemoteDirectory* into, LocalFile file);
    Task<Result<RemoteDirectory>> enter(RemoteDirectory* into, const LocalFile& file);
    Task<void> put_small(NodeId into, LocalFile file);
    void ended(const std::string& path, const Result<>& sent);
    Task<void> finish_directories();
    bool is_unchanged(const RemoteDirectory& into, const LocalFile& file) const;
    void failed(const std::string& path, const Error& error);

    RemoteTree& tree_;
    client::Session& session_;
    const TransferOptions& options_;
    Progress& progress_;
    FileSender files_;
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

void Sender::ended(const std::string& path, const Result<>& sent) {
    if (sent)
        progress_.file_done();
    else
        failed(path, sent.error());
}

bool Sender::is_unchanged(const RemoteDirectory& into, const LocalFile& file) const {
    const auto found = into.entries.find(file.name);
    if (options_.force || found == into.entries.end())
        return false;
    const wire::Attributes& there = found->second.attributes;
    return S_ISREG(there.mode) && there.size == static_cast<std::uint64_t>(file.status.st_size) &&
           there.modification == to_wire(file.status.st_mtim);
}

Task<void> Sender::put(RemoteDirectory* into, LocalFile file, bool named) {
    const mode_t type = file.status.st_mode & S_IFMT;
    if (type == S_IFDIR)
        co_return co_await put_directory(into, std::move(file));
    if (type == S_IFLNK)
        co_return ended(file.path, co_await files_.send_symlink(into->node, file));
    if (type != S_IFREG) {
        progress_.say(log::printable(file.path) + ": is no regular file, directory or link: left out");
        co_return;
    }
    const auto size = static_cast<std::uint64_t>(file.status.st_size);
    progress_.expect(size);
    if (!named && is_unchanged(*into, file))
        co_return progress_.file_unchanged(size);
    if (size > small_file_bytes)
        co_return ended(file.path, co_await files_.send_large(into, file));
    co_await small_.add(size + small_file_weight, put_small(into->node, std::move(file)));
}

Task<void> Sender::put_small(NodeId into, LocalFile file) {
    ended(file.path, co_await files_.send_small(into, file));
}

Task<Result<RemoteDirectory>> Sender::enter(RemoteDirectory* into, const LocalFile& file) {
    using Entered = Result<RemoteDirectory>;
    const auto found = into->entries.find(file.name);
    if (found == into->entries.end()) {
        const wire::Mkdir mkdir{
            .parent = into->node, .name = file.name, .node = {session_.new_node_id(), false}, .mode = 0700};
        const auto made = co_await session_.call(mkdir, data_lane);
        if (!made)
            co_return Entered(made.error());
        co_return Entered(RemoteDirectory{made->body.node, {}});
    }
    if (!S_ISDIR(found->second.attributes.mode))
        co_return Entered(make_error(Status::not_directory, "what is there is no directory"));
    RemoteDirectory target{found->second.node, {}};
    auto listed = co_await tree_.list(target.node);
    if (!listed)
        co_return Entered(listed.error());
    for (client::RemoteEntry& entry : *listed)
        target.entries.emplace(std::move(entry.name), entry.file);
    // The node is this directory's from now on.
    into->entries.erase(found);
    co_return Entered(std::move(target));
}

Task<void> Sender::put_directory(RemoteDirectory* into, LocalFile file) {
    const auto names = names_in(file.path);
    if (!names)
        co_return failed(file.path, names.error());
    auto entered = co_await enter(into, file);
    if (!entered)
        co_return failed(file.path, entered.error());
    directories_.push_back({entered->node, file.path, file.status});
    for (const std::string& name : *names) {
        if (is_partial(name))
            continue;
        LocalFile child{.path = file.path + "/" + name, .name = name};
        if (::lstat(child.path.c_str(), &child.status) != 0)
            failed(child.path, errno_error());
        else
            co_await put(&*entered, std::move(child), false);
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
        const auto set = co_await session_.call(files_.mode_and_times(directory.status, directory.node, {}), data_lane);
        if (!set)
            failed(directory.path, set.error());
        tree_.forget(directory.node);
    }
}

// The name that a local path gives its copy.
std::string base_name(const std::string& path) {
    std::error_code error;
    const std::filesystem::path absolute = std::filesystem::absolute(path, error).lexically_normal();
    return absolute.has_filename() ? absolute.filename() : absolute.parent_path().filename();
}

Task<Result<>> Sender::run(std::vector<std::string> locals, std::string destination) {
    RemoteDirectory target;
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
        LocalFile file{.path = local, .name = name.empty() ? base_name(local) : name};
        // What a person names is meant itself, also through a link.
        if (::stat(local.c_str(), &file.status) != 0)
            failed(local, errno_error());
        else if (file.name.empty())
            failed(local, make_error(Status::bad_usage, "has no name to be sent under"));
        else
            co_await put(&target, std::move(file), true);
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
    const Result<> sent = co_await in_one_session(tree.session(), progress, [&]() -> Task<Result<>> {
        Sender one(tree, options, progress);
        co_return co_await one.run(locals, destination);
    });
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
