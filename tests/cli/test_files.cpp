// SPDX-License-Identifier: MIT
// remofile ls, stat, cat, touch, mkdir, mv and rm.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch.hpp>
#include <filesystem>
#include <fstream>

#include "base/log.hpp"
#include "harness/scratch.hpp"
#include "remofile.hpp"

namespace remofile::test {
namespace {

namespace fs = std::filesystem;

void write_file(const std::string& path, const std::string& content) {
    std::ofstream(path) << content;
}

// Runs it and requires success.
std::string output_of(const ServerProcess& server, const std::vector<std::string>& arguments) {
    const Ended ended = remofile(server, arguments);
    INFO(ended.to_string());
    REQUIRE(ended.exit_status == 0);
    CHECK(ended.errors.empty());
    return ended.output;
}

void check_refused(const ServerProcess& server, const std::vector<std::string>& arguments, int exit_status,
                   const std::string& text) {
    const Ended ended = remofile(server, arguments);
    INFO(ended.to_string());
    CHECK(ended.exit_status == exit_status);
    CHECK(std::ranges::count(ended.errors, '\n') == 1);
    CHECK_THAT(ended.errors, ContainsSubstring(text));
}

}  // namespace

TEST_CASE("ls lists directories") {
    const ServerProcess server;
    const std::string& files = server.directory();
    fs::create_directories(files + "/sub/deep");
    write_file(files + "/b", "12345");
    write_file(files + "/a", "");
    write_file(files + "/.hidden", "");
    fs::create_symlink("sub", files + "/link");
    write_file(files + "/sub/inside", "x");

    CHECK(output_of(server, {"ls", source_of(server, "/")}) == "a\nb\nlink\nsub\n");
    CHECK(output_of(server, {"list", source_of(server, "/")}) == "a\nb\nlink\nsub\n");
    CHECK(output_of(server, {"ls", "-p", source_of(server, "/")}) == "a\nb\nlink\nsub/\n");
    CHECK(output_of(server, {"ls", "-a", source_of(server, "/")}) == ".hidden\na\nb\nlink\nsub\n");
    CHECK(output_of(server, {"ls", source_of(server, "/link")}) == "deep\ninside\n");
    CHECK(output_of(server, {"ls", source_of(server, "/b")}) == "/b\n");
    CHECK(output_of(server, {"ls", source_of(server, "/sub/deep")}).empty());
    const std::string long_form = output_of(server, {"ls", "-l", source_of(server, "/")});
    CHECK_THAT(long_form, ContainsSubstring(" 5 20"));
    CHECK_THAT(long_form, ContainsSubstring("link -> sub\n"));
    CHECK(long_form.starts_with("-rw"));
    const std::string two = output_of(server, {"ls", source_of(server, "/sub"), source_of(server, "/sub/deep")});
    CHECK(two == "/sub:\ndeep\ninside\n\n/sub/deep:\n");
    check_refused(server, {"ls", source_of(server, "/missing")}, 7, "/missing: no such file");
    check_refused(server, {"ls", source_of(server, "/b/c")}, 7, "not a directory");
}

TEST_CASE("a directory of many files is listed whole") {
    const ServerProcess server;
    for (int i = 0; i < 3000; ++i)
        write_file(fmt::format("{}/file{:04}", server.directory(), i), "");
    const std::string listed = output_of(server, {"ls", source_of(server, "/")});
    CHECK(std::ranges::count(listed, '\n') == 3000);
    CHECK(listed.starts_with("file0000\n"));
    CHECK(listed.ends_with("file2999\n"));
}

TEST_CASE("stat shows what is known of a file") {
    const ServerProcess server;
    write_file(server.directory() + "/f", "123");
    REQUIRE(::chmod((server.directory() + "/f").c_str(), 0640) == 0);
    const std::string text = output_of(server, {"stat", source_of(server, "/f")});
    CHECK_THAT(text, ContainsSubstring("regular file"));
    CHECK_THAT(text, ContainsSubstring("3 bytes"));
    CHECK_THAT(text, ContainsSubstring("0640 (-rw-r-----)"));
    const std::string json = output_of(server, {"stat", "--json", source_of(server, "/f")});
    CHECK_THAT(json, ContainsSubstring("\"size\": 3"));
}

TEST_CASE("cat writes the very bytes") {
    const ServerProcess server;
    std::string content(5'000'000, '\0');
    for (std::size_t i = 0; i < content.size(); ++i)
        content[i] = static_cast<char>(i * 2654435761U >> 13);
    write_file(server.directory() + "/large", content);
    write_file(server.directory() + "/empty", "");
    write_file(server.directory() + "/exact", std::string(1 << 20, 'x'));
    CHECK(output_of(server, {"cat", source_of(server, "/large")}) == content);
    CHECK(output_of(server, {"cat", source_of(server, "/empty")}).empty());
    CHECK(output_of(server, {"cat", source_of(server, "/exact")}) == std::string(1 << 20, 'x'));
    CHECK(output_of(server, {"cat", source_of(server, "/empty"), source_of(server, "/exact")}).size() == 1 << 20);
    check_refused(server, {"cat", source_of(server, "/")}, 1, "is a directory");
    check_refused(server, {"cat", source_of(server, "/none")}, 7, "no such file");
}

TEST_CASE("what cannot be written to standard output is an error") {
    const ServerProcess server;
    write_file(server.directory() + "/f", std::string(100'000, 'x'));
    for (const std::string command : {"cat", "ls", "stat"}) {
        const Ended ended = run_script(
            server.config_dir(), fmt::format("REMOFILE_CONFIG_DIR={} {} {} {} > /dev/full", server.config_dir(),
                                             program_from_environment("REMOFILE"), command, source_of(server, "/f")));
        INFO(ended.to_string());
        CHECK(ended.exit_status == 1);
        CHECK_THAT(ended.errors, ContainsSubstring("standard output"));
    }
}

TEST_CASE("touch, mkdir, mv and rm do what their names say") {
    const ServerProcess server;
    const std::string& files = server.directory();
    output_of(server, {"touch", source_of(server, "/a"), source_of(server, "/b")});
    CHECK(fs::file_size(files + "/a") == 0);
    CHECK(fs::exists(files + "/b"));
    write_file(files + "/a", "kept");
    fs::last_write_time(files + "/a", fs::file_time_type::clock::now() - std::chrono::hours(48));
    output_of(server, {"touch", source_of(server, "/a")});
    CHECK(fs::file_size(files + "/a") == 4);
    CHECK(fs::file_time_type::clock::now() - fs::last_write_time(files + "/a") < std::chrono::hours(1));

    output_of(server, {"mkdir", source_of(server, "/d")});
    check_refused(server, {"mkdir", source_of(server, "/d")}, 1, "/d: file exists");
    check_refused(server, {"mkdir", source_of(server, "/x/y")}, 7, "/x: no such file");
    output_of(server, {"mkdir", "-p", source_of(server, "/x/y/z"), source_of(server, "/d")});
    CHECK(fs::is_directory(files + "/x/y/z"));
    check_refused(server, {"mkdir", "-p", source_of(server, "/a/b")}, 1, "/a: file exists");

    output_of(server, {"mv", source_of(server, "/a"), source_of(server, "/d")});
    CHECK(fs::exists(files + "/d/a"));
    output_of(server, {"mv", source_of(server, "/d/a"), source_of(server, "/c")});
    CHECK(fs::exists(files + "/c"));
    check_refused(server, {"mv", "-n", source_of(server, "/c"), source_of(server, "/b")}, 1, "/c to /b: file exists");
    output_of(server, {"mv", source_of(server, "/c"), source_of(server, "/b")});
    CHECK(fs::file_size(files + "/b") == 4);

    check_refused(server, {"rm", source_of(server, "/x")}, 1, "is a directory");
    for (int i = 0; i < 200; ++i)
        write_file(fmt::format("{}/x/y/f{}", files, i), "");
    fs::create_symlink("/etc", files + "/x/link");
    output_of(server, {"rm", "-r", source_of(server, "/x")});
    CHECK_FALSE(fs::exists(files + "/x"));
    CHECK(fs::exists("/etc/passwd"));
    check_refused(server, {"rm", source_of(server, "/none")}, 7, "/none: no such file");
    output_of(server, {"rm", "-f", source_of(server, "/none")});
    check_refused(server, {"rm", "-r", source_of(server, "/")}, 1, "root of the export");

    // What is wrong with one does not keep the others from being done.
    const Ended some = remofile(server, {"rm", source_of(server, "/none"), source_of(server, "/b")});
    CHECK(some.exit_status == 7);
    CHECK_FALSE(fs::exists(files + "/b"));
}

TEST_CASE("rm --partial removes what transfers have left, and nothing else") {
    const ServerProcess server;
    const std::string& files = server.directory();
    const std::string partial = ".name.0123456789abcdef.remofile-partial";
    fs::create_directories(files + "/sub");
    const std::vector<std::string> others = {"name", ".name.0123456789abcdeX.remofile-partial", "x.remofile-partial",
                                             ".remofile-partial", "name.0123456789abcdef.remofile-partial"};
    for (const std::string& name : others)
        write_file(files + "/" + name, "");
    write_file(files + "/" + partial, "");
    write_file(files + "/sub/" + partial, "");
    output_of(server, {"rm", "--partial", source_of(server, "/")});
    CHECK_FALSE(fs::exists(files + "/" + partial));
    CHECK(fs::exists(files + "/sub/" + partial));
    output_of(server, {"rm", "-r", "--partial", source_of(server, "/")});
    CHECK_FALSE(fs::exists(files + "/sub/" + partial));
    for (const std::string& name : others)
        CHECK(fs::exists(files + "/" + name));
}

TEST_CASE("patterns stand for the files of the server that match") {
    const ServerProcess server;
    const std::string& files = server.directory();
    const auto source = [&](const std::string& path) { return source_of(server, path); };
    fs::create_directories(files + "/logs/old");
    fs::create_directories(files + "/other");
    for (const char* name : {"logs/b.txt", "logs/a.txt", "logs/.c.txt", "logs/a.log", "logs/old/d.txt", "other/b.txt"})
        write_file(files + "/" + name, name);

    CHECK(output_of(server, {"ls", source("/logs/*.txt")}) == "/logs/a.txt\n/logs/b.txt\n");
    CHECK(output_of(server, {"ls", source("/logs/.*")}) == "/logs/.c.txt\n");
    CHECK(output_of(server, {"ls", source("/*/[b-c].txt")}) == "/logs/b.txt\n/other/b.txt\n");
    CHECK(output_of(server, {"ls", source("/*/old")}) == "d.txt\n");
    // Files first, then directories, each with its name.
    CHECK(output_of(server, {"ls", source("/logs/*")}) ==
          "/logs/a.log\n/logs/a.txt\n/logs/b.txt\n\n/logs/old:\nd.txt\n");
    CHECK(output_of(server, {"cat", source("/logs/?.txt")}) == "logs/a.txtlogs/b.txt");
    CHECK(output_of(server, {"stat", "--json", source("/o*/*")}).find("\"name\": \"/other/b.txt\"") !=
          std::string::npos);

    SECTION("a name that is there is no pattern, and one that matches nothing is a name") {
        write_file(files + "/logs/[ab].txt", "by its name");
        CHECK(output_of(server, {"cat", source("/logs/[ab].txt")}) == "by its name");
        CHECK(output_of(server, {"cat", source("/logs/\\[a*")}) == "by its name");
        check_refused(server, {"cat", source("/logs/*.none")}, 7, "/logs/*.none: no such file");
        check_refused(server, {"ls", source("/none/*")}, 7, "/none/*");
        check_refused(server, {"ls", source("/logs/[a")}, 1, "/logs/[a: ");
    }
    SECTION("files are copied, moved, changed, fetched and removed") {
        const std::string here = Scratch::instance().make_directory("here");
        CHECK(output_of(server, {"cp", source("/logs/*.txt"), source("/other")}).empty());
        CHECK(fs::exists(files + "/other/a.txt"));
        CHECK(output_of(server, {"mv", source("/logs/*.txt"), source("/logs/a.log"), source("/logs/old")}).empty());
        CHECK(output_of(server, {"ls", source("/logs/old")}) == "a.log\na.txt\nb.txt\nd.txt\n");
        check_refused(server, {"mv", source("/logs/old/*.txt"), source("/logs/old/a.log")}, 7, "no such directory");
        CHECK(output_of(server, {"chmod", "600", source("/logs/old/*.txt")}).empty());
        CHECK((fs::status(files + "/logs/old/d.txt").permissions() & fs::perms::all) ==
              (fs::perms::owner_read | fs::perms::owner_write));
        CHECK(remofile(server, {"get", "--quiet", source("/logs/old/?.txt"), here}).exit_status == 0);
        CHECK(fs::exists(here + "/d.txt"));
        CHECK_FALSE(fs::exists(here + "/a.log"));
        CHECK(output_of(server, {"rm", source("/logs/old/*.txt")}).empty());
        CHECK(output_of(server, {"ls", source("/logs/old")}) == "a.log\n");
    }
}

TEST_CASE("paths stay below the export") {
    const ServerProcess server;
    const std::string& files = server.directory();
    write_file(files + "/f", "inside");
    fs::create_directory(files + "/d");
    fs::create_symlink("../../../../f", files + "/d/up");
    fs::create_symlink("/etc/passwd", files + "/absolute");
    fs::create_symlink("loop", files + "/loop");
    CHECK(output_of(server, {"cat", source_of(server, "/../../f")}) == "inside");
    CHECK(output_of(server, {"cat", source_of(server, "/d/up")}) == "inside");
    CHECK(output_of(server, {"cat", source_of(server, "/d/../f")}) == "inside");
    check_refused(server, {"cat", source_of(server, "/absolute")}, 7, "absolute");
    check_refused(server, {"cat", source_of(server, "/loop")}, 7, "/loop");
    check_refused(server, {"cat", source_of(server, "/" + std::string(300, 'n'))}, 1, "too long");
}

TEST_CASE("the environment may name the server") {
    const ServerProcess server;
    write_file(server.directory() + "/f", "found");
    Command command = remofile_command(server, {"cat", "/f"});
    command.environment.emplace_back("REMOFILE_HOSTNAME", "127.0.0.1");
    command.environment.emplace_back("REMOFILE_PORT", std::to_string(server.port()));
    CHECK(run(command).output == "found");
    check_refused(server, {"cat", "/f"}, 1, "/f");
    check_refused(server, {"mv", source_of(server, "/f"), "other.example:/f"}, 1, "different servers");
}

TEST_CASE("bash completes commands, options, servers and paths of servers") {
    const ServerProcess server;
    fs::create_directory(server.directory() + "/photos");
    write_file(server.directory() + "/plain", "");
    write_file(server.directory() + "/photos/a b", "");
    const std::string home = Scratch::instance().make_directory("completion");
    fs::create_directory(home + "/bin");
    fs::create_symlink(program_from_environment("REMOFILE"), home + "/bin/remofile");
    // The completions of a line, as readline asks for them; it splits words at colons.
    const auto completions = [&](const std::string& line, const std::string& environment = "") {
        write_file(home + "/complete", "PATH=$PWD/bin:$PATH\ncomplete() { :; }\ncompopt() { :; }\n. " +
                                           program_from_environment("REMOFILE_COMPLETION") + "\n" + environment +
                                           "\nCOMP_LINE=$1 COMP_POINT=${#1} COMP_WORDBREAKS=' :'\n"
                                           "read -ra COMP_WORDS <<<\"$1\"\nCOMP_CWORD=${#COMP_WORDS[@]}\n"
                                           "[[ $1 == *' ' ]] || COMP_CWORD=$((COMP_CWORD - 1))\n_remofile\n"
                                           "printf '%s\\n' \"${COMPREPLY[@]}\" | sort | tr '\\n' '|'\n");
        const Ended ended = run({.arguments = {"bash", "complete", line},
                                 .environment = {{"REMOFILE_CONFIG_DIR", server.config_dir()}},
                                 .directory = home});
        INFO(ended.to_string());
        CHECK(ended.errors.empty());
        return ended.output;
    };
    const std::string source = "127.0.0.1:" + std::to_string(server.port()) + ":";
    CHECK(completions("remofile ge") == "generate-keys|generate-token|get|");
    CHECK(completions("remofile ls --l") == "--long|");
    CHECK(completions("remofile ls " + source) == "/|");
    CHECK(completions("remofile ls " + source + "/p") == "/photos/|/plain|");
    CHECK(completions("remofile get " + source + "/photos/") == "/photos/a b|");
    CHECK(completions("remofile get " + source + "/photos/a\\ ") == "/photos/a b|");
    CHECK(completions("remofile cat /ph", "export REMOFILE_HOSTNAME=127.0.0.1 REMOFILE_PORT=" +
                                              std::to_string(server.port())) == "/photos/|");
    CHECK(completions("remofile ls 127.0.0.1:1:/p") == "|");
    write_file(home + "/paper", "");
    write_file(server.config_dir() + "/known_servers", "# keys\npaper.example:6768 key\nother.example:7 key\n");
    CHECK(completions("remofile put pap") == "paper|paper.example:|");
    CHECK(completions("remofile ls oth") == "other.example:7:|");
}

TEST_CASE("ls sorts, goes into directories, and shows sizes for people") {
    const ServerProcess server;
    const std::string& files = server.directory();
    fs::create_directories(files + "/sub/deep");
    fs::create_directory_symlink("sub", files + "/link");
    write_file(files + "/sub/large", std::string(1536, 'x'));
    write_file(files + "/sub/small", "x");
    write_file(files + "/sub/deep/last", "");
    const auto set_time = [&](const std::string& path, int seconds) {
        const timespec times[] = {{.tv_sec = seconds, .tv_nsec = 0}, {.tv_sec = seconds, .tv_nsec = 0}};
        REQUIRE(::utimensat(AT_FDCWD, (files + path).c_str(), times, 0) == 0);
    };
    set_time("/sub/large", 100);
    set_time("/sub/small", 300);
    set_time("/sub/deep", 200);
    const auto ls = [&](const std::string& option) {
        return output_of(server, {"ls", option, source_of(server, "/sub")});
    };
    CHECK(ls("-t") == "small\ndeep\nlarge\n");
    CHECK(ls("-tr") == "large\ndeep\nsmall\n");
    CHECK(ls("-r") == "small\nlarge\ndeep\n");
    CHECK(ls("-Sr").starts_with("small\n"));
    CHECK_THAT(ls("-lh"), ContainsSubstring(" 1.5K 1970-01-01"));
    CHECK(output_of(server, {"ls", "-R", source_of(server, "/")}) ==
          "/:\nlink\nsub\n\n/sub:\ndeep\nlarge\nsmall\n\n/sub/deep:\nlast\n");
    CHECK(ls("-RS").ends_with("\n/sub/deep:\nlast\n"));
    CHECK_THAT(output_of(server, {"ls", "-R", "--json", source_of(server, "/")}),
               ContainsSubstring("{\"name\": \"sub/deep/last\", \"type\": \"regular file\""));
    CHECK_THAT(output_of(server, {"ls", "--help"}), ContainsSubstring("-h,--human-readable"));
}

TEST_CASE("chmod changes modes, of trees too") {
    const ServerProcess server;
    const std::string& files = server.directory();
    fs::create_directories(files + "/d/sub");
    write_file(files + "/f", "f");
    write_file(files + "/d/sub/f", "f");
    fs::create_symlink("../f", files + "/d/link");
    const auto mode_of = [&](const std::string& path) {
        return static_cast<unsigned>(fs::status(files + path).permissions());
    };
    CHECK(output_of(server, {"chmod", "640", source_of(server, "/f"), source_of(server, "/d/sub/f")}).empty());
    CHECK(mode_of("/f") == 0640);
    output_of(server, {"chmod", "u+x,o+r", source_of(server, "/f")});
    CHECK(mode_of("/f") == 0744);
    output_of(server, {"chmod", "-R", "go=rX,u=rwX", source_of(server, "/d")});
    CHECK(mode_of("/d/sub") == 0755);
    CHECK(mode_of("/d/sub/f") == 0644);
    CHECK(mode_of("/f") == 0744);
    check_refused(server, {"chmod", "u+q", source_of(server, "/f")}, 1, "\"u+q\" is no mode");
    check_refused(server, {"chmod", "644", source_of(server, "/none")}, 7, "/none: no such file");
}

TEST_CASE("ln gives files further names, and makes symbolic links") {
    const ServerProcess server;
    const std::string& files = server.directory();
    write_file(files + "/f", "f");
    fs::create_directory(files + "/d");
    output_of(server, {"ln", source_of(server, "/f"), source_of(server, "/g")});
    output_of(server, {"ln", source_of(server, "/f"), source_of(server, "/d")});
    CHECK(fs::hard_link_count(files + "/f") == 3);
    CHECK(fs::exists(files + "/d/f"));
    output_of(server, {"ln", "-s", "../f", source_of(server, "/d/link")});
    output_of(server, {"ln", "-s", "nowhere/there", source_of(server, "/d")});
    CHECK(fs::read_symlink(files + "/d/link") == "../f");
    CHECK(fs::read_symlink(files + "/d/there") == "nowhere/there");
    check_refused(server, {"ln", source_of(server, "/f"), source_of(server, "/g")}, 1, "/g: ");
    check_refused(server, {"ln", "-s", "x", source_of(server, "/g")}, 1, "/g: ");
    check_refused(server, {"ln", source_of(server, "/none"), source_of(server, "/x")}, 7, "/none: no such file");
}

TEST_CASE("df shows space") {
    const ServerProcess server;
    const std::string text = output_of(server, {"df", source_of(server, "/")});
    CHECK_THAT(text, ContainsSubstring("1K-blocks"));
    CHECK(text.ends_with("% /\n"));
    CHECK(std::ranges::count(text, '\n') == 2);
    CHECK_THAT(output_of(server, {"df", "-h", source_of(server, "/")}), ContainsSubstring("Avail  Use% Path\n"));
    CHECK_THAT(
        output_of(server, {"df", "--json", source_of(server, "/")}),
        ContainsSubstring(fmt::format("{{\"path\": \"/\", \"size\": {}, ", fs::space(server.directory()).capacity)));
    check_refused(server, {"df", source_of(server, "/none")}, 7, "/none: no such file");
}

TEST_CASE("cp copies files and trees within the server") {
    const ServerProcess server;
    const std::string& files = server.directory();
    fs::create_directories(files + "/tree/sub");
    fs::create_directory(files + "/d");
    const std::string large(3'000'000, 'x');
    write_file(files + "/tree/sub/large", large);
    write_file(files + "/f", "content");
    write_file(files + "/empty", "");
    fs::create_symlink("sub/large", files + "/tree/link");
    fs::permissions(files + "/f", fs::perms{0640});
    const timespec times[] = {{.tv_sec = 5, .tv_nsec = 0}, {.tv_sec = 7, .tv_nsec = 9}};
    REQUIRE(::utimensat(AT_FDCWD, (files + "/f").c_str(), times, 0) == 0);
    const auto read = [&](const std::string& path) {
        std::ifstream in(files + path, std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(in), {});
    };
    output_of(server, {"cp", source_of(server, "/f"), source_of(server, "/g")});
    CHECK(read("/g") == "content");
    CHECK((fs::status(files + "/g").permissions() & fs::perms::owner_all) == (fs::perms{0600}));
    CHECK(fs::last_write_time(files + "/g") != fs::last_write_time(files + "/f"));
    output_of(server, {"cp", "-p", source_of(server, "/f"), source_of(server, "/empty"), source_of(server, "/d")});
    CHECK(fs::last_write_time(files + "/d/f") == fs::last_write_time(files + "/f"));
    CHECK(fs::status(files + "/d/f").permissions() == fs::perms{0640});
    CHECK(fs::file_size(files + "/d/empty") == 0);

    CHECK(output_of(server, {"cp", "-rn", source_of(server, "/tree"), source_of(server, "/new")}) ==
          "would copy on the server: /tree to /new\nwould copy on the server: /tree/link to /new/link\n"
          "would copy on the server: /tree/sub to /new/sub\n"
          "would copy on the server: /tree/sub/large to /new/sub/large\n");
    CHECK_FALSE(fs::exists(files + "/new"));
    output_of(server, {"cp", "-r", source_of(server, "/tree"), source_of(server, "/new")});
    CHECK((read("/new/sub/large") == large));
    CHECK(fs::read_symlink(files + "/new/link") == "sub/large");
    // Into what is there, and replacing what it holds.
    write_file(files + "/new/sub/large", "old");
    output_of(server, {"cp", "-r", source_of(server, "/tree/sub"), source_of(server, "/new")});
    CHECK((read("/new/sub/large") == large));

    check_refused(server, {"cp", source_of(server, "/tree"), source_of(server, "/x")}, 1,
                  "/tree: is a directory (pass -r");
    check_refused(server, {"cp", source_of(server, "/f"), source_of(server, "/f")}, 1, "/f and /f are the same");
    check_refused(server, {"cp", source_of(server, "/none"), source_of(server, "/x")}, 7, "/none: no such file");
    check_refused(server, {"cp", source_of(server, "/f"), source_of(server, "/x/")}, 7, "there is no such directory");
    check_refused(server, {"cp", source_of(server, "/f"), source_of(server, "/g"), source_of(server, "/x")}, 7,
                  "there is no such directory");
    check_refused(server, {"cp", "-r", source_of(server, "/tree"), source_of(server, "/f")}, 7, "no directory");
    check_refused(server, {"cp", "-r", source_of(server, "/tree"), source_of(server, "/tree/sub")}, 1,
                  "a directory is not copied into itself");
    CHECK(fs::exists(files + "/tree/sub/tree/sub/large"));
    CHECK_FALSE(fs::exists(files + "/tree/sub/tree/sub/tree"));
    for (const auto& entry : fs::recursive_directory_iterator(files))
        CHECK_FALSE(entry.path().native().ends_with("partial"));
}

}  // namespace remofile::test
