// SPDX-License-Identifier: MIT
// remofile cp: copies that a server makes itself, of files and trees; no content travels.
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <vector>

#include "base/log.hpp"
#include "cli/activity.hpp"
#include "cli/connection.hpp"
#include "cli/each.hpp"
#include "cli/expand.hpp"
#include "cli/local_files.hpp"
#include "cli/transfer.hpp"

namespace remofile::cli {
namespace {

using client::encoded;
using client::RemoteFile;
using client::RemoteTree;

// Of one request: a disk copies as much well before the request is given up.
constexpr std::uint64_t copied_at_once = 64U << 20;

struct Options {
    client::ConnectOptions connect;
    std::vector<std::string> files;
    bool recursive = false;
    bool preserve = false;
    ActivityOptions activity;
};

class Copier {
public:
    Copier(RemoteTree& tree, const Options& options, Activity& activity)
        : tree_(tree), session_(tree.session()), options_(options), activity_(activity) {}

    // Below `into`, or as its name.
    Task<Result<>> run(std::vector<std::string> sources, std::string destination);

private:
    struct Place {
        NodeId directory;
        std::string name;
        std::string path;  // in messages
    };

    Task<Result<>> copy_named(std::string source, Place to);
    Task<Result<>> copy(RemoteFile from, std::string shown, Place to);
    Task<Result<>> copy_file(RemoteFile from, Place to);
    Task<Result<>> copy_content(HandleId from, HandleId to);
    Task<Result<>> copy_symlink(RemoteFile from, Place to);
    Task<Result<>> copy_directory(RemoteFile from, std::string shown, Place to);
    Task<Result<RemoteFile>> make_directory(Place to, std::uint32_t mode);
    Task<Result<>> copy_entry(client::RemoteEntry entry, std::string shown, Place to);
    wire::Setattr attributes_of(const wire::Attributes& from, NodeId node) const;
    void tell(const std::string& shown, const Place& to) {
        activity_.tell(fmt::format("copy on the server: {} to {}", log::printable(shown), log::printable(to.path)));
    }

    RemoteTree& tree_;
    client::Session& session_;
    const Options& options_;
    Activity& activity_;
    wire::FileIdentity root_ = {};  // of the directory that a tree becomes
    const std::uint32_t umask_ = current_umask();
};

// Times and all of the mode only where they are to be kept.
wire::Setattr Copier::attributes_of(const wire::Attributes& from, NodeId node) const {
    wire::Setattr setattr{.node = node, .which = wire::set_mode, .mode = from.mode & 0777U & ~umask_};
    if (options_.preserve) {
        setattr.which |= wire::set_access | wire::set_modification;
        setattr.mode = from.mode & 0777U;
        setattr.access = from.access;
        setattr.modification = from.modification;
    }
    return setattr;
}

Task<Result<>> Copier::copy_content(HandleId from, HandleId to) {
    for (std::uint64_t offset = 0;;) {
        const wire::CopyRange range{from, offset, to, offset, copied_at_once};
        const auto copied = co_await session_.call(range);
        if (!copied)
            co_return Result<>(copied.error());
        if (copied->body.size == 0)
            co_return Result<>();
        offset += copied->body.size;
    }
}

// Under another name until it is complete, as put does.
Task<Result<>> Copier::copy_file(RemoteFile from, Place to) {
    const HandleId source = session_.new_handle_id();
    const wire::Open open{from.node, source, wire::open_read};
    const auto opened = co_await session_.call(open);
    if (!opened)
        co_return Result<>(opened.error());
    const std::string partial = unique_partial_name(to.name);
    const HandleId target = session_.new_handle_id();
    const wire::Create create{.parent = to.directory,
                              .name = partial,
                              .node = {session_.new_node_id(), false},
                              .handle = target,
                              .flags = wire::open_write | wire::open_exclusive,
                              .mode = 0600};
    const auto created = co_await session_.call(create);
    Result<> done;
    if (created) {
        done = co_await copy_content(source, target);
        if (done) {
            std::vector<client::EncodedRequest> requests;
            requests.push_back(encoded(attributes_of(from.attributes, created->body.entry.node), true));
            requests.push_back(encoded(wire::Rename{to.directory, partial, to.directory, to.name, 0}));
            const auto replies = co_await session_.call_batch(std::move(requests));
            const auto failed = std::ranges::find_if_not(
                replies, [](Status status) { return status == Status::ok; }, &client::EncodedReply::status);
            if (failed != replies.end())
                done = failed->status;
        }
        if (!done) {
            const wire::Unlink unlink{to.directory, partial};
            co_await session_.call(unlink);
        }
        session_.tell(wire::Release{target});
        tree_.forget(created->body.entry.node);
    } else {
        done = created.error();
    }
    session_.tell(wire::Release{source});
    co_return done;
}

Task<Result<>> Copier::copy_symlink(RemoteFile from, Place to) {
    const auto link = co_await session_.call(wire::Readlink{from.node});
    if (!link)
        co_return Result<>(link.error());
    const std::string partial = unique_partial_name(to.name);
    std::vector<client::EncodedRequest> requests;
    requests.push_back(
        encoded(wire::Symlink{to.directory, partial, {session_.new_node_id(), false}, link->body.target}, true));
    requests.push_back(encoded(wire::Rename{to.directory, partial, to.directory, to.name, 0}));
    const auto replies = co_await session_.call_batch(std::move(requests));
    const auto made = client::decoded<wire::Symlink>(replies[0]);
    if (!made)
        co_return Result<>(made.error());
    tree_.forget(made->node);
    if (replies[1].status == Status::ok)
        co_return Result<>();
    const wire::Unlink unlink{to.directory, partial};
    co_await session_.call(unlink);
    co_return Result<>(replies[1].status);
}

// Or takes the one that is there; no node in a dry run in which none is.
Task<Result<RemoteFile>> Copier::make_directory(Place to, std::uint32_t mode) {
    using Made = Result<RemoteFile>;
    const auto existing = co_await tree_.find_entry(to.directory, to.name);
    if (existing && S_ISDIR(existing->attributes.mode))
        co_return existing;
    if (existing) {
        tree_.forget(existing->node);
        co_return Made(
            make_error(Status::not_directory, log::printable(to.path) + ": there is something that is no directory"));
    }
    if (activity_.is_dry_run())
        co_return Made(RemoteFile());
    const wire::Mkdir mkdir{.parent = to.directory,
                            .name = to.name,
                            .node = {session_.new_node_id(), false},
                            .mode = (mode & 0777U) | private_directory,
                            .umask = umask_};
    const auto made = co_await session_.call(mkdir);
    co_return made ? Made(RemoteFile{made->body.node, made->body.attributes}) : Made(at(to.path, made.error()));
}

Task<Result<>> Copier::copy_entry(client::RemoteEntry entry, std::string shown, Place to) {
    if (entry.problem != Status::ok)
        co_return Result<>(at(shown, make_error(entry.problem)));
    co_return co_await copy(entry.file, std::move(shown), std::move(to));
}

Task<Result<>> Copier::copy_directory(RemoteFile from, std::string shown, Place to) {
    // Before the new one is made, which may be among them.
    const auto entries = co_await tree_.list(from.node);
    if (!entries)
        co_return Result<>(at(shown, entries.error()));
    const auto directory = co_await make_directory(to, from.attributes.mode);
    Result<> outcome = directory ? Result<>() : Result<>(directory.error());
    if (directory) {
        if (root_ == wire::FileIdentity())
            root_ = directory->attributes.identity;
        tell(shown, to);
        for (const client::RemoteEntry& entry : *entries) {
            if (is_partial(entry.name))
                continue;
            Place inside{directory->node, entry.name, to.path + "/" + entry.name};
            const Result<> copied = co_await copy_entry(entry, shown + "/" + entry.name, std::move(inside));
            if (!copied && outcome)
                outcome = copied;
            else if (!copied)
                complain(copied.error());
        }
        if (directory->node) {
            const wire::Setattr setattr = attributes_of(from.attributes, directory->node);
            const auto set = co_await session_.call(setattr);
            if (!set && outcome)
                outcome = at(to.path, set.error());
        }
        tree_.forget(directory->node);
    }
    tree_.forget(*entries);
    co_return outcome;
}

Task<Result<>> Copier::copy(RemoteFile from, std::string shown, Place to) {
    const std::uint32_t mode = from.attributes.mode;
    if (S_ISDIR(mode) && root_ != wire::FileIdentity() && from.attributes.identity == root_)
        co_return Result<>(make_error(Status::invalid, log::printable(shown) + ": " + into_itself().message));
    if (S_ISDIR(mode))
        co_return co_await copy_directory(from, std::move(shown), std::move(to));
    if (!S_ISREG(mode) && !S_ISLNK(mode))
        co_return Result<>(
            make_error(Status::invalid, log::printable(shown) + ": is no regular file, directory or link: left out"));
    Result<> copied;
    if (!activity_.is_dry_run() && S_ISREG(mode))
        copied = co_await copy_file(from, to);
    else if (!activity_.is_dry_run())
        copied = co_await copy_symlink(from, to);
    if (!copied)
        co_return Result<>(at(shown + " to " + to.path, copied.error()));
    tell(shown, to);
    co_return Result<>();
}

Task<Result<>> Copier::copy_named(std::string source, Place to) {
    const auto from = co_await tree_.find(source, client::Symlinks::follow);
    if (!from)
        co_return Result<>(from.error());
    Result<> copied;
    if (S_ISDIR(from->attributes.mode) && !options_.recursive) {
        copied = make_error(Status::is_directory,
                            log::printable(source) + ": is a directory (pass -r to copy it with all that it holds)");
    } else {
        // A file copied onto itself would be replaced by its copy.
        const auto there = co_await tree_.find_entry(to.directory, to.name);
        if (there && there->attributes.identity == from->attributes.identity)
            copied = make_error(Status::invalid,
                                fmt::format("{} and {} are the same", log::printable(source), log::printable(to.path)));
        if (there)
            tree_.forget(there->node);
        root_ = {};
        if (copied)
            copied = co_await copy(*from, source, std::move(to));
    }
    tree_.forget(from->node);
    co_return copied;
}

Task<Result<>> Copier::run(std::vector<std::string> sources, std::string destination) {
    const auto existing = co_await tree_.find(destination, client::Symlinks::follow);
    if (existing && S_ISDIR(existing->attributes.mode)) {
        const std::string shown = destination.ends_with('/') ? destination : destination + "/";
        const Result<> copied =
            co_await each(tree_, std::move(sources), [&](RemoteTree&, std::string source) -> Task<Result<>> {
                const auto components = client::split_path(source);
                if (!components || components->empty())
                    co_return Result<>(make_error(Status::bad_usage, "the root has no name to be copied under"));
                Place to{existing->node, components->back(), shown + components->back()};
                co_return co_await copy_named(source, std::move(to));
            });
        tree_.forget(existing->node);
        co_return copied;
    }
    if (existing)
        tree_.forget(existing->node);
    if (sources.size() > 1 || destination.ends_with('/'))
        co_return Result<>(
            make_error(Status::not_directory, log::printable(destination) + ": there is no such directory"));
    const auto place = co_await tree_.find_place(destination);
    if (!place)
        co_return Result<>(place.error());
    Place to{place->directory, place->name, destination};
    const Result<> copied = co_await copy_named(sources.front(), std::move(to));
    tree_.forget(place->directory);
    co_return copied;
}

Task<Result<>> copy_all(RemoteTree& tree, const Options& options, std::vector<std::string> paths, Activity& activity) {
    Copier copier(tree, options, activity);
    const std::string destination = paths.back();
    paths.pop_back();
    auto sources = co_await expand_all(tree, std::move(paths));
    Result<> copied = sources ? Result<>() : Result<>(sources.error());
    if (copied)
        copied = co_await copier.run(std::move(*sources), destination);
    co_return activity.end(copied);
}

}  // namespace

std::function<ExitStatus()> prepare_cp(CLI::App& app) {
    const auto options = std::make_shared<Options>();  // shared by the parser and the action
    add_key_options(app, options->connect);
    app.add_option("SOURCE", options->files, "What to copy, and last where to, all on one server")
        ->required()
        ->expected(2, -1);
    app.add_flag("-r,--recursive", options->recursive, "Copy directories with all that they hold");
    app.add_flag("-p,--preserve", options->preserve, "Keep modes, whatever the umask, and times");
    add_activity_options(app, options->activity);
    return [options] {
        auto activity = Activity::open(options->activity);
        if (!activity)
            return complain(activity.error());
        return with_files(options->connect, options->files,
                          [options, &activity](RemoteTree& tree, std::vector<std::string> paths) {
                              return copy_all(tree, *options, std::move(paths), *activity);
                          });
    };
}

}  // namespace remofile::cli
