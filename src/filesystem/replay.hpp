// SPDX-License-Identifier: MIT
// Carries out what a mount that has ended had been told, and its server had not answered (docs/adr/0030).
//
// Nothing that somebody else has changed meanwhile is overwritten, moved or removed: what was written here is kept
// beside it, under the name that `remofile sync` would give it, and what else was not done is said. It may be
// interrupted at any moment, and another one goes on: what is done already is found by the steps that were noted, and
// what was done and not noted by what names stand for and files contain.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/task.hpp"
#include "client/session.hpp"
#include "spool/contents.hpp"
#include "spool/directory.hpp"

namespace remofile::filesystem {

class Replay {
public:
    struct Outcome {
        std::size_t files = 0;               // whose contents are there
        std::size_t changes = 0;             // of names and attributes
        std::vector<std::string> conflicts;  // what is kept under another name, and what was not done, with the reason
        std::string failure;                 // what could not be done, and why; what comes behind it was not tried
    };

    // All must outlive it. `contents` are of the session's root.
    Replay(client::Session& session, const spool::Contents& contents, spool::Progress& progress,
           std::uint32_t credential);

    // Once, on the session's thread. When it has ended, all that was done is on the server's disk, unless something
    // failed. Errors: no_session, shutting_down, timed_out, unreachable: to be begun anew, with another object.
    Task<Result<Outcome>> run();

private:
    struct Place {
        spool::ObjectNumber directory = spool::no_object;
        std::string name;
    };
    // What is known of an object at the server.
    struct State {
        NodeId node;
        bool is_gone = false;  // not where it was
        wire::FileIdentity identity;
        std::optional<Place> placed;             // since changes have been carried out
        std::optional<spool::Told> told;         // if nobody else has changed it, it is like this
        std::optional<wire::FileIdentity> copy;  // what was written goes to that file
        NodeId copy_node;
        std::vector<std::uint64_t> digests;
        bool is_written = false;
        bool is_conflict = false;
    };
    struct Found {
        NodeId node;
        wire::Attributes attributes;
    };
    struct Open;

    template <class Message>
    Task<Result<client::Reply<Message>>> ask(Message message, client::LaneKind lane = client::LaneKind::metadata);
    void note(const spool::Step& step, bool durably = false);
    void fail(const std::string& what, Status status);
    bool may_go_on() const { return cut_off_ == Status::ok && outcome_.failure.empty(); }
    void conflict(std::string text) { outcome_.conflicts.push_back(std::move(text)); }

    void take_in_progress();
    Task<Result<Found>> look_up(NodeId directory, std::string name);
    Task<Result<NodeId>> node_of(spool::ObjectNumber number);
    Task<Result<Found>> find_by_path(std::string path);
    Task<Result<NodeId>> directory_of(spool::ObjectNumber number);
    Task<Result<NodeId>> have_directory(std::string path);
    Task<void> skip_carried_out();

    Task<void> write_all(bool is_new);
    Task<void> write(const spool::Written& written, std::optional<HandleId> made);
    Task<bool> may_write(const spool::Written& written, Open& file);
    Task<bool> is_ours_in_part(const spool::Written* written, HandleId handle, std::uint64_t size);
    Task<void> put(const spool::Written& written, Open& file);
    Task<void> keep_beside(const spool::Written& written, const Open* source);
    Task<Result<std::vector<std::byte>>> read(HandleId handle, std::uint64_t offset, std::uint64_t size);

    Task<void> carry_out(std::uint32_t number);
    Task<void> make(std::uint32_t number);
    Task<Result<std::optional<Found>>> make_as(const spool::Change& change, NodeId directory, std::string name,
                                               std::optional<HandleId>& handle);
    Task<bool> is_ours(const spool::Change& change, const Found& found);
    Task<void> link(std::uint32_t number);
    Task<void> remove(std::uint32_t number);
    Task<void> rename(std::uint32_t number);
    Task<void> set(std::uint32_t number);
    Task<void> sync_directories();
    void forget_nodes();

    void place(spool::ObjectNumber number, spool::ObjectNumber directory, const std::string& name,
               const wire::FileIdentity& identity);
    void done(std::uint32_t number);
    bool is_as_told(spool::ObjectNumber number, const wire::Attributes& attributes) const;
    bool is_object(spool::ObjectNumber number, const wire::Attributes& attributes) const;
    std::string beside(std::string_view name, int number) const;
    std::string path_of(spool::ObjectNumber number) const;
    std::string path_of(spool::ObjectNumber directory, std::string_view name) const;
    const spool::Written* written_to(spool::ObjectNumber number) const;

    client::Session& session_;
    const spool::Contents& contents_;
    spool::Progress& progress_;
    const std::uint32_t credential_;
    std::vector<State> states_;
    std::vector<bool> done_;                   // changes
    std::vector<NodeId> named_;                // by replies: to be given back
    std::vector<NodeId> changed_directories_;  // besides those of the changes
    Status cut_off_ = Status::ok;
    Outcome outcome_;
};

}  // namespace remofile::filesystem
