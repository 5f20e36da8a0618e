// SPDX-License-Identifier: MIT
// chmod, chown, utimensat, truncate, access, statvfs, and the times that operations set.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>

#include "harness/kernel_version.hpp"
#include "mount/shared_mount.hpp"

using namespace remofile::test;

namespace {

bool operator<(const timespec& left, const timespec& right) {
    return left.tv_sec != right.tv_sec ? left.tv_sec < right.tv_sec : left.tv_nsec < right.tv_nsec;
}

std::string text(const timespec& time) {
    return std::to_string(time.tv_sec) + "." + std::to_string(time.tv_nsec);
}

struct stat stat_of(const char* path) {
    struct stat attributes = {};
    lstat(path, &attributes);
    return attributes;
}

constexpr timespec long_ago = {.tv_sec = 1'000'000'000, .tv_nsec = 123'456'789};

// Which of modification and change time `operation` advances for `path`.
void note_touched(Transcript& here, const std::string& what, const char* path, const std::function<void()>& operation) {
    const timespec times[2] = {long_ago, long_ago};
    utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
    const struct stat before = stat_of(path);
    // The kernel's clock for time stamps ticks every few milliseconds.
    eventually(Milliseconds{1000}, [&before] {
        timespec now;
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
        return before.st_ctim < now;
    });
    operation();
    const struct stat after = stat_of(path);
    here.note(what, std::string(before.st_mtim < after.st_mtim ? "mtime " : "") +
                        (before.st_ctim < after.st_ctim ? "ctime" : ""));
}

}  // namespace

TEST_CASE("attributes: chmod and fchmod of everything") {
    same_on_both([](Transcript& here) {
        write_file("file", "x");
        CALLED(mkdir("directory", 0755));
        CALLED(symlink("file", "link"));
        CALLED(mkfifo("fifo", 0600));
        const int fd = OPENED(open("file", O_RDONLY));
        for (const mode_t mode : {0, 0400, 0644, 0777, 01777, 02755, 04755, 06711, 07777}) {
            for (const char* name : {"file", "directory", "link", "fifo", "missing", "file/below"}) {
                here.called(name, chmod(name, mode));
                here.attributes(name);
            }
            CALLED(fchmod(fd, mode ^ 0111));
            here.attributes("file", fd);
        }
        CALLED(unlink("file"));
        CALLED(fchmod(fd, 0600));
        here.attributes("unlinked", fd);
        close(fd);
    });
}

TEST_CASE("attributes: chown of everything") {
    same_on_both([](Transcript& here) {
        write_file("file", "x");
        CALLED(mkdir("directory", 0755));
        CALLED(symlink("file", "link"));
        const int fd = OPENED(open("file", O_RDWR));
        CALLED(chmod("file", 06755));
        CALLED(chown("file", 1234, 5678));  // and the kernel drops the set-id bits
        here.attributes("file");
        CALLED(chown("file", -1, 42));
        here.attributes("file");
        CALLED(chown("file", 43, -1));
        here.attributes("file");
        CALLED(chown("file", -1, -1));
        CALLED(lchown("link", 77, 88));
        here.attributes("link");
        CALLED(chown("link", 11, 12));
        here.attributes("link");
        here.attributes("file");
        CALLED(fchown(fd, 0xfffffff0, 0xfffffff1));
        here.attributes("file", fd);
        CALLED(chown("directory", 1, 2));
        here.attributes("directory");
        CALLED(chown("missing", 1, 2));
        close(fd);
    });
}

TEST_CASE("attributes: writing drops the set-id bits for those without the right to keep them") {
    if (geteuid() != 0)
        return;
    same_on_both([](Transcript& here) {
        write_file("file", "x");
        CALLED(chmod("file", 06777));
        CALLED(chmod(".", 0777));
        const int fd = OPENED(open("file", O_WRONLY));
        CALLED(write(fd, "y", 1));  // by root: kept
        here.attributes("file");
        close(fd);
    });
}

TEST_CASE("attributes: utimensat with nanoseconds, NOW and OMIT") {
    same_on_both([](Transcript& here) {
        write_file("file", "x");
        CALLED(symlink("file", "link"));
        const auto note = [&here](const char* name) {
            const struct stat attributes = stat_of(name);
            here.note(name, text(attributes.st_atim) + " " + text(attributes.st_mtim));
        };
        const auto set = [&](const char* name, timespec access, timespec modification, int flags) {
            const timespec times[2] = {access, modification};
            here.called("utimensat", utimensat(AT_FDCWD, name, times, flags));
        };
        constexpr timespec omit = {.tv_sec = 0, .tv_nsec = UTIME_OMIT}, now = {.tv_sec = 0, .tv_nsec = UTIME_NOW};
        set("file", {1, 2}, {3, 999'999'999}, 0);
        note("file");
        set("file", omit, {5, 6}, 0);
        note("file");
        set("file", {7, 8}, omit, 0);
        note("file");
        set("file", omit, omit, 0);
        note("file");
        set("file", {-1, 0}, {-100'000'000, 5}, 0);  // before 1970
        note("file");
        set("file", {5'000'000'000, 1}, {4'294'967'296, 0}, 0);  // beyond 32 bits
        note("file");
        set("link", {11, 12}, {13, 14}, AT_SYMLINK_NOFOLLOW);
        note("link");
        set("link", {21, 22}, {23, 24}, 0);
        note("file");
        set("file", {0, 1'000'000'000}, {0, 0}, 0);
        set("missing", {0, 0}, {0, 0}, 0);
        set("missing", omit, omit, 0);
        timespec before, after;
        clock_gettime(CLOCK_REALTIME_COARSE, &before);
        set("file", now, now, 0);
        clock_gettime(CLOCK_REALTIME, &after);
        const struct stat attributes = stat_of("file");
        here.expect("now is now", !(attributes.st_mtim < before) && !(after < attributes.st_mtim) &&
                                      !(attributes.st_atim < before) && !(after < attributes.st_atim));
        const int fd = OPENED(open("file", O_WRONLY));
        const timespec times[2] = {{31, 32}, {33, 34}};
        CALLED(futimens(fd, times));
        note("file");
        close(fd);
        note("file");  // closing changes nothing
    });
}

TEST_CASE("attributes: a time set after writing survives the close, as cp -p and tar need") {
    same_on_both([](Transcript& here) {
        const int fd = OPENED(open("file", O_WRONLY | O_CREAT, 0644));
        const std::string data(300'000, 'd');
        CALLED(write(fd, data.data(), data.size()));
        const timespec times[2] = {long_ago, long_ago};
        CALLED(futimens(fd, times));
        CALLED(fchmod(fd, 0440));
        CALLED(close(fd));
        here.note("mtime", text(stat_of("file").st_mtim));
        here.attributes("file");
    });
}

TEST_CASE("attributes: which operation advances which time") {
    same_on_both([](Transcript& here) {
        write_file("file", "content");
        CALLED(mkdir("directory", 0755));
        write_file("directory/entry", "x");
        const auto touched = [&here](const std::string& what, const char* path,
                                     const std::function<void()>& operation) {
            note_touched(here, what, path, operation);
        };
        touched("write", "file", [] {
            const int fd = open("file", O_WRONLY);
            (void)!write(fd, "y", 1);
            close(fd);
        });
        touched("write of nothing", "file", [] {
            const int fd = open("file", O_WRONLY);
            (void)!write(fd, "y", 0);
            close(fd);
        });
        touched("truncate", "file", [] { (void)!truncate("file", 3); });
        touched("truncate to the same size", "file", [] { (void)!truncate("file", 3); });
        touched("O_TRUNC", "file", [] { close(open("file", O_WRONLY | O_TRUNC)); });
        touched("chmod", "file", [] { chmod("file", 0600); });
        touched("link", "file", [] { (void)!link("file", "second"); });
        touched("unlink of a link", "file", [] { unlink("second"); });
        touched("rename", "file", [] {
            rename("file", "other");
            rename("other", "file");
        });
        touched("read", "file", [] { read_file("file"); });
        touched("create in directory", "directory", [] { write_file("directory/new", ""); });
        touched("unlink in directory", "directory", [] { unlink("directory/new"); });
        touched("mkdir in directory", "directory", [] { mkdir("directory/sub", 0755); });
        touched("rename in directory", "directory", [] { rename("directory/sub", "directory/sub2"); });
        touched("rmdir in directory", "directory", [] { rmdir("directory/sub2"); });
        touched("write below directory", "directory", [] { write_file("directory/entry", "longer"); });
    });
}

TEST_CASE("attributes: truncate and ftruncate grow and shrink") {
    same_on_both([](Transcript& here) {
        write_file("file", random_bytes(100'000, 1));
        const int fd = OPENED(open("file", O_RDWR));
        const int reader = OPENED(open("file", O_RDONLY));
        for (const off_t size : {50'000L, 4096L, 4095L, 200'000L, 1L, 0L, 8192L, 5'000'000'000L, 10L}) {
            CALLED(ftruncate(fd, size));
            here.attributes("after", fd);
            CALLED(pwrite(fd, "!", 1, size / 2));
            if (size < 1'000'000)
                here.contents("file");
        }
        CALLED(truncate("file", 12345));
        here.contents("file");
        CALLED(truncate("file", -1));
        CALLED(truncate("missing", 0));
        CALLED(truncate(".", 0));
        CALLED(ftruncate(reader, 0));
        CALLED(ftruncate(fd, 0x7fffffffffffffffL));
        here.attributes("file");
        close(fd);
        close(reader);
    });
}

TEST_CASE("attributes: what is cut off and grown again reads as zeros") {
    same_on_both([](Transcript& here) {
        write_file("file", std::string(20'000, 'x'));
        const int fd = OPENED(open("file", O_RDWR));
        std::array<char, 20'000> buffer;
        CALLED(pread(fd, buffer.data(), buffer.size(), 0));  // into whatever caches there are
        CALLED(ftruncate(fd, 5'000));
        CALLED(ftruncate(fd, 15'000));
        CALLED(pread(fd, buffer.data(), buffer.size(), 0));
        here.note("after", abbreviated({buffer.data(), 15'000}));
        CALLED(pwrite(fd, "end", 3, 30'000));
        close(fd);
        here.contents("file");
    });
}

TEST_CASE("attributes: access and faccessat") {
    same_on_both([](Transcript& here) {
        write_file("file", "x");
        CALLED(mkdir("directory", 0755));
        CALLED(symlink("missing", "dangling"));
        for (const mode_t mode : {0, 0100, 0444, 0777}) {
            chmod("file", mode);
            for (const char* name : {"file", "directory", "dangling", "missing", "file/below"}) {
                for (const int mask : {F_OK, R_OK, W_OK, X_OK, R_OK | W_OK | X_OK, 8})
                    here.called(std::string(name) + " " + std::to_string(mask), access(name, mask));
                here.called(name, faccessat(AT_FDCWD, name, R_OK, AT_EACCESS));
                here.called(name, faccessat(AT_FDCWD, name, F_OK, AT_SYMLINK_NOFOLLOW));
            }
        }
    });
}

TEST_CASE("attributes: statvfs tells of the server's file system") {
    same_on_both([](Transcript& here) {
        struct statvfs status = {};
        CALLED(statvfs(".", &status));
        here.called("block size", static_cast<long>(status.f_bsize));
        here.called("fragment size", static_cast<long>(status.f_frsize));
        here.called("blocks", static_cast<long>(status.f_blocks));
        here.called("files", static_cast<long>(status.f_files));
        here.called("longest name", static_cast<long>(status.f_namemax));
        here.expect("free",
                    status.f_bfree > 0 && status.f_bavail <= status.f_bfree && status.f_bfree <= status.f_blocks);
        CALLED(statvfs("missing", &status));
    });
}

TEST_CASE("attributes: blocks of sparse and of full files") {
    same_on_both([](Transcript& here) {
        const int fd = OPENED(open("sparse", O_RDWR | O_CREAT, 0644));
        CALLED(pwrite(fd, "end", 3, 100'000'000));
        CALLED(fsync(fd));
        here.called("sparse", stat_of("sparse").st_blocks);
        const std::string data = random_bytes(1 << 20, 3);
        CALLED(pwrite(fd, data.data(), data.size(), 0));
        CALLED(fsync(fd));
        here.called("filled", stat_of("sparse").st_blocks);
        close(fd);
        here.called("closed", stat_of("sparse").st_blocks);
    });
}

TEST_CASE("attributes: statx gives the same as stat") {
    const auto pair = shared_mount().make_pair();
    const std::string path = pair.mounted + "/file";
    write_file(path, "content");
    struct statx extended = {};
    struct stat plain = {};
    REQUIRE(statx(AT_FDCWD, path.c_str(), 0, STATX_BASIC_STATS, &extended) == 0);
    REQUIRE(stat(path.c_str(), &plain) == 0);
    CHECK(extended.stx_size == static_cast<std::uint64_t>(plain.st_size));
    CHECK(extended.stx_ino == plain.st_ino);
    CHECK(extended.stx_mode == plain.st_mode);
    CHECK(extended.stx_mtime.tv_nsec == plain.st_mtim.tv_nsec);
    REQUIRE(statx(AT_FDCWD, path.c_str(), AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &extended) == 0);
    CHECK(extended.stx_size == 7);
}

TEST_CASE("attributes: statx tells when a file was made, as the server does") {
    if (!testing_locally() && !kernel_is_at_least(6, 6)) {
        WARN("before Linux 6.6, FUSE file systems are not asked for birth times");
        return;
    }
    const auto pair = shared_mount().make_pair();
    write_file(pair.mounted + "/file", "content");
    for (const char* name : {"/file", "/."}) {
        struct statx expected = {};
        struct statx actual = {};
        REQUIRE(statx(AT_FDCWD, (pair.export_ + name).c_str(), 0, STATX_BASIC_STATS | STATX_BTIME, &expected) == 0);
        REQUIRE(statx(AT_FDCWD, (pair.mounted + name).c_str(), 0, STATX_BASIC_STATS | STATX_BTIME, &actual) == 0);
        CHECK((actual.stx_mask & STATX_BTIME) == (expected.stx_mask & STATX_BTIME));
        CHECK(actual.stx_btime.tv_sec == expected.stx_btime.tv_sec);
        CHECK(actual.stx_btime.tv_nsec == expected.stx_btime.tv_nsec);
        CHECK(actual.stx_size == expected.stx_size);
        CHECK(actual.stx_ino == expected.stx_ino);
        CHECK(actual.stx_mode == expected.stx_mode);
        CHECK(actual.stx_nlink == expected.stx_nlink);
        CHECK(actual.stx_mtime.tv_nsec == expected.stx_mtime.tv_nsec);
        CHECK(actual.stx_ctime.tv_nsec == expected.stx_ctime.tv_nsec);
    }
}
