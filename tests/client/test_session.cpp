// SPDX-License-Identifier: MIT
// The session as its users see it, with a server that behaves.
#include "fake_server.hpp"

namespace remofile::client {

TEST_CASE("a session opens, asks and closes") {
    SessionFixture f;
    f.connect();
    CHECK(f.session->connected());
    CHECK(f.session->epoch() == 1);
    CHECK(f.session->hello().session == SessionId{77});
    const auto hello = f.server.greetings.front().as<wire::Hello>();
    CHECK(hello.client_name == "test@here");
    CHECK(hello.root == NodeId{1});
    CHECK(f.server.greetings.at(1).header.opcode == Opcode::attach);

    const auto reply = f.ask(wire::Getattr{.node = NodeId{1}});
    REQUIRE(reply.has_value());
    CHECK(reply->body.attributes.mode == 0040755);
    CHECK(f.counted("client.requests.getattr") == 1);

    f.session->close();
    CHECK(f.ask(wire::Getattr{}).status() == Status::shutting_down);
}

}  // namespace remofile::client
