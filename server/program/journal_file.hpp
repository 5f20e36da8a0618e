// SPDX-License-Identifier: MIT
// Where a server keeps the answers that are to survive it: see sessions/answer_journal.hpp.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "base/result.hpp"
#include "server/program/server_security.hpp"
#include "server/sessions/answer_journal.hpp"

namespace remofile::server {

// Tells the starts of this machine apart, as the kernel does; empty if it does not say.
std::string machine_start();

// The folder of such files, made if it is not there. Error: no_entry where none is to be had.
Result<std::string> prepare_journal_folder();

// The journal of whoever serves this directory, by this key, at these endpoints, in systemd's $RUNTIME_DIRECTORY if
// set, else in $REMOFILE_CONFIG_DIR if set, else /run/remofile for root, else $XDG_RUNTIME_DIR/remofile. Errors:
// no_entry where there is no such folder; those of AnswerJournal::open().
Result<std::shared_ptr<AnswerJournal>> open_journal(const std::string& directory, const Security& security,
                                                    std::span<const std::string> endpoints);

}  // namespace remofile::server
