// SPDX-License-Identifier: MIT
// Extended attributes, and access control lists, which are made of them.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "mount/shared_mount.hpp"

using namespace remofile::test;

namespace {

// Names of the attributes that the test set itself: the system may add its own.
void note_user_names(Transcript& here, const char* path) {
    std::array<char, 65536> names;
    const ssize_t size = llistxattr(path, names.data(), names.size());
    std::vector<std::string> found;
    for (const char* name = names.data(); size > 0 && name < names.data() + size; name += std::strlen(name) + 1) {
        if (std::string_view(name).starts_with("user.") || std::string_view(name).starts_with("trusted."))
            found.emplace_back(name);
    }
    std::ranges::sort(found);
    std::string all;
    for (const std::string& name : found)
        all += " " + name;
    here.note(std::string(path) + " has", all);
}

}  // namespace

TEST_CASE("xattrs: set, get, list, remove") {
    same_on_both([](Transcript& here) {
        write_file("file", "x");
        CALLED(mkdir("directory", 0755));
        CALLED(symlink("file", "link"));
        char value[100] = {};
        for (const char* name : {"file", "directory", "missing"}) {
            here.called(name, setxattr(name, "user.one", "value", 5, 0));
            here.called(name, setxattr(name, "user.empty", "", 0, 0));
            here.called(name, setxattr(name, "user.binary", "\0\xff\n", 3, XATTR_CREATE));
            here.called(name, setxattr(name, "user.binary", "again", 5, XATTR_CREATE));
            here.called(name, setxattr(name, "user.other", "other", 5, XATTR_REPLACE));
            here.called(name, setxattr(name, "user.one", "changed", 7, XATTR_REPLACE));
            here.called(name, getxattr(name, "user.one", value, sizeof(value)));
            here.note("value", value);
            here.called(name, getxattr(name, "user.binary", value, sizeof(value)));
            here.note("value", abbreviated({value, 3}));
            here.called(name, getxattr(name, "user.empty", value, sizeof(value)));
            here.called(name, getxattr(name, "user.missing", value, sizeof(value)));
            here.called(name, getxattr(name, "user.one", value, 0));
            here.called(name, getxattr(name, "user.one", value, 3));
            here.called(name, listxattr(name, value, 3));
            here.called(name, removexattr(name, "user.binary"));
            here.called(name, removexattr(name, "user.binary"));
            note_user_names(here, name);
        }
        CALLED(lsetxattr("link", "user.on-link", "x", 1, 0));
        CALLED(lgetxattr("link", "user.one", value, sizeof(value)));
        CALLED(setxattr("link", "user.through-link", "x", 1, 0));
        note_user_names(here, "file");
        const int fd = OPENED(open("file", O_RDONLY));
        CALLED(fsetxattr(fd, "user.by-descriptor", "y", 1, 0));
        CALLED(fgetxattr(fd, "user.by-descriptor", value, sizeof(value)));
        CALLED(unlink("file"));
        CALLED(fgetxattr(fd, "user.one", value, sizeof(value)));
        CALLED(fremovexattr(fd, "user.one"));
        close(fd);
    });
}

TEST_CASE("xattrs: those of security modules are not supported, so that nobody asks twice") {
    if (testing_locally())
        return;
    const auto pair = shared_mount().make_pair();
    const std::string file = pair.mounted + "/file";
    write_file(file, "x");
    char value[10];
    // The kernel itself looks at values of security.capability before it sets them.
    for (const char* name : {"security.selinux", "security.capability", "security.ima"}) {
        INFO(name);
        CHECK(getxattr(file.c_str(), name, value, sizeof value) == -1);
        CHECK(errno_name(errno) == "EOPNOTSUPP");
        CHECK(setxattr(file.c_str(), name, "x", 1, 0) == -1);
        CHECK(errno_name(errno) == (std::string_view(name) == "security.capability" ? "EINVAL" : "EOPNOTSUPP"));
        CHECK(removexattr(file.c_str(), name) == -1);
        CHECK(errno_name(errno) == "EOPNOTSUPP");
    }
}

TEST_CASE("xattrs: names and sizes at the limits") {
    same_on_both([](Transcript& here) {
        write_file("file", "x");
        const std::string longest = "user." + std::string(250, 'n'), too_long = "user." + std::string(251, 'n');
        CALLED(setxattr("file", longest.c_str(), "v", 1, 0));
        CALLED(setxattr("file", too_long.c_str(), "v", 1, 0));
        CALLED(setxattr("file", "user.", "v", 1, 0));
        CALLED(setxattr("file", "nonsense.name", "v", 1, 0));
        CALLED(setxattr("file", "nodot", "v", 1, 0));
        CALLED(setxattr("file", "", "v", 1, 0));
        CALLED(setxattr("file", "user.flags", "v", 1, 7));
        for (const std::size_t size : {1000UL, 3000UL, 65'536UL, 65'537UL}) {
            const std::string value = random_bytes(size, 1);
            here.called("set " + std::to_string(size), setxattr("file", "user.big", value.data(), size, 0));
            std::string back(size, '\0');
            const ssize_t got = getxattr("file", "user.big", back.data(), back.size());
            here.called("get", got);
            here.note("value", abbreviated(back));
            CALLED(removexattr("file", "user.big"));
        }
        note_user_names(here, "file");
        char value[10];
        CALLED(getxattr("file", "nonsense.name", value, 10));
        CALLED(setxattr("file", "trusted.t", "v", 1, 0));
        CALLED(getxattr("file", "trusted.t", value, 10));
        CALLED(getxattr("file", "system.nothing", value, 10));
    });
}

TEST_CASE("xattrs: they move with the file and not with its name") {
    same_on_both([](Transcript& here) {
        write_file("a", "x");
        write_file("b", "y");
        CALLED(setxattr("a", "user.of", "a", 1, 0));
        CALLED(rename("a", "b"));
        note_user_names(here, "b");
        CALLED(link("b", "c"));
        CALLED(setxattr("c", "user.second", "c", 1, 0));
        note_user_names(here, "b");
        here.called("copied", run_script(".", "cp --preserve=xattr b d").exit_status);
        note_user_names(here, "d");
        struct stat attributes = {};
        CALLED(stat("b", &attributes));
        here.note("attributes", describe(attributes));
    });
}

TEST_CASE("xattrs: access control lists as setfacl and getfacl see them") {
    if (!is_installed("setfacl")) {
        WARN("setfacl is not installed");
        return;
    }
    same_on_both([](Transcript& here) {
        const auto shell = [&here](const std::string& script) {
            const Ended end = run_script(".", script);
            here.called(script, end.exit_status);
            here.note("output", end.output);
            here.note("errors", end.errors);
        };
        write_file("file", "x");
        // What is known of the mode from here must not be what is shown afterwards.
        shell("ls; stat -c %a file; stat -c %a file");
        shell("setfacl -m u:1234:rw,g:5678:r file; stat -c %a file");
        shell("getfacl -nc file");
        here.attributes("file");
        shell("chmod 600 file; getfacl -nc file");
        shell("mkdir directory; setfacl -d -m u:1234:rwx,o::- directory; getfacl -nc directory");
        shell("umask 077; touch directory/file; mkdir directory/sub; getfacl -nc directory/file directory/sub");
        here.attributes("directory/file");
        shell("setfacl -b file; stat -c %a file; getfacl -nc file");
        shell("setfacl -k directory; getfacl -nc directory");
        shell("setfacl -m u:1234:rw file; cp -p file copy; getfacl -nc copy");
    });
}
