// SPDX-License-Identifier: MIT
// remofile trust: who is believed, who is asked, and what is written.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pty.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <catch.hpp>
#include <thread>

#include "base/unique_fd.hpp"
#include "harness/scratch.hpp"
#include "local_tree.hpp"
#include "remofile.hpp"

namespace remofile::test {
namespace {

std::string first_line(const std::string& file) {
    const std::string text = read_file(file);
    return text.substr(0, text.find('\n'));
}

// A client of another machine, which knows no server.
struct Client {
    std::string config = Scratch::instance().make_directory("client");

    Command command(std::vector<std::string> arguments) const {
        arguments.insert(arguments.begin(), program_from_environment("REMOFILE"));
        return {.arguments = std::move(arguments), .environment = {{"REMOFILE_CONFIG_DIR", config}}};
    }
    Ended run(std::vector<std::string> arguments) const { return test::run(command(std::move(arguments))); }
    // Typing that at a terminal; what it shows, and the exit status.
    std::pair<std::string, int> run_at_terminal(std::vector<std::string> arguments, std::string_view typed) const {
        const Command what = command(std::move(arguments));
        std::vector<char*> words;
        for (const std::string& word : what.arguments)
            words.push_back(const_cast<char*>(word.c_str()));
        words.push_back(nullptr);
        int terminal = -1;
        const pid_t child = ::forkpty(&terminal, nullptr, nullptr, nullptr);
        REQUIRE(child >= 0);
        if (child == 0) {
            Scratch::instance().let_go_in_child();
            ::setenv("REMOFILE_CONFIG_DIR", config.c_str(), 1);
            ::execv(words[0], words.data());
            ::_exit(127);
        }
        REQUIRE(::write(terminal, typed.data(), typed.size()) == static_cast<ssize_t>(typed.size()));
        std::string shown;
        std::array<char, 4096> piece{};
        for (ssize_t size = 0; (size = ::read(terminal, piece.data(), piece.size())) > 0;)
            shown.append(piece.data(), static_cast<std::size_t>(size));
        ::close(terminal);
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        return {shown, WEXITSTATUS(status)};
    }
    std::string known_servers() const { return config + "/known_servers"; }
    bool knows_any() const { return fs::exists(known_servers()); }
};

std::string key_of(const ServerProcess& server) {
    return first_line(server.config_dir() + "/server.pub");
}

// Somebody who answers at a port by UDP, with a key that nobody holds there.
class Liar {
public:
    explicit Liar(int port) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<std::uint16_t>(port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        REQUIRE(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
        const timeval patience{.tv_sec = 0, .tv_usec = 20'000};
        REQUIRE(::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
        thread_ = std::thread([this] { answer(); });
    }
    ~Liar() {
        over_ = true;
        thread_.join();
    }
    Liar(const Liar&) = delete;
    Liar& operator=(const Liar&) = delete;

private:
    void answer() const {
        while (!over_) {
            std::array<char, 64> asked{};
            sockaddr_in from{};
            socklen_t size = sizeof from;
            if (::recvfrom(fd_.get(), asked.data(), asked.size(), 0, reinterpret_cast<sockaddr*>(&from), &size) != 64)
                continue;
            const std::string told = "rmf-key!" + std::string(asked.data() + 8, 16) + std::string(32, 'k');
            ::sendto(fd_.get(), told.data(), told.size(), 0, reinterpret_cast<const sockaddr*>(&from), size);
        }
    }

    UniqueFd fd_{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    std::atomic<bool> over_ = false;
    std::thread thread_;
};

}  // namespace

TEST_CASE("a server that is trusted is known from then on") {
    const ServerProcess server;
    const Client client;
    const Ended trusted = client.run({"trust", "--yes", server.address()});
    INFO(trusted.to_string());
    CHECK(trusted.exit_status == 0);
    CHECK_THAT(trusted.output, ContainsSubstring(server.address() + " has the key " + key_of(server)));
    CHECK(read_file(client.known_servers()) == server.address() + " " + key_of(server) + "\n");
    // What is left to do there.
    CHECK_THAT(trusted.errors, ContainsSubstring("add the line \"" + first_line(client.config + "/identity.pub")) &&
                                   ContainsSubstring("authorized_keys"));

    write_file(server.config_dir() + "/authorized_keys", first_line(client.config + "/identity.pub") + "\n");
    const Ended listed = client.run({"ls", source_of(server, "/")});
    INFO(listed.to_string());
    CHECK(listed.exit_status == 0);
    // Once more, as a SOURCE: it is known, and nobody is asked.
    const Ended again = client.run({"trust", source_of(server, "/")});
    INFO(again.to_string());
    CHECK(again.exit_status == 0);
    CHECK_THAT(again.output, ContainsSubstring("has the key that is known: " + key_of(server)));
    CHECK(again.errors.empty());
}

TEST_CASE("a key that has changed is warned of, and replaced only if that is said") {
    const ServerProcess server;
    const Client client;
    const std::string other = key_of(ServerProcess());
    const std::string before = "# mine\n" + server.address() + " " + other + "\nnas:6768 " + other + "\n";
    write_file(client.known_servers(), before);
    for (const std::vector<std::string>& arguments :
         {std::vector<std::string>{"trust", server.address()}, {"trust", "--yes", server.address()}}) {
        const Ended warned = client.run(arguments);
        INFO(warned.to_string());
        CHECK(warned.exit_status == 3);
        CHECK_THAT(warned.errors, ContainsSubstring("WARNING") && ContainsSubstring(other) &&
                                      ContainsSubstring(key_of(server)) && ContainsSubstring("--replace"));
        CHECK(read_file(client.known_servers()) == before);
    }
    const Ended replaced = client.run({"trust", "--replace", "--yes", server.address()});
    INFO(replaced.to_string());
    CHECK(replaced.exit_status == 0);
    CHECK(read_file(client.known_servers()) ==
          "# mine\nnas:6768 " + other + "\n" + server.address() + " " + key_of(server) + "\n");
    // A line that holds no key can be replaced too.
    write_file(client.known_servers(), server.address() + " oops\n");
    CHECK(client.run({"trust", "--yes", server.address()}).exit_status == 1);
    CHECK(client.run({"trust", "--yes", "--replace", server.address()}).exit_status == 0);
    CHECK(read_file(client.known_servers()) == server.address() + " " + key_of(server) + "\n");
}

TEST_CASE("whoever can be asked is asked, and nothing is written without a yes") {
    const ServerProcess server;
    const Client client;
    const Ended unasked = client.run({"trust", server.address()});
    INFO(unasked.to_string());
    CHECK(unasked.exit_status == 1);
    CHECK_THAT(unasked.errors, ContainsSubstring("no terminal") && ContainsSubstring("--yes"));
    CHECK_FALSE(client.knows_any());
    for (const std::string_view no : {"n\n", "\n", "yesterday\n", "\x04"}) {
        const auto [shown, status] = client.run_at_terminal({"trust", server.address()}, no);
        INFO(shown);
        CHECK(status == 1);
        CHECK_THAT(shown, ContainsSubstring(key_of(server)) && ContainsSubstring("Trust it? [y/N]") &&
                              ContainsSubstring("nothing was written"));
        CHECK_FALSE(client.knows_any());
    }
    const auto [shown, status] = client.run_at_terminal({"trust", server.address()}, "y\n");
    INFO(shown);
    CHECK(status == 0);
    CHECK(read_file(client.known_servers()) == server.address() + " " + key_of(server) + "\n");
}

TEST_CASE("who tells a key that the server does not hold is not believed") {
    const ServerProcess server(ServerProcess::Options{.arguments = {"--tell-key=none"}});
    const Client client;
    const Ended silent = client.run({"trust", "--yes", server.address()});
    INFO(silent.to_string());
    CHECK(silent.exit_status == 2);
    CHECK_THAT(silent.errors, ContainsSubstring("does not say what its key is"));
    const Liar liar(server.port());
    const Ended refused = client.run({"trust", "--yes", server.address()});
    INFO(refused.to_string());
    CHECK(refused.exit_status == 3);
    CHECK_FALSE(client.knows_any());
}

TEST_CASE("what cannot be asked for a key says so") {
    const Client client;
    const ServerProcess insecure(ServerProcess::Options{.arguments = {"--insecure"}});
    const auto fails = [&](const std::string& host, int status, const std::string& text) {
        const Ended ended = client.run({"trust", "--yes", host});
        INFO(ended.to_string());
        CHECK(ended.exit_status == status);
        CHECK_THAT(ended.errors, ContainsSubstring(text));
        CHECK_FALSE(client.knows_any());
    };
    fails(insecure.address(), 2, "does not say what its key is");
    fails("remofile+ipc:///run/x", 1, "cannot be asked");
    fails("no/host", 1, "no/host");
    fails("no-such-host.invalid", 2, "there is no host no-such-host.invalid");
}

TEST_CASE("a server says at its start how its key is learned, and which it must be") {
    const ServerProcess server(ServerProcess::Options{.arguments = {"--listen", "tcp://0.0.0.0:0"}});
    CHECK_THAT(server.errors(), ContainsSubstring("on a client: remofile trust "));
    CHECK_THAT(server.errors(), ContainsSubstring("which must show " + key_of(server)));
}

}  // namespace remofile::test
