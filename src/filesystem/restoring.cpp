// SPDX-License-Identifier: MIT
// Going on with a session that takes the place of one that the server has lost.
//
// What ids stand for is made known to the server again: nodes by the names under which they were found last, if the
// same file is there, or by that it is kept for having been open when it was removed, open files and directories by
// their nodes, and locks by those who have them. What is not there any more, or is another file, is stale from now on;
// so is a file through which a lock was held that somebody else has, or may have had meanwhile. What the server's
// machine has lost is sent again (sending_again.cpp).
//
// Of the changes that programs were told of and the server has not answered, those that it had carried out are found by
// what their names stand for (carried_out.hpp); the others are sent again.
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "base/log.hpp"
#include "client/waiters.hpp"
#include "filesystem/file_system.hpp"
#include "filesystem/outcome.hpp"

namespace remofile::filesystem {
namespace {

constexpr std::uint64_t no_epoch = 0;  // sessions have others

bool is_not_known(InodeNumber id) {
    return id == unnumbered_inode || id == unknown_inode;
}

bool is_cut_off(const std::vector<client::EncodedReply>& replies) {
    return std::ranges::any_of(replies, is_of_connection, &client::EncodedReply::status);
}

}  // namespace

std::uint32_t FileSystem::flags_to_open_again(const OpenHow& how) {
    return how.flags & ~(wire::open_append | wire::open_truncate | wire::open_exclusive);
}

Task<bool> FileSystem::restore_session() {
    begin_session();
    co_await front_names_dropped();
    found_again_.reset();
    lost_files_ = 0;
    bool is_done = co_await restore_known_nodes();
    if (is_done)
        is_done = co_await restore_files();
    if (is_done)
        is_done = co_await send_lost_again();
    if (is_done)
        is_done = co_await restore_locks();
    if (is_done)
        is_done = co_await restore_directories();
    co_return is_done;
}

// Ends when no name of before is kept in front: whoever is told next that something failed looks what is there.
Task<void> FileSystem::front_names_dropped() {
    if (front_names_ == nullptr)
        co_return;
    struct Dropped {
        bool is_done = false;
        client::Waiters waiters;
    };
    const auto dropped = std::make_shared<Dropped>();  // the front may call late
    front_names_->when_names_dropped([dropped] {
        dropped->is_done = true;
        dropped->waiters.wake(Status::ok);
    });
    if (!dropped->is_done)
        co_await dropped->waiters.wait(nullptr);
}

// ---------------------------------------------------------------- asking

// Answers to questions that are asked all at once.
struct FileSystem::Questions {
    std::vector<client::EncodedReply> replies;
    std::size_t under_way = 0;
    client::Waiters answered;
};

Task<void> FileSystem::ask_some(std::vector<client::EncodedRequest> requests, std::uint32_t credential,
                                std::shared_ptr<Questions> all, std::size_t first) {
    const client::CallOptions options{.credential = credential, .timeout = Duration::max(), .restores = true};
    auto replies = co_await session_.call_batch(std::move(requests), options);
    std::ranges::move(replies, all->replies.begin() + static_cast<std::ptrdiff_t>(first));
    --all->under_way;
    all->answered.wake(Status::ok);
}

// The server goes on as soon as it has what a question is about, whether or not the answer has come.
Task<std::vector<client::EncodedReply>> FileSystem::ask_all(std::vector<client::EncodedRequest> requests,
                                                            std::uint32_t credential) {
    const auto all = std::make_shared<Questions>();
    all->replies.resize(requests.size());
    for (client::EncodedReply& reply : all->replies)
        reply.status = Status::no_session;
    for (std::size_t first = 0; first < requests.size(); first += wire::max_records) {
        const auto begin = requests.begin() + static_cast<std::ptrdiff_t>(first);
        const auto count = static_cast<std::ptrdiff_t>(std::min(requests.size() - first, wire::max_records));
        std::vector<client::EncodedRequest> some(std::make_move_iterator(begin),
                                                 std::make_move_iterator(begin + count));
        ++all->under_way;
        spawn(ask_some(std::move(some), credential, all, first), [all](Status) {
            --all->under_way;
            all->answered.wake(Status::ok);
        });
    }
    while (all->under_way > 0)
        co_await all->answered.wait(nullptr);
    co_return std::move(all->replies);
}

// ---------------------------------------------------------------- nodes

// Where the file may be: where changes that had been carried out have put it or, if they have not, where it was found
// last, and under the other names that were given to it.
std::vector<NamePlace> FileSystem::places_to_look(const Inode& inode) const {
    const auto is_touched = [&](const auto& name) { return name.second == inode.id; };
    if (found_again_) {
        const auto name = std::ranges::find_if(found_again_->names, is_touched);
        if (name != found_again_->names.end())
            return {name->first};
    }
    std::vector<NamePlace> places;
    if (!inode.place.name.empty())
        places.push_back({inode.place.parent, inode.place.name});
    for (NamePlace& other : linked_names_.of(inode.id)) {
        if (places.empty() || other != places.front())
            places.push_back(std::move(other));
    }
    if (found_again_)
        std::erase_if(places, [&](const NamePlace& place) { return found_again_->names.contains(place); });
    return places;
}

// Whether the server has the file under the node that it had before. If that stands for another one, it is to be given
// back.
bool FileSystem::is_restored(InodeNumber id, NodeId node, const client::EncodedReply& answer, std::uint64_t asked_at,
                             std::vector<wire::ForgetNode>& others) {
    const auto reply = client::decoded<wire::Lookup>(answer);
    if (!reply)
        return false;
    Inode* inode = inodes_.find(id);
    const bool is_it = inode != nullptr && inode->node == node &&
                       (inode->identity == reply->attributes.identity || inode->unmade) &&
                       inode->type == (reply->attributes.mode & S_IFMT);
    if (!is_it) {
        others.push_back({node, 1});
        return false;
    }
    InodeMap::restored(*inode);
    const auto is_it_too = [id](const auto& name) { return name.second == id; };
    if (found_again_ && std::ranges::any_of(found_again_->names, is_it_too))
        found_again_->attributes.emplace(id, reply->attributes);
    // Of what was lost nothing is shown before it has been sent again.
    if (!inode->unmade && !contents_.unsynced().is_lost(id))
        contents_.seen(id, reply->attributes, asked_at);
    return true;
}

// Those that are not there. Errors: no_session.
Task<Result<std::vector<InodeNumber>>> FileSystem::restore_nodes(std::vector<InodeNumber> left) {
    for (const std::uint32_t credential : session_.credentials()) {
        // Under one name after the other.
        for (std::size_t which = 0; which <= LinkedNames::max_names && !left.empty(); ++which) {
            std::vector<client::EncodedRequest> requests;
            std::vector<std::pair<InodeNumber, NodeId>> asked;
            std::vector<InodeNumber> not_found;
            for (const InodeNumber id : left) {
                const Inode* inode = inodes_.find(id);
                const auto places = inode == nullptr ? std::vector<NamePlace>() : places_to_look(*inode);
                const Inode* parent = which < places.size() ? inodes_.find(places[which].directory) : nullptr;
                if (parent == nullptr || !parent->node) {
                    not_found.push_back(id);
                    continue;
                }
                requests.push_back(
                    client::encoded(wire::Lookup{parent->node, places[which].name, {inode->node, false}}));
                asked.emplace_back(id, inode->node);
            }
            if (requests.empty() && which > 0)
                break;
            const std::uint64_t asked_at = contents_.now();
            const auto replies = co_await ask_all(std::move(requests), credential);
            if (is_cut_off(replies))
                co_return Result<std::vector<InodeNumber>>(Status::no_session);
            std::vector<wire::ForgetNode> others;
            for (std::size_t i = 0; i < asked.size(); ++i) {
                if (!is_restored(asked[i].first, asked[i].second, replies[i], asked_at, others))
                    not_found.push_back(asked[i].first);
            }
            left = std::move(not_found);
            // Before those nodes are asked for under another name.
            std::vector<client::EncodedRequest> given_back;
            for (const wire::Forget& message : messages_to_forget(others))
                given_back.push_back(client::encoded(message));
            const auto given = co_await ask_all(std::move(given_back), credential);
            if (is_cut_off(given))
                co_return Result<std::vector<InodeNumber>>(Status::no_session);
        }
    }
    co_return left;
}

// Files that have no name any more, but handles, are there as long as the server keeps them. Those that are not there.
// Errors: no_session.
Task<Result<std::vector<InodeNumber>>> FileSystem::restore_kept(std::vector<InodeNumber> left) {
    if ((session_.hello().features & wire::feature_kept_files) == 0)
        co_return left;
    std::set<InodeNumber> open;
    for (HandleTable<FileHandle>* files : {&files_, &released_})
        files->for_each_numbered([&](HandleNumber, const FileHandle& file) { open.insert(file.inode); });
    std::vector<client::EncodedRequest> requests;
    std::vector<std::pair<InodeNumber, NodeId>> asked;
    std::vector<InodeNumber> not_found;
    for (const InodeNumber id : left) {
        const Inode* inode = inodes_.find(id);
        if (inode == nullptr || inode->unmade || inode->type != S_IFREG || !open.contains(id)) {
            not_found.push_back(id);
            continue;
        }
        requests.push_back(client::encoded(wire::FindKept{inode->identity, {inode->node, false}}));
        asked.emplace_back(id, inode->node);
    }
    const std::uint64_t asked_at = contents_.now();
    const auto replies = co_await ask_all(std::move(requests), 0);
    if (is_cut_off(replies))
        co_return Result<std::vector<InodeNumber>>(Status::no_session);
    std::vector<wire::ForgetNode> others;
    for (std::size_t i = 0; i < asked.size(); ++i) {
        if (!is_restored(asked[i].first, asked[i].second, replies[i], asked_at, others))
            not_found.push_back(asked[i].first);
    }
    give_back(std::move(others));
    co_return not_found;
}

// Directories first: changes that are under way put files elsewhere, but not those.
Task<bool> FileSystem::restore_known_nodes() {
    std::vector<InodeNumber> directories;
    std::vector<InodeNumber> rest;
    for (const InodeNumber id : inodes_.with_nodes()) {
        const Inode& inode = *inodes_.find(id);
        (inode.type == S_IFDIR && !inode.unmade ? directories : rest).push_back(id);
    }
    const std::size_t count = directories.size() + rest.size();
    auto left = co_await restore_nodes(std::move(directories));
    if (!left)
        co_return false;
    for (const InodeNumber id : *left) {
        if (Inode* inode = inodes_.find(id); inode != nullptr)
            inodes_.condemn(*inode);
    }
    std::size_t lost = left->size();
    const bool has_looked = co_await look_at_changed_names();
    if (!has_looked)
        co_return false;
    // What is yet to be made is not there.
    std::erase_if(rest, [this](InodeNumber id) {
        const Inode* inode = inodes_.find(id);
        return inode == nullptr || (inode->unmade && (!found_again_ || places_to_look(*inode).empty()));
    });
    left = co_await restore_nodes(std::move(rest));
    if (!left)
        co_return false;
    left = co_await restore_kept(std::move(*left));
    if (!left)
        co_return false;
    for (const InodeNumber id : *left) {
        if (Inode* inode = inodes_.find(id); inode != nullptr && !inode->unmade)
            inodes_.condemn(*inode);
    }
    lost += left->size();
    log::info("of {} files and directories that the server had been asked about, {} are there", count, count - lost);
    co_return true;
}

// ---------------------------------------------------------------- changes under way

bool FileSystem::stands_for(const FoundNames& there, const NamePlace& place, InodeNumber id) {
    const auto found = there.find(place);
    if (found == there.end() || id == 0)
        return found == there.end() && id == 0;
    const Inode* inode = inodes_.find(id);
    if (inode != nullptr && inode->identity == found->second)
        return true;
    // One that was not lent, or could not be used, has a number that is not known.
    return (inode == nullptr ? id == unnumbered_inode : inode->unmade) && inodes_.find(found->second) == nullptr;
}

// Finds out which of them had been carried out.
Task<bool> FileSystem::look_at_changed_names() {
    std::vector<std::uint64_t> numbers;
    std::vector<std::vector<NameChange>> changes;
    for (const auto& [number, names] : behind_.of_names()) {
        numbers.push_back(number);
        changes.push_back(names);
    }
    std::set<NamePlace> places;
    std::set<NamePlace> of_several;
    for (const auto* each : {&behind_.of_names(), &behind_.asked()}) {
        for (const auto& [number, names] : *each) {
            for (const NameChange& name : names) {
                if (!places.insert(name.place).second)
                    of_several.insert(name.place);
            }
        }
    }
    const auto there = co_await look_up_all(std::move(places));
    if (!there)
        co_return false;
    const auto stands_for_it = [&](const NamePlace& place, InodeNumber id) { return stands_for(*there, place, id); };
    auto result = carried_out(changes, stands_for_it);
    if (!result) {
        log::error(
            "names are not as any of {} changes could have left them: somebody else has changed them, and what the "
            "server had not answered is lost",
            changes.size());
        co_return true;
    }
    if (!changes.empty())
        log::info("of {} changes of names that the server had not answered, {} had been carried out", changes.size(),
                  result->count);
    found_again_.emplace(FoundAgain{.last_change = result->count == 0 ? 0 : numbers[result->count - 1],
                                    .names = std::move(result->names),
                                    .carried_out = {},
                                    .not_carried_out = {},
                                    .attributes = {}});
    for (const auto& [number, names] : behind_.asked()) {
        if (std::ranges::none_of(names, [&](const NameChange& name) { return of_several.contains(name.place); }))
            judge(number, names, *there);
    }
    co_return true;
}

// Of a change for which a program waits. Whoever made what is there now nobody knows: it may have been somebody else.
void FileSystem::judge(std::uint64_t number, const std::vector<NameChange>& names, const FoundNames& there) {
    const auto seems_to_stand_for = [&](const NamePlace& place, InodeNumber id) {
        if (is_not_known(id))
            return id == unknown_inode || there.contains(place);
        return stands_for(there, place, id);
    };
    const auto done = was_carried_out(names, seems_to_stand_for);
    if (!done)
        return;
    if (!*done) {
        found_again_->not_carried_out.insert(number);
        return;
    }
    if (std::ranges::any_of(names, [](const NameChange& name) { return name.before == 0 && is_not_known(name.after); }))
        return;
    found_again_->carried_out.insert(number);
    for (const NameChange& name : names) {
        InodeNumber now = name.after;
        if (is_not_known(now)) {
            const Inode* inode = inodes_.find(there.at(name.place));
            now = inode == nullptr ? unnumbered_inode : inode->id;
        }
        found_again_->names.emplace(name.place, now);
    }
}

// What names stand for at the server, those that stand for something. Nothing if the connection is lost.
Task<std::optional<FileSystem::FoundNames>> FileSystem::look_up_all(std::set<NamePlace> places) {
    std::map<std::size_t, std::vector<NamePlace>> by_levels;
    for (const NamePlace& place : places) {
        if (const Inode* directory = inodes_.find(place.directory); directory != nullptr)
            by_levels[inodes_.levels_of_place(*directory)].push_back(place);
    }
    // Directories that are being made may be there: what is in them is looked up by the nodes that they get here.
    std::unordered_map<InodeNumber, NodeId> found_as;
    for (const InodeNumber id : inodes_.with_nodes()) {
        const Inode& inode = *inodes_.find(id);
        if (inode.unmade && inode.type == S_IFDIR)
            found_as[id] = session_.new_node_id();
    }
    std::vector<client::EncodedRequest> requests;
    std::vector<std::pair<NamePlace, NodeId>> asked;
    for (const auto& [levels, in_them] : by_levels) {
        for (const NamePlace& place : in_them) {
            const auto found = found_as.find(place.directory);
            const NodeId parent = found != found_as.end() ? found->second : inodes_.find(place.directory)->node;
            if (!parent)
                continue;
            const auto made = std::ranges::find_if(found_as, [&](const auto& directory) {
                const Inode::Place& of_it = inodes_.find(directory.first)->place;
                return of_it.parent == place.directory && of_it.name == place.name;
            });
            const NodeId node = made == found_as.end() ? session_.new_node_id() : made->second;
            requests.push_back(client::encoded(wire::Lookup{parent, place.name, {node, false}}));
            asked.emplace_back(place, node);
        }
    }
    const auto credentials = session_.credentials();
    const auto replies = co_await ask_all(std::move(requests), credentials.empty() ? 0 : credentials.front());
    if (is_cut_off(replies))
        co_return std::nullopt;
    FoundNames there;
    for (std::size_t i = 0; i < asked.size(); ++i) {
        if (const auto reply = client::decoded<wire::Lookup>(replies[i])) {
            there.emplace(asked[i].first, reply->attributes.identity);
            give_back({{asked[i].second, 1}});
        }
    }
    co_return there;
}

client::Fate FileSystem::fate_of_change(std::uint64_t change, const std::vector<client::EncodedRequest>& requests) {
    if (!found_again_)
        return {};
    const bool is_behind = behind_.of_names().contains(change);
    const bool is_carried_out =
        is_behind ? change <= found_again_->last_change : found_again_->carried_out.contains(change);
    if (!is_behind && !is_carried_out && !found_again_->not_carried_out.contains(change))
        return {};
    client::Fate fate{.is_known = true, .replies = {}};
    if (!is_carried_out)
        return fate;
    fate.replies.emplace();
    for (const client::EncodedRequest& request : requests)
        fate.replies->push_back(answer_of_before(request));
    return fate;
}

// What the answer would have been to a request that was carried out.
client::EncodedReply FileSystem::answer_of_before(const client::EncodedRequest& request) {
    client::EncodedReply reply;
    const auto made = [&]<class Request>(const Result<Request>& message) {
        reply.body = wire::encode_body(made_before(message->node.id));
    };
    switch (request.opcode) {
        case wire::Opcode::lookup:  // of what the name stood for before
            reply.status = Status::no_entry;
            break;
        case wire::Opcode::mkdir:
            made(wire::decode_body<wire::Mkdir>(request.body));
            break;
        case wire::Opcode::mknod:
            made(wire::decode_body<wire::Mknod>(request.body));
            break;
        case wire::Opcode::symlink:
            made(wire::decode_body<wire::Symlink>(request.body));
            break;
        case wire::Opcode::make_lent:
            made(wire::decode_body<wire::MakeLent>(request.body));
            break;
        case wire::Opcode::create: {
            const auto message = wire::decode_body<wire::Create>(request.body);
            reply.body = wire::encode_body(wire::CreateReply{.entry = made_before(message->node.id), .created = true});
            break;
        }
        case wire::Opcode::link: {
            const auto message = wire::decode_body<wire::Link>(request.body);
            reply.body = wire::encode_body(made_before(message->node));
            break;
        }
        default:  // UNLINK, RMDIR, RENAME
            break;
    }
    return reply;
}

// As it is, or as programs have been told if it is not there any more.
wire::EntryReply FileSystem::made_before(NodeId node) {
    wire::EntryReply entry{.node = node, .attributes = {}};
    const Inode* inode = inodes_.find(node);
    if (inode == nullptr)
        return entry;
    if (const auto found = found_again_->attributes.find(inode->id); found != found_again_->attributes.end()) {
        entry.attributes = found->second;
        return entry;
    }
    if (const wire::Attributes* shown = behind_.shown(inode->id); shown != nullptr)
        entry.attributes = *shown;
    entry.attributes.identity = inode->identity;
    entry.attributes.mode = inode->type | (entry.attributes.mode & ~std::uint32_t{S_IFMT});
    return entry;
}

// ---------------------------------------------------------------- what is open

// It reports errors from now on.
void FileSystem::lose(FileHandle& file) {
    file.epoch = no_epoch;
    ++lost_files_;
}

Task<bool> FileSystem::restore_files() {
    bool is_done = co_await restore_files(files_);
    if (is_done)
        is_done = co_await restore_files(released_);
    co_return is_done;
}

Task<bool> FileSystem::restore_files(HandleTable<FileHandle>& files) {
    std::map<std::uint32_t, std::vector<HandleNumber>> by_credential;
    std::vector<HandleNumber> open;
    files.for_each_numbered([&](HandleNumber number, const FileHandle& file) {
        if (file.handle && file.epoch == session_.epoch())
            open.push_back(number);
    });
    for (const HandleNumber number : open) {
        FileHandle* file = files.find(number);
        const Inode* inode = file == nullptr ? nullptr : inodes_.find(file->inode);
        // The request that makes the file makes the handle, too.
        if (file == nullptr ||
            (inode != nullptr && inode->unmade && !(found_again_ && found_again_->attributes.contains(inode->id))))
            continue;
        if (inode == nullptr || inodes_.stale(*inode)) {
            lose(*file);
            continue;
        }
        std::uint32_t credential = 0;
        if (file->opener != nullptr) {
            const auto found = co_await credential_of(*file->opener, nullptr);
            if (!found)
                co_return false;
            credential = *found;
        }
        by_credential[credential].push_back(number);
    }
    for (const auto& [credential, numbers] : by_credential) {
        const bool is_done = co_await open_again(files, credential, numbers);
        if (!is_done)
            co_return false;
    }
    co_return true;
}

Task<bool> FileSystem::open_again(HandleTable<FileHandle>& files, std::uint32_t credential,
                                  std::vector<HandleNumber> numbers) {
    std::vector<client::EncodedRequest> requests;
    std::vector<HandleNumber> asked;
    for (const HandleNumber number : numbers) {
        const FileHandle* file = files.find(number);
        const Inode* inode = file == nullptr ? nullptr : inodes_.find(file->inode);
        if (inode == nullptr)
            continue;
        requests.push_back(client::encoded(wire::Open{inode->node, file->handle, file->flags}));
        asked.push_back(number);
    }
    const auto replies = co_await ask_all(std::move(requests), credential);
    if (is_cut_off(replies))
        co_return false;
    for (std::size_t i = 0; i < asked.size(); ++i) {
        FileHandle* file = files.find(asked[i]);
        if (file == nullptr || replies[i].status == Status::ok)
            continue;
        log::warn("file {} cannot be opened again: {}", file->inode, describe(replies[i].status));
        lose(*file);
    }
    co_return true;
}

// Also where none are held: others wait for this to end.
Task<bool> FileSystem::restore_locks() {
    const std::vector<HeldLocks::Held> held = held_locks_.all();
    std::set<HandleNumber> lost;
    std::vector<HeldLocks::Held> asked;
    for (const HeldLocks::Held& lock : held) {
        const FileHandle* file = files_.find(lock.through);
        if (file != nullptr && file->handle && file->epoch == session_.epoch())
            asked.push_back(lock);
        else
            lost.insert(lock.through);
    }
    if ((session_.hello().features & wire::feature_reclaim_locks) == 0) {
        for (const HeldLocks::Held& lock : asked)
            lost.insert(lock.through);
    } else {
        std::span<const HeldLocks::Held> left = asked;
        do {
            const auto some = left.first(std::min(left.size(), wire::max_reclaimed_locks));
            left = left.subspan(some.size());
            const bool is_done = co_await reclaim(some, !left.empty(), lost);
            if (!is_done)
                co_return false;
        } while (!left.empty());
    }
    if (!held.empty())
        log::info(
            "of {} locks that programs had, {} are held on", held.size(),
            std::ranges::count_if(held, [&](const HeldLocks::Held& lock) { return !lost.contains(lock.through); }));
    const bool is_done = co_await lose_locked(std::move(lost));
    if (is_done && lost_files_ > 0)
        log::warn(
            "{} open files report errors: they are not there any more, or a lock that was held through them is lost",
            lost_files_);
    co_return is_done;
}

Task<bool> FileSystem::reclaim(std::span<const HeldLocks::Held> held, bool more, std::set<HandleNumber>& lost) {
    wire::ReclaimLocks message{.locks = {}, .more = more};
    for (const HeldLocks::Held& lock : held)
        message.locks.push_back({.handle = files_.find(lock.through)->handle,
                                 .whole = lock.whole,
                                 .owner = lock.owner,
                                 .range = lock.range});
    std::vector<client::EncodedRequest> requests;
    requests.push_back(client::encoded(message));
    const auto replies = co_await ask_all(std::move(requests), 0);
    if (is_cut_off(replies))
        co_return false;
    const auto reply = client::decoded<wire::ReclaimLocks>(replies.front());
    for (std::size_t i = 0; i < held.size(); ++i) {
        if (!reply || std::ranges::find(reply->lost, i) != reply->lost.end())
            lost.insert(held[i].through);
    }
    co_return true;
}

// The handles report errors, and keep no other lock at the server.
Task<bool> FileSystem::lose_locked(std::set<HandleNumber> lost) {
    std::vector<client::EncodedRequest> requests;
    for (const HandleNumber number : lost) {
        held_locks_.closed(number);
        FileHandle* file = files_.find(number);
        if (file == nullptr || file->epoch != session_.epoch())
            continue;
        log::warn("a lock of file {} is lost", file->inode);
        if (file->handle)
            requests.push_back(client::encoded(wire::Release{file->handle}));
        lose(*file);
    }
    const auto replies = co_await ask_all(std::move(requests), 0);
    co_return !is_cut_off(replies);
}

Task<bool> FileSystem::restore_directories() {
    std::vector<HandleNumber> left;
    directories_.for_each_numbered([&](HandleNumber number, const DirectoryHandle& directory) {
        if (directory.handle && directory.epoch == session_.epoch())
            left.push_back(number);
    });
    for (const std::uint32_t credential : session_.credentials()) {
        std::vector<client::EncodedRequest> requests;
        std::vector<HandleNumber> asked;
        for (const HandleNumber number : left) {
            const DirectoryHandle* directory = directories_.find(number);
            const Inode* inode = directory == nullptr ? nullptr : inodes_.find(directory->inode);
            if (inode == nullptr || inodes_.stale(*inode))
                continue;
            requests.push_back(client::encoded(wire::Opendir{inode->node, directory->handle}));
            asked.push_back(number);
        }
        const auto replies = co_await ask_all(std::move(requests), credential);
        if (is_cut_off(replies))
            co_return false;
        for (std::size_t i = 0; i < asked.size(); ++i) {
            if (replies[i].status == Status::ok)
                std::erase(left, asked[i]);
        }
        if (left.empty())
            break;
    }
    for (const HandleNumber number : left) {
        if (DirectoryHandle* directory = directories_.find(number); directory != nullptr)
            directory->epoch = no_epoch;
    }
    co_return true;
}

}  // namespace remofile::filesystem
