// SPDX-License-Identifier: MIT
// The numbers of protocol 2: opcodes, flags and limits. docs/PROTOCOL.md is their specification.
#pragma once

#include <cstddef>
#include <cstdint>

namespace remofile::wire {

inline constexpr std::uint16_t message_magic = 0x4652;  // the bytes "RF" on the wire
inline constexpr std::uint8_t protocol_version = 2;     // 1 is Remofile's pickle protocol, which is never parsed

inline constexpr std::uint16_t default_port = 6768;

enum class MessageKind : std::uint8_t { request = 1, reply = 2, push = 3 };

enum class Opcode : std::uint16_t {
    // The session.
    hello = 1,
    attach = 2,
    bye = 3,
    ping = 4,
    cancel = 5,
    credential = 6,
    server_status = 7,
    invalidated = 8,
    lane_ticket = 9,
    return_leases = 10,
    take_leases = 11,
    share_leases = 12,
    lend_inodes = 13,
    exports = 14,

    // Names and attributes.
    lookup = 16,
    forget = 17,
    getattr = 18,
    setattr = 19,
    readlink = 20,
    mknod = 21,
    mkdir = 22,
    unlink = 23,
    rmdir = 24,
    symlink = 25,
    rename = 26,
    link = 27,
    access = 28,
    statfs = 29,
    make_lent = 30,
    find_kept = 31,

    // Open files.
    open = 32,
    create = 33,
    tmpfile = 34,
    read = 35,
    write = 36,
    release = 37,
    flush = 38,
    fsync = 39,
    fallocate = 40,
    seek = 41,
    copy_range = 42,
    hash = 43,
    fetch = 44,

    // Directories.
    opendir = 48,
    readdir = 49,
    releasedir = 50,
    fsyncdir = 51,
    list = 52,

    // Extended attributes.
    getxattr = 56,
    setxattr = 57,
    listxattr = 58,
    removexattr = 59,

    // Locks.
    getlk = 64,
    setlk = 65,
    flock = 66,
    reclaim_locks = 67,

    // Pushes, from the server to the client.
    push_invalidate = 0x8001,
    push_shutdown = 0x8002,
    push_next_keys = 0x8003,
};

// Flags of a message.
// A reply that left before a push that was decided earlier, and so shows nothing of what the client may still believe:
// it renews no lease.
inline constexpr std::uint16_t message_overtakes = 1U << 0;

// Record flags.
inline constexpr std::uint8_t flag_link = 1U << 0;    // the next record is carried out only if this one succeeds
inline constexpr std::uint8_t flag_bulk = 1U << 1;    // this record owns the next bulk frame of the message
inline constexpr std::uint8_t flag_resent = 1U << 2;  // sent again after a reconnect; it may have been carried out
// With flag_resent: nobody wants it any more. It is not begun if it was not before; its answer tells what came of it.
inline constexpr std::uint8_t flag_void = 1U << 5;
// Carried out after all requests with this flag that the lane brought before, whatever they name.
inline constexpr std::uint8_t flag_in_order = 1U << 6;

// What a request that changes a file's content does about its set-id bits: nothing, or one of two record flags. (The
// server's kernel knows no more than whom a request acts as, which need not be who made it.)
enum class SetId : std::uint8_t {
    as_caller = 0,   // whom it acts as decides: root keeps them, anybody else takes them away
    drop = 1U << 3,  // who made it may not keep them, even if whom it acts as might
    keep = 1U << 4,  // written for nobody in particular (a page of a mapping): they stay
};
inline constexpr std::uint8_t set_id_flags =
    static_cast<std::uint8_t>(SetId::drop) | static_cast<std::uint8_t>(SetId::keep);

enum class BulkEncoding : std::uint8_t {
    raw = 0,
    lz4 = 1,    // one LZ4 block; the record's bulk_size is its size when decompressed
    zeros = 2,  // bulk_size zero bytes; the bulk frame is empty
};

// The bit of Attributes::version that is no part of the version: it is set while the file's last change is so recent
// that another one could leave the version as it is. What was read under such a version must be read anew next time.
inline constexpr std::uint64_t version_is_fresh = 1;

// Features that HELLO negotiates: a bit set in both the client's and the server's mask is in force.
inline constexpr std::uint64_t feature_lz4 = 1U << 0;
inline constexpr std::uint64_t feature_zeros = 1U << 1;
inline constexpr std::uint64_t feature_sealed_lanes = 1U << 2;  // LANE_TICKET
inline constexpr std::uint64_t feature_set_id = 1U << 3;        // SetId
inline constexpr std::uint64_t feature_leases = 1U << 4;        // LIST with `lease`, and what follows from it
// TAKE_LEASES, and what follows from it; flag_in_order. With feature_leases alone.
inline constexpr std::uint64_t feature_exclusive_leases = 1U << 5;
// LEND_INODES and MAKE_LENT. With feature_exclusive_leases alone.
inline constexpr std::uint64_t feature_lent_inodes = 1U << 6;
// RECLAIM_LOCKS: in force where the server knows the session in whose place this one is.
inline constexpr std::uint64_t feature_reclaim_locks = 1U << 9;
// EXPORTS, and export_needed as HELLO's answer.
inline constexpr std::uint64_t feature_exports = 1U << 10;
// Files that lose their last name while they are open are kept for whoever takes the session's place: FIND_KEPT.
inline constexpr std::uint64_t feature_kept_files = 1U << 11;
// The server says which keys it will have: NEXT_KEYS.
inline constexpr std::uint64_t feature_next_keys = 1U << 12;

// What HELLO says of the compression of replies: never, at a level from 1 to max_compression_level, or as the server
// sees fit. It binds nobody: raw data is always allowed.
inline constexpr std::uint8_t compression_off = 0;
inline constexpr std::uint8_t max_compression_level = 12;  // LZ4 HC's
inline constexpr std::uint8_t compression_automatic = 255;

// Limits. Each is checked by whoever receives; each bounds memory that a hostile peer could otherwise claim.
inline constexpr std::size_t max_bulk_bytes = 1U << 20;    // FUSE passes at most 1 MiB at once; larger gains nothing
inline constexpr std::size_t max_head_bytes = 128U << 10;  // a full batch of requests with the longest of paths
// One frame: a full chunk that LZ4 could not compress grows by 1/255 + 16 bytes (LZ4_compressBound).
inline constexpr std::size_t max_frame_bytes = max_bulk_bytes + max_bulk_bytes / 255 + 16;
inline constexpr std::size_t max_records = 64;              // records a message
inline constexpr std::size_t max_name_bytes = 255;          // NAME_MAX of every Linux file system
inline constexpr std::size_t max_path_bytes = 4095;         // PATH_MAX less its NUL: a symlink's target
inline constexpr std::size_t max_xattr_bytes = 65536;       // XATTR_SIZE_MAX; also the longest list of names
inline constexpr std::size_t max_groups = 1024;             // supplementary groups of one credential; more are refused
inline constexpr std::size_t max_forgets = 1024;            // nodes of one FORGET
inline constexpr std::size_t max_returned_leases = 1024;    // of one RETURN_LEASES, and of one SHARE_LEASES
inline constexpr std::size_t max_taken_leases = 64;         // of one TAKE_LEASES
inline constexpr std::size_t max_reclaimed_locks = 1024;    // of one RECLAIM_LOCKS
inline constexpr std::uint32_t max_lent_inodes = 256;       // of each kind, to a session at a time
inline constexpr std::size_t digest_bytes = 16;             // of one block in the reply to HASH
inline constexpr std::size_t max_hashed_blocks = 4096;      // of one HASH, and
inline constexpr std::size_t max_hashed_bytes = 64U << 20;  // together: some 30 ms of a server's time
inline constexpr std::size_t max_lanes = 8;                 // connections of one session
inline constexpr std::size_t max_token_bytes = 1024;
inline constexpr std::size_t max_exports = 64;  // of one server; their names fit a head frame
inline constexpr std::size_t max_export_name_bytes = 64;
inline constexpr std::size_t max_next_keys = 4;  // of one server: a client may try each when it connects

// Unanswered requests that wait for locks, a session: each is a waiting thread of a client's machine, and costs the
// server a few hundred bytes.
inline constexpr std::size_t max_lock_waits = 4096;
// Head frames of messages with unanswered records, but for those that wait for a lock, a session: 16 KiB for each of 64
// FORGETs or CREDENTIALs, or 1 KiB for each of max_requests.
inline constexpr std::size_t max_unanswered_head_bytes = 1U << 20;

// What a server grants a session unless configured otherwise; HELLO's reply states the figures in force.
inline constexpr std::uint32_t default_max_requests = 1024;            // unanswered requests
inline constexpr std::uint32_t default_request_bytes = 8U << 20;       // bulk bytes in unanswered requests
inline constexpr std::uint32_t default_reply_window_bytes = 8U << 20;  // reply bytes sent and not yet acknowledged

}  // namespace remofile::wire
