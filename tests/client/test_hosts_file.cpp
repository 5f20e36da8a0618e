// SPDX-License-Identifier: MIT
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "catch.hpp"
#include "client/hosts_file.hpp"
#include "transport/home_directory.hpp"
#include "transport/keys.hpp"

using namespace remofile;
using namespace remofile::client;

namespace {

const std::string key(40, '1');

HostSettings settings_in(const std::string& text, const std::string& host = "office") {
    auto parsed = parse_hosts(text, "/etc/hosts.toml", host);
    INFO(text);
    INFO((parsed ? "" : parsed.error().to_string()));
    REQUIRE(parsed);
    return std::move(*parsed);
}

std::string refusal_of(const std::string& text) {
    const auto parsed = parse_hosts(text, "/etc/hosts.toml", "another");
    INFO(text);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.status() == Status::bad_usage);
    CHECK(parsed.error().message.find('\n') == std::string::npos);
    return parsed.error().message;
}

std::string address_for(const std::string& source, const std::string& address, const std::string& export_name = "") {
    return apply_address(source, {.address = address, .export_name = export_name}).source;
}

// A configuration directory of its own, as long as it lives.
struct Directory {
    Directory() {
        char name[] = "/tmp/remofile-hosts-XXXXXX";
        REQUIRE(mkdtemp(name) != nullptr);
        path = name;
        setenv("REMOFILE_CONFIG_DIR", name, 1);
    }
    ~Directory() {
        unsetenv("REMOFILE_CONFIG_DIR");
        std::filesystem::remove_all(path);
    }
    std::string file() const { return path + "/hosts.toml"; }
    void write(const std::string& text, mode_t mode = 0644) const {
        std::ofstream(file()) << text;
        REQUIRE(chmod(file().c_str(), mode) == 0);
    }
    std::string path;
};

}  // namespace

TEST_CASE("hosts: all that can be written of a host") {
    const HostSettings host = settings_in(
        "[host.office]\naddress = \"files.example.org:2300\"\nexport = \"team\"\nserver_key = \"" + key +
        "\"\nidentity = \"~/office.key\"\ntoken_file = \"token\"\noptions = \"soft,timeout=5\"\n[host.other]\n");
    CHECK(host.address == "files.example.org:2300");
    CHECK(host.export_name == "team");
    CHECK(host.server_key == key);
    CHECK(host.identity == (*transport::home_directory() / "office.key").native());
    CHECK(host.token_file == "/etc/token");
    REQUIRE(host.mount_options.size() == 1);
    CHECK(host.mount_options[0].list == "soft,timeout=5");
    CHECK(host.mount_options[0].place == "/etc/hosts.toml:7: options: ");

    CHECK(settings_in("host.office.server_key = 'keys/office.pub'").server_key == "/etc/keys/office.pub");
    CHECK(settings_in("host.office.server_key = '/office.pub'").server_key == "/office.pub");
    CHECK(settings_in("host.office.address = '[::1]:5'").address == "[::1]:5");
    CHECK(settings_in("[host.\"a.b\"]\nexport = 'x'", "a.b").export_name == "x");
    CHECK(settings_in("[host.offices]\nexport = 'x'").export_name.empty());
    CHECK(settings_in("").address.empty());
}

TEST_CASE("hosts: what is wrong is told with file and line, whatever host is asked for") {
    CHECK_THAT(refusal_of("[host.office]\n\nadress = 'x'"),
               ContainsSubstring("/etc/hosts.toml:3: unknown key \"adress\""));
    CHECK_THAT(refusal_of("[host.office]\naddress = 5"),
               ContainsSubstring("/etc/hosts.toml:2: address must be a text"));
    CHECK_THAT(refusal_of("[host.office]\noptions = ['soft']"), ContainsSubstring("options must be a text"));
    CHECK_THAT(refusal_of("[host.office]\nidentity = ''"), ContainsSubstring("identity must be a text"));
    CHECK_THAT(refusal_of("[host.office]\naddress = 'a b'"), ContainsSubstring("\"a b\" is not HOST or HOST:PORT"));
    CHECK_THAT(refusal_of("[host.office]\naddress = 'host:/dir'"), ContainsSubstring("is not HOST or HOST:PORT"));
    CHECK_THAT(refusal_of("[host.office]\naddress = 'host:99999'"), ContainsSubstring("is not HOST or HOST:PORT"));
    CHECK_THAT(refusal_of("[host.office]\nexport = '../x'"), ContainsSubstring("is no name of an export"));
    CHECK_THAT(refusal_of("\nhost = 5"), ContainsSubstring("/etc/hosts.toml:2: \"host\""));
    CHECK_THAT(refusal_of("host.office = 5"), ContainsSubstring("must be a table: [host.office]"));
    CHECK_THAT(refusal_of("[hosts.office]"), ContainsSubstring("hosts are tables with names: [host.NAME]"));
    CHECK_THAT(refusal_of("[host.office"), ContainsSubstring("/etc/hosts.toml:1: "));
    CHECK_THAT(refusal_of("[host.office]\n[host.office]"), ContainsSubstring("/etc/hosts.toml:2: "));
}

TEST_CASE("hosts: a SOURCE with an address in the place of its host") {
    CHECK(address_for("office:/dir", "files.example.org") == "files.example.org:/dir");
    CHECK(address_for("office:/dir", "files.example.org:23") == "files.example.org:23:/dir");
    CHECK(address_for("office:24:/dir", "files.example.org:23") == "files.example.org:24:/dir");
    CHECK(address_for("office:24:/dir", "[2001:db8::1]:23") == "[2001:db8::1]:24:/dir");
    CHECK(address_for("office:24:/dir", "[2001:db8::1]") == "[2001:db8::1]:24:/dir");
    CHECK(address_for("office:/", "[2001:db8::1]:23") == "[2001:db8::1]:23:/");
    CHECK(address_for("office:/a:/b", "x") == "x:/a:/b");
    CHECK(address_for("office:/dir", "x", "team") == "x:/team/dir");
    CHECK(address_for("office:/", "", "team") == "office:/team/");
    CHECK(address_for("remofile://office/dir%20", "x:23", "team") == "remofile://x:23/team/dir%20");
    CHECK(address_for("remofile://office", "x", "team") == "remofile://x/team");
    CHECK(address_for("remofile://office:5", "x:6") == "remofile://x:5");
    // No host that could be looked up.
    for (const char* source : {"remofile+ipc:///office", "[::1]:/", "/office:/", "office", "", "office/", ":/",
                               "remofile://", "remofile:///x", "remofile://[::1]/"})
        CHECK(address_for(source, "x", "team") == source);
}

TEST_CASE("hosts: the user's file is looked into, if nobody else may write to it") {
    const Directory directory;
    CHECK(look_up("office:/")->source == "office:/");  // there is none
    directory.write("[host.office]\naddress = 'there:5'\nidentity = 'i'\n");
    CHECK(look_up("office:/dir")->source == "there:5:/dir");
    CHECK(look_up("office:/")->settings.identity == directory.path + "/i");
    CHECK(look_up("there:/")->source == "there:/");
    CHECK(look_up("remofile+ipc:///office")->source == "remofile+ipc:///office");
    for (const mode_t mode : {0664, 0646}) {
        directory.write("", mode);
        CHECK(look_up("office:/").status() == Status::access_denied);
        CHECK_THAT(look_up("office:/").error().message, ContainsSubstring("chmod go-w"));
    }
    directory.write("", 0644);
    if (geteuid() == 0) {
        REQUIRE(chown(directory.file().c_str(), 20'001, 0) == 0);
        CHECK_THAT(look_up("office:/").error().message, ContainsSubstring("is another user's"));
    }
    std::filesystem::remove(directory.file());
    REQUIRE(mkdir(directory.file().c_str(), 0755) == 0);
    CHECK_THAT(look_up("office:/").error().message, ContainsSubstring("is no regular file"));
}
