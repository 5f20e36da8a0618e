// SPDX-License-Identifier: MIT
// Answers libzmq's question who may connect (https://rfc.zeromq.org/spec/27/). Internal to this layer.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "transport/context.hpp"
#include "transport/keys.hpp"
#include "transport/listener.hpp"

namespace remofile::transport {

// The domain that sockets with this handler must name; libzmq then lets nobody in while there is no handler.
inline constexpr std::string_view zap_domain = "remofile";
// That of the listeners of sealed lanes.
inline constexpr std::string_view sealed_zap_domain = "remofile-sealed";

// Runs on its own thread "zap", so that a change of authorized_keys on a slow disk holds up no request. One a context.
class ZapHandler {
public:
    // Starts answering before it returns. `authorizer` and `tickets` (if there are sealed lanes) must outlive it.
    // `strangers_per_s` as in ListenerOptions.
    // Errors: busy if the context has one already, out_of_memory if there is no thread to be had.
    static Result<std::unique_ptr<ZapHandler>> start(Context& context, Authorizer& authorizer, LaneTickets* tickets,
                                                     int strangers_per_s, const Clock& clock);
    // Stops and joins the thread.
    ~ZapHandler();
    ZapHandler(const ZapHandler&) = delete;
    ZapHandler& operator=(const ZapHandler&) = delete;

private:
    ZapHandler();
    struct State;
    std::unique_ptr<State> state_;
};

// What the handler leaves as the connection's "User-Id", and back.
std::string to_user_id(const PublicKey& key, std::string_view comment);
void from_user_id(std::string_view user_id, Peer& peer);

// libzmq gives the address of an ipc socket's peer as "localhost:UID:GID:PID": "local, uid UID" for those, or "local"
// where it knows no more; and the process, or 0.
std::string readable_address(std::string_view peer_address);
pid_t process_at(std::string_view peer_address);

// What tells one host from another: of an IPv6 address the first 64 bits, because a host can make up the rest.
std::string host_of(const std::string& readable_address);

}  // namespace remofile::transport
