// SPDX-License-Identifier: MIT
// One connection to a server for the length of a command.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "cli/command.hpp"
#include "client/connect_options.hpp"
#include "client/remote_tree.hpp"
#include "client/session.hpp"
#include "transport/reactor.hpp"

namespace remofile::cli {

// Adds SOURCE and the options of a connection (keys, token) to a subcommand; they are parsed into `options`, which
// must outlive it.
void add_connect_options(CLI::App& app, client::ConnectOptions& options);
// The options alone, for commands that take several files, or a file to send.
void add_key_options(CLI::App& app, client::ConnectOptions& options);

using SessionWork = std::function<Task<Result<>>(client::Session& session, transport::Reactor& reactor)>;

// What Ctrl-C is to a command: its end before it is done, or the only one that it has.
enum class OnInterrupt : std::uint8_t { die, succeed };

// Connects, runs `work` to its end and says good-bye, also when a signal ends the process. Blocks the calling thread,
// on which everything happens. An error of the connection or of `work` is reported on standard error.
ExitStatus with_session(const client::ConnectOptions& options, const SessionWork& work,
                        OnInterrupt on_interrupt = OnInterrupt::die);

// Says on standard error who uses the server too; not of the same person's sessions.
void say_who_else_is_there(const client::Session& session);

// The same for work with files of the export. `sources` are as the person wrote them, a SOURCE or, if
// REMOFILE_HOSTNAME names the server, a path below its export, and must all be of one server; `work` gets their paths,
// which begin at the root of the export.
using FileWork = std::function<Task<Result<>>(client::RemoteTree& tree, std::vector<std::string> paths)>;
ExitStatus with_files(client::ConnectOptions options, std::span<const std::string> sources, const FileWork& work);
// And for such work that waits for threads of its own.
using ThreadedFileWork = std::function<Task<Result<>>(client::RemoteTree& tree, transport::Reactor& reactor,
                                                      std::vector<std::string> paths)>;
ExitStatus with_files(client::ConnectOptions options, std::span<const std::string> sources,
                      const ThreadedFileWork& work);

}  // namespace remofile::cli
