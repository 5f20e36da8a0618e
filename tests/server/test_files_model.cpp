// SPDX-License-Identifier: MIT
// Random sequences of changes, made through a session and in a local directory: every errno and the trees must agree.
#include <rapidcheck.h>

#include "catch.hpp"
#include "local_model.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;
using Kind = Change::Kind;

namespace {

rc::Gen<std::string> any_path() {
    const auto name = rc::gen::element<std::string>("a", "b", "c");
    return rc::gen::map(rc::gen::resize(3, rc::gen::nonEmpty(rc::gen::container<std::vector<std::string>>(name))),
                        [](const std::vector<std::string>& names) {
                            std::string path = names.front();
                            for (std::size_t i = 1; i < names.size() && i < 3; ++i)
                                path += "/" + names[i];
                            return path;
                        });
}

rc::Gen<Change> any_change() {
    // Making things is chosen more often than its share, or most changes would fail with ENOENT.
    const auto kind = rc::gen::weightedOneOf<Kind>(
        {{3, rc::gen::map(rc::gen::inRange(0, static_cast<int>(Kind::last) + 1),
                          [](int number) { return static_cast<Kind>(number); })},
         {1, rc::gen::element(Kind::create, Kind::mkdir, Kind::mkdir, Kind::write, Kind::link, Kind::rename)}});
    const auto offset = rc::gen::element<std::uint64_t>(0, 1, 10, 4096, 5000, 8192);
    return rc::gen::build<Change>(
        rc::gen::set(&Change::kind, kind), rc::gen::set(&Change::path, any_path()),
        rc::gen::set(&Change::path2, any_path()),
        rc::gen::set(&Change::mode, rc::gen::element<std::uint32_t>(0755, 0644, 0600, 04755, 02755, 01777, 0)),
        rc::gen::set(&Change::offset, offset),
        rc::gen::set(&Change::length, rc::gen::element<std::uint64_t>(0, 1, 100, 4096, 8192)));
}

// rapidcheck takes its seed and number of runs from RC_PARAMS, and prints the seed.
bool holds(std::size_t max_idle_descriptors, std::size_t length) {
    return rc::check("a session and a local directory agree", [&] {
        const auto changes =
            *rc::gen::resize(static_cast<int>(length), rc::gen::container<std::vector<Change>>(any_change()));
        ExportOptions options;
        options.max_idle_descriptors = max_idle_descriptors;
        Export exported(std::move(options));
        const TemporaryDirectory local;
        Session session(*exported.service);
        for (const Change& change : changes) {
            const int remote_error = apply_remotely(session, change);
            const int local_error = apply_locally(local.path(), change);
            if (remote_error != local_error)
                RC_FAIL(to_string(change) + ": remotely errno " + std::to_string(remote_error) + ", locally " +
                        std::to_string(local_error));
        }
        const std::string expected = describe_locally(local.path());
        RC_ASSERT(describe_locally(exported.directory.path()) == expected);
        RC_ASSERT(describe_remotely(session) == expected);
    });
}

}  // namespace

TEST_CASE("random changes have the results that they have locally") {
    CHECK(holds(4096, 60));
}

TEST_CASE("random changes have these results also when hardly any descriptor is kept") {
    CHECK(holds(1, 60));
}
