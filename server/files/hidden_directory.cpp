// SPDX-License-Identifier: MIT
#include "server/files/hidden_directory.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <random>

namespace remofile::server {
namespace {

// A directory of that name may be there, or be taken for a leftover before it is locked.
constexpr int max_attempts = 4;
constexpr mode_t hidden_directory_mode = 0700;

EntryName random_name(EntryName::Reserved use) {
    std::random_device random;
    return EntryName::reserved(use, std::uint64_t{random()} << 32U | random());
}

// Makes, opens and locks it.
Result<UniqueFd> lock_new(int root, const EntryName& name) {
    REMOFILE_CHECK(make_directory(root, name, hidden_directory_mode));
    auto opened = open_directory(root, name);
    // Also without the set-group-id bit that it may have been given. Only now, for what is open is certainly ours.
    if (opened && ::fchmod(opened->get(), hidden_directory_mode) == 0 &&
        ::flock(opened->get(), LOCK_EX | LOCK_NB) == 0 && !is_removed(opened->get()))
        return opened;
    static_cast<void>(remove_directory(root, name));
    return opened ? Status::try_again : opened.error().status;
}

// Errors: stale, if it is none of ours; try_again, if it is another server's that lives.
Result<UniqueFd> lock_leftover(int root, const EntryName& name, std::uint64_t device) {
    const auto attributes = stat_entry(root, name);
    if (!attributes || !S_ISDIR(attributes->mode) || attributes->uid != ::geteuid() ||
        attributes->identity.device != device)
        return Status::stale;
    auto directory = open_directory(root, name);
    if (!directory)
        return Status::stale;
    if (::flock(directory->get(), LOCK_EX | LOCK_NB) != 0)
        return Status::try_again;
    const auto opened = stat_descriptor(directory->get());
    if (!opened || opened->identity != attributes->identity)
        return Status::stale;
    return directory;
}

}  // namespace

Result<UniqueFd> open_directory(int parent, const EntryName& name) {
    REMOFILE_TRY(path, open_entry(parent, name));
    return open_for_io(path.get(), S_IFDIR, O_RDONLY | O_DIRECTORY);
}

std::vector<std::string> entry_names(int directory) {
    std::vector<std::string> names;
    UniqueFd copy(::fcntl(directory, F_DUPFD_CLOEXEC, 0));
    DIR* listing = copy ? ::fdopendir(copy.get()) : nullptr;
    if (listing == nullptr)
        return names;
    static_cast<void>(copy.release());  // it is the listing's
    ::rewinddir(listing);
    while (const dirent* entry = ::readdir(listing))
        names.emplace_back(entry->d_name);
    ::closedir(listing);
    return names;
}

Result<std::shared_ptr<HiddenDirectory>> HiddenDirectory::make(int root, EntryName::Reserved use) {
    REMOFILE_TRY(kept_root, duplicate_as_path(root));
    for (int attempt = 1;; ++attempt) {
        EntryName name = random_name(use);
        auto opened = lock_new(root, name);
        if (opened)
            return std::make_shared<HiddenDirectory>(std::move(kept_root), std::move(name), std::move(*opened));
        if (attempt == max_attempts || (opened.status() != Status::exists && opened.status() != Status::try_again))
            return opened.error();
    }
}

std::vector<std::shared_ptr<HiddenDirectory>> HiddenDirectory::take_over_all(int root, EntryName::Reserved use,
                                                                             bool* others_live) {
    std::vector<std::shared_ptr<HiddenDirectory>> all;
    const auto opened = open_for_io(root, S_IFDIR, O_RDONLY | O_DIRECTORY);
    const auto attributes = stat_descriptor(root);
    if (!opened || !attributes)
        return all;
    for (const std::string& each : entry_names(opened->get())) {
        auto name = EntryName::as_reserved(use, each);
        auto directory = name ? lock_leftover(root, *name, attributes->identity.device) : Status::stale;
        if (others_live != nullptr && directory.status() == Status::try_again)
            *others_live = true;
        auto kept_root = directory ? duplicate_as_path(root) : Status::stale;
        if (kept_root)
            all.push_back(
                std::make_shared<HiddenDirectory>(std::move(*kept_root), std::move(*name), std::move(*directory)));
    }
    return all;
}

}  // namespace remofile::server
