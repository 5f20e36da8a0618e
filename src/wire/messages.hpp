// SPDX-License-Identifier: MIT
// The body of every request, reply and push. docs/PROTOCOL.md says what each means; change both in one commit.
//
// A request structure names its opcode and the type of its reply. Bulk data is not part of a body: READ's data,
// WRITE's data, directory listings, extended attributes' values and lists travel in the record's own bulk frame.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "base/strong_id.hpp"
#include "wire/protocol.hpp"

namespace remofile::wire {

// ---------------------------------------------------------------- parts

struct Timestamp {
    std::int64_t seconds = 0;  // since 1970-01-01T00:00:00Z
    std::uint32_t nanoseconds = 0;
    friend auto operator<=>(const Timestamp&, const Timestamp&) = default;
    static constexpr auto fields = std::tuple{&Timestamp::seconds, &Timestamp::nanoseconds};
};

// What tells one file from every other, across sessions: two names with equal identities are links to one file.
struct FileIdentity {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    Timestamp birth;  // zero where the server's file system does not record it
    friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
    static constexpr auto fields = std::tuple{&FileIdentity::device, &FileIdentity::inode, &FileIdentity::birth};
};

struct Attributes {
    FileIdentity identity;
    std::uint32_t mode = 0;  // st_mode: type and permission bits, with Linux's numbers
    std::uint32_t links = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t rdev_major = 0;
    std::uint32_t rdev_minor = 0;
    std::uint64_t size = 0;    // bytes
    std::uint64_t blocks = 0;  // 512-byte units
    std::uint32_t block_size = 0;
    Timestamp access;
    Timestamp modification;
    Timestamp change;
    std::uint64_t version = 0;  // differs whenever the content or the attributes may have changed
    static constexpr auto fields =
        std::tuple{&Attributes::identity, &Attributes::mode,       &Attributes::links,      &Attributes::uid,
                   &Attributes::gid,      &Attributes::rdev_major, &Attributes::rdev_minor, &Attributes::size,
                   &Attributes::blocks,   &Attributes::block_size, &Attributes::access,     &Attributes::modification,
                   &Attributes::change,   &Attributes::version};
};

struct Empty {
    static constexpr auto fields = std::tuple{};
};

// ---------------------------------------------------------------- the session

inline constexpr std::uint32_t hello_exclusive = 1U << 0;  // refuse me, or others after me, rather than share
inline constexpr std::uint32_t hello_read_only = 1U << 1;  // this session will not change anything

struct Client {
    std::string name;         // what the client called itself: "user@host"
    std::string address;      // as the server sees it
    std::uint64_t since = 0;  // seconds since 1970
    bool exclusive = false;
    std::uint32_t leases = 0;   // of directories, held now
    std::uint64_t revoked = 0;  // names and directories that it was told to let go, since its session began
    std::uint64_t expired = 0;  // leases that it lost because it was silent or did not say that it had let go
    static constexpr auto fields = std::tuple{&Client::name,   &Client::address, &Client::since,  &Client::exclusive,
                                              &Client::leases, &Client::revoked, &Client::expired};
};

struct HelloReply {
    std::uint8_t version = protocol_version;  // the version in force
    std::uint64_t features = 0;               // the features in force
    SessionId session;
    std::array<std::uint8_t, 16> session_secret{};  // ATTACH and a resuming HELLO prove themselves with it
    std::uint64_t boot = 0;                         // differs for every start of the server
    bool resumed = false;                           // the session asked for lives on, with all its ids
    bool read_only = false;                         // the export refuses changes
    bool client_identity = false;                   // requests act with their credential's uid and gid
    std::uint32_t server_uid = 0;                   // whom requests act as otherwise
    std::uint32_t server_gid = 0;
    NodeId root;  // the node of the path that HELLO named; always the id that HELLO chose
    Attributes root_attributes;
    std::uint32_t max_requests = 0;        // unanswered requests a session
    std::uint32_t request_bytes = 0;       // bulk bytes in unanswered requests, a lane
    std::uint32_t reply_window_bytes = 0;  // reply bytes not yet acknowledged, a lane
    std::uint32_t session_timeout_ms = 0;  // a session of which nothing is heard for that long ends
    std::uint32_t ping_interval_ms = 0;    // send PING when nothing else was sent for that long
    std::uint32_t lease_term_ms = 0;       // how long leases last after a sign of life; 0 without feature_leases
    std::vector<Client> others;            // who else is here
    static constexpr auto fields = std::tuple{&HelloReply::version,
                                              &HelloReply::features,
                                              &HelloReply::session,
                                              &HelloReply::session_secret,
                                              &HelloReply::boot,
                                              &HelloReply::resumed,
                                              &HelloReply::read_only,
                                              &HelloReply::client_identity,
                                              &HelloReply::server_uid,
                                              &HelloReply::server_gid,
                                              &HelloReply::root,
                                              &HelloReply::root_attributes,
                                              &HelloReply::max_requests,
                                              &HelloReply::request_bytes,
                                              &HelloReply::reply_window_bytes,
                                              &HelloReply::session_timeout_ms,
                                              &HelloReply::ping_interval_ms,
                                              &HelloReply::lease_term_ms,
                                              &HelloReply::others};
};

struct Hello {
    using Reply = HelloReply;
    static constexpr Opcode opcode = Opcode::hello;
    std::uint8_t min_version = protocol_version;
    std::uint8_t max_version = protocol_version;
    std::uint64_t features = 0;
    std::uint8_t compression = compression_off;  // wished for in replies; matters only with feature_lz4
    std::uint32_t flags = 0;
    std::uint32_t wait_ms = 0;  // how long to wait for one's turn when the server is held exclusively
    SessionId resume;           // 0, or the session to take up again after a lost connection
    std::array<std::uint8_t, 16> session_secret{};
    NodeId root;       // the id that the client gives to the node of `path`
    std::string path;  // below the export, "/" for all of it; with the export's name in front if the exports have names
    std::string client_name;
    std::string token;
    static constexpr auto fields =
        std::tuple{&Hello::min_version, &Hello::max_version, &Hello::features,    &Hello::compression,
                   &Hello::flags,       &Hello::wait_ms,     &Hello::resume,      &Hello::session_secret,
                   &Hello::root,        &Hello::path,        &Hello::client_name, &Hello::token};
};

// The body of a refused HELLO (status in_use): who holds the server.
struct InUse {
    std::vector<Client> holders;
    static constexpr auto fields = std::tuple{&InUse::holders};
};

// The body of a refused HELLO (status export_needed): what the path may begin with.
struct ExportNeeded {
    std::vector<std::string> names;  // of the exports that the client may use
    static constexpr auto fields = std::tuple{&ExportNeeded::names};
};

// Joins one more connection to the session.
struct Attach {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::attach;
    SessionId session;
    std::array<std::uint8_t, 16> session_secret{};
    std::uint8_t lane = 1;  // 1 to max_lanes - 1; 0 is the connection of HELLO
    static constexpr auto fields = std::tuple{&Attach::session, &Attach::session_secret, &Attach::lane};
};

struct LaneTicketReply {
    std::uint16_t port = 0;                 // TCP, of the host to which the client has connected
    std::array<std::uint8_t, 16> ticket{};  // its hexadecimal digits are the connection's PLAIN user name; for one use
    // AES-256-GCM's, for this one connection.
    std::array<std::uint8_t, 32> key_to_server{};
    std::array<std::uint8_t, 32> key_to_client{};
    static constexpr auto fields = std::tuple{&LaneTicketReply::port, &LaneTicketReply::ticket,
                                              &LaneTicketReply::key_to_server, &LaneTicketReply::key_to_client};
};

// Asks for leave to open a sealed connection, to be joined to the session with ATTACH.
struct LaneTicket {
    using Reply = LaneTicketReply;
    static constexpr Opcode opcode = Opcode::lane_ticket;
    std::uint8_t lane = 1;
    static constexpr auto fields = std::tuple{&LaneTicket::lane};
};

struct Bye {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::bye;
    static constexpr auto fields = std::tuple{};
};

struct Ping {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::ping;
    static constexpr auto fields = std::tuple{};
};

// Asks that a request not yet carried out be answered with `interrupted`. Always succeeds.
struct Cancel {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::cancel;
    RequestId request;
    static constexpr auto fields = std::tuple{&Cancel::request};
};

// Binds a number that later records carry to a caller's identity. Binding a number anew replaces it.
struct Credential {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::credential;
    std::uint32_t number = 0;  // 1 or more; 0 stands for the identity that the session has without one
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::vector<std::uint32_t> groups;
    static constexpr auto fields =
        std::tuple{&Credential::number, &Credential::uid, &Credential::gid, &Credential::groups};
};

struct CounterValue {
    std::string name;
    std::uint64_t value = 0;
    static constexpr auto fields = std::tuple{&CounterValue::name, &CounterValue::value};
};

struct ServerStatusReply {
    std::string version;
    std::uint64_t started = 0;  // seconds since 1970
    std::vector<Client> clients;
    std::vector<CounterValue> counters;
    static constexpr auto fields = std::tuple{&ServerStatusReply::version, &ServerStatusReply::started,
                                              &ServerStatusReply::clients, &ServerStatusReply::counters};
};

struct ServerStatus {
    using Reply = ServerStatusReply;
    static constexpr Opcode opcode = Opcode::server_status;
    static constexpr auto fields = std::tuple{};
};

// An export that the client may use.
struct ExportEntry {
    std::string name;        // empty for the one of a server whose export has no name
    bool read_only = false;  // to this client
    std::vector<Client> clients;
    static constexpr auto fields = std::tuple{&ExportEntry::name, &ExportEntry::read_only, &ExportEntry::clients};
};

struct ExportsReply {
    std::vector<ExportEntry> exports;
    static constexpr auto fields = std::tuple{&ExportsReply::exports};
};

struct Exports {
    using Reply = ExportsReply;
    static constexpr Opcode opcode = Opcode::exports;
    static constexpr auto fields = std::tuple{};
};

// The client has dropped what push_invalidate numbered `sequence` named, and all before it.
struct Invalidated {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::invalidated;
    std::uint64_t sequence = 0;
    static constexpr auto fields = std::tuple{&Invalidated::sequence};
};

// The client keeps nothing any more of these directories that its leases cover.
struct ReturnLeases {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::return_leases;
    std::vector<NodeId> directories;
    static constexpr auto fields = std::tuple{&ReturnLeases::directories};
};

struct TakenLease {
    bool taken = false;  // nobody else has one, nor gets one or looks, before it is shared
    bool empty = false;  // the directory has no entries: all is known of it
    static constexpr auto fields = std::tuple{&TakenLease::taken, &TakenLease::empty};
};

struct TakeLeasesReply {
    std::vector<TakenLease> leases;  // in the order of the request
    std::uint32_t trust_ms = 0;      // as ListReply's
    static constexpr auto fields = std::tuple{&TakeLeasesReply::leases, &TakeLeasesReply::trust_ms};
};

// Asks for exclusive leases.
struct TakeLeases {
    using Reply = TakeLeasesReply;
    static constexpr Opcode opcode = Opcode::take_leases;
    std::vector<NodeId> directories;
    static constexpr auto fields = std::tuple{&TakeLeases::directories};
};

// Exclusive leases are not exclusive any more: all that depended on that has been carried out.
struct ShareLeases {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::share_leases;
    std::vector<NodeId> directories;
    static constexpr auto fields = std::tuple{&ShareLeases::directories};
};

// ---------------------------------------------------------------- names and attributes

// A reply that refers to a file. `node` is the id by which the client knows it from now on; see "Node ids".
struct EntryReply {
    NodeId node;
    Attributes attributes;
    static constexpr auto fields = std::tuple{&EntryReply::node, &EntryReply::attributes};
};

struct AttributesReply {
    Attributes attributes;
    static constexpr auto fields = std::tuple{&AttributesReply::attributes};
};

// How a request that finds or makes a file names it.
struct NewNode {
    NodeId id;           // the id that the client chose
    bool reuse = false;  // if the session has an id for the file already, answer with that one instead
    static constexpr auto fields = std::tuple{&NewNode::id, &NewNode::reuse};
};

struct Lookup {
    using Reply = EntryReply;
    static constexpr Opcode opcode = Opcode::lookup;
    NodeId parent;
    std::string name;
    NewNode node;
    static constexpr auto fields = std::tuple{&Lookup::parent, &Lookup::name, &Lookup::node};
};

struct ForgetNode {
    NodeId node;
    std::uint64_t count = 1;  // how many replies that named the node are given back
    static constexpr auto fields = std::tuple{&ForgetNode::node, &ForgetNode::count};
};

struct Forget {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::forget;
    std::vector<ForgetNode> nodes;
    static constexpr auto fields = std::tuple{&Forget::nodes};
};

struct Getattr {
    using Reply = AttributesReply;
    static constexpr Opcode opcode = Opcode::getattr;
    NodeId node;
    HandleId handle;  // 0, or an open handle of the node
    static constexpr auto fields = std::tuple{&Getattr::node, &Getattr::handle};
};

inline constexpr std::uint32_t set_mode = 1U << 0;
inline constexpr std::uint32_t set_uid = 1U << 1;
inline constexpr std::uint32_t set_gid = 1U << 2;
inline constexpr std::uint32_t set_size = 1U << 3;
inline constexpr std::uint32_t set_access = 1U << 4;      // to the time given
inline constexpr std::uint32_t set_access_now = 1U << 5;  // to the server's clock
inline constexpr std::uint32_t set_modification = 1U << 6;
inline constexpr std::uint32_t set_modification_now = 1U << 7;

struct Setattr {
    using Reply = AttributesReply;
    static constexpr Opcode opcode = Opcode::setattr;
    NodeId node;
    HandleId handle;  // 0, or an open handle of the node: its permission to write is used for the size
    std::uint32_t which = 0;
    std::uint32_t mode = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint64_t size = 0;
    Timestamp access;
    Timestamp modification;
    static constexpr auto fields =
        std::tuple{&Setattr::node, &Setattr::handle, &Setattr::which,  &Setattr::mode,        &Setattr::uid,
                   &Setattr::gid,  &Setattr::size,   &Setattr::access, &Setattr::modification};
};

struct ReadlinkReply {
    std::string target;
    static constexpr auto fields = std::tuple{&ReadlinkReply::target};
};

struct Readlink {
    using Reply = ReadlinkReply;
    static constexpr Opcode opcode = Opcode::readlink;
    NodeId node;
    static constexpr auto fields = std::tuple{&Readlink::node};
};

struct Mknod {
    using Reply = EntryReply;
    static constexpr Opcode opcode = Opcode::mknod;
    NodeId parent;
    std::string name;
    NewNode node;
    std::uint32_t mode = 0;   // type (regular, fifo, socket, character or block device) and permission bits
    std::uint32_t umask = 0;  // applied unless the parent has a default ACL
    std::uint32_t rdev_major = 0;
    std::uint32_t rdev_minor = 0;
    static constexpr auto fields = std::tuple{&Mknod::parent, &Mknod::name,       &Mknod::node,      &Mknod::mode,
                                              &Mknod::umask,  &Mknod::rdev_major, &Mknod::rdev_minor};
};

struct Mkdir {
    using Reply = EntryReply;
    static constexpr Opcode opcode = Opcode::mkdir;
    NodeId parent;
    std::string name;
    NewNode node;
    std::uint32_t mode = 0;
    std::uint32_t umask = 0;
    static constexpr auto fields = std::tuple{&Mkdir::parent, &Mkdir::name, &Mkdir::node, &Mkdir::mode, &Mkdir::umask};
};

// A file or directory that is there, empty, and has no name that anybody sees.
struct LentInode {
    std::uint64_t number = 0;  // of the session; names it in MAKE_LENT
    Attributes attributes;
    static constexpr auto fields = std::tuple{&LentInode::number, &LentInode::attributes};
};

struct LendInodesReply {
    Timestamp now;  // of the clock from which the file system takes its times
    std::vector<LentInode> files;
    std::vector<LentInode> directories;
    static constexpr auto fields =
        std::tuple{&LendInodesReply::now, &LendInodesReply::files, &LendInodesReply::directories};
};

// Asks for files and directories on the file system of a directory, to make names of later. The reply has fewer of
// them, or none, where there are no more to be had.
struct LendInodes {
    using Reply = LendInodesReply;
    static constexpr Opcode opcode = Opcode::lend_inodes;
    NodeId directory;
    std::uint32_t files = 0;
    std::uint32_t directories = 0;
    static constexpr auto fields = std::tuple{&LendInodes::directory, &LendInodes::files, &LendInodes::directories};
};

// MKDIR, or CREATE with open_exclusive, of what was lent.
struct MakeLent {
    using Reply = EntryReply;
    static constexpr Opcode opcode = Opcode::make_lent;
    NodeId parent;
    std::string name;
    NewNode node;
    std::uint64_t lent = 0;
    HandleId handle;  // of a file: opened with `flags`; 0 of a directory
    std::uint32_t flags = 0;
    std::uint32_t mode = 0;
    std::uint32_t umask = 0;
    Timestamp time;  // of access and modification, which programs have been told
    static constexpr auto fields =
        std::tuple{&MakeLent::parent, &MakeLent::name, &MakeLent::node,  &MakeLent::lent, &MakeLent::handle,
                   &MakeLent::flags,  &MakeLent::mode, &MakeLent::umask, &MakeLent::time};
};

struct Unlink {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::unlink;
    NodeId parent;
    std::string name;
    static constexpr auto fields = std::tuple{&Unlink::parent, &Unlink::name};
};

struct Rmdir {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::rmdir;
    NodeId parent;
    std::string name;
    static constexpr auto fields = std::tuple{&Rmdir::parent, &Rmdir::name};
};

struct Symlink {
    using Reply = EntryReply;
    static constexpr Opcode opcode = Opcode::symlink;
    NodeId parent;
    std::string name;
    NewNode node;
    std::string target;
    static constexpr auto fields = std::tuple{&Symlink::parent, &Symlink::name, &Symlink::node, &Symlink::target};
};

inline constexpr std::uint32_t rename_noreplace = 1U << 0;
inline constexpr std::uint32_t rename_exchange = 1U << 1;
inline constexpr std::uint32_t rename_whiteout = 1U << 2;

struct Rename {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::rename;
    NodeId parent;
    std::string name;
    NodeId new_parent;
    std::string new_name;
    std::uint32_t flags = 0;
    static constexpr auto fields =
        std::tuple{&Rename::parent, &Rename::name, &Rename::new_parent, &Rename::new_name, &Rename::flags};
};

struct Link {
    using Reply = EntryReply;
    static constexpr Opcode opcode = Opcode::link;
    NodeId node;  // the file that gets one more name
    NodeId new_parent;
    std::string new_name;
    static constexpr auto fields = std::tuple{&Link::node, &Link::new_parent, &Link::new_name};
};

struct Access {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::access;
    NodeId node;
    std::uint32_t mask = 0;  // 4 read, 2 write, 1 execute or search; 0 asks whether the file is there
    static constexpr auto fields = std::tuple{&Access::node, &Access::mask};
};

struct StatfsReply {
    std::uint64_t block_size = 0;  // bytes; the unit of the three that follow
    std::uint64_t blocks = 0;
    std::uint64_t blocks_free = 0;
    std::uint64_t blocks_available = 0;  // to an ordinary user
    std::uint64_t files = 0;
    std::uint64_t files_free = 0;
    std::uint32_t name_max = 0;
    static constexpr auto fields = std::tuple{
        &StatfsReply::block_size, &StatfsReply::blocks,     &StatfsReply::blocks_free, &StatfsReply::blocks_available,
        &StatfsReply::files,      &StatfsReply::files_free, &StatfsReply::name_max};
};

struct Statfs {
    using Reply = StatfsReply;
    static constexpr Opcode opcode = Opcode::statfs;
    NodeId node;
    static constexpr auto fields = std::tuple{&Statfs::node};
};

// LOOKUP of a file that was removed while the session had it open in whose place this one is.
struct FindKept {
    using Reply = EntryReply;
    static constexpr Opcode opcode = Opcode::find_kept;
    FileIdentity identity;
    NewNode node;
    static constexpr auto fields = std::tuple{&FindKept::identity, &FindKept::node};
};

// ---------------------------------------------------------------- open files

inline constexpr std::uint32_t open_read = 1U << 0;
inline constexpr std::uint32_t open_write = 1U << 1;
inline constexpr std::uint32_t open_append = 1U << 2;  // every write goes to the end of the file, atomically
inline constexpr std::uint32_t open_truncate = 1U << 3;
inline constexpr std::uint32_t open_exclusive = 1U << 4;  // CREATE fails if the name exists
inline constexpr std::uint32_t open_sync = 1U << 5;       // O_SYNC: each write is durable before its reply
inline constexpr std::uint32_t open_dsync = 1U << 6;      // O_DSYNC
inline constexpr std::uint32_t open_noatime = 1U << 7;
inline constexpr std::uint32_t open_execute = 1U << 8;  // opened to be executed: the execute permission is checked
inline constexpr std::uint32_t open_hold = 1U << 9;     // OPEN only: neither read nor written, but kept from going

struct Open {
    using Reply = AttributesReply;
    static constexpr Opcode opcode = Opcode::open;
    NodeId node;
    HandleId handle;  // the id that the client chose
    std::uint32_t flags = 0;
    static constexpr auto fields = std::tuple{&Open::node, &Open::handle, &Open::flags};
};

struct CreateReply {
    EntryReply entry;
    bool created = false;  // false: the file was there and has been opened
    static constexpr auto fields = std::tuple{&CreateReply::entry, &CreateReply::created};
};

struct Create {
    using Reply = CreateReply;
    static constexpr Opcode opcode = Opcode::create;
    NodeId parent;
    std::string name;
    NewNode node;
    HandleId handle;
    std::uint32_t flags = 0;
    std::uint32_t mode = 0;
    std::uint32_t umask = 0;
    static constexpr auto fields = std::tuple{&Create::parent, &Create::name, &Create::node, &Create::handle,
                                              &Create::flags,  &Create::mode, &Create::umask};
};

// Makes a file without a name in the parent's file system; LINK can give it one.
struct Tmpfile {
    using Reply = EntryReply;
    static constexpr Opcode opcode = Opcode::tmpfile;
    NodeId parent;
    NewNode node;
    HandleId handle;
    std::uint32_t flags = 0;
    std::uint32_t mode = 0;
    std::uint32_t umask = 0;
    static constexpr auto fields = std::tuple{&Tmpfile::parent, &Tmpfile::node, &Tmpfile::handle,
                                              &Tmpfile::flags,  &Tmpfile::mode, &Tmpfile::umask};
};

// The reply's bulk frame holds the bytes; fewer than asked for only at the end of the file.
struct Read {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::read;
    HandleId handle;
    std::uint64_t offset = 0;
    std::uint32_t size = 0;  // at most max_bulk_bytes
    static constexpr auto fields = std::tuple{&Read::handle, &Read::offset, &Read::size};
};

struct WriteReply {
    std::uint64_t offset = 0;  // where the bytes went: differs from the request's for a handle opened to append
    std::uint32_t size = 0;    // bytes written; fewer than sent only together with status ok when the disk filled up
    Attributes attributes;     // after the write
    std::uint64_t version_before = 0;
    static constexpr auto fields =
        std::tuple{&WriteReply::offset, &WriteReply::size, &WriteReply::attributes, &WriteReply::version_before};
};

// The request's bulk frame holds the bytes.
struct Write {
    using Reply = WriteReply;
    static constexpr Opcode opcode = Opcode::write;
    HandleId handle;
    std::uint64_t offset = 0;
    bool append = false;  // to the end of the file, whatever `offset` says
    static constexpr auto fields = std::tuple{&Write::handle, &Write::offset, &Write::append};
};

struct Release {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::release;
    HandleId handle;
    static constexpr auto fields = std::tuple{&Release::handle};
};

// One descriptor of the handle was closed: reports an error kept for it and drops the owner's byte-range locks.
struct Flush {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::flush;
    HandleId handle;
    LockOwner owner;
    static constexpr auto fields = std::tuple{&Flush::handle, &Flush::owner};
};

struct Fsync {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::fsync;
    HandleId handle;
    bool data_only = false;
    static constexpr auto fields = std::tuple{&Fsync::handle, &Fsync::data_only};
};

struct Fallocate {
    using Reply = AttributesReply;
    static constexpr Opcode opcode = Opcode::fallocate;
    HandleId handle;
    std::uint32_t mode = 0;  // Linux's FALLOC_FL_* bits
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    static constexpr auto fields =
        std::tuple{&Fallocate::handle, &Fallocate::mode, &Fallocate::offset, &Fallocate::length};
};

enum class SeekWhat : std::uint8_t { data = 0, hole = 1 };

struct SeekReply {
    std::uint64_t offset = 0;
    static constexpr auto fields = std::tuple{&SeekReply::offset};
};

struct Seek {
    using Reply = SeekReply;
    static constexpr Opcode opcode = Opcode::seek;
    HandleId handle;
    std::uint64_t offset = 0;
    SeekWhat what = SeekWhat::data;
    static constexpr auto fields = std::tuple{&Seek::handle, &Seek::offset, &Seek::what};
};

struct CopyRangeReply {
    std::uint64_t size = 0;  // bytes copied; 0 at the end of the source
    static constexpr auto fields = std::tuple{&CopyRangeReply::size};
};

struct CopyRange {
    using Reply = CopyRangeReply;
    static constexpr Opcode opcode = Opcode::copy_range;
    HandleId from;
    std::uint64_t from_offset = 0;
    HandleId to;
    std::uint64_t to_offset = 0;
    std::uint64_t size = 0;
    static constexpr auto fields =
        std::tuple{&CopyRange::from, &CopyRange::from_offset, &CopyRange::to, &CopyRange::to_offset, &CopyRange::size};
};

// Digests of blocks of the file, so that two ends find out what they have in common without sending it. The reply's
// bulk frame holds wire::digest_bytes a block: XXH3-128 in its canonical (big-endian) form. The last block may be
// shorter; there are fewer blocks than asked for only at the end of the file.
struct Hash {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::hash;
    HandleId handle;
    std::uint64_t offset = 0;
    std::uint32_t block_size = 0;  // bytes, at most max_bulk_bytes
    std::uint16_t count = 0;       // at most max_hashed_blocks; block_size * count at most max_hashed_bytes
    static constexpr auto fields = std::tuple{&Hash::handle, &Hash::offset, &Hash::block_size, &Hash::count};
};

struct FetchReply {
    Attributes attributes;  // from before the content was read, and the same after
    bool complete = false;  // the bulk frame holds the whole content
    static constexpr auto fields = std::tuple{&FetchReply::attributes, &FetchReply::complete};
};

// An entry's attributes and, if it is a regular file that the caller may read and holds at most `size` bytes, its whole
// content. Makes no node and opens no handle.
struct Fetch {
    using Reply = FetchReply;
    static constexpr Opcode opcode = Opcode::fetch;
    NodeId parent;
    std::string name;
    std::uint32_t size = 0;  // at most max_bulk_bytes
    static constexpr auto fields = std::tuple{&Fetch::parent, &Fetch::name, &Fetch::size};
};

// ---------------------------------------------------------------- directories

struct Opendir {
    using Reply = AttributesReply;
    static constexpr Opcode opcode = Opcode::opendir;
    NodeId node;
    HandleId handle;
    static constexpr auto fields = std::tuple{&Opendir::node, &Opendir::handle};
};

struct ReaddirReply {
    std::uint16_t count = 0;  // entries in the bulk frame
    bool end = false;         // the directory has no more
    static constexpr auto fields = std::tuple{&ReaddirReply::count, &ReaddirReply::end};
};

// One entry of the bulk frame of READDIR's and LIST's reply, one after the other. `entry` is filled as was asked for if
// the file is neither "." nor ".." nor gone meanwhile; otherwise entry.node and the attributes' mode are 0. Under a
// lease LIST tells more of a file, so that a program that lists a tree need not ask for each.
struct DirectoryEntry {
    std::uint64_t cookie = 0;  // pass it to go on after this entry
    std::uint64_t inode = 0;
    std::uint8_t type = 0;  // DT_*
    std::string name;
    EntryReply entry;
    bool no_xattrs = false;  // it has no extended attributes, nor ACLs, that a client may see; false says nothing
    std::string target;      // of a symlink; empty: to be asked for
    static constexpr auto fields =
        std::tuple{&DirectoryEntry::cookie, &DirectoryEntry::inode,     &DirectoryEntry::type,  &DirectoryEntry::name,
                   &DirectoryEntry::entry,  &DirectoryEntry::no_xattrs, &DirectoryEntry::target};
};

enum class ListedAttributes : std::uint8_t {
    none = 0,
    with_nodes = 1,
    alone = 2,   // entries get no nodes
    leased = 3,  // alone, and what a lease of the directory covers besides, as LIST
};

struct Readdir {
    using Reply = ReaddirReply;
    static constexpr Opcode opcode = Opcode::readdir;
    HandleId handle;
    std::uint64_t cookie = 0;  // 0 from the start, or that of the last entry read
    std::uint32_t size = 0;    // bytes of entries wanted, at most max_bulk_bytes
    std::uint16_t max_entries = 0;
    ListedAttributes attributes = ListedAttributes::none;  // to fill in for each entry
    // With nodes: ids first_node to first_node + max_entries - 1 are the server's to give to entries.
    NodeId first_node;
    static constexpr auto fields = std::tuple{&Readdir::handle,      &Readdir::cookie,     &Readdir::size,
                                              &Readdir::max_entries, &Readdir::attributes, &Readdir::first_node};
};

struct ListReply {
    EntryReply entry;            // of the directory
    std::uint16_t count = 0;     // entries in the bulk frame
    bool end = false;            // the directory has no more; otherwise the handle, if there is one, is open
    bool leased = false;         // the session holds the directory's lease from now on
    std::uint32_t trust_ms = 0;  // how long an answer about it may be used while nothing voids it; UINT32_MAX: no limit
    bool no_xattrs = false;      // as DirectoryEntry's, of the directory itself
    static constexpr auto fields = std::tuple{&ListReply::entry,  &ListReply::count,    &ListReply::end,
                                              &ListReply::leased, &ListReply::trust_ms, &ListReply::no_xattrs};
};

// A directory's entries with their attributes, and leave to rely on them: LOOKUP, OPENDIR, READDIR and RELEASEDIR in
// one, as far as `size` bytes of entries go.
struct List {
    using Reply = ListReply;
    static constexpr Opcode opcode = Opcode::list;
    NodeId node;             // the directory, or the one that has it under `name`
    std::string name;        // may be empty
    NewNode new_node;        // with a name only
    HandleId handle;         // to go on with READDIR if the directory is larger; 0: do not
    std::uint32_t size = 0;  // bytes of entries wanted, at most max_bulk_bytes
    bool lease = false;
    static constexpr auto fields =
        std::tuple{&List::node, &List::name, &List::new_node, &List::handle, &List::size, &List::lease};
};

struct Releasedir {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::releasedir;
    HandleId handle;
    static constexpr auto fields = std::tuple{&Releasedir::handle};
};

struct Fsyncdir {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::fsyncdir;
    HandleId handle;
    bool data_only = false;
    static constexpr auto fields = std::tuple{&Fsyncdir::handle, &Fsyncdir::data_only};
};

// ---------------------------------------------------------------- extended attributes

struct XattrReply {
    std::uint32_t size = 0;  // bytes that the value or list takes
    static constexpr auto fields = std::tuple{&XattrReply::size};
};

// `size` 0 asks how large the value is; otherwise the reply's bulk frame holds it (out_of_range if it is larger).
struct Getxattr {
    using Reply = XattrReply;
    static constexpr Opcode opcode = Opcode::getxattr;
    NodeId node;
    std::string name;
    std::uint32_t size = 0;
    static constexpr auto fields = std::tuple{&Getxattr::node, &Getxattr::name, &Getxattr::size};
};

inline constexpr std::uint32_t xattr_create = 1U << 0;
inline constexpr std::uint32_t xattr_replace = 1U << 1;

// The request's bulk frame holds the value.
struct Setxattr {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::setxattr;
    NodeId node;
    std::string name;
    std::uint32_t flags = 0;
    static constexpr auto fields = std::tuple{&Setxattr::node, &Setxattr::name, &Setxattr::flags};
};

// As GETXATTR; the list is names, each followed by a NUL.
struct Listxattr {
    using Reply = XattrReply;
    static constexpr Opcode opcode = Opcode::listxattr;
    NodeId node;
    std::uint32_t size = 0;
    static constexpr auto fields = std::tuple{&Listxattr::node, &Listxattr::size};
};

struct Removexattr {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::removexattr;
    NodeId node;
    std::string name;
    static constexpr auto fields = std::tuple{&Removexattr::node, &Removexattr::name};
};

// ---------------------------------------------------------------- locks

enum class LockType : std::uint8_t { read = 0, write = 1, unlock = 2 };

struct LockRange {
    LockType type = LockType::unlock;
    std::uint64_t start = 0;
    std::uint64_t end = 0;  // last byte; INT64_MAX for "to the end of the file, however long"
    std::uint32_t pid = 0;  // of the holder, on its own machine
    static constexpr auto fields = std::tuple{&LockRange::type, &LockRange::start, &LockRange::end, &LockRange::pid};
};

struct LockReply {
    LockRange range;  // type unlock: nothing stands in the way
    static constexpr auto fields = std::tuple{&LockReply::range};
};

struct Getlk {
    using Reply = LockReply;
    static constexpr Opcode opcode = Opcode::getlk;
    HandleId handle;
    LockOwner owner;
    LockRange range;
    static constexpr auto fields = std::tuple{&Getlk::handle, &Getlk::owner, &Getlk::range};
};

// With `wait`, the reply comes when the lock is had or the request is cancelled; it must then be the last of its
// message.
struct Setlk {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::setlk;
    HandleId handle;
    LockOwner owner;
    LockRange range;
    bool wait = false;
    static constexpr auto fields = std::tuple{&Setlk::handle, &Setlk::owner, &Setlk::range, &Setlk::wait};
};

// flock(2): a lock on the whole file that belongs to the handle.
struct Flock {
    using Reply = Empty;
    static constexpr Opcode opcode = Opcode::flock;
    HandleId handle;
    LockType type = LockType::unlock;
    bool wait = false;
    static constexpr auto fields = std::tuple{&Flock::handle, &Flock::type, &Flock::wait};
};

// A lock that was had in a session that is lost.
struct HeldLock {
    HandleId handle;     // through which it was taken first
    bool whole = false;  // as FLOCK's: only the type of `range` counts
    LockOwner owner;
    LockRange range;
    static constexpr auto fields = std::tuple{&HeldLock::handle, &HeldLock::whole, &HeldLock::owner, &HeldLock::range};
};

struct ReclaimLocksReply {
    std::vector<std::uint32_t> lost;  // by place in the request: somebody else has, or may have had, these
    static constexpr auto fields = std::tuple{&ReclaimLocksReply::lost};
};

// Takes locks again that were had in the session in whose place this one is.
struct ReclaimLocks {
    using Reply = ReclaimLocksReply;
    static constexpr Opcode opcode = Opcode::reclaim_locks;
    std::vector<HeldLock> locks;
    bool more = false;  // another request of the kind follows
    static constexpr auto fields = std::tuple{&ReclaimLocks::locks, &ReclaimLocks::more};
};

// ---------------------------------------------------------------- pushes

// Something that a lease covered.
struct LeaseChange {
    enum class What : std::uint8_t {
        content = 0,    // attributes or content of the file that has the name
        name = 1,       // the name stands for another file, or for none, or for one where there was none
        ended = 2,      // the lease itself
        directory = 3,  // attributes of the directory itself
        shared = 4,     // an exclusive lease is to be shared; to be answered with SHARE_LEASES besides
    };
    NodeId directory;
    What what = What::content;
    std::string name;  // of content and name; otherwise empty
    friend bool operator==(const LeaseChange&, const LeaseChange&) = default;
    static constexpr auto fields = std::tuple{&LeaseChange::directory, &LeaseChange::what, &LeaseChange::name};
};

inline constexpr std::uint8_t invalidate_all_leases = 1U << 0;  // every lease of the session has ended

// What somebody else changed: what is cached of it is void.
struct PushInvalidate {
    static constexpr Opcode opcode = Opcode::push_invalidate;
    std::uint64_t sequence = 0;  // to be acknowledged with INVALIDATED
    std::uint8_t flags = 0;
    std::vector<NodeId> nodes;  // their content, attributes or, for directories, entries
    std::vector<LeaseChange> changes;
    static constexpr auto fields =
        std::tuple{&PushInvalidate::sequence, &PushInvalidate::flags, &PushInvalidate::nodes, &PushInvalidate::changes};
};

struct PushShutdown {
    static constexpr Opcode opcode = Opcode::push_shutdown;
    std::string reason;
    static constexpr auto fields = std::tuple{&PushShutdown::reason};
};

// The public keys that the server will have after the one that it has just proved to hold, which are all it will have.
struct PushNextKeys {
    static constexpr Opcode opcode = Opcode::push_next_keys;
    std::vector<std::array<std::uint8_t, 32>> keys;
    static constexpr auto fields = std::tuple{&PushNextKeys::keys};
};

}  // namespace remofile::wire
