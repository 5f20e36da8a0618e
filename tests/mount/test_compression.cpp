// SPDX-License-Identifier: MIT
// What the option compress changes, which is nothing that a program could see; and what becomes of holes.
#include <sys/stat.h>

#include <fstream>

#include "harness/mount_process.hpp"
#include "mount/shared_mount.hpp"

using namespace remofile::test;

namespace {

std::uint64_t bytes_on_disk(const std::string& path) {
    struct stat stat {};
    return ::stat(path.c_str(), &stat) == 0 ? static_cast<std::uint64_t>(stat.st_blocks) * 512 : UINT64_MAX;
}

// Copies text, noise and a mixture into the mount and back, and compares.
void copy_both_ways(const std::string& mountpoint, const std::string& local) {
    const Ended ended = run_script(local,
                                   "i=0; while [ $i -lt 20000 ]; do echo \"line $i of a text that is repeated with "
                                   "small changes\"; i=$((i+1)); done > text\n"
                                   "head -c 3000000 /dev/urandom > noise\n"
                                   "cat text noise text /bin/sh noise > mixture\n"
                                   "mkdir -p '" +
                                       mountpoint +
                                       "/there'\n"
                                       "for f in text noise mixture; do cp $f '" +
                                       mountpoint +
                                       "/there/'; done\n"
                                       "for f in text noise mixture; do cp '" +
                                       mountpoint +
                                       "/there/'$f back-$f; cmp $f back-$f; done\n"
                                       "rm -r '" +
                                       mountpoint + "/there'\n",
                                   Milliseconds{120'000});
    INFO(ended.to_string());
    CHECK(ended.exit_status == 0);
}

}  // namespace

TEST_CASE("compress: contents are the same at each level") {
    Scratch& scratch = Scratch::instance();
    const ServerProcess server;
    for (const std::string option : {"compress=off", "compress=auto", "compress=1", "compress=3", "compress=12"}) {
        INFO(option);
        MountProcess mount(server, {option});
        copy_both_ways(mount.path(), scratch.make_directory("local"));
        // What auto makes of a link depends on how fast that seems while the machine is busy with other things.
        if (option != "compress=auto")
            CHECK((mount.counted("client.compression.bytes_in") > 1'000'000) == (option != "compress=off"));
        CHECK(mount.unmount());
    }
}

TEST_CASE("compress: sparse files keep their contents, and mostly their holes") {
    Scratch& scratch = Scratch::instance();
    const ServerProcess server;
    MountProcess mount(server);
    const std::string local = scratch.make_directory("local");
    const Ended ended =
        run_script(local,
                   "truncate -s 64M sparse\n"
                   "printf begin | dd of=sparse conv=notrunc status=none\n"
                   "head -c 100000 /dev/urandom | dd of=sparse bs=1000 seek=30000 conv=notrunc status=none\n"
                   "printf end | dd of=sparse bs=1 seek=60000000 conv=notrunc status=none\n"
                   "cp --sparse=never sparse '" +
                       mount.path() +
                       "/full'\n"
                       "cp --sparse=always sparse '" +
                       mount.path() +
                       "/always'\n"
                       "for f in full always; do\n"
                       "  cmp sparse '" +
                       mount.path() +
                       "/'$f\n"
                       "  cp --sparse=never '" +
                       mount.path() +
                       "/'$f back; cmp sparse back\n"
                       "  cp --sparse=auto '" +
                       mount.path() +
                       "/'$f back; cmp sparse back\n"
                       "done\n",
                   Milliseconds{120'000});
    INFO(ended.to_string());
    CHECK(ended.exit_status == 0);
    for (const std::string name : {"full", "always"}) {
        const std::string stored = server.directory() + "/" + name;
        CHECK(run_script(local, "cmp sparse '" + stored + "'").exit_status == 0);
        CHECK(bytes_on_disk(stored) < 8'000'000);
    }
    CHECK(mount.unmount());
}
