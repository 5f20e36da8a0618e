// SPDX-License-Identifier: MIT
#include "client/requests/request_traits.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "client/directory.hpp"

namespace remofile::client {
namespace {

using wire::Opcode;
using Bytes = std::span<const std::byte>;

constexpr std::uint32_t nanoseconds_per_second = 1'000'000'000;

// A request's own body decodes: this side has encoded it.
template <class Request>
Request own(Bytes body) {
    auto request = wire::decode_body<Request>(body);
    REMOFILE_ASSERT(request.has_value());
    return std::move(*request);
}

// ---- whether a reply makes sense

template <class Request>
bool decodes(const SentRequest&, Bytes reply, const Buffer&) {
    return wire::decode_body<typename Request::Reply>(reply).has_value();
}

bool accepts_taken_leases(const SentRequest& request, Bytes reply, const Buffer&) {
    const auto body = wire::decode_body<wire::TakeLeasesReply>(reply);
    return body && body->leases.size() == own<wire::TakeLeases>(request.body).directories.size();
}

bool are_lent(const std::vector<wire::LentInode>& inodes, std::uint32_t type, std::uint32_t asked) {
    return inodes.size() <= asked && std::ranges::all_of(inodes, [&](const wire::LentInode& each) {
               return each.number != 0 && are_valid(each.attributes) && (each.attributes.mode & S_IFMT) == type;
           });
}

bool accepts_lent_inodes(const SentRequest& request, Bytes reply, const Buffer&) {
    const auto body = wire::decode_body<wire::LendInodesReply>(reply);
    const auto asked = own<wire::LendInodes>(request.body);
    return body && are_lent(body->files, S_IFREG, asked.files) &&
           are_lent(body->directories, S_IFDIR, asked.directories);
}

bool accepts_reclaimed(const SentRequest& request, Bytes reply, const Buffer&) {
    const auto body = wire::decode_body<wire::ReclaimLocksReply>(reply);
    const std::size_t asked = own<wire::ReclaimLocks>(request.body).locks.size();
    return body && body->lost.size() <= asked &&
           std::ranges::all_of(body->lost, [asked](std::uint32_t place) { return place < asked; });
}

bool accepts_lane_ticket(const SentRequest&, Bytes reply, const Buffer&) {
    const auto body = wire::decode_body<wire::LaneTicketReply>(reply);
    return body && body->port != 0;
}

template <class Request>
bool accepts_attributes(const SentRequest&, Bytes reply, const Buffer&) {
    const auto body = wire::decode_body<wire::AttributesReply>(reply);
    return body && are_valid(body->attributes);
}

bool is_answer_to(const wire::NewNode& asked, const wire::EntryReply& entry) {
    return entry.node && (asked.reuse || entry.node == asked.id) && are_valid(entry.attributes);
}

template <class Request>
bool accepts_entry(const SentRequest& request, Bytes reply, const Buffer&) {
    const auto body = wire::decode_body<wire::EntryReply>(reply);
    return body && is_answer_to(own<Request>(request.body).node, *body);
}

bool accepts_create(const SentRequest& request, Bytes reply, const Buffer&) {
    const auto body = wire::decode_body<wire::CreateReply>(reply);
    return body && is_answer_to(own<wire::Create>(request.body).node, body->entry);
}

bool accepts_link(const SentRequest& request, Bytes reply, const Buffer&) {
    const auto body = wire::decode_body<wire::EntryReply>(reply);
    return body && body->node == own<wire::Link>(request.body).node && are_valid(body->attributes);
}

bool accepts_target(const SentRequest&, Bytes reply, const Buffer&) {
    const auto body = wire::decode_body<wire::ReadlinkReply>(reply);
    return body && !body->target.empty() && body->target.size() <= wire::max_path_bytes &&
           body->target.find('\0') == std::string::npos;
}

bool accepts_write(const SentRequest& request, Bytes reply, const Buffer&) {
    const auto body = wire::decode_body<wire::WriteReply>(reply);
    return body && body->size <= request.bulk_bytes && are_valid(body->attributes);
}

bool accepts_digests(const SentRequest&, Bytes, const Buffer& bulk) {
    return bulk.size() % wire::digest_bytes == 0;
}

bool accepts_copy(const SentRequest& request, Bytes reply, const Buffer&) {
    const auto body = wire::decode_body<wire::CopyRangeReply>(reply);
    return body && body->size <= own<wire::CopyRange>(request.body).size;
}

// An empty page that is not the last would be asked for again and again.
bool accepts_listing(const SentRequest& request, Bytes reply, const Buffer&) {
    const auto body = wire::decode_body<wire::ReaddirReply>(reply);
    return body && (body->count > 0 || body->end) && body->count <= own<wire::Readdir>(request.body).max_entries;
}

bool is_directory(const wire::Attributes& attributes) {
    return are_valid(attributes) && (attributes.mode & S_IFMT) == S_IFDIR;
}

bool accepts_list(const SentRequest& request, Bytes reply, const Buffer& bulk) {
    const auto body = wire::decode_body<wire::ListReply>(reply);
    if (!body || !is_directory(body->entry.attributes) || (body->count == 0 && !body->end))
        return false;
    const auto asked = own<wire::List>(request.body);
    const bool is_it = asked.name.empty() ? body->entry.node == asked.node : is_answer_to(asked.new_node, body->entry);
    if (!is_it || (body->leased && !asked.lease))
        return false;
    const auto entries = decode_directory(bulk, body->count);
    return entries &&
           std::ranges::none_of(*entries, [](const wire::DirectoryEntry& entry) { return bool(entry.entry.node); });
}

// The content belongs to the attributes: as long as they say, and of a regular file.
bool accepts_fetch(const SentRequest&, Bytes reply, const Buffer& bulk) {
    const auto body = wire::decode_body<wire::FetchReply>(reply);
    if (!body || !are_valid(body->attributes))
        return false;
    if (!body->complete)
        return bulk.empty();
    return (body->attributes.mode & S_IFMT) == S_IFREG && bulk.size() == body->attributes.size;
}

template <class Request>
bool accepts_xattr(const SentRequest& request, Bytes reply, const Buffer& bulk) {
    const auto body = wire::decode_body<wire::XattrReply>(reply);
    if (!body || body->size > wire::max_xattr_bytes)
        return false;
    return own<Request>(request.body).size == 0 ? bulk.empty() : bulk.size() == body->size;
}

bool accepts_lock(const SentRequest&, Bytes reply, const Buffer&) {
    const auto body = wire::decode_body<wire::LockReply>(reply);
    return body && body->range.type <= wire::LockType::unlock && body->range.start <= body->range.end;
}

// ---- giving back

EncodedRequest forget_one(NodeId node) {
    return encoded(wire::Forget{{wire::ForgetNode{node, 1}}});
}

std::vector<EncodedRequest> forget_entry(Bytes, Bytes reply, const Buffer&) {
    std::vector<EncodedRequest> requests;
    requests.push_back(forget_one(own<wire::EntryReply>(reply).node));
    return requests;
}

template <class Request, class Release>
std::vector<EncodedRequest> release_chosen(Bytes request) {
    std::vector<EncodedRequest> requests;
    requests.push_back(encoded(Release{own<Request>(request).handle}));
    return requests;
}

template <class Request, class Release>
std::vector<EncodedRequest> release_opened(Bytes request, Bytes, const Buffer&) {
    return release_chosen<Request, Release>(request);
}

std::vector<EncodedRequest> release_created(Bytes request, Bytes reply, const Buffer&) {
    auto requests = release_chosen<wire::Create, wire::Release>(request);
    requests.push_back(forget_one(own<wire::CreateReply>(reply).entry.node));
    return requests;
}

std::vector<EncodedRequest> release_tmpfile(Bytes request, Bytes reply, const Buffer&) {
    auto requests = release_chosen<wire::Tmpfile, wire::Release>(request);
    requests.push_back(forget_one(own<wire::EntryReply>(reply).node));
    return requests;
}

std::vector<EncodedRequest> release_lent(Bytes request, Bytes reply, const Buffer& bulk) {
    std::vector<EncodedRequest> requests;
    if (own<wire::MakeLent>(request).handle)
        requests = release_chosen<wire::MakeLent, wire::Release>(request);
    std::ranges::move(forget_entry(request, reply, bulk), std::back_inserter(requests));
    return requests;
}

// The session looks first whether somebody may have counted on it: see LockOwners.
std::vector<EncodedRequest> unlock_range(Bytes request, Bytes, const Buffer&) {
    auto unlock = own<wire::Setlk>(request);
    unlock.range.type = wire::LockType::unlock;
    unlock.wait = false;
    std::vector<EncodedRequest> requests;
    requests.push_back(encoded(unlock));
    return requests;
}

std::vector<EncodedRequest> unlock_whole(Bytes request, Bytes, const Buffer&) {
    const wire::Flock unlock{own<wire::Flock>(request).handle, wire::LockType::unlock, false};
    std::vector<EncodedRequest> requests;
    requests.push_back(encoded(unlock));
    return requests;
}

// Not the lease, which a caller may hold by an earlier request. Holding one unknowingly does no harm.
std::vector<EncodedRequest> give_back_list(Bytes request, Bytes reply, const Buffer&) {
    std::vector<EncodedRequest> requests;
    const auto asked = own<wire::List>(request);
    const auto answer = own<wire::ListReply>(reply);
    if (!answer.end && asked.handle)
        requests.push_back(encoded(wire::Releasedir{asked.handle}));
    if (!asked.name.empty())
        requests.push_back(forget_one(answer.entry.node));
    return requests;
}

std::vector<EncodedRequest> forget_listed(Bytes request, Bytes reply, const Buffer& bulk) {
    std::vector<EncodedRequest> requests;
    const auto entries =
        decode_directory(bulk, own<wire::ReaddirReply>(reply).count, own<wire::Readdir>(request).cookie);
    if (!entries)
        return requests;
    wire::Forget forget;
    for (const wire::DirectoryEntry& entry : *entries) {
        if (!entry.entry.node)
            continue;
        forget.nodes.push_back({entry.entry.node, 1});
        if (forget.nodes.size() == wire::max_forgets)
            requests.push_back(encoded(std::exchange(forget, {})));
    }
    if (!forget.nodes.empty())
        requests.push_back(encoded(forget));
    return requests;
}

// ---- the table

template <class Request>
RequestTraits row(RequestTraits traits = {}) {
    traits.facts = wire::find_opcode(Request::opcode);
    return traits;
}

template <class Request>
RequestTraits entry_row() {
    return row<Request>({.accepts = accepts_entry<Request>, .give_back = forget_entry});
}

// In the order of opcodes.
const auto& table() {
    using namespace wire;
    static const auto rows = std::to_array<RequestTraits>({
        row<Hello>({.accepts = decodes<Hello>}),
        row<Attach>(),
        row<Bye>(),
        row<Ping>(),
        row<Cancel>(),
        row<Credential>(),
        row<ServerStatus>({.accepts = decodes<ServerStatus>}),
        row<Invalidated>(),
        row<LaneTicket>({.accepts = accepts_lane_ticket}),
        row<ReturnLeases>(),
        row<TakeLeases>({.accepts = accepts_taken_leases}),
        row<ShareLeases>(),
        row<LendInodes>({.accepts = accepts_lent_inodes}),
        row<Exports>({.accepts = decodes<Exports>}),

        entry_row<Lookup>(),
        row<Forget>(),
        row<Getattr>({.accepts = accepts_attributes<Getattr>}),
        row<Setattr>({.accepts = accepts_attributes<Setattr>}),
        row<Readlink>({.accepts = accepts_target}),
        entry_row<Mknod>(),
        entry_row<Mkdir>(),
        row<Unlink>(),
        row<Rmdir>(),
        entry_row<Symlink>(),
        row<Rename>(),
        row<Link>({.accepts = accepts_link, .give_back = forget_entry}),
        row<Access>(),
        row<Statfs>({.accepts = decodes<Statfs>}),
        row<MakeLent>({.accepts = accepts_entry<MakeLent>, .give_back = release_lent}),
        entry_row<FindKept>(),

        row<Open>({.accepts = accepts_attributes<Open>, .give_back = release_opened<Open, Release>}),
        row<Create>({.accepts = accepts_create, .give_back = release_created}),
        row<Tmpfile>({.accepts = accepts_entry<Tmpfile>, .give_back = release_tmpfile}),
        row<Read>(),
        row<Write>({.accepts = accepts_write}),
        row<Release>(),
        row<Flush>(),
        row<Fsync>(),
        row<Fallocate>({.accepts = accepts_attributes<Fallocate>}),
        row<Seek>({.accepts = decodes<Seek>}),
        row<CopyRange>({.accepts = accepts_copy}),
        row<Hash>({.accepts = accepts_digests}),
        row<Fetch>({.accepts = accepts_fetch}),

        row<Opendir>({.accepts = accepts_attributes<Opendir>, .give_back = release_opened<Opendir, Releasedir>}),
        row<Readdir>({.accepts = accepts_listing, .give_back = forget_listed}),
        row<Releasedir>(),
        row<Fsyncdir>(),
        row<List>({.accepts = accepts_list, .give_back = give_back_list}),

        row<Getxattr>({.accepts = accepts_xattr<Getxattr>}),
        row<Setxattr>(),
        row<Listxattr>({.accepts = accepts_xattr<Listxattr>}),
        row<Removexattr>(),

        row<Getlk>({.accepts = accepts_lock}),
        row<Setlk>({.give_back = unlock_range}),
        row<Flock>({.give_back = unlock_whole}),
        row<ReclaimLocks>({.accepts = accepts_reclaimed}),
    });
    return rows;
}

bool is_valid(const wire::Timestamp& time) {
    return time.nanoseconds < nanoseconds_per_second;
}

}  // namespace

const RequestTraits* find_request_traits(Opcode opcode) {
    const auto& rows = table();
    const auto found = std::ranges::lower_bound(rows, opcode, {}, &RequestTraits::opcode);
    return found != rows.end() && found->opcode() == opcode ? &*found : nullptr;
}

bool are_valid(const wire::Attributes& attributes) {
    switch (attributes.mode & S_IFMT) {
        case S_IFREG:
        case S_IFDIR:
        case S_IFLNK:
        case S_IFIFO:
        case S_IFSOCK:
        case S_IFCHR:
        case S_IFBLK:
            break;
        default:
            return false;
    }
    return attributes.size <= INT64_MAX && is_valid(attributes.access) && is_valid(attributes.modification) &&
           is_valid(attributes.change);
}

}  // namespace remofile::client
