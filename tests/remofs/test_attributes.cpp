// SPDX-License-Identifier: MIT
#include <sys/sysmacros.h>

#include <set>

#include "catch.hpp"
#include "remofs/ids/attributes.hpp"

using namespace remofile;
using namespace remofile::remofs;

TEST_CASE("inode numbers of the export's device are the server's own") {
    CHECK(visible_inode({.device = 5, .inode = 42}, 5) == 42);
}

TEST_CASE("inode numbers of other devices are kept apart, stable and never 0") {
    std::set<std::uint64_t> seen;
    for (std::uint64_t device = 6; device < 16; ++device)
        for (std::uint64_t inode = 0; inode < 1000; ++inode) {
            const std::uint64_t visible = visible_inode({.device = device, .inode = inode}, 5);
            CHECK(visible != 0);
            CHECK(visible > UINT32_MAX);
            CHECK(visible == visible_inode({.device = device, .inode = inode}, 5));
            seen.insert(visible);
        }
    CHECK(seen.size() == 10000);
    CHECK(visible_inode({.device = 5, .inode = 0}, 5) != 0);
}

TEST_CASE("what is shown in place of what files have") {
    const auto shown = [](const Overrides& overrides, mode_t mode) {
        struct stat stat {};
        stat.st_mode = mode;
        stat.st_uid = 1;
        stat.st_gid = 2;
        overrides.apply(stat);
        return stat;
    };
    const struct stat as_it_is = shown({}, S_IFREG | 06777);
    CHECK(as_it_is.st_mode == (S_IFREG | 06777));
    CHECK(as_it_is.st_uid == 1);
    CHECK(as_it_is.st_gid == 2);
    CHECK(shown({.uid = 0}, S_IFREG).st_uid == 0);
    CHECK(shown({.uid = 0}, S_IFREG).st_gid == 2);
    CHECK(shown({.gid = 7}, S_IFREG).st_gid == 7);
    const Overrides masks{.file_mask = 0111, .directory_mask = 027};
    CHECK(shown(masks, S_IFREG | 04755).st_mode == (S_IFREG | 04644));
    CHECK(shown(masks, S_IFIFO | 0700).st_mode == (S_IFIFO | 0600));
    CHECK(shown(masks, S_IFDIR | 01777).st_mode == (S_IFDIR | 01750));
    CHECK(shown(masks, S_IFLNK | 0777).st_mode == (S_IFLNK | 0777));
}

TEST_CASE("attributes become what stat(2) says") {
    const wire::Attributes attributes{.identity = {.device = 5, .inode = 42},
                                      .mode = S_IFREG | 0640U,
                                      .links = 2,
                                      .uid = 11,
                                      .gid = 22,
                                      .rdev_major = 8,
                                      .rdev_minor = 300,
                                      .size = 12345,
                                      .blocks = 32,
                                      .block_size = 4096,
                                      .access = {1, 2},
                                      .modification = {-3, 4},
                                      .change = {5, 999'999'999}};
    const struct stat result = to_stat(attributes, IdMap::single_user(11, 22, 33, 44), 5);
    CHECK(result.st_ino == 42);
    CHECK(result.st_mode == (S_IFREG | 0640U));
    CHECK(result.st_nlink == 2);
    CHECK(result.st_uid == 33);
    CHECK(result.st_gid == 44);
    CHECK(result.st_rdev == makedev(8, 300));
    CHECK(result.st_size == 12345);
    CHECK(result.st_blocks == 32);
    CHECK(result.st_blksize >= 4096);
    CHECK(result.st_atim.tv_nsec == 2);
    CHECK(result.st_mtim.tv_sec == -3);
    CHECK(result.st_ctim.tv_nsec == 999'999'999);
}
