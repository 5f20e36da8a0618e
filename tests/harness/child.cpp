// SPDX-License-Identifier: MIT
#include "harness/child.hpp"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <stdexcept>

#include "harness/scratch.hpp"

namespace remofile::test {

namespace {

// How long a process may take to die of SIGKILL: only one that is blocked in the kernel takes longer than an instant.
constexpr Milliseconds kill_deadline{3000};

std::string contents_of(const UniqueFd& file) {
    struct stat attributes = {};
    if (!file || fstat(file.get(), &attributes) != 0)
        return {};
    std::string text(static_cast<std::size_t>(attributes.st_size), '\0');
    const ssize_t size = pread(file.get(), text.data(), text.size(), 0);
    text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    return text;
}

[[noreturn]] void give_up(const char* what) {
    std::perror(what);
    _exit(126);
}

void take_on(const Credentials& as) {
    // Changing ids clears the death signal: the caller sets it after this.
    if (setgroups(as.groups.size(), as.groups.data()) != 0 || setresgid(as.gid, as.gid, as.gid) != 0 ||
        setresuid(as.uid, as.uid, as.uid) != 0)
        give_up("cannot change user");
}

void become_child(pid_t parent, const UniqueFd& output, const UniqueFd& errors, const std::optional<Credentials>& as) {
    setpgid(0, 0);
    Scratch::instance().let_go_in_child();
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(null, STDIN_FILENO);
    dup2(output.get(), STDOUT_FILENO);
    dup2(errors.get(), STDERR_FILENO);
    // Catch has handlers for those of a crash, which would report a forked process as the test itself.
    for (int number :
         {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGCHLD, SIGALRM, SIGUSR1, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT})
        ::signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    if (as)
        take_on(*as);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(126);
}

// Of a command that is to run as another user, who may not be allowed to go where the program lies: a checkout may be
// in somebody's home directory. Opened beforehand, it runs all the same. Else none.
UniqueFd open_program(const Command& command) {
    const std::string& program = command.arguments.front();
    if (!command.as || program.find('/') == std::string::npos)
        return UniqueFd();
    return UniqueFd(open(program.c_str(), O_PATH | O_CLOEXEC));
}

[[noreturn]] void execute(const Command& command, const UniqueFd& program) {
    for (const auto& [name, value] : command.environment)
        setenv(name.c_str(), value.c_str(), 1);
    std::string directory = command.directory;
    // The test's own may be out of another user's reach too.
    if (directory.empty() && command.as)
        directory = Scratch::instance().path();
    if (!directory.empty() && chdir(directory.c_str()) != 0)
        give_up(directory.c_str());
    std::vector<char*> arguments;
    for (const std::string& argument : command.arguments)
        arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    if (program)
        execveat(program.get(), "", arguments.data(), environ, AT_EMPTY_PATH);
    else
        execvp(arguments[0], arguments.data());
    std::perror(arguments[0]);
    _exit(127);
}

}  // namespace

std::string Ended::to_string() const {
    std::ostringstream text;
    if (timed_out())
        text << "still running";
    else
        text << "exit status " << exit_status;
    text << " after " << took.count() << " s\n--- standard output\n"
         << output << "--- standard error\n"
         << errors << "---";
    return text.str();
}

Child Child::start(const Command& command) {
    const UniqueFd program = open_program(command);
    return fork([&]() -> int { execute(command, program); }, command.as);
}

Child Child::fork(const std::function<int()>& body, const std::optional<Credentials>& as) {
    Child child;
    child.output_.reset(memfd_create("output", MFD_CLOEXEC));
    child.errors_.reset(memfd_create("errors", MFD_CLOEXEC));
    if (!child.output_ || !child.errors_)
        throw std::runtime_error("cannot make a memory file");
    // A program that opens /dev/stderr anew must not write over what is there.
    fcntl(child.output_.get(), F_SETFL, O_APPEND);
    fcntl(child.errors_.get(), F_SETFL, O_APPEND);
    child.started_ = std::chrono::steady_clock::now();
    std::fflush(nullptr);
    const pid_t parent = getpid();
    // A signal that reaches the copy too soon would be handled as the test's own, under locks that nobody releases.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    child.pid_ = ::fork();
    if (child.pid_ != 0)
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (child.pid_ < 0)
        throw std::runtime_error("cannot fork");
    if (child.pid_ == 0) {
        become_child(parent, child.output_, child.errors_, as);
        const int status = body();
        std::fflush(nullptr);
        _exit(status);
    }
    setpgid(child.pid_, child.pid_);  // here too: whichever of the two runs first
    return child;
}

Child::Child(Child&& other) noexcept {
    *this = std::move(other);
}

Child& Child::operator=(Child&& other) noexcept {
    destroy();
    pid_ = std::exchange(other.pid_, -1);
    ended_ = other.ended_;
    exit_status_ = other.exit_status_;
    started_ = other.started_;
    output_ = std::move(other.output_);
    errors_ = std::move(other.errors_);
    return *this;
}

Child::~Child() {
    destroy();
}

void Child::signal(int number) const {
    if (pid_ > 0 && !ended_)
        kill(pid_, number);
}

bool Child::reap() {
    if (pid_ <= 0 || ended_)
        return true;
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) != pid_)
        return false;
    ended_ = true;
    exit_status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return true;
}

bool Child::running() {
    return !reap();
}

Ended Child::wait(Milliseconds deadline) {
    Ended end;
    if (eventually(deadline, [this] { return reap(); }))
        end.exit_status = exit_status_;
    end.took = std::chrono::steady_clock::now() - started_;
    end.output = output();
    end.errors = errors();
    return end;
}

bool Child::destroy() {
    if (pid_ <= 0)
        return true;
    kill(-pid_, SIGKILL);  // the group may have members left even if its leader has ended
    return eventually(kill_deadline, [this] { return reap(); });
}

std::string Child::output() const {
    return contents_of(output_);
}

std::string Child::errors() const {
    return contents_of(errors_);
}

Ended run(const Command& command, Milliseconds deadline) {
    return Child::start(command).wait(deadline);
}

Ended run_script(const std::string& directory, const std::string& script, Milliseconds deadline) {
    return run({.arguments = {"/bin/sh", "-euc", script}, .directory = directory}, deadline);
}

bool is_installed(const std::string& program) {
    return run({.arguments = {"/bin/sh", "-c", "command -v -- \"$1\"", "sh", program}}).exit_status == 0;
}

Bell::Bell() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        throw std::runtime_error("cannot make a pipe");
    read_end_.reset(ends[0]);
    write_end_.reset(ends[1]);
}

void Bell::ring() const {
    (void)!write(write_end_.get(), "!", 1);
}

bool Bell::await(Milliseconds deadline) const {
    pollfd waiting = {.fd = read_end_.get(), .events = POLLIN, .revents = 0};
    const auto limit = deadline * slowness();
    if (poll(&waiting, 1, static_cast<int>(limit.count())) <= 0)
        return false;
    char byte;
    return read(read_end_.get(), &byte, 1) == 1;
}

}  // namespace remofile::test
