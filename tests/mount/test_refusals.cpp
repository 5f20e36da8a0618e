// SPDX-License-Identifier: MIT
// What remofs says and how it ends when it cannot mount, and the ways to mount and unmount that users and systems have.
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/mount_table.hpp"
#include "harness/scratch.hpp"
#include "harness/tcp_proxy.hpp"
#include "harness/transcript.hpp"

using namespace remofile::test;

namespace {

// As docs and man pages list them.
enum ExitStatus {
    failure = 1,
    unreachable = 2,
    wrong_server_key = 3,
    not_authorized = 4,
    bad_token = 5,
    in_use = 6,
    no_such_path = 7,
    mountpoint = 9,
};

constexpr double refusal_limit_s = 2.0;
constexpr double in_use_limit_s = 1.0;

std::string new_directory(const char* purpose) {
    return Scratch::instance().make_directory(purpose);
}

// An export with something to protect.
std::string export_with_secret() {
    const std::string directory = new_directory("export");
    write_file(directory + "/secret", "the secret content");
    mkdir((directory + "/sub").c_str(), 0755);
    return directory;
}

MountProcess::Options mount_of(const ServerProcess& server, std::vector<std::string> options = {}) {
    return {.source = source_of(server.port()),
            .config_dir = server.config_dir(),
            .options = std::move(options),
            .mountpoint = new_directory("mount"),
            .foreground = false};
}

// Runs remofs as `options` say, expecting it to refuse.
void check_refused(const MountProcess::Options& options, int exit_status, const std::string& says,
                   double limit_s = refusal_limit_s) {
    const Ended end = run(remofs_command(options), Milliseconds{20'000});
    INFO(end.to_string());
    CHECK(end.exit_status == exit_status);
    CHECK(end.took.count() < limit_s * slowness());
    CHECK(std::count(end.errors.begin(), end.errors.end(), '\n') == 1);
    CHECK_THAT(end.errors, ContainsSubstring(says));
    CHECK(end.output.empty());
    CHECK(!mounted_at(options.mountpoint));
    if (std::filesystem::is_directory(options.mountpoint))
        CHECK(!std::filesystem::exists(options.mountpoint + "/secret"));
}

// A port on which nothing listens: bound, but not listening, so that nobody else gets it meanwhile.
struct DeadPort {
    DeadPort() : fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address = {};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof(address);
        REQUIRE(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
        REQUIRE(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
        port = ntohs(address.sin_port);
    }
    remofile::UniqueFd fd;
    int port = 0;
};

std::string public_key_of(const ServerProcess& server) {
    std::string key = read_file(server.config_dir() + "/server.pub");
    while (!key.empty() && key.back() == '\n')
        key.pop_back();
    return key;
}

std::string directory_of_remofs() {
    return std::filesystem::path(program_from_environment("REMOFS")).parent_path();
}

bool unmounted_soon(const std::string& path) {
    return eventually(Milliseconds{10'000}, [&path] { return !mounted_at(path); });
}

}  // namespace

TEST_CASE("refusal: no server") {
    const DeadPort dead;
    check_refused({.source = source_of(dead.port),
                   .config_dir = new_directory("config"),
                   .mountpoint = new_directory("mount"),
                   .foreground = false},
                  wrong_server_key, "key");
    const ServerProcess other;
    check_refused({.source = source_of(dead.port),
                   .config_dir = other.config_dir(),
                   .mountpoint = new_directory("mount"),
                   .foreground = false},
                  unreachable, "localhost");
}

TEST_CASE("refusal: no such host, and sources that are none") {
    const ServerProcess server;
    for (const char* source : {"no-such-host.invalid:/", "remofile://no-such-host.invalid/"}) {
        auto options = mount_of(server, {"server_key=" + public_key_of(server)});
        options.source = source;
        check_refused(options, unreachable, "no-such-host.invalid", 10);
    }
    for (const char* source : {"nothing", "host:relative", "http://host/", "localhost:99999:/", ":/"}) {
        auto options = mount_of(server);
        options.source = source;
        check_refused(options, failure, "");
    }
}

TEST_CASE("refusal: the server's key is not the expected one") {
    const ServerProcess server({.directory = export_with_secret()}), other;
    check_refused(mount_of(server, {"server_key=" + public_key_of(other)}), wrong_server_key, "key");
}

TEST_CASE("refusal: the client's key is not authorised, until it is") {
    const ServerProcess server({.directory = export_with_secret()});
    auto options = mount_of(server, {"server_key=" + public_key_of(server)});
    options.config_dir = new_directory("stranger");
    check_refused(options, not_authorized, "authorized_keys");
    // The remedy, without restarting the server.
    const std::string key = read_file(options.config_dir + "/identity.pub");
    const int fd = open((server.config_dir() + "/authorized_keys").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    REQUIRE(write(fd, key.data(), key.size()) > 0);
    close(fd);
    const MountProcess mount(options);
    CHECK(read_file(mount.path() + "/secret") == "the secret content");
}

TEST_CASE("refusal: a key file that others can read is not used") {
    const ServerProcess server({.directory = export_with_secret()});
    auto options = mount_of(server);
    { const MountProcess makes_the_key(options); }
    REQUIRE(chmod((server.config_dir() + "/identity.key").c_str(), 0644) == 0);
    check_refused(options, failure, "identity.key");
}

TEST_CASE("refusal: wrong token, no token") {
    const std::string token_file = new_directory("token") + "/token";
    write_file(token_file, "open-sesame-0123456789\n");
    chmod(token_file.c_str(), 0600);
    const std::string wrong_file = token_file + "-wrong";
    write_file(wrong_file, "open-barley-0123456789\n");
    chmod(wrong_file.c_str(), 0600);
    const ServerProcess server({.directory = export_with_secret(), .arguments = {"--token-file", token_file}});
    check_refused(mount_of(server), bad_token, "token");
    check_refused(mount_of(server, {"token_file=" + wrong_file}), bad_token, "token");
    const MountProcess mount(mount_of(server, {"token_file=" + token_file}));
    CHECK(read_file(mount.path() + "/secret") == "the secret content");
}

TEST_CASE("refusal: a plain client at an encrypted server, and the reverse") {
    const ServerProcess encrypted({.directory = export_with_secret()});
    auto options = mount_of(encrypted, {"insecure"});
    const Ended end = run(remofs_command(options), Milliseconds{20'000});
    INFO(end.to_string());
    CHECK(end.exit_status == not_authorized);
    CHECK_THAT(end.errors, ContainsSubstring("encryption"));
    CHECK(!mounted_at(options.mountpoint));

    const ServerProcess plain({.directory = export_with_secret(), .arguments = {"--insecure"}});
    const MountProcess both_plain(mount_of(plain, {"insecure"}));
    CHECK(read_file(both_plain.path() + "/secret") == "the secret content");
}

TEST_CASE("refusal: no such directory in the export") {
    const ServerProcess server({.directory = export_with_secret()});
    for (const char* path : {"/missing", "/secret", "/../..", "/sub/../../.."}) {
        auto options = mount_of(server);
        options.source = source_of(server.port(), path);
        const Ended end = run(remofs_command(options), Milliseconds{20'000});
        INFO(path << "\n" << end.to_string());
        // ".." may be refused, or lead nowhere above the export; it never leads out of it.
        if (end.exit_status == 0) {
            CHECK(std::string(path).find("..") != std::string::npos);
            CHECK(read_file(options.mountpoint + "/secret") == "the secret content");
            CHECK(umount2(options.mountpoint.c_str(), 0) == 0);
        } else {
            CHECK((end.exit_status == no_such_path || path[1] == '.' || path[5] == '.'));
        }
    }
    auto options = mount_of(server);
    options.source = source_of(server.port(), "/missing");
    check_refused(options, no_such_path, "no directory /missing");
    options.source = source_of(server.port(), "/secret");
    check_refused(options, no_such_path, "/secret on the server is no directory");
    options.source = source_of(server.port(), "/sub");
    const MountProcess sub(options);
    CHECK(describe_tree(sub.path()).empty());
}

TEST_CASE("refusal: mountpoints that are none") {
    const ServerProcess server({.directory = export_with_secret()});
    auto options = mount_of(server);
    options.mountpoint += "/missing";
    check_refused(options, mountpoint, "missing");
    const std::string file = new_directory("mount") + "/file";
    write_file(file, "x");
    options.mountpoint = file;
    check_refused(options, mountpoint, "file");
}

TEST_CASE("mounting: over a directory that is not empty, as mount(8) does, and over another mount") {
    const ServerProcess server({.directory = export_with_secret()});
    auto options = mount_of(server);
    write_file(options.mountpoint + "/hidden", "x");
    {
        const MountProcess mount(options);
        CHECK(!std::filesystem::exists(mount.path() + "/hidden"));
        CHECK(read_file(mount.path() + "/secret") == "the secret content");
    }
    CHECK(read_file(options.mountpoint + "/hidden") == "x");

    // The same source at the same place twice is refused as busy, as mount(8) does for file systems that it knows.
    const MountProcess mount(options);
    const Ended again = run(remofs_command(options), Milliseconds{20'000});
    INFO(again.to_string());
    CHECK(again.exit_status == ExitStatus::mountpoint);
    CHECK(std::count(again.errors.begin(), again.errors.end(), '\n') == 1);
    CHECK_THAT(again.errors, ContainsSubstring("umount " + options.mountpoint));
    CHECK(mounts_below(options.mountpoint).size() == 1);
}

TEST_CASE("in use: an exclusive server tells a second client at once who has it") {
    const ServerProcess server({.directory = export_with_secret(), .arguments = {"--exclusive"}});
    MountProcess holder(mount_of(server));
    check_refused(mount_of(server), in_use, "in use", in_use_limit_s);

    // One that waits gets its turn when the holder goes.
    auto waiting = mount_of(server, {"wait=30"});
    Child waiter = Child::start(remofs_command(waiting));
    CHECK(waiter.wait(Milliseconds{300}).timed_out());
    CHECK(holder.unmount());
    const Ended end = waiter.wait(Milliseconds{10'000});
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
    CHECK(read_file(waiting.mountpoint + "/secret") == "the secret content");
    CHECK(umount2(waiting.mountpoint.c_str(), 0) == 0);
}

TEST_CASE("in use: waiting ends without success after the time given") {
    const ServerProcess server({.directory = export_with_secret(), .arguments = {"--exclusive"}});
    const MountProcess holder(mount_of(server));
    check_refused(mount_of(server, {"wait=1"}), in_use, "has not come", 4);
}

TEST_CASE("in use: a client that was killed gives its place up") {
    const ServerProcess server(
        {.directory = export_with_secret(), .arguments = {"--exclusive", "--session-timeout", "5"}});
    auto options = mount_of(server);
    options.foreground = true;
    MountProcess holder(options);
    kill(holder.pid(), SIGKILL);
    auto waiting = mount_of(server, {"wait=100"});
    const Ended end = run(remofs_command(waiting), Milliseconds{100'000});
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
    CHECK(umount2(waiting.mountpoint.c_str(), 0) == 0);
}

TEST_CASE("in use: -o exclusive on a shared server") {
    const ServerProcess server({.directory = export_with_secret()});
    {
        const MountProcess exclusive(mount_of(server, {"exclusive"}));
        check_refused(mount_of(server), in_use, "in use", in_use_limit_s);
    }
    const MountProcess shared(mount_of(server));
    check_refused(mount_of(server, {"exclusive"}), in_use, "in use", in_use_limit_s);
    // Whoever comes for no more than the others comes in, and is not told of his own sessions.
    auto second = mount_of(server);
    const Ended end = run(remofs_command(second), Milliseconds{20'000});
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
    CHECK(end.errors.empty());
    CHECK(umount2(second.mountpoint.c_str(), 0) == 0);
}

TEST_CASE("mounting: in the background it returns when the mount is usable") {
    const ServerProcess server({.directory = export_with_secret()});
    const auto options = mount_of(server);
    const Ended end = run(remofs_command(options), Milliseconds{20'000});
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
    CHECK(read_file(options.mountpoint + "/secret") == "the secret content");
    const auto mounted = mounted_at(options.mountpoint);
    REQUIRE(mounted);
    CHECK(mounted->type == "fuse.remofs");
    CHECK_THAT(mounted->source, ContainsSubstring(std::to_string(server.port())));
    CHECK(run({.arguments = {"umount", options.mountpoint}}).exit_status == 0);
    CHECK(unmounted_soon(options.mountpoint));
}

TEST_CASE("mounting: every way of writing the source") {
    const ServerProcess server({.directory = export_with_secret()});
    const std::string port = std::to_string(server.port());
    for (const std::string& source :
         {"localhost:" + port + ":/", "127.0.0.1:" + port + ":/sub/..", "remofile://localhost:" + port + "/",
          "remofile://127.0.0.1:" + port, "localhost:" + port + ":"}) {
        auto options = mount_of(server);
        options.source = source;
        const Ended end = run(remofs_command(options), Milliseconds{20'000});
        INFO(source << "\n" << end.to_string());
        if (source.find("..") != std::string::npos || source.ends_with(":"))
            continue;  // whether these are taken is remofs's choice; they must only not hang
        CHECK(end.exit_status == 0);
        CHECK(umount2(options.mountpoint.c_str(), 0) == 0);
    }
}

TEST_CASE("unmounting: umount, fusermount3, SIGTERM and SIGINT leave nothing behind") {
    const ServerProcess server({.directory = export_with_secret()});
    for (const std::string how : {"umount", "fusermount3", "lazy", "SIGTERM", "SIGINT", "SIGHUP"}) {
        auto options = mount_of(server);
        options.foreground = true;
        MountProcess mount(options);
        write_file(mount.path() + "/file", how);
        if (how == "umount")
            CHECK(run({.arguments = {"umount", mount.path()}}).exit_status == 0);
        if (how == "fusermount3")
            CHECK(run({.arguments = {"fusermount3", "-u", mount.path()}}).exit_status == 0);
        if (how == "lazy")
            CHECK(run({.arguments = {"umount", "-l", mount.path()}}).exit_status == 0);
        if (how == "SIGTERM")
            mount.process().signal(SIGTERM);
        if (how == "SIGINT")
            mount.process().signal(SIGINT);
        if (how == "SIGHUP")
            mount.process().signal(SIGHUP);
        INFO(how);
        CHECK(unmounted_soon(mount.path()));
        const Ended end = mount.process().wait(Milliseconds{10'000});
        INFO(end.to_string());
        CHECK(end.exit_status == 0);
        CHECK(read_file(server.directory() + "/file") == how);
    }
}

TEST_CASE("unmounting: umount of a mount in use is refused as busy, and it works on") {
    const ServerProcess server({.directory = export_with_secret()});
    MountProcess mount(mount_of(server));
    const int fd = open((mount.path() + "/secret").c_str(), O_RDONLY);
    CHECK(umount2(mount.path().c_str(), 0) == -1);
    CHECK(errno_name(errno) == "EBUSY");
    CHECK(read_file(mount.path() + "/secret") == "the secret content");
    close(fd);
    CHECK(mount.unmount());
}

TEST_CASE("unmounting: what was written and closed before SIGTERM is at the server") {
    const ServerProcess server;
    auto options = mount_of(server);
    options.foreground = true;
    MountProcess mount(options);
    const std::string data = random_bytes(20 << 20, 1);
    write_file(mount.path() + "/big", data);
    mount.process().signal(SIGTERM);
    CHECK(unmounted_soon(mount.path()));
    CHECK((read_file(server.directory() + "/big") == data));
}

TEST_CASE("mount(8): mount -t fuse.remofs, a line of fstab, and umount") {
    if (geteuid() != 0 || !is_installed("mount.fuse")) {
        WARN("not root, or mount.fuse is missing");
        return;
    }
    const ServerProcess server({.directory = export_with_secret()});
    const std::string at = new_directory("mount");
    const std::string fstab = new_directory("fstab") + "/fstab";
    const std::string source = source_of(server.port());
    write_file(fstab, source + " " + at + " fuse.remofs _netdev,nofail,noauto,x-systemd.automount,ro,dev,suid 0 0\n");
    // mount(8) forgets PATH, so remofs has to be where the shell looks without it; in a mount table of our own it is.
    const std::string script = R"sh(
umount -nila -t fuse.remofs # of others, who would wait for this table to go
mount --bind "$PROGRAMS" /usr/local/sbin
mount -t fuse.remofs "$SOURCE" "$AT" -o noatime,nodev,x-test=1
findmnt -n -o FSTYPE,SOURCE "$AT"
cat "$AT/secret"
umount "$AT"
mount -T "$FSTAB" "$AT"
cat "$AT/secret"
! touch "$AT/new" || exit 1
umount "$AT"
! mount -t fuse.remofs "${SOURCE}missing" "$AT" || exit 1
! findmnt "$AT" || exit 1
)sh";
    const Ended end = run({.arguments = {"unshare", "-m", "/bin/sh", "-euc", script},
                           .environment = {{"PROGRAMS", directory_of_remofs()},
                                           {"SOURCE", source},
                                           {"AT", at},
                                           {"FSTAB", fstab},
                                           {"REMOFILE_CONFIG_DIR", server.config_dir()}}});
    INFO(end.to_string());
    CHECK(end.exit_status == 0);
    CHECK(end.output == "fuse.remofs " + source + "\nthe secret contentthe secret content");
    CHECK_THAT(end.errors, ContainsSubstring("Read-only file system"));
    CHECK_THAT(end.errors, ContainsSubstring("/missing"));
}

TEST_CASE("options: what mount, fstab and systemd pass is taken") {
    const ServerProcess server({.directory = export_with_secret()});
    for (const std::string option : {"ro",
                                     "rw",
                                     "_netdev",
                                     "nofail",
                                     "noauto",
                                     "auto",
                                     "x-systemd.automount",
                                     "x-gvfs-show",
                                     "dev",
                                     "nodev",
                                     "suid",
                                     "nosuid",
                                     "exec",
                                     "noexec",
                                     "atime",
                                     "noatime",
                                     "relatime",
                                     "defaults",
                                     "async",
                                     "sync",
                                     "user",
                                     "users",
                                     "allow_other",
                                     "compress",
                                     "compress=auto",
                                     "compress=off",
                                     "compress=3",
                                     "cache_size=64M",
                                     "soft",
                                     "hard",
                                     "timeout=30",
                                     "idmap=none",
                                     "idmap=user",
                                     "symlinks=keep",
                                     "symlinks=contain",
                                     "exclusive,wait=30",
                                     "wait",
                                     "wait=5",
                                     "dirsync",
                                     "comment=text",
                                     "X-mount.mkdir",
                                     "uhelper=x",
                                     "default_permissions"}) {
        if (option == "comment=text" || option == "dirsync" || option == "uhelper=x" || option == "default_permissions")
            continue;  // rare ones: remofs's choice
        const auto options = mount_of(server, {option});
        const Ended end = run(remofs_command(options), Milliseconds{20'000});
        INFO(option << "\n" << end.to_string());
        CHECK(end.exit_status == 0);
        if (end.exit_status == 0) {
            CHECK(read_file(options.mountpoint + "/secret") == "the secret content");
            CHECK(umount2(options.mountpoint.c_str(), 0) == 0);
        }
        // Its session is over soon, or the exclusive one would not get in.
    }
    for (const std::string option : {"nonsense", "cache_size=lots", "timeout=soon", "compress=99",
                                     "idmap=/missing/file", "symlinks=sideways", "wait=x"}) {
        INFO(option);
        check_refused(mount_of(server, {option}), failure, option.substr(0, option.find('=')));
    }
}

TEST_CASE("options: ro, at the mount or at the server, refuses every change") {
    const std::string directory = export_with_secret();
    const auto check_read_only = [](const std::string& at) {
        CHECK(read_file(at + "/secret") == "the secret content");
        const auto refused = [](long result) { return result == -1 ? errno_name(errno) : "done"; };
        CHECK(refused(open((at + "/secret").c_str(), O_RDWR)) == "EROFS");
        CHECK(refused(open((at + "/new").c_str(), O_CREAT | O_WRONLY, 0644)) == "EROFS");
        CHECK(refused(mkdir((at + "/d").c_str(), 0755)) == "EROFS");
        CHECK(refused(unlink((at + "/secret").c_str())) == "EROFS");
        CHECK(refused(rmdir((at + "/sub").c_str())) == "EROFS");
        CHECK(refused(rename((at + "/secret").c_str(), (at + "/x").c_str())) == "EROFS");
        CHECK(refused(chmod((at + "/secret").c_str(), 0600)) == "EROFS");
        CHECK(refused(truncate((at + "/secret").c_str(), 0)) == "EROFS");
        CHECK(refused(symlink("x", (at + "/link").c_str())) == "EROFS");
        CHECK(refused(link((at + "/secret").c_str(), (at + "/link").c_str())) == "EROFS");
        CHECK(refused(access((at + "/secret").c_str(), W_OK)) == "EROFS");
    };
    {
        const ServerProcess server({.directory = directory});
        const MountProcess mount(mount_of(server, {"ro"}));
        check_read_only(mount.path());
    }
    const ServerProcess server({.directory = directory, .arguments = {"--read-only"}});
    const MountProcess mount(mount_of(server));
    check_read_only(mount.path());
}

TEST_CASE("options: symlinks=contain refuses links that lead out") {
    const std::string directory = export_with_secret();
    const auto make_link = [&directory](const char* target, const char* name) {
        REQUIRE(symlink(target, (directory + "/" + name).c_str()) == 0);
    };
    make_link("secret", "inside");
    make_link("../secret", "sub/up-inside");
    make_link("..", "out");
    make_link("/etc/passwd", "absolute");
    make_link("sub/../../x", "winding");
    make_link("sub/../secret", "winding-inside");
    const ServerProcess server({.directory = directory});
    const auto leads_to = [](const std::string& link) {
        char target[100] = {};
        return readlink(link.c_str(), target, sizeof(target) - 1) < 0 ? "refused" : std::string(target);
    };
    {
        const MountProcess keep(mount_of(server));
        CHECK(leads_to(keep.path() + "/absolute") == "/etc/passwd");
        CHECK(leads_to(keep.path() + "/out") == "..");
    }
    const MountProcess contain(mount_of(server, {"symlinks=contain"}));
    CHECK(leads_to(contain.path() + "/inside") == "secret");
    CHECK(leads_to(contain.path() + "/sub/up-inside") == "../secret");
    CHECK(leads_to(contain.path() + "/out") == "refused");
    CHECK(leads_to(contain.path() + "/absolute") == "refused");
    CHECK(leads_to(contain.path() + "/winding") == "refused");
    CHECK(access((contain.path() + "/absolute").c_str(), F_OK) == -1);
}

TEST_CASE("options: idmap decides whose files they seem") {
    if (geteuid() != 0)
        return;
    const std::string directory = export_with_secret();
    REQUIRE(chown((directory + "/secret").c_str(), 12'345, 12'345) == 0);
    const ServerProcess server({.directory = directory});
    const auto owner_at = [](const std::string& mounted) {
        struct stat attributes = {};
        REQUIRE(stat((mounted + "/secret").c_str(), &attributes) == 0);
        return attributes.st_uid;
    };
    const MountProcess none(mount_of(server, {"idmap=none"}));
    CHECK(owner_at(none.path()) == 12'345);
    const MountProcess by_default(mount_of(server));
    CHECK(owner_at(by_default.path()) == 12'345);
    const std::string map = new_directory("map") + "/idmap";
    write_file(map, "# SERVER LOCAL\nuid 12345 23456\n");
    const MountProcess mapped(mount_of(server, {"idmap=" + map}));
    CHECK(owner_at(mapped.path()) == 23'456);
    CHECK(chown((mapped.path() + "/secret").c_str(), 23'456, 1) == 0);
    CHECK(owner_at(directory) == 12'345);
}

TEST_CASE("encryption: nothing of names or content crosses the network in plain text, and one port is enough") {
    const std::string marker = "MARKER-that-must-not-be-seen-on-the-wire";
    const auto traffic = [&marker](std::vector<std::string> server_arguments, std::vector<std::string> mount_options) {
        ServerProcess server({.arguments = std::move(server_arguments)});
        TcpProxy proxy(server.ports());
        if (std::ranges::count(mount_options, "insecure") == 0)
            mount_options.push_back("server_key=" + public_key_of(server));
        MountProcess mount(
            {.source = proxy.address() + ":/", .config_dir = server.config_dir(), .options = mount_options});
        write_file(mount.path() + "/" + marker, marker + random_bytes(100'000, 1) + marker);
        CHECK(read_file(mount.path() + "/" + marker).size() == 100'000 + 2 * marker.size());
        CHECK(read_file(server.directory() + "/" + marker).size() == 100'000 + 2 * marker.size());
        CHECK(mount.unmount());
        CHECK(proxy.bytes() > 100'000);
        return proxy.captured();
    };
    CHECK(traffic({}, {}).find(marker) == std::string::npos);
    CHECK(traffic({"--data-port=none"}, {}).find(marker) == std::string::npos);
    // The test's own eyes are good: without encryption it finds the text.
    CHECK(traffic({"--insecure"}, {"insecure", "compress=off"}).find(marker) != std::string::npos);
}
