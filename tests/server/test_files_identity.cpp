// SPDX-License-Identifier: MIT
// Permissions: requests that act as somebody are compared with a process that is somebody. These tests need root.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <thread>

#include "base/unique_fd.hpp"
#include "catch.hpp"
#include "local_model.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;
using Kind = Change::Kind;

namespace {

constexpr uid_t alice = 61001;
constexpr uid_t bob = 61002;
constexpr gid_t staff = 62000;

bool is_root() {
    return geteuid() == 0;
}

const std::vector<Caller>& callers() {
    static const std::vector<Caller> all{
        as_user(alice, alice), as_user(bob, bob, {staff}), as_user(bob, staff), as_user(61003, 61003, {61000, 61004}),
        as_user(0, 0),
    };
    return all;
}

struct Owned {
    std::string name;
    mode_t mode;
    uid_t uid;
    gid_t gid;
};

const std::vector<Owned>& directories() {
    static const std::vector<Owned> all{
        {"open", 0777, 0, 0},           {"closed", 0700, 0, 0},           {"readable", 0755, 0, 0},
        {"sticky", 01777, 0, 0},        {"group", 02775, 0, staff},       {"alices", 0750, alice, staff},
        {"searchable", 0711, bob, bob}, {"listable", 0744, alice, alice},
    };
    return all;
}

const std::vector<Owned>& files() {
    static const std::vector<Owned> all{
        {"alices", 0644, alice, alice}, {"private", 0600, 0, 0},       {"groups", 0060, 0, staff},
        {"program", 0111, 0, 0},        {"setuid", 04777, bob, staff}, {"setgid", 02777, alice, staff},
    };
    return all;
}

void own(const std::string& path, const Owned& owned) {
    REQUIRE(chown(path.c_str(), owned.uid, owned.gid) == 0);
    REQUIRE(chmod(path.c_str(), owned.mode) == 0);
}

void build(const std::string& root) {
    for (const Owned& directory : directories()) {
        const std::string path = root + "/" + directory.name;
        mkdir(path.c_str(), 0700);
        for (const Owned& file : files()) {
            write_file(path + "/" + file.name, std::string(5000, 'x'));
            own(path + "/" + file.name, file);
        }
        own(path, directory);
    }
}

// Each of the changes in every directory and on every file, in an order in which most of them find the file there.
std::vector<Change> every_change() {
    std::vector<Change> changes;
    for (const Owned& directory : directories())
        for (const Owned& file : files()) {
            const std::string path = directory.name + "/" + file.name;
            const auto add = [&](Kind kind, std::uint32_t mode = 0644, const std::string& path2 = {}) {
                changes.push_back(
                    {.kind = kind, .path = path, .path2 = path2, .mode = mode, .offset = 100, .length = 10});
            };
            for (const std::uint32_t mask : {0U, 1U, 2U, 4U, 7U})
                add(Kind::access, mask);
            for (const Kind kind : {Kind::open_to_read, Kind::write, Kind::append, Kind::truncate, Kind::allocate,
                                    Kind::punch_hole, Kind::set_xattr, Kind::remove_xattr, Kind::set_times})
                add(kind);
            add(Kind::chmod, 04755);
            add(Kind::chmod, 02775);
            add(Kind::chown, alice);
            add(Kind::copy_range, 0, directory.name + "/alices");
            add(Kind::link, 0, directory.name + "/link");
            add(Kind::rename, 0, "open/moved");
            changes.push_back({.kind = Kind::rename, .path = "open/moved", .path2 = path});
            add(Kind::rename_whiteout, 0, "open/moved");
            changes.push_back({.kind = Kind::rename, .path = "open/moved", .path2 = path});
            for (const Kind kind : {Kind::create_exclusively, Kind::mkdir, Kind::symlink, Kind::mkfifo}) {
                const std::string made = directory.name + "/made";
                changes.push_back({.kind = kind, .path = made, .mode = 0666});
                changes.push_back({.kind = Kind::chmod, .path = made, .mode = 02755});
                changes.push_back({.kind = kind == Kind::mkdir ? Kind::rmdir : Kind::unlink, .path = made});
            }
            add(Kind::unlink);
            changes.push_back({.kind = Kind::unlink, .path = directory.name + "/link"});
        }
    return changes;
}

// The errnos that a process of that identity gets.
std::vector<int> locally(const std::string& root, const Caller& caller, const std::vector<Change>& changes) {
    const std::size_t bytes = changes.size() * sizeof(int);
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    auto* errors = static_cast<int*>(memory);
    in_child_as(caller, [&] {
        for (std::size_t i = 0; i < changes.size(); ++i)
            errors[i] = apply_locally(root, changes[i]);
        return 0;
    });
    std::vector<int> result(errors, errors + changes.size());
    munmap(memory, bytes);
    return result;
}

// A default ACL that gives alice everything and others nothing.
std::string default_acl() {
    struct [[gnu::packed]] Entry {
        std::uint16_t tag;
        std::uint16_t permissions;
        std::uint32_t id;
    };
    const std::array<Entry, 5> entries{
        {{0x01, 7, UINT32_MAX}, {0x02, 7, alice}, {0x04, 5, UINT32_MAX}, {0x10, 7, UINT32_MAX}, {0x20, 0, UINT32_MAX}}};
    std::string bytes("\x02\0\0\0", 4);
    return bytes.append(reinterpret_cast<const char*>(entries.data()), sizeof entries);
}

}  // namespace

TEST_CASE("callers may do what local processes of theirs may, and nothing else") {
    if (!is_root())
        return;
    const auto changes = every_change();
    std::size_t refused = 0;
    for (const Caller& caller : callers()) {
        INFO("uid " << caller.uid << ", gid " << caller.gid << ", groups " << caller.groups.size());
        Export exported;
        const TemporaryDirectory local;
        build(exported.directory.path());
        build(local.path());
        Session session(*exported.service, "/", false, caller);
        const auto expected = locally(local.path(), caller, changes);
        for (std::size_t i = 0; i < changes.size(); ++i) {
            INFO(to_string(changes[i]));
            const int error = apply_remotely(session, changes[i]);
            CHECK(error == expected[i]);
            refused += error == EACCES || error == EPERM ? 1 : 0;
        }
        CHECK(describe_locally(exported.directory.path()) == describe_locally(local.path()));
        // The thread is itself again.
        CHECK(syscall(SYS_geteuid) == 0);
        CHECK(syscall(SYS_getegid) == getegid());
    }
    CHECK(refused > 1000);
}

TEST_CASE("a listing shows a caller what they may see") {
    if (!is_root())
        return;
    Export exported;
    build(exported.directory.path());
    Session session(*exported.service, "/", false, as_user(bob, bob));
    const auto opendir = [&](const std::string& name) {
        return session.call(wire::Opendir{.node = session.lookup(Session::root, name), .handle = session.new_handle()})
            .status;
    };
    CHECK(opendir("open") == Status::ok);
    CHECK(opendir("closed") == Status::access_denied);
    CHECK(opendir("alices") == Status::access_denied);
    CHECK(opendir("searchable") == Status::ok);
    // Names without attributes where the directory may be read but not searched.
    for (const auto& entry : session.list(session.lookup(Session::root, "listable"), true))
        CHECK(entry.entry.node == NodeId{});
    CHECK(session.list(session.lookup(Session::root, "listable"), true).size() == files().size() + 2);
}

TEST_CASE("a program may be read to be executed by whoever may execute it") {
    if (!is_root())
        return;
    Export exported;
    build(exported.directory.path());
    Session session(*exported.service, "/", false, as_user(bob, bob));
    const auto open = [&](const std::string& path, std::uint32_t flags) {
        return session.call(wire::Open{.node = session.walk(path), .handle = session.new_handle(), .flags = flags})
            .status;
    };
    CHECK(open("open/program", wire::open_execute) == Status::ok);
    CHECK(open("open/program", wire::open_read) == Status::access_denied);
    CHECK(open("open/program", wire::open_read | wire::open_execute) == Status::access_denied);
    CHECK(open("open/private", wire::open_execute) == Status::access_denied);
    CHECK(open("open/alices", wire::open_execute) == Status::access_denied);
}

TEST_CASE("the right to execute a program is none to change it") {
    if (!is_root())
        return;
    Export exported;
    build(exported.directory.path());
    Session session(*exported.service, "/", false, as_user(bob, bob));
    for (const std::uint32_t more : {wire::open_truncate, wire::open_noatime}) {
        const wire::Open message{
            .node = session.walk("open/program"), .handle = session.new_handle(), .flags = wire::open_execute | more};
        CHECK(session.call(message).status == Status::invalid);
    }
    struct stat attributes {};
    REQUIRE(stat((exported.directory.path() + "/open/program").c_str(), &attributes) == 0);
    CHECK(attributes.st_size == 5000);
}

TEST_CASE("a request keeps or drops set-id bits as it says, whoever it acts as") {
    if (!is_root())
        return;
    Export exported;
    build(exported.directory.path());
    const std::string path = exported.directory.path() + "/open/setuid";
    Session session(*exported.service);
    const HandleId handle = session.open(session.walk("open/setuid"), wire::open_write);
    const auto mode_after = [&](Caller caller, wire::SetId set_id) {
        caller.set_id = set_id;
        REQUIRE(chmod(path.c_str(), 06777) == 0);
        REQUIRE(session.call_as(caller, wire::Write{.handle = handle}, Buffer::copy_of("x")).status == Status::ok);
        struct stat attributes {};
        REQUIRE(stat(path.c_str(), &attributes) == 0);
        return attributes.st_mode & 07777;
    };
    const Caller itself;
    const Caller root = as_user(0, 0);
    const Caller user = as_user(alice, alice);
    // Twice, for the thread has to be itself again in between.
    for (int i = 0; i < 2; ++i) {
        CHECK(mode_after(itself, wire::SetId::as_caller) == 06777);
        CHECK(mode_after(itself, wire::SetId::drop) == 0777);
        CHECK(mode_after(itself, wire::SetId::keep) == 06777);
        CHECK(mode_after(root, wire::SetId::as_caller) == 06777);
        CHECK(mode_after(root, wire::SetId::drop) == 0777);
        CHECK(mode_after(root, wire::SetId::keep) == 06777);
        CHECK(mode_after(user, wire::SetId::as_caller) == 0777);
        CHECK(mode_after(user, wire::SetId::drop) == 0777);
        CHECK(mode_after(user, wire::SetId::keep) == 06777);
    }
}

TEST_CASE("devices are made by whoever may") {
    if (!is_root())
        return;
    Export exported;
    chmod(exported.directory.path().c_str(), 0777);
    Session session(*exported.service);
    const auto make = [&](const Caller& caller, const std::string& name, mode_t mode) {
        return session.call_as(caller, wire::Mknod{.parent = Session::root,
                                                   .name = name,
                                                   .node = {session.new_node()},
                                                   .mode = static_cast<std::uint32_t>(mode),
                                                   .umask = 022,
                                                   .rdev_major = 1,
                                                   .rdev_minor = 3});
    };
    const auto made = make({}, "null", S_IFCHR | 0666);
    REQUIRE(made.status == Status::ok);
    CHECK(made.body.attributes.rdev_major == 1);
    CHECK(made.body.attributes.rdev_minor == 3);
    CHECK(made.body.attributes.mode == (S_IFCHR | 0644));
    CHECK(make(as_user(bob, bob), "other", S_IFCHR | 0666).status == Status::not_permitted);
    CHECK(make(as_user(bob, bob), "socket", S_IFSOCK | 0666).status == Status::ok);
    CHECK(make(as_user(bob, bob), "regular", S_IFREG | 0666).status == Status::ok);
    CHECK(make(as_user(bob, bob), "typeless", 0666).body.attributes.mode == (S_IFREG | 0644));
    CHECK(make({}, "directory", S_IFDIR | 0666).status == Status::not_permitted);
    CHECK(make({}, "symlink", S_IFLNK | 0666).status == Status::invalid);
}

TEST_CASE("a file belongs to whoever makes it") {
    if (!is_root())
        return;
    Export exported;
    chmod(exported.directory.path().c_str(), 0777);
    Session session(*exported.service, "/", false, as_user(alice, staff));
    const auto made = session.create(Session::root, "file", session.new_handle());
    CHECK(made.body.entry.attributes.uid == alice);
    CHECK(made.body.entry.attributes.gid == staff);
    // An identity that means "none" to the system calls is refused.
    session.caller = as_user(static_cast<uid_t>(-1), staff);
    CHECK(session.lookup(Session::root, "file") == NodeId{});
}

TEST_CASE("each request has its own umask, on every thread") {
    Export exported;
    Session session(*exported.service);
    std::vector<std::thread> threads;
    std::atomic<std::size_t> right = 0;
    for (unsigned number = 0; number < 4; ++number)
        threads.emplace_back([&, number] {
            const std::uint32_t umask = number * 011U;
            for (unsigned i = 0; i < 100; ++i) {
                const std::string name = std::to_string(number) + "-" + std::to_string(i);
                auto outcome =
                    exported.service->carry_out(session.files(), RequestId{1}, wire::Opcode::mkdir,
                                                wire::encode_body(wire::Mkdir{.parent = Session::root,
                                                                              .name = name,
                                                                              .node = {NodeId{1000 + number * 100 + i}},
                                                                              .mode = 0777,
                                                                              .umask = umask}),
                                                {}, {}, [](Outcome) {});
                const auto made = Session::take<wire::Mkdir>(std::move(*outcome));
                right += (made.body.attributes.mode & 0777) == (0777U & ~umask) ? 1 : 0;
            }
        });
    for (auto& thread : threads)
        thread.join();
    CHECK(right == 400);
}

TEST_CASE("a default ACL counts instead of the umask, and ACLs are extended attributes") {
    Export exported;
    Session session(*exported.service);
    const std::string acl = default_acl();
    const auto set =
        session.call(wire::Setxattr{.node = Session::root, .name = "system.posix_acl_default"}, Buffer::copy_of(acl));
    if (set.status == Status::not_supported)
        return;  // a file system without ACLs
    REQUIRE(set.status == Status::ok);
    const auto got =
        session.call(wire::Getxattr{.node = Session::root, .name = "system.posix_acl_default", .size = 1000});
    CHECK(got.bulk.text() == acl);
    CHECK(session.call(wire::Listxattr{.node = Session::root, .size = 1000})
              .bulk.text()
              .find("system.posix_acl_default") != std::string::npos);

    const HandleId handle = session.new_handle();
    const auto file = session.create(Session::root, "file", handle, wire::open_write, 0666, 077);
    CHECK((file.body.entry.attributes.mode & 0777) == 0660);
    const auto directory = session.call(wire::Mkdir{
        .parent = Session::root, .name = "directory", .node = {session.new_node()}, .mode = 0777, .umask = 077});
    CHECK((directory.body.attributes.mode & 0777) == 0770);
    const auto fifo = session.call(wire::Mknod{
        .parent = Session::root, .name = "fifo", .node = {session.new_node()}, .mode = S_IFIFO | 0666, .umask = 077});
    CHECK((fifo.body.attributes.mode & 0777) == 0660);
    if (is_root()) {
        CHECK(session.call_as(as_user(alice, alice), wire::Open{.node = file.body.entry.node,
                                                                .handle = session.new_handle(),
                                                                .flags = wire::open_read | wire::open_write}));
        CHECK(session
                  .call_as(as_user(bob, bob),
                           wire::Open{
                               .node = file.body.entry.node, .handle = session.new_handle(), .flags = wire::open_read})
                  .status == Status::access_denied);
    }
    CHECK(session.call(wire::Removexattr{.node = Session::root, .name = "system.posix_acl_default"}));
    const auto after = session.create(Session::root, "after", session.new_handle(), wire::open_write, 0666, 077);
    CHECK((after.body.entry.attributes.mode & 0777) == 0600);
}

TEST_CASE("where threads cannot have a umask of their own, the rule is followed without") {
    // In a process of its own, since a barred system call stays barred.
    const int wrong = in_child_as({}, [] {
        const std::array<sock_filter, 4> filter{{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                                                 BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_unshare, 0, 1),
                                                 BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                                                 BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}};
        const sock_fprog program{.len = filter.size(), .filter = const_cast<sock_filter*>(filter.data())};
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
            return 0;  // cannot be tried here
        Export exported;
        Session session(*exported.service);
        const auto mode = [&](const std::string& name) {
            return session
                       .call(wire::Mkdir{.parent = Session::root,
                                         .name = name,
                                         .node = {session.new_node()},
                                         .mode = 0777,
                                         .umask = 027})
                       .body.attributes.mode &
                   0777;
        };
        if (mode("masked") != 0750)
            return 1;
        const auto set = session.call(wire::Setxattr{.node = Session::root, .name = "system.posix_acl_default"},
                                      Buffer::copy_of(default_acl()));
        return set && mode("by ACL") != 0770 ? 2 : 0;
    });
    CHECK(wrong == 0);
}

TEST_CASE("extended attributes of the namespaces") {
    Export exported;
    Session session(*exported.service);
    const NodeId file = session.create(Session::root, "file", session.new_handle()).body.entry.node;
    const std::string path = exported.directory / "file";
    const auto set = [&](const std::string& name, std::string_view value, std::uint32_t flags = 0) {
        return session.call(wire::Setxattr{.node = file, .name = name, .flags = flags}, Buffer::copy_of(value)).status;
    };
    const auto get = [&](const std::string& name, std::uint32_t size) {
        return session.call(wire::Getxattr{.node = file, .name = name, .size = size});
    };
    CHECK(set("user.x", "value") == Status::ok);
    CHECK(get("user.x", 0).body.size == 5);
    CHECK(get("user.x", 5).bulk.text() == "value");
    CHECK(get("user.x", 4).status == Status::out_of_range);
    CHECK(get("user.y", 4).status == Status::no_data);
    CHECK(set("user.x", "", wire::xattr_create) == Status::exists);
    CHECK(set("user.y", "", wire::xattr_replace) == Status::no_data);
    CHECK(set("user.empty", "") == Status::ok);
    CHECK(get("user.empty", 0).body.size == 0);
    CHECK(set("", "x") == Status::out_of_range);
    CHECK(set(std::string("user.\0x", 7), "x") == Status::invalid);
    CHECK(set("user." + std::string(251, 'x'), "x") == Status::out_of_range);
    CHECK(set("nonsense", "x") == Status::not_supported);
    CHECK(set("security.selinux", "x") == Status::not_supported);
    CHECK(get("security.selinux", 100).status == Status::not_supported);
    if (is_root()) {
        CHECK(set("trusted.x", "hidden") == Status::ok);
        CHECK(get("trusted.x", 100).bulk.text() == "hidden");
        CHECK(session.call_as(as_user(alice, alice), wire::Getxattr{.node = file, .name = "trusted.x", .size = 100})
                  .status == Status::no_data);
        // The server's own label stays out of sight.
        REQUIRE(setxattr(path.c_str(), "security.remofile-test", "x", 1, 0) == 0);
        const auto list = session.call(wire::Listxattr{.node = file, .size = 1000});
        CHECK(list.bulk.text().find("security.") == std::string::npos);
        CHECK(list.bulk.text().find("trusted.x") != std::string::npos);
        const auto size = session.call(wire::Listxattr{.node = file}).body.size;
        CHECK(size == list.bulk.size());
        CHECK(session.call(wire::Listxattr{.node = file, .size = size}));
        CHECK(session.call(wire::Listxattr{.node = file, .size = size - 1}).status == Status::out_of_range);
    }
    CHECK(session.call(wire::Removexattr{.node = file, .name = "user.x"}));
    CHECK(session.call(wire::Removexattr{.node = file, .name = "user.x"}).status == Status::no_data);
}

TEST_CASE("a read-only session changes nothing") {
    const bool whole_export = GENERATE(false, true);
    ExportOptions options;
    options.read_only = whole_export;
    Export exported(std::move(options));
    write_file(exported.directory / "file", "content");
    const std::string before = describe_locally(exported.directory.path());
    Session session(*exported.service, "/", !whole_export);
    const NodeId file = session.lookup(Session::root, "file");
    const HandleId handle = session.open(file, wire::open_read);
    REQUIRE(handle);
    CHECK(session.read(handle, 0, 100) == "content");
    CHECK(session.list(Session::root, true).size() == 3);
    for (const Kind kind :
         {Kind::write, Kind::append, Kind::truncate, Kind::mkdir, Kind::rmdir, Kind::unlink, Kind::rename, Kind::link,
          Kind::symlink, Kind::mkfifo, Kind::chmod, Kind::chown, Kind::set_times, Kind::set_xattr, Kind::remove_xattr,
          Kind::allocate, Kind::create_truncated})
        CHECK(apply_remotely(session, {.kind = kind, .path = "file", .path2 = "other", .mode = 0600}) == EROFS);
    CHECK(apply_remotely(session, {.kind = Kind::create, .path = "new", .mode = 0600}) == EROFS);
    CHECK(apply_remotely(session, {.kind = Kind::access, .path = "file", .mode = 2}) == EROFS);
    CHECK(apply_remotely(session, {.kind = Kind::access, .path = "file", .mode = 4}) == 0);
    CHECK(session.call(wire::Write{.handle = handle}, Buffer::copy_of("x")).status == Status::read_only);
    // Opening what is there with O_CREAT is no change.
    const auto opened = session.create(Session::root, "file", session.new_handle(), wire::open_read);
    CHECK(opened.status == Status::ok);
    CHECK_FALSE(opened.body.created);
    CHECK(describe_locally(exported.directory.path()) == before);
}
