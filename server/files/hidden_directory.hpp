// SPDX-License-Identifier: MIT
// Directories of the export's root that no client gets to see (EntryName::is_reserved), one for each server and use.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "server/files/export.hpp"

namespace remofile::server {

// Of a directory that is open to be read, "." and ".." among them.
std::vector<std::string> entry_names(int directory);
Result<UniqueFd> open_directory(int parent, const EntryName& name);

// The lock tells other servers that it is no leftover. Goes with this, if there is nothing in it.
class HiddenDirectory {
public:
    HiddenDirectory(UniqueFd root, EntryName name, UniqueFd opened)
        : root_(std::move(root)), name_(std::move(name)), opened_(std::move(opened)) {}
    HiddenDirectory(const HiddenDirectory&) = delete;
    HiddenDirectory& operator=(const HiddenDirectory&) = delete;
    ~HiddenDirectory() { static_cast<void>(remove()); }

    // `root`: of the export. Errors: what making it can give.
    static Result<std::shared_ptr<HiddenDirectory>> make(int root, EntryName::Reserved use);
    // Those that servers have left that live no more; only what is this user's own, and on the root's file system.
    // `others_live`, if given, is set to true if there are some of servers that live.
    static std::vector<std::shared_ptr<HiddenDirectory>> take_over_all(int root, EntryName::Reserved use,
                                                                       bool* others_live = nullptr);

    int fd() const { return opened_.get(); }
    const EntryName& name() const { return name_; }
    bool is_gone() const { return is_removed(opened_.get()); }
    Result<> remove() const { return remove_directory(root_.get(), name_); }

private:
    const UniqueFd root_;
    const EntryName name_;
    const UniqueFd opened_;
};

}  // namespace remofile::server
