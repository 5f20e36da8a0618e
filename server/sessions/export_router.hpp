// SPDX-License-Identifier: MIT
// Leads each connection to the service of the export that its HELLO names: docs/PROTOCOL.md, "Exports".
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "server/file_service.hpp"
#include "server/sessions/service.hpp"

namespace remofile::server {

// Each export has a service of its own, so that nothing of one reaches the other. Whoever asks for an export that is
// not there, or that they may not use, is led to the lobby: a service without files, which answers both alike, after
// the same checks as everywhere else. So is whatever is no HELLO and belongs to no session.
//
// Lives on the services' thread.
class ExportRouter {
public:
    // `lobby`: what is asked of all who come (token, version, limits). The references must outlive the router;
    // `counters` counts what belongs to no export.
    ExportRouter(Executor& executor, ServiceThread& thread, Counters& counters, ServiceOptions lobby);
    ~ExportRouter();
    ExportRouter(const ExportRouter&) = delete;
    ExportRouter& operator=(const ExportRouter&) = delete;

    // Of services that take new sessions, either all have names and no two the same one, or there is one without.
    // `service` must outlive the router or be removed.
    void add(Service& service) { services_.push_back(&service); }
    // It must be idle (Service::is_idle()).
    void remove(Service& service) { std::erase(services_, &service); }

    // As a service's.
    void on_message(const transport::RouteId& route, const Service::PeerOf& peer, wire::Message message);
    void on_lost(const transport::RouteId& route) { lobby_->on_lost(route); }
    void on_unclogged(const transport::RouteId& route);

    // For ServiceOptions.
    std::vector<wire::ExportEntry> exports_for(const std::optional<transport::PublicKey>& key) const;
    std::uint64_t granted_bytes() const;

    Service& lobby() { return *lobby_; }
    // All services; `stopped` is called when the last one is.
    void stop(Duration deadline, std::function<void(bool)> stopped);

private:
    Service& service_for(const transport::RouteId& route, const Service::PeerOf& peer, const wire::Message& message);
    Service& service_asked_for(const wire::Hello& hello, const Service::PeerOf& peer);

    const std::unique_ptr<FileService> no_files_;
    std::unique_ptr<Service> lobby_;
    std::vector<Service*> services_;  // at most wire::max_exports, and those whose export is not served any more
};

}  // namespace remofile::server
