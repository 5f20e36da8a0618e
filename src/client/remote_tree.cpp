// SPDX-License-Identifier: MIT
#include "client/remote_tree.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/log.hpp"
#include "client/directory.hpp"

namespace remofile::client {
namespace {

// As Linux's own MAXSYMLINKS.
constexpr int max_symlinks = 40;
// Entries of one READDIR: with attributes, some 250 bytes each.
constexpr std::uint16_t entries_a_request = 1024;

bool is_symlink(const RemoteFile& file) {
    return S_ISLNK(file.attributes.mode);
}

}  // namespace

Result<std::vector<std::string>> split_path(std::string_view path) {
    std::vector<std::string> components;
    while (!path.empty()) {
        const std::size_t end = std::min(path.find('/'), path.size());
        const std::string_view name = path.substr(0, end);
        path.remove_prefix(std::min(end + 1, path.size()));
        if (name.empty() || name == ".")
            continue;
        if (name == "..") {
            if (!components.empty())
                components.pop_back();
        } else if (is_valid_name(name)) {
            components.emplace_back(name);
        } else {
            const Status status = name.size() > wire::max_name_bytes ? Status::name_too_long : Status::invalid;
            return make_error(status, fmt::format("{}: {}", log::printable(name), describe(status)));
        }
    }
    return components;
}

std::string join_path(const std::vector<std::string>& components) {
    std::string path;
    for (const std::string& component : components)
        path += "/" + component;
    return path.empty() ? "/" : path;
}

// Those below the session's path.
Result<std::vector<std::string>> RemoteTree::components_of(std::string_view path) const {
    auto components = split_path(path);
    if (!components || export_name_.empty())
        return components;
    if (components->empty() || components->front() != export_name_)
        return make_error(Status::no_entry,
                          fmt::format("{}: {}", log::printable(join_path(*components)), describe(Status::no_entry)));
    components->erase(components->begin());
    return components;
}

std::string RemoteTree::shown(const std::vector<std::string>& components) const {
    const std::string path = join_path(components);
    if (export_name_.empty())
        return log::printable(path);
    return log::printable("/" + export_name_ + (components.empty() ? "" : path));
}

Error RemoteTree::path_error(const std::vector<std::string>& components, Status status) const {
    return make_error(status, fmt::format("{}: {}", shown(components), describe(status)));
}

// How far a walk got: the files of the first components, one after the other, and what ended it.
struct RemoteTree::Walk {
    std::vector<RemoteFile> found;
    Status end = Status::ok;
};

Task<Result<RemoteTree::Walk>> RemoteTree::walk(std::vector<std::string> components) {
    Walk walk;
    NodeId parent = session_.hello().root;
    for (std::size_t first = 0; first < components.size() && walk.end == Status::ok; first += wire::max_records) {
        std::vector<EncodedRequest> lookups;
        const std::size_t end = std::min(components.size(), first + wire::max_records);
        for (std::size_t i = first; i < end; ++i) {
            const NodeId node = session_.new_node_id();
            lookups.push_back(encoded(wire::Lookup{parent, components[i], {node, false}}, true));
            parent = node;
        }
        const auto replies = co_await session_.call_batch(std::move(lookups));
        for (const EncodedReply& reply : replies) {
            const auto entry = decoded<wire::Lookup>(reply);
            if (!entry) {
                walk.end = entry.status();
                break;
            }
            walk.found.push_back({entry->node, entry->attributes});
        }
    }
    co_return Result<Walk>(std::move(walk));
}

Task<Result<RemoteFile>> RemoteTree::find(std::string path, Symlinks symlinks) {
    auto components = components_of(path);
    if (!components)
        co_return Result<RemoteFile>(components.error());
    co_return co_await find_below(std::move(*components), symlinks);
}

Task<Result<RemoteFile>> RemoteTree::find_below(std::vector<std::string> first, Symlinks symlinks) {
    Result<std::vector<std::string>> components(std::move(first));
    for (int followed = 0; followed <= max_symlinks; ++followed) {
        if (components->empty())
            co_return Result<RemoteFile>(RemoteFile{session_.hello().root, session_.hello().root_attributes});
        auto walked = co_await walk(*components);
        if (!walked)
            co_return Result<RemoteFile>(walked.error());
        Walk& way = *walked;
        // A link ends the walk where it is no last component.
        const bool complete = way.found.size() == components->size();
        const bool at_link = !way.found.empty() && is_symlink(way.found.back());
        if (complete && (!at_link || symlinks == Symlinks::keep)) {
            const RemoteFile last = way.found.back();
            way.found.pop_back();
            for (const RemoteFile& file : way.found)
                forget(file.node);
            co_return Result<RemoteFile>(last);
        }
        std::string target;
        if (at_link) {
            auto link = co_await session_.call(wire::Readlink{way.found.back().node});
            if (link)
                target = std::move(link->body.target);
            else
                way.end = link.status();
        }
        for (const RemoteFile& file : way.found)
            forget(file.node);
        if (target.empty())
            co_return Result<RemoteFile>(path_error(*components, way.end));
        // The link's own directory, its target, and what comes after it.
        const auto link = static_cast<std::ptrdiff_t>(way.found.size()) - 1;
        const std::vector<std::string> before(components->begin(), components->begin() + link);
        const std::vector<std::string> after(components->begin() + link + 1, components->end());
        if (target.starts_with('/'))
            co_return Result<RemoteFile>(
                make_error(Status::symlink_loop, fmt::format("{}: the link is absolute ({}), which means nothing here",
                                                             shown(*components), log::printable(target))));
        components = split_path(join_path(before) + "/" + target + join_path(after));
        if (!components)
            co_return Result<RemoteFile>(components.error());
    }
    co_return Result<RemoteFile>(path_error(*components, Status::symlink_loop));
}

Task<Result<RemotePlace>> RemoteTree::find_place(std::string path) {
    auto components = components_of(path);
    if (!components)
        co_return Result<RemotePlace>(components.error());
    if (components->empty())
        co_return Result<RemotePlace>(
            make_error(Status::bad_usage, shown(*components) + ": that is the root of the export"));
    RemotePlace place{.directory = {}, .name = std::move(components->back())};
    components->pop_back();
    const auto directory = co_await find_below(std::move(*components), Symlinks::follow);
    if (!directory)
        co_return Result<RemotePlace>(directory.error());
    place.directory = directory->node;
    co_return Result<RemotePlace>(std::move(place));
}

Task<Result<RemoteFile>> RemoteTree::find_entry(NodeId directory, std::string name) {
    const wire::Lookup lookup{directory, std::move(name), {session_.new_node_id(), false}};
    const auto reply = co_await session_.call(lookup);
    if (!reply)
        co_return Result<RemoteFile>(reply.error());
    co_return Result<RemoteFile>(RemoteFile{reply->body.node, reply->body.attributes});
}

Task<Result<DirectoryPart>> RemoteTree::list_part(NodeId directory, HandleId handle, std::uint64_t cookie) {
    const wire::Readdir readdir{handle,
                                cookie,
                                static_cast<std::uint32_t>(wire::max_bulk_bytes),
                                entries_a_request,
                                wire::ListedAttributes::with_nodes,
                                session_.new_node_ids(entries_a_request)};
    std::vector<EncodedRequest> requests;
    if (cookie == 0)
        requests.push_back(encoded(wire::Opendir{directory, handle}, true));
    requests.push_back(encoded(readdir));
    auto replies = co_await session_.call_batch(std::move(requests));
    const EncodedReply& last = replies.back();
    const auto body = decoded<wire::Readdir>(last);
    if (!body)
        co_return Result<DirectoryPart>(replies.front().status != Status::ok ? replies.front().status : last.status);
    auto entries = decode_directory(last.bulk, body->count, cookie);
    if (!entries)
        co_return Result<DirectoryPart>(entries.error());
    DirectoryPart part{.entries = {}, .cookie = cookie, .end = body->end || body->count == 0};
    for (wire::DirectoryEntry& entry : *entries) {
        part.cookie = entry.cookie;
        if (!is_valid_name(entry.name))
            continue;  // "." and ".."
        RemoteEntry listed{.name = std::move(entry.name), .file = {entry.entry.node, entry.entry.attributes}};
        if (!listed.file.node) {
            // The server could not look at it: it has gone, or why not?
            const auto found = co_await find_entry(directory, listed.name);
            if (found)
                listed.file = *found;
            else if (found.status() == Status::no_entry)
                continue;
            else
                listed.problem = found.status();
        }
        part.entries.push_back(std::move(listed));
    }
    co_return Result<DirectoryPart>(std::move(part));
}

Task<Result<std::vector<RemoteEntry>>> RemoteTree::list(NodeId directory) {
    using Listing = Result<std::vector<RemoteEntry>>;
    const HandleId handle = session_.new_handle_id();
    std::vector<RemoteEntry> entries;
    Result<> outcome;
    std::uint64_t cookie = 0;
    for (bool end = false; !end;) {
        auto part = co_await list_part(directory, handle, cookie);
        if (!part) {
            outcome = part.error();
            break;
        }
        std::ranges::move(part->entries, std::back_inserter(entries));
        if (entries.size() > max_listed_) {
            outcome = make_error(Status::limit_exceeded,
                                 fmt::format("the server lists more than {} entries of one directory", max_listed_));
            break;
        }
        cookie = part->cookie;
        end = part->end;
    }
    session_.tell(wire::Releasedir{handle});
    if (!outcome) {
        forget(entries);
        co_return Listing(outcome.error());
    }
    std::ranges::sort(entries, {}, &RemoteEntry::name);
    co_return Listing(std::move(entries));
}

Status first_problem(const std::vector<RemoteEntry>& entries) {
    const auto found = std::ranges::find_if_not(
        entries, [](Status problem) { return problem == Status::ok; }, &RemoteEntry::problem);
    return found == entries.end() ? Status::ok : found->problem;
}

void RemoteTree::forget(NodeId node) {
    if (!node || node == session_.hello().root)
        return;
    wire::Forget forget;
    forget.nodes.push_back({node, 1});
    session_.tell(std::move(forget));
}

void RemoteTree::forget(const std::vector<RemoteEntry>& entries) {
    for (const RemoteEntry& entry : entries)
        forget(entry.file.node);
}

}  // namespace remofile::client
