// SPDX-License-Identifier: MIT
#include "remofs/program/startup.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>

#include "base/log.hpp"
#include "remofs/kernel/mountpoint.hpp"

namespace remofile::remofs {
namespace {

// A message through the pipe: kind, exit status, text, and a zero byte as its end.
constexpr char kind_note = 'N';
constexpr char kind_failed = 'F';
constexpr char kind_ready = 'R';

void print(std::string_view text) {
    const std::string line = fmt::format("remofs: {}\n", log::printable(text));
    std::fputs(line.c_str(), stderr);
}

void write_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t size = ::write(fd, bytes.data(), bytes.size());
        if (size < 0 && errno != EINTR)
            return;  // nobody waits any more
        bytes.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    }
}

void leave_terminal() {
    ::setsid();
    // The mount must not keep another file system busy.
    if (::chdir("/") != 0)
        log::warn("cannot change to /: {}", std::strerror(errno));
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        ::dup2(null.get(), fd);
}

// Takes the first complete message out of `pending` and prints it. The exit status once it was the last one.
std::optional<client::ExitStatus> relay_message(std::string& pending) {
    const char kind = pending[0];
    const auto status = static_cast<client::ExitStatus>(pending[1]);
    const std::size_t end = pending.find('\0', 2);
    const std::string text = pending.substr(2, end - 2);
    pending.erase(0, end + 1);
    if (kind == kind_ready)
        return client::ExitStatus::success;
    print(text);
    return kind == kind_failed ? std::optional(status) : std::nullopt;
}

bool has_message(const std::string& pending) {
    return pending.size() > 2 && pending.find('\0', 2) != std::string::npos;
}

client::ExitStatus relay(int fd) {
    std::string pending;
    std::array<char, 4096> piece;
    for (;;) {
        while (has_message(pending))
            if (const auto status = relay_message(pending); status)
                return *status;
        const ssize_t size = ::read(fd, piece.data(), piece.size());
        if (size == 0 || (size < 0 && errno != EINTR))
            break;
        pending.append(piece.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    }
    print("the process that serves the mount ended before it was usable; the system log may say why");
    return client::ExitStatus::failure;
}

}  // namespace

void StartReport::send(char kind, client::ExitStatus status, std::string_view text) {
    std::string message{kind, static_cast<char>(status)};
    message.append(text.substr(0, text.find('\0'))).push_back('\0');
    write_all(pipe_.get(), message);
}

void StartReport::note(std::string_view text) {
    if (pipe_)
        send(kind_note, client::ExitStatus::success, text);
    else
        print(text);
}

void StartReport::failed(client::ExitStatus status, std::string_view reason) {
    if (pipe_)
        send(kind_failed, status, reason);
    else
        print(reason);
}

void StartReport::ready() {
    if (!pipe_)
        return;
    leave_terminal();
    send(kind_ready, client::ExitStatus::success, "");
    pipe_.reset();
}

Fork start_in_background() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
        print(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
        return {.status = client::ExitStatus::failure};
    }
    UniqueFd read_end(ends[0]);
    UniqueFd write_end(ends[1]);
    const pid_t child = ::fork();
    if (child == 0)
        return {.is_child = true, .report = StartReport(std::move(write_end))};
    if (child < 0) {
        print(fmt::format("cannot fork: {}", std::strerror(errno)));
        return {.status = client::ExitStatus::failure};
    }
    write_end.reset();
    return {.status = relay(read_end.get())};
}

Result<> unmount_when_killed(const std::string& mountpoint) {
    // Ready only when all that the process had open is closed, so that the mount is known to be dead.
    const UniqueFd end(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
    if (!end)
        return errno_error("cannot watch a process");
    const pid_t child = ::fork();
    if (child < 0)
        return errno_error("cannot fork");
    if (child > 0)
        return {};
    ::prctl(PR_SET_NAME, "remofs-unmount");
    leave_terminal();
    sigset_t all;
    sigfillset(&all);
    ::sigprocmask(SIG_BLOCK, &all, nullptr);
    // It must not keep open what others wait for the end of.
    const auto descriptor = static_cast<unsigned>(end.get());
    ::close_range(STDERR_FILENO + 1, descriptor - 1, 0);
    ::close_range(descriptor + 1, ~0U, 0);
    pollfd ended{.fd = end.get(), .events = POLLIN, .revents = 0};
    while (::poll(&ended, 1, -1) < 0 && errno == EINTR) {
    }
    const bool cleared = clear_of_remofs(mountpoint).has_value();
    ::_exit(cleared ? 0 : 1);
}

}  // namespace remofile::remofs
