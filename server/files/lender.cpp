// SPDX-License-Identifier: MIT
#include "server/files/lender.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "base/log.hpp"
#include "server/files/xattr_names.hpp"

namespace remofile::server {
namespace {

// A directory of that name may be there, or be taken for a leftover before it is locked.
constexpr int max_attempts = 4;
// Flags of chattr(1) that say nothing of what is made in the directory.
constexpr unsigned flags_of_its_own = FS_INDEX_FL | FS_EXTENT_FL | FS_TOPDIR_FL | FS_IMMUTABLE_FL | FS_APPEND_FL |
                                      FS_INLINE_DATA_FL | FS_HUGE_FILE_FL | FS_EA_INODE_FL | FS_DIRTY_FL;
constexpr unsigned extent_flags_of_its_own = FS_XFLAG_IMMUTABLE | FS_XFLAG_APPEND | FS_XFLAG_HASATTR;

constexpr mode_t lent_file_mode = 0600;
constexpr mode_t lent_directory_mode = 0700;

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

EntryName name_of(std::uint64_t number) {
    return EntryName::check(std::to_string(number)).value();
}

bool is_name_of_loan(const std::string& name) {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    return error == std::errc() && end == name.data() + name.size() && std::to_string(number) == name;
}

// What is of the form of what is lent, and as empty.
void remove_leftover(int directory, const std::string& text) {
    const auto name = EntryName::check(text);
    if (!name || !is_name_of_loan(text))
        return;
    const auto attributes = stat_entry(directory, *name);
    if (!attributes || attributes->uid != ::geteuid())
        return;
    if (S_ISDIR(attributes->mode))
        static_cast<void>(remove_directory(directory, *name));
    else if (S_ISREG(attributes->mode) && attributes->links == 1 && attributes->size == 0)
        static_cast<void>(remove_file(directory, *name));
}

void remove_leftover_directory(int root, const EntryName& name, const wire::Attributes& root_attributes) {
    const auto attributes = stat_entry(root, name);
    if (!attributes || !S_ISDIR(attributes->mode) || attributes->uid != ::geteuid() ||
        attributes->identity.device != root_attributes.identity.device)
        return;
    const auto directory = open_directory(root, name);
    // Another server lives that lends what is in it.
    if (!directory || ::flock(directory->get(), LOCK_EX | LOCK_NB) != 0)
        return;
    const auto opened = stat_descriptor(directory->get());
    if (!opened || opened->identity != attributes->identity)
        return;
    for (const std::string& each : entry_names(directory->get()))
        remove_leftover(directory->get(), each);
    if (!remove_directory(root, name))
        log::warn("{}, which a server has left in the export, has something else in it", name.text());
}

// Whether what is made on that mount gets the group of its directory, whatever that directory's bits say. Also if it
// cannot be found out.
bool groups_come_from_above(std::uint64_t mount) {
    std::ifstream mounts("/proc/self/mountinfo");
    for (std::string line; std::getline(mounts, line);) {
        std::istringstream fields(line);
        std::uint64_t id = 0;
        if (!(fields >> id) || id != mount)
            continue;
        std::string options = line.substr(std::min(line.rfind(' ') + 1, line.size()));
        std::ranges::replace(options, ',', ' ');
        std::istringstream words(options);
        for (std::string word; words >> word;) {
            if (word == "grpid" || word == "bsdgroups")
                return true;
        }
        return false;
    }
    return true;
}

EntryName random_name() {
    std::random_device random;
    return EntryName::reserved(std::uint64_t{random()} << 32U | random());
}

}  // namespace

Result<Inheritance> inheritance_of(int directory) {
    REMOFILE_TRY(attributes, stat_descriptor(directory));
    REMOFILE_TRY(mount, mount_of(directory));
    if (has_default_acl(DescriptorPath(directory).c_str()))
        return Status::not_supported;
    Inheritance inheritance{.device = attributes.identity.device, .mount = mount};
    // A file system without flags gives none.
    int flags = 0;
    if (::ioctl(directory, FS_IOC_GETFLAGS, &flags) == 0)
        inheritance.flags = static_cast<unsigned>(flags) & ~flags_of_its_own;
    fsxattr extents{};
    if (::ioctl(directory, FS_IOC_FSGETXATTR, &extents) == 0) {
        if ((extents.fsx_xflags & FS_XFLAG_PROJINHERIT) != 0)
            return Status::not_supported;
        inheritance.extent_flags = extents.fsx_xflags & ~extent_flags_of_its_own;
        inheritance.extent_bytes = extents.fsx_extsize;
        inheritance.copied_extent_bytes = extents.fsx_cowextsize;
    }
    return inheritance;
}

// ---------------------------------------------------------------- where what is lent is made

// Goes when nothing of it is lent any more. The lock tells other servers that it is no leftover.
class LendingDirectory {
public:
    LendingDirectory(UniqueFd root, EntryName name, UniqueFd opened, const Inheritance& inheritance)
        : root_(std::move(root)), name_(std::move(name)), opened_(std::move(opened)), inheritance_(inheritance) {}
    LendingDirectory(const LendingDirectory&) = delete;
    LendingDirectory& operator=(const LendingDirectory&) = delete;
    ~LendingDirectory() { static_cast<void>(remove_directory(root_.get(), name_)); }

    // Error: not_supported, if nothing can be lent in this export; and what making it can give.
    static Result<std::shared_ptr<LendingDirectory>> make(int root);

    int fd() const { return opened_.get(); }
    const Inheritance& inheritance() const { return inheritance_; }
    bool is_gone() const { return is_removed(opened_.get()); }

private:
    static Result<UniqueFd> lock_new(int root, const EntryName& name);

    const UniqueFd root_;
    const EntryName name_;
    const UniqueFd opened_;
    const Inheritance inheritance_;
};

// Makes, opens and locks it.
Result<UniqueFd> LendingDirectory::lock_new(int root, const EntryName& name) {
    REMOFILE_CHECK(make_directory(root, name, lent_directory_mode));
    auto opened = open_directory(root, name);
    // Also without the set-group-id bit that it may have been given. Only now, for what is open is certainly ours.
    if (opened && ::fchmod(opened->get(), lent_directory_mode) == 0 && ::flock(opened->get(), LOCK_EX | LOCK_NB) == 0 &&
        !is_removed(opened->get()))
        return opened;
    static_cast<void>(remove_directory(root, name));
    return opened ? Status::try_again : opened.error().status;
}

Result<std::shared_ptr<LendingDirectory>> LendingDirectory::make(int root) {
    REMOFILE_TRY(kept_root, duplicate_as_path(root));
    for (int attempt = 1;; ++attempt) {
        EntryName name = random_name();
        auto opened = lock_new(root, name);
        const bool is_over =
            attempt == max_attempts || (opened.status() != Status::exists && opened.status() != Status::try_again);
        if (!opened && is_over)
            return opened.error();
        if (!opened)
            continue;
        const auto inheritance = inheritance_of(opened->get());
        auto made = std::make_shared<LendingDirectory>(std::move(kept_root), std::move(name), std::move(*opened),
                                                       inheritance.value_or(Inheritance{}));
        if (!inheritance)
            return inheritance.error();
        return made;
    }
}

// ---------------------------------------------------------------- what is lent

Loan::~Loan() {
    if (!directory_)
        return;
    if (is_directory())
        static_cast<void>(remove_directory(directory_->fd(), name_));
    else
        static_cast<void>(remove_file(directory_->fd(), name_));
}

bool Loan::suits(int directory) const {
    const auto inheritance = inheritance_of(directory);
    return inheritance && *inheritance == directory_->inheritance();
}

Result<UniqueFd> Loan::open() const {
    REMOFILE_TRY(opened, open_entry(directory_->fd(), name_));
    REMOFILE_TRY(now, stat_descriptor(opened.get()));
    const bool is_the_same = now.identity == attributes_.identity && now.mode == attributes_.mode &&
                             now.links == attributes_.links && now.uid == attributes_.uid &&
                             now.gid == attributes_.gid && now.size == attributes_.size &&
                             now.change == attributes_.change && now.modification == attributes_.modification;
    if (!is_the_same)
        return Status::stale;
    return opened;
}

Result<> Loan::move_to(int directory, const EntryName& name) {
    REMOFILE_CHECK(rename_entry(directory_->fd(), name_, directory, name, RENAME_NOREPLACE));
    directory_.reset();
    return {};
}

// ---------------------------------------------------------------- Lender

Lender::~Lender() = default;

void Lender::remove_leftovers(int root) {
    const auto opened = open_for_io(root, S_IFDIR, O_RDONLY | O_DIRECTORY);
    const auto attributes = stat_descriptor(root);
    if (!opened || !attributes)
        return;
    for (const std::string& each : entry_names(opened->get())) {
        if (const auto name = EntryName::as_reserved(each))
            remove_leftover_directory(root, *name, *attributes);
    }
}

std::shared_ptr<LendingDirectory> Lender::place_for(int directory, bool& root_changed) {
    const auto wanted = inheritance_of(directory);
    if (!wanted)
        return nullptr;
    const std::lock_guard guard(making_);
    if (place_ && place_->is_gone())
        place_.reset();
    if (!place_ && !has_failed_) {
        const auto root = open_for_io(root_.get(), S_IFDIR, O_RDONLY | O_DIRECTORY);
        const auto above = root ? inheritance_of(root->get()) : Result<Inheritance>(root.error());
        // What can be seen to be in vain leaves the root as it is.
        if (!above || above->device != wanted->device || above->mount != wanted->mount)
            return nullptr;
        const bool can_lend = !groups_come_from_above(above->mount);
        auto made = can_lend ? LendingDirectory::make(root_.get()) : Status::not_supported;
        root_changed = can_lend;
        has_failed_ = !made;
        if (made)
            place_ = std::move(*made);
    }
    return place_ && *wanted == place_->inheritance() ? place_ : nullptr;
}

Result<Loan> Lender::make(const std::shared_ptr<LendingDirectory>& place, mode_t type) {
    const std::uint64_t number = ++last_number_;
    EntryName name = name_of(number);
    if (type == S_IFDIR) {
        REMOFILE_CHECK(make_directory(place->fd(), name, lent_directory_mode));
    } else {
        REMOFILE_TRY(file, create_entry(place->fd(), name, O_RDONLY, lent_file_mode));
    }
    const auto attributes = stat_entry(place->fd(), name);
    wire::Attributes unknown;
    unknown.mode = type;
    Loan loan(place, number, std::move(name), attributes.value_or(unknown));
    if (!attributes)
        return attributes.error();
    if (attributes->uid != ::geteuid() || attributes->gid != ::getegid())
        return Status::not_supported;
    return loan;
}

}  // namespace remofile::server
