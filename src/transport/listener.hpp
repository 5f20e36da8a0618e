// SPDX-License-Identifier: MIT
// A server's end: one ROUTER socket for all connections of all clients, and the ZAP handler that decides who gets in.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/counters.hpp"
#include "base/result.hpp"
#include "transport/congestion_control.hpp"
#include "transport/context.hpp"
#include "transport/keys.hpp"
#include "transport/reactor.hpp"
#include "wire/frame.hpp"

namespace remofile::transport {

// One connection, as ZeroMQ names it. A client that reconnects has a new one; it is no session.
struct RouteId {
    std::string bytes;
    friend auto operator<=>(const RouteId&, const RouteId&) = default;
};

// Who is at the other end of a connection.
struct Peer {
    std::string address;           // "192.0.2.7", or "local, uid 1000" for ipc
    pid_t process = 0;             // at the other end of an ipc connection; 0 if unknown
    std::optional<PublicKey> key;  // none without encryption
    std::string comment;           // of the key's authorized_keys line

    // For people: the address, with the process if it is known.
    std::string describe_address() const;
};

class LaneTickets;

struct ListenerOptions {
    std::vector<std::string> endpoints;
    std::optional<KeyPair> server_key;  // none: plain text, or sealed lanes
    // Must outlive the listener. Required with server_key; called on the ZAP thread.
    Authorizer* authorizer = nullptr;
    // Must outlive the listener. Without server_key: this listener is for sealed lanes, and lets in who has a ticket.
    // That needs a second listener in the same context, with a server_key and the same tickets, that outlives it.
    LaneTickets* tickets = nullptr;
    // Connections of one host with keys that the authoriser does not know that are answered a second in the long run,
    // and five times as many at once; more are told to come back later.
    int strangers_per_s = 20;
    // Leads all its RouteIds, so that those of two listeners differ.
    char route_prefix = 'm';
    Duration handshake_timeout = std::chrono::seconds(10);
    Duration heartbeat_interval = std::chrono::seconds(5);  // as for LaneOptions
    Duration heartbeat_timeout = std::chrono::seconds(15);
    Duration linger = std::chrono::milliseconds(500);
    // Connections that wait to be accepted; the kernel has a limit of its own, by default this one. Where there is no
    // room, those who connect wait for its retransmissions, seconds and more.
    int backlog = 4096;
    CongestionControl congestion_control;
    // How the log calls its connections.
    std::string name = "connections";
    // Counts there what never reaches a handler or a client; must outlive the listener.
    Counters* counters = nullptr;
};

// Used on its reactor's thread only.
//
// One weakness is libzmq's and has no remedy here: it keeps the frames of an unfinished message without limit, so that
// a client that has been let in can claim any amount of the server's memory.
class Listener {
public:
    // `peer` answers for this message's connection and must not be kept.
    using OnMessage = std::function<void(const RouteId&, const std::function<Peer()>& peer, wire::Message)>;

    // Called when a connection that was clogged is so no longer.
    using OnUnclogged = std::function<void(const RouteId&)>;

    // Called when a message of a connection was lost for want of memory.
    using OnLost = std::function<void(const RouteId&)>;

    // Binds all endpoints or none. Errors: busy (address in use), access_denied, invalid, each naming the endpoint.
    // A second listener on one address fails rather than sharing it, and an ipc socket file left by a dead server is
    // replaced while a live one is not.
    static Result<std::unique_ptr<Listener>> bind(Context& context, Reactor& reactor, ListenerOptions options,
                                                  OnMessage on_message, OnUnclogged on_unclogged = {},
                                                  OnLost on_lost = {});
    ~Listener();
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    // The endpoints with their real port numbers (a port may be given as 0 or *).
    const std::vector<std::string>& endpoints() const;

    // Queues a message without blocking. False if the connection is gone: the message is dropped.
    bool send(const RouteId& route, wire::Message message);
    // Of sealed lanes: keeps what is needed to go on with this connection, or allows it to be forgotten. A new
    // connection may be forgotten; with its keys forgotten, all that it sends is dropped. Of other connections:
    // nothing.
    void keep(const RouteId& route);
    void retire(const RouteId& route);
    // Whether the client takes so little that ZeroMQ's queue for it is full. What is sent all the same waits in the
    // listener, which takes the connection for gone when that becomes too much.
    bool clogged(const RouteId& route) const;

private:
    Listener();
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace remofile::transport
