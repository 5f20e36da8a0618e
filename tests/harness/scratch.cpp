// SPDX-License-Identifier: MIT
#include "harness/scratch.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <thread>

#include "harness/mount_table.hpp"
#include "harness/patience.hpp"

namespace remofile::test {

namespace {

Scratch* the_scratch = nullptr;

// True if `pid`'s root of work is `directory`: it was started with it in its environment.
bool works_below(const std::filesystem::path& process, const std::string& directory) {
    const UniqueFd fd(open((process / "environ").c_str(), O_RDONLY | O_CLOEXEC));
    std::string environment(65536, '\0');
    const ssize_t size = fd ? read(fd.get(), environment.data(), environment.size()) : -1;
    environment.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    return environment.find("=" + directory + "/") != std::string::npos;
}

// Daemons that were put in the background outlive their parent; the environment that the harness gave them tells whose
// they are.
void kill_leftovers(const std::string& directory) {
    std::error_code ignored;
    for (const auto& process : std::filesystem::directory_iterator("/proc", ignored)) {
        const pid_t pid = std::atoi(process.path().filename().c_str());
        if (pid > 1 && pid != getpid() && works_below(process.path(), directory))
            kill(pid, SIGKILL);
    }
}

void sweep(const std::string& directory) {
    const auto mounts = mounts_below(directory);
    for (auto mount = mounts.rbegin(); mount != mounts.rend(); ++mount)
        force_unmount(*mount);
    kill_leftovers(directory);
    // A daemon that is just ending may still be writing its last files.
    eventually(Milliseconds{2000}, [&] {
        std::error_code error;
        std::filesystem::remove_all(directory, error);
        return !error;
    });
}

[[noreturn]] void run_sweeper(const std::string& directory, int watched_fd) {
    setsid();
    prctl(PR_SET_NAME, "test-sweeper");
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, nullptr);
    if (chdir("/") != 0)
        _exit(1);
    const int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; ++fd)
        dup2(null, fd);
    char byte;
    while (read(watched_fd, &byte, 1) > 0) {
    }
    sweep(directory);
    _exit(0);
}

}  // namespace

Scratch::Scratch() {
    const char* parent = std::getenv("TMPDIR");
    path_ = std::string(parent ? parent : "/tmp") + "/remofs-test-XXXXXX";
    if (!mkdtemp(path_.data()))
        throw std::runtime_error("cannot make a directory for the test: " + path_);
    path_ = std::filesystem::canonical(path_);
    chmod(path_.c_str(), 0755);  // tests that act as other users must be able to get in

    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        throw std::runtime_error("cannot make a pipe");
    const UniqueFd watched(ends[0]);
    alive_.reset(ends[1]);
    sweeper_ = fork();
    if (sweeper_ < 0)
        throw std::runtime_error("cannot fork");
    if (sweeper_ == 0) {
        alive_.reset();
        run_sweeper(path_, watched.get());
    }
    the_scratch = this;
}

Scratch::~Scratch() {
    while (!kept_.empty())
        kept_.pop_back();
    alive_.reset();
    waitpid(sweeper_, nullptr, 0);
    the_scratch = nullptr;
}

std::string Scratch::make_directory(std::string_view purpose) {
    std::string directory = path_ + "/" + std::to_string(++directories_) + "-" + std::string(purpose);
    if (mkdir(directory.c_str(), 0755) != 0 || chmod(directory.c_str(), 0755) != 0)
        throw std::runtime_error("cannot make " + directory);
    return directory;
}

Scratch& Scratch::instance() {
    if (!the_scratch)
        throw std::runtime_error("main() has made no Scratch");
    return *the_scratch;
}

}  // namespace remofile::test
