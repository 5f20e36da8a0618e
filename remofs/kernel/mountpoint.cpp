// SPDX-License-Identifier: MIT
#include "remofs/kernel/mountpoint.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <system_error>
#include <vector>

#include "base/log.hpp"
#include "base/unique_fd.hpp"

namespace remofile::remofs {
namespace {

// One window in flight and one being read by the program, of the largest request that FUSE makes.
constexpr std::string_view readahead_kib = "2048";

// mountinfo writes blank, tab, newline and backslash as \ooo.
std::string unescape(std::string_view text) {
    std::string result;
    while (!text.empty()) {
        const bool octal = text.size() >= 4 && text[0] == '\\' &&
                           std::ranges::all_of(text.substr(1, 3), [](char c) { return c >= '0' && c <= '7'; });
        if (octal) {
            result += static_cast<char>((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
            text.remove_prefix(4);
        } else {
            result += text[0];
            text.remove_prefix(1);
        }
    }
    return result;
}

Result<std::string> resolve(const std::string& path) {
    const std::unique_ptr<char, decltype(&std::free)> resolved(::realpath(path.c_str(), nullptr), &std::free);
    if (resolved == nullptr)
        return errno_error(fmt::format("mountpoint {}: {}", path, describe(from_errno(errno))));
    return std::string(resolved.get());
}

// What writes a line into a table may wait for others who do.
constexpr auto table_patience = std::chrono::seconds(5);

// False if it still runs after so long.
bool ends_within(pid_t child, std::chrono::milliseconds patience) {
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
    if (!process)
        return true;
    pollfd ended{.fd = process.get(), .events = POLLIN, .revents = 0};
    return ::poll(&ended, 1, static_cast<int>(patience.count())) != 0;
}

// Ends when the program does, or is ended after `patience`, if that is given. `arguments`: with the program's name
// first. Errors: busy, of a program that fails, timed_out, and others of starting it.
Result<> run_program(std::vector<const char*> arguments, std::optional<std::chrono::milliseconds> patience = {}) {
    const std::string program = arguments[0];
    arguments.push_back(nullptr);
    // The program blocks the signals that it waits for; its children must not.
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    pid_t child = 0;
    const int failure =
        ::posix_spawnp(&child, arguments[0], nullptr, &attributes, const_cast<char* const*>(arguments.data()), environ);
    posix_spawnattr_destroy(&attributes);
    if (failure != 0)
        return make_error(from_errno(failure), "cannot run " + program);
    const bool is_late = patience && !ends_within(child, *patience);
    if (is_late)
        ::kill(child, SIGKILL);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (is_late)
        return make_error(Status::timed_out, program + " takes too long");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return make_error(Status::busy, program + " refuses");
    return {};
}

Result<> run_fusermount(const std::string& mountpoint, bool lazy) {
    std::vector<const char*> arguments{"fusermount3", "-u", "-q"};
    if (lazy)
        arguments.push_back("-z");
    arguments.insert(arguments.end(), {"--", mountpoint.c_str()});
    return run_program(std::move(arguments));
}

}  // namespace

std::string absolute_path(const std::string& path) {
    std::error_code error;
    const auto absolute = std::filesystem::absolute(path, error).lexically_normal();
    std::string text = error ? path : absolute.string();
    while (text.size() > 1 && text.ends_with('/'))
        text.pop_back();
    return text;
}

std::optional<MountEntry> find_mount(std::string_view mountinfo, std::string_view path) {
    std::optional<MountEntry> found;
    std::istringstream lines{std::string(mountinfo)};
    for (std::string line; std::getline(lines, line);) {
        // ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [FIELDS...] - TYPE SOURCE OPTIONS
        std::istringstream words(line);
        std::string id, parent, device, root, mountpoint, options, word, type, source, of_file_system;
        words >> id >> parent >> device >> root >> mountpoint >> options;
        while (words >> word && word != "-") {
        }
        words >> type >> source >> of_file_system;
        if (unescape(mountpoint) == path)
            found = MountEntry{device, type, unescape(source),
                               options + "," + of_file_system};  // a later line is mounted on top
    }
    return found;
}

std::optional<MountEntry> find_mount(std::string_view path) {
    std::ifstream file("/proc/self/mountinfo");
    std::ostringstream text;
    text << file.rdbuf();
    return find_mount(text.str(), path);
}

Result<> clear_of_remofs(const std::string& path) {
    const auto mounted = find_mount(path);
    if (!mounted || mounted->type != file_system_type)
        return {};
    // Such a mount answers ENOTCONN, and does so at once; a live one answers for its root within a second whatever its
    // server does.
    struct stat attributes {};
    if (::stat(path.c_str(), &attributes) == 0 || errno != ENOTCONN)
        return make_error(Status::busy, fmt::format("{} is the mountpoint of {} already; \"umount {}\" ends that mount",
                                                    path, mounted->source, path));
    if (auto removed = unmount(path, true); !removed)
        return make_error(Status::busy, fmt::format("{} is a dead mount of {} that cannot be taken away ({}): run "
                                                    "\"fusermount3 -uz {}\"",
                                                    path, mounted->source, removed.error().to_string(), path));
    log::warn("took away the dead mount of {} at {}", mounted->source, path);
    return {};
}

Result<std::string> prepare_mountpoint(const std::string& path) {
    REMOFILE_CHECK(clear_of_remofs(absolute_path(path)));
    REMOFILE_TRY(resolved, resolve(path));
    REMOFILE_CHECK(clear_of_remofs(resolved));
    struct stat attributes {};
    if (::stat(resolved.c_str(), &attributes) != 0)
        return errno_error(fmt::format("mountpoint {}: {}", path, describe(from_errno(errno))));
    if (!S_ISDIR(attributes.st_mode))
        return make_error(Status::not_directory, fmt::format("mountpoint {} is not a directory", path));
    // fusermount3 lets an ordinary user mount on directories that he may write only; say so before connecting.
    if (::geteuid() != 0 && ::access(resolved.c_str(), W_OK | X_OK) != 0)
        return make_error(Status::access_denied,
                          fmt::format("mountpoint {}: an ordinary user needs write permission to mount there", path));
    return resolved;
}

Result<> note_for_umount(const std::string& mountpoint, const std::string& source) {
    if (::geteuid() != 0)
        return {};
    forget_for_umount(mountpoint);
    const std::string helper = "uhelper=" + std::string(file_system_type);
    return run_program({"mount", "--fake", "--internal-only", "--no-canonicalize", "-t", file_system_type.data(), "-o",
                        helper.c_str(), "--", source.c_str(), mountpoint.c_str()},
                       table_patience);
}

void forget_for_umount(const std::string& mountpoint) {
    if (::geteuid() != 0)
        return;
    const auto forgotten =
        run_program({"umount", "--fake", "--internal-only", "--no-canonicalize", "--quiet", "--", mountpoint.c_str()},
                    table_patience);
    if (!forgotten)
        log::debug("umount's line for {} stays: {}", mountpoint, forgotten.error().to_string());
}

Result<> unmount(const std::string& mountpoint, bool lazy) {
    if (::geteuid() != 0)
        return run_fusermount(mountpoint, lazy);
    if (::umount2(mountpoint.c_str(), UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) != 0)
        return errno_error(fmt::format("cannot unmount {}: {}", mountpoint, describe(from_errno(errno))));
    return {};
}

void raise_kernel_readahead(const std::string& mountpoint) {
    const auto mounted = find_mount(mountpoint);
    if (!mounted || mounted->type != file_system_type)
        return;
    const std::string path = "/sys/class/bdi/" + mounted->device + "/read_ahead_kb";
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file || ::write(file.get(), readahead_kib.data(), readahead_kib.size()) < 0)
        log::debug("the kernel's readahead stays as it is: {}", describe(from_errno(errno)));
}

}  // namespace remofile::remofs
