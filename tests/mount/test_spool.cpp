// SPDX-License-Identifier: MIT
// -o spool=: what a server has not got when its mount ends is sent by the next one.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/mount_table.hpp"
#include "harness/scratch.hpp"
#include "harness/small_file_system.hpp"
#include "harness/transcript.hpp"
#include "killing.hpp"

using namespace remofile::test;

namespace {

constexpr Milliseconds bound{35'000};  // two times ten seconds, and a disk

std::string status_of(const std::string& path) {
    std::string value(64U << 10, '\0');
    const ssize_t size = getxattr(path.c_str(), "remofs.status", value.data(), value.size());
    value.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return value;
}

bool says(const std::string& path, const std::string& what) {
    return status_of(path).find(what) != std::string::npos;
}

// Names below a directory, with what is in files, and where links lead.
std::map<std::string, std::string> tree(const std::string& root) {
    std::map<std::string, std::string> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
        const std::string name = entry.path().lexically_relative(root).string();
        if (entry.is_symlink())
            found[name] = "-> " + std::filesystem::read_symlink(entry.path()).string();
        else
            found[name] = entry.is_directory() ? "/" : read_file(entry.path().string());
    }
    return found;
}

// A mount with a directory of which it alone has the lease, and a server that stops.
struct Away {
    ServerProcess server;
    std::string folder = Scratch::instance().make_directory("spool");
    std::string spool;
    std::optional<MountProcess> mount;
    // A program that has files open from before, and dies when it has written to them.
    std::optional<Child> writer;

    explicit Away(std::string spool_directory = {})
        : spool(spool_directory.empty() ? folder + "/spool" : std::move(spool_directory)) {
        begin();
        REQUIRE(mkdir(at("").c_str(), 0755) == 0);
        for (const char* name : {"appended", "changed", "replaced", "removed", "moved"})
            write_file(at(name), std::string("old ") + name + "\n");
        REQUIRE(mkdir(at("rmdir").c_str(), 0755) == 0);
        REQUIRE(eventually(Milliseconds{10'000}, [&] {
            return says(mount->path(), "\"pending_changes\": 0,") &&
                   !says(mount->path(), "\"leases.exclusive_taken\": 0,");
        }));
        writer.emplace(Child::fork([this] {
            const int appended = open(at("appended").c_str(), O_RDWR);
            const int changed = open(at("changed").c_str(), O_RDWR);
            write_file(folder + "/ready", "");
            while (access((folder + "/go").c_str(), F_OK) != 0)
                usleep(20'000);
            const bool is_written = pwrite(appended, "more\n", 5, 13) == 5 && pwrite(changed, "NEW", 3, 0) == 3;
            if (is_written)
                write_file(folder + "/written", "");
            return kill(getpid(), SIGKILL);
        }));
        REQUIRE(eventually(Milliseconds{10'000}, [&] { return std::filesystem::exists(folder + "/ready"); }));
    }
    ~Away() { kill(server.pid(), SIGCONT); }

    void begin() { mount.emplace(server, std::vector<std::string>{"spool=" + spool}); }
    std::string at(const std::string& name) const { return mount->path() + "/d/" + name; }
    std::string at_server(const std::string& name) const { return server.directory() + "/d/" + name; }
    void stop() const { kill(server.pid(), SIGSTOP); }

    // All kinds of changes, of which a stopped server gets none.
    void work() {
        stop();
        write_file(at("new"), "new file\n");
        REQUIRE(mkdir(at("made").c_str(), 0755) == 0);
        write_file(at("made/inside.txt"), std::string(200'000, 'x'));
        REQUIRE(symlink("new", at("link").c_str()) == 0);
        REQUIRE(rename(at("moved").c_str(), at("made/moved").c_str()) == 0);
        write_file(at("temporary"), "saved at once\n");
        REQUIRE(rename(at("temporary").c_str(), at("replaced").c_str()) == 0);
        REQUIRE(unlink(at("removed").c_str()) == 0);
        REQUIRE(rmdir(at("rmdir").c_str()) == 0);
        REQUIRE(chmod(at("new").c_str(), 0600) == 0);
        write_file(folder + "/go", "");
        REQUIRE(eventually(Milliseconds{10'000}, [&] { return std::filesystem::exists(folder + "/written"); }));
    }
    static std::map<std::string, std::string> expected() {
        return {{"appended", "old appended\nmore\n"},
                {"changed", "NEW changed\n"},
                {"link", "-> new"},
                {"made", "/"},
                {"made/inside.txt", std::string(200'000, 'x')},
                {"made/moved", "old moved\n"},
                {"new", "new file\n"},
                {"replaced", "saved at once\n"}};
    }

    // How the mount ended, as it told.
    std::string end_by_umount() {
        server.kill();
        const Ended umount = run({.arguments = {program_from_environment("UMOUNT_REMOFS"), mount->path()}}, bound);
        INFO(umount.to_string());
        CHECK(umount.exit_status == 0);
        CHECK(umount.errors.find("is kept in the spool of the mount") != std::string::npos);
        return ended();
    }
    std::string end_by_signal() {
        server.kill();
        kill(mount->pid(), SIGTERM);
        return ended();
    }
    std::string ended() {
        REQUIRE(eventually(bound, [&] { return !mount->running(); }));
        return mount->errors();
    }
    std::vector<std::string> kept() const {
        std::vector<std::string> names;
        for (const auto& entry : std::filesystem::directory_iterator(spool))
            if (entry.path().extension() != ".lock")
                names.push_back(entry.path().filename().string());
        return names;
    }
};

}  // namespace

TEST_CASE("spool: what was done while the server was away is there after the next mount") {
    Away f;
    f.work();
    const bool by_umount = GENERATE(true, false);
    const std::string said = by_umount ? f.end_by_umount() : f.end_by_signal();
    INFO(said);
    CHECK(said.find("kept what the server has not got in " + f.spool) != std::string::npos);
    CHECK(said.find(": 5 files with 200031 bytes, and ") != std::string::npos);
    CHECK(said.find("could not be written") == std::string::npos);
    CHECK(f.kept().size() == 1);
    f.server.start_again();
    f.begin();
    INFO(f.mount->errors());
    CHECK(tree(f.server.directory() + "/d") == Away::expected());
    CHECK(tree(f.mount->path() + "/d") == Away::expected());
    struct stat status {};
    REQUIRE(stat(f.at_server("new").c_str(), &status) == 0);
    CHECK((status.st_mode & 07777U) == 0600);
    CHECK(f.kept().empty());
    CHECK(says(f.mount->path(), "\"spool.conflicts\": 0"));
    CHECK(says(f.mount->path(), "\"spool_files_left\": 0"));
    CHECK(f.mount->errors().find("all that was kept in ") != std::string::npos);
}

TEST_CASE("spool: what somebody else has changed meanwhile stays, and ours is kept beside it") {
    Away f;
    f.work();
    f.end_by_signal();
    for (const char* name : {"new", "changed", "replaced", "removed", "moved"})
        write_file(f.at_server(name), std::string("somebody else's ") + name + "\n");
    REQUIRE(unlink(f.at_server("appended").c_str()) == 0);
    f.server.start_again();
    f.begin();
    const std::string said = f.mount->errors();
    INFO(said);
    std::map<std::string, std::string> there;
    std::map<std::string, std::string> ours;
    for (const auto& [name, content] : tree(f.server.directory() + "/d")) {
        const auto mark = name.find(".conflict-local-");
        (mark == name.npos ? there : ours)[name.substr(0, mark)] = content;
    }
    CHECK(there == std::map<std::string, std::string>{{"changed", "somebody else's changed\n"},
                                                      {"link", "-> new"},
                                                      {"made", "/"},
                                                      {"made/inside.txt", std::string(200'000, 'x')},
                                                      {"moved", "somebody else's moved\n"},
                                                      {"new", "somebody else's new\n"},
                                                      {"removed", "somebody else's removed\n"},
                                                      {"replaced", "somebody else's replaced\n"}});
    CHECK(ours == std::map<std::string, std::string>{{"appended", std::string(13, '\0') + "more\n"},
                                                     {"changed", "NEWebody els"},
                                                     {"new", "new file\n"},
                                                     {"replaced", "saved at once\n"}});
    CHECK(said.find("d/removed is not removed: it was changed at the server meanwhile") != std::string::npos);
    CHECK(said.find("d/moved is not renamed to d/made/moved") != std::string::npos);
    CHECK(said.find("what was written here is kept as d/new.conflict-local-") != std::string::npos);
    CHECK(f.kept().empty());
    CHECK(says(f.mount->path(), "\"spool.conflicts\": 6"));
}

TEST_CASE("spool: a mount that is killed while it sends is followed by one that goes on") {
    const std::uint32_t seed = number_from("REMOFS_TEST_SEED", std::random_device()());
    INFO("REMOFS_TEST_SEED=" << seed);
    std::mt19937 random(seed);
    Away f;
    f.work();
    f.end_by_signal();
    f.server.start_again();
    const std::string mountpoint = f.mount->path();
    unsigned interrupted = 0;
    for (unsigned attempt = 0; attempt < 20 && !f.kept().empty(); ++attempt) {
        Child remofs = Child::start(remofs_command({.source = source_of(f.server.port()),
                                                    .config_dir = f.server.config_dir(),
                                                    .options = {"spool=" + f.spool},
                                                    .mountpoint = mountpoint}));
        const auto log_says = [&](const char* what) { return remofs.errors().find(what) != std::string::npos; };
        REQUIRE(eventually(Milliseconds{20'000}, [&] { return log_says("sending what was kept"); }));
        usleep(random() % 4'000);
        interrupted += log_says("all that was kept") ? 0U : 1U;
        kill(remofs.pid(), SIGKILL);
        remofs.wait(Milliseconds{10'000});
    }
    f.begin();
    INFO("interrupted " << interrupted << " times\n" << f.mount->errors());
    CHECK(tree(f.server.directory() + "/d") == Away::expected());
    CHECK(f.kept().empty());
    run({.arguments = {"umount", "-l", mountpoint}}, Milliseconds{5'000});
}

TEST_CASE("spool: where there is no room for it, what is lost is said") {
    auto small = SmallFileSystem::tmpfs("size=64k");
    if (!small.mounted())
        return;
    Away f(small.path() + "/spool");
    f.work();
    const std::string said = f.end_by_signal();
    INFO(said);
    CHECK(said.find("could not be kept in " + f.spool + ": the file cannot be written: No space left on device; ") !=
          std::string::npos);
    CHECK(said.find(" bytes and ") != std::string::npos);
    CHECK(f.kept().empty());
    f.server.start_again();
    f.begin();
    CHECK(f.mount->alive());
    f.mount.reset();
}

TEST_CASE("spool: a damaged file is named and left, and the mount begins") {
    Away f;
    f.work();
    f.end_by_signal();
    REQUIRE(f.kept().size() == 1);
    const std::string file = f.spool + "/" + f.kept().front();
    std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1);
    f.server.start_again();
    f.begin();
    CHECK(f.mount->errors().find(file +
                                 " is damaged: its checksum is wrong: it stays there, and nothing of it is sent") !=
          std::string::npos);
    CHECK(std::filesystem::exists(file));
    CHECK(std::filesystem::exists(f.at_server("removed")));
}

TEST_CASE("spool: a directory that cannot be trusted is refused") {
    ServerProcess server;
    MountProcess::Options options{.source = source_of(server.port()),
                                  .config_dir = server.config_dir(),
                                  .mountpoint = Scratch::instance().make_directory("mount")};
    options.options = {"spool=" + options.mountpoint + "/spool"};
    const Ended end = run(remofs_command(options), Milliseconds{10'000});
    CHECK(end.exit_status != 0);
    CHECK(end.errors.find("it is inside the mount") != std::string::npos);
}
