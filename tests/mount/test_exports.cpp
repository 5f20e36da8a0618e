// SPDX-License-Identifier: MIT
// Several exports of one server, mounted: what a key may, that they are apart, and what SIGHUP changes under open
// files.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <stdexcept>

#include "base/unique_fd.hpp"
#include "catch.hpp"
#include "harness/http_get.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/transcript.hpp"

using namespace remofile;
using namespace remofile::test;
using Catch::Matchers::Contains;

namespace {

// In a forked process, which has no test to fail.
void must(bool succeeds, const std::string& what) {
    if (!succeeds)
        throw std::runtime_error(what + ": " + std::strerror(errno));
}

// A client of another account: its keys, and the server's.
struct Account {
    std::string config = Scratch::instance().make_directory("account");
    std::string key;

    explicit Account(const std::string& server_config) {
        const Ended made = run({.arguments = {program_from_environment("REMOFILE"), "generate-keys"},
                                .environment = {{"REMOFILE_CONFIG_DIR", config}}});
        INFO(made.to_string());
        REQUIRE(made.exit_status == 0);
        key = read_file(config + "/identity.pub");
        key.pop_back();
        write_file(config + "/server.pub", read_file(server_config + "/server.pub"));
    }
};

struct World {
    std::string config_dir = Scratch::instance().make_directory("config");
    std::string media = Scratch::instance().make_directory("media");
    std::string home = Scratch::instance().make_directory("home");
    std::string file = config_dir + "/server.toml";
    std::optional<ServerProcess> server;

    std::string table(const std::string& name, const std::string& directory, const std::string& more = {}) const {
        return "[export." + name + "]\ndirectory = \"" + directory + "\"\n" + more;
    }
    void start(const std::string& text) {
        write_file(file, text);
        server.emplace(ServerProcess::Options{.config_dir = config_dir, .config_file = file});
    }
    MountProcess mount(const std::string& path, const std::string& config = {}) const {
        return MountProcess(
            {.source = source_of(server->port(), path), .config_dir = config.empty() ? config_dir : config});
    }
    std::string refusal(const std::string& path, const std::string& config = {}) const {
        const MountProcess::Options options{.source = source_of(server->port(), path),
                                            .config_dir = config.empty() ? config_dir : config,
                                            .mountpoint = Scratch::instance().make_directory("refused")};
        const Ended ended = run(remofs_command(options));
        INFO(ended.to_string());
        REQUIRE(ended.exit_status > 0);
        return ended.errors;
    }
    bool says(const std::string& text) const {
        return eventually(Milliseconds{10'000}, [&] { return server->errors().find(text) != std::string::npos; });
    }
    // Until the server has read its file again so often.
    void reload(const std::string& text) {
        write_file(file, text);
        const auto said = [&] {
            const std::string log = server->errors();
            std::size_t count = 0;
            for (auto at = log.find("the configuration "); at != std::string::npos;
                 at = log.find("the configuration ", at + 1))
                ++count;
            return count;
        };
        const std::size_t before = said();
        ::kill(server->pid(), SIGHUP);
        REQUIRE(eventually(Milliseconds{10'000}, [&] { return said() > before; }));
    }
};

}  // namespace

TEST_CASE("two exports of one server are two mounts that have nothing to do with each other") {
    World world;
    world.start("metrics = \"0\"\n" + world.table("media", world.media, "read-only = true\n") +
                world.table("home", world.home));
    write_file(world.media + "/film", "moving pictures");
    REQUIRE(::mkdir((world.home + "/deep").c_str(), 0755) == 0);
    const MountProcess media = world.mount("/media");
    const MountProcess home = world.mount("/home");
    const MountProcess deep = world.mount("/home/deep");

    CHECK(read_file(media.path() + "/film") == "moving pictures");
    CHECK(::open((media.path() + "/new").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644) < 0);
    CHECK(errno == EROFS);
    write_file(home.path() + "/deep/letter", "dear you");
    carried_out(home.path());
    CHECK(read_file(deep.path() + "/letter") == "dear you");
    CHECK(read_file(world.home + "/deep/letter") == "dear you");
    CHECK(::access((home.path() + "/film").c_str(), F_OK) != 0);
    CHECK(::access((media.path() + "/deep").c_str(), F_OK) != 0);
    CHECK(::access((home.path() + "/../media").c_str(), F_OK) != 0);

    CHECK_THAT(world.refusal("/"), Contains("several exports") && Contains("it has home, media"));
    CHECK_THAT(world.refusal("/nowhere"), Contains("no directory /nowhere"));

    const Ended status =
        run({.arguments = {program_from_environment("REMOFILE"), "status", source_of(world.server->port(), "/media")},
             .environment = {{"REMOFILE_CONFIG_DIR", world.config_dir}}});
    INFO(status.to_string());
    CHECK(status.exit_status == 0);
    CHECK_THAT(status.output, Contains("; export media") && Contains("; export home") && Contains("4 clients"));

    const std::string log = world.server->errors();
    const auto at = log.find("metrics at ") + std::strlen("metrics at ");
    const std::string metrics = http_get(log.substr(at, log.find('\n', at) - at));
    CHECK_THAT(metrics, Contains("remofile_server_sessions{export=\"home\"} 2\n") &&
                            Contains("remofile_server_sessions{export=\"media\"} 1\n") &&
                            Contains("remofile_server_operations_total{export=\"home\",opcode=\"") &&
                            Contains("remofile_server_request_duration_seconds_count{export=\"media\",opcode=\""));
}

TEST_CASE("a key is bound to an export, and may be let read alone") {
    World world;
    world.start(world.table("media", world.media) + world.table("home", world.home));
    const Account bound(world.config_dir);
    const Account reader(world.config_dir);
    const Account guest(world.config_dir);
    const std::string guests = world.config_dir + "/guests";
    write_file(world.config_dir + "/authorized_keys",
               "export=\"media\" " + bound.key + " bound\nread-only,export=\"home,media\" " + reader.key + " reader\n");
    write_file(guests, guest.key + " guest\n");

    const MountProcess media = world.mount("/media", bound.config);
    write_file(media.path() + "/a", "from bound");
    carried_out(media.path());
    CHECK(read_file(world.media + "/a") == "from bound");
    const auto about = [](std::string text, const std::string& name) {
        for (auto at = text.find(name); at != std::string::npos; at = text.find(name))
            text.replace(at, name.size(), "NAME");
        return text.substr(text.find("remofs"));
    };
    const std::string refused = world.refusal("/home", bound.config);
    CHECK_THAT(refused, Contains("no directory /home"));
    CHECK(about(refused, "home") == about(world.refusal("/else", bound.config), "else"));
    CHECK_THAT(world.refusal("/", bound.config), Contains("it has media") && !Contains("home"));

    const MountProcess home = world.mount("/home", reader.config);
    CHECK(::mkdir((home.path() + "/x").c_str(), 0755) != 0);
    CHECK(errno == EROFS);

    // A file of its own, in the place of the usual one.
    world.reload(world.table("media", world.media) +
                 world.table("home", world.home, "authorized-keys = \"" + guests + "\"\n"));
    CHECK(world.mount("/home", guest.config).alive());
    CHECK_THAT(world.refusal("/media", guest.config), Contains("no directory /media"));
    CHECK_THAT(world.refusal("/home", reader.config), Contains("no directory /home"));
    CHECK(home.alive());
}

TEST_CASE("a key acts as the user that its line names") {
    if (::geteuid() != 0)
        return;
    constexpr uid_t alice = 61'001;
    World world;
    world.start(world.table("media", world.media));
    const ::Account bound(world.config_dir);
    write_file(world.config_dir + "/authorized_keys", "identity=\"61001:61001\" " + bound.key + " alice\n");
    const std::string closed = world.media + "/closed";
    const std::string own = world.media + "/own";
    for (const std::string& directory : {closed, closed + "/in", own})
        REQUIRE(::mkdir(directory.c_str(), 0755) == 0);
    REQUIRE(::chmod(closed.c_str(), 0700) == 0);
    REQUIRE(::chown(own.c_str(), alice, alice) == 0);
    write_file(world.media + "/root's", "secret");
    REQUIRE(::chmod((world.media + "/root's").c_str(), 0600) == 0);
    {
        const MountProcess mounted = world.mount("/media", bound.config);
        // By root of the client's machine.
        write_file(mounted.path() + "/own/made", "content");
        carried_out(mounted.path() + "/own");
        struct stat made {};
        REQUIRE(::stat((own + "/made").c_str(), &made) == 0);
        CHECK(made.st_uid == alice);
        CHECK(made.st_gid == alice);
        CHECK(read_file(mounted.path() + "/own/made") == "content");
        const auto fails = [](int outcome) { return outcome < 0 && errno == EACCES; };
        CHECK(fails(::open((mounted.path() + "/root's").c_str(), O_RDONLY | O_CLOEXEC)));
        CHECK(fails(::mkdir((mounted.path() + "/x").c_str(), 0755)));
        CHECK(fails(::access((mounted.path() + "/closed/in").c_str(), F_OK)));
        CHECK(::chown((mounted.path() + "/own/made").c_str(), 0, 0) != 0);
    }
    // Nor does a mount begin where the user could not go.
    CHECK_THAT(world.refusal("/media/closed/in", bound.config), Contains("may not read"));
    // The server's own client is the server's user, as ever.
    const MountProcess by_root = world.mount("/media");
    CHECK(read_file(by_root.path() + "/root's") == "secret");
}

TEST_CASE("SIGHUP adds, changes and removes exports while files are open") {
    World world;
    const std::string third = Scratch::instance().make_directory("third");
    const std::string media = world.table("media", world.media);
    const std::string home = world.table("home", world.home);
    world.start(media + home);
    const MountProcess at_home = world.mount("/home");
    const UniqueFd file(::open((at_home.path() + "/open").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    REQUIRE(file);
    REQUIRE(::flock(file.get(), LOCK_EX) == 0);
    REQUIRE(::write(file.get(), "one ", 4) == 4);

    world.reload(media + home + world.table("third", third));
    CHECK_THAT(world.server->errors(), Contains("the configuration has been read again"));
    const MountProcess at_third = world.mount("/third");
    write_file(at_third.path() + "/new", "in the third");
    carried_out(at_third.path());
    CHECK(read_file(third + "/new") == "in the third");
    REQUIRE(::write(file.get(), "two ", 4) == 4);

    SECTION("a file that is wrong changes nothing") {
        for (const std::string& wrong :
             {media + home + "[export.home]\n", media + world.table("in", world.media + "/nowhere"),
              media + home + world.table("again", world.home), media + "nonsense = 1\n", std::string("[export"),
              media + home + world.table("x", third, "token-file = \"/nowhere\"\n")}) {
            CAPTURE(wrong);
            world.reload(wrong);
            CHECK(world.mount("/third").alive());
        }
        CHECK_THAT(world.server->errors(), Contains("the configuration stays as it was: " + world.file + ":"));
    }
    SECTION("an export that becomes read-only is so for whoever comes") {
        world.reload(media + world.table("home", world.home, "read-only = true\n"));
        const MountProcess later = world.mount("/home");
        CHECK(::open((later.path() + "/no").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644) < 0);
        CHECK(errno == EROFS);
        write_file(at_home.path() + "/yes", "still");
    }
    SECTION("an export that is removed goes on for whoever is there") {
        world.reload(media);
        CHECK(world.says("export home: no longer served"));
        CHECK_THAT(world.refusal("/home"), Contains("no directory /home"));
        // Not even with another name while they are there: its locks would be unknown to them.
        world.reload(media + world.table("other", world.home));
        CHECK(world.says("lie one in the other"));
        REQUIRE(::write(file.get(), "three", 5) == 5);
        REQUIRE(::fsync(file.get()) == 0);
        CHECK(read_file(world.home + "/open") == "one two three");
        // Back again: it is the same, with its locks.
        world.reload(media + home);
        const MountProcess later = world.mount("/home");
        const UniqueFd other(::open((later.path() + "/open").c_str(), O_RDONLY | O_CLOEXEC));
        REQUIRE(other);
        CHECK(::flock(other.get(), LOCK_EX | LOCK_NB) != 0);
        CHECK(errno == EWOULDBLOCK);
    }
    SECTION("a name may get another directory") {
        const std::string fourth = Scratch::instance().make_directory("fourth");
        write_file(fourth + "/new", "in the fourth");
        world.reload(media + world.table("home", fourth));
        const MountProcess later = world.mount("/home");
        CHECK(read_file(later.path() + "/new") == "in the fourth");
        REQUIRE(::write(file.get(), "three", 5) == 5);
        REQUIRE(::fsync(file.get()) == 0);
        CHECK(read_file(world.home + "/open") == "one two three");
    }
    REQUIRE(::fsync(file.get()) == 0);
    CHECK_THAT(read_file(world.home + "/open"), Catch::Matchers::StartsWith("one two "));
}

TEST_CASE("an export that was read-only may be written to after SIGHUP, by whoever comes") {
    World world;
    world.start(world.table("media", world.media, "read-only = true\n"));
    const MountProcess before = world.mount("/media");
    world.reload(world.table("media", world.media));
    const MountProcess after = world.mount("/media");
    write_file(after.path() + "/new", "written");
    carried_out(after.path());
    CHECK(read_file(world.media + "/new") == "written");
    CHECK(::mkdir((before.path() + "/x").c_str(), 0755) != 0);
    CHECK(errno == EROFS);
    CHECK(read_file(before.path() + "/new") == "written");
}

TEST_CASE("mounts of exports go on when their server is killed and started again") {
    World world;
    world.start(world.table("media", world.media) + world.table("home", world.home));
    const MountProcess media = world.mount("/media");
    const MountProcess home = world.mount("/home");
    const std::string signs = Scratch::instance().make_directory("signs");
    // In another process than the one that starts the server: that closes what it has open of the mounts.
    Child writer = Child::fork([&] {
        const UniqueFd one(::open((media.path() + "/f").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
        const UniqueFd two(::open((home.path() + "/f").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
        must(::write(one.get(), "media", 5) == 5 && ::write(two.get(), "home", 4) == 4, "writing");
        write_file(signs + "/ready", "");
        must(eventually(Milliseconds{60'000}, [&] { return ::access((signs + "/go").c_str(), F_OK) == 0; }), "waiting");
        must(::write(one.get(), "+", 1) == 1 && ::write(two.get(), "+", 1) == 1, "writing again");
        must(::fsync(one.get()) == 0 && ::fsync(two.get()) == 0, "fsync");
        return 0;
    });
    REQUIRE(eventually(Milliseconds{20'000}, [&] { return ::access((signs + "/ready").c_str(), F_OK) == 0; }));
    world.server->kill();
    world.server->start_again();
    write_file(signs + "/go", "");
    const Ended ended = writer.wait(Milliseconds{60'000});
    INFO(ended.to_string());
    CHECK(ended.exit_status == 0);
    CHECK(read_file(world.media + "/f") == "media+");
    CHECK(read_file(world.home + "/f") == "home+");
}
