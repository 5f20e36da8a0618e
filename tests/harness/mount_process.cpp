// SPDX-License-Identifier: MIT
#include "harness/mount_process.hpp"

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <csignal>
#include <stdexcept>

#include "harness/mount_table.hpp"
#include "harness/scratch.hpp"
#include "harness/transcript.hpp"

namespace remofile::test {

namespace {

constexpr Milliseconds mount_deadline{15'000};
constexpr Milliseconds unmount_deadline{10'000};
constexpr Milliseconds answer_deadline{10'000};

std::string joined(const std::vector<std::string>& options) {
    std::string text;
    for (const std::string& option : options)
        text += (text.empty() ? "" : ",") + option;
    return text;
}

MountProcess::Options completed(MountProcess::Options options) {
    if (options.mountpoint.empty())
        options.mountpoint = Scratch::instance().make_directory("mount");
    if (options.as)
        (void)!chown(options.mountpoint.c_str(), options.as->uid, options.as->gid);
    return options;
}

}  // namespace

void carried_out(const std::string& mountpoint) {
    (void)!removexattr(mountpoint.c_str(), "user.remofile-test");
}

std::string source_of(int port, const std::string& path) {
    return "localhost:" + std::to_string(port) + ":" + path;
}

MountProcess::Options through(const ServerProcess& server, const std::string& address,
                              std::vector<std::string> options) {
    std::string key = read_file(server.config_dir() + "/server.pub");
    key.erase(key.find_last_not_of('\n') + 1);
    options.push_back("server_key=" + key);
    return {.source = address + ":/", .config_dir = server.config_dir(), .options = std::move(options)};
}

Command remofs_command(const MountProcess::Options& options) {
    Command command;
    command.arguments = {program_from_environment("REMOFS"), options.source, options.mountpoint};
    if (options.foreground)
        command.arguments.push_back("-f");
    if (!options.options.empty()) {
        command.arguments.push_back("-o");
        command.arguments.push_back(joined(options.options));
    }
    command.environment = {{"REMOFILE_CONFIG_DIR", options.config_dir}};
    command.as = options.as;
    return command;
}

MountProcess::MountProcess(Options options)
    : options_(completed(std::move(options))), process_(Child::start(remofs_command(options_))) {
    const bool settled = eventually(mount_deadline, [this] {
        return options_.foreground ? mounted_at(path()).has_value() || !process_.running() : !process_.running();
    });
    if (!settled || !alive()) {
        const std::string report = process_.wait(Milliseconds{0}).to_string();
        destroy();
        throw std::runtime_error("remofs does not mount:\n" + report);
    }
}

MountProcess::MountProcess(const ServerProcess& server, std::vector<std::string> options)
    : MountProcess(Options{
          .source = source_of(server.port()), .config_dir = server.config_dir(), .options = std::move(options)}) {}

MountProcess::~MountProcess() {
    if (process_.pid() > 0)
        destroy();
}

std::uint64_t MountProcess::counted(const std::string& name) {
    const std::string before = errors();
    process_.signal(SIGUSR1);
    std::string log;
    eventually(Milliseconds{10'000}, [&] {
        log = errors().substr(before.size());
        return log.find("reactor.wakeups") != std::string::npos;
    });
    const auto at = log.find(" " + name + "=");
    return at == std::string::npos ? 0 : std::stoull(log.substr(at + name.size() + 2));
}

bool MountProcess::alive() const {
    if (!mounted_at(path()))
        return false;
    // In a process of its own, since it may hang.
    Child asker = Child::fork(
        [this] {
            struct stat attributes = {};
            return stat(path().c_str(), &attributes) == 0 ? 0 : 1;
        },
        options_.as);
    return asker.wait(answer_deadline).exit_status == 0;
}

bool MountProcess::unmount() {
    if (!mounted_at(path()))
        return true;
    const std::string how = options_.as ? "fusermount3 -u -- \"$1\"" : "umount -- \"$1\"";
    const Ended end = run({.arguments = {"/bin/sh", "-c", how, "sh", path()}, .as = options_.as}, unmount_deadline);
    if (end.exit_status != 0) {
        std::fputs(end.to_string().c_str(), stderr);
        return false;
    }
    return eventually(unmount_deadline, [this] { return !process_.running(); });
}

void MountProcess::destroy() {
    if (unmount())
        return;
    for (auto mount = mounted_at(path()); mount; mount = mounted_at(path()))
        force_unmount(*mount);
    process_.destroy();
}

}  // namespace remofile::test
