// SPDX-License-Identifier: MIT
#include "server/program/sandbox.hpp"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "base/unique_fd.hpp"

namespace remofile::server {
namespace {

// Later headers than Debian 12's have names for these (Documentation/userspace-api/landlock.rst).
constexpr std::uint64_t access_truncate = 1U << 14;        // ABI 3
constexpr std::uint64_t access_device_ioctl = 1U << 15;    // ABI 5
constexpr std::uint64_t access_connect_tcp = 1U << 1;      // ABI 4, of the network
constexpr std::uint64_t access_of_abi_2 = (1U << 14) - 1;  // all rights up to LANDLOCK_ACCESS_FS_REFER
// The first that lets names move from one directory to another.
constexpr int first_usable_abi = 2;
constexpr int first_abi_of_truncation = 3;
constexpr int first_abi_of_network = 4;
constexpr int first_abi_of_device_ioctls = 5;

constexpr std::uint64_t reading = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr std::uint64_t tidying =
    LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_SOCK;
// Of what is no directory, the kernel takes no others.
constexpr std::uint64_t rights_of_files =
    LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | access_truncate;

// As the kernel has it since ABI 4; before, it is told of the first member alone.
struct RulesetAttributes {
    std::uint64_t files = 0;
    std::uint64_t network = 0;
};

class Ruleset {
public:
    static Result<Ruleset> create() {
        const long abi = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
        if (abi < first_usable_abi)
            return Status::not_supported;
        RulesetAttributes attributes{.files = access_of_abi_2};
        if (abi >= first_abi_of_truncation)
            attributes.files |= access_truncate;
        if (abi >= first_abi_of_device_ioctls)
            attributes.files |= access_device_ioctl;
        std::size_t size = sizeof attributes.files;
        if (abi >= first_abi_of_network) {
            attributes.network = access_connect_tcp;
            size = sizeof attributes;
        }
        UniqueFd fd(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, size, 0)));
        if (!fd)
            return errno_error("cannot make a Landlock ruleset");
        return Ruleset(std::move(fd), attributes.files);
    }

    Result<> allow(const std::string& path, std::uint64_t rights) {
        const UniqueFd there(::open(path.c_str(), O_PATH | O_CLOEXEC));
        struct stat attributes {};
        if (!there || ::fstat(there.get(), &attributes) != 0)
            return {};
        rights &= handled_;
        if (!S_ISDIR(attributes.st_mode))
            rights &= rights_of_files;
        const landlock_path_beneath_attr rule{.allowed_access = rights, .parent_fd = there.get()};
        if (rights != 0 && ::syscall(SYS_landlock_add_rule, fd_.get(), LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
            return errno_error("cannot allow the use of " + path);
        return {};
    }

    Result<> enforce() {
        if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::syscall(SYS_landlock_restrict_self, fd_.get(), 0) != 0)
            return errno_error("cannot confine the server");
        return {};
    }

private:
    Ruleset(UniqueFd fd, std::uint64_t handled) : fd_(std::move(fd)), handled_(handled) {}

    UniqueFd fd_;
    std::uint64_t handled_;
};

}  // namespace

Result<> confine(const Reach& reach) {
    REMOFILE_TRY(ruleset, Ruleset::create());
    // Device files are made for clients, but never used here; nothing is run.
    constexpr std::uint64_t changing = (access_of_abi_2 & ~std::uint64_t{LANDLOCK_ACCESS_FS_EXECUTE}) | access_truncate;
    for (const std::string& path : reach.changes)
        REMOFILE_CHECK(ruleset.allow(path, changing));
    for (const std::string& path : reach.reads)
        REMOFILE_CHECK(ruleset.allow(path, reading));
    for (const std::string& path : reach.tidies)
        REMOFILE_CHECK(ruleset.allow(path, tidying));
    return ruleset.enforce();
}

}  // namespace remofile::server
