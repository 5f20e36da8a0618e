// SPDX-License-Identifier: MIT
// umount.fuse.remofs: what umount(8) calls for a mount of remofs. Unmounts it when all that programs did in it is at
// the server, so that whoever switches the machine off next loses nothing.
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace {

// mount(8), "EXIT STATUS".
constexpr int bad_usage = 1;
constexpr int failed = 32;

// A server that is silent for so long is not waited for; one that answers is, however long it takes.
constexpr auto patience = std::chrono::seconds(10);
// As long as pages of mappings may take to become changes that are counted. Then, with nothing left that the server has
// yet to get, all that is waited for is its disk.
constexpr auto patience_with_disk = std::chrono::seconds(2);
constexpr auto time_between_reports = std::chrono::seconds(5);
constexpr auto time_between_looks = std::chrono::milliseconds(100);

struct Options {
    std::string mountpoint;
    bool force = false;
    bool lazy = false;
    bool verbose = false;
    std::vector<const char*> passed_on;
};

int usage() {
    std::fputs(
        "Usage: umount.fuse.remofs MOUNTPOINT [-f] [-l] [-n] [-r] [-v]\n\n"
        "Unmounts what remofs has mounted, once all that programs did there is at the server. umount(8) calls it.\n"
        "With -f or -l nothing is waited for.\n",
        stderr);
    return bad_usage;
}

bool parse(int argc, char** argv, Options& options) {
    int letter = 0;
    // What umount(8) passes to its helpers.
    while ((letter = getopt(argc, argv, "flnrvst:N:o:")) != -1) {
        switch (letter) {
            case 'f':
                options.force = true;
                options.passed_on.push_back("-f");
                break;
            case 'l':
                options.lazy = true;
                options.passed_on.push_back("-l");
                break;
            case 'n':
                options.passed_on.push_back("-n");
                break;
            case 'r':
                options.passed_on.push_back("-r");
                break;
            case 'v':
                options.verbose = true;
                options.passed_on.push_back("-v");
                break;
            case 's':
            case 't':
            case 'N':
            case 'o':
                break;
            default:
                return false;
        }
    }
    if (optind + 1 != argc)
        return false;
    options.mountpoint = argv[optind];
    return true;
}

// One number or truth value of the mount's status (remofs/operations/mount.hpp); 0 if that is not to be had.
unsigned long long fact(const std::string& status, const std::string& name) {
    const auto at = status.find("\"" + name + "\": ");
    if (at == std::string::npos)
        return 0;
    const char* value = status.c_str() + at + name.size() + 4;
    return std::string_view(value).starts_with("true") ? 1 : std::strtoull(value, nullptr, 10);
}

std::string status_of(const std::string& mountpoint) {
    std::string value(64U << 10, '\0');
    const ssize_t size = getxattr(mountpoint.c_str(), "remofs.status", value.data(), value.size());
    value.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return value;
}

std::string left_of(const std::string& status) {
    return std::to_string(fact(status, "pending_write_bytes")) + " bytes and " +
           std::to_string(fact(status, "pending_changes")) + " changes of names and attributes";
}

void say(const Options& options, const std::string& what) {
    std::fprintf(stderr, "umount: %s: %s\n", options.mountpoint.c_str(), what.c_str());
}

// In a process of its own, whose waiting can be given up: pages of mappings first; then fsync() of the mount's root
// ends when the server has answered all that was done before. Exits with the error.
pid_t start_sync(const std::string& mountpoint) {
    const pid_t child = fork();
    if (child != 0)
        return child;
    const int root = open(mountpoint.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _exit(root >= 0 && syncfs(root) == 0 && fsync(root) == 0 ? 0 : errno);
}

void end(pid_t child) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
}

// A remofs that has gone, or another user's that root may not look into: there is nothing to wait for, or no way.
bool is_out_of_reach(int error) {
    return error == ENOTCONN || error == ECONNABORTED || error == ESHUTDOWN || error == EACCES;
}

// True once all is at the server.
bool wait_for_all(const Options& options) {
    const pid_t child = start_sync(options.mountpoint);
    if (child < 0) {
        say(options, std::string("cannot start a process: ") + strerror(errno));
        return false;
    }
    const auto process = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
    const auto begun = std::chrono::steady_clock::now();
    auto last_answer = begun;
    auto last_pending = begun;
    auto next_report = begun + time_between_reports;
    int ended = 0;
    for (;;) {
        pollfd waited{.fd = process, .events = POLLIN, .revents = 0};
        poll(&waited, process < 0 ? 0 : 1, static_cast<int>(time_between_looks.count()));
        if (waitpid(child, &ended, WNOHANG) == child)
            break;
        const auto now = std::chrono::steady_clock::now();
        const std::string status = status_of(options.mountpoint);
        if (fact(status, "pending_write_bytes") != 0 || fact(status, "pending_changes") != 0)
            last_pending = now;
        if (now - last_pending >= patience_with_disk) {
            end(child);
            return true;
        }
        if (fact(status, "silent") == 0)
            last_answer = now;
        if (now - last_answer >= patience && fact(status, "keeps_unsent") != 0) {
            say(options, "the server does not answer; what it has not got, " + left_of(status) +
                             ", is kept in the spool of the mount, if it does not come back now");
            end(child);
            return true;
        }
        if (now - last_answer >= patience) {
            say(options, "the server does not answer, and has not got " + left_of(status) +
                             "; umount -l detaches the mount and goes on trying for a while, umount -f gives them up");
            end(child);
            return false;
        }
        if (now >= next_report) {
            say(options, "the server has yet to get " + left_of(status));
            next_report = now + time_between_reports;
        }
    }
    const int error = WIFEXITED(ended) ? WEXITSTATUS(ended) : EINTR;
    if (error == 0 || is_out_of_reach(error))
        return true;
    // Nobody is told again.
    say(options, std::string("not all that was done has been carried out: ") + strerror(error) +
                     "; the log of remofs says what; the mount is still there");
    return false;
}

// The kernel's part.
int unmount(const Options& options) {
    std::vector<const char*> arguments;
    if (geteuid() == 0) {
        arguments = {"umount", "-i"};
        arguments.insert(arguments.end(), options.passed_on.begin(), options.passed_on.end());
    } else {
        arguments = {"fusermount3", "-u"};
        if (options.lazy || options.force)
            arguments.push_back("-z");
    }
    arguments.push_back("--");
    arguments.push_back(options.mountpoint.c_str());
    arguments.push_back(nullptr);
    execvp(arguments[0], const_cast<char* const*>(arguments.data()));
    say(options, std::string("cannot run ") + arguments[0] + ": " + strerror(errno));
    return failed;
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    if (!parse(argc, argv, options))
        return usage();
    if (!options.force && !options.lazy && !wait_for_all(options))
        return failed;
    return unmount(options);
}
