// SPDX-License-Identifier: MIT
// What several users may and may not do: with a server that acts as the caller, and with one that acts as itself.
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <stdexcept>

#include "catch.hpp"
#include "harness/mount_table.hpp"
#include "harness/scratch.hpp"
#include "harness/side_by_side.hpp"

using namespace remofile::test;

namespace {

const Credentials owner = {.uid = 20'001, .gid = 20'001};
const Credentials member = {.uid = 20'002, .gid = 20'002, .groups = {20'100}};
const Credentials stranger = {.uid = 20'003, .gid = 20'003};
constexpr gid_t team = 20'100;

bool can_change_user() {
    if (geteuid() == 0)
        return true;
    WARN("not root: cannot act as several users");
    return false;
}

SideBySide& mount_with_identities() {
    static SideBySide& shared = Scratch::instance().keep(std::make_unique<SideBySide>(SideBySide::Options{
        .server = {.arguments = {"--identity=client", "--allow-root"}}, .mount_options = {"allow_other"}}));
    return shared;
}

// The server acts as itself, root, whoever calls.
SideBySide& squashing_mount() {
    static SideBySide& shared =
        Scratch::instance().keep(std::make_unique<SideBySide>(SideBySide::Options{.mount_options = {"allow_other"}}));
    return shared;
}

void same_for(const Credentials& as, const SideBySide::Body& prepare, const SideBySide::Body& body,
              SideBySide& mount = mount_with_identities()) {
    const std::string report = mount.compare(body, as, prepare);
    INFO("as user " << as.uid << "\n" << report);
    CHECK(report.empty());
}

// Root's mount of a server of another account: its key has to be authorised there.
MountProcess mount_as_root(const ServerProcess& server) {
    MountProcess::Options options = {.source = source_of(server.port()),
                                     .config_dir = Scratch::instance().make_directory("client-config"),
                                     .options = {"server_key=" + server.config_dir() + "/server.pub"},
                                     .mountpoint = Scratch::instance().make_directory("mount")};
    run(remofs_command(options), Milliseconds{10'000});  // refused, but it makes the key
    const std::string authorized = server.config_dir() + "/authorized_keys";
    write_file(authorized, read_file(options.config_dir + "/identity.pub"));
    (void)!chown(authorized.c_str(), owner.uid, owner.gid);
    return MountProcess(options);
}

void make_owned(const char* name, mode_t mode, bool directory = false) {
    if (directory)
        mkdir(name, 0755);
    else
        write_file(name, "content");
    (void)!chown(name, owner.uid, team);
    chmod(name, mode);
}

// Everything that permissions decide on, tried on `name`.
void try_everything(Transcript& here, const char* name) {
    char byte;
    for (const int flags :
         {O_RDONLY, O_WRONLY, O_RDWR, O_WRONLY | O_TRUNC, O_WRONLY | O_APPEND, O_RDONLY | O_NOATIME}) {
        const int fd = here.opened(std::string(name) + " open " + std::to_string(flags), open(name, flags));
        if (fd >= 0)
            close(fd);
    }
    for (const int mask : {R_OK, W_OK, X_OK, R_OK | W_OK})
        here.called(std::string(name) + " access " + std::to_string(mask), access(name, mask));
    CALLED(truncate(name, 3));
    CALLED(chmod(name, 0666));
    here.attributes(name);
    CALLED(chmod(name, 04755));
    here.attributes(name);
    CALLED(chown(name, stranger.uid, -1));
    CALLED(chown(name, -1, team));
    here.attributes(name);
    const timespec exact[2] = {{1, 2}, {3, 4}};
    CALLED(utimensat(AT_FDCWD, name, exact, 0));
    CALLED(utimensat(AT_FDCWD, name, nullptr, 0));
    const timespec modification_now[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
    CALLED(utimensat(AT_FDCWD, name, modification_now, 0));
    CALLED(link(name, "linked") == 0 || errno == EPERM || errno == EACCES);
    CALLED(readlink(name, &byte, 1));
}

}  // namespace

TEST_CASE("permissions: the owner, a member of the group and a stranger at a file of every mode") {
    if (!can_change_user())
        return;
    for (const Credentials& as : {owner, member, stranger}) {
        same_for(
            as,
            [](Transcript&) {
                chmod(".", 0777);
                for (const mode_t mode :
                     {0, 0400, 0200, 0040, 0020, 0004, 0002, 0640, 0600, 0060, 0006, 0755, 0070, 0007})
                    make_owned(("file" + std::to_string(mode)).c_str(), mode);
            },
            [](Transcript& here) {
                for (const mode_t mode :
                     {0, 0400, 0200, 0040, 0020, 0004, 0002, 0640, 0600, 0060, 0006, 0755, 0070, 0007}) {
                    try_everything(here, ("file" + std::to_string(mode)).c_str());
                    unlink("linked");
                }
            });
    }
}

TEST_CASE("permissions: directories that may be searched, listed or written in") {
    if (!can_change_user())
        return;
    for (const Credentials& as : {owner, member, stranger}) {
        same_for(
            as,
            [](Transcript&) {
                chmod(".", 0777);
                for (const mode_t mode :
                     {0, 0100, 0300, 0400, 0500, 0700, 0010, 0030, 0050, 0070, 0001, 0003, 0005, 0007, 0777, 01777}) {
                    const std::string name = "d" + std::to_string(mode);
                    make_owned(name.c_str(), 0755, true);
                    write_file(name + "/file", "x");
                    chmod((name + "/file").c_str(), 0644);
                    mkdir((name + "/sub").c_str(), 0777);
                    chmod(name.c_str(), mode);
                }
            },
            [](Transcript& here) {
                for (const mode_t mode :
                     {0, 0100, 0300, 0400, 0500, 0700, 0010, 0030, 0050, 0070, 0001, 0003, 0005, 0007, 0777, 01777}) {
                    const std::string name = "d" + std::to_string(mode);
                    const auto at = [&name](const char* entry) { return name + "/" + entry; };
                    here.names(name.c_str());
                    here.attributes(at("file").c_str());
                    here.attributes(at("missing").c_str());
                    here.contents(at("file").c_str());
                    const int fd = here.opened("create in " + name, open(at("new").c_str(), O_CREAT | O_WRONLY, 0640));
                    close(fd);
                    here.attributes(at("new").c_str());
                    here.called("mkdir", mkdir(at("made").c_str(), 0755));
                    here.called("symlink", symlink("x", at("link").c_str()));
                    here.called("mkfifo", mkfifo(at("fifo").c_str(), 0644));
                    here.called("rename within", rename(at("file").c_str(), at("moved").c_str()));
                    here.called("rename out", rename(at("sub").c_str(), "taken"));
                    here.called("unlink", unlink(at("moved").c_str()));
                    here.called("unlink file", unlink(at("file").c_str()));
                    here.called("rmdir", rmdir(at("made").c_str()));
                    here.called("chdir", chdir(name.c_str()) == 0 ? chdir("..") : -1);
                    rmdir("taken");
                }
            });
    }
}

TEST_CASE("permissions: what a user makes belongs to the user and to the right group") {
    if (!can_change_user())
        return;
    for (const Credentials& as : {owner, member}) {
        same_for(
            as,
            [](Transcript&) {
                chmod(".", 0777);
                mkdir("team", 02777);
                (void)!chown("team", 0, team);
                chmod("team", 02777);
            },
            [](Transcript& here) {
                umask(002);
                write_file("file", "x");
                here.attributes("file");
                CALLED(mkdir("directory", 0777));
                here.attributes("directory");
                write_file("team/file", "x");
                here.attributes("team/file");
                CALLED(mkdir("team/directory", 0777));
                here.attributes("team/directory");
                CALLED(symlink("x", "link"));
                here.attributes("link");
                CALLED(mknod("fifo", S_IFIFO | 0666, 0));
                here.attributes("fifo");
                CALLED(mknod("device", S_IFCHR | 0666, 0x103));
                CALLED(chmod("team/file", 02775));
                here.attributes("team/file");
                CALLED(chown("file", -1, team));
                here.attributes("file");
                CALLED(chown("file", -1, 1));
                CALLED(chmod("file", 06755));
                const int fd = OPENED(open("file", O_WRONLY));
                CALLED(write(fd, "y", 1));  // drops the set-id bits
                here.attributes("file", fd);
                CALLED(fchmod(fd, 06755));
                CALLED(ftruncate(fd, 0));
                here.attributes("file", fd);
                close(fd);
            });
    }
}

TEST_CASE("permissions: programs that may be run but not read") {
    if (!can_change_user())
        return;
    constexpr mode_t modes[] = {0111, 0711, 04711, 0100, 0010, 0001, 0444, 0555};
    for (SideBySide* mount : {&mount_with_identities(), &squashing_mount()})
        for (const Credentials& as : {owner, member, stranger})
            same_for(
                as,
                [&](Transcript&) {
                    for (const mode_t mode : modes) {
                        const std::string name = "program" + std::to_string(mode);
                        write_file(name, read_file("/bin/true"));
                        (void)!chown(name.c_str(), owner.uid, team);
                        chmod(name.c_str(), mode);
                    }
                },
                [&](Transcript& here) {
                    for (const mode_t mode : modes) {
                        const std::string name = "./program" + std::to_string(mode);
                        here.called(name + " run", run({.arguments = {name}}).exit_status);
                        const int fd = here.opened(name + " read", open(name.c_str(), O_RDONLY));
                        close(fd);
                    }
                },
                *mount);
}

TEST_CASE("permissions: a sticky directory protects what others own") {
    if (!can_change_user())
        return;
    same_for(
        stranger,
        [](Transcript&) {
            mkdir("tmp", 0777);
            chmod("tmp", 01777);
            for (const char* name : {"tmp/file", "tmp/other"})
                make_owned(name, 0666);
            make_owned("tmp/directory", 0777, true);
        },
        [](Transcript& here) {
            CALLED(unlink("tmp/file"));
            CALLED(rename("tmp/file", "tmp/renamed"));
            CALLED(rmdir("tmp/directory"));
            write_file("tmp/mine", "x");
            CALLED(rename("tmp/mine", "tmp/other"));
            CALLED(renameat2(AT_FDCWD, "tmp/mine", AT_FDCWD, "tmp/other", RENAME_EXCHANGE));
            CALLED(unlink("tmp/mine"));
            here.names("tmp");
        });
}

TEST_CASE("permissions: an open file stays usable when its permissions go") {
    if (!can_change_user())
        return;
    same_for(
        owner,
        [](Transcript&) {
            chmod(".", 0777);
            make_owned("file", 0600);
        },
        [](Transcript& here) {
            const int fd = OPENED(open("file", O_RDWR));
            CALLED(chmod("file", 0));
            char bytes[8] = {};
            CALLED(pread(fd, bytes, 7, 0));
            CALLED(pwrite(fd, "more", 4, 7));
            CALLED(ftruncate(fd, 9));
            CALLED(fsync(fd));
            CALLED(open("file", O_RDONLY));
            close(fd);
            CALLED(chmod("file", 0600));
            here.contents("file");
        });
}

TEST_CASE("permissions: access control lists count") {
    if (!can_change_user() || !is_installed("setfacl"))
        return;
    same_for(
        stranger,
        [](Transcript&) {
            chmod(".", 0777);
            for (const char* name : {"granted", "denied", "masked"})
                make_owned(name, 0640);
            run_script(".",
                       "setfacl -m u:20003:rw granted; chmod 666 denied; setfacl -m u:20003:- denied;"
                       "setfacl -m u:20003:rw,m::r masked");
        },
        [](Transcript& here) {
            for (const char* name : {"granted", "denied", "masked"}) {
                here.attributes(name);
                here.called(std::string(name) + " read", access(name, R_OK));
                here.called(std::string(name) + " write", access(name, W_OK));
                const int fd = here.opened(std::string(name) + " open", open(name, O_RDWR));
                close(fd);
                here.contents(name);
            }
        });
}

TEST_CASE("permissions: without allow_other nobody but the mounter gets in") {
    if (!can_change_user() || testing_locally())
        return;
    SideBySide private_mount;
    const auto pair = private_mount.make_pair();
    write_file(pair.mounted + "/file", "secret");
    chmod((pair.mounted + "/file").c_str(), 0666);
    Child child =
        Child::fork([&] { return open((pair.mounted + "/file").c_str(), O_RDONLY) < 0 ? errno : 0; }, stranger);
    CHECK(errno_name(child.wait(Milliseconds{10'000}).exit_status) == "EACCES");
}

TEST_CASE("permissions: a squashing server acts as itself for everyone") {
    if (!can_change_user() || testing_locally())
        return;
    ServerProcess server({.arguments = {"--identity=squash"}, .as = owner});
    const MountProcess mount = mount_as_root(server);
    write_file(server.directory() + "/roots", "not for the server's user");
    chmod((server.directory() + "/roots").c_str(), 0600);
    // Root of this machine is nobody special there.
    CHECK(open((mount.path() + "/roots").c_str(), O_RDONLY) == -1);
    CHECK(errno_name(errno) == "EACCES");
    write_file(mount.path() + "/new", "x");
    struct stat attributes = {};
    REQUIRE(stat((server.directory() + "/new").c_str(), &attributes) == 0);
    CHECK(attributes.st_uid == owner.uid);
    CHECK(attributes.st_gid == owner.gid);
    CHECK(chown((mount.path() + "/new").c_str(), stranger.uid, stranger.gid) == -1);
    CHECK(errno_name(errno) == "EPERM");
}

TEST_CASE("permissions: root of a client is nobody at a server that was not told to allow it") {
    if (!can_change_user() || testing_locally())
        return;
    ServerProcess server({.arguments = {"--identity=client"}});
    chmod(server.directory().c_str(), 0777);
    write_file(server.directory() + "/roots", "x");
    chmod((server.directory() + "/roots").c_str(), 0600);
    MountProcess mount(server, {"allow_other"});
    CHECK(open((mount.path() + "/roots").c_str(), O_RDONLY) == -1);
    CHECK(errno_name(errno) == "EACCES");
    CHECK(chown((mount.path() + "/roots").c_str(), 1, 1) == -1);
    write_file(mount.path() + "/new", "x");
    struct stat attributes = {};
    REQUIRE(stat((server.directory() + "/new").c_str(), &attributes) == 0);
    CHECK(attributes.st_uid == 65'534);
}

// What an ordinary user does, in a process with a mount table of its own. The exit status says which step failed.
int mount_as_ordinary_user() {
    if (!enter_own_mount_table() || !let_users_mount())
        return 10;
    const passwd* entry = getpwnam("nobody");  // fusermount3 wants a user with a name
    if (!entry)
        return 12;
    const Credentials user = {.uid = entry->pw_uid, .gid = entry->pw_gid};
    ServerProcess server({.as = user});
    MountProcess mounted(
        MountProcess::Options{.source = source_of(server.port()), .config_dir = server.config_dir(), .as = user});
    Child worker = Child::fork(
        [&] {
            const std::string path = mounted.path() + "/file";
            write_file(path, "mine");
            struct stat attributes = {};
            if (stat(path.c_str(), &attributes) != 0 || attributes.st_uid != user.uid)
                return 1;
            return read_file(path) == "mine" ? 0 : 2;
        },
        user);
    if (const int status = worker.wait(Milliseconds{20'000}).exit_status; status != 0)
        return status;
    if (read_file(server.directory() + "/file") != "mine")
        return 3;
    return mounted.unmount() ? 0 : 4;
}

TEST_CASE("permissions: an ordinary user mounts and works without being root anywhere") {
    if (!can_change_user() || testing_locally())
        return;
    const Ended end = run_in_own_process(mount_as_ordinary_user);
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
}
