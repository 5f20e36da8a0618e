// SPDX-License-Identifier: MIT
// Which of the changes that were under way when the server was lost it had carried out.
//
// It carries them out one after the other, in directories that nobody else changes. So there is a number of them after
// which all names stand for what they stand for now. If there are several, it does not matter which is taken: what is
// left is carried out from the same names.
#pragma once

#include <compare>
#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "filesystem/inode_number.hpp"

namespace remofile::filesystem {

// A name in a directory.
struct NamePlace {
    InodeNumber directory = 0;
    std::string name;
    friend auto operator<=>(const NamePlace&, const NamePlace&) = default;
};

// A file that is there and has no number here.
inline constexpr InodeNumber unnumbered_inode = ~InodeNumber{0};
// A file, or nothing.
inline constexpr InodeNumber unknown_inode = unnumbered_inode - 1;

// What a name stands for before a change and after it; 0: nothing. Unknown it can be before a change that somebody
// waits for.
struct NameChange {
    NamePlace place;
    InodeNumber before = 0;
    InodeNumber after = 0;
};

struct CarriedOut {
    std::size_t count = 0;  // of the changes, the fewest
    std::map<NamePlace, InodeNumber> names;
};

// Whether one change had been carried out; nothing if names are as before it and also as after it, or neither.
std::optional<bool> was_carried_out(std::span<const NameChange> change,
                                    const std::function<bool(const NamePlace&, InodeNumber)>& stands_for);

// `changes`: each with its names, in their order. `stands_for` says whether the name stands for that now. Nothing if no
// number fits: somebody else has changed names as well.
std::optional<CarriedOut> carried_out(std::span<const std::vector<NameChange>> changes,
                                      const std::function<bool(const NamePlace&, InodeNumber)>& stands_for);

}  // namespace remofile::filesystem
