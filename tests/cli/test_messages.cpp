// SPDX-License-Identifier: MIT
// What remofile says about servers, their other clients, and files of keys: the right thing, and only where it matters.
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch.hpp>
#include <csignal>

#include "harness/mount_process.hpp"
#include "harness/patience.hpp"
#include "harness/scratch.hpp"
#include "local_tree.hpp"
#include "waiting_command.hpp"

namespace remofile::test {
namespace {

Ended mount(const ServerProcess& server, std::vector<std::string> options = {}) {
    return run(remofs_command({.source = source_of(server, "/"),
                               .config_dir = server.config_dir(),
                               .options = std::move(options),
                               .mountpoint = Scratch::instance().make_directory("mount"),
                               .foreground = false}));
}

std::string first_line(const std::string& file) {
    const std::string text = read_file(file);
    return text.substr(0, text.find('\n'));
}

}  // namespace

TEST_CASE("who else uses a server is said by transfers, of others, unless they are to be quiet") {
    if (::geteuid() != 0)
        return;
    const ServerProcess server;
    const std::string file = Scratch::instance().make_directory("here") + "/f";
    write_file(file, "content");
    const auto says = [&](const std::vector<std::string>& arguments) { return succeeds(server, arguments).errors; };
    // Another user of this machine, whose key is let in.
    const std::string theirs = Scratch::instance().make_directory("theirs");
    REQUIRE(::chown(theirs.c_str(), 20'001, 20'001) == 0);
    Command make_keys{.arguments = {program_from_environment("REMOFILE"), "generate-keys"},
                      .environment = {{"REMOFILE_CONFIG_DIR", theirs}},
                      .as = Credentials{.uid = 20'001, .gid = 20'001}};
    REQUIRE(run(make_keys).exit_status == 0);
    fs::copy_file(theirs + "/identity.pub", server.config_dir() + "/authorized_keys");
    fs::copy_file(server.config_dir() + "/server.pub", theirs + "/server.pub");
    REQUIRE(::chmod(server.directory().c_str(), 0777) == 0);

    {
        WaitingCommand own(server);
        CHECK(says({"put", file, source_of(server, "/")}).empty());
    }
    fs::remove(server.directory() + "/waiting");
    WaitingCommand stranger(server, Credentials{.uid = 20'001, .gid = 20'001}, theirs);
    CHECK_THAT(says({"put", file, source_of(server, "/")}),
               ContainsSubstring("also in use by 20001@") && ContainsSubstring("(127.0.0.1) since 20"));
    CHECK_THAT(says({"get", source_of(server, "/f"), file}), ContainsSubstring("also in use by 20001@"));
    CHECK(says({"put", "-q", file, source_of(server, "/")}).empty());
    CHECK(says({"ls", source_of(server, "/")}).empty());
    CHECK(says({"ping", source_of(server, "/")}).empty());
}

TEST_CASE("a server that is held is waited for by the option that there is") {
    const ServerProcess server(ServerProcess::Options{.arguments = {"--exclusive"}});
    WaitingCommand holder(server);
    const Ended refused = remofile(server, {"ls", source_of(server, "/")});
    INFO(refused.to_string());
    CHECK(refused.exit_status == 6);
    CHECK_THAT(refused.errors, ContainsSubstring("in use by") && ContainsSubstring("; --wait waits"));
    const Ended mounted = mount(server);
    INFO(mounted.to_string());
    CHECK(mounted.exit_status == 6);
    CHECK_THAT(mounted.errors, ContainsSubstring("; -o wait waits"));
    CHECK(remofile(server, {"ls", "--wait=1", source_of(server, "/")}).exit_status == 6);

    Child waiting = Child::start(remofile_command(server, {"ls", "--wait", source_of(server, "/")}));
    holder.child().signal(SIGTERM);
    const Ended served = waiting.wait(Milliseconds{20'000});
    INFO(served.to_string());
    CHECK(served.exit_status == 0);
}

TEST_CASE("a token that is asked for is given by the option that there is") {
    const std::string token = Scratch::instance().make_directory("token") + "/token";
    write_file(token, "0123456789abcdef\n");
    REQUIRE(::chmod(token.c_str(), 0600) == 0);
    const ServerProcess server(ServerProcess::Options{.arguments = {"--token-file", token}});
    const Ended refused = remofile(server, {"ls", source_of(server, "/")});
    INFO(refused.to_string());
    CHECK(refused.exit_status == 5);
    CHECK_THAT(refused.errors, ContainsSubstring("asks for a token; pass its file with --token-file="));
    const Ended mounted = mount(server);
    INFO(mounted.to_string());
    CHECK(mounted.exit_status == 5);
    CHECK_THAT(mounted.errors, ContainsSubstring("asks for a token; pass its file with -o token_file="));
    succeeds(server, {"ls", "--token-file=" + token, source_of(server, "/")});
}

TEST_CASE("one wrong line of a key file does not count for the others") {
    const ServerProcess server;
    const std::string config = Scratch::instance().make_directory("client");
    const auto client = [&](const std::vector<std::string>& arguments) {
        Command command = remofile_command(server, arguments);
        command.environment = {{"REMOFILE_CONFIG_DIR", config}};
        const Ended ended = run(command);
        INFO(ended.to_string());
        CHECK(ended.exit_status == 0);
        return ended.errors;
    };
    client({"generate-keys"});
    write_file(server.config_dir() + "/authorized_keys",
               "# clients\nno key at all\n" + first_line(config + "/identity.pub") + " the one that is meant\n");
    write_file(config + "/known_servers", "other.example:6768 no-key\n" + server.address() + " " +
                                              first_line(server.config_dir() + "/server.pub") + "\n");
    const std::string said = client({"ls", source_of(server, "/")});
    CHECK_THAT(said, ContainsSubstring("known_servers, line 1") && ContainsSubstring("left out"));
    CHECK_THAT(server.errors(), ContainsSubstring("authorized_keys, line 2") && ContainsSubstring("left out"));
}

TEST_CASE("a key that was lost is not replaced in silence") {
    const ServerProcess server;
    CHECK(succeeds(server, {"ls", source_of(server, "/")}).errors.empty());
    fs::remove(server.config_dir() + "/identity.key");
    const Ended again = remofile(server, {"ls", source_of(server, "/")});
    INFO(again.to_string());
    CHECK_THAT(again.errors, ContainsSubstring("identity.key was not there"));
}

TEST_CASE("a directory that was removed while it is served is said to be gone") {
    const ServerProcess server;
    MountProcess earlier(
        MountProcess::Options{.source = source_of(server, "/"), .config_dir = server.config_dir(), .options = {}});
    fs::remove(server.directory());
    const Ended listed = run({.arguments = {"ls", earlier.path()}});
    INFO(listed.to_string());
    CHECK(listed.exit_status == 2);
    CHECK_THAT(listed.errors, ContainsSubstring("Stale file handle"));
    const std::string file = Scratch::instance().make_directory("here") + "/f";
    write_file(file, "content");
    for (const std::vector<std::string>& arguments :
         {std::vector<std::string>{"ls", source_of(server, "/")}, {"put", file, source_of(server, "/")}}) {
        const Ended ended = remofile(server, arguments);
        INFO(ended.to_string());
        CHECK(ended.exit_status == 1);
        CHECK_THAT(ended.errors, ContainsSubstring("the directory that the server serves has been removed"));
    }
    const Ended mounted = mount(server);
    INFO(mounted.to_string());
    CHECK(mounted.exit_status == 1);
    CHECK_THAT(mounted.errors, ContainsSubstring("has been removed"));
}

TEST_CASE("the port for data is told from a server with another key") {
    const ServerProcess server;
    if (server.ports().size() < 2)
        return;
    const Ended ended = remofile(server, {"ls", fmt::format("127.0.0.1:{}:/", server.ports()[1])});
    INFO(ended.to_string());
    CHECK(ended.exit_status == 3);
    CHECK_THAT(ended.errors, ContainsSubstring("second port"));
}

TEST_CASE("keys are the account's, whatever HOME says") {
    if (::geteuid() != 0)
        return;
    // mount.fuse3 sets HOME to root's where a user mounts by a line of fstab.
    const Ended ended = run({.arguments = {program_from_environment("REMOFILE"), "ls", "192.0.2.1:/"},
                             .environment = {{"HOME", "/root"}, {"REMOFILE_CONFIG_DIR", ""}, {"XDG_CONFIG_HOME", ""}},
                             .as = Credentials{.uid = 65'534, .gid = 65'534}});
    INFO(ended.to_string());
    CHECK_THAT(ended.errors, ContainsSubstring("/nonexistent/.config/remofile/known_servers"));
}

TEST_CASE("the bar fits into a narrow terminal") {
    constexpr unsigned short columns = 40;
    const ServerProcess server;
    const std::string file = Scratch::instance().make_directory("here") + "/f";
    // What takes a while to compress.
    std::string text;
    while (text.size() < 24 * mebibyte)
        text += fmt::format("a line of text, number {}, and {} more\n", text.size(), text.size() % 977);
    write_file(file, text);
    winsize size{};
    size.ws_col = columns;
    size.ws_row = 24;
    int terminal = -1;
    const Command command = remofile_command(server, {"put", "--compress-level=12", file, source_of(server, "/")});
    const pid_t child = ::forkpty(&terminal, nullptr, nullptr, &size);
    REQUIRE(child >= 0);
    if (child == 0) {
        Scratch::instance().let_go_in_child();
        ::setenv("REMOFILE_CONFIG_DIR", server.config_dir().c_str(), 1);
        ::execl(command.arguments[0].c_str(), "remofile", command.arguments[1].c_str(), command.arguments[2].c_str(),
                command.arguments[3].c_str(), command.arguments[4].c_str(), nullptr);
        ::_exit(127);
    }
    std::string shown;
    char piece[4096];
    for (ssize_t read = 0; (read = ::read(terminal, piece, sizeof(piece))) > 0;)
        shown.append(piece, static_cast<std::size_t>(read));
    ::close(terminal);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WEXITSTATUS(status) == 0);
    int bars = 0;
    for (std::size_t at = shown.find("\r["); at != shown.npos; at = shown.find("\r[", at + 1)) {
        const std::size_t end = shown.find("\x1b[K", at);
        REQUIRE(end != shown.npos);
        CHECK(end - at - 1 < columns);
        ++bars;
    }
    CHECK(bars > 0);
}

}  // namespace remofile::test
