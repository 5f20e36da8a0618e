// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "base/buffer.hpp"
#include "base/counters.hpp"
#include "base/result.hpp"
#include "base/strong_id.hpp"
#include "base/task.hpp"
#include "client/requests/codec_thread.hpp"
#include "client/requests/outgoing_queue.hpp"
#include "transport/reactor.hpp"
#include "wire/compression.hpp"
#include "wire/frame.hpp"

namespace remofile::client {

// Encodes a session's bulk data before it is sent, and decodes what has arrived: at once, or on the codec thread where
// that takes longer than two hand-offs. One thread: the reactor's. Shared by the session and those who wait for it.
//
// Invariant: what the codec thread has refers to nothing of the session, so that either may end first. Whoever waits
// for it is told exactly once: of the result, or by stop().
class BulkCoder : public std::enable_shared_from_this<BulkCoder> {
public:
    // `compression`: as SessionOptions. `is_local`: the server is on this machine.
    BulkCoder(transport::Reactor& reactor, Counters& counters, std::uint8_t compression, bool is_local);
    ~BulkCoder();
    BulkCoder(const BulkCoder&) = delete;
    BulkCoder& operator=(const BulkCoder&) = delete;

    // Has the next requests in line encoded, as late as that keeps the codec thread ahead of the network: until then
    // more may have been learned about the link, of which `bytes_per_s` is known. `on_encoded` is called later, in a
    // turn of its own, for each that was given to the thread; what it refers to may be gone by then, and it must see to
    // that itself.
    void prepare(OutgoingQueue& queue, std::uint64_t features, std::optional<double> bytes_per_s,
                 const std::function<void()>& on_encoded);

    // Whether the data of a reply, at most `limit` of it, is better decoded by decode_elsewhere(). READ's alone says
    // nothing about whether the reply makes sense, so that it can be looked at later.
    static bool belongs_elsewhere(const wire::RecordHeader& header, std::uint64_t features, std::size_t limit);
    // Errors: those of wire::decode_bulk, and shutting_down if stop() comes first.
    Task<Result<Buffer>> decode_elsewhere(wire::RecordHeader header, Buffer bulk, std::uint64_t features);

    // Ends all waits, and resumes those who wait.
    void stop();

private:
    // One who waits for the codec thread.
    struct Wait;

    std::shared_ptr<wire::Compressibility> stream_of(const PendingRecord& record);
    void encode(PendingRecord& record, const wire::EncodingPlan& plan, const std::function<void()>& on_encoded);
    void on_decoded(std::uint64_t number);

    transport::Reactor& reactor_;
    const std::uint8_t compression_;
    const bool is_local_;
    const std::shared_ptr<wire::CompressionMeter> meter_;                 // shared with the codec thread
    std::map<HandleId, std::shared_ptr<wire::Compressibility>> streams_;  // shared with the codec thread
    std::set<Wait*> waits_;                                               // each in the frame of its coroutine
    std::uint64_t last_wait_ = 0;
    CodecThread thread_;
};

}  // namespace remofile::client
