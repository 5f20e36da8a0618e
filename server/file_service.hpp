// SPDX-License-Identifier: MIT
// What a server can do with the files of its export: one request in, one outcome out, on the calling thread.
// Sessions, connections, order and resending are the service's (sessions/service.hpp); files, locks and identities are
// here.
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/buffer.hpp"
#include "base/counters.hpp"
#include "base/result.hpp"
#include "base/strong_id.hpp"
#include "wire/compression.hpp"
#include "wire/messages.hpp"
#include "wire/opcode_table.hpp"

namespace remofile::server {

// Whom a request acts as. Only with --identity=client, or by identity= at the client's key, does the server take on
// another's identity, for the one request and on the one thread that carries it out.
struct Caller {
    bool switch_identity = false;
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> groups;
    wire::SetId set_id = wire::SetId::as_caller;
};

// Which request it is.
struct Asked {
    Asked(RequestId its_id, bool is_answered = false) : id(its_id), answered(is_answered) {}  // NOLINT: any is one
    RequestId id;
    bool answered;  // the client has told its program already that it is done
    // Of a WRITE that appends, and that a server before this one had begun: where the file ended then. What of it is
    // there is not written again.
    std::optional<std::uint64_t> begun_at{};
};

// A file that some session knows, shared by all sessions that know it. Opaque outside this part.
class Inode;
using InodePtr = std::shared_ptr<Inode>;

// For which session files are kept that were removed while they are open: nothing that anybody but its client could
// find, or guess.
using HolderTag = std::array<std::uint8_t, 16>;

class ChangeWatch;
class DescriptorBudget;
class LeaseTable;
class Room;

// A request that changes something is under way, and until this goes nobody is given an exclusive lease of what it may
// change. Movable; may outlive nothing that it was got from.
class ChangeUnderWay {
public:
    ChangeUnderWay() = default;  // of none
    ChangeUnderWay(LeaseTable& table, std::uint64_t number) : table_(&table), number_(number) {}
    ChangeUnderWay(ChangeUnderWay&& other) noexcept
        : table_(std::exchange(other.table_, nullptr)), number_(other.number_) {}
    ChangeUnderWay(const ChangeUnderWay&) = delete;
    ChangeUnderWay& operator=(const ChangeUnderWay&) = delete;
    ChangeUnderWay& operator=(ChangeUnderWay&&) = delete;
    ~ChangeUnderWay();

private:
    LeaseTable* table_ = nullptr;
    std::uint64_t number_ = 0;
};

// Leave to carry a request out, or what stands in its way.
struct Passage {
    // Directories that others have exclusive leases of, which they have been told to share. If there are any, the
    // request must not be begun before LeaseTable::are_shared() says so of all.
    std::vector<InodePtr> awaited;
    ChangeUnderWay change;  // kept while the request is carried out
};

// What a change has touched of what leases cover.
struct Touched {
    InodePtr directory;
    std::string name;             // empty: the attributes of the directory itself
    bool is_new_meaning = false;  // the name stands for something else, or for nothing
    friend bool operator==(const Touched&, const Touched&) = default;
};

struct ExportOptions {
    std::string directory;
    bool read_only = false;
    // Inodes are made beforehand for clients that ask for them, in a hidden directory of the export's root.
    bool lends_inodes = true;
    // Files that lose their last name while they are open are kept in another, for servers after this one.
    bool keeps_files = true;
    // Descriptors kept for inodes that nobody is using right now; beyond it the least recently used are closed, and
    // found again by their place in the tree, verified by identity.
    std::size_t max_idle_descriptors = 4096;
    // Descriptors of handles and locks; fewer where the process's limit leaves fewer (descriptor_budget.hpp).
    std::size_t max_open_descriptors = SIZE_MAX;
    // Shared with other exports, all their sessions and what they have open: FileService::share_descriptors(). None:
    // the export is the only one, and takes what there is.
    std::shared_ptr<DescriptorBudget> descriptors;
    // Limits of one session.
    std::size_t max_handles = 65536;
    std::size_t max_nodes = 4U << 20;
    // Shared with the sessions, which leave it when they end. None: no leases are granted.
    std::shared_ptr<LeaseTable> leases;
    // Shared with the tests, which bring their own. None: what the file system says.
    std::shared_ptr<const Room> room;
    // Leased directories are watched, if they can be, for changes by programs on the server; from the first lease on.
    bool watch = false;
};

// How a request uses an id, so that the service can keep the order that docs/PROTOCOL.md promises: uses of one id may
// overlap, but a request that makes, releases or changes what the id stands for waits for earlier ones and later ones
// wait for it. A lease that is taken or shared is used by its node. Whatever is to be carried out in
// order uses the one id 0 of `order`.
struct Dependency {
    enum class Kind : std::uint8_t { node, handle, lease, order } kind;
    std::uint64_t id;
    bool exclusive;
};

// What is known of an opcode of the groups "names and attributes" to "locks"; none for others and unknown ones.
const wire::OpcodeFacts* find_operation(wire::Opcode opcode);

// The ids that a request uses. Error: malformed.
Result<std::vector<Dependency>> dependencies_of(wire::Opcode opcode, std::span<const std::byte> body);

struct Outcome {
    Status status = Status::ok;
    std::vector<std::byte> body;  // encoded reply; empty unless status is ok
    wire::EncodedBulk bulk;       // raw, or zeros that were not even read
    bool has_bulk = false;
    // What the bulk data's source has shown of itself: part of an open file, which it keeps. None for others.
    std::shared_ptr<wire::Compressibility> stream;
    std::vector<InodePtr> changed;  // files whose content, attributes or entries changed
    // The same as those who hold leases know it; only if there are any but the author. Files of which not all names are
    // remembered are told of by their nodes.
    std::vector<Touched> touched;
    std::vector<InodePtr> touched_unplaced;
};

// The files of one session: what its node and handle ids stand for, and the locks it holds. Callable from any
// thread. Destroying it closes and unlocks everything.
class SessionFiles;

// Everything about one export. Callable from any thread.
class FileService {
public:
    // Opens the export. Errors: no_entry, not_directory, access_denied, not_supported (no openat2), naming the
    // directory.
    static Result<std::unique_ptr<FileService>> open(ExportOptions options, Counters& counters);
    virtual ~FileService() = default;

    // What the process's limit of descriptors, which this raises as far as it goes, leaves to so many exports.
    struct SharedDescriptors {
        std::shared_ptr<DescriptorBudget> open;  // shared by the exports: ExportOptions::descriptors
        std::size_t idle_each;                   // ExportOptions::max_idle_descriptors
    };
    static SharedDescriptors share_descriptors(std::size_t exports);

    // A new session whose root is `path` (absolute, resolved component by component below the export, no symlink
    // followed, ".." refused) under the id `root`. Errors: no_entry, not_directory, access_denied.
    struct OpenedSession {
        std::shared_ptr<SessionFiles> files;
        wire::Attributes root_attributes;
    };
    virtual Result<OpenedSession> open_session(std::string_view path, NodeId root, const Caller& caller,
                                               bool read_only) = 0;
    // In place of ExportOptions::read_only, for sessions from now on. One that was opened read-only lends no inodes.
    virtual void change_read_only(bool /*read_only*/) {}

    // To be asked before a request is carried out. May take system calls.
    virtual Passage pass(const std::shared_ptr<SessionFiles>& /*files*/, wire::Opcode,
                         std::span<const std::byte> /*body*/) {
        return {};
    }

    // Carries out one request. A malformed body or unknown opcode gives an outcome too. For a request that waits (a
    // blocking lock) the result is empty, and `later` is called once, on any thread, when it is decided; `request`
    // names it for cancel().
    virtual std::optional<Outcome> carry_out(const std::shared_ptr<SessionFiles>& files, Asked request,
                                             wire::Opcode opcode, std::span<const std::byte> body, Buffer bulk,
                                             const Caller& caller, std::function<void(Outcome)> later) = 0;

    // Carries out a request that certainly takes no time, because all that it needs is in memory. Empty for every
    // other: then nothing has happened, and carry_out() is to be called where it may block.
    virtual std::optional<Outcome> carry_out_at_once(const std::shared_ptr<SessionFiles>& /*files*/, wire::Opcode,
                                                     std::span<const std::byte> /*body*/, const Caller&) {
        return std::nullopt;
    }

    // Ends the wait of a request with `interrupted`; nothing if it does not wait.
    virtual void cancel(const std::shared_ptr<SessionFiles>& files, RequestId request) = 0;

    // The ids under which a session knows these files; empty if it knows none of them.
    virtual std::vector<NodeId> known_as(const SessionFiles& files, std::span<const InodePtr> changed) = 0;

    // What tells of changes by programs on the server; none if it is not to be had.
    virtual ChangeWatch* change_watch() { return nullptr; }
    // What to say of it in the log; empty if it was not asked for.
    virtual std::string change_watch_text() const { return {}; }
    // What the watch tells of a name that is new says nothing of the file's other names, whose attributes have changed
    // with it: adds them. False if there may be others that nobody knows here.
    virtual bool add_other_names(std::vector<Touched>& /*touched*/) { return true; }
    // Whether there is room enough for what holders of exclusive leases may have answered already. Takes system calls.
    virtual bool has_room() { return true; }
    // Some is kept back for that (server/files/reserve.hpp), until nobody holds any. It takes system calls to end it.
    virtual bool keeps_reserve() { return false; }
    virtual void end_reserve() {}
    // Directories that may be without a lease now need not be watched any more. Takes system calls.
    virtual void stop_watching(std::span<const InodePtr> /*directories*/) {}

    // Locks are ordered by when they were granted. Until when the session has had its own, if it ended now.
    virtual std::uint64_t locks_lost_at(const std::shared_ptr<SessionFiles>& /*files*/) const { return 0; }
    // The session is in the place of one that had its locks until then. `has_locks` is called, on any thread, when it
    // has had those again that it could have. Before the session's first request.
    virtual void take_place_of(const std::shared_ptr<SessionFiles>& /*files*/, std::uint64_t /*locks_lost_at*/,
                               std::function<void()> /*has_locks*/) {}
    // `work` is done before the first lock is granted that was not had before. Before the first session.
    virtual void before_first_lock(std::function<void()> /*work*/) {}

    // The same of the session's first.
    virtual void before_first_lock_of(const std::shared_ptr<SessionFiles>& /*files*/, std::function<void()> /*work*/) {}
    // For so long, or until end_lock_grace(), nobody is granted a lock who has not had it before. Before the first
    // session.
    virtual void begin_lock_grace(std::chrono::milliseconds /*length*/) {}
    virtual void end_lock_grace() {}

    // Whether files that lose their last name while they are open are kept for servers after this one.
    virtual bool keeps_files() const { return false; }
    // What the session has open is kept for that holder, and it finds what was kept for the session in whose place it
    // is. Before its first request. Takes system calls.
    virtual void keep_for(const std::shared_ptr<SessionFiles>& /*files*/, const HolderTag& /*holder*/,
                          const std::optional<HolderTag>& /*in_place_of*/) {}
    // When the session ends, another may take its place.
    virtual void expect_back(const std::shared_ptr<SessionFiles>& /*files*/) {}
    // Whether there is anything that nobody has asked for yet.
    virtual bool has_unclaimed_files() const { return false; }
    // What had not been asked for when this was called last is removed. Takes system calls.
    virtual void remove_unclaimed_files() {}

    // Ends every wait and closes what the session holds. Later requests of it get `no_session`.
    virtual void close_session(const std::shared_ptr<SessionFiles>& files) = 0;
};

}  // namespace remofile::server
