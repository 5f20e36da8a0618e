// SPDX-License-Identifier: MIT
#include "client/exit_status.hpp"

#include <algorithm>
#include <array>

namespace remofile::client {
namespace {

struct Row {
    Status status;
    ExitStatus exit_status;
};

constexpr auto table = std::to_array<Row>({
    {Status::ok, ExitStatus::success},
    {Status::unreachable, ExitStatus::unreachable},
    {Status::timed_out, ExitStatus::unreachable},
    {Status::shutting_down, ExitStatus::unreachable},
    {Status::wrong_server_key, ExitStatus::wrong_server_key},
    {Status::not_authorized, ExitStatus::not_authorized},
    {Status::bad_token, ExitStatus::bad_token},
    {Status::in_use, ExitStatus::in_use},
    {Status::no_entry, ExitStatus::no_such_path},
    {Status::export_needed, ExitStatus::no_such_path},
    {Status::not_directory, ExitStatus::no_such_path},
    {Status::symlink_loop, ExitStatus::no_such_path},
    {Status::version_mismatch, ExitStatus::version_mismatch},
});

}  // namespace

ExitStatus exit_status_for(Status status) {
    const auto* row = std::ranges::find(table, status, &Row::status);
    return row == table.end() ? ExitStatus::failure : row->exit_status;
}

ExitStatus exit_status_of_setup(Status status) {
    return status == Status::wrong_server_key || status == Status::unreachable ? exit_status_for(status)
                                                                               : ExitStatus::failure;
}

}  // namespace remofile::client
