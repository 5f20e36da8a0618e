// SPDX-License-Identifier: MIT
#include "server/program/server_metrics.hpp"

#include <array>
#include <utility>

#include "base/exposition.hpp"

namespace remofile::server {
namespace {

using enum MetricType;

// A counter that is not here is a sample of remofile_server_events_total.
constexpr auto rows = std::to_array<CounterMetric>({
    {"server.sessions", "remofile_server_sessions", gauge, "Sessions, one for each client."},
    {"server.turns_waiting", "remofile_server_clients_waiting", gauge, "Clients that wait for others to leave."},
    {"server.requests_open", "remofile_server_requests_open", gauge,
     "Requests that are not answered, or whose answer is not sent."},
    {"server.request_bytes_open", "remofile_server_request_bytes_open", gauge, "Data of such requests, in bytes."},
    {"workers.waiting", "remofile_server_work_waiting", gauge, "Pieces of work that wait for a thread."},
    {"workers.busy", "remofile_server_workers_busy", gauge, "Threads that carry out requests."},
    {"leases.held", "remofile_server_leases_held", gauge, "Directories for which a client answers from memory."},
    {"leases.exclusive", "remofile_server_exclusive_leases_held", gauge, "Directories that a client has for itself."},
    {"leases.watched", "remofile_server_directories_watched", gauge,
     "Directories watched for changes by programs on the server."},
    {"server.requests", "remofile_server_requests_total", counter, "Requests received."},
    {"server.paced_messages", "remofile_server_paced_messages_total", counter,
     "Messages that waited because their client had used up its requests or bytes a second."},
    {"server.messages", "remofile_server_messages_total", counter, "Messages received; one may hold several requests."},
    {"server.bytes_received", "remofile_server_received_bytes_total", counter, "Bytes received in sessions."},
    {"server.bytes_sent", "remofile_server_sent_bytes_total", counter, "Bytes sent in sessions."},
    {"server.sessions_opened", "remofile_server_sessions_opened_total", counter, "Sessions opened."},
    {"server.sessions_resumed", "remofile_server_sessions_resumed_total", counter,
     "Sessions that a client has come back to."},
    {"server.sessions_closed", "remofile_server_sessions_closed_total", counter, "Sessions ended."},
    {"server.bad_tokens", "remofile_server_bad_tokens_total", counter, "Clients refused because of their token."},
    {"server.violations", "remofile_server_violations_total", counter, "Breaches of the protocol by clients."},
    {"leases.granted", "remofile_server_leases_granted_total", counter, "Leases granted."},
    {"leases.revoked", "remofile_server_leases_revoked_total", counter,
     "Names and directories that clients were told to let go."},
    {"leases.expired", "remofile_server_leases_expired_total", counter, "Leases lost by clients that were silent."},
    {"leases.waits", "remofile_server_lease_waits_total", counter,
     "Changes that waited for other clients to let go of what they knew."},
    {"files.descriptor_reopens", "remofile_server_descriptor_reopens_total", counter,
     "Files opened again whose descriptor had been closed for want of room."},
    {"files.descriptor_evictions", "remofile_server_descriptor_evictions_total", counter,
     "Descriptors closed for want of room."},
    {"files.lock_waits", "remofile_server_lock_waits_total", counter, "Requests that waited for a lock."},
    {"files.*.errors", "remofile_server_operation_errors_total", counter, "Operations that ended with an error.",
     "opcode"},
    {"files.*", "remofile_server_operations_total", counter, "Operations on files carried out.", "opcode"},
});

constexpr std::string_view export_label = "export";

void write_times(Exposition& exposition, std::span<const ExportMetrics> exports) {
    bool begun = false;
    for (const ExportMetrics& each : exports) {
        for (const auto& [opcode, distribution] : each.service.request_times().by_opcode()) {
            if (!std::exchange(begun, true))
                exposition.metric("remofile_server_request_duration_seconds", histogram,
                                  "From the arrival of a request to its outcome, without the wait for a lock.");
            const std::array<Exposition::Label, 2> labels{
                {{export_label, each.name}, {"opcode", distribution.facts->name}}};
            exposition.distribution(RequestTimes::bounds_s, distribution.counts, distribution.sum_s,
                                    std::span(labels).subspan(each.name.empty() ? 1 : 0));
        }
    }
}

}  // namespace

std::string metrics_text(const Counters& process, std::span<const ExportMetrics> exports, std::string_view version,
                         std::uint64_t started) {
    Exposition exposition;
    exposition.metric("remofile_server_info", gauge, "Always 1; says which version runs.");
    exposition.sample(1, std::array<Exposition::Label, 1>{{{"version", version}}});
    exposition.metric("remofile_server_start_time_seconds", gauge, "When it was started, in seconds since 1970.");
    exposition.sample(started);
    std::vector<LabelledCounters> parts{{.label = {}, .values = process.snapshot()}};
    for (const ExportMetrics& each : exports) {
        if (!each.name.empty())
            parts.push_back({.label = {export_label, each.name}, .values = each.counters.snapshot()});
        LabelledCounters& part = each.name.empty() ? parts.front() : parts.back();
        for (wire::CounterValue& value : each.service.gauges())
            part.values.emplace_back(std::move(value.name), value.value);
    }
    write_counters(exposition, rows, "remofile_server_events_total", parts);
    write_times(exposition, exports);
    return exposition.take();
}

}  // namespace remofile::server
