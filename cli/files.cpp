// SPDX-License-Identifier: MIT
// remofile touch, mkdir, rm and mv: what changes names and makes empty files.
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <cstdio>
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

using client::RemoteEntry;
using client::RemoteTree;

struct Options {
    client::ConnectOptions connect;
    std::vector<std::string> files;
    bool parents = false;
    bool recursive = false;
    bool force = false;
    bool no_clobber = false;
    bool partial = false;
    ActivityOptions activity;
};

std::string below(const std::string& directory, const std::string& name) {
    return directory + (directory.ends_with('/') ? "" : "/") + name;
}

// ---------------------------------------------------------------- touch and mkdir

Task<Result<>> touch(RemoteTree& tree, std::string path) {
    const auto place = co_await tree.find_place(path);
    if (!place)
        co_return Result<>(place.error());
    client::Session& session = tree.session();
    const HandleId handle = session.new_handle_id();
    const wire::Create create{.parent = place->directory,
                              .name = place->name,
                              .node = {session.new_node_id(), false},
                              .handle = handle,
                              .flags = wire::open_write | wire::open_exclusive,
                              .mode = 0666,
                              .umask = current_umask()};
    const auto created = co_await session.call(create);
    tree.forget(place->directory);
    if (created) {
        session.tell(wire::Release{handle});
        tree.forget(created->body.entry.node);
        co_return Result<>();
    }
    if (created.status() != Status::exists)
        co_return Result<>(created.error());
    const auto file = co_await tree.find(path, client::Symlinks::follow);
    if (!file)
        co_return Result<>(file.error());
    const wire::Setattr now{.node = file->node, .which = wire::set_access_now | wire::set_modification_now};
    const auto touched = co_await session.call(now);
    tree.forget(file->node);
    co_return Result<>(touched ? Result<>() : Result<>(touched.error()));
}

Task<Result<>> make_directory(RemoteTree& tree, std::string path, bool accept_existing) {
    const auto place = co_await tree.find_place(path);
    if (!place)
        co_return Result<>(place.error());
    const wire::Mkdir mkdir{.parent = place->directory,
                            .name = place->name,
                            .node = {tree.session().new_node_id(), false},
                            .mode = 0777,
                            .umask = current_umask()};
    const auto made = co_await tree.session().call(mkdir);
    tree.forget(place->directory);
    if (made) {
        tree.forget(made->body.node);
        co_return Result<>();
    }
    if (made.status() == Status::exists && accept_existing) {
        const auto there = co_await tree.find(path, client::Symlinks::follow);
        if (!there)
            co_return Result<>(there.error());
        tree.forget(there->node);
        if (S_ISDIR(there->attributes.mode))
            co_return Result<>();
    }
    co_return Result<>(made.error());
}

Task<Result<>> make_directories(RemoteTree& tree, std::string path) {
    const auto components = client::split_path(path);
    if (!components)
        co_return Result<>(components.error());
    std::string so_far;
    for (const std::string& component : *components) {
        so_far += "/" + component;
        const Result<> made = co_await make_directory(tree, so_far, true);
        if (!made)
            co_return Result<>(at(so_far, made.error()));
    }
    co_return Result<>();
}

// ---------------------------------------------------------------- rm

// Removes files, or tells what it would remove.
class Remover {
public:
    Remover(RemoteTree& tree, const Options& options, Activity& activity)
        : tree_(tree), options_(options), activity_(activity) {}

    Task<Result<>> remove(std::string path);
    // What interrupted transfers have left in a directory.
    Task<Result<>> remove_partials(std::string path);

private:
    Task<Result<>> remove_at(client::RemotePlace place, std::string path);
    Task<Result<>> remove_directory(NodeId parent, std::string name, NodeId node, std::string path);
    Task<Result<>> empty_directory(NodeId node, std::string path);
    Task<std::vector<Status>> unlink(NodeId directory, std::vector<std::string> names, std::string path);

    RemoteTree& tree_;
    const Options& options_;
    Activity& activity_;
};

// Files of one directory, in one message.
Task<std::vector<Status>> Remover::unlink(NodeId directory, std::vector<std::string> names, std::string path) {
    std::vector<Status> outcomes(names.size(), Status::ok);
    if (!activity_.is_dry_run()) {
        std::vector<client::EncodedRequest> unlinks;
        for (const std::string& name : names)
            unlinks.push_back(client::encoded(wire::Unlink{directory, name}));
        const auto replies = co_await tree_.session().call_batch(std::move(unlinks));
        std::ranges::transform(replies, outcomes.begin(), &client::EncodedReply::status);
    }
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (outcomes[i] == Status::ok)
            activity_.tell("delete on the server: " + log::printable(below(path, names[i])));
    }
    co_return outcomes;
}

// Removes what a directory holds: files many at a time.
Task<Result<>> Remover::empty_directory(NodeId node, std::string path) {
    const auto entries = co_await tree_.list(node);
    if (!entries)
        co_return Result<>(at(path, entries.error()));
    Result<> outcome;
    std::vector<std::string> names;
    for (std::size_t i = 0; i <= entries->size(); ++i) {
        if (names.size() == wire::max_records || (i == entries->size() && !names.empty())) {
            const std::vector<Status> outcomes = co_await unlink(node, names, path);
            for (std::size_t k = 0; k < outcomes.size(); ++k) {
                const Status status = outcomes[k];
                if (status != Status::ok && status != Status::no_entry && outcome)
                    outcome = at(below(path, names[k]), make_error(status));
            }
            names.clear();
        }
        if (i == entries->size())
            break;
        const RemoteEntry& entry = (*entries)[i];
        if (S_ISDIR(entry.file.attributes.mode)) {
            const Result<> removed =
                co_await remove_directory(node, entry.name, entry.file.node, below(path, entry.name));
            if (!removed && outcome)
                outcome = removed;
        } else {
            names.push_back(entry.name);
        }
    }
    tree_.forget(*entries);
    co_return outcome;
}

Task<Result<>> Remover::remove_directory(NodeId parent, std::string name, NodeId node, std::string path) {
    const Result<> emptied = co_await empty_directory(node, path);
    if (!emptied)
        co_return emptied;
    if (!activity_.is_dry_run()) {
        const wire::Rmdir rmdir{parent, std::move(name)};
        const auto removed = co_await tree_.session().call(rmdir);
        if (!removed)
            co_return Result<>(at(path, removed.error()));
    }
    activity_.tell("delete directory on the server: " + log::printable(path));
    co_return Result<>();
}

Task<Result<>> Remover::remove_at(client::RemotePlace place, std::string path) {
    const auto file = co_await tree_.find_entry(place.directory, place.name);
    if (!file)
        co_return Result<>(file.error());
    Result<> removed;
    if (!S_ISDIR(file->attributes.mode)) {
        const std::vector<Status> unlinked =
            co_await unlink(place.directory, {1, place.name}, path.substr(0, path.rfind('/')));
        removed = unlinked.front();
    } else if (options_.recursive) {
        removed = co_await remove_directory(place.directory, place.name, file->node, path);
    } else {
        removed = make_error(Status::is_directory, fmt::format("{}: is a directory (pass -r to remove it with all that "
                                                               "it holds)",
                                                               log::printable(path)));
    }
    tree_.forget(file->node);
    co_return removed;
}

Task<Result<>> Remover::remove(std::string path) {
    const auto place = co_await tree_.find_place(path);
    Result<> removed;
    if (place) {
        removed = co_await remove_at(*place, path);
        tree_.forget(place->directory);
    } else {
        removed = place.error();
    }
    if (options_.force && removed.status() == Status::no_entry)
        removed = Result<>();
    co_return removed;
}

Task<Result<>> Remover::remove_partials(std::string path) {
    const auto directory = co_await tree_.find(path, client::Symlinks::follow);
    if (!directory)
        co_return Result<>(directory.error());
    const auto entries = co_await tree_.list(directory->node);
    Result<> outcome = entries ? Result<>() : Result<>(entries.error());
    for (std::size_t i = 0; entries && i < entries->size(); ++i) {
        const RemoteEntry& entry = (*entries)[i];
        Result<> done;
        if (S_ISDIR(entry.file.attributes.mode)) {
            if (options_.recursive)
                done = co_await remove_partials(below(path, entry.name));
        } else if (is_partial(entry.name)) {
            const std::vector<Status> removed = co_await unlink(directory->node, {1, entry.name}, path);
            if (removed.front() != Status::ok)
                done = at(below(path, entry.name), make_error(removed.front()));
        }
        if (!done && outcome)
            outcome = done;
    }
    if (entries)
        tree_.forget(*entries);
    tree_.forget(directory->node);
    co_return outcome;
}

Task<Result<>> remove_all(RemoteTree& tree, const Options& options, std::vector<std::string> paths,
                          Activity& activity) {
    Remover remover(tree, options, activity);
    const Result<> removed = co_await each(tree, std::move(paths), [&](RemoteTree&, std::string path) {
        return options.partial ? remover.remove_partials(std::move(path)) : remover.remove(std::move(path));
    });
    co_return activity.end(removed);
}

// ---------------------------------------------------------------- mv

Task<Result<>> move(RemoteTree& tree, std::string from, std::string to, bool no_clobber) {
    const auto source = co_await tree.find_place(from);
    if (!source)
        co_return Result<>(source.error());
    // Into a directory that is there, else to that name.
    client::RemotePlace target;
    const auto existing = co_await tree.find(to, client::Symlinks::follow);
    if (existing && S_ISDIR(existing->attributes.mode)) {
        target = {.directory = existing->node, .name = source->name};
    } else {
        if (existing)
            tree.forget(existing->node);
        auto place = co_await tree.find_place(to);
        if (!place)
            co_return Result<>(place.error());
        target = std::move(*place);
    }
    const wire::Rename rename{.parent = source->directory,
                              .name = source->name,
                              .new_parent = target.directory,
                              .new_name = target.name,
                              .flags = no_clobber ? wire::rename_noreplace : 0};
    const auto renamed = co_await tree.session().call(rename);
    tree.forget(source->directory);
    tree.forget(target.directory);
    co_return Result<>(renamed ? Result<>() : Result<>(at(from + " to " + to, renamed.error())));
}

Task<Result<>> move_all(RemoteTree& tree, std::vector<std::string> paths, bool no_clobber) {
    const std::string destination = paths.back();
    paths.pop_back();
    auto sources = co_await expand_all(tree, std::move(paths));
    if (!sources)
        co_return Result<>(sources.error());
    if (sources->size() > 1) {
        const auto directory = co_await tree.find(destination, client::Symlinks::follow);
        if (directory)
            tree.forget(directory->node);
        if (!directory || !S_ISDIR(directory->attributes.mode))
            co_return Result<>(
                make_error(Status::not_directory, log::printable(destination) + ": there is no such directory"));
    }
    co_return co_await each(tree, std::move(*sources), [&](RemoteTree& in, std::string source) {
        return move(in, std::move(source), destination, no_clobber);
    });
}

std::shared_ptr<Options> common_options(CLI::App& app) {
    const auto options = std::make_shared<Options>();  // shared by the parser and the action
    add_key_options(app, options->connect);
    app.add_option("SOURCE", options->files, "HOST[:PORT]:/PATH, or /PATH with REMOFILE_HOSTNAME set")->required();
    return options;
}

}  // namespace

std::function<ExitStatus()> prepare_touch(CLI::App& app) {
    const auto options = common_options(app);
    return [options] {
        return with_files(options->connect, options->files, [](RemoteTree& tree, std::vector<std::string> paths) {
            return each(tree, std::move(paths), touch);
        });
    };
}

std::function<ExitStatus()> prepare_mkdir(CLI::App& app) {
    const auto options = common_options(app);
    app.add_flag("-p,--parents", options->parents, "Make what is missing on the way, and accept what is there");
    return [options] {
        return with_files(options->connect, options->files,
                          [options](RemoteTree& tree, std::vector<std::string> paths) {
                              return each(tree, std::move(paths), [options](RemoteTree& to, std::string path) {
                                  return options->parents ? make_directories(to, std::move(path))
                                                          : make_directory(to, std::move(path), false);
                              });
                          });
    };
}

std::function<ExitStatus()> prepare_rm(CLI::App& app) {
    const auto options = common_options(app);
    app.add_flag("-r,--recursive", options->recursive, "Remove directories with all that they hold");
    app.add_flag("-f,--force", options->force, "Accept files that are not there");
    app.add_flag("--partial", options->partial,
                 "In the directories named (and below, with -r), remove what interrupted transfers have left");
    add_activity_options(app, options->activity);
    return [options] {
        auto activity = Activity::open(options->activity);
        if (!activity)
            return complain(activity.error());
        return with_files(options->connect, options->files,
                          expanding([options, &activity](RemoteTree& tree, std::vector<std::string> paths) {
                              return remove_all(tree, *options, std::move(paths), *activity);
                          }));
    };
}

std::function<ExitStatus()> prepare_mv(CLI::App& app) {
    const auto options = std::make_shared<Options>();
    add_key_options(app, options->connect);
    app.add_option("SOURCE", options->files, "What to move, and last its new name or the directory to go to")
        ->required()
        ->expected(2, -1);
    app.add_flag("-n,--no-clobber", options->no_clobber, "Replace nothing");
    return [options] {
        return with_files(options->connect, options->files,
                          [options](RemoteTree& tree, std::vector<std::string> paths) {
                              return move_all(tree, std::move(paths), options->no_clobber);
                          });
    };
}

}  // namespace remofile::cli
