// SPDX-License-Identifier: MIT
#include "wire/opcode_table.hpp"

#include <linux/falloc.h>

#include <algorithm>
#include <array>

#include "wire/frame.hpp"
#include "wire/messages.hpp"

namespace remofile::wire {
namespace {

constexpr auto control = Account::control;

template <class Request>
std::size_t size_asked_for(std::span<const std::byte> body) {
    const auto request = decode_body<Request>(body);
    return request ? request->size : 0;
}

std::size_t size_of_digests(std::span<const std::byte> body) {
    const auto request = decode_body<Hash>(body);
    return request ? request->count * digest_bytes : 0;
}

bool always(std::span<const std::byte>) {
    return true;
}

bool unless_it_appends(std::span<const std::byte> body) {
    const auto request = decode_body<Write>(body);
    return request && !request->append;
}

// What removes or inserts a range moves what is behind it, each time.
bool unless_it_moves_content(std::span<const std::byte> body) {
    const auto request = decode_body<Fallocate>(body);
    return request && (request->mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) == 0;
}

// A copy within one file may have moved its end, by which it is cut.
bool unless_within_one_file(std::span<const std::byte> body) {
    const auto request = decode_body<CopyRange>(body);
    return request && request->from != request->to;
}

// One that must not be there is there once it is made.
bool unless_exclusive(std::span<const std::byte> body) {
    const auto request = decode_body<Create>(body);
    return request && (request->flags & open_exclusive) == 0;
}

bool unless_it_looks_first(std::span<const std::byte> body) {
    const auto request = decode_body<Setxattr>(body);
    return request && request->flags == 0;
}

constexpr auto rows = std::to_array<OpcodeFacts>({
    {.opcode = Opcode::hello, .name = "HELLO", .of_session = true},
    {.opcode = Opcode::attach, .name = "ATTACH", .of_session = true},
    {.opcode = Opcode::bye, .name = "BYE", .of_session = true},
    {.opcode = Opcode::ping,
     .name = "PING",
     .account = control,
     .of_session = true,
     .quick = true,
     .harmless_late = true},
    {.opcode = Opcode::cancel,
     .name = "CANCEL",
     .account = control,
     .of_session = true,
     .quick = true,
     .harmless_late = true},
    {.opcode = Opcode::credential,
     .name = "CREDENTIAL",
     .account = control,
     .of_session = true,
     .quick = true,
     .harmless_late = true},
    {.opcode = Opcode::server_status, .name = "SERVER_STATUS", .of_session = true, .harmless_late = true},
    {.opcode = Opcode::invalidated,
     .name = "INVALIDATED",
     .account = control,
     .of_session = true,
     .quick = true,
     .harmless_late = true},
    {.opcode = Opcode::lane_ticket, .name = "LANE_TICKET", .of_session = true, .quick = true, .harmless_late = true},
    {.opcode = Opcode::return_leases,
     .name = "RETURN_LEASES",
     .account = control,
     .quick = true,
     .harmless_late = true,
     .repeatable = true},
    {.opcode = Opcode::take_leases, .name = "TAKE_LEASES", .quick = true, .harmless_late = true},
    {.opcode = Opcode::share_leases,
     .name = "SHARE_LEASES",
     .account = control,
     .quick = true,
     .harmless_late = true,
     .repeatable = true},
    {.opcode = Opcode::lend_inodes, .name = "LEND_INODES", .puts_the_same = always},
    {.opcode = Opcode::exports, .name = "EXPORTS", .of_session = true, .harmless_late = true},

    {.opcode = Opcode::lookup, .name = "LOOKUP", .quick = true, .harmless_late = true},
    {.opcode = Opcode::forget,
     .name = "FORGET",
     .account = control,
     .quick = true,
     .harmless_late = true,
     .gives_back = true},
    {.opcode = Opcode::getattr, .name = "GETATTR", .quick = true, .harmless_late = true, .repeatable = true},
    {.opcode = Opcode::setattr, .name = "SETATTR", .puts_the_same = always, .changes_files = true},
    {.opcode = Opcode::readlink, .name = "READLINK", .quick = true, .harmless_late = true, .repeatable = true},
    {.opcode = Opcode::mknod, .name = "MKNOD", .changes_files = true},
    {.opcode = Opcode::mkdir, .name = "MKDIR", .changes_files = true},
    {.opcode = Opcode::unlink, .name = "UNLINK", .changes_files = true},
    {.opcode = Opcode::rmdir, .name = "RMDIR", .changes_files = true},
    {.opcode = Opcode::symlink, .name = "SYMLINK", .changes_files = true},
    {.opcode = Opcode::rename, .name = "RENAME", .changes_files = true},
    {.opcode = Opcode::link, .name = "LINK", .changes_files = true},
    {.opcode = Opcode::access, .name = "ACCESS", .quick = true, .harmless_late = true, .repeatable = true},
    {.opcode = Opcode::statfs, .name = "STATFS", .harmless_late = true, .repeatable = true},
    {.opcode = Opcode::make_lent, .name = "MAKE_LENT", .changes_files = true},
    {.opcode = Opcode::find_kept, .name = "FIND_KEPT", .harmless_late = true},

    {.opcode = Opcode::open, .name = "OPEN", .puts_the_same = always},
    {.opcode = Opcode::create, .name = "CREATE", .puts_the_same = unless_exclusive},
    {.opcode = Opcode::tmpfile, .name = "TMPFILE", .puts_the_same = always, .changes_files = true},
    {.opcode = Opcode::read,
     .name = "READ",
     .reply_bulk = size_asked_for<Read>,
     .harmless_late = true,
     .repeatable = true},
    {.opcode = Opcode::write,
     .name = "WRITE",
     .takes_bulk = true,
     .puts_the_same = unless_it_appends,
     .changes_files = true},
    {.opcode = Opcode::release,
     .name = "RELEASE",
     .account = control,
     .quick = true,
     .harmless_late = true,
     .gives_back = true},
    {.opcode = Opcode::flush, .name = "FLUSH", .harmless_late = true, .repeatable = true},
    {.opcode = Opcode::fsync, .name = "FSYNC", .harmless_late = true, .repeatable = true},
    {.opcode = Opcode::fallocate, .name = "FALLOCATE", .puts_the_same = unless_it_moves_content, .changes_files = true},
    {.opcode = Opcode::seek, .name = "SEEK", .harmless_late = true, .repeatable = true},
    {.opcode = Opcode::copy_range,
     .name = "COPY_RANGE",
     .puts_the_same = unless_within_one_file,
     .changes_files = true},
    {.opcode = Opcode::hash, .name = "HASH", .reply_bulk = size_of_digests, .harmless_late = true, .repeatable = true},
    {.opcode = Opcode::fetch,
     .name = "FETCH",
     .reply_bulk = size_asked_for<Fetch>,
     .harmless_late = true,
     .repeatable = true},

    {.opcode = Opcode::opendir, .name = "OPENDIR", .puts_the_same = always},
    {.opcode = Opcode::readdir, .name = "READDIR", .reply_bulk = size_asked_for<Readdir>, .harmless_late = true},
    {.opcode = Opcode::releasedir,
     .name = "RELEASEDIR",
     .account = control,
     .quick = true,
     .harmless_late = true,
     .gives_back = true},
    {.opcode = Opcode::fsyncdir, .name = "FSYNCDIR", .harmless_late = true, .repeatable = true},
    {.opcode = Opcode::list, .name = "LIST", .reply_bulk = size_asked_for<List>, .harmless_late = true},

    {.opcode = Opcode::getxattr,
     .name = "GETXATTR",
     .reply_bulk = size_asked_for<Getxattr>,
     .harmless_late = true,
     .repeatable = true},
    {.opcode = Opcode::setxattr,
     .name = "SETXATTR",
     .takes_bulk = true,
     .puts_the_same = unless_it_looks_first,
     .changes_files = true},
    {.opcode = Opcode::listxattr,
     .name = "LISTXATTR",
     .reply_bulk = size_asked_for<Listxattr>,
     .harmless_late = true,
     .repeatable = true},
    {.opcode = Opcode::removexattr, .name = "REMOVEXATTR", .changes_files = true},

    {.opcode = Opcode::getlk, .name = "GETLK", .harmless_late = true, .repeatable = true},
    {.opcode = Opcode::setlk, .name = "SETLK", .may_wait = true, .puts_the_same = always},
    {.opcode = Opcode::flock, .name = "FLOCK", .may_wait = true, .puts_the_same = always},
    {.opcode = Opcode::reclaim_locks, .name = "RECLAIM_LOCKS", .puts_the_same = always},
});
static_assert(std::ranges::is_sorted(rows, {}, &OpcodeFacts::opcode));

template <class Request>
bool asks_to_wait(std::span<const std::byte> body) {
    const auto request = decode_body<Request>(body);
    return request && request->wait;
}

}  // namespace

std::span<const OpcodeFacts> opcode_table() {
    return rows;
}

const OpcodeFacts* find_opcode(Opcode opcode) {
    const auto* found = std::ranges::lower_bound(rows, opcode, {}, &OpcodeFacts::opcode);
    return found != rows.end() && found->opcode == opcode ? found : nullptr;
}

bool may_be_done_again(const OpcodeFacts& facts, std::span<const std::byte> body) {
    return facts.harmless_late || facts.repeatable || (facts.puts_the_same != nullptr && facts.puts_the_same(body));
}

bool waits_for_lock(Opcode opcode, std::span<const std::byte> body) {
    switch (opcode) {
        case Opcode::setlk:
            return asks_to_wait<Setlk>(body);
        case Opcode::flock:
            return asks_to_wait<Flock>(body);
        default:
            return false;
    }
}

std::size_t reply_bulk_limit(const OpcodeFacts* facts, std::span<const std::byte> body) {
    return facts == nullptr || facts->reply_bulk == nullptr
               ? 0
               : std::min<std::size_t>(facts->reply_bulk(body), max_bulk_bytes);
}

Account account_of(Opcode opcode, std::span<const std::byte> body) {
    if (waits_for_lock(opcode, body))
        return Account::lock_wait;
    const OpcodeFacts* facts = find_opcode(opcode);
    return facts == nullptr ? Account::request : facts->account;
}

}  // namespace remofile::wire
