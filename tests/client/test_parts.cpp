// SPDX-License-Identifier: MIT
// The small parts of the client: directory listings, identities, exit statuses, options of a connection.
#include <dirent.h>
#include <sys/stat.h>

#include <catch.hpp>
#include <fstream>

#include "client/client_list.hpp"
#include "client/connect_options.hpp"
#include "client/directory.hpp"
#include "client/exit_status.hpp"
#include "client/requests/credential_table.hpp"
#include "client/requests/lock_owners.hpp"
#include "transport/fixture.hpp"

namespace remofile::client {
namespace {

using namespace std::chrono_literals;

Buffer listing(const std::vector<wire::DirectoryEntry>& entries) {
    std::vector<std::byte> bytes;
    for (const wire::DirectoryEntry& entry : entries)
        wire::Encoder(bytes).put(entry);
    return Buffer::copy_of(bytes);
}

wire::DirectoryEntry entry(std::uint64_t cookie, std::string name) {
    return {.cookie = cookie, .inode = 1, .type = 8, .name = std::move(name)};
}

bool is_accepted(const std::vector<wire::DirectoryEntry>& entries, std::uint64_t cookie = 0) {
    return decode_directory(listing(entries), static_cast<std::uint16_t>(entries.size()), cookie).has_value();
}

// A configuration directory of its own, for the life of the object.
struct Configuration {
    transport::TemporaryDirectory directory;
    Configuration() { setenv("REMOFILE_CONFIG_DIR", (directory / "remofile").c_str(), 1); }
    ~Configuration() { unsetenv("REMOFILE_CONFIG_DIR"); }
    void write(const std::string& name, const std::string& text, mode_t mode = 0600) const {
        std::filesystem::create_directories(directory / "remofile");
        const auto path = directory / "remofile" / name;
        std::ofstream(path) << text;
        REQUIRE(chmod(path.c_str(), mode) == 0);
    }
};

}  // namespace

TEST_CASE("a listing is decoded") {
    const auto entries = decode_directory(listing({entry(1, "."), entry(2, ".."), entry(9, "name")}), 3);
    REQUIRE(entries.has_value());
    CHECK(entries->at(2).name == "name");
    CHECK(decode_directory(Buffer(), 0)->empty());
    CHECK(is_accepted({entry(5, std::string(255, 'n'))}));
}

TEST_CASE("a listed file is of the type that its attributes have") {
    wire::DirectoryEntry file = entry(1, "a");
    file.type = DT_DIR;
    CHECK(decode_directory(listing({file}), 1)->at(0).type == DT_DIR);
    file.entry.attributes.mode = S_IFLNK | 0777;
    CHECK(decode_directory(listing({file}), 1)->at(0).type == DT_LNK);
}

TEST_CASE("a listing that cannot be one is rejected") {
    CHECK_FALSE(is_accepted({entry(1, "")}));
    CHECK_FALSE(is_accepted({entry(1, "a/b")}));
    CHECK_FALSE(is_accepted({entry(1, "../../etc/passwd")}));
    CHECK_FALSE(is_accepted({entry(1, std::string("a\0b", 3))}));
    CHECK_FALSE(is_accepted({entry(1, std::string(256, 'n'))}));
    wire::DirectoryEntry file = entry(1, "a");
    file.entry.node = NodeId{7};
    CHECK_FALSE(is_accepted({file}));  // of no type
    file.entry.attributes.mode = S_IFREG;
    CHECK(is_accepted({file}));
    file.entry.attributes.size = std::uint64_t{INT64_MAX} + 1;
    CHECK_FALSE(is_accepted({file}));
    const Buffer two = listing({entry(1, "a"), entry(2, "b")});
    CHECK_FALSE(decode_directory(two, 1).has_value());
    CHECK_FALSE(decode_directory(two, 3).has_value());
    CHECK_FALSE(decode_directory(two, 65535).has_value());
}

TEST_CASE("a listing that loops is rejected") {
    CHECK_FALSE(is_accepted({entry(0, "a")}));
    CHECK_FALSE(is_accepted({entry(1, "a"), entry(1, "b")}));
    CHECK_FALSE(is_accepted({entry(7, "a")}, 7));
    CHECK_FALSE(is_accepted({entry(6, "a"), entry(7, "b")}, 7));
    CHECK(is_accepted({entry(8, "a"), entry(3, "b")}, 7));  // cookies need not ascend
}

TEST_CASE("names of components") {
    CHECK(is_valid_name("a"));
    CHECK(is_valid_name("..."));
    for (const std::string name : {"", ".", "..", "a/b"})
        CHECK_FALSE(is_valid_name(name));
}

TEST_CASE("an identity keeps its number while it is in use") {
    CredentialTable table;
    TimePoint now{};
    std::vector<std::uint32_t> numbers;
    for (std::uint32_t i = 0; i < CredentialTable::max_identities; ++i) {
        const auto number = table.reserve(now);
        REQUIRE(number.has_value());
        CHECK_FALSE(table.use(*number, now));  // not confirmed
        table.confirm(*number, {i, i, {}}, now);
        numbers.push_back(*number);
    }
    CHECK_FALSE(table.reserve(now).has_value());
    now += CredentialTable::min_idle_time;
    for (std::size_t i = 1; i < numbers.size(); ++i)
        CHECK(table.use(numbers[i], now));
    // Only the first has been idle for long enough.
    const auto taken = table.reserve(now);
    REQUIRE(taken.has_value());
    CHECK(*taken == numbers[0]);
    CHECK_FALSE(table.use(*taken, now));
    CHECK_FALSE(table.find({0, 0, {}}, now).has_value());
    CHECK(table.find({1, 1, {}}, now) == numbers[1]);
    CHECK_FALSE(table.reserve(now).has_value());

    table.clear();
    CHECK_FALSE(table.use(numbers[5], now));
    CHECK(*table.reserve(now) > numbers.back());
}

TEST_CASE("a number that an unanswered request carries is given to nobody else, however long that takes") {
    CredentialTable table;
    TimePoint now{};
    std::vector<std::optional<CredentialTable::Use>> uses;
    for (std::uint32_t i = 0; i < CredentialTable::max_identities; ++i) {
        const auto number = table.reserve(now);
        table.confirm(*number, {i, i, {}}, now);
        uses.push_back(table.use(*number, now));
    }
    now += 60 * CredentialTable::min_idle_time;
    CHECK_FALSE(table.reserve(now).has_value());
    uses[7].reset();
    const auto taken = table.reserve(now);
    REQUIRE(taken.has_value());
    CHECK_FALSE(table.find({7, 7, {}}, now).has_value());
    CHECK(table.find({8, 8, {}}, now).has_value());
    CHECK_FALSE(table.reserve(now).has_value());
    table.clear();
    uses.clear();  // of numbers that are no more
}

TEST_CASE("who may hold locks") {
    const auto range = [](std::uint64_t owner, std::uint64_t handle, wire::LockType type, bool all) {
        const wire::Setlk setlk{
            .handle = HandleId{handle},
            .owner = LockOwner{owner},
            .range = {.type = type, .start = 0, .end = all ? std::uint64_t{INT64_MAX} : 9, .pid = 1}};
        return lock_change_of(wire::Opcode::setlk, wire::encode_body(setlk)).value();
    };
    const LockChange one = range(1, 10, wire::LockType::read, false);
    const LockChange two = range(2, 10, wire::LockType::write, true);
    CHECK_FALSE(one.unlocks);
    CHECK(one.party != two.party);
    CHECK(range(1, 10, wire::LockType::unlock, true).all);
    CHECK_FALSE(range(1, 10, wire::LockType::unlock, false).all);
    const wire::Flock flock{HandleId{1}, wire::LockType::write, true};
    const LockChange whole = lock_change_of(wire::Opcode::flock, wire::encode_body(flock)).value();
    CHECK(whole.party != one.party);
    CHECK_FALSE(lock_change_of(wire::Opcode::flush, {}).has_value());

    LockOwners owners;
    owners.asked(one.party);
    owners.asked(one.party);
    CHECK(owners.may_hold(one.party));
    owners.answered(one.party);
    CHECK(owners.may_hold(one.party));
    owners.granted(one);
    owners.answered(one.party);
    owners.answered(one.party);  // one too many does no harm
    owners.granted(range(1, 11, wire::LockType::read, false));
    owners.granted(two);
    owners.granted(whole);
    owners.dropped(one.party, HandleId{10});
    CHECK(owners.may_hold(one.party));
    owners.closed(HandleId{10});
    CHECK(owners.may_hold(one.party));
    CHECK_FALSE(owners.may_hold(two.party));
    owners.closed(HandleId{11});
    CHECK_FALSE(owners.may_hold(one.party));
    owners.dropped(whole.party, HandleId{1});
    CHECK(owners.empty());
}

TEST_CASE("each failure to connect has its exit status") {
    CHECK(exit_status_for(Status::ok) == ExitStatus::success);
    CHECK(exit_status_for(Status::unreachable) == ExitStatus::unreachable);
    CHECK(exit_status_for(Status::wrong_server_key) == ExitStatus::wrong_server_key);
    CHECK(exit_status_for(Status::in_use) == ExitStatus::in_use);
    CHECK(exit_status_for(Status::bad_usage) == ExitStatus::failure);
}

TEST_CASE("clients are described in one line") {
    std::vector<wire::Client> clients(8, {.name = "eve\n@x", .address = "192.0.2.1", .since = UINT64_MAX});
    const std::string text = describe(std::span<const wire::Client>(clients));
    CHECK(text.find('\n') == std::string::npos);
    CHECK_THAT(text, ContainsSubstring("an unknown time"));
    CHECK_THAT(text, ContainsSubstring("and 3 more"));
}

TEST_CASE("keys are found where they are, or the person is told what to do") {
    const Configuration configuration;
    const std::string key = transport::KeyPair::generate().public_key().to_text();
    ConnectOptions options{.source = "server.example:/dir"};

    SECTION("unknown") {
        options.source = "192.0.2.1:/dir";  // no name service is asked
        const auto made = make_session_options(options);
        CHECK(made.status() == Status::wrong_server_key);
        CHECK_THAT(made.error().message, ContainsSubstring("-o server_key=KEY"));
        CHECK_THAT(made.error().message, ContainsSubstring("192.0.2.1:6768 KEY"));
        CHECK_THAT(made.error().message, ContainsSubstring("known_servers"));
    }
    SECTION("given as text; the identity is made on first use") {
        options.server_key = key;
        const auto first = make_session_options(options);
        REQUIRE(first.has_value());
        CHECK(first->lane.server_key->to_text() == key);
        CHECK(first->lane.endpoint == "tcp://server.example:6768");
        CHECK(first->path == "/dir");
        CHECK(first->client_name.find('@') != std::string::npos);
        const auto second = make_session_options(options);
        CHECK(second->lane.identity->public_key() == first->lane.identity->public_key());
    }
    SECTION("given as a file") {
        configuration.write("other.pub", key + "\n");
        options.server_key = configuration.directory / "remofile/other.pub";
        CHECK(make_session_options(options)->lane.server_key->to_text() == key);
        // Its name may look like a key.
        std::string name = configuration.directory / "remofile/";
        constexpr std::size_t key_characters = 40;
        REQUIRE(name.size() < key_characters);
        name.resize(key_characters, 'k');
        std::ofstream(name) << key << '\n';
        REQUIRE(transport::PublicKey::from_text(name).has_value());
        options.server_key = name;
        CHECK(make_session_options(options)->lane.server_key->to_text() == key);
        options.server_key = "/nonexistent";
        CHECK_THAT(make_session_options(options).error().message, ContainsSubstring("neither a key"));
    }
    SECTION("known_servers") {
        configuration.write("known_servers", "server.example:6768 " + key + "\n");
        CHECK(make_session_options(options)->lane.server_key->to_text() == key);
    }
    SECTION("this account's own server") {
        configuration.write("server.pub", key + "\n", 0644);
        options.source = "192.0.2.1:/dir";
        CHECK(make_session_options(options).status() == Status::wrong_server_key);
        for (const std::string source : {"localhost:/", "127.0.0.1:7000:/", "remofile+ipc:///run/socket"}) {
            options.source = source;
            CHECK(make_session_options(options)->lane.server_key->to_text() == key);
        }
    }
    SECTION("an identity that others may read") {
        options.server_key = key;
        configuration.write("identity.key", transport::KeyPair::generate().secret_text() + "\n", 0644);
        CHECK(make_session_options(options).status() == Status::access_denied);
    }
    SECTION("insecure") {
        options.insecure = true;
        const auto made = make_session_options(options);
        REQUIRE(made.has_value());
        CHECK_FALSE(made->lane.server_key.has_value());
        CHECK_FALSE(std::filesystem::exists(configuration.directory / "remofile/identity.key"));
        options.server_key = key;
        CHECK(make_session_options(options).status() == Status::bad_usage);
    }
    SECTION("a token") {
        options.server_key = key;
        options.token_file = configuration.directory / "remofile/token";
        CHECK(make_session_options(options).status() == Status::no_entry);
        configuration.write("token", "secret\n");
        CHECK(make_session_options(options)->token == "secret");
        configuration.write("token", "secret\n", 0640);
        CHECK(make_session_options(options).status() == Status::access_denied);
        configuration.write("token", "\n");
        CHECK(make_session_options(options).status() == Status::invalid);
        configuration.write("token", "secret\n");
        options.server_key.clear();
        options.insecure = true;
        CHECK(make_session_options(options).status() == Status::bad_usage);
    }
    SECTION("a source that is none") {
        options.source = "nonsense";
        CHECK(make_session_options(options).status() == Status::bad_usage);
    }
}

}  // namespace remofile::client
