// SPDX-License-Identifier: MIT
// remofile ls, stat and cat: what shows files.
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "base/json_text.hpp"
#include "base/log.hpp"
#include "cli/connection.hpp"
#include "cli/each.hpp"
#include "cli/expand.hpp"
#include "cli/local_files.hpp"
#include "cli/short_size.hpp"

namespace remofile::cli {
namespace {

using client::RemoteEntry;
using client::RemoteFile;
using client::RemoteTree;
using wire::Attributes;

// Reads under way for one file: fills a link of 1 Gbit/s with a delay of 60 ms.
constexpr std::size_t reads_under_way = 8;

struct Options {
    client::ConnectOptions connect;
    std::vector<std::string> files;
    bool all = false;
    bool long_form = false;
    bool directory_itself = false;
    bool slash = false;
    bool json = false;
    bool recursive = false;
    bool human = false;
    bool by_time = false;
    bool by_size = false;
    bool reversed = false;
};

struct TypeRow {
    mode_t type;
    char letter;
    std::string_view name;
};
constexpr auto types = std::to_array<TypeRow>({{S_IFREG, '-', "regular file"},
                                               {S_IFDIR, 'd', "directory"},
                                               {S_IFLNK, 'l', "symbolic link"},
                                               {S_IFIFO, 'p', "fifo"},
                                               {S_IFSOCK, 's', "socket"},
                                               {S_IFCHR, 'c', "character device"},
                                               {S_IFBLK, 'b', "block device"}});

const TypeRow& type_of(const Attributes& attributes) {
    return *std::ranges::find(types, attributes.mode & S_IFMT, &TypeRow::type);
}

// "drwxr-xr-x"
std::string mode_text(std::uint32_t mode, char type) {
    std::string text = {type};
    for (int shift = 6; shift >= 0; shift -= 3) {
        const std::uint32_t bits = mode >> shift;
        text += {(bits & 4) != 0 ? 'r' : '-', (bits & 2) != 0 ? 'w' : '-', (bits & 1) != 0 ? 'x' : '-'};
    }
    const auto mark = [&](std::size_t at, std::uint32_t bit, char with_x, char without) {
        if ((mode & bit) != 0)
            text[at] = text[at] == 'x' ? with_x : without;
    };
    mark(3, S_ISUID, 's', 'S');
    mark(6, S_ISGID, 's', 'S');
    mark(9, S_ISVTX, 't', 'T');
    return text;
}

std::string time_text(const wire::Timestamp& time, const char* format) {
    const auto seconds = static_cast<std::time_t>(time.seconds);
    std::tm local{};
    std::array<char, 64> text{};
    if (localtime_r(&seconds, &local) == nullptr || std::strftime(text.data(), text.size(), format, &local) == 0)
        return "?";
    return text.data();
}

// A terminal must not act on what a name holds; a program gets the very bytes.
std::string shown(std::string_view name) {
    return isatty(STDOUT_FILENO) != 0 ? log::printable(name) : std::string(name);
}

void print(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
}

Error cannot_print(const Error& why) {
    return make_error(why.status, fmt::format("cannot write to standard output: {}", why.to_string()));
}

// What was not printed (a full disk) must not look like success.
Result<> flush_output() {
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0)
        return {};
    return errno == EPIPE ? cannot_print(broken_pipe()) : cannot_print(errno_error());
}

std::string json_of(const std::string& name, const Attributes& attributes) {
    return fmt::format(
        "{{\"name\": {}, \"type\": {}, \"mode\": {}, \"links\": {}, \"uid\": {}, \"gid\": {}, \"size\": {}, "
        "\"blocks\": {}, "
        "\"inode\": {}, \"modified\": {}.{:09}}}",
        json_text(name), json_text(type_of(attributes).name), attributes.mode & 07777, attributes.links, attributes.uid,
        attributes.gid, attributes.size, attributes.blocks, attributes.identity.inode, attributes.modification.seconds,
        attributes.modification.nanoseconds);
}

// ---------------------------------------------------------------- ls

// They come by name.
void sort(std::vector<RemoteEntry>& entries, const Options& options) {
    const auto time = [](const RemoteEntry& entry) {
        const wire::Timestamp& modification = entry.file.attributes.modification;
        return std::pair(modification.seconds, modification.nanoseconds);
    };
    const auto size = [](const RemoteEntry& entry) { return entry.file.attributes.size; };
    if (options.by_size)
        std::ranges::stable_sort(entries, std::ranges::greater(), size);
    else if (options.by_time)
        std::ranges::stable_sort(entries, std::ranges::greater(), time);
    if (options.reversed)
        std::ranges::reverse(entries);
}

// `directory` is where they are, below what was named: only JSON says it of each.
void print_entries(const std::vector<RemoteEntry>& entries, const std::vector<std::string>& targets,
                   const std::string& directory, const Options& options) {
    const auto size_of = [&](const Attributes& attributes) {
        return options.human ? short_size(attributes.size) : std::to_string(attributes.size);
    };
    std::size_t size_width = 1;
    std::size_t links_width = 1;
    for (const RemoteEntry& entry : entries) {
        size_width = std::max(size_width, size_of(entry.file.attributes).size());
        links_width = std::max(links_width, std::to_string(entry.file.attributes.links).size());
    }
    for (std::size_t i = 0; i < entries.size(); ++i) {
        const RemoteEntry& entry = entries[i];
        const Attributes& attributes = entry.file.attributes;
        if (options.json)
            print(json_of(directory + entry.name, attributes) + "\n");
        else if (!options.long_form)
            print(shown(entry.name) + (options.slash && S_ISDIR(attributes.mode) ? "/\n" : "\n"));
        else
            print(fmt::format("{} {:>{}} {:>5} {:>5} {:>{}} {} {}{}\n",
                              mode_text(attributes.mode, type_of(attributes).letter), attributes.links, links_width,
                              attributes.uid, attributes.gid, size_of(attributes), size_width,
                              time_text(attributes.modification, "%Y-%m-%d %H:%M"), shown(entry.name),
                              targets[i].empty() ? "" : " -> " + shown(targets[i])));
    }
}

// They are given back.
Task<void> list_entries(RemoteTree& tree, std::vector<RemoteEntry> entries, std::string directory,
                        const Options& options) {
    std::vector<std::string> targets(entries.size());
    for (std::size_t i = 0; options.long_form && i < entries.size(); ++i) {
        if (!S_ISLNK(entries[i].file.attributes.mode))
            continue;
        auto link = co_await tree.session().call(wire::Readlink{entries[i].file.node});
        targets[i] = link ? std::move(link->body.target) : "?";
    }
    print_entries(entries, targets, directory, options);
    tree.forget(entries);
}

std::string below(const std::string& directory, const std::string& name) {
    return directory + (directory.empty() || directory.ends_with('/') ? "" : "/") + name;
}

// What the directory holds, and with -R those below it; `found` is given back. `directory`: where it is below what was
// named.
Task<Result<>> list_directory(RemoteTree& tree, std::string path, RemoteFile found, std::string directory,
                              const Options& options) {
    auto listed = co_await tree.list(found.node);
    tree.forget(found.node);
    if (!listed)
        co_return Result<>(at(path, listed.error()));
    std::vector<RemoteEntry> entries = std::move(*listed);
    const auto hidden = std::ranges::stable_partition(
        entries, [&](const RemoteEntry& entry) { return options.all || !entry.name.starts_with('.'); });
    const std::vector<RemoteEntry> unseen(hidden.begin(), hidden.end());
    tree.forget(unseen);
    entries.erase(hidden.begin(), hidden.end());
    Result<> outcome;
    const auto unknown =
        std::ranges::stable_partition(entries, [](const RemoteEntry& entry) { return entry.problem == Status::ok; });
    for (const RemoteEntry& entry : unknown)
        note_error(outcome, at(below(path, entry.name), make_error(entry.problem)));
    entries.erase(unknown.begin(), unknown.end());
    sort(entries, options);
    std::vector<std::string> directories;
    for (const RemoteEntry& entry : entries) {
        if (options.recursive && S_ISDIR(entry.file.attributes.mode))
            directories.push_back(entry.name);
    }
    co_await list_entries(tree, std::move(entries), directory, options);
    for (const std::string& name : directories) {
        const std::string there = below(path, name);
        if (!options.json)
            print(fmt::format("\n{}:\n", shown(there)));
        const auto again = co_await tree.find(there, client::Symlinks::keep);
        Result<> done = again ? Result<>() : Result<>(again.error());
        if (again)
            done = co_await list_directory(tree, there, *again, directory + name + "/", options);
        if (!done)
            note_error(outcome, done.error());
    }
    co_return outcome;
}

// As ls(1): files first, then what each directory holds.
Task<Result<>> list(RemoteTree& tree, std::vector<std::string> paths, const Options& options) {
    const auto symlinks =
        options.long_form || options.directory_itself ? client::Symlinks::keep : client::Symlinks::follow;
    std::vector<RemoteEntry> files;
    std::vector<RemoteEntry> directories;
    Result<> outcome;
    const auto found = co_await find_all(tree, paths, symlinks);
    for (std::size_t i = 0; i < paths.size(); ++i) {
        if (!found[i])
            note_error(outcome, found[i].error());
        else if (S_ISDIR(found[i]->attributes.mode) && !options.directory_itself)
            directories.push_back({paths[i], *found[i]});
        else
            files.push_back({paths[i], *found[i]});
    }
    sort(files, options);
    std::string_view between = files.empty() ? "" : "\n";
    co_await list_entries(tree, std::move(files), "", options);
    for (const RemoteEntry& entry : directories) {
        if ((paths.size() > 1 || options.recursive) && !options.json)
            print(fmt::format("{}{}:\n", std::exchange(between, "\n"), shown(entry.name)));
        const Result<> listed = co_await list_directory(tree, entry.name, entry.file, "", options);
        if (!listed)
            note_error(outcome, listed.error());
    }
    const Result<> printed = flush_output();
    co_return outcome ? printed : outcome;
}

// ---------------------------------------------------------------- stat

std::string stat_text(const std::string& path, const Attributes& attributes) {
    constexpr auto format = "%Y-%m-%d %H:%M:%S";
    const auto time = [&](const wire::Timestamp& at) {
        return fmt::format("{}.{:09}", time_text(at, format), at.nanoseconds);
    };
    return fmt::format(
        "  File: {}\n  Type: {}\n  Size: {} bytes, {} blocks of 512\n Inode: {}, {} link{}\n  Mode: {:04o} ({}), uid "
        "{}, gid "
        "{}\nAccess: {}\nModify: {}\nChange: {}\n",
        shown(path), type_of(attributes).name, attributes.size, attributes.blocks, attributes.identity.inode,
        attributes.links, attributes.links == 1 ? "" : "s", attributes.mode & 07777,
        mode_text(attributes.mode, type_of(attributes).letter), attributes.uid, attributes.gid, time(attributes.access),
        time(attributes.modification), time(attributes.change));
}

Task<Result<>> stat_files(RemoteTree& tree, std::vector<std::string> paths, bool json) {
    for (const std::string& path : paths) {
        const auto file = co_await tree.find(path, client::Symlinks::keep);
        if (!file)
            co_return Result<>(file.error());
        print(json ? json_of(path, file->attributes) + "\n" : stat_text(path, file->attributes));
        tree.forget(file->node);
    }
    co_return flush_output();
}

// ---------------------------------------------------------------- cat

struct Fetched {
    Completion<Status> done;
    Buffer data;
};

Task<void> fetch(client::Session& session, wire::Read read, std::shared_ptr<Fetched> into) {
    const client::CallOptions options{.lane = client::LaneKind::data};
    auto reply = co_await session.call(read, options);
    if (reply)
        into->data = std::move(reply->bulk);
    into->done.deliver(reply.status());
}

// The first error ends it, with reads under way: they own what they write to.
Task<Result<>> print_content(client::Session& session, HandleId handle) {
    std::deque<std::shared_ptr<Fetched>> under_way;
    std::uint64_t next = 0;
    for (;;) {
        while (under_way.size() < reads_under_way) {
            under_way.push_back(std::make_shared<Fetched>());
            const wire::Read read{handle, next, static_cast<std::uint32_t>(wire::max_bulk_bytes)};
            spawn(fetch(session, read, under_way.back()));
            next += wire::max_bulk_bytes;
        }
        const std::shared_ptr<Fetched> first = under_way.front();
        under_way.pop_front();
        const Status status = co_await first->done;
        if (status != Status::ok)
            co_return Result<>(status);
        const Result<> written = write_all(STDOUT_FILENO, first->data.bytes());
        if (!written)
            co_return Result<>(cannot_print(written.error()));
        if (first->data.size() < wire::max_bulk_bytes)
            co_return Result<>();
    }
}

Task<Result<>> print_file(RemoteTree& tree, std::string path) {
    const auto file = co_await tree.find(path, client::Symlinks::follow);
    if (!file)
        co_return Result<>(file.error());
    client::Session& session = tree.session();
    const HandleId handle = session.new_handle_id();
    const wire::Open open{file->node, handle, wire::open_read};
    Result<> outcome;
    if (S_ISDIR(file->attributes.mode)) {
        outcome = Status::is_directory;
    } else if (const auto opened = co_await session.call(open)) {
        outcome = co_await print_content(session, handle);
        session.tell(wire::Release{handle});
    } else {
        outcome = opened.error();
    }
    tree.forget(file->node);
    if (!outcome && outcome.error().message.empty())
        outcome = make_error(outcome.status(), fmt::format("{}: {}", log::printable(path), describe(outcome.status())));
    co_return outcome;
}

Task<Result<>> print_files(RemoteTree& tree, std::vector<std::string> paths) {
    for (const std::string& path : paths) {
        const Result<> printed = co_await print_file(tree, path);
        if (!printed)
            co_return printed;
    }
    co_return Result<>();
}

std::shared_ptr<Options> common_options(CLI::App& app) {
    const auto options = std::make_shared<Options>();  // shared by the parser and the action
    add_key_options(app, options->connect);
    app.add_option("SOURCE", options->files, "HOST[:PORT]:/PATH, or /PATH with REMOFILE_HOSTNAME set")->required();
    return options;
}

}  // namespace

std::function<ExitStatus()> prepare_ls(CLI::App& app) {
    // -h is what it is to ls(1).
    app.set_help_flag("--help", "Print this help message and exit");
    const auto options = common_options(app);
    app.add_flag("-a,--all", options->all, "Show names that begin with a dot too");
    app.add_flag("-l,--long", options->long_form, "Show type, permissions, links, uid, gid, size and time too");
    app.add_flag("-d,--directory", options->directory_itself, "Show directories themselves, not what they hold");
    app.add_flag("-p,--slash", options->slash, "Put a slash after the names of directories");
    app.add_flag("-R,--recursive", options->recursive, "List what is in directories below too");
    app.add_flag("-h,--human-readable", options->human, "With -l, show sizes as 1.5K, 12M or 3G");
    app.add_flag("-t", options->by_time, "Sort by time of modification, the latest first");
    app.add_flag("-S", options->by_size, "Sort by size, the largest first");
    app.add_flag("-r,--reverse", options->reversed, "Sort the other way round");
    app.add_flag("--json", options->json, "Write one JSON object a line");
    return [options] {
        return with_files(options->connect, options->files,
                          expanding([options](RemoteTree& tree, std::vector<std::string> paths) {
                              return list(tree, std::move(paths), *options);
                          }));
    };
}

std::function<ExitStatus()> prepare_stat(CLI::App& app) {
    const auto options = common_options(app);
    app.add_flag("--json", options->json, "Write one JSON object a line");
    return [options] {
        return with_files(options->connect, options->files,
                          expanding([options](RemoteTree& tree, std::vector<std::string> paths) {
                              return stat_files(tree, std::move(paths), options->json);
                          }));
    };
}

std::function<ExitStatus()> prepare_cat(CLI::App& app) {
    const auto options = common_options(app);
    return [options] { return with_files(options->connect, options->files, expanding(print_files)); };
}

}  // namespace remofile::cli
