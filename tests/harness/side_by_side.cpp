// SPDX-License-Identifier: MIT
#include "harness/side_by_side.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>

#include "harness/mount_table.hpp"
#include "harness/scratch.hpp"

namespace remofile::test {

namespace {

// Where in the kernel a process hangs, for the report.
std::string kernel_stack(pid_t pid) {
    try {
        return read_file("/proc/" + std::to_string(pid) + "/stack");
    } catch (const std::runtime_error& error) {
        return error.what();
    }
}

}  // namespace

bool testing_locally() {
    return std::getenv("REMOFS_TEST_LOCALLY") != nullptr;
}

SideBySide::SideBySide(Options options) : options_(std::move(options)) {
    Scratch& scratch = Scratch::instance();
    local_ = scratch.make_directory("local");
    export_ = options_.server.directory.empty() ? scratch.make_directory("export") : options_.server.directory;
    if (testing_locally()) {
        mountpoint_ = export_;
        return;
    }
    options_.server.directory = export_;
    server_ = std::make_unique<ServerProcess>(options_.server);
    mount_ = std::make_unique<MountProcess>(*server_, options_.mount_options);
    mountpoint_ = mount_->path();
}

void SideBySide::remount() {
    if (!server_)
        return;
    mount_.reset();  // before the new one is made: what it unmounts last would otherwise be that
    if (!server_->running())
        server_->start_again();
    mount_ = std::make_unique<MountProcess>(MountProcess::Options{.source = source_of(server_->port()),
                                                                  .config_dir = server_->config_dir(),
                                                                  .options = options_.mount_options,
                                                                  .mountpoint = mountpoint_});
}

void SideBySide::ensure_mounted() {
    if (server_ && (!mount_ || !mount_->alive() || !server_->running()))
        remount();
}

SideBySide::Pair SideBySide::make_pair() {
    ensure_mounted();
    const std::string name = "/" + std::to_string(++pairs_);
    const Pair pair = {local_ + name, mountpoint_ + name, {export_ + name, mountpoint_}};
    if (mkdir(pair.local.c_str(), 0755) != 0 || mkdir(pair.mounted.c_str(), 0755) != 0)
        throw std::runtime_error("cannot make " + name + ": " + errno_name(errno));
    return pair;
}

std::string SideBySide::run_in(const std::string& directory, const Body& body, const std::optional<Credentials>& as,
                               Milliseconds deadline, std::string& transcript) {
    Child child = Child::fork(
        [&] {
            if (chdir(directory.c_str()) != 0) {
                Transcript().called("chdir", -1);
                return 1;
            }
            umask(022);
            Transcript here;
            body(here);
            return 0;
        },
        as);
    Ended end = child.wait(deadline);
    transcript = end.output;
    if (end.timed_out()) {
        const std::string stack = kernel_stack(child.pid());
        if (!child.destroy()) {
            // Not even SIGKILL wakes it. Breaking the connection does.
            if (const auto mount = mounted_at(mountpoint_))
                force_unmount(*mount);
            child.destroy();
            end.errors += "(and was not to be killed)\n";
        }
        return "hangs in " + directory + "\n" + end.to_string() + "\nkernel stack:\n" + stack;
    }
    if (end.exit_status != 0)
        return "failed in " + directory + "\n" + end.to_string();
    const std::size_t failure = transcript.find(Transcript::failure);
    if (failure != std::string::npos)
        return "not as expected in " + directory + "\n" + transcript;
    return {};
}

std::string SideBySide::compare(const Body& body, const std::optional<Credentials>& as, const Body& prepare,
                                Milliseconds deadline) {
    const Pair pair = make_pair();
    std::string ignored, local, mounted;
    if (prepare) {
        for (const std::string& directory : {pair.local, pair.export_.get()}) {
            if (std::string report = run_in(directory, prepare, {}, deadline, ignored); !report.empty())
                return report;
        }
    }
    if (std::string report = run_in(pair.local, body, as, deadline, local); !report.empty())
        return report;
    if (std::string report = run_in(pair.mounted, body, as, deadline, mounted); !report.empty())
        return report;
    return first_difference(local, mounted);
}

}  // namespace remofile::test
