// SPDX-License-Identifier: MIT
// The same change made twice: through a session, and by system calls in a local directory. Paths are of a tree whose
// symlinks lead nowhere, so that following them is the same as not.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "export_fixture.hpp"

namespace remofile::server::test {

struct Change {
    enum class Kind : std::uint8_t {
        create,
        create_exclusively,
        create_truncated,
        open_to_read,
        write,
        append,
        truncate,
        mkdir,
        rmdir,
        unlink,
        rename,
        rename_noreplace,
        rename_exchange,
        rename_whiteout,
        link,
        symlink,
        mkfifo,
        chmod,
        chown,
        set_times,
        set_xattr,
        create_xattr,
        replace_xattr,
        remove_xattr,
        allocate,
        allocate_keeping_size,
        punch_hole,
        zero_range,
        collapse_range,
        insert_range,
        copy_range,
        access,
        last = access,
    };
    Kind kind = Kind::create;
    std::string path;   // "a/b/c"
    std::string path2;  // of rename, link, copy_range
    std::uint32_t mode = 0;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
};

std::string to_string(const Change& change);
// How rapidcheck prints one.
void showValue(const Change& change, std::ostream& out);

// Both return an errno, 0 for success; copy_range's and access's results count as well.
int apply_remotely(Session& session, const Change& change);
int apply_locally(const std::string& directory, const Change& change);

// Everything that can be seen of a tree: names, types, modes, owners, link counts, sizes, contents, targets,
// extended attributes, set times. One line a file, sorted.
std::string describe_locally(const std::string& directory);
std::string describe_remotely(Session& session);

}  // namespace remofile::server::test
