// SPDX-License-Identifier: MIT
#include "server/files/lender.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/log.hpp"
#include "server/files/xattr_names.hpp"

namespace remofile::server {
namespace {

// Flags of chattr(1) that say nothing of what is made in the directory.
constexpr unsigned flags_of_its_own = FS_INDEX_FL | FS_EXTENT_FL | FS_TOPDIR_FL | FS_IMMUTABLE_FL | FS_APPEND_FL |
                                      FS_INLINE_DATA_FL | FS_HUGE_FILE_FL | FS_EA_INODE_FL | FS_DIRTY_FL;
constexpr unsigned extent_flags_of_its_own = FS_XFLAG_IMMUTABLE | FS_XFLAG_APPEND | FS_XFLAG_HASATTR;

constexpr mode_t lent_file_mode = 0600;
constexpr mode_t lent_directory_mode = 0700;

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

// Goes when nothing of it is lent any more.
class LendingDirectory {
public:
    LendingDirectory(std::shared_ptr<HiddenDirectory> hidden, const Inheritance& inheritance)
        : hidden_(std::move(hidden)), inheritance_(inheritance) {}

    // Error: not_supported, if nothing can be lent in this export; and what making it can give.
    static Result<std::shared_ptr<LendingDirectory>> make(int root);

    int fd() const { return hidden_->fd(); }
    const Inheritance& inheritance() const { return inheritance_; }
    bool is_gone() const { return hidden_->is_gone(); }

private:
    const std::shared_ptr<HiddenDirectory> hidden_;  // this one's alone
    const Inheritance inheritance_;
};

Result<std::shared_ptr<LendingDirectory>> LendingDirectory::make(int root) {
    REMOFILE_TRY(hidden, HiddenDirectory::make(root, EntryName::Reserved::lent));
    REMOFILE_TRY(inheritance, inheritance_of(hidden->fd()));
    return std::make_shared<LendingDirectory>(std::move(hidden), inheritance);
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
    for (const auto& directory : HiddenDirectory::take_over_all(root, EntryName::Reserved::lent)) {
        for (const std::string& each : entry_names(directory->fd()))
            remove_leftover(directory->fd(), each);
        if (!directory->remove())
            log::warn("{}, which a server has left in the export, has something else in it", directory->name().text());
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
