// SPDX-License-Identifier: MIT
// fio writes patterns in every way that it knows and reads them back: while it writes, afterwards, through a second
// mount and after mounting anew.
//
// REMOFS_TEST_FIO_MIB=1024 makes the files large.
#include <cstdlib>
#include <string_view>

#include "catch.hpp"
#include "harness/mount_process.hpp"
#include "harness/scratch.hpp"
#include "harness/side_by_side.hpp"
#include "harness/transcript.hpp"

using namespace remofile::test;

namespace {

struct Workload {
    const char* name;
    const char* settings;  // lines of a job file
    // fio's --verify_only goes astray over gaps, parts of files and, if files are large, mixed reads: on any file
    // system.
    bool verifiable_later = true;
};

constexpr Workload workloads[] = {
    {"sequential writes of mixed sizes, two files at once",
     "rw=write\nioengine=psync\nbsrange=512-1m\nnumjobs=2\nend_fsync=1\n"},
    {"random writes of mixed sizes, read back while writing",
     "rw=randwrite\nioengine=psync\nbsrange=512-256k\nverify_backlog=50\n"},
    {"random reads and writes without the kernel's cache, many in flight",
     "rw=randrw\nioengine=libaio\ndirect=1\niodepth=16\nbsrange=4k-128k\nverify_backlog=50\n", false},
    {"random writes through a mapping", "rw=randwrite\nioengine=mmap\nbs=4k\nfsync=100\nverify_backlog=500\n"},
    // Verified on the way: at the end, fio 3.39 no longer knows the seeds of several writers of one file. No
    // `filesize`: with one that is larger than `size`, the random writes of fio 3.33 leave their part, and each writer
    // reads what another has written.
    {"four processes in one file, each in a part of its own",
     "rw=randwrite\nioengine=psync\nbsrange=512-64k\nfilename=shared\nnumjobs=4\noffset_increment=${QUARTER}\nsize=${"
     "QUARTER}\n"
     "fdatasync=40\nverify_backlog=50\n",
     false},
    {"vectors, forwards with gaps", "rw=write:12k\nioengine=pvsync2\nbs=20k\n", false},
    {"backwards", "rw=write:-40k\nioengine=psync\nbs=20k\nio_size=25%\noffset=75%\n", false},
};

constexpr const char* common_settings =
    "[global]\nthread=0\ngroup_reporting\nverify=xxhash\nverify_fatal=1\nverify_state_save=0\nfallocate=none\n"
    "size=${SIZE}\n";

int mebibytes_for_tests() {
    const char* given = std::getenv("REMOFS_TEST_FIO_MIB");
    return std::max(1, given ? std::atoi(given) : 6);
}

Milliseconds deadline() {
    return Milliseconds{60'000} * std::max(1, mebibytes_for_tests() / 6);
}

// `extra`: more of fio's options, such as --verify_only.
Ended run_fio(const std::string& directory, const std::string& job_file, std::vector<std::string> extra = {}) {
    Command command = {.arguments = {"fio", "--directory=" + directory, "--output-format=terse"},
                       .environment = {{"SIZE", std::to_string(mebibytes_for_tests()) + "m"},
                                       {"QUARTER", std::to_string(mebibytes_for_tests() * 256) + "k"}},
                       .directory = Scratch::instance().make_directory("fio")};
    command.arguments.insert(command.arguments.end(), extra.begin(), extra.end());
    command.arguments.push_back(job_file);
    return run(command, deadline());
}

void check_workload(const Workload& workload, const std::vector<std::string>& options) {
    INFO(workload.name);
    const std::string job_file = Scratch::instance().make_directory("job") + "/job.fio";
    write_file(job_file, std::string(common_settings) + "[job]\n" + workload.settings);
    if (testing_locally()) {
        const Ended end = run_fio(Scratch::instance().make_directory("stands-in"), job_file);
        INFO(end.to_string());
        CHECK(end.exit_status == 0);
        return;
    }
    const ServerProcess server;
    MountProcess other(server, options);
    const auto check = [&](const char* when, const std::string& directory, const std::vector<std::string>& extra) {
        INFO(when);
        const Ended end = run_fio(directory, job_file, extra);
        INFO(end.to_string());
        CHECK(end.exit_status == 0);
    };
    {
        MountProcess mount(server, options);
        check("written and read", mount.path(), {});
        if (!workload.verifiable_later)
            return;
        check("read through another mount", other.path(), {"--verify_only=1"});
        check("written and read again", other.path(), {"--randseed=17"});
        check("read where it was written first", mount.path(), {"--randseed=17", "--verify_only=1"});
        CHECK(mount.unmount());
    }
    MountProcess anew(server, options);
    check("read after mounting anew", anew.path(), {"--randseed=17", "--verify_only=1"});
}

void check_all(const std::vector<std::string>& options) {
    if (!is_installed("fio")) {
        WARN("not installed: fio");
        return;
    }
    for (const Workload& workload : workloads)
        check_workload(workload, options);
}

}  // namespace

TEST_CASE("fio: everything written is read back") {
    check_all({});
}

TEST_CASE("fio: everything written is read back with little cache") {
    check_all({"cache_size=4M"});
}
