// SPDX-License-Identifier: MIT
// Changes that programs have been told of and that the server has not answered yet: what names stand for with them, and
// who waits until they are carried out.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/counters.hpp"
#include "base/status.hpp"
#include "base/task.hpp"
#include "client/waiters.hpp"
#include "filesystem/carried_out.hpp"
#include "filesystem/inode_number.hpp"
#include "wire/messages.hpp"

namespace remofile::filesystem {

// One thread: the session's. Must outlive the changes that it knows of.
class ChangesBehind {
public:
    // At most `max_changes` may be under way.
    ChangesBehind(Counters& counters, std::size_t max_changes);
    ChangesBehind(const ChangesBehind&) = delete;
    ChangesBehind& operator=(const ChangesBehind&) = delete;

    // Attributes as an answer to one of the changes has them.
    struct Heard {
        wire::Attributes attributes;
        std::uint64_t asked_at = 0;
    };
    // Called with a file or directory that no change concerns any more, and what was heard last, unless a change was
    // carried out since.
    std::function<void(InodeNumber, const std::optional<Heard>&)> on_settled;

    // ---- changes

    // A name stands for `inode` with the change; 0: for nothing.
    struct NewMeaning {
        InodeNumber directory = 0;
        std::string name;
        InodeNumber inode = 0;
        InodeNumber before = 0;  // what it stood for without the change; see NameChange
    };
    // What a change touches: files and directories, and names.
    struct Concern {
        std::vector<InodeNumber> inodes;
        std::vector<NewMeaning> names;
    };
    // A change is under way as long as this object lives.
    class UnderWay {
    public:
        UnderWay(UnderWay&& other) noexcept
            : changes_(std::exchange(other.changes_, nullptr)),
              number_(other.number_),
              concern_(std::move(other.concern_)) {}
        UnderWay& operator=(UnderWay&&) = delete;
        ~UnderWay() {
            if (changes_ != nullptr)
                changes_->end(number_, concern_);
        }
        // Later changes have larger ones.
        std::uint64_t number() const { return number_; }

    private:
        friend class ChangesBehind;
        UnderWay(ChangesBehind& changes, std::uint64_t number, Concern concern)
            : changes_(&changes), number_(number), concern_(std::move(concern)) {}

        ChangesBehind* changes_;
        std::uint64_t number_;
        Concern concern_;
    };
    UnderWay begin(Concern concern);

    // A change of names whose answer somebody waits for: programs do not see it. As long as this object lives.
    class Asked {
    public:
        Asked(Asked&& other) noexcept : changes_(std::exchange(other.changes_, nullptr)), number_(other.number_) {}
        Asked& operator=(Asked&&) = delete;
        ~Asked() {
            if (changes_ != nullptr)
                changes_->asked_.erase(number_);
        }
        std::uint64_t number() const { return number_; }

    private:
        friend class ChangesBehind;
        Asked(ChangesBehind& changes, std::uint64_t number) : changes_(&changes), number_(number) {}

        ChangesBehind* changes_;
        std::uint64_t number_;
    };
    Asked ask(std::vector<NameChange> names) {
        asked_.emplace(++last_, std::move(names));
        return {*this, last_};
    }
    const std::map<std::uint64_t, std::vector<NameChange>>& asked() const { return asked_; }

    // What carries a change out: its request, and what was known of the file that loses a name by it, and of the one
    // whose name that takes. For whoever keeps what is under way when a mount ends.
    struct Request {
        wire::Opcode opcode{};
        std::vector<std::byte> body;
        std::optional<wire::Attributes> file;
        std::optional<wire::Attributes> replaced;
    };
    void note_request(const UnderWay& change, Request request) {
        requests_.insert_or_assign(change.number(), std::move(request));
    }
    const std::map<std::uint64_t, Request>& requests() const { return requests_; }

    // Changes of names that are under way, by their numbers.
    const std::map<std::uint64_t, std::vector<NameChange>>& of_names() const { return of_names_; }

    // ---- what programs see

    // What the name stands for if a change under way says so; 0: for nothing.
    std::optional<InodeNumber> meaning(InodeNumber directory, std::string_view name) const;
    // Whether some name of the directory stands for something because a change under way says so.
    bool gives_meaning_in(InodeNumber directory) const;

    // What is shown of a file or directory while changes of it are under way. Precondition of show(): there are any.
    void show(InodeNumber inode, const wire::Attributes& attributes);
    const wire::Attributes* shown(InodeNumber inode) const;
    // Nothing is, until show(): something else is being changed of it.
    void hide(InodeNumber inode);
    // Something was written while changes are under way, content or the names in a directory, and the modification time
    // is not what is shown; or it has been set since.
    void note_written(InodeNumber inode, bool is_written);
    bool is_written(InodeNumber inode) const;
    // Answers come in the order of the changes. Nothing: it says less than what was heard before.
    void note_heard(InodeNumber inode, std::optional<Heard> heard);

    // ---- waiting

    bool any() const { return !under_way_.empty(); }
    std::size_t size() const { return under_way_.size(); }
    bool concerns(InodeNumber inode) const { return of_.contains(inode); }
    // How many changes concern it.
    std::size_t count(InodeNumber inode) const {
        const auto of = of_.find(inode);
        return of == of_.end() ? 0 : of->second->under_way.size();
    }
    // Ends when those changes are carried out, or have failed, that were under way at the call. Errors: interrupted.
    Task<Status> settled(InodeNumber inode, client::Cancellation* cancellation);
    Task<Status> all_settled(client::Cancellation* cancellation);
    // Ends when one more may begin. Errors: interrupted.
    Task<Status> room(client::Cancellation* cancellation);

    // ---- what went wrong after programs had been told that it had not

    // Whether it is worth a line in the log: of thousands at a time the first hundred are.
    bool note_failure(InodeNumber directory, Status status);
    // The first since the last call. Of the root: of any directory.
    Status take_failure(InodeNumber directory);

private:
    // What is under way of one file or directory. Shared with those who wait for it.
    struct Of {
        std::set<std::uint64_t> under_way;
        client::Waiters settled;
        std::optional<wire::Attributes> shown;
        bool is_written = false;
        std::optional<Heard> heard;
    };
    struct Meaning {
        InodeNumber inode = 0;
        std::uint64_t change = 0;  // the latest that says so
    };
    using Names = std::map<std::string, Meaning, std::less<>>;

    void end(std::uint64_t number, const Concern& concern);

    Counters::Counter& begun_;
    const std::size_t max_changes_;
    std::uint64_t last_ = 0;
    std::set<std::uint64_t> under_way_;
    client::Waiters ended_;
    std::unordered_map<InodeNumber, std::shared_ptr<Of>> of_;
    std::unordered_map<InodeNumber, Names> names_;
    std::map<std::uint64_t, std::vector<NameChange>> of_names_;
    std::map<std::uint64_t, std::vector<NameChange>> asked_;
    std::map<std::uint64_t, Request> requests_;
    std::map<InodeNumber, Status> failures_;
    std::size_t failed_ = 0;  // since nothing was under way
};

}  // namespace remofile::filesystem
