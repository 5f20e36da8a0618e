// SPDX-License-Identifier: MIT
// A tree that is made over a slow network: what programs are told of it before the server has it is what it has then.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <string>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/tcp_proxy.hpp"
#include "harness/transcript.hpp"

using namespace remofile::test;

namespace {

constexpr Milliseconds one_way{4};

struct Distant {
    ServerProcess server{{.lends_inodes = true}};
    TcpProxy proxy{server.ports(), one_way};
    MountProcess mount{{.source = proxy.address() + ":/", .config_dir = server.config_dir()}};
    // As stat(2) said last, of paths below the root.
    std::map<std::string, struct stat> told;

    std::string at(const std::string& path) const { return mount.path() + "/" + path; }
    void look(const std::string& path) { REQUIRE(lstat(at(path).c_str(), &told[path]) == 0); }
    void make_directory(const std::string& path) {
        REQUIRE(mkdir(at(path).c_str(), 0750) == 0);
        look(path);
    }
    void make_file(const std::string& path, const std::string& content) {
        const int fd = open(at(path).c_str(), O_WRONLY | O_CREAT | O_EXCL, 0640);
        REQUIRE(fd >= 0);
        struct stat empty {};
        CHECK(fstat(fd, &empty) == 0);
        CHECK(empty.st_size == 0);
        CHECK(write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size()));
        CHECK(close(fd) == 0);
        look(path);
        CHECK(told[path].st_ino == empty.st_ino);
    }
    int hidden_directories() const {
        int count = 0;
        for (const auto& entry : std::filesystem::directory_iterator(server.directory()))
            count += entry.path().filename().string().starts_with(".remofile-lent-") ? 1 : 0;
        return count;
    }
};

bool same_time(const timespec& one, const timespec& other) {
    return one.tv_sec == other.tv_sec && one.tv_nsec == other.tv_nsec;
}

}  // namespace

TEST_CASE("lent inodes: numbers and times that were told are those at the server") {
    Distant f;
    f.make_directory("tree");
    for (int directory = 0; directory < 8; ++directory) {
        const std::string path = "tree/" + std::to_string(directory);
        f.make_directory(path);
        for (int file = 0; file < 12; ++file)
            f.make_file(path + "/f" + std::to_string(file), std::string(static_cast<std::size_t>(file) * 100, 'x'));
        f.make_directory(path + "/inner");
        f.look(path);
    }
    f.look("tree");
    CHECK(f.mount.counted("lent.taken") > 30);
    carried_out(f.mount.path());
    for (const auto& [path, told] : f.told) {
        CAPTURE(path);
        struct stat at_server {};
        REQUIRE(lstat((f.server.directory() + "/" + path).c_str(), &at_server) == 0);
        CHECK(at_server.st_ino == told.st_ino);
        CHECK(at_server.st_mode == told.st_mode);
        CHECK(at_server.st_nlink == told.st_nlink);
        CHECK(at_server.st_uid == told.st_uid);
        CHECK(same_time(at_server.st_mtim, told.st_mtim));
        if (S_ISREG(told.st_mode))
            CHECK(at_server.st_size == told.st_size);
        struct stat now {};
        REQUIRE(lstat(f.at(path).c_str(), &now) == 0);
        CHECK(same_time(now.st_mtim, told.st_mtim));
        CHECK(same_time(now.st_ctim, told.st_ctim));
    }
    CHECK(first_difference(describe_tree(f.server.directory() + "/tree"), describe_tree(f.at("tree"))).empty());
}

TEST_CASE("lent inodes: where they are made is nobody's to see, and goes with the server") {
    Distant f;
    f.make_directory("tree");
    for (int file = 0; file < 40; ++file)
        f.make_file("tree/f" + std::to_string(file), "text");
    REQUIRE(f.mount.counted("lent.taken") > 0);
    CHECK(f.hidden_directories() == 1);
    for (const auto& entry : std::filesystem::directory_iterator(f.mount.path()))
        CHECK(entry.path().filename() == "tree");
    CHECK(f.mount.unmount());
    f.server.stop();
    CHECK(f.hidden_directories() == 0);
}
