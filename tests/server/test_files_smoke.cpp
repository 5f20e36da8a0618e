// SPDX-License-Identifier: MIT
#include "catch.hpp"
#include "export_fixture.hpp"

using namespace remofile;
using namespace remofile::server::test;

TEST_CASE("a file is made, written, found and read") {
    Export exported;
    Session session(*exported.service);
    REQUIRE(session.open_status() == Status::ok);
    const HandleId handle = session.new_handle();
    const auto made = session.create(Session::root, "file", handle);
    REQUIRE(made.status == Status::ok);
    CHECK(made.body.created);
    CHECK(session.write(handle, 0, "hello").body.size == 5);
    CHECK(session.call(wire::Release{.handle = handle}));
    CHECK(read_file(exported.directory / "file") == "hello");
    const NodeId node = session.lookup(Session::root, "file");
    CHECK(node == made.body.entry.node);
    const HandleId again = session.open(node, wire::open_read);
    CHECK(session.read(again, 1, 100) == "ello");
    CHECK(session.list(Session::root, true).size() == 3);
}
