// SPDX-License-Identifier: MIT
// open(2), creat(2) and their flags.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "harness/kernel_version.hpp"
#include "mount/shared_mount.hpp"

using namespace remofile::test;

TEST_CASE("open: every combination of flags on every kind of name") {
    same_on_both([](Transcript& here) {
        write_file("file", "content");
        CALLED(mkdir("directory", 0755));
        CALLED(symlink("file", "link"));
        CALLED(symlink("nowhere", "dangling"));
        CALLED(symlink("loop", "loop"));
        const int accesses[] = {O_RDONLY, O_WRONLY, O_RDWR, O_ACCMODE};
        const int extras[] = {0,
                              O_CREAT,
                              O_CREAT | O_EXCL,
                              O_TRUNC,
                              O_APPEND,
                              O_CREAT | O_TRUNC,
                              O_DIRECTORY,
                              O_NOFOLLOW,
                              O_PATH,
                              O_CREAT | O_NOFOLLOW,
                              O_CREAT | O_DIRECTORY,
                              O_EXCL,
                              O_SYNC,
                              O_DSYNC,
                              O_NONBLOCK,
                              O_NOATIME};
        for (const char* name :
             {"file", "directory", "link", "dangling", "loop", "missing", "file/under", "missing/under", ""}) {
            for (const int access : accesses) {
                for (const int extra : extras) {
                    const std::string what =
                        std::string(name) + " access " + std::to_string(access) + " extra " + std::to_string(extra);
                    const int fd = here.opened(what, open(name, access | extra, 0640));
                    if (fd >= 0) {
                        here.called(what + " read", read(fd, nullptr, 0));
                        here.attributes(what + " fstat", fd);
                        close(fd);
                    }
                    unlink("missing");
                    unlink("nowhere");
                    write_file("file", "content");
                }
            }
        }
        here.names(".");
    });
}

TEST_CASE("open: modes of new files under different umasks") {
    same_on_both([](Transcript& here) {
        for (const mode_t mask : {0, 022, 077, 0777, 0123}) {
            for (const mode_t mode : {0, 0444, 0644, 0666, 0777, 01777, 02755, 04755, 07777}) {
                umask(mask);
                const int fd = OPENED(creat("file", mode));
                here.attributes("new", fd);
                close(fd);
                unlink("file");
                CALLED(mkdir("directory", mode));
                here.attributes("directory");
                rmdir("directory");
            }
        }
    });
}

TEST_CASE("open: a file without permissions stays writable through the descriptor that made it") {
    same_on_both([](Transcript& here) {
        const int fd = OPENED(open("file", O_RDWR | O_CREAT | O_EXCL, 0));
        CALLED(write(fd, "data", 4));
        CALLED(close(fd));
        here.attributes("file");
        here.contents("file");
    });
}

TEST_CASE("open: O_EXCL lets one of many processes win") {
    same_on_both([](Transcript& here) {
        const auto contend = [] {
            const int fd = open("lock", O_WRONLY | O_CREAT | O_EXCL, 0644);
            return fd >= 0 ? 1 : errno == EEXIST ? 0 : 99;
        };
        std::vector<Child> processes;
        for (int i = 0; i < 8; ++i)
            processes.push_back(Child::fork(contend));
        int winners = 0;
        for (Child& process : processes)
            winners += process.wait(Milliseconds{20'000}).exit_status;
        here.called("winners", winners);
    });
}

TEST_CASE("open: O_TRUNC empties the file for all who have it open") {
    same_on_both([](Transcript& here) {
        write_file("file", "something");
        const int reader = OPENED(open("file", O_RDONLY));
        const int truncater = OPENED(open("file", O_WRONLY | O_TRUNC));
        here.attributes("reader", reader);
        char byte;
        CALLED(read(reader, &byte, 1));
        CALLED(write(truncater, "new", 3));
        here.attributes("reader", reader);
        CALLED(read(reader, &byte, 1));
        here.note("byte", std::string(1, byte));
        close(reader);
        close(truncater);
        here.contents("file");
    });
}

TEST_CASE("open: O_APPEND writes at the end whatever the offset") {
    same_on_both([](Transcript& here) {
        write_file("file", "0123456789");
        const int fd = OPENED(open("file", O_RDWR | O_APPEND));
        CALLED(lseek(fd, 3, SEEK_SET));
        CALLED(write(fd, "A", 1));
        CALLED(lseek(fd, 0, SEEK_CUR));
        CALLED(pwrite(fd, "B", 1, 2));  // Linux appends here too
        CALLED(lseek(fd, 0, SEEK_CUR));
        const int other = OPENED(open("file", O_WRONLY | O_APPEND));
        CALLED(write(other, "C", 1));
        CALLED(write(fd, "D", 1));
        CALLED(write(other, "E", 1));
        CALLED(ftruncate(fd, 4));
        CALLED(write(other, "F", 1));
        CALLED(fcntl(other, F_SETFL, 0));
        CALLED(pwrite(other, "G", 1, 0));
        CALLED(fcntl(other, F_SETFL, O_APPEND));
        CALLED(write(other, "H", 1));
        close(fd);
        close(other);
        here.contents("file");
    });
}

TEST_CASE("open: several processes append without losing a line") {
    same_on_both([](Transcript& here) {
        constexpr int lines = 200;
        std::vector<Child> processes;
        for (char who : {'a', 'b', 'c', 'd'}) {
            processes.push_back(Child::fork([who] {
                const int fd = open("log", O_WRONLY | O_APPEND | O_CREAT, 0644);
                const std::string line = std::string(99, who) + "\n";
                for (int i = 0; i < lines; ++i) {
                    if (write(fd, line.data(), line.size()) != static_cast<ssize_t>(line.size()))
                        return 1;
                }
                return close(fd);
            }));
        }
        for (Child& process : processes)
            here.called("exit", process.wait(Milliseconds{30'000}).exit_status);
        const std::string log = read_file("log");
        here.called("size", static_cast<long>(log.size()));
        bool whole = true;
        for (std::size_t at = 0; at + 100 <= log.size(); at += 100)
            whole = whole && log.substr(at, 99) == std::string(99, log[at]) && log[at + 99] == '\n';
        here.expect("no line is torn", whole);
    });
}

TEST_CASE("open: O_DIRECT reads and writes aligned blocks") {
    same_on_both([](Transcript& here) {
        constexpr std::size_t size = 1 << 20;
        void* memory = nullptr;
        if (posix_memalign(&memory, 4096, size) != 0)
            return;
        const std::unique_ptr<char, decltype(&free)> buffer(static_cast<char*>(memory), &free);
        const std::string data = random_bytes(size, 7);
        data.copy(buffer.get(), size);
        const int fd = OPENED(open("file", O_RDWR | O_CREAT | O_DIRECT, 0644));
        if (fd < 0)
            return;
        CALLED(pwrite(fd, buffer.get(), size, 0));
        CALLED(pwrite(fd, buffer.get() + 4096, 8192, size));
        here.attributes("file");
        CALLED(pread(fd, buffer.get(), 65536, 4096));
        here.note("read", abbreviated({buffer.get(), 65536}));
        CALLED(pread(fd, buffer.get(), 65536, size + 4096));  // beyond the end: what there is
        close(fd);
        here.contents("file");
        // Through the page cache and past it at once.
        const int cached = OPENED(open("file", O_RDWR));
        const int direct = OPENED(open("file", O_RDONLY | O_DIRECT));
        CALLED(pwrite(cached, "changed", 7, 0));
        CALLED(fsync(cached));
        CALLED(pread(direct, buffer.get(), 4096, 0));
        here.note("direct", abbreviated({buffer.get(), 4096}));
        close(cached);
        close(direct);
    });
}

TEST_CASE("open: O_TMPFILE makes a file without a name, which link may give it later") {
    if (!testing_locally() && !kernel_is_at_least(6, 1)) {
        WARN("before Linux 6.1, FUSE file systems are not asked for nameless files");
        return;
    }
    same_on_both([](Transcript& here) {
        umask(027);
        const int fd = OPENED(open(".", O_TMPFILE | O_RDWR, 0666));
        CALLED(write(fd, "nameless", 8));
        here.attributes("nameless", fd);
        here.names(".");
        const std::string self = "/proc/self/fd/" + std::to_string(fd);
        here.called("link", linkat(AT_FDCWD, self.c_str(), AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
        here.attributes("named", fd);
        CALLED(close(fd));
        here.contents("named");
        const int lasting = OPENED(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600));
        const std::string other = "/proc/self/fd/" + std::to_string(lasting);
        here.called("link after O_EXCL", linkat(AT_FDCWD, other.c_str(), AT_FDCWD, "second", AT_SYMLINK_FOLLOW));
        CALLED(close(lasting));
        OPENED(open(".", O_TMPFILE | O_RDONLY, 0600));
        OPENED(open("named", O_TMPFILE | O_RDWR, 0600));
        here.names(".");
    });
}

TEST_CASE("open: O_PATH and openat work from a directory's descriptor") {
    same_on_both([](Transcript& here) {
        CALLED(mkdir("directory", 0755));
        const int directory = OPENED(open("directory", O_PATH | O_DIRECTORY));
        const int file = OPENED(openat(directory, "file", O_WRONLY | O_CREAT, 0644));
        CALLED(write(file, "x", 1));
        close(file);
        CALLED(rename("directory", "renamed"));
        CALLED(mkdirat(directory, "inner", 0700));
        CALLED(symlinkat("file", directory, "link"));
        CALLED(linkat(directory, "file", directory, "second", 0));
        CALLED(unlinkat(directory, "file", 0));
        CALLED(unlinkat(directory, "inner", AT_REMOVEDIR));
        CALLED(faccessat(directory, "second", R_OK | W_OK, 0));
        CALLED(faccessat(directory, "file", F_OK, 0));
        struct stat attributes = {};
        CALLED(fstatat(directory, "link", &attributes, AT_SYMLINK_NOFOLLOW));
        here.note("link", describe(attributes));
        CALLED(openat(directory, "../../..", O_PATH) >= 0);
        close(directory);
        here.names("renamed");
    });
}

// It could not be opened again once the kernel has forgotten the file: better none. Kernels before 6.8 give one out.
TEST_CASE("open: no handle for open_by_handle_at is given out") {
    if (testing_locally())
        return;
    const auto pair = shared_mount().make_pair();
    write_file(pair.mounted + "/file", "x");
    std::vector<char> memory(sizeof(file_handle) + MAX_HANDLE_SZ);
    auto* handle = reinterpret_cast<file_handle*>(memory.data());
    handle->handle_bytes = MAX_HANDLE_SZ;
    int mount_id = 0;
    const int result = name_to_handle_at(AT_FDCWD, (pair.mounted + "/file").c_str(), handle, &mount_id, 0);
    if (result == 0 && !kernel_is_at_least(6, 8))
        return;
    CHECK(result == -1);
    CHECK(errno_name(errno) == "EOPNOTSUPP");
}
