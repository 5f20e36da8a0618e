// SPDX-License-Identifier: MIT
// Files that have lost their last name while sessions have them open:
// docs/adr/0027-files-that-are-removed-while-open.md.
//
// Each has a link, for each session that had it open then, in a directory of the export's root that no client gets to
// see (EntryName::is_reserved). A server that starts finds them there, for whoever takes one of those sessions up
// again. Everything here is done as the server itself, never with a caller's identity.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "base/guarded.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "server/file_service.hpp"
#include "server/files/export.hpp"
#include "server/files/hidden_directory.hpp"
#include "wire/messages.hpp"

namespace remofile::server {

// Callable from any thread. Shared by the export and its sessions, which may be destroyed after it.
class KeptFiles {
public:
    // Links that nobody holds at the moment; what is more is removed.
    static constexpr std::size_t max_left = 1U << 16;

    // `root`: an O_PATH descriptor of the export's root.
    explicit KeptFiles(UniqueFd root) : root_(std::move(root)) {}
    // What is left stays, for the next server.
    ~KeptFiles();

    // The link to a file. Goes with this. Shared by its file, or what is left, and whoever opens it.
    class Link {
    public:
        Link(std::shared_ptr<HiddenDirectory> directory, EntryName name, const wire::FileIdentity& identity,
             const HolderTag& holder)
            : directory_(std::move(directory)), name_(std::move(name)), identity_(identity), holder_(holder) {}
        Link(const Link&) = delete;
        Link& operator=(const Link&) = delete;
        ~Link();

        const wire::FileIdentity& identity() const { return identity_; }
        const HolderTag& holder() const { return holder_; }
        // An O_PATH descriptor of the file. Error: stale, if it is another one.
        Result<UniqueFd> open() const;

    private:
        friend class KeptFiles;
        Result<std::shared_ptr<Link>> again_for(const HolderTag& holder) const;

        // Constant.
        const std::shared_ptr<HiddenDirectory> directory_;  // shared by all links in it and KeptFiles
        const EntryName name_;
        const wire::FileIdentity identity_;
        const HolderTag holder_;

        std::atomic<bool> stays_ = false;  // it is left to the next server
    };
    using LinkPtr = std::shared_ptr<Link>;

    // Links the regular file that the descriptor refers to. `root_changed` is set to true if the export's root was
    // changed by this. Errors: cross_device, and what linking can give.
    Result<LinkPtr> keep(int descriptor, const wire::FileIdentity& identity, const HolderTag& holder,
                         bool& root_changed);

    // What servers that live no more have kept is left from now on.
    void take_over_leftovers();
    // The holder is gone, and may come back as another.
    void leave(LinkPtr link);
    // `by` is in the place of `from`: what was left for the one is left for both, as it is not yet known which of them
    // is asked for next.
    void take_place(const HolderTag& from, const HolderTag& by);
    // What is left of the file for the holder, which has it from now on; those whose place it took need it no more.
    // Null if there is nothing.
    LinkPtr take(const wire::FileIdentity& identity, const HolderTag& holder);

    bool has_left() const;
    // Removes what was left before the call before this one.
    void remove_unclaimed();
    void remove_all_left();

private:
    struct Left {
        LinkPtr link;
        std::optional<HolderTag> in_its_place{};
        bool is_old = false;  // remove_unclaimed() has seen it
    };
    using LeftByInode = std::unordered_multimap<std::uint64_t, Left>;

    Result<std::shared_ptr<HiddenDirectory>> directory(bool& root_changed);
    void put(Left left);

    const UniqueFd root_;
    std::mutex making_;                        // guards what follows; held while the directory is made, once
    std::shared_ptr<HiddenDirectory> hidden_;  // shared with the links in it
    mutable Guarded<LeftByInode> left_;
    // A server lived that had kept some: it may have been about to end.
    std::atomic<bool> may_find_more_ = false;
};

}  // namespace remofile::server
