// SPDX-License-Identifier: MIT
// Small files whose contents come before they are opened, because somebody reads one after the other: tar, grep, a
// compiler. They are kept for a while, under the leases of their directories.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/buffer.hpp"
#include "base/counters.hpp"
#include "base/task.hpp"
#include "client/session.hpp"
#include "client/waiters.hpp"
#include "filesystem/inode_map.hpp"
#include "filesystem/leased_names.hpp"
#include "filesystem/walk.hpp"

namespace remofile::filesystem {

// One thread: the session's.
class FetchedFiles {
public:
    using Content = std::shared_ptr<const Buffer>;  // shared with the handles that are read from it

    // All must outlive it.
    FetchedFiles(client::Session& session, Counters& counters, InodeMap& inodes, LeasedNames& names,
                 std::function<std::uint64_t()> now);
    ~FetchedFiles();
    FetchedFiles(const FetchedFiles&) = delete;
    FetchedFiles& operator=(const FetchedFiles&) = delete;

    // The file is about to be opened to be read: fetches those that are likely to be next.
    void visit(InodeNumber directory, std::string_view name, std::uint32_t credential);

    // The whole content that belongs to the attributes that are known of the name, waiting for it if it is under way;
    // null if it is not there. What came for another identity serves only if `may_share`: the server has not said that
    // this one may read it. Errors: interrupted.
    Task<Result<Content>> find(InodeNumber directory, std::string name, std::uint32_t credential, bool may_share,
                               client::Cancellation* cancellation);

    // What is kept of a name, of all names of a directory (an empty name), or of all (directory 0) is void.
    void drop(InodeNumber directory, std::string_view name);

private:
    using Key = std::pair<InodeNumber, std::string>;
    struct Fetched {
        bool pending = true;
        bool is_void = false;
        bool used = false;
        std::uint32_t credential = 0;
        std::uint32_t expected_bytes = 0;
        wire::Attributes attributes;
        Content content;
        client::Waiters waiters;
        std::list<Key>::iterator place{};  // in order_, once it is not pending
    };
    using FetchedPtr = std::shared_ptr<Fetched>;  // shared with the coroutine that fetches it and those that wait

    void start(const Walk::Target& target, std::uint32_t credential);
    Task<void> ask(Key key, NodeId parent, FetchedPtr fetched);
    Content current(const Key& key, std::uint32_t credential, bool may_share);
    void keep(const Key& key, Fetched& fetched, client::Reply<wire::Fetch> reply, std::uint64_t asked_at);
    void remove(const Key& key);

    client::Session& session_;
    InodeMap& inodes_;
    LeasedNames& names_;
    std::function<std::uint64_t()> now_;
    Walk files_;
    std::map<Key, FetchedPtr> fetched_;
    std::list<Key> order_;  // as they came
    std::size_t kept_bytes_ = 0;
    std::size_t unread_bytes_ = 0;  // of these
    std::size_t pending_ = 0;
    std::size_t pending_bytes_ = 0;
    Counters::Counter& fetched_ahead_;
    Counters::Counter& in_vain_;
    Counters::Counter& bytes_ahead_;
    Counters::Counter& bytes_in_vain_;
};

}  // namespace remofile::filesystem
