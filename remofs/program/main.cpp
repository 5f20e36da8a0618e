// SPDX-License-Identifier: MIT
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/allocator.hpp"
#include "base/descriptors.hpp"
#include "base/log.hpp"
#include "client/connect_options.hpp"
#include "client/exit_status.hpp"
#include "client/hosts_file.hpp"
#include "remofs/kernel/mountpoint.hpp"
#include "remofs/program/options.hpp"
#include "remofs/program/remount.hpp"
#include "remofs/program/service.hpp"
#include "remofs/program/startup.hpp"

namespace remofile::remofs {
namespace {

// Freed memory that is kept for the next data: some requests of the largest kind. It comes on top of the cache's limit.
constexpr std::size_t kept_memory_bytes = 16U << 20;

client::ConnectOptions to_connect_options(const Options& options) {
    return {.source = options.source,
            .server_key = options.server_key,
            .identity = options.identity,
            .token_file = options.token_file,
            .insecure = options.insecure,
            .exclusive = options.exclusive,
            .read_only = options.read_only,
            .compression = options.compress,
            .congestion_control = options.congestion_control,
            .bandwidth_limit = options.bandwidth_limit,
            .wait = options.wait,
            .request_timeout = options.soft ? std::optional(options.timeout) : std::nullopt,
            .gives_up_at_once = true};
}

Result<> read_id_map(ServicePlan& plan) {
    std::string idmap = plan.options.idmap;
    if (idmap.empty())
        idmap = ::geteuid() == 0 ? "none" : "user";
    plan.map_user = idmap == "user";
    if (idmap == "user" || idmap == "none")
        return {};
    std::ifstream file(idmap);
    std::ostringstream text;
    if (!file || !(text << file.rdbuf()))
        return make_error(Status::bad_usage, fmt::format("idmap={}: cannot read the file", idmap));
    auto map = IdMap::parse(text.str());
    if (!map)
        return make_error(Status::bad_usage, fmt::format("idmap={}: {}", idmap, map.error().to_string()));
    plan.ids = std::move(*map);
    return {};
}

int fail(client::ExitStatus status, const Error& error) {
    const std::string line = fmt::format("remofs: {}\n", log::printable(error.to_string()));
    std::fputs(line.c_str(), stderr);
    return static_cast<int>(status);
}

int show(const std::string& text) {
    return std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0 ? 1 : 0;
}

Result<Options> parse(std::string_view program, const std::vector<std::string>& arguments, Options others) {
    return is_mount_helper(program) ? parse_helper_command_line(arguments, std::move(others))
                                    : parse_command_line(arguments, std::move(others));
}

// The mount options that hosts.toml has for the source.
Result<Options> options_of_host(const std::string& source) {
    Options options;
    REMOFILE_TRY(named, client::look_up(source));
    for (const auto& [list, place] : named.settings.mount_options)
        if (const auto added = add_mount_options(options, list); !added)
            return make_error(Status::bad_usage, place + added.error().message);
    return options;
}

int run(std::string_view program, const std::vector<std::string>& arguments) {
    if (const auto raised = raise_descriptor_limit(); !raised)
        return fail(client::ExitStatus::failure, raised.error());
    auto options = parse(program, arguments, {});
    if (!options)
        return fail(client::ExitStatus::failure, options.error());
    if (options->action == Options::Action::show_help)
        return show(help_text());
    if (options->action == Options::Action::show_version)
        return show("remofs " REMOFS_VERSION "\n");
    if (options->action == Options::Action::check_only)
        return 0;
    if (options->remount) {
        const Result<> changed = remount(*options);
        return changed ? 0 : fail(client::ExitStatus::mountpoint, changed.error());
    }

    if (auto of_host = options_of_host(options->source); !of_host)
        options = of_host.error();
    else
        options = parse(program, arguments, std::move(*of_host));
    if (!options)
        return fail(client::ExitStatus::failure, options.error());

    ServicePlan plan{.options = std::move(*options)};
    if (auto read = read_id_map(plan); !read)
        return fail(client::ExitStatus::failure, read.error());
    auto mountpoint = prepare_mountpoint(plan.options.mountpoint);
    if (!mountpoint)
        return fail(client::ExitStatus::mountpoint, mountpoint.error());
    plan.mountpoint = std::move(*mountpoint);
    if (!plan.options.spool.empty()) {
        auto spool = spool::Directory::open(plan.options.spool, plan.mountpoint);
        if (!spool)
            return fail(client::ExitStatus::failure, spool.error());
        plan.spool = std::move(*spool);
    }
    auto session = client::make_session_options(to_connect_options(plan.options));
    if (!session)
        return fail(client::exit_status_of_setup(session.status()), session.error());
    plan.session = std::move(*session);
    plan.session.leases = true;

    if (plan.options.foreground)
        return static_cast<int>(serve(std::move(plan), StartReport()));
    Fork fork = start_in_background();
    return static_cast<int>(fork.is_child ? serve(std::move(plan), std::move(fork.report)) : fork.status);
}

}  // namespace
}  // namespace remofile::remofs

int main(int argc, char** argv) {
    remofile::open_standard_descriptors();
    remofile::keep_freed_memory(remofile::remofs::kept_memory_bytes);
    return remofile::remofs::run(argv[0], {argv + 1, argv + argc});
}
