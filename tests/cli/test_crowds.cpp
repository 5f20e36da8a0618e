// SPDX-License-Identifier: MIT
// Many commands at once and in a row, and how a command that is interrupted leaves its server.
// REMOFILE_TEST_CROWD=500 runs so many.
#include <catch.hpp>
#include <csignal>
#include <cstdlib>

#include "harness/patience.hpp"
#include "harness/scratch.hpp"
#include "local_tree.hpp"
#include "waiting_command.hpp"

namespace remofile::test {
namespace {

std::string crowd() {
    const char* given = std::getenv("REMOFILE_TEST_CROWD");
    return given != nullptr ? given : "250";
}

Ended run_for(const ServerProcess& server, const std::string& script) {
    return run({.arguments = {"/bin/sh", "-c", script},
                .environment = {{"REMOFILE_CONFIG_DIR", server.config_dir()},
                                {"R", program_from_environment("REMOFILE")},
                                {"S", source_of(server, "/")},
                                {"N", crowd()}},
                .directory = Scratch::instance().make_directory("crowd")},
               Milliseconds{280'000});
}

}  // namespace

TEST_CASE("a crowd of commands is served, at once and in a row") {
    const ServerProcess server;
    write_file(server.directory() + "/f", "content");
    const Ended at_once = run_for(server,
                                  "i=0; p=; while [ $i -lt $N ]; do $R ls $S > out.$i & p=\"$p $!\"; i=$((i+1)); done; "
                                  "bad=0; for q in $p; do wait $q || bad=$((bad+1)); done; echo $bad failed; "
                                  "cat out.* | grep -c '^f$'");
    INFO(at_once.to_string());
    CHECK(at_once.output == "0 failed\n" + crowd() + "\n");
    const Ended in_a_row = run_for(server,
                                   "i=0; bad=0; while [ $i -lt $N ]; do $R ls $S > out || bad=$((bad+1)); i=$((i+1)); "
                                   "done; echo $bad failed");
    INFO(in_a_row.to_string());
    CHECK(in_a_row.output == "0 failed\n");
}

TEST_CASE("a command that is ended by a signal says good-bye") {
    const int signal = GENERATE(SIGINT, SIGTERM, SIGHUP);
    const ServerProcess server(ServerProcess::Options{.arguments = {"--exclusive"}});
    WaitingCommand holder(server);
    CHECK(remofile(server, {"ls", source_of(server, "/")}).exit_status == 6);
    holder.child().signal(signal);
    const Ended ended = holder.child().wait(Milliseconds{10'000});
    INFO(ended.to_string());
    CHECK(ended.exit_status == 128 + signal);
    CHECK(ended.errors.empty());
    CHECK(remofile(server, {"ls", source_of(server, "/")}).exit_status == 0);
}

TEST_CASE("a signal ends a command that waits for its disk, too") {
    const ServerProcess server(ServerProcess::Options{.arguments = {"--exclusive"}});
    WaitingCommand holder(server);
    // What is found there ends the work, once the disk has answered.
    fs::remove(server.directory() + "/waiting");
    holder.child().signal(SIGINT);
    CHECK(holder.child().wait(Milliseconds{10'000}).exit_status == 128 + SIGINT);
}

TEST_CASE("a command whose reader has gone says good-bye") {
    const ServerProcess server(ServerProcess::Options{.arguments = {"--exclusive"}});
    write_file(server.directory() + "/large", std::string(20 * mebibyte, 'x'));
    const Ended ended = run_for(server, "$R cat ${S}large | head -c 1; $R ls $S");
    INFO(ended.to_string());
    CHECK(ended.exit_status == 0);
    CHECK(ended.output == "xlarge\n");
    CHECK(ended.errors.empty());
}

TEST_CASE("signals that a command was told to ignore are ignored") {
    const ServerProcess server;
    write_file(server.directory() + "/link-to-be", "");
    const Ended ended = run_for(server, "trap '' HUP INT; $R ls $S & kill -HUP $!; kill -INT $!; wait $!");
    INFO(ended.to_string());
    CHECK(ended.exit_status == 0);
}

}  // namespace remofile::test
