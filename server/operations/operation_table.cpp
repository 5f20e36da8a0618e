// SPDX-License-Identifier: MIT
#include "server/operations/operation_table.hpp"

#include <algorithm>
#include <array>

#include "wire/frame.hpp"

namespace remofile::server {
namespace {

using namespace wire;

// Collects the ids that a request uses.
class Uses {
public:
    Uses& reads(NodeId id) { return add(Dependency::Kind::node, id.value, false); }
    Uses& changes(NodeId id) { return add(Dependency::Kind::node, id.value, true); }
    Uses& makes(const NewNode& node) { return add(Dependency::Kind::node, node.id.value, true); }
    Uses& reads(HandleId id) { return add(Dependency::Kind::handle, id.value, false); }
    Uses& changes(HandleId id) { return add(Dependency::Kind::handle, id.value, true); }
    Uses& leases(NodeId id) { return add(Dependency::Kind::lease, id.value, true); }
    std::vector<Dependency> take() { return std::move(list_); }

private:
    Uses& add(Dependency::Kind kind, std::uint64_t id, bool exclusive) {
        if (id != 0)
            list_.push_back({kind, id, exclusive});
        return *this;
    }
    std::vector<Dependency> list_;
};

template <class Request>
std::optional<Outcome> decode_and_carry_out(Context& context, std::span<const std::byte> body,
                                            Result<typename Request::Reply> (*operation)(Context&, const Request&)) {
    const auto request = decode_body<Request>(body);
    Outcome outcome;
    if (!request) {
        outcome.status = Status::malformed;
        return outcome;
    }
    const auto reply = operation(context, *request);
    if (context.waits)
        return std::nullopt;
    outcome.status = reply.status();
    context.report_touched(outcome);
    outcome.changed = std::move(context.changed);
    if (reply) {
        outcome.body = encode_body(*reply);
        outcome.bulk = std::move(context.reply_bulk);
        outcome.has_bulk = context.has_reply_bulk;
        outcome.stream = std::move(context.reply_stream);
    }
    return outcome;
}

template <class Request>
std::optional<Outcome> decode_and_try(Context& context, std::span<const std::byte> body,
                                      Result<typename Request::Reply> (*operation)(Context&, const Request&)) {
    auto outcome = decode_and_carry_out<Request>(context, body, operation);
    // Whatever is wrong is found again, and answered, where it may take its time.
    return outcome && outcome->status == Status::ok ? std::move(outcome) : std::nullopt;
}

template <class Request, auto operation, auto uses>
constexpr OperationRow row() {
    return {Request::opcode,
            [](std::span<const std::byte> body) -> Result<std::vector<Dependency>> {
                REMOFILE_TRY(request, decode_body<Request>(body));
                Uses collected;
                uses(collected, request);
                return collected.take();
            },
            [](Context& context, std::span<const std::byte> body) {
                return decode_and_carry_out<Request>(context, body, operation);
            }};
}

namespace op = operations;
constexpr auto rows =
    std::to_array<OperationRow>({
        row<ReturnLeases, op::return_leases,
            [](Uses& uses, const ReturnLeases& r) {
                for (const NodeId directory : r.directories)
                    uses.changes(directory);
            }>(),
        row<TakeLeases, op::take_leases,
            [](Uses& uses, const TakeLeases& r) {
                for (const NodeId directory : r.directories)
                    uses.reads(directory).leases(directory);
            }>(),
        // Not the directories themselves, which a request that waits for others may be about to change.
        row<ShareLeases, op::share_leases,
            [](Uses& uses, const ShareLeases& r) {
                for (const NodeId directory : r.directories)
                    uses.leases(directory);
            }>(),
        // Nothing: to make what is lent takes its time, and what changes the directory shall not wait for it.
        row<LendInodes, op::lend_inodes, [](Uses&, const LendInodes&) {}>(),
        row<Lookup, op::lookup, [](Uses& uses, const Lookup& r) { uses.reads(r.parent).makes(r.node); }>(),
        row<Forget, op::forget,
            [](Uses& uses, const Forget& r) {
                for (const ForgetNode& forgotten : r.nodes)
                    uses.changes(forgotten.node);
            }>(),
        row<Getattr, op::getattr, [](Uses& uses, const Getattr& r) { uses.reads(r.node).reads(r.handle); }>(),
        row<Setattr, op::setattr, [](Uses& uses, const Setattr& r) { uses.changes(r.node).reads(r.handle); }>(),
        row<Readlink, op::readlink, [](Uses& uses, const Readlink& r) { uses.reads(r.node); }>(),
        row<Mknod, op::mknod, [](Uses& uses, const Mknod& r) { uses.changes(r.parent).makes(r.node); }>(),
        row<Mkdir, op::mkdir, [](Uses& uses, const Mkdir& r) { uses.changes(r.parent).makes(r.node); }>(),
        row<Unlink, op::unlink, [](Uses& uses, const Unlink& r) { uses.changes(r.parent); }>(),
        row<Rmdir, op::rmdir, [](Uses& uses, const Rmdir& r) { uses.changes(r.parent); }>(),
        row<Symlink, op::symlink, [](Uses& uses, const Symlink& r) { uses.changes(r.parent).makes(r.node); }>(),
        row<Rename, op::rename, [](Uses& uses, const Rename& r) { uses.changes(r.parent).changes(r.new_parent); }>(),
        row<Link, op::link, [](Uses& uses, const Link& r) { uses.reads(r.node).changes(r.new_parent); }>(),
        row<MakeLent, op::make_lent,
            [](Uses& uses, const MakeLent& r) { uses.changes(r.parent).makes(r.node).changes(r.handle); }>(),
        row<Access, op::access, [](Uses& uses, const Access& r) { uses.reads(r.node); }>(),
        row<Statfs, op::statfs, [](Uses& uses, const Statfs& r) { uses.reads(r.node); }>(),
        row<FindKept, op::find_kept, [](Uses& uses, const FindKept& r) { uses.makes(r.node); }>(),

        row<Open, op::open, [](Uses& uses, const Open& r) { uses.reads(r.node).changes(r.handle); }>(),
        row<Create, op::create,
            [](Uses& uses, const Create& r) { uses.changes(r.parent).makes(r.node).changes(r.handle); }>(),
        row<Tmpfile, op::tmpfile,
            [](Uses& uses, const Tmpfile& r) { uses.reads(r.parent).makes(r.node).changes(r.handle); }>(),
        row<Read, op::read, [](Uses& uses, const Read& r) { uses.reads(r.handle); }>(),
        row<Write, op::write, [](Uses& uses, const Write& r) { uses.changes(r.handle); }>(),
        row<Release, op::release, [](Uses& uses, const Release& r) { uses.changes(r.handle); }>(),
        row<Flush, op::flush, [](Uses& uses, const Flush& r) { uses.changes(r.handle); }>(),
        row<Fsync, op::fsync, [](Uses& uses, const Fsync& r) { uses.reads(r.handle); }>(),
        row<Fallocate, op::fallocate, [](Uses& uses, const Fallocate& r) { uses.changes(r.handle); }>(),
        row<Seek, op::seek, [](Uses& uses, const Seek& r) { uses.reads(r.handle); }>(),
        row<CopyRange, op::copy_range, [](Uses& uses, const CopyRange& r) { uses.reads(r.from).changes(r.to); }>(),
        row<Hash, op::hash, [](Uses& uses, const Hash& r) { uses.reads(r.handle); }>(),
        row<Fetch, op::fetch, [](Uses& uses, const Fetch& r) { uses.reads(r.parent); }>(),

        row<Opendir, op::opendir, [](Uses& uses, const Opendir& r) { uses.reads(r.node).changes(r.handle); }>(),
        // The client cannot name the ids of entries before it has the reply, so nothing can depend on them.
        row<Readdir, op::readdir, [](Uses& uses, const Readdir& r) { uses.reads(r.handle); }>(),
        row<Releasedir, op::releasedir, [](Uses& uses, const Releasedir& r) { uses.changes(r.handle); }>(),
        row<Fsyncdir, op::fsyncdir, [](Uses& uses, const Fsyncdir& r) { uses.reads(r.handle); }>(),
        row<List, op::list,
            [](Uses& uses, const List& r) {
                uses.reads(r.node).changes(r.handle);
                if (!r.name.empty())
                    uses.makes(r.new_node);
            }>(),

        row<Getxattr, op::getxattr, [](Uses& uses, const Getxattr& r) { uses.reads(r.node); }>(),
        row<Setxattr, op::setxattr, [](Uses& uses, const Setxattr& r) { uses.changes(r.node); }>(),
        row<Listxattr, op::listxattr, [](Uses& uses, const Listxattr& r) { uses.reads(r.node); }>(),
        row<Removexattr, op::removexattr, [](Uses& uses, const Removexattr& r) { uses.changes(r.node); }>(),

        row<Getlk, op::getlk, [](Uses& uses, const Getlk& r) { uses.reads(r.handle); }>(),
        row<Setlk, op::setlk, [](Uses& uses, const Setlk& r) { uses.reads(r.handle); }>(),
        row<Flock, op::flock, [](Uses& uses, const Flock& r) { uses.reads(r.handle); }>(),
        row<ReclaimLocks, op::reclaim_locks,
            [](Uses& uses, const ReclaimLocks& r) {
                for (const HeldLock& lock : r.locks)
                    uses.reads(lock.handle);
            }>(),
    });

}  // namespace

std::span<const OperationRow> operation_rows() {
    return rows;
}

const OperationRow* find_row(Opcode opcode) {
    const auto* found = std::ranges::find(rows, opcode, &OperationRow::opcode);
    return found == rows.end() ? nullptr : found;
}

const OpcodeFacts* find_operation(Opcode opcode) {
    const OpcodeFacts* found = find_opcode(opcode);
    return found == nullptr || found->of_session ? nullptr : found;
}

Result<std::vector<Dependency>> dependencies_of(Opcode opcode, std::span<const std::byte> body) {
    const OperationRow* found = find_row(opcode);
    if (found == nullptr)
        return std::vector<Dependency>{};
    return found->dependencies(body);
}

std::optional<Outcome> carry_out_at_once(Context& context, wire::Opcode opcode, std::span<const std::byte> body) {
    switch (opcode) {
        case wire::Opcode::read:
            return decode_and_try<wire::Read>(context, body, operations::read_at_once);
        case wire::Opcode::getattr:
            return decode_and_try<wire::Getattr>(context, body, operations::getattr_at_once);
        default:
            return std::nullopt;
    }
}

}  // namespace remofile::server
