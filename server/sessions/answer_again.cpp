// SPDX-License-Identifier: MIT
#include "server/sessions/answer_again.hpp"

#include <sodium.h>

#include <algorithm>
#include <optional>
#include <type_traits>
#include <utility>

namespace remofile::server {
namespace {

using wire::Opcode;

Outcome outcome_of(Status status) {
    Outcome outcome;
    outcome.status = status;
    return outcome;
}

template <class Body>
Outcome outcome_with(const Body& body) {
    Outcome outcome;
    outcome.body = wire::encode_body(body);
    return outcome;
}

// Clients count theirs from 1.
NodeId passing_node() {
    NodeId node;
    randombytes_buf(&node.value, sizeof node.value);
    node.value |= std::uint64_t{1} << 63;
    return node;
}

// What is asked about one request.
class Again {
public:
    Again(const AnswerJournal::Note::Before& before, Opcode opcode, std::span<const std::byte> body,
          std::span<const std::byte> bulk, const Ask& ask, const CarryOut& carry_out)
        : before_(before), opcode_(opcode), body_(body), bulk_(bulk), ask_(ask), carry_out_(carry_out) {}

    Outcome answer() const {
        if (before_.status && *before_.status != Status::ok)
            return outcome_of(*before_.status);
        switch (opcode_) {
            case Opcode::mkdir:
                return of_making<wire::Mkdir>();
            case Opcode::mknod:
                return of_making<wire::Mknod>();
            case Opcode::symlink:
                return of_making<wire::Symlink>();
            case Opcode::create:
                return of_opening<wire::Create>();
            case Opcode::make_lent:
                return of_opening<wire::MakeLent>();
            case Opcode::link:
                return of_linking();
            default:
                break;
        }
        if (before_.status)
            return answered();
        switch (opcode_) {
            case Opcode::unlink:
                return of_removing<wire::Unlink>();
            case Opcode::rmdir:
                return of_removing<wire::Rmdir>();
            case Opcode::rename:
                return of_renaming();
            case Opcode::removexattr: {
                Outcome outcome = anew();
                return outcome.status == Status::no_data ? outcome_of(Status::ok) : std::move(outcome);
            }
            case Opcode::write:
                return of_appending();
            case Opcode::setxattr:
                return of_setting();
            default:
                return outcome_of(Status::io_error);
        }
    }
    // What the name stands for that is exchanged, or the file that is appended to.
    std::optional<wire::Attributes> attributes_before() const {
        if (opcode_ == Opcode::rename) {
            const auto message = wire::decode_body<wire::Rename>(body_);
            if (message && message->flags == wire::rename_exchange)
                if (const auto found = look_at(message->parent, message->name))
                    return *found;
        } else if (opcode_ == Opcode::write) {
            const auto message = wire::decode_body<wire::Write>(body_);
            if (message && message->append)
                return attributes_of(message->handle);
        }
        return std::nullopt;
    }

private:
    Outcome anew(std::optional<std::uint64_t> begun_at = {}) const { return carry_out_(begun_at); }
    Outcome answered() const {
        Outcome outcome;
        outcome.body = before_.body;
        return outcome;
    }
    template <class Message>
    Outcome ask(const Message& message) const {
        return ask_(Message::opcode, wire::encode_body(message));
    }
    std::optional<wire::Attributes> attributes_of(HandleId handle) const {
        const auto reply =
            wire::decode_body<wire::AttributesReply>(ask(wire::Getattr{.node = {}, .handle = handle}).body);
        return reply ? std::optional(reply->attributes) : std::nullopt;
    }
    void forget(NodeId node) const { ask(wire::Forget{.nodes = {{node, 1}}}); }

    // What a name stands for, under that node; no_entry: for nothing.
    Result<wire::EntryReply> look_up(NodeId parent, const std::string& name, wire::NewNode node) const {
        const Outcome found = ask(wire::Lookup{parent, name, node});
        if (found.status != Status::ok)
            return found.status;
        return wire::decode_body<wire::EntryReply>(found.body);
    }
    // The same, and the node is given back.
    Result<wire::Attributes> look_at(NodeId parent, const std::string& name) const {
        constexpr bool reuse = true;
        REMOFILE_TRY(found, look_up(parent, name, {passing_node(), reuse}));
        forget(found.node);
        return found.attributes;
    }

    bool is_of_the_request(const wire::FileIdentity& identity) const {
        const auto order = [](const wire::Timestamp& time) { return std::pair(time.seconds, time.nanoseconds); };
        if (!before_.status)
            return order(before_.since) <= order(identity.birth) && order(identity.birth) <= order(before_.ended);
        // The answer begins with the entry that was made, whichever request made it.
        const auto made = opcode_ == Opcode::create ? entry_in<wire::CreateReply>() : entry_in<wire::EntryReply>();
        return made && made->attributes.identity == identity;
    }
    template <class Reply>
    std::optional<wire::EntryReply> entry_in() const {
        const auto reply = wire::decode_body<Reply>(before_.body);
        if (!reply)
            return std::nullopt;
        if constexpr (requires { reply->entry; })
            return reply->entry;
        else
            return *reply;
    }

    // The entry that was made, under the node of the request; no_entry: it is not there.
    template <class Message>
    Result<wire::EntryReply> find_made(const Message& message) const {
        REMOFILE_TRY(entry, look_up(message.parent, message.name, message.node));
        if (is_of_the_request(entry.attributes.identity))
            return entry;
        forget(entry.node);
        // Somebody else's, in the place of what was made, or before it was. What was lent is older than its name.
        return before_.status || opcode_ == Opcode::make_lent ? Status::io_error : Status::exists;
    }
    // Of what is not there: it was never made, or is not there any more.
    Outcome without(Status status) const {
        if (status != Status::no_entry)
            return outcome_of(status);
        return before_.status ? outcome_of(Status::io_error) : anew();
    }

    template <class Message>
    Outcome of_making() const {
        const auto message = wire::decode_body<Message>(body_);
        if (!message)
            return outcome_of(Status::malformed);
        const auto entry = find_made(*message);
        return entry ? outcome_with(*entry) : without(entry.error().status);
    }
    // Of a file, or a directory, which has no handle.
    template <class Message>
    Outcome of_opening() const {
        const auto message = wire::decode_body<Message>(body_);
        if (!message)
            return outcome_of(Status::malformed);
        const auto entry = find_made(*message);
        if (!entry)
            return without(entry.error().status);
        const std::uint32_t flags = message->flags & ~(wire::open_exclusive | wire::open_truncate);
        const Status opened =
            message->handle ? ask(wire::Open{entry->node, message->handle, flags}).status : Status::ok;
        if (opened != Status::ok) {
            forget(entry->node);
            return outcome_of(opened);
        }
        if constexpr (std::is_same_v<Message, wire::Create>)
            return outcome_with(wire::CreateReply{.entry = *entry, .created = true});
        else
            return outcome_with(*entry);
    }
    // The file is known by its node: whether the name stands for it says all.
    Outcome of_linking() const {
        const auto message = wire::decode_body<wire::Link>(body_);
        if (!message)
            return outcome_of(Status::malformed);
        constexpr bool reuse = false;
        const auto entry = look_up(message->new_parent, message->new_name, {message->node, reuse});
        if (entry)
            return outcome_with(*entry);
        if (before_.status)
            return outcome_of(Status::io_error);
        return anew();
    }

    // What has come to the name since then is not what was to be removed.
    bool is_newer(const wire::Attributes& attributes) const {
        const wire::Timestamp& birth = attributes.identity.birth;
        return std::pair(birth.seconds, birth.nanoseconds) >
               std::pair(before_.begun.seconds, before_.begun.nanoseconds);
    }
    template <class Message>
    Outcome of_removing() const {
        const auto message = wire::decode_body<Message>(body_);
        if (!message)
            return outcome_of(Status::malformed);
        const auto there = look_at(message->parent, message->name);
        if (there ? is_newer(*there) : there.error().status == Status::no_entry)
            return outcome_of(Status::ok);
        return anew();
    }
    Outcome of_renaming() const {
        const auto message = wire::decode_body<wire::Rename>(body_);
        if (!message)
            return outcome_of(Status::malformed);
        if (message->flags == wire::rename_exchange)
            return of_exchanging(*message);
        if ((message->flags & ~wire::rename_noreplace) != 0)
            return outcome_of(Status::io_error);
        const auto from = look_at(message->parent, message->name);
        if (from || from.error().status != Status::no_entry)
            return anew();
        return look_at(message->new_parent, message->new_name) ? outcome_of(Status::ok) : anew();
    }

    Outcome of_exchanging(const wire::Rename& message) const {
        if (!before_.attributes)
            return outcome_of(Status::io_error);
        const auto stands_for_it = [&](NodeId parent, const std::string& name) {
            const auto found = look_at(parent, name);
            return found && found->identity == before_.attributes->identity;
        };
        if (stands_for_it(message.parent, message.name))
            return anew();
        return outcome_of(stands_for_it(message.new_parent, message.new_name) ? Status::ok : Status::io_error);
    }
    Outcome of_appending() const {
        const auto message = wire::decode_body<wire::Write>(body_);
        if (!message)
            return outcome_of(Status::malformed);
        const auto now = before_.attributes ? attributes_of(message->handle) : std::nullopt;
        if (!now || now->identity != before_.attributes->identity)
            return outcome_of(Status::io_error);
        return anew(before_.attributes->size);
    }
    // One that must not be there, and is: it is the request's if it has the request's value. One that must be there may
    // be set again.
    Outcome of_setting() const {
        const auto message = wire::decode_body<wire::Setxattr>(body_);
        if (!message)
            return outcome_of(Status::malformed);
        if ((message->flags & wire::xattr_create) != 0) {
            const Outcome there = ask(wire::Getxattr{message->node, message->name, wire::max_xattr_bytes});
            if (there.status == Status::ok && std::ranges::equal(there.bulk.data.bytes(), bulk_))
                return outcome_of(Status::ok);
        }
        return anew();
    }

    const AnswerJournal::Note::Before& before_;
    const Opcode opcode_;
    const std::span<const std::byte> body_;
    const std::span<const std::byte> bulk_;
    const Ask& ask_;
    const CarryOut& carry_out_;
};

}  // namespace

Outcome answer_again(const AnswerJournal::Note::Before& before, wire::Opcode opcode, std::span<const std::byte> body,
                     std::span<const std::byte> bulk, const Ask& ask, const CarryOut& carry_out) {
    return Again(before, opcode, body, bulk, ask, carry_out).answer();
}

std::optional<wire::Attributes> attributes_before(wire::Opcode opcode, std::span<const std::byte> body,
                                                  const Ask& ask) {
    const AnswerJournal::Note::Before nothing_noted{};
    const CarryOut no_request;
    return Again(nothing_noted, opcode, body, {}, ask, no_request).attributes_before();
}

}  // namespace remofile::server
