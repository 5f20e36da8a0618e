// SPDX-License-Identifier: MIT
// The logs of a real server and a real mount, in each format.
#include <sstream>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/transcript.hpp"

using namespace remofile::test;

namespace {

// Whether python takes each line for a JSON object of that program.
void check_objects(const std::string& log, const std::string& program) {
    const std::string file = Scratch::instance().make_directory("log") + "/lines";
    write_file(file, log);
    const std::string script =
        "import datetime, json, sys\n"
        "lines = [json.loads(line) for line in open(sys.argv[1])]\n"
        "assert lines\n"
        "for line in lines:\n"
        "    assert set(line) == {'time', 'level', 'program', 'message'}, line\n"
        "    assert line['program'] == sys.argv[2], line\n"
        "    assert line['level'] in ('debug', 'info', 'warning', 'error'), line\n"
        "    then = datetime.datetime.strptime(line['time'], '%Y-%m-%dT%H:%M:%S.%f%z')\n"
        "    assert abs((datetime.datetime.now(datetime.timezone.utc) - then).total_seconds()) < 600, line\n";
    const Ended ended = run({.arguments = {"python3", "-c", script, file, program}});
    INFO(ended.to_string() << log);
    CHECK(ended.exit_status == 0);
}

void check_lines(const std::string& log, const std::string& before, const std::string& within) {
    CHECK(log.find(within) != std::string::npos);
    std::istringstream lines(log);
    for (std::string line; std::getline(lines, line);) {
        INFO(line);
        CHECK(line.starts_with(before));
    }
}

}  // namespace

TEST_CASE("as JSON, each line of the log is an object") {
    const ServerProcess server({.arguments = {"--log-format", "json"}});
    const MountProcess mount(server, {"log_format=json"});
    check_objects(server.errors(), "remofile-server");
    check_objects(mount.errors(), "remofs");
}

TEST_CASE("for the journal, each line begins with its priority") {
    const ServerProcess server({.arguments = {"--log-format=journald"}});
    const MountProcess mount(server, {"log_format=journald"});
    check_lines(server.errors(), "<6>", "<6>listening on ");
    check_lines(mount.errors(), "<6>", " is mounted at ");
}

TEST_CASE("a program whose standard error is not the journal that it was told of logs text") {
    const ServerProcess server({.environment = {{"JOURNAL_STREAM", "1:1"}}});
    check_lines(server.errors(), "20", " remofile-server info: listening on ");
}
