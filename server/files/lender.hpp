// SPDX-License-Identifier: MIT
// Inodes that clients may give names to later: docs/adr/0021-lent-inodes.md. They are made in a directory of the
// export's root that no client gets to see (EntryName::is_reserved), one for each server, and moved from there.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "server/files/export.hpp"
#include "server/files/hidden_directory.hpp"
#include "wire/messages.hpp"

namespace remofile::server {

// What a directory gives to whatever is made in it, as far as what is moved into it does not get it, and where it is:
// between directories of which this is the same, to move is as good as to make, but for the group.
struct Inheritance {
    std::uint64_t device = 0;
    std::uint64_t mount = 0;
    unsigned flags = 0;         // of chattr(1)
    unsigned extent_flags = 0;  // of FS_IOC_FSGETXATTR
    unsigned extent_bytes = 0;
    unsigned copied_extent_bytes = 0;
    friend bool operator==(const Inheritance&, const Inheritance&) = default;
};
// Of a directory that is open to be read. Error: not_supported, if what is moved there cannot be as if it had been made
// there, wherever it comes from: a default ACL, a project. Takes system calls.
Result<Inheritance> inheritance_of(int directory);

class LendingDirectory;

// An inode that is lent. One that has not been given a name goes with this.
class Loan {
public:
    Loan(std::shared_ptr<LendingDirectory> directory, std::uint64_t number, EntryName name,
         const wire::Attributes& attributes)
        : directory_(std::move(directory)), number_(number), name_(std::move(name)), attributes_(attributes) {}
    Loan(Loan&&) noexcept = default;
    Loan& operator=(Loan&&) = delete;
    ~Loan();

    std::uint64_t number() const { return number_; }
    bool is_directory() const { return S_ISDIR(attributes_.mode); }
    const wire::Attributes& attributes() const { return attributes_; }
    // Whether it would be the same if it were made in that directory, which is open to be read.
    bool suits(int directory) const;
    // An O_PATH descriptor. Error: stale, if anybody has changed it.
    Result<UniqueFd> open() const;
    // Gives it the name in that directory, and so ends the loan. Errors: exists, and what the move can give; then it
    // stays.
    Result<> move_to(int directory, const EntryName& name);

private:
    std::shared_ptr<LendingDirectory> directory_;  // shared by all that is lent of it and the Lender; none once moved
    std::uint64_t number_;
    EntryName name_;
    wire::Attributes attributes_;
};

// Makes what is lent, as the server itself. Callable from any thread.
class Lender {
public:
    // `root`: an O_PATH descriptor of the export's root.
    explicit Lender(UniqueFd root) : root_(std::move(root)) {}
    ~Lender();

    // Removes what servers have left that were killed. To be called before anybody knows the export.
    static void remove_leftovers(int root);

    // Where to make what may be moved into that directory, which is open to be read; null if there is no such place.
    // `root_changed` is set to true if the export's root was changed by this.
    std::shared_ptr<LendingDirectory> place_for(int directory, bool& root_changed);
    // `type`: S_IFREG or S_IFDIR. Errors: not_supported, if its owner is not the server's user and group; and what
    // making it can give.
    Result<Loan> make(const std::shared_ptr<LendingDirectory>& place, mode_t type);

private:
    const UniqueFd root_;
    std::atomic<std::uint64_t> last_number_ = 0;
    std::mutex making_;                        // guards what follows; held while the directory is made, which is once
    std::shared_ptr<LendingDirectory> place_;  // shared with what is lent
    bool has_failed_ = false;                  // it is not tried again
};

}  // namespace remofile::server
