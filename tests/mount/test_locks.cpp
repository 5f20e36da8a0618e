// SPDX-License-Identifier: MIT
// flock(2) and fcntl(2) locks between processes, blocking and not, interrupted, and freed by death.
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "mount/shared_mount.hpp"

using namespace remofile::test;

namespace {

struct flock range(short type, off_t start = 0, off_t length = 0, short whence = SEEK_SET) {
    struct flock lock = {};
    lock.l_type = type;
    lock.l_whence = whence;
    lock.l_start = start;
    lock.l_len = length;
    return lock;
}

int set_lock(int fd, short type, off_t start = 0, off_t length = 0, int command = F_SETLK) {
    struct flock lock = range(type, start, length);
    return fcntl(fd, command, &lock);
}

// Who a process that asks is told to hold what: with the holder's process id only said to be the expected one or not.
std::string conflicting(int fd, short type, off_t start, off_t length, pid_t expected_holder) {
    struct flock lock = range(type, start, length);
    if (fcntl(fd, F_GETLK, &lock) != 0)
        return errno_name(errno);
    if (lock.l_type == F_UNLCK)
        return "free";
    return std::string(lock.l_type == F_WRLCK ? "write" : "read") + " lock from " + std::to_string(lock.l_start) +
           " length " + std::to_string(lock.l_len) +
           (lock.l_pid == expected_holder ? " of the holder" : " of a stranger");
}

// A process that takes locks by `take`, says so, and keeps them until the test lets it go or kills it, or until it has
// no more patience.
struct Holder {
    explicit Holder(const std::function<int(int fd)>& take, int flags = O_RDWR,
                    Milliseconds patience = Milliseconds{20'000})
        : process(Child::fork([&] {
              const int fd = open("file", flags);
              const int result = take(fd);
              taken.ring();
              release.await(patience);
              return result == 0 ? 0 : errno;
          })) {
        taken.await();
    }

    Bell taken;
    Bell release;
    Child process;
};

// The descriptor that `body` uses must not be shared with the holder, for flock belongs to the open file.
int open_file() {
    return open("file", O_RDWR | O_CREAT, 0644);
}

// Ends the wait of a blocking call by a signal whose handler does nothing, without SA_RESTART.
void interrupt_me_after(Milliseconds delay) {
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    sigaction(SIGALRM, &action, nullptr);
    const itimerval timer = {.it_interval = {0, 50'000}, .it_value = {0, delay.count() * 1000}};
    setitimer(ITIMER_REAL, &timer, nullptr);
}

void no_more_interrupts() {
    const itimerval none = {};
    setitimer(ITIMER_REAL, &none, nullptr);
}

// Of this process, those that the kernel has not let out of a system call.
std::size_t threads_in(long call) {
    std::size_t count = 0;
    for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task")) {
        long number = -1;
        std::ifstream(thread.path() / "syscall") >> number;
        count += number == call ? 1 : 0;
    }
    return count;
}

}  // namespace

TEST_CASE("locks: POSIX ranges conflict, split and join between processes") {
    same_on_both([](Transcript& here) {
        write_file("file", std::string(1000, 'x'));
        Holder holder([](int fd) { return set_lock(fd, F_WRLCK, 100, 100) | set_lock(fd, F_RDLCK, 300, 0); });
        const int fd = OPENED(open_file());
        for (const short type : {short{F_RDLCK}, short{F_WRLCK}}) {
            for (const auto& [start, length] : {std::pair{0, 0},
                                                {0, 100},
                                                {0, 101},
                                                {150, 1},
                                                {199, 1},
                                                {200, 100},
                                                {200, 101},
                                                {300, 1},
                                                {5000, 10}}) {
                const std::string what =
                    std::to_string(type) + " " + std::to_string(start) + "+" + std::to_string(length);
                here.note("GETLK " + what, conflicting(fd, type, start, length, holder.process.pid()));
                here.called("SETLK " + what, set_lock(fd, type, start, length));
                set_lock(fd, F_UNLCK);
            }
        }
        holder.release.ring();
        here.called("holder", holder.process.wait(Milliseconds{10'000}).exit_status);
        CALLED(set_lock(fd, F_WRLCK));
        struct flock from_end = range(F_UNLCK, -10, 5, SEEK_END);
        CALLED(fcntl(fd, F_SETLK, &from_end));
        struct flock wrong = range(F_WRLCK, -1, 1);
        CALLED(fcntl(fd, F_SETLK, &wrong));
        Child asker = Child::fork([parent = getpid()] {
            const int mine = open_file();
            Transcript answers;
            answers.note("before the hole", conflicting(mine, F_RDLCK, 0, 990, parent));
            answers.note("in the hole", conflicting(mine, F_WRLCK, 990, 5, parent));
            answers.note("after the hole", conflicting(mine, F_RDLCK, 995, 1, parent));
            return 0;
        });
        here.note("asker", asker.wait(Milliseconds{10'000}).output);
        close(fd);
    });
}

TEST_CASE("locks: the open mode decides which POSIX lock one may have") {
    same_on_both([](Transcript& here) {
        write_file("file", "x");
        const int reader = OPENED(open("file", O_RDONLY)), writer = OPENED(open("file", O_WRONLY));
        CALLED(set_lock(reader, F_WRLCK));
        CALLED(set_lock(reader, F_RDLCK));
        CALLED(set_lock(writer, F_RDLCK));
        CALLED(set_lock(writer, F_WRLCK));
        CALLED(flock(reader, LOCK_EX | LOCK_NB));
        close(reader);
        close(writer);
    });
}

TEST_CASE("locks: a POSIX lock waits for its turn") {
    same_on_both([](Transcript& here) {
        write_file("file", "x");
        Holder holder([](int fd) { return set_lock(fd, F_WRLCK); });
        Bell waiting, have;
        Child waiter = Child::fork([&] {
            const int fd = open_file();
            waiting.ring();
            const int result = set_lock(fd, F_WRLCK, 0, 0, F_SETLKW);
            have.ring();
            return result == 0 ? 0 : errno;
        });
        here.expect("started", waiting.await());
        here.expect("waits", !have.await(Milliseconds{200}));
        holder.release.ring();
        here.expect("has it", have.await());
        here.called("waiter", waiter.wait(Milliseconds{10'000}).exit_status);
    });
}

TEST_CASE("locks: flock, shared and exclusive, waits for its turn, converts, and belongs to the open file") {
    same_on_both([](Transcript& here) {
        write_file("file", "x");
        Holder holder([](int fd) { return flock(fd, LOCK_SH); });
        const int fd = OPENED(open_file());
        CALLED(flock(fd, LOCK_EX | LOCK_NB));
        CALLED(flock(fd, LOCK_SH | LOCK_NB));
        CALLED(flock(fd, LOCK_EX | LOCK_NB));  // a failed conversion loses the lock one had
        CALLED(flock(fd, LOCK_UN));
        Bell waiting, have;
        Child waiter = Child::fork([&] {
            const int mine = open_file();
            waiting.ring();
            const int result = flock(mine, LOCK_EX);
            have.ring();
            return result == 0 ? 0 : errno;
        });
        here.expect("started", waiting.await());
        here.expect("waits", !have.await(Milliseconds{200}));
        holder.release.ring();
        here.expect("has it", have.await());
        here.called("waiter", waiter.wait(Milliseconds{10'000}).exit_status);

        CALLED(flock(fd, LOCK_EX | LOCK_NB));
        const int other = OPENED(open_file());  // another open file, though the same process
        CALLED(flock(other, LOCK_SH | LOCK_NB));
        const int copy = dup(fd);
        CALLED(flock(copy, LOCK_SH | LOCK_NB));
        CALLED(flock(other, LOCK_SH | LOCK_NB));
        CALLED(flock(other, LOCK_UN));
        CALLED(flock(copy, LOCK_EX | LOCK_NB));
        close(fd);
        CALLED(flock(other, LOCK_SH | LOCK_NB));  // the copy keeps it
        close(copy);
        CALLED(flock(other, LOCK_SH | LOCK_NB));
        // flock and POSIX locks do not see each other on Linux.
        Child posix = Child::fork([] { return set_lock(open_file(), F_WRLCK) == 0 ? 0 : errno; });
        here.called("posix beside flock", posix.wait(Milliseconds{10'000}).exit_status);
        close(other);
    });
}

TEST_CASE("locks: a process that has ended, or a file that was closed, holds nothing against the next one") {
    same_on_both([](Transcript& here) {
        write_file("file", "x");
        int refused = 0;
        for (int i = 0; i < 100; ++i) {
            const int fd = open_file();
            refused += flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : 1;
            close(fd);
        }
        for (int i = 0; i < 20; ++i) {
            Child holder = Child::fork([] { return flock(open_file(), LOCK_EX | LOCK_NB) == 0 ? 0 : errno; });
            refused += holder.wait(Milliseconds{10'000}).exit_status == 0 ? 0 : 1;
        }
        here.called("refused", refused);
    });
}

TEST_CASE("locks: closing any descriptor of the file drops a process's POSIX locks on it") {
    same_on_both([](Transcript& here) {
        write_file("file", "x");
        Bell closed, asked;
        Child owner = Child::fork([&] {
            const int fd = open_file(), second = open_file();
            if (set_lock(fd, F_WRLCK) != 0)
                return 1;
            close(second);
            closed.ring();
            return asked.await() ? 0 : 2;
        });
        here.expect("closed", closed.await());
        const int fd = OPENED(open_file());
        CALLED(set_lock(fd, F_WRLCK));
        asked.ring();
        here.called("owner", owner.wait(Milliseconds{10'000}).exit_status);
        close(fd);
    });
}

TEST_CASE("locks: more wait for one than a client may have other requests under way, and hold up nothing") {
    same_on_both([](Transcript& here) {
        write_file("file", "x");
        Holder holder([](int fd) { return flock(fd, LOCK_EX); }, O_RDWR, Milliseconds{60'000});
        Bell waiting, have;
        Child waiters = Child::fork([&] {
            constexpr std::size_t count = 1'100;
            const rlimit files = {.rlim_cur = 2 * count, .rlim_max = 2 * count};
            if (setrlimit(RLIMIT_NOFILE, &files) != 0)
                return errno;
            std::atomic<int> failures = 0;
            std::vector<std::thread> threads;
            for (std::size_t i = 0; i < count; ++i) {
                threads.emplace_back([&] {
                    const int fd = open_file();
                    failures += flock(fd, LOCK_SH) == 0 ? 0 : 1;
                    have.ring();
                    close(fd);
                });
            }
            if (eventually(Milliseconds{60'000}, [] { return threads_in(SYS_flock) == count; }))
                waiting.ring();
            for (std::thread& thread : threads)
                thread.join();
            return failures == 0 ? 0 : 200;
        });
        here.expect("all wait", waiting.await(Milliseconds{90'000}));
        CALLED(mkdir("directory", 0755));
        CALLED(rmdir("directory"));
        here.expect("nobody has it", !have.await(Milliseconds{0}));
        holder.release.ring();
        here.called("waiters", waiters.wait(Milliseconds{60'000}).exit_status);
    });
}

TEST_CASE("locks: open file description locks") {
    same_on_both([](Transcript& here) {
        const int first = OPENED(open_file()), second = OPENED(open_file());
        CALLED(set_lock(first, F_WRLCK, 0, 10, F_OFD_SETLK));
        CALLED(set_lock(second, F_WRLCK, 5, 10, F_OFD_SETLK));
        CALLED(set_lock(second, F_WRLCK, 10, 10, F_OFD_SETLK));
        CALLED(set_lock(first, F_RDLCK, 0, 10, F_OFD_SETLK));
        CALLED(set_lock(second, F_RDLCK, 0, 10, F_OFD_SETLK));
        CALLED(set_lock(second, F_UNLCK, 0, 0, F_OFD_SETLK));
        CALLED(set_lock(first, F_WRLCK, 0, 0, F_OFD_SETLK));
        close(first);
        CALLED(eventually(Milliseconds{5000}, [second] { return set_lock(second, F_WRLCK, 0, 0, F_OFD_SETLK) == 0; }));
        close(second);
    });
}

TEST_CASE("locks: the death of a process frees its locks and wakes who waits for them") {
    same_on_both([](Transcript& here) {
        write_file("file", "x");
        Holder posix([](int fd) { return set_lock(fd, F_WRLCK); });
        Holder whole([](int fd) { return flock(fd, LOCK_EX); });
        const int fd = OPENED(open_file());
        CALLED(set_lock(fd, F_WRLCK));
        CALLED(flock(fd, LOCK_EX | LOCK_NB));
        Bell waiting;
        Child waiter = Child::fork([&] {
            const int mine = open_file();
            waiting.ring();
            return set_lock(mine, F_WRLCK, 0, 0, F_SETLKW) == 0 && flock(mine, LOCK_EX) == 0 ? 0 : 1;
        });
        here.expect("started", waiting.await());
        posix.process.signal(SIGKILL);
        whole.process.signal(SIGKILL);
        here.called("waiter", waiter.wait(Milliseconds{10'000}).exit_status);
        CALLED(eventually(Milliseconds{5000}, [fd] { return set_lock(fd, F_WRLCK) == 0; }));
        close(fd);
    });
}

TEST_CASE("locks: a signal interrupts who waits for a lock") {
    same_on_both([](Transcript& here) {
        write_file("file", "x");
        Holder posix([](int fd) { return set_lock(fd, F_WRLCK); });
        Holder whole([](int fd) { return flock(fd, LOCK_EX); });
        const int fd = OPENED(open_file());
        interrupt_me_after(Milliseconds{100});
        CALLED(set_lock(fd, F_WRLCK, 0, 0, F_SETLKW));
        CALLED(flock(fd, LOCK_EX));
        no_more_interrupts();
        // Nothing of the abandoned waits is left: once the holders go, another gets the locks although `fd` is open.
        posix.release.ring();
        whole.release.ring();
        posix.process.wait(Milliseconds{10'000});
        whole.process.wait(Milliseconds{10'000});
        Child other = Child::fork([] {
            const int mine = open_file();
            return set_lock(mine, F_WRLCK) == 0 && flock(mine, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
        });
        here.called("other", other.wait(Milliseconds{10'000}).exit_status);
        close(fd);
    });
}

TEST_CASE("locks: who waits for a lock can be killed") {
    same_on_both([](Transcript& here) {
        write_file("file", "x");
        Holder posix([](int fd) { return set_lock(fd, F_WRLCK); });
        Holder whole([](int fd) { return flock(fd, LOCK_EX); });
        for (const bool use_flock : {false, true}) {
            Bell waiting;
            Child waiter = Child::fork([&] {
                const int fd = open_file();
                waiting.ring();
                return use_flock ? flock(fd, LOCK_EX) : set_lock(fd, F_WRLCK, 0, 0, F_SETLKW);
            });
            here.expect("started", waiting.await());
            here.expect("waits", waiter.wait(Milliseconds{100}).timed_out());
            waiter.signal(SIGKILL);
            here.called("killed", waiter.wait(Milliseconds{5'000}).exit_status);
        }
        posix.release.ring();
        posix.process.wait(Milliseconds{10'000});
        const int fd = OPENED(open_file());
        CALLED(eventually(Milliseconds{5000}, [fd] { return set_lock(fd, F_WRLCK) == 0; }));
        close(fd);
    });
}

TEST_CASE("locks: they guard a counter that many processes raise") {
    same_on_both([](Transcript& here) {
        write_file("file", "0");
        constexpr int processes = 4, rounds = 50;
        std::vector<Child> workers;
        for (int i = 0; i < processes; ++i) {
            workers.push_back(Child::fork([] {
                for (int round = 0; round < rounds; ++round) {
                    const int fd = open_file();
                    if (flock(fd, LOCK_EX) != 0)
                        return 1;
                    char text[20] = {};
                    if (pread(fd, text, sizeof(text) - 1, 0) < 0)
                        return 2;
                    const std::string next = std::to_string(std::atoi(text) + 1);
                    if (pwrite(fd, next.data(), next.size(), 0) < 0)
                        return 3;
                    close(fd);
                }
                return 0;
            }));
        }
        for (Child& worker : workers)
            here.called("worker", worker.wait(Milliseconds{30'000}).exit_status);
        here.contents("file");
    });
}
