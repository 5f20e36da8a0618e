// SPDX-License-Identifier: MIT
#include "server/sessions/export_router.hpp"

#include <algorithm>
#include <utility>

#include "base/exception.hpp"
#include "wire/export_path.hpp"

namespace remofile::server {
namespace {

// The longest HELLO is half of it: a path, a token and a name.
constexpr std::size_t max_greeting_bytes = 16U << 10;
// Clients that one reply tells of, so that it fits a head frame.
constexpr std::size_t max_listed_clients = 128;

// Those of the lobby: none.
class NoFiles final : public FileService {
public:
    Result<OpenedSession> open_session(std::string_view path, NodeId, const Caller&, bool) override {
        return wire::split_export_path(path).name.empty() ? Status::export_needed : Status::no_entry;
    }
    // What needs a session never comes: there is none.
    std::optional<Outcome> carry_out(const std::shared_ptr<SessionFiles>&, Asked, wire::Opcode,
                                     std::span<const std::byte>, Buffer, const Caller&,
                                     std::function<void(Outcome)>) override {
        Outcome outcome;
        outcome.status = Status::no_session;
        return outcome;
    }
    void cancel(const std::shared_ptr<SessionFiles>&, RequestId) override {}
    std::vector<NodeId> known_as(const SessionFiles&, std::span<const InodePtr>) override { return {}; }
    void close_session(const std::shared_ptr<SessionFiles>&) override {}
};

// What a connection without a session begins with, if it can be read.
struct Greeting {
    std::optional<wire::Hello> hello;
    std::optional<wire::Attach> attach;
};

Greeting read_greeting(const wire::Message& message) {
    if (!message.bulk.empty() || message.head.size() > max_greeting_bytes)
        return {};
    const auto parsed =
        wire::parse_message({.head = Buffer::copy_of(message.head.bytes()), .bulk = {}}, wire::MessageKind::request);
    if (!parsed || parsed->records.size() != 1)
        return {};
    const wire::Record& record = parsed->records.front();
    Greeting greeting;
    if (record.header.opcode == wire::Opcode::hello) {
        if (auto hello = wire::decode_body<wire::Hello>(record.body))
            greeting.hello = std::move(*hello);
    } else if (record.header.opcode == wire::Opcode::attach) {
        if (auto attach = wire::decode_body<wire::Attach>(record.body))
            greeting.attach = *attach;
    }
    return greeting;
}

}  // namespace

ExportRouter::ExportRouter(Executor& executor, ServiceThread& thread, Counters& counters, ServiceOptions lobby)
    : no_files_(std::make_unique<NoFiles>()) {
    lobby.exports = [this](const std::optional<transport::PublicKey>& key) { return exports_for(key); };
    lobby.leases = nullptr;
    lobby_ = std::make_unique<Service>(*no_files_, executor, thread, counters, std::move(lobby));
}

ExportRouter::~ExportRouter() = default;

void ExportRouter::on_message(const transport::RouteId& route, const Service::PeerOf& peer, wire::Message message) {
    Service* service = nullptr;
    try {
        service = &service_for(route, peer, message);
    } catch (...) {
        status_of_exception("reading a client's message");
        return on_lost(route);
    }
    service->on_message(route, peer, std::move(message));
}

// Each service is asked, so that there is no second table of connections to keep in step with theirs: there are few.
Service& ExportRouter::service_for(const transport::RouteId& route, const Service::PeerOf& peer,
                                   const wire::Message& message) {
    const auto has_route = [&route](const Service* service) { return service->has(route); };
    if (const auto found = std::ranges::find_if(services_, has_route); found != services_.end())
        return **found;
    if (lobby_->has(route))
        return *lobby_;
    const Greeting greeting = read_greeting(message);
    if (greeting.hello)
        return service_asked_for(*greeting.hello, peer);
    if (greeting.attach) {
        const auto has_session = [&](const Service* service) { return service->has(greeting.attach->session); };
        if (const auto found = std::ranges::find_if(services_, has_session); found != services_.end())
            return **found;
    }
    return *lobby_;
}

Service& ExportRouter::service_asked_for(const wire::Hello& hello, const Service::PeerOf& peer) {
    const std::string_view name = wire::split_export_path(hello.path).name;
    const auto key = peer().key;
    Service* asked_for = lobby_.get();
    for (Service* service : services_) {
        const bool is_named = service->export_name().empty() || service->export_name() == name;
        if (!is_named || !service->admits(key))
            continue;
        // Of two services of one name one takes no new sessions; it may have this one.
        if (hello.resume && service->has(hello.resume))
            return *service;
        if (service->takes_new_sessions())
            asked_for = service;
    }
    return *asked_for;
}

void ExportRouter::on_unclogged(const transport::RouteId& route) {
    for (Service* service : services_)
        service->on_unclogged(route);
}

std::vector<wire::ExportEntry> ExportRouter::exports_for(const std::optional<transport::PublicKey>& key) const {
    std::vector<wire::ExportEntry> entries;
    std::size_t room = max_listed_clients;
    for (const Service* service : services_) {
        auto entry = service->takes_new_sessions() ? service->entry_for(key) : std::nullopt;
        if (!entry)
            continue;
        entry->clients.resize(std::min(entry->clients.size(), room));
        room -= entry->clients.size();
        entries.push_back(std::move(*entry));
    }
    std::ranges::sort(entries, {}, &wire::ExportEntry::name);
    return entries;
}

std::uint64_t ExportRouter::granted_bytes() const {
    std::uint64_t granted = 0;
    for (const Service* service : services_)
        granted += service->granted_bytes();
    return granted;
}

void ExportRouter::stop(Duration deadline, std::function<void(bool)> stopped) {
    // Shared by the services, of which the last one to end tells.
    struct Ending {
        std::size_t left = 0;
        bool all_finished = true;
        std::function<void(bool)> stopped;
    };
    std::vector<Service*> all = services_;
    all.push_back(lobby_.get());
    const auto ending = std::make_shared<Ending>(Ending{.left = all.size(), .stopped = std::move(stopped)});
    for (Service* service : all) {
        service->stop(deadline, [ending](bool finished) {
            ending->all_finished = ending->all_finished && finished;
            if (--ending->left == 0)
                ending->stopped(ending->all_finished);
        });
    }
}

}  // namespace remofile::server
