// SPDX-License-Identifier: MIT
// What one session's ids stand for: nodes with their counts, and handles.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/guarded.hpp"
#include "base/result.hpp"
#include "server/file_service.hpp"
#include "server/files/inode_table.hpp"
#include "server/files/lender.hpp"
#include "server/files/open_file.hpp"
#include "wire/messages.hpp"

namespace remofile::server {

class LockTable;

class SessionFiles {
public:
    // `locks` are shared by the export and its sessions, as a session may be destroyed after the export.
    SessionFiles(const ExportOptions& options, bool read_only, std::shared_ptr<LockTable> locks,
                 DescriptorBudget& budget);
    ~SessionFiles();
    SessionFiles(const SessionFiles&) = delete;
    SessionFiles& operator=(const SessionFiles&) = delete;

    bool read_only() const { return read_only_; }
    bool closed() const { return closed_.load(std::memory_order_relaxed); }
    // What it has open is counted here.
    const DescriptorBudget::Share& share() const { return share_; }

    // Errors: stale.
    Result<InodePtr> node(NodeId id);
    // Whether `id` may be given to a file that is about to be made. Errors: invalid (0, or in use), limit_exceeded.
    Result<> check_free(NodeId id);
    // Gives a file the id that `wanted` asks for and counts one reply. Errors: invalid, limit_exceeded, no_session.
    Result<NodeId> bind(const wire::NewNode& wanted, const InodePtr& inode);
    // As bind with `reuse` for each, taking new ids from `first` to `first + most - 1`; all or none. A null inode
    // takes none and gets id 0.
    Result<std::vector<NodeId>> bind_all(NodeId first, std::size_t most, std::span<const InodePtr> inodes);
    // One more reply names a node. Errors: stale.
    Result<> count(NodeId id);
    // Returns those that are free now, and what they stood for.
    struct Freed {
        NodeId node;
        InodePtr inode;
    };
    std::vector<Freed> forget(std::span<const wire::ForgetNode> nodes);
    // Every id of these files.
    std::vector<NodeId> ids_of(std::span<const InodePtr> inodes) const;

    // A handle id set aside for a file that is about to be opened.
    class Reservation {
    public:
        Reservation(SessionFiles& files, HandleId id) : files_(&files), id_(id) {}
        Reservation(Reservation&& other) noexcept : files_(std::exchange(other.files_, nullptr)), id_(other.id_) {}
        Reservation& operator=(Reservation&&) = delete;
        ~Reservation();
        // Errors: no_session, if it ended meanwhile.
        Result<> commit(OpenFilePtr file);
        Result<> commit(OpenDirectoryPtr directory);

    private:
        SessionFiles* files_;
        HandleId id_;
    };
    // Errors: invalid (0, or in use), too_many_files.
    Result<Reservation> reserve(HandleId id);

    // Errors: bad_handle.
    Result<OpenFilePtr> file(HandleId id);
    Result<OpenDirectoryPtr> directory(HandleId id);
    // The same, and the id is free again.
    Result<OpenFilePtr> take_file(HandleId id);
    Result<OpenDirectoryPtr> take_directory(HandleId id);

    // How many more files, or directories, may be lent to it.
    std::size_t lendable(bool directories) const;
    // False if it was one too many, or the session has ended: then it is lent to nobody.
    bool lend(Loan loan);
    // What it was lent under that number, and is not any more.
    std::optional<Loan> take_lent(std::uint64_t number);

    // In whose place this one is, that session had its locks until then (FileService::locks_lost_at()). None: there was
    // none, it is not known, or its locks are this one's now.
    std::optional<std::uint64_t> locks_lost_at() const;
    void take_place_of(std::uint64_t locks_lost_at, std::function<void()> has_locks);
    void has_locks();
    // `work` is done once, before the session is granted a lock. Before its first request.
    void before_first_lock(std::function<void()> work) { before_first_lock_ = std::move(work); }
    void takes_lock() {
        if (before_first_lock_)
            std::call_once(first_lock_, before_first_lock_);
    }

    // What it has open is kept for that one if it loses its names. Before its first request.
    void set_holder(std::shared_ptr<KeptFiles> kept_files, const HolderTag& holder) {
        kept_files_ = std::move(kept_files);
        holder_ = holder;
    }
    const std::optional<HolderTag>& holder() const { return holder_; }
    // Null if nothing is kept for it.
    KeptFiles* kept_files() const { return kept_files_.get(); }
    // When it ends, what is kept for it is left to whoever takes its place.
    void expect_back() { is_expected_back_ = true; }

    // Lets everything go. What is called later fails with stale, bad_handle or no_session.
    void close();

private:
    struct Node {
        InodePtr inode;
        std::uint64_t count = 0;
    };
    struct Nodes {
        std::unordered_map<NodeId, Node> by_id;
        std::unordered_multimap<const Inode*, NodeId> by_inode;
    };
    // Either or, while it is reserved, neither.
    struct Handle {
        OpenFilePtr file;
        OpenDirectoryPtr directory;
    };

    struct Lent {
        std::unordered_map<std::uint64_t, Loan> by_number;
        std::size_t files = 0;
        std::size_t directories = 0;
        std::size_t& count(bool of_directories) { return of_directories ? directories : files; }
    };

    void leave_kept_files(const std::unordered_map<HandleId, Handle>& handles, const Nodes& nodes);
    Result<> commit(HandleId id, Handle handle);
    Result<Handle> take(HandleId id, bool directory);

    const std::size_t max_nodes_;
    const std::size_t max_handles_;
    const bool read_only_;
    const std::shared_ptr<LockTable> locks_;
    const DescriptorBudget::Share share_;
    struct Predecessor {
        std::uint64_t locks_lost_at = 0;
        std::function<void()> has_locks;
    };
    mutable Guarded<std::optional<Predecessor>> predecessor_;
    std::function<void()> before_first_lock_;
    std::once_flag first_lock_;
    std::shared_ptr<KeptFiles> kept_files_;  // shared by the export and its sessions
    std::optional<HolderTag> holder_;
    std::atomic<bool> is_expected_back_ = false;
    std::atomic<bool> closed_ = false;
    mutable Guarded<Nodes> nodes_;
    Guarded<std::unordered_map<HandleId, Handle>> handles_;
    mutable Guarded<Lent> lent_;
};

}  // namespace remofile::server
