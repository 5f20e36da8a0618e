// SPDX-License-Identifier: MIT
// What became of requests that must not be carried out twice, in memory that outlives the process: a file that is
// mapped. It survives the end of the process however that comes, and not that of the machine.
//
// For each request there is a note that it is begun, and in its place, once it has been carried out, the answer. Notes
// are written with plain stores, in an order in which each is whole: the kernel has them when the process ends.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include "base/guarded.hpp"
#include "base/result.hpp"
#include "base/strong_id.hpp"
#include "base/unique_fd.hpp"
#include "transport/keys.hpp"
#include "wire/messages.hpp"
#include "wire/opcode_table.hpp"

namespace remofile::server {

// Any thread. Shared with all that is noted in it.
class AnswerJournal : public std::enable_shared_from_this<AnswerJournal> {
public:
    struct AccountRecord;  // as they are in the file
    struct NoteRecord;

    static constexpr std::size_t max_accounts = 512;  // more sessions have none
    static constexpr std::size_t max_notes = 4096;    // under way, or answered and not acknowledged, of all sessions
    static constexpr std::size_t max_body_bytes = 208;
    static constexpr std::size_t max_names = 4;  // under which a session may be asked for

    // A session as its client proves that it is its own.
    struct Name {
        SessionId session;
        std::array<std::uint8_t, 16> secret{};
        std::optional<transport::PublicKey> key;
    };

    class Account;

    // One request's, for as long as its answer may be asked for again.
    class Note {
    public:
        Note(std::shared_ptr<Account> account, std::uint32_t index);
        ~Note();
        Note(const Note&) = delete;
        Note& operator=(const Note&) = delete;

        // Before the request is carried out, and after. `attributes`: what it changes was like that.
        void begin(wire::Opcode opcode, RequestId request, const std::optional<wire::Attributes>& attributes = {});
        void finish(Status status, std::span<const std::byte> body);

        // Of a server before this one: what it noted. None of a request that is new.
        struct Before {
            // File systems take times from a clock that goes in steps, or from one that does not: what was made has
            // a time of birth from `since`, and what was there before it was begun none after `begun`.
            wire::Timestamp since;
            wire::Timestamp begun;
            wire::Timestamp ended;         // the server; no later than that
            std::optional<Status> status;  // none: not answered
            std::vector<std::byte> body;
            std::optional<wire::Attributes> attributes{};  // of a request that was begun, if they were noted
        };
        const std::optional<Before>& before() const { return before_; }

    private:
        friend class Account;
        NoteRecord& record() const;

        const std::shared_ptr<Account> account_;  // shared with the session and its other notes
        const std::uint32_t index_;
        std::optional<Before> before_;
    };

    // One session's, or what it has become of a lost one's.
    class Account : public std::enable_shared_from_this<Account> {
    public:
        Account(std::shared_ptr<AnswerJournal> journal, std::uint32_t index, std::uint64_t number,
                bool may_have_locks_again, std::map<RequestId, std::uint32_t> before);
        ~Account();
        Account(const Account&) = delete;
        Account& operator=(const Account&) = delete;

        // For a request that is to be carried out; one that is sent again may have been noted before. Null where there
        // is no room: then this account will not be known later.
        std::shared_ptr<Note> note(RequestId request, bool is_sent_again);
        // The client has the answers to all smaller ones.
        void drop_below(RequestId request);

        // Whether the locks of the lost session, in whose place this one is, may be had again: as far as no server that
        // has been in between has granted a lock.
        bool may_have_locks_again() const { return may_have_locks_again_; }
        // The client has all locks again that it could have: from now on its locks are this session's.
        void has_locks();
        // Before its first lock is granted: another server is to wait for it with those of others.
        void takes_locks();

    private:
        friend class Note;

        const std::shared_ptr<AnswerJournal> journal_;
        const std::uint32_t index_;
        const std::uint64_t number_;
        const bool may_have_locks_again_;
        std::map<RequestId, std::uint32_t> before_;  // that have not been asked for again
    };

    // Reads what there is, or begins anew where that is of another version or start of the machine, or makes no sense.
    // Errors: busy where another process has it; those of system calls, naming the file.
    static Result<std::shared_ptr<AnswerJournal>> open(std::filesystem::path file, std::string_view machine_start);
    ~AnswerJournal();
    AnswerJournal(const AnswerJournal&) = delete;
    AnswerJournal& operator=(const AnswerJournal&) = delete;

    // At a clean end, before the sessions go: what is noted of them now is for the next server.
    void leave();
    // After it: the file goes if nobody is noted in it.
    void remove_if_unneeded();

    // How many sessions that had locks have not come back, or not had them again. They are waited for when a server
    // starts; `done` is called once, on any thread, when there is none of them any more.
    std::size_t lock_holders_awaited() const;
    void when_lock_holders_are_back(std::function<void()> done);

    // Before this server grants its first lock: those who have not had theirs again by then do not get them from a
    // later one.
    void grants_locks();

    // For a new session; null where there are too many.
    std::shared_ptr<Account> begin(const Name& name);
    // For one that takes the place of `lost`; null where that is not known, or not all of it.
    std::shared_ptr<Account> take_up(const Name& lost, const Name& name);

private:
    struct Lost {
        std::uint32_t index = 0;
        bool has_locks = false;  // that no other server has granted to somebody else
        std::map<RequestId, std::uint32_t> notes;
    };
    struct Free {
        std::vector<std::uint32_t> accounts;
        std::vector<std::uint32_t> notes;
        std::map<std::uint64_t, Lost> lost;  // by the account's number, which rises
        std::uint64_t last_number = 0;
        std::set<std::uint32_t> without_locks;  // accounts in a lost one's place that has not had its locks again
        std::function<void()> holders_are_back;
    };

    AnswerJournal(std::filesystem::path path, UniqueFd fd, std::byte* memory);

    bool has_header(std::string_view machine_start) const;
    void write_header(std::string_view machine_start);
    void read();
    AccountRecord& account(std::uint32_t index) const;
    NoteRecord& note(std::uint32_t index) const;
    std::size_t holders_awaited(const Free& free) const;
    void look_for_holders();
    void drop(Free& free, std::uint64_t lost);
    bool drop_oldest(Free& free);
    void name(std::uint32_t index, const Name& name);
    std::optional<std::uint32_t> take_note();
    void give_back_note(std::uint32_t index);
    void give_back_account(std::uint32_t index);

    const std::filesystem::path path_;
    const UniqueFd fd_;  // locked
    const wire::Timestamp opened_;
    std::byte* const memory_;
    std::atomic<bool> left_ = false;
    mutable Guarded<Free> free_;
};

}  // namespace remofile::server
