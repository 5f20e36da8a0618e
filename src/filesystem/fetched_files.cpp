// SPDX-License-Identifier: MIT
#include "filesystem/fetched_files.hpp"

#include <utility>
#include <vector>

namespace remofile::filesystem {
namespace {

// What is fetched ahead and not read yet, at most: half a second of 100 Mbit/s. And what is kept, read or not, the
// oldest of which goes first.
constexpr std::size_t max_unread_bytes = 8U << 20;
constexpr std::size_t max_kept_bytes = 8U << 20;
constexpr std::size_t entry_overhead_bytes = 512;
constexpr std::size_t first_ahead = 4;
constexpr std::size_t max_ahead = 512;

}  // namespace

FetchedFiles::FetchedFiles(client::Session& session, Counters& counters, InodeMap& inodes, LeasedNames& names,
                           std::function<std::uint64_t()> now)
    : session_(session),
      inodes_(inodes),
      names_(names),
      now_(std::move(now)),
      files_(names.known(), &is_small_file_entry, first_ahead, max_ahead),
      fetched_ahead_(counters.at("files.fetched_ahead")),
      in_vain_(counters.at("files.fetched_in_vain")),
      bytes_ahead_(counters.at("files.bytes_ahead")),
      bytes_in_vain_(counters.at("files.bytes_in_vain")) {}

FetchedFiles::~FetchedFiles() {
    for (const auto& [key, fetched] : fetched_)
        fetched->is_void = true;
    fetched_.clear();
}

void FetchedFiles::visit(InodeNumber directory, std::string_view name, std::uint32_t credential) {
    files_.visit(directory, name);
    if (!files_.is_due())
        return;
    std::size_t count = 0;
    for (const Walk::Target& target : files_.ahead()) {
        if (pending_ >= max_ahead || unread_bytes_ + pending_bytes_ >= max_unread_bytes)
            break;
        start(target, credential);
        ++count;
    }
    files_.fetched(count);
}

void FetchedFiles::start(const Walk::Target& target, std::uint32_t credential) {
    const Key key{target.parent, target.name};
    const Inode* parent = inodes_.find(target.parent);
    // Contents that come with names are not waited for.
    if (session_.is_bandwidth_limited())
        return;
    if (fetched_.contains(key) || parent == nullptr || inodes_.stale(*parent) || !parent->node)
        return;
    // What is known here by number may be in memory already, or have been written to.
    const DirectoryCache::Entry* entry = names_.known().peek(target.parent, target.name);
    if (entry == nullptr || entry->attributes.links > 1)
        return;
    const auto fetched = std::make_shared<Fetched>();
    fetched->credential = credential;
    fetched_.emplace(key, fetched);
    fetched->expected_bytes = static_cast<std::uint32_t>(entry->attributes.size);
    ++pending_;
    pending_bytes_ += fetched->expected_bytes;
    fetched_ahead_.add();
    spawn(ask(key, parent->node, fetched), [this, key, fetched](Status) {
        if (!fetched->is_void)
            remove(key);
        fetched->waiters.wake(Status::ok);
    });
}

Task<void> FetchedFiles::ask(Key key, NodeId parent, FetchedPtr fetched) {
    const std::uint64_t asked_at = now_();
    // One that has grown meanwhile is read when it is asked for.
    const wire::Fetch message{parent, key.second, fetched->expected_bytes};
    const client::CallOptions options{.credential = fetched->credential, .ahead = true};
    auto reply = co_await session_.call(message, options);
    // The destructor says so, too.
    const bool is_void = fetched->is_void;
    if (!is_void) {
        if (reply && reply->body.complete)
            keep(key, *fetched, std::move(*reply), asked_at);
        else
            remove(key);
    }
    fetched->waiters.wake(Status::ok);
}

void FetchedFiles::keep(const Key& key, Fetched& fetched, client::Reply<wire::Fetch> reply, std::uint64_t asked_at) {
    names_.fetched(key.first, key.second, reply.body.attributes, asked_at);
    fetched.attributes = reply.body.attributes;
    // What came in a large message is copied out of it.
    fetched.content = std::make_shared<const Buffer>(Buffer::copy_of(reply.bulk.bytes()));
    fetched.place = order_.insert(order_.end(), key);
    fetched.pending = false;
    --pending_;
    pending_bytes_ -= fetched.expected_bytes;
    kept_bytes_ += fetched.content->size() + entry_overhead_bytes;
    unread_bytes_ += fetched.content->size() + entry_overhead_bytes;
    bytes_ahead_.add(fetched.content->size());
    while (kept_bytes_ > max_kept_bytes && order_.size() > 1)
        remove(Key(order_.front()));
}

void FetchedFiles::remove(const Key& key) {
    const auto found = fetched_.find(key);
    if (found == fetched_.end())
        return;
    Fetched& fetched = *found->second;
    fetched.is_void = true;
    if (fetched.pending) {
        --pending_;
        pending_bytes_ -= fetched.expected_bytes;
    } else {
        kept_bytes_ -= fetched.content->size() + entry_overhead_bytes;
        order_.erase(fetched.place);
        if (!fetched.used) {
            unread_bytes_ -= fetched.content->size() + entry_overhead_bytes;
            in_vain_.add();
            bytes_in_vain_.add(fetched.content->size());
        }
    }
    fetched_.erase(found);
}

// What is there, and belongs to the attributes that are known. Where the server does not tell of all changes it serves
// one opening, as the answer to it would.
FetchedFiles::Content FetchedFiles::current(const Key& key, std::uint32_t credential, bool may_share) {
    const auto found = fetched_.find(key);
    if (found == fetched_.end() || found->second->pending)
        return nullptr;
    Fetched& fetched = *found->second;
    if (fetched.used && !names_.known().is_told_of(key.first))
        return nullptr;
    if (fetched.credential != credential && !may_share)
        return nullptr;
    const auto now = names_.known().find(key.first, key.second);
    const bool is_current = now.current && now.attributes->identity == fetched.attributes.identity &&
                            now.attributes->version == fetched.attributes.version &&
                            now.attributes->size == fetched.content->size();
    if (!is_current)
        return nullptr;
    if (!std::exchange(fetched.used, true))
        unread_bytes_ -= fetched.content->size() + entry_overhead_bytes;
    return fetched.content;
}

Task<Result<FetchedFiles::Content>> FetchedFiles::find(InodeNumber directory, std::string name,
                                                       std::uint32_t credential, bool may_share,
                                                       client::Cancellation* cancellation) {
    const Key key{directory, std::move(name)};
    if (const auto found = fetched_.find(key); found != fetched_.end() && found->second->pending) {
        const FetchedPtr fetched = found->second;
        if (const Status status = co_await fetched->waiters.wait(cancellation); status != Status::ok)
            co_return Result<Content>(status);
    }
    co_return current(key, credential, may_share);
}

void FetchedFiles::drop(InodeNumber directory, std::string_view name) {
    if (!name.empty())
        return remove({directory, std::string(name)});
    std::vector<Key> dropped;
    for (const auto& [key, fetched] : fetched_)
        if (directory == 0 || key.first == directory)
            dropped.push_back(key);
    for (const Key& key : dropped)
        remove(key);
}

}  // namespace remofile::filesystem
