// SPDX-License-Identifier: MIT
#include "server/program/daemon.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/log.hpp"

namespace remofile::server {
namespace {

// In the parent: the child's report, its first byte the exit code. A child that died without one has failed.
[[noreturn]] void await_report(int pipe) {
    std::string report;
    std::array<char, 4096> chunk{};
    for (;;) {
        const ssize_t size = ::read(pipe, chunk.data(), chunk.size());
        if (size > 0)
            report.append(chunk.data(), static_cast<std::size_t>(size));
        else if (size == 0 || errno != EINTR)
            break;
    }
    if (report.empty())
        report = "\1remofile-server: the background process ended without a word\n";
    std::fwrite(report.data() + 1, 1, report.size() - 1, stderr);
    ::_exit(report.front());
}

// The protocol of sd_notify(3): a datagram to the socket that the environment names. Nobody waits for an answer.
void tell_service_manager(std::string_view text) {
    const char* name = std::getenv("NOTIFY_SOCKET");
    if (name == nullptr)
        return;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::size_t size = std::strlen(name);
    if ((name[0] != '/' && name[0] != '@') || size >= sizeof address.sun_path)
        return;
    std::memcpy(address.sun_path, name, size);
    if (name[0] == '@')
        address.sun_path[0] = '\0';  // Linux: a name that is no path
    const UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto address_size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size);
    if (!fd || ::sendto(fd.get(), text.data(), text.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
                        address_size) < 0)
        log::warn("the service manager cannot be told that the server listens: {}", describe(from_errno(errno)));
}

}  // namespace

Result<StartReport> StartReport::become_daemon() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0)
        return errno_error("cannot make a pipe");
    UniqueFd read_end(ends[0]);
    UniqueFd write_end(ends[1]);
    const pid_t child = ::fork();
    if (child < 0)
        return errno_error("cannot start a background process");
    if (child > 0) {
        write_end.reset();
        await_report(read_end.get());
    }
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!null || ::setsid() < 0 || ::chdir("/") != 0)
        return errno_error("cannot leave the terminal");
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        ::dup2(null.get(), fd);
    return StartReport(std::move(write_end));
}

void StartReport::report(char exit_code, std::string_view text) {
    std::string whole(1, exit_code);
    whole += text;
    // A parent that is gone does not matter any more; SIGPIPE is ignored.
    [[maybe_unused]] const ssize_t written = ::write(pipe_.get(), whole.data(), whole.size());
    pipe_.reset();
}

void StartReport::started(std::string_view text) {
    if (pipe_)
        report(0, text);
    else
        tell_service_manager("READY=1");
}

void StartReport::failed(std::string_view text, int exit_code) {
    if (pipe_)
        report(static_cast<char>(exit_code), fmt::format("remofile-server: {}\n", text));
    log::error("{}", text);
}

}  // namespace remofile::server
