// SPDX-License-Identifier: MIT
#include "remofs/program/mount_metrics.hpp"

#include <array>

#include "base/exposition.hpp"

namespace remofile::remofs {
namespace {

using enum MetricType;

// A counter that is not here is a sample of remofs_events_total.
constexpr auto rows = std::to_array<CounterMetric>({
    {"client.requests.*", "remofs_requests_total", counter, "Requests to the server.", "opcode"},
    {"client.round_trips", "remofs_round_trips_total", counter, "Waits for the server."},
    {"client.messages_sent", "remofs_messages_sent_total", counter, "Messages sent to the server."},
    {"client.messages_received", "remofs_messages_received_total", counter, "Messages received from the server."},
    {"client.bytes_sent", "remofs_sent_bytes_total", counter, "Bytes sent to the server."},
    {"client.bytes_received", "remofs_received_bytes_total", counter, "Bytes received from the server."},
    {"cache.hits", "remofs_cache_hits_total", counter, "Blocks of contents that were in memory."},
    {"cache.misses", "remofs_cache_misses_total", counter, "Blocks of contents that were not."},
    {"cache.evictions", "remofs_cache_evictions_total", counter, "Blocks given up for others."},
    {"names.hits", "remofs_name_hits_total", counter, "Names and attributes answered from memory."},
    {"names.misses", "remofs_name_misses_total", counter, "Names and attributes that the server was asked for."},
    {"writes.accepted", "remofs_writes_accepted_total", counter, "Writes of programs."},
    {"writes.sent", "remofs_writes_sent_total", counter, "Writes sent to the server."},
    {"changes.behind", "remofs_changes_behind_total", counter,
     "Changes of names and attributes that were answered before the server."},
    {"fuse.notifications", "remofs_kernel_notifications_total", counter, "Notifications to the kernel."},
    {"fuse.interrupts", "remofs_kernel_interrupts_total", counter, "Requests of the kernel that were interrupted."},
    {"fuse.files_asked_for", "remofs_kernel_files_asked_for_total", counter,
     "Files that the kernel was asked to give back."},
    {"fuse.*", "remofs_kernel_requests_total", counter, "Requests of the kernel.", "operation"},
});

}  // namespace

std::string metrics_text(const Counters& counters, const Mount* mount) {
    Exposition exposition;
    const auto tell = [&](std::string_view name, std::string_view help, std::uint64_t value) {
        exposition.metric(name, gauge, help);
        exposition.sample(value);
    };
    if (mount != nullptr) {
        const filesystem::FileSystem::Usage usage = mount->file_system().usage();
        tell("remofs_connected", "Whether there is a connection to the server.", mount->connected() ? 1 : 0);
        tell("remofs_server_silent", "Whether the server does not answer.", mount->server_is_silent() ? 1 : 0);
        tell("remofs_pending_write_bytes", "What programs wrote and the server does not have.",
             usage.pending_write_bytes);
        tell("remofs_pending_changes", "Changes of names and attributes that the server does not have.",
             usage.pending_changes);
        tell("remofs_known_files", "Files known.", usage.known_files);
        tell("remofs_open_files", "Files open.", usage.open_files);
        tell("remofs_open_directories", "Directories open.", usage.open_directories);
        tell("remofs_cached_bytes", "Contents of files in memory, with what is pending.", usage.cached_bytes);
        tell("remofs_cache_limit_bytes", "The most of that.", usage.cache_limit_bytes);
    }
    write_counters(exposition, rows, "remofs_events_total", counters.snapshot());
    return exposition.take();
}

}  // namespace remofile::remofs
