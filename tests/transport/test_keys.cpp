// SPDX-License-Identifier: MIT
#include "transport/keys.hpp"

#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "fixture.hpp"

using namespace remofile;
using namespace remofile::transport;

namespace {

void write_file(const std::filesystem::path& file, std::string_view text, mode_t mode = 0600) {
    std::ofstream(file, std::ios::trunc) << text;
    REQUIRE(chmod(file.c_str(), mode) == 0);
}

mode_t mode_of(const std::filesystem::path& file) {
    struct stat attributes {};
    REQUIRE(stat(file.c_str(), &attributes) == 0);
    return attributes.st_mode & 07777U;
}

std::size_t files_in(const std::filesystem::path& directory) {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
}

// An environment variable for one test.
class Variable {
public:
    Variable(const char* name, const char* value) : name_(name) {
        if (const char* before = std::getenv(name))
            before_ = before;
        value != nullptr ? setenv(name, value, 1) : unsetenv(name);
    }
    ~Variable() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }

private:
    const char* name_;
    std::optional<std::string> before_;
};

// From https://rfc.zeromq.org/spec/26/, "Test vectors".
constexpr std::string_view rfc_public = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
constexpr std::string_view rfc_secret = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs";

}  // namespace

TEST_CASE("a public key is derived from its secret key as CURVE's specification has it") {
    const auto pair = KeyPair::from_secret_text(rfc_secret);
    REQUIRE(pair);
    REQUIRE(pair->public_key().to_text() == rfc_public);
    REQUIRE(pair->secret_text() == rfc_secret);
}

TEST_CASE("generated keys differ and survive being written as text") {
    const KeyPair a = KeyPair::generate();
    const KeyPair b = KeyPair::generate();
    REQUIRE(a.public_key() != b.public_key());
    const auto again = KeyPair::from_secret_text(a.secret_text());
    REQUIRE(again);
    REQUIRE(again->public_key() == a.public_key());
    REQUIRE(value_of(PublicKey::from_text(a.public_key().to_text())) == a.public_key());
}

TEST_CASE("no key that is made looks like a comment in authorized_keys") {
    // One in 85 would: the chance that none of these does is 1 in 2,000 without the rule.
    for (int i = 0; i < 650; ++i)
        REQUIRE_FALSE(KeyPair::generate().public_key().to_text().starts_with('#'));
}

TEST_CASE("only 40 characters of Z85 are a key") {
    const std::string good(rfc_public);
    REQUIRE(PublicKey::from_text(good));
    for (const std::string& text :
         {std::string(), good.substr(1), good + "x", good.substr(0, 39) + " ", good.substr(0, 39) + "\"",
          good.substr(0, 39) + "\xff", std::string(40, '#'), good.substr(0, 39) + std::string(1, '\0')}) {
        INFO(text);
        const auto key = PublicKey::from_text(text);
        REQUIRE_FALSE(key);
        REQUIRE(key.error().status == Status::invalid);
        const auto pair = KeyPair::from_secret_text(text);
        REQUIRE_FALSE(pair);
        if (!text.empty())
            REQUIRE(pair.error().message.find(text) == std::string::npos);  // no secret in a message
    }
}

TEST_CASE("keys are made on first use, each file complete, with modes 0600 and 0644, whatever the umask") {
    const TemporaryDirectory directory;
    const auto file = directory / "new" / "identity.key";
    const mode_t before = umask(0);
    const auto made = load_or_create_key_pair(file);
    umask(before);
    REQUIRE(made);
    REQUIRE(mode_of(file) == 0600);
    REQUIRE(mode_of(directory / "new" / "identity.pub") == 0644);
    REQUIRE(mode_of(directory / "new") == 0700);
    REQUIRE(files_in(directory / "new") == 2);
    const auto again = load_or_create_key_pair(file);
    REQUIRE(again);
    REQUIRE(again->public_key() == made->public_key());
    REQUIRE(value_of(load_public_key(directory / "new" / "identity.pub")) == made->public_key());
}

TEST_CASE("whoever makes the keys at the same time, all end with the same pair") {
    const TemporaryDirectory directory;
    const auto file = directory / "keys" / "server.key";
    constexpr int threads = 8;
    std::vector<std::optional<PublicKey>> found(threads);
    std::vector<std::thread> makers;
    for (int i = 0; i < threads; ++i) {
        makers.emplace_back([&, i] {
            if (const auto pair = load_or_create_key_pair(file))
                found[static_cast<std::size_t>(i)] = pair->public_key();
        });
    }
    for (std::thread& maker : makers)
        maker.join();
    for (const auto& key : found) {
        REQUIRE(key.has_value());
        REQUIRE(key == found.front());
    }
    REQUIRE(value_of(load_public_key(directory / "keys" / "server.pub")) == found.front());
    REQUIRE(files_in(directory / "keys") == 2);
}

TEST_CASE("a missing public file is written again") {
    const TemporaryDirectory directory;
    const auto made = create_key_pair(directory / "a.key", false);
    REQUIRE(made);
    std::filesystem::remove(directory / "a.pub");
    REQUIRE(load_or_create_key_pair(directory / "a.key"));
    REQUIRE(value_of(load_public_key(directory / "a.pub")) == made->public_key());
}

TEST_CASE("a pair is not overwritten unless that is wanted") {
    const TemporaryDirectory directory;
    const auto first = create_key_pair(directory / "a.key", false);
    REQUIRE(first);
    const auto refused = create_key_pair(directory / "a.key", false);
    REQUIRE_FALSE(refused);
    REQUIRE(refused.error().status == Status::exists);
    std::filesystem::remove(directory / "a.pub");
    REQUIRE(create_key_pair(directory / "a.key", false).status() == Status::exists);
    REQUIRE(load_key_pair(directory / "a.key")->public_key() == first->public_key());
    const auto second = create_key_pair(directory / "a.key", true);
    REQUIRE(second);
    REQUIRE(second->public_key() != first->public_key());
    REQUIRE(load_key_pair(directory / "a.key")->public_key() == second->public_key());
}

TEST_CASE("a secret key that others can get at is refused, with the remedy") {
    const TemporaryDirectory directory;
    const auto file = directory / "a.key";
    for (const mode_t mode : {0640U, 0604U, 0620U, 0602U, 0610U, 0644U}) {
        write_file(file, std::string(rfc_secret) + "\n", mode);
        const auto pair = load_key_pair(file);
        REQUIRE_FALSE(pair);
        REQUIRE(pair.error().status == Status::access_denied);
        REQUIRE_THAT(pair.error().message, ContainsSubstring("chmod 600 " + file.native()));
        // Made on first use does not mean made again.
        REQUIRE(load_or_create_key_pair(file).status() == Status::access_denied);
    }
    write_file(file, std::string(rfc_secret) + "\n", 0400);
    REQUIRE(load_key_pair(file));
}

TEST_CASE("a secret key must be a regular file of this user or of root") {
    const TemporaryDirectory directory;
    const auto file = directory / "a.key";
    write_file(file, rfc_secret);
    std::filesystem::create_symlink(file, directory / "link.key");
    const auto link = load_key_pair(directory / "link.key");
    REQUIRE(link.status() == Status::access_denied);
    REQUIRE_THAT(link.error().message, ContainsSubstring("symbolic link"));
    REQUIRE(mkfifo((directory / "fifo.key").c_str(), 0600) == 0);
    REQUIRE(load_key_pair(directory / "fifo.key").status() == Status::access_denied);
    REQUIRE(load_key_pair(directory / ".").status() == Status::access_denied);
    REQUIRE(load_key_pair(directory / "absent.key").status() == Status::no_entry);
    if (geteuid() == 0) {
        REQUIRE(chown(file.c_str(), 12345, 12345) == 0);
        const auto pair = load_key_pair(file);
        REQUIRE(pair.status() == Status::access_denied);
        REQUIRE_THAT(pair.error().message, ContainsSubstring("12345"));
    }
}

TEST_CASE("a file without a key is invalid and named") {
    const TemporaryDirectory directory;
    const auto file = directory / "a.key";
    for (const std::string& text : {std::string(), std::string("hello\n"), std::string(rfc_secret) + "x",
                                    std::string(rfc_secret) + "\n" + std::string(rfc_secret)}) {
        write_file(file, text);
        const auto pair = load_key_pair(file);
        REQUIRE(pair.status() == Status::invalid);
        REQUIRE_THAT(pair.error().message, ContainsSubstring(file.native()));
    }
    write_file(file, std::string(100'000, 'x'));
    REQUIRE(load_key_pair(file).status() == Status::too_big);
    write_file(file, "  " + std::string(rfc_secret) + " \r\n\n");
    REQUIRE(load_key_pair(file));
}

TEST_CASE("the configuration directory is where the variables say") {
    {
        const Variable chosen("REMOFILE_CONFIG_DIR", "/chosen");
        REQUIRE(value_of(config_directory()) == std::filesystem::path("/chosen"));
    }
    const Variable none("REMOFILE_CONFIG_DIR", nullptr);
    if (geteuid() == 0) {
        REQUIRE(value_of(config_directory()) == std::filesystem::path("/etc/remofile"));
        return;
    }
    const Variable home("HOME", "/home/somebody");
    const Variable xdg("XDG_CONFIG_HOME", "/xdg");
    REQUIRE(value_of(config_directory()) == std::filesystem::path("/xdg/remofile"));
    setenv("XDG_CONFIG_HOME", "relative", 1);
    // The account's home: HOME may be somebody else's, and counts only for who has none.
    const passwd* account = ::getpwuid(geteuid());
    const std::string own = account != nullptr ? account->pw_dir : "/home/somebody";
    REQUIRE(value_of(config_directory()) == std::filesystem::path(own) / ".config/remofile");
}
