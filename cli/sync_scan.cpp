// SPDX-License-Identifier: MIT
#include "cli/sync_scan.hpp"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <vector>

#include "base/exception.hpp"
#include "cli/local_files.hpp"
#include "cli/parallel.hpp"

namespace remofile::cli {
namespace {

// Listings under way at a time.
constexpr std::uint64_t max_listings = 16;
const client::CallOptions data_lane{.lane = client::LaneKind::data};

ItemType type_of(std::uint32_t mode) {
    switch (mode & S_IFMT) {
        case S_IFREG:
            return ItemType::file;
        case S_IFDIR:
            return ItemType::directory;
        case S_IFLNK:
            return ItemType::symlink;
        default:
            return ItemType::unusable;
    }
}

Item item_of(std::uint32_t mode, const SourceIdentity& identity, bool archive) {
    const ItemType type = type_of(mode);
    return {.type = type,
            .size = type == ItemType::directory ? 0 : identity.size,
            .seconds = identity.seconds,
            .nanoseconds = identity.nanoseconds,
            .mode = mode & (archive ? 07777U : 0777U),
            .inode = identity.inode};
}

std::string below(const std::string& directory, const std::string& name) {
    return directory.empty() ? name : directory + "/" + name;
}

// Everything of a walk through a local tree, of which nothing belongs to another thread.
struct LocalWalk {
    std::string root;
    bool archive;
    const FileFilter& filter;
    const std::atomic<bool>& given_up;
    Tree tree = {};
    std::vector<std::pair<std::string, Error>> problems = {};

    void complain(const std::string& path, Error error) { problems.emplace_back(path, std::move(error)); }

    Item look_at(const std::string& path) {
        const std::string absolute = root + "/" + path;
        struct stat status {};
        if (::lstat(absolute.c_str(), &status) != 0) {
            // What goes while it is looked at was not there.
            if (errno == ENOENT)
                return {};
            complain(path, errno_error());
            return {.type = ItemType::unusable};
        }
        Item item = cli::item_of(status, archive);
        if (item.type == ItemType::symlink) {
            item.target.resize(wire::max_path_bytes);
            const ssize_t size = ::readlink(absolute.c_str(), item.target.data(), item.target.size());
            item.target.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
            if (size < 0)
                item.type = ItemType::unusable;
        }
        return item;
    }

    Result<> list(const std::string& directory) {
        REMOFILE_TRY(names, names_in(directory.empty() ? root : root + "/" + directory));
        for (const std::string& name : names) {
            if (given_up)
                return Status::interrupted;
            if (is_partial(name))
                continue;
            const std::string path = below(directory, name);
            Item item = look_at(path);
            if (item.type == ItemType::none)
                continue;
            if (filter.excludes(path, item.type == ItemType::directory))
                item = {.type = ItemType::excluded};
            Item& entry = tree.emplace(path, std::move(item)).first->second;
            if (entry.type != ItemType::directory)
                continue;
            if (const Result<> listed = list(path); !listed) {
                complain(path, listed.error());
                entry.type = ItemType::unusable;
            }
        }
        return {};
    }
};

struct ServerScan {
    client::RemoteTree& tree;
    bool archive;
    const FileFilter& filter;
    const Complain& complain;
    ServerTree found = {};
    std::vector<std::pair<std::string, NodeId>> next = {};  // directories not listed yet
    Result<> root_outcome = {};

    Task<void> list(std::string path, NodeId node) {
        const auto entries = co_await tree.list(node);
        if (!entries) {
            if (path.empty()) {
                root_outcome = entries.error();
            } else {
                complain(path, entries.error());
                found.items.at(path).type = ItemType::unusable;
            }
            co_return;
        }
        RemoteDirectory& directory = found.directories[path];
        directory.node = node;
        std::vector<std::string> links;
        for (const client::RemoteEntry& entry : *entries) {
            if (entry.problem != Status::ok) {
                complain(below(path, entry.name), make_error(entry.problem));
                found.items.emplace(below(path, entry.name), Item{.type = ItemType::unusable});
                continue;
            }
            const client::RemoteFile& file = directory.entries.emplace(entry.name, entry.file).first->second;
            if (is_partial(entry.name))
                continue;
            const std::string child = below(path, entry.name);
            Item item = cli::item_of(file.attributes, archive);
            if (filter.excludes(child, item.type == ItemType::directory))
                item = {.type = ItemType::excluded};
            found.items.emplace(child, item);
            if (item.type == ItemType::directory)
                next.emplace_back(child, file.node);
            else if (item.type == ItemType::symlink)
                links.push_back(entry.name);
        }
        for (std::size_t first = 0; first < links.size(); first += wire::max_records)
            co_await read_links(path,
                                std::span(links).subspan(first, std::min(wire::max_records, links.size() - first)));
    }

    Task<void> read_links(std::string path, std::span<const std::string> names) {
        std::vector<client::EncodedRequest> requests;
        for (const std::string& name : names)
            requests.push_back(client::encoded(wire::Readlink{found.directories.at(path).entries.at(name).node}));
        const auto replies = co_await tree.session().call_batch(std::move(requests), data_lane);
        for (std::size_t i = 0; i < names.size(); ++i) {
            const std::string child = below(path, names[i]);
            const auto link = client::decoded<wire::Readlink>(replies[i]);
            if (link)
                found.items.at(child).target = link->target;
            else
                found.items.at(child).type = ItemType::unusable;
        }
    }
};

}  // namespace

Item item_of(const struct stat& status, bool archive) {
    return item_of(status.st_mode, identity_of(status), archive);
}

Item item_of(const wire::Attributes& attributes, bool archive) {
    return item_of(attributes.mode, identity_of(attributes), archive);
}

struct LocalScan::State {
    std::atomic<bool> given_up = false;
    LocalWalk walk;
    Result<> outcome;  // as the walk, the thread's until `done`
    Completion<bool> done;

    State(std::string root, bool archive, const FileFilter& filter)
        : walk{std::move(root), archive, filter, given_up} {}
};

LocalScan::LocalScan(transport::Reactor& reactor, std::string root, bool archive, const FileFilter& filter)
    : state_(std::make_shared<State>(std::move(root), archive, filter)), thread_([state = state_, &reactor] {
          ::pthread_setname_np(::pthread_self(), "scan");
          try {
              state->outcome = state->walk.list("");
          } catch (...) {
              state->outcome = status_of_exception("a scan");
          }
          reactor.post([state] { state->done.deliver(true); });
      }) {}

LocalScan::~LocalScan() {
    state_->given_up = true;
    thread_.join();
}

Task<Result<Tree>> LocalScan::result(Complain complain) {
    State& state = *state_;
    co_await state.done;
    if (!state.outcome)
        co_return Result<Tree>(state.outcome.error());
    for (const auto& [path, error] : state.walk.problems)
        complain(path, error);
    co_return Result<Tree>(std::move(state.walk.tree));
}

Task<Result<ServerTree>> scan_server(client::RemoteTree& tree, NodeId root, bool archive, const FileFilter& filter,
                                     const Complain& complain) {
    ServerScan scan{tree, archive, filter, complain};
    scan.next.emplace_back("", root);
    Parallel listings(max_listings);
    // A level of the tree at a time.
    while (!scan.next.empty()) {
        const auto level = std::exchange(scan.next, {});
        for (const auto& [path, node] : level)
            co_await listings.add(1, scan.list(path, node));
        co_await listings.idle();
    }
    if (!scan.root_outcome)
        co_return Result<ServerTree>(scan.root_outcome.error());
    co_return Result<ServerTree>(std::move(scan.found));
}

}  // namespace remofile::cli
