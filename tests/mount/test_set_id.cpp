// SPDX-License-Identifier: MIT
// Who loses the set-id bits of a file, and its capabilities, by changing what is in it: as on a local disk.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.hpp"
#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/side_by_side.hpp"

using namespace remofile;
using namespace remofile::test;

namespace {

constexpr gid_t team = 20'100;
const Credentials root = {.uid = 0, .gid = 0};
const Credentials owner = {.uid = 20'001, .gid = 20'001};
const Credentials member = {.uid = 20'002, .gid = 20'002, .groups = {team}};
const Credentials stranger = {.uid = 20'003, .gid = 20'003};

constexpr std::size_t block = 4096;
constexpr std::size_t file_bytes = 3 * block;

// A page-aligned block for direct I/O; never freed, the process ends soon.
void* aligned_block() {
    void* memory = mmap(nullptr, block, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    std::memset(memory, 'd', block);
    return memory;
}

int write_mapped(int fd) {
    void* page = mmap(nullptr, block, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        return -1;
    std::memset(page, 'm', 4);
    const int result = msync(page, block, MS_SYNC);
    munmap(page, block);
    return result;
}

long splice_into(int fd) {
    std::array<int, 2> ends{};
    if (pipe(ends.data()) != 0 || write(ends[1], "piped", 5) != 5)
        return -2;
    const long result = splice(ends[0], nullptr, fd, nullptr, 5, 0);
    close(ends[0]);
    close(ends[1]);
    return result;
}

// From another file of the same directory.
long copy_into(int fd, bool by_sendfile) {
    const UniqueFd source(open("source", O_RDONLY));
    return by_sendfile ? sendfile(fd, source.get(), nullptr, 100)
                       : copy_file_range(source.get(), nullptr, fd, nullptr, block, 0);
}

long write_zeros(int fd) {
    const std::string zeros(64U << 10, '\0');
    return write(fd, zeros.data(), zeros.size());
}

long write_vector(int fd, int flags) {
    std::array<iovec, 2> parts{{{const_cast<char*>("ab"), 2}, {const_cast<char*>("cd"), 2}}};
    return flags == 0 ? writev(fd, parts.data(), 2) : pwritev2(fd, parts.data(), 2, 0, flags);
}

// A way of changing a file: through a handle opened with `flags`, or (no flags) by its name.
constexpr int by_name = -1;
struct Way {
    const char* name;
    int flags;
    std::function<long(int fd, const char* path)> change;
    bool mapped = false;
};

const std::vector<Way>& every_way() {
    static const std::vector<Way> ways{
        {"write", O_WRONLY, [](int fd, const char*) { return write(fd, "new", 3); }},
        {"write_nothing", O_WRONLY, [](int fd, const char*) { return write(fd, "", 0); }},
        {"write_zeros", O_WRONLY, [](int fd, const char*) { return write_zeros(fd); }},
        {"pwrite", O_RDWR, [](int fd, const char*) { return pwrite(fd, "new", 3, block); }},
        {"pwrite_beyond", O_RDWR, [](int fd, const char*) { return pwrite(fd, "new", 3, 2 * file_bytes); }},
        {"writev", O_WRONLY, [](int fd, const char*) { return write_vector(fd, 0); }},
        {"pwritev2_append", O_WRONLY, [](int fd, const char*) { return write_vector(fd, RWF_APPEND); }},
        {"pwritev2_dsync", O_WRONLY, [](int fd, const char*) { return write_vector(fd, RWF_DSYNC); }},
        {"append", O_WRONLY | O_APPEND, [](int fd, const char*) { return write(fd, "new", 3); }},
        {"direct", O_WRONLY | O_DIRECT, [](int fd, const char*) { return write(fd, aligned_block(), block); }},
        {"sync", O_WRONLY | O_SYNC, [](int fd, const char*) { return write(fd, "new", 3); }},
        {"dsync", O_WRONLY | O_DSYNC, [](int fd, const char*) { return write(fd, "new", 3); }},
        {"mapped", O_RDWR, [](int fd, const char*) { return write_mapped(fd); }, true},
        {"ftruncate", O_WRONLY, [](int fd, const char*) { return ftruncate(fd, 5); }},
        {"truncate_shorter", by_name, [](int, const char* path) { return truncate(path, 5); }},
        {"truncate_longer", by_name, [](int, const char* path) { return truncate(path, 2 * file_bytes); }},
        {"truncate_to_itself", by_name, [](int, const char* path) { return truncate(path, file_bytes); }},
        {"open_truncate", O_WRONLY | O_TRUNC, [](int, const char*) { return 0; }},
        {"open_append_truncate", O_WRONLY | O_APPEND | O_TRUNC, [](int, const char*) { return 0; }},
        {"creat", O_WRONLY | O_CREAT | O_TRUNC, [](int, const char*) { return 0; }},
        {"fallocate", O_WRONLY, [](int fd, const char*) { return fallocate(fd, 0, 0, 2 * file_bytes); }},
        {"fallocate_keep", O_WRONLY,
         [](int fd, const char*) { return fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 2 * file_bytes); }},
        {"punch", O_WRONLY,
         [](int fd, const char*) { return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, block, block); }},
        {"zero_range", O_WRONLY, [](int fd, const char*) { return fallocate(fd, FALLOC_FL_ZERO_RANGE, block, block); }},
        {"copy_file_range", O_WRONLY, [](int fd, const char*) { return copy_into(fd, false); }},
        {"sendfile", O_WRONLY, [](int fd, const char*) { return copy_into(fd, true); }},
        {"splice", O_WRONLY, [](int fd, const char*) { return splice_into(fd); }},
        {"chgrp_to_itself", by_name, [](int, const char* path) { return chown(path, -1, team); }},
    };
    return ways;
}

// All may write, so that each caller comes as far as the bits.
constexpr mode_t all_may_write = 0022;

void prepare_files(mode_t mode) {
    chmod(".", 0777);
    write_file("source", std::string(file_bytes, 's'));
    for (const Way& way : every_way()) {
        write_file(way.name, std::string(file_bytes, 'o'));
        (void)!chown(way.name, owner.uid, team);
        chmod(way.name, mode | all_may_write);
    }
}

// Asked for alone, as stat(1) does and the kernel when it runs a program: size and times would make it ask anew.
long mode_alone(const char* path) {
    struct statx file {};
    return statx(AT_FDCWD, path, 0, STATX_MODE, &file) == 0 ? file.stx_mode : -1;
}

void change_by(const Way& way, Transcript& here) {
    const std::string name = way.name;
    if (way.flags == by_name) {
        here.called(name, way.change(-1, way.name));
        here.called("mode after " + name, mode_alone(way.name));
        return here.attributes(way.name);
    }
    const int fd = here.opened("open for " + name, open(way.name, way.flags, 0666));
    here.called(name, way.change(fd, way.name));
    here.called("mode after " + name, mode_alone(way.name));
    here.attributes(way.name);  // before it is closed
    close(fd);
    here.attributes(way.name);
}

bool can_change_user() {
    if (geteuid() == 0)
        return true;
    WARN("not root: cannot act as several users");
    return false;
}

// Of a server of root's that acts as itself, and of one that acts as its callers.
std::vector<SideBySide*> mounts() {
    static SideBySide& squashing = Scratch::instance().keep(
        std::make_unique<SideBySide>(SideBySide::Options{.server = {}, .mount_options = {"allow_other"}}));
    static SideBySide& identifying = Scratch::instance().keep(std::make_unique<SideBySide>(SideBySide::Options{
        .server = {.arguments = {"--identity=client", "--allow-root"}}, .mount_options = {"allow_other"}}));
    return {&squashing, &identifying};
}

// Of CAP_NET_BIND_SERVICE, as setcap(8) writes it: struct vfs_cap_data of linux/capability.h, revision 2, effective.
constexpr std::string_view some_capability(
    "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20);

bool has_capability(const std::string& path) {
    return getxattr(path.c_str(), "security.capability", nullptr, 0) > 0;
}

}  // namespace

TEST_CASE("set-id bits: every way of changing a file, by everybody") {
    if (!can_change_user())
        return;
    for (SideBySide* mount : mounts())
        for (const mode_t mode : {04755, 02755, 02745, 06755})
            for (const Credentials& as : {root, owner, member, stranger}) {
                const auto prepare = [mode](Transcript&) { prepare_files(mode); };
                const auto body = [](Transcript& here) {
                    // What is known of them from looking at them before must not be what is shown afterwards.
                    for (const Way& way : every_way())
                        here.attributes(way.name);
                    for (const Way& way : every_way())
                        change_by(way, here);
                };
                const std::string report = mount->compare(body, as, prepare);
                INFO("mode " << std::oct << mode << std::dec << " by user " << as.uid << "\n" << report);
                CHECK(report.empty());
            }
}

TEST_CASE("set-id bits: looking for them costs no request for each write") {
    if (testing_locally())
        return;
    ServerProcess server;
    MountProcess mount(server);
    const UniqueFd file(open((mount.path() + "/file").c_str(), O_WRONLY | O_CREAT, 0644));
    REQUIRE(file);
    constexpr int writes = 1000;
    for (int i = 0; i < writes; ++i)
        REQUIRE(write(file.get(), "8 bytes.", 8) == 8);
    CHECK(mount.counted("fuse.write") == writes);
    // The first write looks for attributes that it would take away; others know from it.
    CHECK(mount.counted("fuse.getxattr") <= 1);
    CHECK(mount.counted("fuse.setattr") == 0);
}

TEST_CASE("set-id bits: capabilities of files go by the same ways") {
    if (!can_change_user() || testing_locally())
        return;
    for (SideBySide* mount : mounts()) {
        const auto pair = mount->make_pair();
        for (const std::string& directory : {pair.local, pair.export_.get()}) {
            REQUIRE(chdir(directory.c_str()) == 0);
            prepare_files(0755);
            for (const Way& way : every_way())
                REQUIRE(setxattr(way.name, "security.capability", some_capability.data(), some_capability.size(), 0) ==
                        0);
        }
        for (const std::string& directory : {pair.local, pair.mounted}) {
            Child child = Child::fork(
                [&] {
                    Transcript unread;
                    if (chdir(directory.c_str()) != 0)
                        return 1;
                    for (const Way& way : every_way())
                        change_by(way, unread);
                    return 0;
                },
                owner);
            CHECK(child.wait(Milliseconds{30'000}).exit_status == 0);
        }
        for (const Way& way : every_way()) {
            INFO(way.name);
            // The server writes a mapping's pages as any others, and its kernel takes capabilities away, whoever
            // writes.
            if (!way.mapped)
                CHECK(has_capability(pair.export_ + "/" + way.name) == has_capability(pair.local + "/" + way.name));
        }
    }
}
