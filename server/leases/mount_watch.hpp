// SPDX-License-Identifier: MIT
// File systems that are mounted and unmounted below the export: names stand for something else then, which fanotify(7)
// tells nobody.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "base/guarded.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace remofile::server {

class MountWatch {
public:
    // `root` is the export's, and copied. Error: not_supported, with the reason.
    static Result<std::unique_ptr<MountWatch>> open(int root);
    MountWatch(const MountWatch&) = delete;
    MountWatch& operator=(const MountWatch&) = delete;

    // Readable when mounts may have changed. Whoever has waited for it must call changed().
    int descriptor() const { return events_.get(); }
    // Whether any below the export has, since the last call. One thread.
    bool changed();

    // Whether a single file is mounted in the directory, to which `directory` leads, or may be: what programs change in
    // such a file they change by its other name. Any thread.
    bool has_mounted_file(int directory) const;

private:
    // A device and a number of an inode.
    using Number = std::pair<std::uint64_t, std::uint64_t>;
    struct Mounts {
        std::set<std::string> below;  // their lines of mountinfo, as far as they say what is where
        std::set<Number> with_file;   // directories in which a file is mounted
        bool is_known = true;         // the table could be read
    };
    MountWatch(UniqueFd root, UniqueFd table, UniqueFd events);
    Result<Mounts> read() const;

    const UniqueFd root_;
    const UniqueFd table_;   // mountinfo
    const UniqueFd events_;  // of it
    mutable Guarded<Mounts> mounts_;
};

}  // namespace remofile::server
