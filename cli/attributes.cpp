// SPDX-License-Identifier: MIT
// remofile chmod, ln and df: permissions, further names, and space.
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <vector>

#include "base/json_text.hpp"
#include "base/log.hpp"
#include "cli/connection.hpp"
#include "cli/each.hpp"
#include "cli/expand.hpp"
#include "cli/local_files.hpp"
#include "cli/mode_change.hpp"
#include "cli/short_size.hpp"

namespace remofile::cli {
namespace {

using client::RemoteTree;

struct Options {
    client::ConnectOptions connect;
    std::string mode;
    std::vector<std::string> files;
    bool recursive = false;
    bool symbolic = false;
    bool human = false;
    bool json = false;
};

// ---------------------------------------------------------------- chmod

// Links in a tree have no mode of their own, and lead elsewhere.
Task<Result<>> change_mode(RemoteTree& tree, client::RemoteFile file, std::string path, const ModeChange& change,
                           bool recursive) {
    const bool is_directory = S_ISDIR(file.attributes.mode);
    Result<> outcome;
    const std::uint32_t mode = change.apply(file.attributes.mode, is_directory);
    if (mode != (file.attributes.mode & 07777U)) {
        const wire::Setattr setattr{.node = file.node, .which = wire::set_mode, .mode = mode};
        const auto set = co_await tree.session().call(setattr);
        if (!set)
            outcome = at(path, set.error());
    }
    if (!recursive || !is_directory)
        co_return outcome;
    const auto entries = co_await tree.list(file.node);
    if (!entries)
        co_return outcome ? Result<>(at(path, entries.error())) : outcome;
    for (const client::RemoteEntry& entry : *entries) {
        if (S_ISLNK(entry.file.attributes.mode))
            continue;
        Result<> done = at(path + "/" + entry.name, make_error(entry.problem));
        if (entry.problem == Status::ok)
            done = co_await change_mode(tree, entry.file, path + "/" + entry.name, change, true);
        if (!done && outcome)
            outcome = done;
        else if (!done)
            complain(done.error());
    }
    tree.forget(*entries);
    co_return outcome;
}

Task<Result<>> change_named(RemoteTree& tree, std::string path, const ModeChange& change, bool recursive) {
    const auto file = co_await tree.find(path, client::Symlinks::follow);
    if (!file)
        co_return Result<>(file.error());
    const Result<> changed = co_await change_mode(tree, *file, path, change, recursive);
    tree.forget(file->node);
    co_return changed;
}

// ---------------------------------------------------------------- ln

// Into a directory that is there, else under that name.
Task<Result<client::RemotePlace>> find_new_place(RemoteTree& tree, std::string path, std::string name) {
    using Place = Result<client::RemotePlace>;
    const auto existing = co_await tree.find(path, client::Symlinks::follow);
    if (existing && S_ISDIR(existing->attributes.mode))
        co_return Place(client::RemotePlace{existing->node, std::move(name)});
    if (existing)
        tree.forget(existing->node);
    co_return co_await tree.find_place(path);
}

std::string last_name(const std::string& path) {
    const auto components = client::split_path(path);
    return components && !components->empty() ? components->back() : std::string();
}

Task<Result<>> make_symlink(RemoteTree& tree, std::string target, std::string path) {
    const auto place = co_await find_new_place(tree, path, last_name(target));
    if (!place)
        co_return Result<>(place.error());
    const wire::Symlink symlink{place->directory, place->name, {tree.session().new_node_id(), false}, target};
    const auto made = co_await tree.session().call(symlink);
    tree.forget(place->directory);
    if (!made)
        co_return Result<>(at(path, made.error()));
    tree.forget(made->body.node);
    co_return Result<>();
}

Task<Result<>> make_link(RemoteTree& tree, std::string target, std::string path) {
    const auto file = co_await tree.find(target, client::Symlinks::keep);
    if (!file)
        co_return Result<>(file.error());
    const auto place = co_await find_new_place(tree, path, last_name(target));
    Result<> linked;
    if (place) {
        const wire::Link link{file->node, place->directory, place->name};
        const auto made = co_await tree.session().call(link);
        if (!made)
            linked = at(path, made.error());
        else
            tree.forget(made->body.node);
        tree.forget(place->directory);
    } else {
        linked = place.error();
    }
    tree.forget(file->node);
    co_return linked;
}

// ---------------------------------------------------------------- df

struct Space {
    std::string path;
    wire::StatfsReply of;

    std::uint64_t size() const { return of.blocks * of.block_size; }
    std::uint64_t used() const { return (of.blocks - std::min(of.blocks_free, of.blocks)) * of.block_size; }
    std::uint64_t available() const { return of.blocks_available * of.block_size; }
    // Rounded up, of what an ordinary user may use.
    std::string share() const {
        const std::uint64_t usable = used() + available();
        return usable == 0 ? "-"
                           : fmt::format("{:.0f}%",
                                         std::ceil(100.0 * static_cast<double>(used()) / static_cast<double>(usable)));
    }
};

void print_spaces(const std::vector<Space>& spaces, const Options& options) {
    for (const Space& space : spaces) {
        if (options.json)
            std::printf("%s\n", fmt::format("{{\"path\": {}, \"size\": {}, \"used\": {}, \"available\": {}, \"files\": "
                                            "{}, \"files_free\": {}}}",
                                            json_text(space.path), space.size(), space.used(), space.available(),
                                            space.of.files, space.of.files_free)
                                    .c_str());
    }
    if (options.json)
        return;
    const auto text = [&](std::uint64_t bytes) {
        return options.human ? short_size(bytes) : std::to_string((bytes + 1023) / 1024);
    };
    std::printf("%s\n", fmt::format("{:>12} {:>12} {:>12} {:>5} Path", options.human ? "Size" : "1K-blocks", "Used",
                                    options.human ? "Avail" : "Available", "Use%")
                            .c_str());
    for (const Space& space : spaces)
        std::printf("%s\n", fmt::format("{:>12} {:>12} {:>12} {:>5} {}", text(space.size()), text(space.used()),
                                        text(space.available()), space.share(), log::printable(space.path))
                                .c_str());
}

Task<Result<>> show_spaces(RemoteTree& tree, std::vector<std::string> paths, const Options& options) {
    std::vector<Space> spaces;
    const Result<> outcome =
        co_await each(tree, std::move(paths), [&](RemoteTree&, std::string path) -> Task<Result<>> {
            const auto file = co_await tree.find(path, client::Symlinks::follow);
            if (!file)
                co_return Result<>(file.error());
            const wire::Statfs statfs{file->node};
            const auto reply = co_await tree.session().call(statfs);
            tree.forget(file->node);
            if (!reply)
                co_return Result<>(reply.error());
            spaces.push_back({path, reply->body});
            co_return Result<>();
        });
    if (!spaces.empty())
        print_spaces(spaces, options);
    co_return outcome;
}

}  // namespace

std::function<ExitStatus()> prepare_chmod(CLI::App& app) {
    const auto options = std::make_shared<Options>();  // shared by the parser and the action
    add_key_options(app, options->connect);
    app.add_option("MODE", options->mode, "As 644, u+x,go-w or a=rX")->required();
    app.add_option("SOURCE", options->files, "HOST[:PORT]:/PATH, or /PATH with REMOFILE_HOSTNAME set")->required();
    app.add_flag("-R,--recursive", options->recursive, "Of directories, change all that they hold too");
    return [options] {
        const auto change = ModeChange::parse(options->mode, current_umask());
        if (!change)
            return complain(change.error());
        return with_files(options->connect, options->files,
                          expanding([options, &change](RemoteTree& tree, std::vector<std::string> paths) {
                              return each(tree, std::move(paths), [options, &change](RemoteTree& in, std::string path) {
                                  return change_named(in, std::move(path), *change, options->recursive);
                              });
                          }));
    };
}

std::function<ExitStatus()> prepare_ln(CLI::App& app) {
    const auto options = std::make_shared<Options>();
    add_key_options(app, options->connect);
    app.add_option("SOURCE", options->files, "The file, and its further name or a directory for that")
        ->required()
        ->expected(2);
    app.add_flag("-s,--symbolic", options->symbolic,
                 "Make a symbolic link, which says what stands first, a path that need not be there");
    return [options] {
        if (!options->symbolic)
            return with_files(options->connect, options->files, [](RemoteTree& tree, std::vector<std::string> paths) {
                return make_link(tree, paths[0], paths[1]);
            });
        return with_files(options->connect, {&options->files[1], 1},
                          [options](RemoteTree& tree, std::vector<std::string> paths) {
                              return make_symlink(tree, options->files[0], paths[0]);
                          });
    };
}

std::function<ExitStatus()> prepare_df(CLI::App& app) {
    const auto options = std::make_shared<Options>();
    // -h is what it is to df(1).
    app.set_help_flag("--help", "Print this help message and exit");
    add_key_options(app, options->connect);
    app.add_option("SOURCE", options->files, "HOST[:PORT]:/PATH, or /PATH with REMOFILE_HOSTNAME set")->required();
    app.add_flag("-h,--human-readable", options->human, "Show sizes as 1.5K, 12M or 3G");
    app.add_flag("--json", options->json, "Write one JSON object a line, with sizes in bytes");
    return [options] {
        return with_files(options->connect, options->files,
                          [options](RemoteTree& tree, std::vector<std::string> paths) {
                              return show_spaces(tree, std::move(paths), *options);
                          });
    };
}

}  // namespace remofile::cli
