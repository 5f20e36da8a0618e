// SPDX-License-Identifier: MIT
#include "filesystem/replay.hpp"

#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <utility>

#include "base/log.hpp"
#include "client/conflict_name.hpp"
#include "client/remote_tree.hpp"
#include "filesystem/carried_out.hpp"
#include "filesystem/outcome.hpp"

namespace remofile::filesystem {

using spool::Change;
using spool::ChangeKind;
using spool::Extent;
using spool::no_object;
using spool::ObjectNumber;
using spool::root_object;
using spool::Step;
using spool::StepKind;
using spool::Written;

namespace {

constexpr std::uint32_t all_permissions = 07777;
constexpr std::uint32_t mode_of_substitute = 0755;  // of a directory in the place of one that is gone
constexpr int max_conflict_names = 100;
constexpr std::uint64_t max_copy_bytes = 64U << 20;
constexpr std::size_t digests_a_step = 1024;
// How much later than the server's last word on a file what had been on its way may have been written to it. By the
// server's clock.
constexpr std::int64_t under_way_seconds = 60;

// Devices have other numbers after a restart of the machine.
bool is_same_file(const wire::FileIdentity& one, const wire::FileIdentity& other) {
    return one.inode == other.inode && one.birth == other.birth;
}

// What is in the file behind all that was written, in pieces that do not overlap, by offset; none larger than a
// message takes.
std::vector<Extent> pieces_of(const std::vector<Extent>& extents) {
    std::map<std::uint64_t, Extent> pieces;
    for (const Extent& extent : extents) {
        const std::uint64_t begin = extent.offset;
        const std::uint64_t end = extent.end();
        auto next = pieces.lower_bound(begin);
        if (next != pieces.begin() && std::prev(next)->second.end() > begin) {
            Extent& earlier = std::prev(next)->second;
            const std::size_t kept = begin - earlier.offset;
            if (earlier.end() > end) {
                const auto rest = earlier.bytes.begin() + static_cast<std::ptrdiff_t>(end - earlier.offset);
                pieces.emplace(end, Extent{end, {rest, earlier.bytes.end()}});
            }
            earlier.bytes.resize(kept);
        }
        next = pieces.lower_bound(begin);
        while (next != pieces.end() && next->first < end) {
            Extent covered = std::move(next->second);
            next = pieces.erase(next);
            if (covered.end() > end) {
                const auto rest = covered.bytes.begin() + static_cast<std::ptrdiff_t>(end - covered.offset);
                next = pieces.emplace(end, Extent{end, {rest, covered.bytes.end()}}).first;
            }
        }
        for (std::uint64_t offset = begin; offset < end;) {
            const std::uint64_t size = std::min<std::uint64_t>(end - offset, wire::max_bulk_bytes);
            const auto from = extent.bytes.begin() + static_cast<std::ptrdiff_t>(offset - begin);
            pieces.insert_or_assign(offset, Extent{offset, {from, from + static_cast<std::ptrdiff_t>(size)}});
            offset += size;
        }
    }
    std::vector<Extent> list;
    for (auto& [_, piece] : pieces)
        if (!piece.bytes.empty())
            list.push_back(std::move(piece));
    return list;
}

std::uint64_t digest_of(const std::vector<std::byte>& bytes) {
    return XXH3_64bits(bytes.data(), bytes.size());
}

Buffer buffer_of(const std::vector<std::byte>& bytes) {
    Buffer buffer = Buffer::allocate(bytes.size());
    std::memcpy(buffer.data(), bytes.data(), bytes.size());
    return buffer;
}

}  // namespace

struct Replay::Open {
    NodeId node;
    HandleId handle;
    wire::Attributes attributes;
    std::vector<Extent> pieces;
    std::vector<bool> is_there;  // of the pieces
};

Replay::Replay(client::Session& session, const spool::Contents& contents, spool::Progress& progress,
               std::uint32_t credential)
    : session_(session),
      contents_(contents),
      progress_(progress),
      credential_(credential),
      states_(contents.objects.size()),
      done_(contents.changes.size()) {
    for (std::size_t i = 0; i < states_.size(); ++i) {
        const spool::Object& object = contents_.objects[i];
        states_[i].identity = object.identity;
        if (object.is_told)
            states_[i].told = object.told;
    }
    states_.front().node = session_.hello().root;
    take_in_progress();
}

// ---------------------------------------------------------------- asking and noting

template <class Message>
Task<Result<client::Reply<Message>>> Replay::ask(Message message, client::LaneKind lane) {
    const client::CallOptions options{.lane = lane, .credential = credential_};
    auto reply = co_await session_.call(std::move(message), options);
    if (is_of_connection(reply.status()))
        cut_off_ = reply.status();
    co_return std::move(reply);
}

void Replay::note(const Step& step, bool durably) {
    if (const auto noted = progress_.add(step, durably); !noted && outcome_.failure.empty())
        outcome_.failure = "how far it is done cannot be noted: it " + noted.error().to_string();
}

void Replay::fail(const std::string& what, Status status) {
    if (is_of_connection(status))
        cut_off_ = status;
    else if (outcome_.failure.empty())
        outcome_.failure = fmt::format("{}: {}", what, describe(status));
}

void Replay::take_in_progress() {
    for (const Step& step : progress_.before()) {
        const bool is_object = step.number < states_.size();
        if (step.kind == StepKind::change_done && step.number < done_.size())
            done_[step.number] = true;
        else if (step.kind == StepKind::placed && is_object)
            place(step.number, step.directory, step.name, step.identity);
        else if (step.kind == StepKind::copied && is_object)
            states_[step.number].copy = step.identity;
        else if (step.kind == StepKind::about_to_write && is_object)
            states_[step.number].digests.insert(states_[step.number].digests.end(), step.digests.begin(),
                                                step.digests.end());
        else if (step.kind == StepKind::written && is_object) {
            states_[step.number].is_written = true;
            states_[step.number].told = step.told;
        }
    }
}

void Replay::place(ObjectNumber number, ObjectNumber directory, const std::string& name,
                   const wire::FileIdentity& identity) {
    State& state = states_[number];
    state.placed = Place{directory, name};
    state.identity = identity;
    state.is_gone = false;
}

void Replay::done(std::uint32_t number) {
    done_[number] = true;
    ++outcome_.changes;
    note({.kind = StepKind::change_done, .number = number});
}

std::string Replay::path_of(ObjectNumber directory, std::string_view name) const {
    return (directory == root_object ? "" : path_of(directory) + "/") + std::string(name);
}

std::string Replay::path_of(ObjectNumber number) const {
    if (number >= states_.size())
        return "";
    if (const auto& placed = states_[number].placed; placed && placed->directory < states_.size())
        return path_of(placed->directory, placed->name);
    return contents_.objects[number].path;
}

std::string Replay::beside(std::string_view name, int number) const {
    return client::conflict_name(name, "local", static_cast<std::time_t>(contents_.ended_at), number);
}

const Written* Replay::written_to(ObjectNumber number) const {
    const auto found = std::ranges::find(contents_.written, number, &Written::object);
    return found == contents_.written.end() ? nullptr : &*found;
}

bool Replay::is_object(ObjectNumber number, const wire::Attributes& attributes) const {
    const State& state = states_[number];
    return state.identity.inode != 0 && is_same_file(state.identity, attributes.identity) &&
           contents_.objects[number].type == (attributes.mode & S_IFMT);
}

// Whether nobody else has changed what is in it since the server told of it.
bool Replay::is_as_told(ObjectNumber number, const wire::Attributes& attributes) const {
    if (contents_.objects[number].type != S_IFREG)
        return true;
    const auto& told = states_[number].told;
    if (!told)
        return contents_.objects[number].is_new;
    if (attributes.size != told->size)
        return false;
    const auto sets_it = [&](const Change& change) {
        return change.kind == ChangeKind::set && change.object == number &&
               (change.setting.which & wire::set_modification) != 0 &&
               change.setting.modification == attributes.modification;
    };
    return attributes.modification == told->modification || std::ranges::any_of(contents_.changes, sets_it);
}

// ---------------------------------------------------------------- finding

Task<Result<Replay::Found>> Replay::look_up(NodeId directory, std::string name) {
    const wire::Lookup message{directory, std::move(name), {session_.new_node_id(), true}};
    const auto reply = co_await ask(message);
    if (!reply)
        co_return Result<Found>(reply.error());
    named_.push_back(reply->body.node);
    co_return Found{reply->body.node, reply->body.attributes};
}

Task<Result<Replay::Found>> Replay::find_by_path(std::string path) {
    Found found{session_.hello().root, session_.hello().root_attributes};
    const auto components = client::split_path("/" + path);
    if (!components)
        co_return Result<Found>(components.error());
    for (const std::string& component : *components) {
        const auto next = co_await look_up(found.node, component);
        if (!next)
            co_return Result<Found>(next.error());
        found = *next;
    }
    co_return found;
}

// Errors: no_entry if it is not where it was, or not made yet.
Task<Result<NodeId>> Replay::node_of(ObjectNumber number) {
    State& state = states_[number];
    if (state.node)
        co_return state.node;
    if (state.is_gone || (!state.placed && contents_.objects[number].is_new))
        co_return Result<NodeId>(Status::no_entry);
    Result<Found> found = Status::no_entry;
    if (state.placed) {
        const Place at = *state.placed;
        const auto directory = co_await node_of(at.directory);
        if (directory)
            found = co_await look_up(*directory, at.name);
    } else {
        found = co_await find_by_path(contents_.objects[number].path);
    }
    if (cut_off_ != Status::ok)
        co_return Result<NodeId>(cut_off_);
    if (!found || !is_object(number, found->attributes)) {
        state.is_gone = true;
        co_return Result<NodeId>(Status::no_entry);
    }
    state.node = found->node;
    co_return state.node;
}

// The same of one in which something is to be made: if it is gone, of another that stands in for it.
Task<Result<NodeId>> Replay::directory_of(ObjectNumber number) {
    const auto node = co_await node_of(number);
    if (node)
        co_return node;
    if (cut_off_ != Status::ok || contents_.objects[number].is_new)
        co_return node;
    const auto substitute = co_await have_directory(contents_.objects[number].path);
    if (!substitute)
        co_return substitute;
    states_[number].node = *substitute;
    co_return substitute;
}

// The directory of that path or, from the first name on that is not there, or is no directory, one of a name beside it.
Task<Result<NodeId>> Replay::have_directory(std::string path) {
    const auto components = client::split_path("/" + path);
    if (!components)
        co_return Result<NodeId>(components.error());
    NodeId node = session_.hello().root;
    bool is_substitute = false;
    std::string shown;
    for (const std::string& component : *components) {
        std::string name = component;
        auto found = co_await look_up(node, name);
        const bool is_there = found && S_ISDIR(found->attributes.mode);
        if (!is_there && !is_substitute && cut_off_ == Status::ok) {
            is_substitute = true;
            name = beside(component, 1);
            conflict(fmt::format("the directory {} is gone: what was made in it is kept in {}",
                                 log::printable(shown + component), log::printable(shown + name)));
            found = co_await look_up(node, name);
        }
        if (found.status() == Status::no_entry) {
            const wire::Mkdir message{node, name, {session_.new_node_id(), true}, mode_of_substitute, 0};
            const auto made = co_await ask(message);
            if (!made)
                co_return Result<NodeId>(made.error());
            named_.push_back(made->body.node);
            changed_directories_.push_back(node);
            found = Found{made->body.node, made->body.attributes};
        }
        if (!found)
            co_return Result<NodeId>(found.error());
        node = found->node;
        shown += name + "/";
    }
    co_return node;
}

// Before the first attempt: of the changes that the server had not answered it may have carried out some.
Task<void> Replay::skip_carried_out() {
    if (!progress_.before().empty())
        co_return;
    // As carried_out() knows files: 0 is nothing, and the root is 1.
    const auto as_inode = [](ObjectNumber number) {
        return number == no_object ? InodeNumber{0} : InodeNumber{number} + 1;
    };
    std::vector<std::uint32_t> numbers;
    std::vector<std::vector<NameChange>> changes;
    for (std::uint32_t i = 0; i < contents_.changes.size(); ++i) {
        const Change& change = contents_.changes[i];
        const NamePlace at{as_inode(change.directory), change.name};
        const InodeNumber object = as_inode(change.object);
        switch (change.kind) {
            case ChangeKind::make:
            case ChangeKind::link:
                changes.push_back({{at, 0, object}});
                break;
            case ChangeKind::remove:
                changes.push_back({{at, object, 0}});
                break;
            case ChangeKind::rename:
                changes.push_back(
                    {{at, object, 0},
                     {{as_inode(change.new_directory), change.new_name}, as_inode(change.replaced), object}});
                break;
            case ChangeKind::set:
                continue;
        }
        numbers.push_back(i);
    }
    std::map<NamePlace, Found> there;
    std::map<ObjectNumber, Found> made;  // directories that may be ours, by where they were to be made
    for (std::size_t i = 0; i < changes.size(); ++i) {
        for (const NameChange& name : changes[i]) {
            const auto directory = static_cast<ObjectNumber>(name.place.directory - 1);
            Result<NodeId> node = Status::no_entry;
            if (const auto ours = made.find(directory); ours != made.end())
                node = ours->second.node;
            else
                node = co_await node_of(directory);
            if (node && !there.contains(name.place)) {
                const auto found = co_await look_up(*node, name.place.name);
                if (found)
                    there.emplace(name.place, *found);
                else if (found.status() != Status::no_entry && found.status() != Status::not_directory)
                    co_return fail("names could not be looked up", found.status());
            }
            if (cut_off_ != Status::ok)
                co_return;
        }
        const Change& change = contents_.changes[numbers[i]];
        const auto found = there.find(changes[i].front().place);
        if (change.kind == ChangeKind::make && contents_.objects[change.object].type == S_IFDIR && found != there.end())
            made.emplace(change.object, found->second);
    }
    const auto is_known = [&](const Found& found) {
        for (ObjectNumber number = 0; number < states_.size(); ++number)
            if (is_object(number, found.attributes))
                return true;
        return false;
    };
    const auto stands_for = [&](const NamePlace& place, InodeNumber inode) {
        const auto found = there.find(place);
        if (found == there.end() || inode == 0)
            return found == there.end() && inode == 0;
        const auto number = static_cast<ObjectNumber>(inode - 1);
        if (is_object(number, found->second.attributes))
            return true;
        return states_[number].identity.inode == 0 && !is_known(found->second) &&
               contents_.objects[number].type == (found->second.attributes.mode & S_IFMT);
    };
    const auto count = carried_out(changes, stands_for);
    if (!count || count->count == 0)
        co_return;
    for (std::size_t i = 0; i < count->count; ++i) {
        const Change& change = contents_.changes[numbers[i]];
        const bool is_renamed = change.kind == ChangeKind::rename;
        const ObjectNumber directory = is_renamed ? change.new_directory : change.directory;
        const std::string& name = is_renamed ? change.new_name : change.name;
        const auto found = there.find({as_inode(directory), name});
        if (change.object != no_object && (change.kind == ChangeKind::make || is_renamed)) {
            const bool is_at_last = found != there.end() && stands_for(found->first, as_inode(change.object));
            place(change.object, directory, name,
                  is_at_last ? found->second.attributes.identity : states_[change.object].identity);
            states_[change.object].node = {};
            note({.kind = StepKind::placed,
                  .number = change.object,
                  .directory = directory,
                  .name = name,
                  .identity = states_[change.object].identity});
        }
        done(numbers[i]);
    }
    log::info("of {} changes of names that were kept, the server had carried out {}", changes.size(), count->count);
}

// ---------------------------------------------------------------- contents

Task<Result<std::vector<std::byte>>> Replay::read(HandleId handle, std::uint64_t offset, std::uint64_t size) {
    using Bytes = Result<std::vector<std::byte>>;
    std::vector<std::byte> bytes;
    while (bytes.size() < size) {
        const wire::Read message{
            handle, offset + bytes.size(),
            static_cast<std::uint32_t>(std::min<std::uint64_t>(size - bytes.size(), wire::max_bulk_bytes))};
        const auto reply = co_await ask(message, client::LaneKind::data);
        if (!reply)
            co_return Bytes(reply.error());
        if (reply->bulk.size() == 0)
            break;
        const auto part = reply->bulk.bytes();
        bytes.insert(bytes.end(), part.begin(), part.end());
    }
    co_return bytes;
}

Task<void> Replay::write_all(bool is_new) {
    for (const Written& written : contents_.written) {
        if (contents_.objects[written.object].is_new != is_new || states_[written.object].is_written)
            continue;
        const auto node = co_await node_of(written.object);
        if (!may_go_on())
            co_return;
        if (node)
            co_await write(written, std::nullopt);
        else if (!is_new)
            co_await keep_beside(written, nullptr);
        if (!may_go_on())
            co_return;
    }
}

// `made`: a handle of the file, which has just been made.
Task<void> Replay::write(const Written& written, std::optional<HandleId> made) {
    const std::string path = path_of(written.object);
    Open file{.node = states_[written.object].node,
              .handle = made.value_or(HandleId{}),
              .attributes = {},
              .pieces = pieces_of(written.extents),
              .is_there = {}};
    file.is_there.resize(file.pieces.size());
    if (!made) {
        const wire::Open message{file.node, session_.new_handle_id(), wire::open_read | wire::open_write};
        const auto opened = co_await ask(message);
        if (!opened)
            co_return fail(path, opened.status());
        file.handle = message.handle;
        file.attributes = opened->body.attributes;
    }
    bool may = true;
    if (!made)
        may = co_await may_write(written, file);
    if (may_go_on() && may)
        co_await put(written, file);
    else if (may_go_on())
        co_await keep_beside(written, &file);
    session_.tell(wire::Release{file.handle}, client::LaneKind::data);
}

// Whether nothing of somebody else's is overwritten by what was written here.
Task<bool> Replay::may_write(const Written& written, Open& file) {
    State& state = states_[written.object];
    if (contents_.objects[written.object].is_new) {
        const bool is_ours = co_await is_ours_in_part(&written, file.handle, file.attributes.size);
        co_return is_ours;
    }
    std::vector<std::uint64_t> digests;
    std::size_t first = 0;  // so many in the beginning are there
    bool is_in_beginning = true;
    bool are_ours_or_as_before = state.digests.size() == file.pieces.size();
    for (std::size_t i = 0; i < file.pieces.size(); ++i) {
        const Extent& piece = file.pieces[i];
        const auto bytes = co_await read(file.handle, piece.offset, piece.bytes.size());
        if (!bytes) {
            fail(path_of(written.object), bytes.status());
            co_return false;
        }
        file.is_there[i] = *bytes == piece.bytes;
        is_in_beginning = is_in_beginning && file.is_there[i];
        first += is_in_beginning ? 1U : 0U;
        digests.push_back(digest_of(*bytes));
        are_ours_or_as_before = are_ours_or_as_before && (file.is_there[i] || digests.back() == state.digests[i]);
    }
    if (first == file.pieces.size() || are_ours_or_as_before)
        co_return true;
    if (state.digests.size() == file.pieces.size())
        co_return false;
    if (!is_as_told(written.object, file.attributes)) {
        // What was on its way when the mount lost the server: as far as it was written, nobody has written since.
        const auto& told = state.told;
        if (!told || first == 0)
            co_return false;
        const std::uint64_t size = std::max(told->size, file.pieces[first - 1].end());
        const std::int64_t later = file.attributes.modification.seconds - told->modification.seconds;
        if (file.attributes.size != size || later < 0 || later > under_way_seconds)
            co_return false;
    }
    // So that whoever goes on after an interruption knows what was there.
    state.digests.clear();
    for (std::size_t i = 0; i < digests.size(); i += digests_a_step) {
        const auto begin = digests.begin() + static_cast<std::ptrdiff_t>(i);
        const auto count = static_cast<std::ptrdiff_t>(std::min(digests_a_step, digests.size() - i));
        note({.kind = StepKind::about_to_write, .number = written.object, .digests = {begin, begin + count}}, true);
    }
    co_return may_go_on();
}

// Whether all that is in the file, but for zero bytes, is what was written here. Null: nothing was.
Task<bool> Replay::is_ours_in_part(const Written* written, HandleId handle, std::uint64_t size) {
    if (size == 0)
        co_return true;
    if (written == nullptr || size > written->size)
        co_return false;
    const std::vector<Extent> pieces = pieces_of(written->extents);
    for (std::uint64_t offset = 0; offset < size; offset += wire::max_bulk_bytes) {
        const auto bytes = co_await read(handle, offset, std::min<std::uint64_t>(size - offset, wire::max_bulk_bytes));
        if (!bytes) {
            fail(path_of(written->object), bytes.status());
            co_return false;
        }
        std::vector<std::byte> ours(bytes->size());
        for (const Extent& piece : pieces) {
            const std::uint64_t begin = std::max(piece.offset, offset);
            const std::uint64_t end = std::min(piece.end(), offset + ours.size());
            if (begin < end)
                std::memcpy(ours.data() + (begin - offset), piece.bytes.data() + (begin - piece.offset), end - begin);
        }
        for (std::size_t i = 0; i < ours.size(); ++i)
            if ((*bytes)[i] != ours[i] && (*bytes)[i] != std::byte{0})
                co_return false;
    }
    co_return true;
}

Task<void> Replay::put(const Written& written, Open& file) {
    const std::string path = path_of(written.object);
    State& state = states_[written.object];
    for (std::size_t i = 0; i < file.pieces.size(); ++i) {
        const Extent& piece = file.pieces[i];
        for (std::size_t at = 0; at < piece.bytes.size() && !file.is_there[i];) {
            const std::vector<std::byte> rest(piece.bytes.begin() + static_cast<std::ptrdiff_t>(at), piece.bytes.end());
            const wire::Write message{file.handle, piece.offset + at, false};
            const client::CallOptions options{.lane = client::LaneKind::data, .credential = credential_};
            const auto reply = co_await session_.call_with_bulk(message, buffer_of(rest), options);
            if (!reply)
                co_return fail(path, reply.status());
            if (reply->body.size == 0)
                co_return fail(path, Status::io_error);
            at += reply->body.size;
        }
    }
    const wire::Fsync sync{file.handle, false};
    const auto synced = co_await ask(sync, client::LaneKind::data);
    if (!synced)
        co_return fail(path, synced.status());
    const wire::Getattr look{.node = file.node};
    const auto now = co_await ask(look);
    if (!now)
        co_return fail(path, now.status());
    state.told = spool::Told{now->body.attributes.size, now->body.attributes.modification};
    state.is_written = true;
    ++outcome_.files;
    note({.kind = StepKind::written, .number = written.object, .told = *state.told});
}

// `source`: the file as it is now, for the bytes that were not written here; null if it is gone.
Task<void> Replay::keep_beside(const Written& written, const Open* source) {
    const std::string path = path_of(written.object);
    const std::size_t slash = path.rfind('/');
    const std::string name = slash == path.npos ? path : path.substr(slash + 1);
    const std::string above = slash == path.npos ? "" : path.substr(0, slash);
    State& state = states_[written.object];
    state.is_conflict = true;
    const auto directory = co_await have_directory(above);
    if (!directory)
        co_return fail(path, directory.status());
    Open copy{.node = {},
              .handle = session_.new_handle_id(),
              .attributes = {},
              .pieces = pieces_of(written.extents),
              .is_there = {}};
    copy.is_there.resize(copy.pieces.size());
    std::string other;
    for (int number = 1; number <= max_conflict_names && !copy.node; ++number) {
        other = beside(name, number);
        const auto found = co_await look_up(*directory, other);
        if (found.status() == Status::no_entry) {
            const std::uint32_t mode = source == nullptr ? S_IRUSR | S_IWUSR : source->attributes.mode & 0777U;
            const wire::Create message{*directory,
                                       other,
                                       {session_.new_node_id(), true},
                                       copy.handle,
                                       wire::open_read | wire::open_write | wire::open_exclusive,
                                       mode | S_IRUSR | S_IWUSR,
                                       0};
            const auto made = co_await ask(message);
            if (!made)
                co_return fail(path, made.status());
            copy.node = made->body.entry.node;
            named_.push_back(copy.node);
            note({.kind = StepKind::copied, .number = written.object, .identity = made->body.entry.attributes.identity},
                 true);
        } else if (!found) {
            co_return fail(path, found.status());
        } else if (S_ISREG(found->attributes.mode) &&
                   (state.copy ? is_same_file(*state.copy, found->attributes.identity) : found->attributes.size == 0)) {
            const wire::Open message{found->node, copy.handle, wire::open_read | wire::open_write};
            const auto opened = co_await ask(message);
            if (!opened)
                co_return fail(path, opened.status());
            copy.node = found->node;
        }
    }
    if (!copy.node)
        co_return fail(path, Status::exists);
    changed_directories_.push_back(*directory);
    const bool has_other_bytes = source != nullptr && !contents_.objects[written.object].is_new;
    const std::uint64_t size = has_other_bytes ? std::min(source->attributes.size, written.size) : 0;
    for (std::uint64_t at = 0; at < size;) {
        const wire::CopyRange message{source->handle, at, copy.handle, at, std::min(size - at, max_copy_bytes)};
        const auto reply = co_await ask(message, client::LaneKind::data);
        if (!reply)
            co_return fail(path, reply.status());
        if (reply->body.size == 0)
            break;
        at += reply->body.size;
    }
    const wire::Setattr cut{.node = copy.node, .handle = copy.handle, .which = wire::set_size, .size = written.size};
    const auto is_cut = co_await ask(cut, client::LaneKind::data);
    if (!is_cut)
        co_return fail(path, is_cut.status());
    co_await put(written, copy);
    session_.tell(wire::Release{copy.handle}, client::LaneKind::data);
    state.copy_node = copy.node;
    if (may_go_on())
        conflict(fmt::format("{} {} meanwhile: what was written here is kept as {}", log::printable(path),
                             source == nullptr ? "was removed or replaced at the server" : "was changed at the server",
                             log::printable((above.empty() ? "" : above + "/") + other)));
}

// ---------------------------------------------------------------- names and attributes

Task<void> Replay::carry_out(std::uint32_t number) {
    switch (contents_.changes[number].kind) {
        case ChangeKind::make:
            return make(number);
        case ChangeKind::link:
            return link(number);
        case ChangeKind::remove:
            return remove(number);
        case ChangeKind::rename:
            return rename(number);
        case ChangeKind::set:
            break;
    }
    return set(number);
}

// Whether what is there may be what an earlier attempt has made; or makes no difference.
Task<bool> Replay::is_ours(const Change& change, const Found& found) {
    const spool::Object& object = contents_.objects[change.object];
    if (is_object(change.object, found.attributes))
        co_return true;
    if ((found.attributes.mode & S_IFMT) != object.type)
        co_return false;
    if (object.type == S_IFLNK) {
        const wire::Readlink message{found.node};
        const auto target = co_await ask(message);
        co_return target && target->body.target == change.target;
    }
    if (object.type != S_IFREG)
        co_return true;
    if (found.attributes.size == 0)
        co_return true;
    const Written* written = written_to(change.object);
    if (written == nullptr || found.attributes.size > written->size)
        co_return false;
    const wire::Open message{found.node, session_.new_handle_id(), wire::open_read};
    const auto opened = co_await ask(message);
    if (!opened)
        co_return false;
    const bool is_ours = co_await is_ours_in_part(written, message.handle, opened->body.attributes.size);
    session_.tell(wire::Release{message.handle}, client::LaneKind::data);
    co_return is_ours;
}

// Nothing if somebody else has the name.
Task<Result<std::optional<Replay::Found>>> Replay::make_as(const Change& change, NodeId directory, std::string name,
                                                           std::optional<HandleId>& handle) {
    using Made = Result<std::optional<Found>>;
    const auto there = co_await look_up(directory, name);
    if (there) {
        const bool ours = co_await is_ours(change, *there);
        co_return ours ? std::optional(*there) : std::optional<Found>();
    }
    if (there.status() != Status::no_entry)
        co_return Made(there.error());
    const wire::NewNode node{session_.new_node_id(), true};
    const std::uint32_t mode = change.mode & all_permissions;
    const std::uint32_t type = contents_.objects[change.object].type;
    Result<wire::EntryReply> made = Status::io_error;
    if (type == S_IFREG) {
        const wire::Create message{directory,
                                   name,
                                   node,
                                   session_.new_handle_id(),
                                   wire::open_read | wire::open_write | wire::open_exclusive,
                                   mode,
                                   change.umask};
        const auto reply = co_await ask(message);
        made = reply ? Result<wire::EntryReply>(reply->body.entry) : Result<wire::EntryReply>(reply.error());
        if (reply)
            handle = message.handle;
    } else if (type == S_IFDIR) {
        const wire::Mkdir message{directory, name, node, mode, change.umask};
        const auto reply = co_await ask(message);
        made = reply ? Result<wire::EntryReply>(reply->body) : Result<wire::EntryReply>(reply.error());
    } else if (type == S_IFLNK) {
        const wire::Symlink message{directory, name, node, change.target};
        const auto reply = co_await ask(message);
        made = reply ? Result<wire::EntryReply>(reply->body) : Result<wire::EntryReply>(reply.error());
    } else {
        const wire::Mknod message{directory,        name, node, change.mode, change.umask, change.rdev_major,
                                  change.rdev_minor};
        const auto reply = co_await ask(message);
        made = reply ? Result<wire::EntryReply>(reply->body) : Result<wire::EntryReply>(reply.error());
    }
    if (!made)
        co_return Made(made.error());
    named_.push_back(made->node);
    co_return std::optional(Found{made->node, made->attributes});
}

Task<void> Replay::make(std::uint32_t number) {
    const Change& change = contents_.changes[number];
    const std::string path = path_of(change.directory, change.name);
    const auto directory = co_await directory_of(change.directory);
    if (!directory)
        co_return fail(path, directory.status());
    std::optional<HandleId> handle;
    std::string name = change.name;
    std::optional<Found> made;
    for (int attempt = 0; attempt <= max_conflict_names && !made; ++attempt) {
        name = attempt == 0 ? change.name : beside(change.name, attempt);
        const auto found = co_await make_as(change, *directory, name, handle);
        if (!found || !may_go_on())
            co_return fail(path, found ? Status::io_error : found.status());
        made = *found;
    }
    if (!made)
        co_return fail(path, Status::exists);
    place(change.object, change.directory, name, made->attributes.identity);
    states_[change.object].node = made->node;
    note({.kind = StepKind::placed,
          .number = change.object,
          .directory = change.directory,
          .name = name,
          .identity = made->attributes.identity});
    if (const Written* written = written_to(change.object); written != nullptr)
        co_await write(*written, handle);
    else if (handle)
        session_.tell(wire::Release{*handle}, client::LaneKind::data);
    if (!may_go_on())
        co_return;
    if (name != change.name)
        conflict(fmt::format("{} was made at the server meanwhile: what was made here is kept as {}",
                             log::printable(path), log::printable(path_of(change.object))));
    done(number);
}

Task<void> Replay::link(std::uint32_t number) {
    const Change& change = contents_.changes[number];
    const std::string path = path_of(change.directory, change.name);
    const auto directory = co_await directory_of(change.directory);
    if (!directory)
        co_return fail(path, directory.status());
    const auto file = co_await node_of(change.object);
    if (!may_go_on())
        co_return;
    if (!file) {
        conflict(fmt::format("{} is not made: the file that was to get this name is gone", log::printable(path)));
        co_return done(number);
    }
    for (int attempt = 0; attempt <= max_conflict_names; ++attempt) {
        const std::string name = attempt == 0 ? change.name : beside(change.name, attempt);
        const auto found = co_await look_up(*directory, name);
        const bool is_it = found && is_object(change.object, found->attributes);
        if (found.status() == Status::no_entry) {
            const wire::Link message{*file, *directory, name};
            const auto linked = co_await ask(message);
            if (!linked)
                co_return fail(path, linked.status());
            named_.push_back(linked->body.node);
        } else if (!found) {
            co_return fail(path, found.status());
        } else if (!is_it) {
            continue;
        }
        if (attempt > 0)
            conflict(fmt::format("{} was made at the server meanwhile: the link made here is kept as {}",
                                 log::printable(path), log::printable(path_of(change.directory, name))));
        co_return done(number);
    }
    fail(path, Status::exists);
}

Task<void> Replay::remove(std::uint32_t number) {
    const Change& change = contents_.changes[number];
    const std::string path = path_of(change.directory, change.name);
    const auto directory = co_await node_of(change.directory);
    if (!may_go_on())
        co_return;
    if (!directory)
        co_return done(number);
    // What was made here may be under another name than it got.
    std::string name = change.name;
    if (const auto& placed = states_[change.object].placed; placed && placed->directory == change.directory)
        for (int attempt = 1; attempt <= max_conflict_names && name == change.name; ++attempt)
            name = placed->name == beside(change.name, attempt) ? placed->name : name;
    const auto found = co_await look_up(*directory, name);
    if (found.status() == Status::no_entry)
        co_return done(number);
    if (!found)
        co_return fail(path, found.status());
    const bool is_it = is_object(change.object, found->attributes) && is_as_told(change.object, found->attributes);
    if (!is_it) {
        conflict(fmt::format("{} is not removed: it was changed at the server meanwhile", log::printable(path)));
        co_return done(number);
    }
    Status status = Status::ok;
    if (S_ISDIR(found->attributes.mode)) {
        const wire::Rmdir message{*directory, name};
        status = (co_await ask(message)).status();
    } else {
        const wire::Unlink message{*directory, name};
        status = (co_await ask(message)).status();
    }
    if (status == Status::not_empty)
        conflict(
            fmt::format("{} is not removed: something was made in it at the server meanwhile", log::printable(path)));
    else if (status != Status::ok && status != Status::no_entry)
        co_return fail(path, status);
    done(number);
}

Task<void> Replay::rename(std::uint32_t number) {
    const Change& change = contents_.changes[number];
    const State& state = states_[change.object];
    // What was made here may be under another name than it got.
    const ObjectNumber from_directory = state.placed ? state.placed->directory : change.directory;
    const std::string from_name = state.placed ? state.placed->name : change.name;
    const std::string path = path_of(change.directory, change.name);
    const std::string new_path = path_of(change.new_directory, change.new_name);
    const auto directory = co_await node_of(from_directory);
    const auto new_directory = co_await directory_of(change.new_directory);
    if (!may_go_on())
        co_return;
    if (!new_directory)
        co_return fail(new_path, new_directory.status());
    Result<Found> from = Status::no_entry;
    if (directory)
        from = co_await look_up(*directory, from_name);
    std::string name = change.new_name;
    for (int attempt = 0; attempt <= max_conflict_names; ++attempt) {
        name = attempt == 0 ? change.new_name : beside(change.new_name, attempt);
        const auto to = co_await look_up(*new_directory, name);
        if (!may_go_on())
            co_return;
        if (!to && to.status() != Status::no_entry)
            co_return fail(new_path, to.status());
        const bool is_moved = to && is_object(change.object, to->attributes);
        if (!is_moved) {
            if (!from || !is_object(change.object, from->attributes) || !is_as_told(change.object, from->attributes)) {
                conflict(fmt::format("{} is not renamed to {}: it was changed at the server meanwhile",
                                     log::printable(path), log::printable(new_path)));
                co_return done(number);
            }
            const bool may_replace = to && attempt == 0 && change.replaced != no_object &&
                                     is_object(change.replaced, to->attributes) &&
                                     is_as_told(change.replaced, to->attributes);
            if (to && !may_replace)
                continue;
            const wire::Rename message{*directory, from_name, *new_directory, name,
                                       may_replace ? 0U : wire::rename_noreplace};
            const auto renamed = co_await ask(message);
            if (!renamed)
                co_return fail(path, renamed.status());
        }
        if (attempt > 0)
            conflict(fmt::format("{} was changed at the server meanwhile: what was to take its place is kept as {}",
                                 log::printable(new_path), log::printable(path_of(change.new_directory, name))));
        const Found& found = is_moved ? *to : *from;
        place(change.object, change.new_directory, name, found.attributes.identity);
        states_[change.object].node = found.node;
        note({.kind = StepKind::placed,
              .number = change.object,
              .directory = change.new_directory,
              .name = name,
              .identity = found.attributes.identity});
        co_return done(number);
    }
    fail(new_path, Status::exists);
}

Task<void> Replay::set(std::uint32_t number) {
    const Change& change = contents_.changes[number];
    const std::string path = path_of(change.object);
    const auto node = co_await node_of(change.object);
    if (!may_go_on())
        co_return;
    const State& state = states_[change.object];
    wire::Setattr message = change.setting;
    message.node = state.copy_node ? state.copy_node : node ? *node : NodeId{};
    if (!message.node)
        conflict(fmt::format("times, owner or mode of {} are not set: it is gone", log::printable(path)));
    // An attempt before this one has kept it elsewhere.
    if (!message.node || (state.copy && !state.copy_node))
        co_return done(number);
    const bool is_of_others_too = !state.copy_node && !contents_.objects[change.object].is_new;
    if (is_of_others_too && (message.which & wire::set_modification) != 0) {
        const wire::Getattr look{.node = *node};
        const auto now = co_await ask(look);
        if (!now)
            co_return fail(path, now.status());
        if (state.told && !is_as_told(change.object, now->body.attributes)) {
            message.which &= ~wire::set_modification;
            conflict(
                fmt::format("the time of {} is not set: it was changed at the server meanwhile", log::printable(path)));
        }
    }
    const auto reply = co_await ask(message);
    if (!reply)
        co_return fail(path, reply.status());
    done(number);
}

// ---------------------------------------------------------------- all of it

// Also those that attempts before this one have changed.
Task<void> Replay::sync_directories() {
    for (const Change& change : contents_.changes) {
        for (const ObjectNumber number : {change.directory, change.new_directory}) {
            Result<NodeId> node = Status::no_entry;
            if (number != no_object)
                node = co_await node_of(number);
            if (node)
                changed_directories_.push_back(*node);
        }
    }
    std::ranges::sort(changed_directories_);
    const auto [first, last] = std::ranges::unique(changed_directories_);
    changed_directories_.erase(first, last);
    for (const NodeId node : changed_directories_) {
        const wire::Opendir open{node, session_.new_handle_id()};
        const auto opened = co_await ask(open);
        // Removed since.
        if (opened.status() == Status::stale || opened.status() == Status::no_entry)
            continue;
        if (!opened)
            co_return fail("a directory could not be made durable", opened.status());
        const wire::Fsyncdir sync{open.handle, false};
        const auto synced = co_await ask(sync);
        session_.tell(wire::Releasedir{open.handle});
        if (!synced)
            co_return fail("a directory could not be made durable", synced.status());
    }
}

void Replay::forget_nodes() {
    std::vector<wire::ForgetNode> nodes;
    for (const NodeId node : named_)
        if (node != session_.hello().root)
            nodes.push_back({node, 1});
    for (std::size_t i = 0; i < nodes.size(); i += wire::max_forgets) {
        const auto begin = nodes.begin() + static_cast<std::ptrdiff_t>(i);
        const auto count = static_cast<std::ptrdiff_t>(std::min(wire::max_forgets, nodes.size() - i));
        session_.tell(wire::Forget{.nodes = {begin, begin + count}});
    }
}

Task<Result<Replay::Outcome>> Replay::run() {
    // Where things are before the changes.
    for (ObjectNumber number = 0; number < states_.size() && may_go_on(); ++number)
        co_await node_of(number);
    if (may_go_on())
        co_await skip_carried_out();
    // Before names lead to them.
    if (may_go_on())
        co_await write_all(false);
    if (may_go_on())
        co_await write_all(true);
    for (const bool is_setting : {false, true}) {
        for (std::uint32_t number = 0; number < done_.size() && may_go_on(); ++number)
            if (!done_[number] && (contents_.changes[number].kind == ChangeKind::set) == is_setting)
                co_await carry_out(number);
    }
    if (may_go_on())
        co_await sync_directories();
    if (cut_off_ != Status::ok)
        co_return Result<Outcome>(cut_off_);
    forget_nodes();
    co_return std::move(outcome_);
}

}  // namespace remofile::filesystem
