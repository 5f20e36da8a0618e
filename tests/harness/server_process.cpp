// SPDX-License-Identifier: MIT
#include "harness/server_process.hpp"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>

#include "harness/scratch.hpp"

namespace remofile::test {

namespace {

constexpr Milliseconds start_deadline{10'000};
constexpr Milliseconds stop_deadline{10'000};

// The port of the line "WHAT tcp://127.0.0.1:PORT"; 0 if it is not there yet.
int announced_port(const std::string& log, const std::string& what) {
    const std::string announcement = what + " tcp://127.0.0.1:";
    const std::size_t at = log.find(announcement);
    if (at == std::string::npos || log.find('\n', at) == std::string::npos)
        return 0;
    return std::atoi(log.c_str() + at + announcement.size());
}

}  // namespace

std::string program_from_environment(const char* variable) {
    const char* path = std::getenv(variable);
    if (!path || !*path)
        throw std::runtime_error(std::string(variable) + " is not set: run the tests with meson test");
    return path;
}

ServerProcess::ServerProcess(Options options) : options_(std::move(options)), process_(Child::fork([] { return 0; })) {
    if (options_.directory.empty())
        options_.directory = Scratch::instance().make_directory("export");
    if (options_.config_dir.empty())
        options_.config_dir = Scratch::instance().make_directory("config");
    if (options_.as) {
        for (const std::string& directory : {options_.directory, options_.config_dir})
            (void)!chown(directory.c_str(), options_.as->uid, options_.as->gid);
    }
    start(0);
}

void ServerProcess::start(int port) {
    Command command;
    command.arguments = {program_from_environment("REMOFILE_SERVER"), "--listen",
                         "tcp://127.0.0.1:" + std::to_string(port)};
    command.arguments.insert(command.arguments.end(), options_.arguments.begin(), options_.arguments.end());
    if (!options_.lends_inodes)
        command.arguments.emplace_back("--no-lent-inodes");
    if (!options_.keeps_files)
        command.arguments.emplace_back("--no-kept-files");
    if (options_.config_file.empty())
        command.arguments.push_back(options_.directory);
    else
        command.arguments.insert(command.arguments.end(), {"--config", options_.config_file});
    if (options_.open_files > 0)
        command.arguments.insert(command.arguments.begin(),
                                 {"prlimit", "--nofile=" + std::to_string(options_.open_files)});
    if (!options_.machine_start.empty())
        command.arguments.insert(
            command.arguments.begin(),
            {"unshare", "--mount", "sh",
             "-c",  // A mount that is seen in there, too, would not end with its own unmount.
             "mount --bind \"$0\" /proc/sys/kernel/random/boot_id; "
             "umount --no-canonicalize --internal-only --lazy --all --types fuse.remofs; exec \"$@\"",
             options_.machine_start});
    command.environment = options_.environment;
    command.environment.emplace_back("REMOFILE_CONFIG_DIR", options_.config_dir);
    command.as = options_.as;
    process_ = Child::start(command);
    const bool listening = eventually(start_deadline, [this] {
        port_ = announced_port(process_.errors(), "listening on");
        return port_ != 0 || !process_.running();
    });
    if (!listening || port_ == 0)
        throw std::runtime_error("remofile-server does not start:\n" + process_.wait(Milliseconds{0}).to_string());
    ports_ = {port_};
    if (const int data = announced_port(process_.errors(), "data lanes at"); data != 0)
        ports_.push_back(data);
}

Ended ServerProcess::stop() {
    process_.signal(SIGTERM);
    return process_.wait(stop_deadline);
}

void ServerProcess::kill() {
    process_.destroy();
}

void ServerProcess::start_again() {
    start(port_);
}

}  // namespace remofile::test
