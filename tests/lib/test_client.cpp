// SPDX-License-Identifier: MIT
// The C++ library through its public headers, with a real server.
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "harness/patience.hpp"
#include "harness/scratch.hpp"
#include "remofile/client.hpp"
#include "remofile/stream.hpp"
#include "tests/lib/pair.hpp"

namespace {

using libremofile::Client;
using libremofile::ErrorCode;
using libremofile::File;
using libremofile::Open;
using libremofile::Path;
using remofile::test::code;
using remofile::test::Pair;
using namespace std::chrono_literals;

std::string random_text(std::size_t size) {
    const auto seed = std::random_device()();
    UNSCOPED_INFO("seed " << seed);
    std::minstd_rand random(seed);
    std::string text(size, '\0');
    for (char& byte : text)
        byte = static_cast<char>(random());
    return text;
}

TEST_CASE("one of several exports is named by the path, and none cannot be had") {
    using remofile::test::Scratch;
    const std::string config = Scratch::instance().make_directory("config");
    const std::string home = Scratch::instance().make_directory("home");
    const std::string media = Scratch::instance().make_directory("media");
    std::ofstream(config + "/server.toml") << "[export.home]\ndirectory = \"" << home
                                           << "\"\n[export.media]\nread-only = true\ndirectory = \"" << media << "\"\n";
    remofile::test::ServerProcess server({.config_dir = config, .config_file = config + "/server.toml"});
    setenv("REMOFILE_CONFIG_DIR", config.c_str(), 1);
    auto client = Client::connect(server.address() + ":/home");
    REQUIRE(client);
    auto file = client->open("/new", Open::write | Open::create);
    REQUIRE(file);
    REQUIRE(file->pwrite(std::as_bytes(std::span("text", 4)), 0));
    REQUIRE(file->close());
    CHECK(std::filesystem::file_size(home + "/new") == 4);
    auto other = Client::connect(server.address() + ":/media");
    REQUIRE(other);
    CHECK(code(other->stat("/new")) == ErrorCode::no_entry);
    CHECK_FALSE(other->mkdir("/x"));
    const auto none = Client::connect(server.address() + ":/");
    REQUIRE_FALSE(none);
    CHECK(none.error().code == ErrorCode::no_entry);
    CHECK(none.error().message.find("it has home, media") != std::string::npos);
}

TEST_CASE("files are read and written at any offset, in any size") {
    Pair pair;
    const std::string data = random_text((16U << 20) + 4711);
    auto file = pair.client.open("file", Open::read | Open::write | Open::create);
    REQUIRE(file);
    REQUIRE(file->pwrite(std::as_bytes(std::span(data)), 5));
    REQUIRE(file->sync());
    CHECK(file->stat()->size == data.size() + 5);
    std::string back(data.size() + 100, 'x');
    const auto got = file->pread(std::as_writable_bytes(std::span(back)), 5);
    REQUIRE(got);
    CHECK(*got == data.size());
    back.resize(*got);
    CHECK((back == data));
    CHECK(file->pread(std::as_writable_bytes(std::span(back)), 1U << 30) == 0U);
    REQUIRE(file->truncate(7));
    CHECK(std::filesystem::file_size(pair.local("file")) == 7);
    REQUIRE(file->close());
    CHECK_FALSE(file->is_open());
    CHECK(code(file->close()) == ErrorCode::bad_handle);

    auto appending = pair.client.open("file", Open::write | Open::append);
    REQUIRE(appending);
    REQUIRE(appending->pwrite(std::as_bytes(std::span("end", 3)), 0));
    CHECK(std::filesystem::file_size(pair.local("file")) == 10);
    CHECK(code(appending->pread(std::as_writable_bytes(std::span(back)), 0)) == ErrorCode::bad_handle);
}

TEST_CASE("streams read back what they wrote, and seek") {
    Pair pair;
    const std::string data = random_text((16U << 20) + 3);
    libremofile::Stream out(*pair.client.open("stream", Open::write | Open::create));
    out.write(data.data(), static_cast<std::streamsize>(data.size()));
    REQUIRE(out.close());
    REQUIRE(out.good());

    libremofile::Stream stream(*pair.client.open("stream", Open::read | Open::write));
    std::string back(data.size(), '\0');
    stream.read(back.data(), static_cast<std::streamsize>(back.size()));
    REQUIRE(stream.good());
    CHECK((back == data));
    CHECK(stream.get() == EOF);
    CHECK(stream.eof());
    CHECK_FALSE(stream.bad());
    stream.clear();
    stream.seekp(-3, std::ios::end);
    stream << "abc";
    CHECK(stream.tellp() == static_cast<std::streamoff>(data.size()));
    stream.seekg(-4, std::ios::end);
    CHECK(stream.get() == static_cast<unsigned char>(data[data.size() - 4]));
    std::string word;
    stream >> word;
    CHECK(word == "abc");

    libremofile::Stream read_only(*pair.client.open("stream"));
    read_only << "no" << std::flush;
    CHECK(read_only.bad());
    CHECK(read_only.error().code == ErrorCode::bad_handle);
}

TEST_CASE("names are made, found, changed and removed") {
    Pair pair;
    const Client& client = pair.client;
    REQUIRE(client.mkdir("/directory", 0750));
    CHECK(client.stat("directory")->is_directory());
    CHECK((client.stat("directory")->mode & 07777U) == 0750);
    for (const char* name : {"new\nline", "-rf", "\xff\xfe", "a b", "*", "\\", "..."}) {
        CAPTURE(name);
        REQUIRE(client.open(Path("directory") / name, Open::write | Open::create | Open::exclusive));
        CHECK(client.exists(Path("directory") / name) == true);
        CHECK(std::filesystem::exists(pair.local(Path("directory") / name)));
    }
    CHECK(client.list("directory")->size() == 7);
    REQUIRE(client.symlink("directory/a b", "link"));
    CHECK(client.lstat("link")->is_symlink());
    CHECK(client.stat("link")->is_regular());
    CHECK(client.readlink("link") == "directory/a b");
    REQUIRE(client.link("directory/a b", "second"));
    CHECK(client.stat("second")->links == 2);
    CHECK(code(client.rename("second", "link", false)) == ErrorCode::exists);
    REQUIRE(client.rename("second", "third"));
    CHECK(client.exists("second") == false);
    REQUIRE(client.chmod("third", 0600));
    REQUIRE(client.truncate("third", 12));
    REQUIRE(client.utimes("third", {}, libremofile::Timestamp{1'000'000'000, 5}));
    const auto third = client.stat("third");
    CHECK((third->mode & 07777U) == 0600);
    CHECK(third->size == 12);
    CHECK(third->modification.seconds == 1'000'000'000);
    CHECK(third->modification.nanoseconds == 5);
    REQUIRE(client.chown("third", third->uid, {}));
    CHECK(client.statfs()->blocks > 0);
    REQUIRE(client.unlink("link"));
    CHECK(client.exists("directory/a b") == true);
    CHECK(code(client.rmdir("directory")) == ErrorCode::not_empty);
    REQUIRE(client.mkdir("empty"));
    REQUIRE(client.rmdir("empty"));
}

TEST_CASE("errors have a code, and a message that names the file") {
    Pair pair;
    const Client& client = pair.client;
    const auto missing = client.stat("not/there");
    REQUIRE_FALSE(missing);
    CHECK(missing.error().code == ErrorCode::no_entry);
    CHECK(missing.error().message.find("not/there") != std::string::npos);
    std::ofstream(pair.local("file")) << "x";
    CHECK(code(client.list("file")) == ErrorCode::not_directory);
    CHECK(code(client.stat("file/below")) == ErrorCode::not_directory);
    CHECK(code(client.mkdir("file")) == ErrorCode::exists);
    CHECK(code(client.open("file", Open::write | Open::create | Open::exclusive)) == ErrorCode::exists);
    CHECK(code(client.open("file", Open::truncate)) == ErrorCode::invalid);
    CHECK(code(client.stat(std::string(256, 'n'))) == ErrorCode::name_too_long);
    CHECK(code(client.stat(std::string("a\0b", 3))) == ErrorCode::invalid);
    CHECK(client.stat("../../..")->is_directory());
    CHECK(code(Client::connect("nonsense")) == ErrorCode::invalid);
    CHECK(code(File().stat()) == ErrorCode::bad_handle);
}

TEST_CASE("a path leads nowhere but below the source's, whatever it is") {
    Pair pair;
    const Client& client = pair.client;
    std::ofstream(pair.local("file")) << "x";
    std::filesystem::create_symlink("/etc", pair.local("absolute"));
    std::filesystem::create_symlink("../../../../etc/passwd", pair.local("climbing"));
    std::filesystem::create_symlink("loop", pair.local("loop"));
    CHECK(code(client.stat("../../../../etc/passwd")) == ErrorCode::no_entry);
    CHECK(client.stat("../../file")->is_regular());
    CHECK(client.stat("//.//file")->is_regular());
    CHECK(client.stat("")->is_directory());
    CHECK(code(client.stat("absolute/passwd")) == ErrorCode::symlink_loop);
    CHECK(code(client.stat("climbing")) == ErrorCode::no_entry);
    CHECK(code(client.stat("loop")) == ErrorCode::symlink_loop);
    CHECK(code(client.open("loop", Open::write | Open::create)) == ErrorCode::symlink_loop);
    CHECK(code(client.stat(std::string(4096, '/'))) == ErrorCode::name_too_long);
    CHECK(client.stat(std::string(4095, '/'))->is_directory());
    std::string deep;
    for (int i = 0; i < 2047; ++i)
        deep += "d/";
    CHECK(code(client.stat(deep)) == ErrorCode::no_entry);
    CHECK(code(client.rename("file", std::string(5000, 'n'))) == ErrorCode::name_too_long);
    CHECK(code(client.symlink(std::string(4096, 't'), "l")) == ErrorCode::name_too_long);
    CHECK(code(client.symlink("", "l")) != ErrorCode{});
    for (const auto& outcome : {client.rmdir("/"), client.unlink(""), client.mkdir("/."), client.rename("file", "/"),
                                client.link("file", "..")})
        CHECK_FALSE(outcome);
    const auto control = client.stat("one\nline\x1b[31m");
    CHECK(control.error().message == "/one\\x0aline\\x1b[31m: no such file or directory");
    CHECK(client.exists("file") == true);
}

TEST_CASE("what is asked for in connecting is had, or its refusal is explained") {
    Pair pair;
    libremofile::Options options;
    options.read_only = true;
    const Client reader = remofile::test::connect(pair.server, options);
    CHECK(code(reader.mkdir("directory")) == ErrorCode::read_only);
    CHECK(reader.stat("/"));

    const std::string source = "127.0.0.1:" + std::to_string(pair.server.port()) + ":/";
    options = {.exclusive = true};
    const auto alone = Client::connect(source, options);
    REQUIRE_FALSE(alone);
    CHECK(alone.error().code == ErrorCode::busy);
    CHECK(alone.error().message.find("127.0.0.1") != std::string::npos);
    // Any other key than the server's.
    options = {.server_key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", .timeout = 5s};
    CHECK(code(Client::connect(source, options)) == ErrorCode::wrong_server_key);
    options = {.server_key = "/does/not/exist"};
    CHECK(code(Client::connect(source, options)) == ErrorCode::invalid);
    options = {.token_file = "/does/not/exist"};
    CHECK(code(Client::connect(source, options)) == ErrorCode::no_entry);
    options = {.insecure = true, .timeout = 2s};
    CHECK_FALSE(Client::connect(source, options));
    options = {.timeout = 0ms};
    CHECK(code(Client::connect(source, options)) == ErrorCode::invalid);
    CHECK(code(Client::connect(source + "missing")) == ErrorCode::no_entry);
    std::ofstream(pair.local("file")) << "x";
    CHECK(code(Client::connect(source + "file")) == ErrorCode::not_directory);
    REQUIRE(pair.client.mkdir("below"));
    const auto below = Client::connect(source + "below");
    REQUIRE(below);
    CHECK(below->list("../..")->empty());
}

TEST_CASE("closing a stream tells what its destructor cannot") {
    Pair pair;
    libremofile::Stream out(*pair.client.open("file", Open::write | Open::create));
    out << "these bytes arrive nowhere";
    pair.client.close();
    CHECK(out.good());
    CHECK(code(out.close()) == ErrorCode::closed);
    CHECK(out.bad());
    CHECK(code(out.close()) == ErrorCode::closed);
}

TEST_CASE("a directory is read entry by entry") {
    Pair pair;
    std::set<std::string> names;
    for (int i = 0; i < 3000; ++i) {
        names.insert("entry" + std::to_string(i));
        std::ofstream(pair.local("entry" + std::to_string(i))).flush();
    }
    auto directory = pair.client.open_directory("/");
    REQUIRE(directory);
    std::set<std::string> seen;
    for (auto entry = directory->next(); entry && *entry; entry = directory->next())
        CHECK(seen.insert((*entry)->name).second);
    CHECK((seen == names));
    CHECK(directory->next() == std::nullopt);
    CHECK(code(pair.client.open_directory("entry1")) == ErrorCode::not_directory);
    CHECK(code(pair.client.open_directory("missing")) == ErrorCode::no_entry);
    CHECK(code(libremofile::Directory().next()) == ErrorCode::bad_handle);
    // One that is left half read, and outlives the session.
    auto other = pair.client.open_directory("/");
    REQUIRE(other->next());
    pair.client.close();
    while (other->next()) {
    }
    CHECK(code(other->next()) == ErrorCode::closed);
}

TEST_CASE("a directory of any size is listed whole") {
    Pair pair;
    std::set<std::string> names;
    for (int i = 0; i < 5000; ++i) {
        names.insert("entry" + std::to_string(i));
        std::ofstream(pair.local("entry" + std::to_string(i))).flush();
    }
    const auto entries = pair.client.list("/");
    REQUIRE(entries);
    std::set<std::string> listed;
    for (const auto& entry : *entries) {
        listed.insert(entry.name);
        CHECK(entry.attributes.is_regular());
    }
    CHECK((listed == names));
}

TEST_CASE("several threads use one client at once") {
    Pair pair;
    std::vector<std::thread> threads;
    std::atomic<int> good = 0;
    for (int i = 0; i < 8; ++i) {
        threads.emplace_back([&, i] {
            const std::string name = "file" + std::to_string(i);
            const std::string data(300'000, static_cast<char>('a' + i));
            for (int round = 0; round < 10; ++round) {
                auto file = pair.client.open(name, Open::read | Open::write | Open::create);
                std::string back(data.size(), '\0');
                if (file && file->pwrite(std::as_bytes(std::span(data)), 0) &&
                    file->pread(std::as_writable_bytes(std::span(back)), 0) == data.size() && back == data &&
                    pair.client.stat(name) && file->close())
                    ++good;
            }
        });
    }
    for (std::thread& thread : threads)
        thread.join();
    CHECK(good == 80);
}

TEST_CASE("a restarted server ends open files, not the client") {
    Pair pair;
    auto file = pair.client.open("file", Open::read | Open::write | Open::create);
    REQUIRE(file);
    pair.server.kill();
    pair.server.start_again();
    CHECK(remofile::test::eventually(20s, [&] { return pair.client.stat("file").has_value(); }));
    CHECK(code(file->stat()) == ErrorCode::stale);
    CHECK(code(file->pwrite(std::as_bytes(std::span("x", 1)), 0)) == ErrorCode::stale);
    CHECK(pair.client.open("file"));
}

TEST_CASE("calls end when the server is gone, and when the client is") {
    Pair pair;
    setenv("REMOFILE_CONFIG_DIR", pair.server.config_dir().c_str(), 1);
    libremofile::Options options;
    options.timeout = 500ms * remofile::test::slowness();
    auto client = Client::connect("127.0.0.1:" + std::to_string(pair.server.port()) + ":/", options);
    REQUIRE(client);
    auto file = client->open("file", Open::write | Open::create);
    REQUIRE(file);
    pair.server.kill();
    CHECK_FALSE(client->stat("file"));
    { const Client ended = std::move(*client); }
    CHECK(code(file->stat()) == ErrorCode::closed);
}

}  // namespace
