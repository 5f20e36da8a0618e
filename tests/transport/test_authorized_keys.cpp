// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "base/unique_fd.hpp"
#include "fixture.hpp"
#include "transport/keys.hpp"

using namespace remofile;
using namespace remofile::transport;

namespace {

const std::string key_a = KeyPair::generate().public_key().to_text();
const std::string key_b = KeyPair::generate().public_key().to_text();

PublicKey key(const std::string& text) {
    return *PublicKey::from_text(text);
}

void write_file(const std::filesystem::path& file, std::string_view text) {
    std::ofstream(file, std::ios::trunc) << text;
}

}  // namespace

TEST_CASE("authorized_keys has keys, comments and lines to skip") {
    std::vector<std::string> problems;
    const auto keys =
        parse_authorized_keys("# people\n\n" + key_a + " alice@laptop, at home\r\n\t" + key_b + "\n   \n", problems);
    REQUIRE(keys.size() == 2);
    REQUIRE(keys.at(0).key == key(key_a));
    REQUIRE(keys.at(0).comment == "alice@laptop, at home");
    REQUIRE(keys.at(1).key == key(key_b));
    REQUIRE(keys.at(1).comment.empty());
    REQUIRE(parse_authorized_keys("", problems).empty());
    REQUIRE(problems.empty());
}

TEST_CASE("a wrong line of authorized_keys is left out, and named by its number") {
    for (const std::string& line : {std::string("nonsense"), key_a.substr(0, 39), key_a + key_b, "\"" + key_a + "\""}) {
        std::vector<std::string> problems;
        const auto keys = parse_authorized_keys(key_a + "\n# comment\n" + line + "\n" + key_b + "\n", problems);
        REQUIRE(keys.size() == 2);
        REQUIRE(problems.size() == 1);
        REQUIRE_THAT(problems.front(), ContainsSubstring("line 3"));
    }
    // What somebody has mixed up altogether does not fill the log.
    std::string text;
    for (int i = 0; i < 1000; ++i)
        text += "nonsense\n";
    std::vector<std::string> problems;
    REQUIRE(parse_authorized_keys(text, problems).empty());
    REQUIRE(problems.size() == 10);
}

TEST_CASE("options stand before a key, as in sshd's file") {
    const auto parse = [](const std::string& line) {
        std::vector<std::string> problems;
        auto keys = parse_authorized_keys(line, problems);
        CAPTURE(line, problems);
        REQUIRE(problems.empty());
        REQUIRE(keys.size() == 1);
        REQUIRE(keys.front().key == key(key_a));
        return keys.front();
    };
    const AuthorizedKey plain = parse(key_a + " export=\"no option\"");
    CHECK(plain.comment == "export=\"no option\"");
    CHECK_FALSE(plain.read_only);
    CHECK(plain.may_use("media"));
    CHECK(plain.may_use(""));

    const AuthorizedKey bound = parse("export=\"media,home-2\",read-only \t" + key_a + " alice, at home");
    CHECK(bound.comment == "alice, at home");
    CHECK(bound.read_only);
    CHECK(bound.exports == std::vector<std::string>{"media", "home-2"});
    CHECK(bound.may_use("home-2"));
    CHECK_FALSE(bound.may_use("home"));
    CHECK_FALSE(bound.may_use(""));
    CHECK(parse("read-only " + key_a).may_use("any"));
    CHECK(parse("read-only,export=\"a\" " + key_a + "\r").exports.size() == 1);
}

TEST_CASE("a line with an option that is not understood lets nobody in") {
    for (const std::string options :
         {"no-pty", "export=media", "export=\"media", "export=\"\"", "export=\"a,\"", "export=\",a\"", "export=\"a\"b",
          "export=\"a/b\"", "export=\"..\"", "export=\"a b\"", "export=\"a\x01\"", "export=\"a\",", ",read-only",
          "read-only,read-only", "export=\"a\",export=\"b\"", "read-only=\"yes\"", "Read-Only", "\"\"",
          "command=\"x\""}) {
        std::vector<std::string> problems;
        const auto keys = parse_authorized_keys(key_b + "\n" + options + " " + key_a + "\n", problems);
        CAPTURE(options, problems);
        CHECK(keys.size() == 1);
        REQUIRE(problems.size() == 1);
        CHECK_THAT(problems.front(), ContainsSubstring("line 2"));
    }
    std::vector<std::string> problems;
    CHECK(parse_authorized_keys("export=\"" + std::string(65, 'n') + "\" " + key_a, problems).empty());
    CHECK(parse_authorized_keys("read-only\n", problems).empty());
    CHECK(parse_authorized_keys("no-pty " + key_a, problems).empty());
    CHECK(problems.size() == 3);
    CHECK_THAT(problems.back(), ContainsSubstring("no-pty"));
}

TEST_CASE("what a key may is known as it was when it was let in") {
    const TemporaryDirectory directory;
    const auto list = directory / "authorized_keys";
    const auto authorizer = make_file_authorizer(list, directory / "identity.pub");
    write_file(list, "read-only " + key_a + " alice\nexport=\"b\" " + key_a + " again\n");
    write_file(directory / "identity.pub", key_b + "\n");
    CHECK_FALSE(authorizer->known(key(key_a)));
    REQUIRE(authorizer->authorize(key(key_a), "local") == "alice");
    CHECK(authorizer->known(key(key_a))->read_only);
    CHECK(authorizer->known(key(key_a))->may_use("a"));  // of two lines the first counts
    CHECK(authorizer->known(key(key_b))->comment == "this account");
    write_file(list, key_a + " alice, who may write now\n");
    CHECK(authorizer->known(key(key_a))->read_only);
    REQUIRE(authorizer->authorize(key(key_b), "local"));
    CHECK_FALSE(authorizer->known(key(key_a))->read_only);
}

TEST_CASE("a key acts as a user whom the server's machine knows, if the server is root's") {
    const auto parse = [](const std::string& options, std::vector<std::string>& problems) {
        return parse_authorized_keys(options + " " + key_a + " alice\n", problems);
    };
    for (const std::string& wrong :
         {std::string("identity=root"), std::string("identity=\"\""), std::string("identity=\"no-such-user-here\""),
          std::string("identity=\"1000:\""), std::string("identity=\":1\""), std::string("identity=\"1:2:3\""),
          std::string("identity=\"1:4294967295\""), std::string("identity=\"-1:1\""),
          std::string("identity=\"1:1\",identity=\"1:1\""), "identity=\"" + std::string(100'000, 'x') + "\""}) {
        std::vector<std::string> problems;
        CAPTURE(wrong.substr(0, 80));
        CHECK(parse(wrong, problems).empty());
        REQUIRE(problems.size() == 1);
        CHECK_THAT(problems.front(), ContainsSubstring("line 1: "));
        CHECK(problems.front().size() < 1000);
    }
    std::vector<std::string> problems;
    const auto named = parse("read-only,identity=\"root\"", problems);
    const auto numbered = parse("identity=\"61001:61002\",export=\"media\"", problems);
    if (::geteuid() != 0) {
        REQUIRE(problems.size() == 2);
        REQUIRE_THAT(problems.front(), ContainsSubstring("root"));
        return;
    }
    REQUIRE(problems.empty());
    REQUIRE(named.size() == 1);
    CHECK(named.front().read_only);
    REQUIRE(named.front().identity);
    CHECK(named.front().identity->uid == 0);
    CHECK(std::ranges::count(named.front().identity->groups, gid_t{0}) == 1);
    REQUIRE(numbered.size() == 1);
    REQUIRE(numbered.front().identity);
    CHECK(numbered.front().identity->uid == 61001);
    CHECK(numbered.front().identity->gid == 61002);
    CHECK(numbered.front().identity->groups == std::vector<gid_t>{61002});
}

TEST_CASE("a comment cannot steer a terminal or fill the log") {
    std::vector<std::string> problems;
    const auto keys = parse_authorized_keys(key_a + " red \x1b[31m" + std::string(10'000, 'x'), problems);
    REQUIRE(keys.size() == 1);
    REQUIRE(keys.front().comment.find('\x1b') == std::string::npos);
    REQUIRE(keys.front().comment.size() < 1000);
}

TEST_CASE("known_servers gives the key of a server, and an absent file none") {
    const TemporaryDirectory directory;
    const auto file = directory / "known_servers";
    REQUIRE(value_of(find_known_server(file, "nas:6768")).empty());
    write_file(file, "# mine\nnas:6768 " + key_a + "\n[2001:db8::7]:1 " + key_b + " with a comment\n");
    REQUIRE(value_of(find_known_server(file, "nas:6768")) == std::vector{key(key_a)});
    REQUIRE(value_of(find_known_server(file, "[2001:db8::7]:1")) == std::vector{key(key_b)});
    REQUIRE(value_of(find_known_server(file, "nas:676")).empty());
    // A wrong line of another server is no reason not to find this one's; its own is.
    write_file(file, "other:1 oops\nnas:6768 " + key_a + "\n");
    REQUIRE(value_of(find_known_server(file, "nas:6768")) == std::vector{key(key_a)});
    REQUIRE(value_of(find_known_server(file, "nas:1")).empty());
    const auto broken = find_known_server(file, "other:1");
    REQUIRE(broken.status() == Status::invalid);
    REQUIRE_THAT(broken.error().message, ContainsSubstring("line 1"));
    write_file(file, "nas:6768");
    REQUIRE(find_known_server(file, "nas:6768").status() == Status::invalid);
}

TEST_CASE("a server's line is written, or takes the place of those it had, among others that stay") {
    const TemporaryDirectory directory;
    const auto file = directory / "known_servers";
    const auto text = [&] {
        std::ifstream stream(file);
        return std::string(std::istreambuf_iterator<char>(stream), {});
    };
    REQUIRE(write_known_server(file, "nas:6768", std::vector{key(key_a)}));
    REQUIRE(text() == "nas:6768 " + key_a + "\n");
    write_file(file, "# mine\nother:1 oops\nnas:6768 oops\n\n nas:6768 " + key_a + "\nnas:67 " + key_a);
    REQUIRE(write_known_server(file, "nas:6768", std::vector{key(key_b)}));
    REQUIRE(text() == "# mine\nother:1 oops\n\nnas:67 " + key_a + "\nnas:6768 " + key_b + "\n");
    REQUIRE(value_of(find_known_server(file, "nas:6768")) == std::vector{key(key_b)});
    struct stat status {};
    REQUIRE(::stat(file.c_str(), &status) == 0);
    REQUIRE((status.st_mode & 07777) == 0600);

    const auto link = directory / "link";
    std::filesystem::create_symlink(file, link);
    REQUIRE(write_known_server(link, "third:1", std::vector{key(key_a)}));
    REQUIRE(std::filesystem::is_symlink(link));
    REQUIRE(value_of(find_known_server(file, "third:1")) == std::vector{key(key_a)});
    REQUIRE_FALSE(write_known_server(directory / "none" / "known_servers", "nas:6768", std::vector{key(key_a)}));
    REQUIRE_FALSE(write_known_server(directory / "", "nas:6768", std::vector{key(key_a)}));
}

TEST_CASE("of servers that are written at the same time none is lost") {
    const TemporaryDirectory directory;
    const auto file = directory / "known_servers";
    std::vector<std::thread> threads;
    for (int i = 0; i < 16; ++i)
        threads.emplace_back([&, i] {
            static_cast<void>(write_known_server(file, "nas:" + std::to_string(i), std::vector{key(key_a)}));
        });
    for (std::thread& thread : threads)
        thread.join();
    for (int i = 0; i < 16; ++i)
        REQUIRE(value_of(find_known_server(file, "nas:" + std::to_string(i))).size() == 1);
}

TEST_CASE("a server has as many known keys as it has lines, each once, within a limit") {
    const TemporaryDirectory directory;
    const auto file = directory / "known_servers";
    write_file(file,
               "nas:1 " + key_b + "\nnas:1 oops\nother:1 " + key_b + "\nnas:1 " + key_a + "\nnas:1 " + key_b + "\n");
    REQUIRE(value_of(find_known_server(file, "nas:1")) == std::vector{key(key_b), key(key_a)});
    std::string many;
    for (int i = 0; i < 100; ++i)
        many += "nas:1 " + KeyPair::generate().public_key().to_text() + "\n";
    write_file(file, many);
    REQUIRE(value_of(find_known_server(file, "nas:1")).size() == max_known_keys);
}

TEST_CASE("what a server announces is written only if it is known by the key that it has proved, and it is news") {
    const TemporaryDirectory directory;
    const auto file = directory / "known_servers";
    const std::vector both{key(key_a), key(key_b)};
    REQUIRE_FALSE(value_of(update_known_server(file, "nas:1", both)));
    REQUIRE_FALSE(std::filesystem::exists(file));
    // A person has taken it out, or put another in, since the client started.
    write_file(file, "other:1 " + key_a + "\nnas:1 " + key_b + "\n");
    REQUIRE_FALSE(value_of(update_known_server(file, "nas:1", both)));
    write_file(file, "nas:1 " + key_a + "\nother:1 " + key_a + "\n");
    REQUIRE(value_of(update_known_server(file, "nas:1", both)));
    REQUIRE(value_of(find_known_server(file, "nas:1")) == both);
    REQUIRE(value_of(find_known_server(file, "other:1")) == std::vector{key(key_a)});
    REQUIRE_FALSE(value_of(update_known_server(file, "nas:1", both)));
    // It has changed its key: the old one is trusted no more.
    REQUIRE(value_of(update_known_server(file, "nas:1", std::vector{key(key_b)})));
    REQUIRE(value_of(find_known_server(file, "nas:1")) == std::vector{key(key_b)});
    // Whoever may read the directory can lock it, and keeps nobody waiting for that.
    const UniqueFd held(::open((directory / ".").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(::flock(held.get(), LOCK_EX) == 0);
    REQUIRE(update_known_server(file, "nas:1", std::vector{key(key_b), key(key_a)}).status() == Status::busy);
}

TEST_CASE("the file authoriser lets in listed keys and the account's own, and notices each change") {
    const TemporaryDirectory directory;
    const auto list = directory / "authorized_keys";
    const auto own = directory / "identity.pub";
    const auto authorizer = make_file_authorizer(list, own);
    REQUIRE_FALSE(authorizer->authorize(key(key_a), "local"));

    write_file(own, key_b + "\n");
    REQUIRE(authorizer->authorize(key(key_b), "local"));
    REQUIRE_FALSE(authorizer->authorize(key(key_a), "local"));

    write_file(list, key_a + " alice\n");
    REQUIRE(authorizer->authorize(key(key_a), "local") == "alice");
    // Of the same size, perhaps within one tick of the clock, but put in place by rename as editors do.
    write_file(directory / "edited", key_a + " carol\n");
    std::filesystem::rename(directory / "edited", list);
    REQUIRE(authorizer->authorize(key(key_a), "local") == "carol");

    // In place and of the same size, as often as fits into a tick.
    for (int i = 0; i < 100; ++i) {
        write_file(list, (i % 2 == 0 ? key_b : key_a) + " dave \n");
        REQUIRE(authorizer->authorize(key(key_a), "local").has_value() == (i % 2 == 1));
    }

    std::filesystem::remove(list);
    REQUIRE_FALSE(authorizer->authorize(key(key_a), "local"));
}

TEST_CASE("a line that is broken lets nobody in, and so does a file that anybody can write") {
    const TemporaryDirectory directory;
    const auto list = directory / "authorized_keys";
    const auto authorizer = make_file_authorizer(list, directory / "identity.pub");
    write_file(list, "broken\n" + key_a + "\n");
    REQUIRE(authorizer->authorize(key(key_a), "local"));
    REQUIRE_FALSE(authorizer->authorize(key(key_b), "local"));
    REQUIRE(chmod(list.c_str(), 0666) == 0);
    REQUIRE_FALSE(authorizer->authorize(key(key_a), "local"));
    REQUIRE(chmod(list.c_str(), 0644) == 0);
    REQUIRE(authorizer->authorize(key(key_a), "local"));
    if (geteuid() == 0) {
        REQUIRE(chown(list.c_str(), 12345, 12345) == 0);
        REQUIRE_FALSE(authorizer->authorize(key(key_a), "local"));
    }
}
