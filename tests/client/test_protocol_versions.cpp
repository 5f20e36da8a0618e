// SPDX-License-Identifier: MIT
// A server of another protocol version, as the programs' users meet it: one line, and an exit status of its own.
#include <pthread.h>

#include <thread>

#include "fake_server.hpp"
#include "harness/child.hpp"
#include "harness/scratch.hpp"
#include "harness/server_process.hpp"

using namespace remofile;
using namespace remofile::client;

namespace {

constexpr int version_mismatch = 8;  // as both manual pages list it

// How servers of other versions may answer our HELLO.
enum class Refusal {
    by_status,   // as this version's own server does
    of_message,  // one that cannot read our message
    by_version,  // in its own version's header
};

wire::Message refusal_of(Refusal how, const wire::RecordHeader& hello) {
    wire::MessageWriter writer(wire::MessageKind::reply);
    const bool is_reply = how != Refusal::of_message;
    writer.add_encoded({.opcode = is_reply ? hello.opcode : wire::Opcode{},
                        .id = is_reply ? hello.id : RequestId{},
                        .detail = static_cast<std::uint32_t>(Status::version_mismatch)},
                       {});
    wire::Message message = std::move(writer).finish();
    if (how == Refusal::by_version)
        message.head.data()[2] = std::byte{wire::protocol_version + 1};
    return message;
}

// Serves on a thread of its own, while this one waits for a program.
class OtherVersion {
public:
    explicit OtherVersion(Refusal how) {
        auto bound = transport::Listener::bind(
            context_, reactor_, {.endpoints = {"tcp://127.0.0.1:*"}},
            [this, how](const transport::RouteId& route, const auto&, wire::Message message) {
                const auto parsed = wire::parse_message(std::move(message), wire::MessageKind::request);
                if (parsed)
                    listener_->send(route, refusal_of(how, parsed->records.front().header));
            });
        if (!bound)
            FAIL(bound.error().message);
        listener_ = std::move(*bound);
        endpoint_ = listener_->endpoints().front();
        thread_ = std::thread([this] {
            pthread_setname_np(pthread_self(), "other-version");
            reactor_.run();
        });
    }
    ~OtherVersion() {
        reactor_.stop();
        thread_.join();
    }
    std::string source() const { return endpoint_.substr(std::string("tcp://").size()) + ":/"; }

private:
    transport::Context context_;
    transport::Reactor reactor_;
    std::unique_ptr<transport::Listener> listener_;
    std::string endpoint_;
    std::thread thread_;
};

}  // namespace

TEST_CASE("a server of another protocol version is told apart by remofs and remofile") {
    const Refusal how = GENERATE(Refusal::by_status, Refusal::of_message, Refusal::by_version);
    const OtherVersion server(how);
    const std::string config = test::Scratch::instance().make_directory("config");
    const std::string mountpoint = test::Scratch::instance().make_directory("mount");
    const std::string remofs = test::program_from_environment("REMOFS");
    const std::string remofile = test::program_from_environment("REMOFILE");
    for (const std::vector<std::string>& arguments :
         std::vector<std::vector<std::string>>{{remofs, server.source(), mountpoint, "-o", "insecure"},
                                               {remofs, server.source(), mountpoint, "-f", "-o", "insecure"},
                                               {remofile, "ping", "--insecure", server.source()},
                                               {remofile, "status", "--insecure", server.source()}}) {
        const test::Ended end = test::run({.arguments = arguments, .environment = {{"REMOFILE_CONFIG_DIR", config}}});
        INFO(end.to_string());
        CHECK(end.exit_status == version_mismatch);
        CHECK(std::ranges::count(end.errors, '\n') == 1);
        CHECK_THAT(end.errors, ContainsSubstring("protocol version 2"));
        CHECK(end.output.empty());
    }
}
