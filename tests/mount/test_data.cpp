// SPDX-License-Identifier: MIT
// Reading and writing in every way that Linux has.
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "mount/shared_mount.hpp"

using namespace remofile::test;

namespace {

std::string read_at(int fd, std::size_t size, off_t offset) {
    std::string buffer(size, '\0');
    const ssize_t got = pread(fd, buffer.data(), size, offset);
    return got < 0 ? errno_name(errno) : abbreviated(std::string_view(buffer).substr(0, static_cast<std::size_t>(got)));
}

}  // namespace

TEST_CASE("data: read and write at all sorts of sizes and offsets") {
    same_on_both([](Transcript& here) {
        const std::string data = random_bytes(3 << 20, 11);
        const int fd = OPENED(open("file", O_RDWR | O_CREAT, 0644));
        off_t offset = 0;
        for (const std::size_t size :
             {1UL, 511UL, 4096UL, 4097UL, 131'072UL, 131'073UL, 1'048'576UL, 1'048'577UL, 0UL, 3UL}) {
            here.called("write " + std::to_string(size), pwrite(fd, data.data(), size, offset));
            offset += static_cast<off_t>(size) - 1;
        }
        here.attributes("file", fd);
        for (const std::size_t size : {0UL, 1UL, 4095UL, 65'536UL, 200'000UL, 2'000'000UL, 4'000'000UL}) {
            for (const off_t at :
                 {0L, 1L, 4096L, 131'071L, 1'000'000L, offset - 1, offset, offset + 1, offset + 100'000})
                here.note("read " + std::to_string(size) + " at " + std::to_string(at), read_at(fd, size, at));
        }
        char byte;
        CALLED(pread(fd, &byte, 1, -1));
        CALLED(pwrite(fd, "x", 1, -1));
        close(fd);
        here.contents("file");
    });
}

TEST_CASE("data: sequential read, write and lseek share one offset") {
    same_on_both([](Transcript& here) {
        const int fd = OPENED(open("file", O_RDWR | O_CREAT, 0644));
        CALLED(write(fd, "0123456789", 10));
        CALLED(lseek(fd, -4, SEEK_END));
        char bytes[4] = {};
        CALLED(read(fd, bytes, 3));
        here.note("bytes", bytes);
        CALLED(lseek(fd, -1, SEEK_SET));
        CALLED(lseek(fd, 100, SEEK_CUR));
        CALLED(read(fd, bytes, 3));
        CALLED(write(fd, "far", 3));
        CALLED(lseek(fd, 0, 99));
        const int copy = dup(fd);
        CALLED(lseek(copy, 2, SEEK_SET));
        CALLED(read(fd, bytes, 3));
        here.note("bytes", bytes);
        close(fd);
        CALLED(write(copy, "!", 1));
        close(copy);
        here.contents("file");
        const int read_only = OPENED(open("file", O_RDONLY));
        CALLED(write(read_only, "x", 1));
        close(read_only);
        const int write_only = OPENED(open("file", O_WRONLY));
        CALLED(read(write_only, bytes, 1));
        close(write_only);
    });
}

TEST_CASE("data: vectors") {
    same_on_both([](Transcript& here) {
        const int fd = OPENED(open("file", O_RDWR | O_CREAT, 0644));
        std::string a = random_bytes(5'000, 1), b = random_bytes(1, 2), c = random_bytes(300'000, 3), none;
        const std::array<iovec, 4> out = {iovec{a.data(), a.size()}, iovec{none.data(), 0}, iovec{b.data(), b.size()},
                                          iovec{c.data(), c.size()}};
        CALLED(writev(fd, out.data(), 4));
        CALLED(pwritev(fd, out.data(), 3, 1'000'000));
        CALLED(pwritev2(fd, out.data(), 1, 10, RWF_APPEND));
        CALLED(pwritev2(fd, out.data(), 1, 20, RWF_DSYNC));
        std::string x(100, '\0'), y(310'000, '\0');
        const std::array<iovec, 2> in = {iovec{x.data(), x.size()}, iovec{y.data(), y.size()}};
        CALLED(preadv(fd, in.data(), 2, 0));
        here.note("x", abbreviated(x));
        here.note("y", abbreviated(y));
        CALLED(lseek(fd, 0, SEEK_SET));
        CALLED(readv(fd, in.data(), 2));
        here.note("y", abbreviated(y));
        close(fd);
        here.contents("file");
    });
}

TEST_CASE("data: offsets beyond four gigabytes") {
    same_on_both([](Transcript& here) {
        const int fd = OPENED(open("file", O_RDWR | O_CREAT, 0644));
        constexpr off_t gib = 1L << 30;
        for (const off_t offset : {2 * gib - 1, 4 * gib - 2, 5 * gib, 1024 * gib})
            here.called("write", pwrite(fd, "mark", 4, offset));
        here.attributes("file", fd);
        for (const off_t offset : {2 * gib - 1, 4 * gib - 2, 4 * gib, 5 * gib, 6 * gib, 1024 * gib})
            here.note("read", read_at(fd, 10, offset));
        CALLED(lseek(fd, 6 * gib, SEEK_DATA) == 1024 * gib);
        CALLED(ftruncate(fd, 4 * gib + 1));
        here.attributes("file", fd);
        CALLED(lseek(fd, 0, SEEK_END));
        close(fd);
    });
}

TEST_CASE("data: fallocate in the modes that FUSE passes on") {
    same_on_both([](Transcript& here) {
        write_file("file", random_bytes(400'000, 5));
        const int fd = OPENED(open("file", O_RDWR));
        CALLED(fallocate(fd, 0, 390'000, 20'000));
        here.attributes("grown", fd);
        CALLED(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1'000'000));
        here.attributes("kept", fd);
        here.note("before", read_at(fd, 400'000, 0));
        CALLED(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 10'000, 100'000));
        here.note("punched", read_at(fd, 400'000, 0));
        CALLED(fallocate(fd, FALLOC_FL_ZERO_RANGE, 200'000, 12'345));
        CALLED(fallocate(fd, FALLOC_FL_ZERO_RANGE, 405'000, 100'000));
        here.attributes("zeroed", fd);
        CALLED(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 500'000, 100'000));
        here.attributes("kept", fd);
        CALLED(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10));
        CALLED(fallocate(fd, 0, 0, 0));
        CALLED(fallocate(fd, 0, -1, 10));
        CALLED(posix_fallocate(fd, 600'000, 10));
        here.attributes("posix", fd);
        close(fd);
        here.contents("file");
        const int read_only = OPENED(open("file", O_RDONLY));
        CALLED(fallocate(read_only, 0, 0, 10));
        close(read_only);
    });
}

TEST_CASE("data: the modes of fallocate that the kernel's FUSE does not know are refused") {
    const auto pair = shared_mount().make_pair();
    if (testing_locally())
        return;
    const std::string path = pair.mounted + "/file";
    write_file(path, std::string(100'000, 'x'));
    const int fd = open(path.c_str(), O_RDWR);
    for (const int mode : {FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, FALLOC_FL_UNSHARE_RANGE}) {
        CHECK(fallocate(fd, mode, 0, 4096) == -1);
        CHECK(errno_name(errno) == "EOPNOTSUPP");
    }
    close(fd);
}

TEST_CASE("data: SEEK_DATA and SEEK_HOLE find the server's holes") {
    same_on_both([](Transcript& here) {
        const int fd = OPENED(open("file", O_RDWR | O_CREAT, 0644));
        const std::string block = random_bytes(65'536, 6);
        for (const off_t offset : {0L, 1L << 20, 10L << 20})
            CALLED(pwrite(fd, block.data(), block.size(), offset));
        CALLED(ftruncate(fd, 20 << 20));
        CALLED(fsync(fd));
        for (const off_t offset : {0L, 1000L, 65'536L, 70'000L, 1L << 20, (1L << 20) + 65'536, 5L << 20, 11L << 20,
                                   20L << 20, 21L << 20, -1L}) {
            here.called("data after " + std::to_string(offset), lseek(fd, offset, SEEK_DATA));
            here.called("hole after " + std::to_string(offset), lseek(fd, offset, SEEK_HOLE));
        }
        close(fd);
        const int empty = OPENED(open("empty", O_RDWR | O_CREAT, 0644));
        CALLED(lseek(empty, 0, SEEK_DATA));
        CALLED(lseek(empty, 0, SEEK_HOLE));
        close(empty);
    });
}

TEST_CASE("data: SEEK_DATA sees what was just written and not yet synced") {
    same_on_both([](Transcript& here) {
        const int fd = OPENED(open("file", O_RDWR | O_CREAT, 0644));
        CALLED(ftruncate(fd, 10 << 20));
        CALLED(pwrite(fd, "data", 4, 4 << 20));
        CALLED(lseek(fd, 0, SEEK_DATA));
        close(fd);
    });
}

TEST_CASE("data: copy_file_range within a file, between files, and past the end") {
    same_on_both([](Transcript& here) {
        write_file("from", random_bytes(2'500'000, 8));
        const int from = OPENED(open("from", O_RDONLY));
        const int to = OPENED(open("to", O_RDWR | O_CREAT, 0644));
        const auto copy = [&here](int source, off_t source_offset, int target, off_t target_offset, std::size_t size) {
            long copied = 0;
            while (size > 0) {
                const ssize_t step = copy_file_range(source, &source_offset, target, &target_offset, size, 0);
                if (step <= 0) {
                    if (step < 0)
                        here.called("copy", -1);
                    break;
                }
                copied += step;
                size -= static_cast<std::size_t>(step);
            }
            here.called("copied", copied);
        };
        copy(from, 0, to, 0, 2'500'000);
        here.contents("to");
        copy(from, 100, to, 3'000'000, 1'000'000);
        copy(from, 2'000'000, to, 0, 1'000'000);
        copy(from, 9'000'000, to, 0, 10);
        here.contents("to");
        copy(to, 0, to, 5'000'000, 100'000);
        copy(to, 0, to, 10, 100);  // overlapping: refused
        here.contents("to");
        copy(to, 0, from, 0, 10);  // not open for writing
        // What was written just before must be copied.
        CALLED(pwrite(to, "fresh", 5, 0));
        const int third = OPENED(open("third", O_RDWR | O_CREAT, 0644));
        copy(to, 0, third, 0, 5);
        CALLED(pwrite(third, "S", 1, 1));
        here.contents("third");
        const int appending = OPENED(open("third", O_WRONLY | O_APPEND));
        copy(from, 0, appending, 0, 10);
        for (const int fd : {from, to, third, appending})
            close(fd);
    });
}

TEST_CASE("data: sendfile and splice") {
    same_on_both([](Transcript& here) {
        const std::string data = random_bytes(700'000, 9);
        write_file("from", data);
        const int from = OPENED(open("from", O_RDONLY));
        const int to = OPENED(open("to", O_WRONLY | O_CREAT, 0644));
        long sent = 0;
        for (ssize_t step = 0; (step = sendfile(to, from, nullptr, data.size())) > 0;)
            sent += step;
        here.called("sent", sent);
        CALLED(close(to));
        here.contents("to");

        int ends[2];
        CALLED(pipe(ends));
        const int spliced = OPENED(open("spliced", O_WRONLY | O_CREAT, 0644));
        CALLED(lseek(from, 0, SEEK_SET));
        long moved = 0;
        for (ssize_t step = 0; (step = splice(from, nullptr, ends[1], nullptr, 30'000, 0)) > 0;) {
            for (ssize_t rest = step; rest > 0;) {
                const ssize_t out =
                    splice(ends[0], nullptr, spliced, nullptr, static_cast<std::size_t>(rest), SPLICE_F_MOVE);
                if (out <= 0) {
                    here.called("splice", -1);
                    return;
                }
                rest -= out;
            }
            moved += step;
        }
        here.called("moved", moved);
        CALLED(close(spliced));
        here.contents("spliced");
    });
}

TEST_CASE("data: private and shared mappings") {
    same_on_both([](Transcript& here) {
        write_file("file", random_bytes(100'000, 10));
        const int fd = OPENED(open("file", O_RDWR));
        const auto map = [fd](int protection, int flags) {
            return static_cast<char*>(mmap(nullptr, 100'000, protection, flags, fd, 0));
        };
        char* shared = map(PROT_READ | PROT_WRITE, MAP_SHARED);
        char* copy = map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
        here.expect("mapped", shared != MAP_FAILED && copy != MAP_FAILED);
        if (shared == MAP_FAILED || copy == MAP_FAILED)
            return;
        here.note("shared", abbreviated({shared, 100'000}));
        std::memset(shared + 50'000, 's', 10'000);
        std::memset(copy + 10, 'p', 100);
        CALLED(msync(shared, 100'000, MS_SYNC));
        here.note("through read", read_at(fd, 100'000, 0));
        CALLED(pwrite(fd, "written", 7, 70'000));
        here.note("through the mapping", abbreviated({shared + 70'000, 7}));
        std::memset(shared + 99'000, 'e', 1'000);
        CALLED(munmap(shared, 100'000));
        CALLED(munmap(copy, 100'000));
        CALLED(fsync(fd));
        close(fd);
        here.contents("file");
        here.attributes("file");
    });
}

TEST_CASE("data: a time that is set stays, although pages of a mapping had been written to before") {
    same_on_both([](Transcript& here) {
        const int fd = OPENED(open("file", O_RDWR | O_CREAT, 0644));
        CALLED(ftruncate(fd, 10'000));
        char* mapped = static_cast<char*>(mmap(nullptr, 10'000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
        here.expect("mapped", mapped != MAP_FAILED);
        if (mapped == MAP_FAILED)
            return;
        const auto modified = [&] {
            struct stat attributes {};
            fstat(fd, &attributes);
            here.note("modified at", std::to_string(attributes.st_mtim.tv_sec));
        };
        const timespec times[2] = {{1'000'000'000, 0}, {1'000'000'000, 0}};
        std::memset(mapped, 'x', 10'000);
        CALLED(futimens(fd, times));
        modified();
        CALLED(munmap(mapped, 10'000));
        modified();
        close(fd);
        struct stat attributes {};
        stat("file", &attributes);
        here.note("modified at", std::to_string(attributes.st_mtim.tv_sec));
        here.contents("file");
    });
}

TEST_CASE("data: what is written to a mapping after a time was set counts") {
    same_on_both([](Transcript& here) {
        const int fd = OPENED(open("file", O_RDWR | O_CREAT, 0644));
        CALLED(ftruncate(fd, 10'000));
        char* mapped = static_cast<char*>(mmap(nullptr, 10'000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
        here.expect("mapped", mapped != MAP_FAILED);
        if (mapped == MAP_FAILED)
            return;
        const timespec times[2] = {{1'000'000'000, 0}, {1'000'000'000, 0}};
        CALLED(futimens(fd, times));
        std::memset(mapped, 'x', 10'000);
        CALLED(munmap(mapped, 10'000));
        CALLED(fsync(fd));
        close(fd);
        struct stat attributes {};
        stat("file", &attributes);
        here.note("a new time", attributes.st_mtim.tv_sec > 1'000'000'000 ? "yes" : "no");
        here.contents("file");
    });
}

TEST_CASE("data: a mapping outlives its descriptor and its name") {
    same_on_both([](Transcript& here) {
        write_file("file", std::string(20'000, 'o'));
        CALLED(link("file", "second"));
        const int fd = OPENED(open("file", O_RDWR));
        char* memory = static_cast<char*>(mmap(nullptr, 20'000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
        CALLED(close(fd));
        CALLED(unlink("file"));
        if (memory == MAP_FAILED)
            return;
        std::memset(memory, 'n', 5'000);
        CALLED(munmap(memory, 20'000));
        here.contents("second");
    });
}

TEST_CASE("data: a file opened to append is mapped privately, and shared where the kernel lets FUSE do so") {
    // Appending goes past the page cache, since the server alone knows where the end is; mappings of such an open file
    // that are shared need FUSE_DIRECT_IO_ALLOW_MMAP, which libfuse passes on from 3.17.
    const auto pair = shared_mount().make_pair();
    const std::string path = pair.mounted + "/file";
    write_file(path, std::string(5'000, 'x'));
    const int fd = open(path.c_str(), O_RDWR | O_APPEND);
    const auto* copy = static_cast<const char*>(mmap(nullptr, 5'000, PROT_READ, MAP_PRIVATE, fd, 0));
    REQUIRE(copy != MAP_FAILED);
    CHECK(copy[4'999] == 'x');
    const void* shared = mmap(nullptr, 5'000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK((shared != MAP_FAILED || errno_name(errno) == "ENODEV"));
    close(fd);
}

TEST_CASE("data: two processes share a mapping") {
    same_on_both([](Transcript& here) {
        write_file("file", std::string(4096, '.'));
        const auto map = [] {
            const int fd = open("file", O_RDWR);
            return static_cast<volatile char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
        };
        volatile char* mine = map();
        Child other = Child::fork([&map] {
            volatile char* theirs = map();
            theirs[100] = 'x';
            return eventually(Milliseconds{5000}, [theirs] { return theirs[200] == 'y'; }) ? 0 : 1;
        });
        here.expect("I see theirs", eventually(Milliseconds{5000}, [mine] { return mine[100] == 'x'; }));
        mine[200] = 'y';
        here.called("they see mine", other.wait(Milliseconds{10'000}).exit_status);
    });
}

TEST_CASE("data: touching a mapping beyond the end of the file is a bus error") {
    same_on_both([](Transcript& here) {
        write_file("file", std::string(8192, 'x'));
        const int fd = OPENED(open("file", O_RDWR));
        Child reader = Child::fork([fd] {
            const auto* memory = static_cast<volatile char*>(mmap(nullptr, 8192, PROT_READ, MAP_SHARED, fd, 0));
            signal(SIGBUS, [](int) { _exit(42); });
            if (ftruncate(fd, 100) != 0)
                return 1;
            return int{memory[5000]};
        });
        here.called("exit", reader.wait(Milliseconds{10'000}).exit_status);
        close(fd);
    });
}

TEST_CASE("data: fsync, fdatasync, sync_file_range, syncfs, readahead and fadvise") {
    same_on_both([](Transcript& here) {
        const int fd = OPENED(open("file", O_RDWR | O_CREAT, 0644));
        CALLED(write(fd, "data", 4));
        CALLED(fsync(fd));
        CALLED(fdatasync(fd));
        CALLED(sync_file_range(fd, 0, 4, SYNC_FILE_RANGE_WRITE));
        CALLED(syncfs(fd));
        CALLED(posix_fadvise(fd, 0, 4, POSIX_FADV_DONTNEED));
        CALLED(posix_fadvise(fd, 0, 4, POSIX_FADV_WILLNEED));
        CALLED(readahead(fd, 0, 4));
        CALLED(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND));
        close(fd);
        here.contents("file");
    });
}

// The kernel answers it by itself. Should that change, SEMANTICS.md has to.
TEST_CASE("data: FIBMAP says block 0 of every file") {
    if (testing_locally() || geteuid() != 0)
        return;
    const auto pair = shared_mount().make_pair();
    write_file(pair.mounted + "/file", std::string(10'000, 'x'));
    const int fd = open((pair.mounted + "/file").c_str(), O_RDONLY);
    int block = 1;
    CHECK(ioctl(fd, FIBMAP, &block) == 0);
    CHECK(block == 0);
    close(fd);
}

TEST_CASE("data: poll and select find a file always ready") {
    same_on_both([](Transcript& here) {
        const int fd = OPENED(open("file", O_RDWR | O_CREAT, 0644));
        pollfd waiting = {.fd = fd, .events = POLLIN | POLLOUT, .revents = 0};
        CALLED(poll(&waiting, 1, 5000));
        here.called("ready", waiting.revents);
        close(fd);
    });
}

TEST_CASE("data: a program is run from the mount, and is not written to while it runs") {
    same_on_both([](Transcript& here) {
        write_file("script", "#!/bin/sh\necho from the script: $1\n");
        CALLED(chmod("script", 0755));
        const Ended script = run({.arguments = {"./script", "argument"}});
        here.called("script", script.exit_status);
        here.note("says", script.output);
        here.called("copy", run_script(".", "cp /bin/sleep ./sleep").exit_status);
        Child sleeper = Child::start({.arguments = {"./sleep", "60"}});
        // It runs the file itself only after exec.
        here.expect("started", eventually(Milliseconds{10'000}, [&sleeper] {
                        char path[4096] = {};
                        const std::string link = "/proc/" + std::to_string(sleeper.pid()) + "/exe";
                        return readlink(link.c_str(), path, sizeof(path) - 1) > 0 &&
                               std::string(path).ends_with("/sleep") && !std::string(path).starts_with("/bin") &&
                               !std::string(path).starts_with("/usr");
                    }));
        CALLED(open("sleep", O_WRONLY));
        CALLED(truncate("sleep", 0));
        CALLED(unlink("sleep"));
        sleeper.signal(SIGTERM);
        here.called("sleeper", sleeper.wait(Milliseconds{10'000}).exit_status);
        const int fd = OPENED(open("script", O_WRONLY | O_APPEND));
        here.called("busy", run({.arguments = {"./script"}}).exit_status);
        close(fd);
        CALLED(chmod("script", 0644));
        here.called("no execute", run({.arguments = {"./script"}}).exit_status);
    });
}
