// SPDX-License-Identifier: MIT
// remofile-server as a program: how it starts, what it says, how it ends.
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <catch.hpp>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/unique_fd.hpp"
#include "harness/child.hpp"
#include "harness/patience.hpp"
#include "harness/scratch.hpp"
#include "harness/server_process.hpp"
#include "transport/message_cipher.hpp"

using namespace remofile;
using namespace remofile::test;

namespace {

struct Place {
    std::string directory = Scratch::instance().make_directory("export");
    std::string config = Scratch::instance().make_directory("config");
    std::string other = Scratch::instance().make_directory("other");

    Command command(std::vector<std::string> arguments) const {
        Command command;
        command.arguments = {program_from_environment("REMOFILE_SERVER")};
        command.arguments.insert(command.arguments.end(), arguments.begin(), arguments.end());
        command.environment = {{"REMOFILE_CONFIG_DIR", config}};
        return command;
    }
    Ended run(std::vector<std::string> arguments) const { return test::run(command(std::move(arguments))); }
};

std::string content_of(const std::string& file) {
    std::ifstream stream(file);
    return {std::istreambuf_iterator<char>(stream), {}};
}

// A daemon that a test started; killed at the end if it is still there.
struct Daemon {
    std::string pid_file;
    pid_t pid = 0;

    explicit Daemon(std::string file) : pid_file(std::move(file)), pid(std::atoi(content_of(pid_file).c_str())) {}
    ~Daemon() {
        if (alive())
            ::kill(pid, SIGKILL);
    }
    // A zombie is not alive: who adopts it may not collect it. But its first thread is one before the others have let
    // go of the files.
    bool alive() const {
        if (pid <= 0 || ::kill(pid, 0) != 0)
            return false;
        const std::string process = "/proc/" + std::to_string(pid);
        std::error_code gone;
        const std::filesystem::directory_iterator threads(process + "/task", gone);
        return !gone && (content_of(process + "/stat").find(") Z ") == std::string::npos ||
                         std::distance(begin(threads), end(threads)) > 1);
    }
};

}  // namespace

TEST_CASE("a server makes its keys on first use, listens, and stops cleanly") {
    ServerProcess server;
    struct stat status {};
    REQUIRE(::stat((server.config_dir() + "/server.key").c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0600);
    CHECK(content_of(server.config_dir() + "/server.pub").size() == 41);

    ::kill(server.pid(), SIGUSR1);  // no counters yet, but it lives
    ::kill(server.pid(), SIGHUP);
    CHECK(eventually(Milliseconds{10'000}, [&] {
        return server.errors().find("the configuration has been read again") != std::string::npos;
    }));
    const Ended ended = server.stop();
    INFO(ended.to_string());
    CHECK(ended.exit_status == 0);
}

TEST_CASE("SIGHUP reads the token again, and leaves it as it was if that fails") {
    const Place place;
    const std::string file = place.other + "/token";
    const auto write_token = [&](const std::string& token, mode_t mode) {
        std::ofstream(file) << token << "\n";
        REQUIRE(::chmod(file.c_str(), mode) == 0);
    };
    write_token("first", 0600);
    ServerProcess server(
        {.directory = place.directory, .config_dir = place.config, .arguments = {"--token-file", file}});
    const auto said = [&](const std::string& text) {
        return eventually(Milliseconds{10'000}, [&] { return server.errors().find(text) != std::string::npos; });
    };
    write_token("second", 0644);
    ::kill(server.pid(), SIGHUP);
    CHECK(said("the configuration stays as it was: others can read the token file"));
    write_token("second", 0600);
    ::kill(server.pid(), SIGHUP);
    CHECK(said("the configuration has been read again"));
    CHECK(server.stop().exit_status == 0);
}

TEST_CASE("a service manager is told once the server listens") {
    const Place place;
    for (const std::string& name : {place.other + "/notify", "@remofile-test-" + std::to_string(::getpid())}) {
        const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        name.copy(address.sun_path, sizeof address.sun_path - 1);
        if (name.front() == '@')
            address.sun_path[0] = '\0';
        const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
        REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0);
        const timeval patience{.tv_sec = 20, .tv_usec = 0};
        REQUIRE(::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);

        Command command = place.command({"--listen", "tcp://127.0.0.1:0", place.directory});
        command.environment.emplace_back("NOTIFY_SOCKET", name);
        Child server = Child::start(command);
        std::array<char, 64> told{};
        const ssize_t told_size = ::recv(socket.get(), told.data(), told.size(), 0);
        INFO(name << ": " << server.errors());
        REQUIRE(told_size > 0);
        CHECK(std::string(told.data(), static_cast<std::size_t>(told_size)) == "READY=1");
        CHECK(eventually(Milliseconds{10'000},
                         [&] { return server.errors().find("listening on") != std::string::npos; }));
        server.signal(SIGTERM);
        CHECK(server.wait(Milliseconds{10'000}).exit_status == 0);
    }
}

TEST_CASE("a second server on one port says so") {
    ServerProcess server;
    const Place place;
    const std::string endpoint = "tcp://127.0.0.1:" + std::to_string(server.port());
    const Ended second = place.run({"--listen", endpoint, place.directory});
    INFO(second.to_string());
    CHECK(second.exit_status == 1);
    CHECK_THAT(second.errors, ContainsSubstring(endpoint) && ContainsSubstring("in use"));
}

TEST_CASE("an address to listen on may be localhost, and have no port") {
    const Place place;
    // Whichever port that is, another server has it: what is said of it names the address that was tried.
    for (const auto& [given, tried] : std::vector<std::pair<std::string, std::string>>{
             {"tcp://localhost:0", "tcp://127.0.0.1:"}, {"tcp://127.0.0.1", "tcp://127.0.0.1:6768"}}) {
        Child server = Child::start(place.command({"--listen", given, "--data-port=none", place.directory}));
        INFO(given);
        CHECK(eventually(Milliseconds{20'000}, [&] {
            return server.errors().find("listening on " + tried) != std::string::npos ||
                   server.errors().find("cannot listen on " + tried + ": the address is in use") != std::string::npos;
        }));
        server.signal(SIGTERM);
        server.wait(Milliseconds{10'000});
    }
}

TEST_CASE("an encrypted server has a second port for data lanes, unless it is told otherwise") {
    if (!transport::has_fast_cipher())
        return;
    const Place place;
    ServerProcess first({.directory = place.directory, .config_dir = place.config});
    REQUIRE(first.ports().size() == 2);
    const int taken = first.ports().at(1);
    const Ended refused =
        place.run({"--listen=tcp://127.0.0.1:*", "--data-port", std::to_string(taken), place.directory});
    INFO(refused.to_string());
    CHECK(refused.exit_status == 1);
    CHECK_THAT(refused.errors, ContainsSubstring("127.0.0.1:" + std::to_string(taken)) && ContainsSubstring("in use"));

    ServerProcess none({.directory = place.directory, .config_dir = place.config, .arguments = {"--data-port=none"}});
    CHECK(none.ports().size() == 1);
    ServerProcess insecure({.directory = place.directory, .config_dir = place.config, .arguments = {"--insecure"}});
    CHECK(insecure.ports().size() == 1);
}

TEST_CASE("what is wrong is said in one line, with its exit status") {
    const Place place;
    struct Case {
        std::vector<std::string> arguments;
        int exit_status;
        std::string complaint;
    };
    for (const Case& wrong : std::vector<Case>{
             {{}, 2, "no directory"},
             {{"--nonsense", "/tmp"}, 2, "--nonsense"},
             {{"--listen", "udp://x", "/tmp"}, 2, "udp://x"},
             {{"--listen", "tcp://127.0.0.1:0", place.directory + "/missing"}, 1, place.directory + "/missing"},
             {{"--listen", "tcp://127.0.0.1:0", "--token-file", place.other + "/none", place.directory}, 1, "/none"},
             {{"--listen", "tcp://127.0.0.1:0", "--server-key", place.other + "/key", place.directory}, 1, "/key"},
             {{"--listen", "tcp://127.0.0.1:0", "--pid-file", place.other + "/no/pid", place.directory},
              1,
              "/no/pid"}}) {
        for (const bool daemon : {false, true}) {
            std::vector<std::string> arguments = wrong.arguments;
            if (daemon)
                arguments.insert(arguments.begin(), "--daemon");
            const Ended ended = place.run(arguments);
            INFO(ended.to_string());
            CHECK(ended.exit_status == wrong.exit_status);
            CHECK_THAT(ended.errors, ContainsSubstring(wrong.complaint));
            CHECK(std::ranges::count(ended.errors, '\n') == 1);
        }
    }
}

TEST_CASE("check-config says what is wrong with a file, or shows its exports") {
    const Place place;
    const std::string file = place.config + "/server.toml";
    const std::string keys = place.other + "/keys";
    const auto check = [&](const std::string& text, std::vector<std::string> arguments = {}) {
        std::ofstream(file) << text;
        arguments.insert(arguments.begin(), "check-config");
        return place.run(arguments);
    };
    const std::string media = "[export.media]\ndirectory = \"" + place.directory + "\"\n";

    Ended ended = check(media + "read-only = true\n");
    INFO(ended.to_string());
    CHECK(ended.exit_status == 0);
    CHECK(ended.errors.empty());
    CHECK_THAT(ended.output, ContainsSubstring("export media\n") && ContainsSubstring(place.directory) &&
                                 ContainsSubstring("read-only            true"));
    CHECK_FALSE(std::filesystem::exists(place.config + "/server.key"));  // nothing is made
    CHECK(check("directory = \"" + place.directory + "\"\n", {file}).exit_status == 0);

    const std::string key(40, '0');
    std::ofstream(keys) << key << "\nno-pty " << key << "\nexport=\"media,nowhere\" " << key
                        << "\nidentity=\"no-such-user-here\" " << key << "\n";
    ended = check(media + "authorized-keys = \"" + keys + "\"\ntoken-file = \"" + place.other + "/none\"\n");
    INFO(ended.to_string());
    CHECK(ended.exit_status == 2);
    CHECK(ended.output.empty());
    CHECK_THAT(ended.errors, ContainsSubstring(keys + ", line 2: ") && ContainsSubstring("no-pty") &&
                                 ContainsSubstring(keys + ", line 3: there is no export nowhere") &&
                                 ContainsSubstring(keys + ", line 4: identity=\"no-such-user-here\"") &&
                                 ContainsSubstring("/none"));

    ended = check(media + "[export.in]\ndirectory = \"" + place.directory + "\"\n");
    INFO(ended.to_string());
    CHECK(ended.exit_status == 2);
    CHECK_THAT(ended.errors, ContainsSubstring("lie one in the other") && ContainsSubstring(file + ":"));
    ended = check(media + "nonsense = 1\n");
    CHECK(ended.exit_status == 2);
    CHECK_THAT(ended.errors, ContainsSubstring(file + ":3: unknown option"));
    CHECK(check("", {place.other + "/not there"}).exit_status == 2);
    CHECK(check("", {"--all"}).exit_status == 2);
    CHECK(check("", {file, file}).exit_status == 2);
}

TEST_CASE("without a directory the usual file is read, if it is there") {
    const Place place;
    std::ofstream(place.config + "/server.toml")
        << "listen = \"tcp://127.0.0.1:0\"\n[export.a]\ndirectory = \"" << place.directory << "\"\n";
    Child server = Child::start(place.command({}));
    CHECK(eventually(Milliseconds{10'000}, [&] { return server.errors().find("listening on") != std::string::npos; }));
    CHECK_THAT(server.errors(), ContainsSubstring("export a: " + place.directory));
    server.signal(SIGTERM);
    CHECK(server.wait(Milliseconds{10'000}).exit_status == 0);
}

TEST_CASE("acting as the clients' users needs root") {
    if (::geteuid() != 0)
        return;
    const Place place;
    Command command = place.command({"--identity=client", "--listen", "tcp://127.0.0.1:0", place.directory});
    command.as = Credentials{.uid = 65534, .gid = 65534, .groups = {}};
    const Ended ended = run(command);
    INFO(ended.to_string());
    CHECK(ended.exit_status == 2);
    CHECK_THAT(ended.errors, ContainsSubstring("needs root"));
}

TEST_CASE("beyond loopback the server shows what to do on a client") {
    const Place place;
    Child server = Child::start(place.command({"--listen", "tcp://0.0.0.0:0", place.directory}));
    CHECK(eventually(Milliseconds{10'000}, [&] { return server.errors().find("remofs ") != std::string::npos; }));
    std::string key = content_of(place.config + "/server.pub");
    key.pop_back();
    CHECK_THAT(server.errors(), ContainsSubstring("server_key=") && ContainsSubstring(key) &&
                                    ContainsSubstring("only this account can connect so far"));
    server.signal(SIGTERM);
    CHECK(server.wait(Milliseconds{10'000}).exit_status == 0);
}

TEST_CASE("--daemon returns when the server listens, and the pid file names it until it ends") {
    const Place place;
    const std::string pid_file = place.other + "/pid";
    const std::vector<std::string> arguments{"--daemon",   "--listen", "tcp://127.0.0.1:0",
                                             "--pid-file", pid_file,   place.directory};
    const Ended started = place.run(arguments);
    INFO(started.to_string());
    REQUIRE(started.exit_status == 0);
    CHECK_THAT(started.errors, ContainsSubstring("listening on tcp://127.0.0.1:"));
    const Daemon daemon(pid_file);
    REQUIRE(daemon.alive());
    CHECK(std::filesystem::read_symlink("/proc/" + std::to_string(daemon.pid) + "/cwd") == "/");

    const Ended second = place.run(arguments);
    CHECK(second.exit_status == 1);
    CHECK_THAT(second.errors, ContainsSubstring(pid_file) && ContainsSubstring(std::to_string(daemon.pid)));
    CHECK(daemon.alive());

    ::kill(daemon.pid, SIGTERM);
    CHECK(eventually(Milliseconds{10'000}, [&] { return !daemon.alive(); }));
    CHECK_FALSE(std::filesystem::exists(pid_file));
}

TEST_CASE("a pid file that a killed server left behind is replaced") {
    const Place place;
    const std::string pid_file = place.other + "/pid";
    std::ofstream(pid_file) << "1\n";
    const Ended started =
        place.run({"--daemon", "--listen", "tcp://127.0.0.1:0", "--pid-file", pid_file, place.directory});
    REQUIRE(started.exit_status == 0);
    const Daemon daemon(pid_file);
    CHECK(daemon.pid > 1);
    ::kill(daemon.pid, SIGKILL);
    CHECK(eventually(Milliseconds{10'000}, [&] { return !daemon.alive(); }));
    const Ended again =
        place.run({"--daemon", "--listen", "tcp://127.0.0.1:0", "--pid-file", pid_file, place.directory});
    CHECK(again.exit_status == 0);
    const Daemon next(pid_file);
    CHECK(next.pid != daemon.pid);
}
