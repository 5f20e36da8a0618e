// SPDX-License-Identifier: MIT
// Opening a session at a server that is full for the moment: many short commands at once are soon gone again.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "client/session.hpp"

namespace remofile::client {

// As Session::open(), which it asks again for half a minute as long as the server has as many clients as it takes.
// `on_full` may be empty; it is called once, when that has taken some seconds.
Task<Result<std::unique_ptr<Session>>> open_session(transport::Context& context, transport::Reactor& reactor,
                                                    SessionOptions options, Counters& counters,
                                                    std::vector<wire::Client>* holders,
                                                    std::function<void()> on_full = {});

}  // namespace remofile::client
