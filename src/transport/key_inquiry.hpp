// SPDX-License-Identifier: MIT
// How a client that knows nothing of a server learns its public key: a datagram of UDP each way, at the port where the
// server listens (docs/PROTOCOL.md, "Asking for a key"). CURVE needs the key beforehand, and libzmq's sockets answer
// nothing else. The answer proves nothing: whoever asks compares the key, and has the server prove it by connecting.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/counters.hpp"
#include "base/result.hpp"
#include "transport/keys.hpp"
#include "transport/reactor.hpp"

namespace remofile::transport {

// A server's end. It keeps nothing of those who ask but how often their hosts did, and its answers are smaller than the
// inquiries, so that a forged sender's address gains nobody anything. Used on its reactor's thread only.
class KeyResponder {
public:
    struct Limits {
        // Of one host in the long run, and five times as many at once.
        int per_second_of_a_host = 20;
        // Of all hosts in the long run, and a fifth as many at once. What comes faster stays with the kernel, which
        // drops what it has no room for: reading it would be the flood's work.
        int per_second = 1000;
    };

    // Answers at the TCP endpoints among these, as Listener::endpoints() gives them. `reactor` and `counters` must
    // outlive it. Errors: those of binding, naming the endpoint.
    static Result<std::unique_ptr<KeyResponder>> open(Reactor& reactor, const std::vector<std::string>& endpoints,
                                                      const PublicKey& key, Limits limits, Counters& counters);
    ~KeyResponder();
    KeyResponder(const KeyResponder&) = delete;
    KeyResponder& operator=(const KeyResponder&) = delete;

private:
    KeyResponder();
    struct State;
    std::unique_ptr<State> state_;
};

// What the server at "HOST:PORT" says that its key is. Waits for at most `patience`, and as long as the name service
// takes. Error: unreachable, if there is no such host or nobody answers.
Result<PublicKey> ask_for_key(const std::string& host_and_port, Duration patience);

}  // namespace remofile::transport
