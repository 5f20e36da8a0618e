// SPDX-License-Identifier: MIT
// Programs that use the library: the one in C that tries its interface, and the examples, each with a real server.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "catch.hpp"
#include "harness/child.hpp"
#include "harness/scratch.hpp"
#include "harness/server_process.hpp"

namespace {

namespace fs = std::filesystem;
using remofile::test::Command;
using remofile::test::Ended;
using remofile::test::program_from_environment;
using remofile::test::Scratch;
using remofile::test::ServerProcess;

std::string source(const ServerProcess& server) {
    return "127.0.0.1:" + std::to_string(server.port()) + ":/";
}

Ended run_with(const ServerProcess& server, const char* program, std::vector<std::string> arguments,
               const std::string& input = "/dev/null") {
    std::string line = "exec \"$0\" \"$@\" <'" + input + "'";
    std::vector<std::string> all = {"/bin/sh", "-c", line, program_from_environment(program), source(server)};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return remofile::test::run({.arguments = all, .environment = {{"REMOFILE_CONFIG_DIR", server.config_dir()}}});
}

std::string random_bytes(std::size_t size) {
    const auto seed = std::random_device()();
    UNSCOPED_INFO("seed " << seed);
    std::minstd_rand random(seed);
    std::string bytes(size, '\0');
    for (char& byte : bytes)
        byte = static_cast<char>(random() >> 8U);
    return bytes;
}

void write(const fs::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
}

std::string read(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

TEST_CASE("a program in C uses every function of the C interface") {
    const ServerProcess server;
    const Ended ended = run_with(server, "LIB_C_PROGRAM", {});
    INFO(ended.to_string());
    CHECK(ended.exit_status == 0);
}

TEST_CASE("both examples of cat write a file's bytes, or say why not") {
    const ServerProcess server;
    const std::string bytes = random_bytes((9U << 20) + 17);
    write(fs::path(server.directory()) / "a file", bytes);
    write(fs::path(server.directory()) / "empty", "");
    for (const char* program : {"EXAMPLE_CAT_C", "EXAMPLE_CAT_CPP"}) {
        CAPTURE(program);
        const Ended whole = run_with(server, program, {"a file"});
        CHECK(whole.exit_status == 0);
        CHECK((whole.output == bytes));
        const Ended empty = run_with(server, program, {"empty"});
        INFO(empty.to_string());
        CHECK(empty.exit_status == 0);
        CHECK(empty.output.empty());
        const Ended missing = run_with(server, program, {"missing"});
        CHECK(missing.exit_status == 1);
        CHECK(missing.errors.find("/missing: no such file or directory") != std::string::npos);
        CHECK(run_with(server, program, {}).exit_status != 0);
    }
}

TEST_CASE("the example write stores its input") {
    const ServerProcess server;
    const std::string bytes = random_bytes((17U << 20) + 3);
    const std::string local = Scratch::instance().make_directory("input") + "/bytes";
    write(local, bytes);
    const Ended ended = run_with(server, "EXAMPLE_WRITE_CPP", {"copy"}, local);
    INFO(ended.to_string());
    CHECK(ended.exit_status == 0);
    CHECK((read(fs::path(server.directory()) / "copy") == bytes));
    CHECK(run_with(server, "EXAMPLE_WRITE_CPP", {"copy"}).exit_status == 0);
    CHECK(fs::file_size(fs::path(server.directory()) / "copy") == 0);
    CHECK(run_with(server, "EXAMPLE_WRITE_CPP", {"not/there"}).exit_status == 1);
}

TEST_CASE("the example copy_tree copies a tree") {
    const ServerProcess server;
    const fs::path root = fs::path(server.directory()) / "tree";
    fs::create_directories(root / "a" / "b");
    const std::string bytes = random_bytes(100'000);
    write(root / "a" / "b" / "deep", bytes);
    write(root / "a" / "empty", "");
    write(root / "new\nline", "x");
    fs::create_symlink("a/b/deep", root / "link");
    fs::permissions(root / "new\nline", fs::perms(0500));
    const auto long_ago = fs::file_time_type::clock::now() - std::chrono::hours(24 * 365);
    fs::last_write_time(root / "a" / "b" / "deep", long_ago);

    const fs::path to = fs::path(Scratch::instance().make_directory("copy")) / "tree";
    const Ended ended = run_with(server, "EXAMPLE_COPY_TREE_CPP", {"tree", to.string()});
    INFO(ended.to_string());
    CHECK(ended.exit_status == 0);
    CHECK((read(to / "a" / "b" / "deep") == bytes));
    CHECK(fs::file_size(to / "a" / "empty") == 0);
    CHECK(read(to / "new\nline") == "x");
    CHECK(fs::status(to / "new\nline").permissions() == fs::perms(0500));
    CHECK(fs::read_symlink(to / "link") == "a/b/deep");
    CHECK((fs::last_write_time(to / "a" / "b" / "deep") == long_ago));
    // It does not write into what is there.
    CHECK(run_with(server, "EXAMPLE_COPY_TREE_CPP", {"tree", to.string()}).exit_status == 1);
}

}  // namespace
