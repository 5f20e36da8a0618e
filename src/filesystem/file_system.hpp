// SPDX-License-Identifier: MIT
// The file system of a server, as a mount shows it, without the kernel: a file or directory is an inode number that was
// given out before, and each operation is a coroutine that answers with plain values.
//
// Operations are for one caller each, whose Operation must live until they have answered. They run on the session's
// thread and lock nothing; several may be under way at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/counters.hpp"
#include "base/result.hpp"
#include "base/task.hpp"
#include "client/resident_memory.hpp"
#include "client/session.hpp"
#include "client/waiters.hpp"
#include "filesystem/changes_behind.hpp"
#include "filesystem/entry.hpp"
#include "filesystem/exclusive_leases.hpp"
#include "filesystem/fetched_files.hpp"
#include "filesystem/file_contents.hpp"
#include "filesystem/front_cache.hpp"
#include "filesystem/handle_table.hpp"
#include "filesystem/held_locks.hpp"
#include "filesystem/inode_map.hpp"
#include "filesystem/kept_handles.hpp"
#include "filesystem/leased_names.hpp"
#include "filesystem/lent_inodes.hpp"
#include "filesystem/linked_names.hpp"
#include "filesystem/open_file.hpp"
#include "filesystem/operation.hpp"
#include "filesystem/patience.hpp"
#include "filesystem/second_attempts.hpp"
#include "filesystem/shown_times.hpp"
#include "filesystem/statistics.hpp"
#include "filesystem/xattr_memory.hpp"
#include "spool/contents.hpp"

namespace remofile::filesystem {

struct FileSystemSettings {
    std::size_t cache_bytes = 0;    // for contents of files, all together
    bool contain_symlinks = false;  // a link that would lead out of the file system is refused
    // Whoever is in front checks what callers may do, besides the server.
    bool front_checks_permissions = false;
    // All callers are one user.
    bool is_single_user = false;
    // Whoever makes, removes or renames something waits until the server has done it.
    bool waits_for_names = false;
    // From such round trips on, whoever makes a directory has it to himself at once. Programs on the server may make
    // something in it in that moment, of which word comes some milliseconds later: as late as the answer to a look-up
    // would have come.
    Duration far_from = std::chrono::milliseconds(10);
    // Changes that programs have been told of and the server has not answered: whoever must wait for all of them does
    // not wait long, and the session may always send what somebody waits for.
    std::size_t max_changes_behind = 512;
    // Files and directories to make are borrowed from the server.
    bool borrows_inodes = true;
    // What the server has not answered may be asked for with take_unsent().
    bool keeps_unsent = false;
    // With groups by the server's numbers. Asked for only where they matter: where the server acts as its callers, and
    // where set-id bits are at stake.
    std::function<CallerFacts(const Caller&)> facts_of;
};

// Errors: what the server answers, and of every operation
//   stale        the inode or handle is of a session that the server has lost, or was never given out
//   interrupted  the operation was cancelled
//   no_session, shutting_down, timed_out, unreachable  as client::Session says
class FileSystem {
public:
    // All must outlive it. Takes over the session's callbacks.
    FileSystem(client::Session& session, transport::Reactor& reactor, const Clock& clock, Counters& counters,
               FileSystemSettings settings);
    ~FileSystem();
    FileSystem(const FileSystem&) = delete;
    FileSystem& operator=(const FileSystem&) = delete;

    // Who caches in front from now on, and must live until another is named. Null, as in the beginning: nobody.
    void set_front(FrontCache* front) { front_ = front; }
    // The same of names. Without it, no name and no attributes may be kept in front.
    void set_front(FrontNames* names) { front_names_ = names; }

    Operation begin(Caller caller) {
        resident_memory_.busy();
        return {.caller = caller,
                .arrived_at = contents_.now(),
                .cancellation = {},
                .set_id = wire::SetId::as_caller,
                .just_looked_up = fresh_look_ups_.take(caller.thread),
                .on_wait_over = nullptr};
    }
    // The caller of an operation was told that what it asked for is stale, and may try once more.
    void told_stale(const Operation& operation) { second_attempts_.expect(operation.caller.thread); }

    struct Usage {
        std::size_t known_files = 0;
        std::size_t open_files = 0;
        std::size_t open_directories = 0;
        std::size_t cached_bytes = 0;  // with what is pending
        std::size_t cache_limit_bytes = 0;
        std::size_t pending_write_bytes = 0;
        std::size_t pending_changes = 0;  // of names and attributes
    };
    Usage usage() const;

    // Asks for what a silent server must not be waited for: what df and ls -ld of the mountpoint want to know. Ends
    // when it is known, or after a while.
    Task<void> learn_root();

    // Ends when the server has answered all that was written, made, removed and renamed before.
    Task<void> all_written_out();

    // What all_written_out() waits for, to be carried out by another session. From now on, what fails of it is not
    // logged: somebody has it. Files without a name are left out, which nobody could open again.
    struct Unsent {
        spool::Contents contents;       // without source and time
        std::vector<std::string> lost;  // what could not be put into it, and why
    };
    Unsent take_unsent();

    // ---- names

    // Errors also: no_entry. For how long that may be kept says life_of_absence(), right afterwards.
    Task<Result<Entry>> lookup(Operation& operation, InodeNumber parent, std::string name);
    Duration life_of_absence(InodeNumber parent, std::string_view name);
    Task<Result<std::string>> readlink(Operation& operation, InodeNumber inode);
    // `mode`: type and permissions; the caller's umask is taken off unless the parent has a default ACL.
    Task<Result<Entry>> mknod(Operation& operation, InodeNumber parent, std::string name, std::uint32_t mode,
                              std::uint32_t rdev_major, std::uint32_t rdev_minor);
    Task<Result<Entry>> mkdir(Operation& operation, InodeNumber parent, std::string name, std::uint32_t mode);
    Task<Result<Entry>> symlink(Operation& operation, InodeNumber parent, std::string name, std::string target);
    Task<Result<Entry>> link(Operation& operation, InodeNumber inode, InodeNumber new_parent, std::string new_name);
    Task<Result<>> unlink(Operation& operation, InodeNumber parent, std::string name);
    Task<Result<>> rmdir(Operation& operation, InodeNumber parent, std::string name);
    // `flags`: wire::rename_*.
    Task<Result<>> rename(Operation& operation, InodeNumber parent, std::string name, InodeNumber new_parent,
                          std::string new_name, std::uint32_t flags);

    // Gives back entries of an inode.
    void forget(InodeNumber inode, std::uint64_t count = 1);
    struct Forgotten {
        InodeNumber inode = 0;
        std::uint64_t count = 0;
    };
    void forget(std::span<const Forgotten> entries);

    // ---- directories

    enum class Listing : std::uint8_t { plain, with_attributes };

    struct OpenedDirectory {
        HandleNumber handle;
        // Whether whoever is in front may keep what is read, for who reads it next; and whether what it keeps is true.
        bool front_may_keep = false;
        bool front_is_true = false;
    };
    Task<Result<OpenedDirectory>> opendir(Operation& operation, InodeNumber inode);
    // Puts the entries after `position`, 0 or a cookie of before, into `sink`. None at the end of the directory.
    Task<Result<>> readdir(Operation& operation, HandleNumber handle, std::uint64_t position, Listing listing,
                           ListingSink& sink);
    Task<Result<>> fsyncdir(Operation& operation, HandleNumber handle, bool data_only);
    void releasedir(HandleNumber handle);

    // ---- attributes

    // `handle`: through which it is asked for, if any.
    Task<Result<ShownAttributes>> getattr(Operation& operation, InodeNumber inode, HandleNumber handle);
    // `change` names neither node nor handle.
    Task<Result<ShownAttributes>> setattr(Operation& operation, InodeNumber inode, HandleNumber handle,
                                          wire::Setattr change);
    // `mask`: as wire::Access.
    Task<Result<>> access(Operation& operation, InodeNumber inode, std::uint32_t mask);
    Task<Result<wire::StatfsReply>> statfs(Operation& operation, InodeNumber inode);

    // ---- open files

    Task<Result<Opened>> open(Operation& operation, InodeNumber inode, OpenHow how);
    Task<Result<Created>> create(Operation& operation, InodeNumber parent, std::string name, std::uint32_t mode,
                                 OpenHow how);
    Task<Result<Created>> tmpfile(Operation& operation, InodeNumber parent, std::uint32_t mode, OpenHow how);
    void release(HandleNumber handle);
    // Whether the handle was opened so.
    bool past_cache(HandleNumber handle);

    // The whole of an open file, if it is in memory.
    std::optional<client::FileReader::Data> whole_content(HandleNumber handle);
    // Less than `size` bytes, which is cut to wire::max_bulk_bytes, only at the end of the file.
    Task<Result<client::FileReader::Data>> read(Operation& operation, HandleNumber handle, std::uint64_t offset,
                                                std::size_t size);
    // A byte as the server has it, past all caches. None if nobody has the file open for reading, or it ends before.
    Task<Result<std::optional<std::byte>>> peek(Operation& operation, InodeNumber inode, std::uint64_t offset);
    // How much was written. An error of a write that was accepted before is reported first, once.
    Task<Result<std::size_t>> write(Operation& operation, HandleNumber handle, std::uint64_t offset, Payload payload,
                                    WriteHow how);
    // One descriptor of the handle is closed: all errors of its writes are known, and the owner's byte locks gone.
    Task<Result<>> flush(Operation& operation, HandleNumber handle, LockOwner owner);
    Task<Result<>> fsync(Operation& operation, HandleNumber handle, bool data_only);
    Task<Result<>> fallocate(Operation& operation, HandleNumber handle, std::uint32_t mode, std::uint64_t offset,
                             std::uint64_t length);
    Task<Result<std::uint64_t>> seek(Operation& operation, HandleNumber handle, std::uint64_t offset,
                                     wire::SeekWhat what);
    // How much was copied.
    Task<Result<std::uint64_t>> copy_range(Operation& operation, HandleNumber from, std::uint64_t from_offset,
                                           HandleNumber to, std::uint64_t to_offset, std::uint64_t size);

    // ---- locks

    // The lock that stands in the way; type unlock if there is none.
    Task<Result<wire::LockRange>> getlk(Operation& operation, HandleNumber handle, LockOwner owner,
                                        wire::LockRange range);
    Task<Result<>> setlk(Operation& operation, HandleNumber handle, LockOwner owner, wire::LockRange range, bool wait);
    Task<Result<>> flock(Operation& operation, HandleNumber handle, wire::LockType type, bool wait);

    // ---- extended attributes

    // A caller that has room for no byte asks for the size alone.
    Task<Result<Xattr>> getxattr(Operation& operation, InodeNumber inode, std::string name, std::size_t room);
    // The names, each with a zero byte behind it.
    Task<Result<Xattr>> listxattr(Operation& operation, InodeNumber inode, std::size_t room);
    // `flags`: wire::xattr_*.
    Task<Result<>> setxattr(Operation& operation, InodeNumber inode, std::string name, Buffer value,
                            std::uint32_t flags);
    Task<Result<>> removexattr(Operation& operation, InodeNumber inode, std::string name);

    // ---- for whoever caches in front

    InodeMap& inodes() { return inodes_; }
    // The device whose files have their own inode numbers.
    std::uint64_t export_device() const { return export_device_; }

private:
    // file_system.cpp

    // The server's name for a directory. To be asked for right before it is used: a wait may have made it stale.
    Result<NodeId> node_of(InodeNumber inode);
    // The same for any file: one that is known from a listing alone is looked up first. Errors also: stale if its name
    // stands for another file by now.
    Task<Result<NodeId>> node_for(Operation& operation, InodeNumber inode);
    Task<Result<NodeId>> find_node(Operation& operation, InodeNumber inode);
    wire::NewNode new_node() { return {session_.new_node_id(), true}; }
    Result<FileHandle*> file(HandleNumber handle);
    Result<DirectoryHandle*> directory(HandleNumber handle);

    CallerIdentity identity_of(const Operation& operation) const;
    // The number by which requests act as somebody. `cancellation`, if given, must live until then.
    Task<Result<std::uint32_t>> credential_of(CallerIdentity identity, client::Cancellation* cancellation = nullptr);
    Task<Result<std::uint32_t>> credential_of(Operation& operation);
    // Settles what the server is told of set-id bits of the file. `is_said`: whoever is in front has said whether the
    // caller may keep them.
    void settle_set_id(Operation& operation, InodeNumber inode, bool is_said);
    // Nobody knows whether a change was carried out. Not `stale`: the kernel would ask for it once more.
    static constexpr Status in_doubt = Status::io_error;
    // Sends a request that acts as the caller.
    template <class Message>
    Task<Result<client::Reply<Message>>> call(Operation& operation, Message message);
    template <class Message>
    Task<Result<client::Reply<Message>>> call_with_bulk(Operation& operation, Message message, Buffer bulk,
                                                        client::LaneKind lane = client::LaneKind::metadata);
    // Sends several requests as one message.
    Task<std::vector<client::EncodedReply>> call_batch(Operation& operation,
                                                       std::vector<client::EncodedRequest> requests);
    // The same of a request on a handle that changes the file. What reads and writes travels on one lane, in order.
    template <class Message>
    Task<Result<client::Reply<Message>>> change(Operation& operation, Message message);
    // Sends a request for a handle, whose rights were settled when it was opened.
    template <class Message>
    Task<Result<client::Reply<Message>>> call_on_lane(Operation& operation, Message message, client::LaneKind lane) {
        return session_.call(std::move(message), {.lane = lane}, &operation.cancellation);
    }
    template <class Message>
    Task<Result<client::Reply<Message>>> call_on_handle(Operation& operation, Message message) {
        return call_on_lane(operation, std::move(message), client::LaneKind::data);
    }
    // Ends when the server has answered all that was written to the file before, for a request that must not overtake
    // it. Errors of those writes are their handles' affair. Errors: interrupted.
    Task<Status> written_out(Operation& operation, InodeNumber inode) {
        return contents_.writes().drain(inode, &operation.cancellation);
    }

    Result<Entry> entry_of(InodeNumber parent, std::string_view name, const wire::EntryReply& reply,
                           std::uint64_t asked_at);
    void give_back(std::vector<wire::ForgetNode> nodes);
    static std::vector<wire::Forget> messages_to_forget(std::span<const wire::ForgetNode> nodes);
    void opened(InodeNumber inode, bool maps);
    void released(InodeNumber inode, bool maps);

    Task<Status> front_is_current(Operation& operation, InodeNumber inode);
    Task<Status> front_written_back(Operation& operation, InodeNumber inode);
    void drop_front(InodeNumber inode, std::function<void()> done);
    void on_invalidate(const client::Invalidation& invalidation, std::function<void()> acknowledge);
    void begin_session();
    void on_new_epoch();
    void on_reconnected();

    // restoring.cpp
    static std::uint32_t flags_to_open_again(const OpenHow& how);
    Task<bool> restore_session();
    Task<void> front_names_dropped();
    void note_machine();
    struct Questions;
    Task<void> ask_some(std::vector<client::EncodedRequest> requests, std::uint32_t credential,
                        std::shared_ptr<Questions> all, std::size_t first);
    Task<std::vector<client::EncodedReply>> ask_all(std::vector<client::EncodedRequest> requests,
                                                    std::uint32_t credential);
    std::vector<NamePlace> places_to_look(const Inode& inode) const;
    bool is_restored(InodeNumber id, NodeId node, const client::EncodedReply& answer, std::uint64_t asked_at,
                     std::vector<wire::ForgetNode>& others);
    Task<Result<std::vector<InodeNumber>>> restore_nodes(std::vector<InodeNumber> left);
    Task<Result<std::vector<InodeNumber>>> restore_kept(std::vector<InodeNumber> left);
    Task<bool> restore_known_nodes();
    Task<bool> look_at_changed_names();
    using FoundNames = std::map<NamePlace, wire::FileIdentity>;
    bool stands_for(const FoundNames& there, const NamePlace& place, InodeNumber id);
    void judge(std::uint64_t number, const std::vector<NameChange>& names, const FoundNames& there);
    Task<std::optional<FoundNames>> look_up_all(std::set<NamePlace> places);
    Task<bool> restore_files();
    Task<bool> restore_files(HandleTable<FileHandle>& files);
    Task<bool> open_again(HandleTable<FileHandle>& files, std::uint32_t credential, std::vector<HandleNumber> numbers);
    Task<bool> restore_locks();
    Task<bool> reclaim(std::span<const HeldLocks::Held> held, bool more, std::set<HandleNumber>& lost);
    Task<bool> lose_locked(std::set<HandleNumber> lost);
    Task<bool> restore_directories();
    void lose(FileHandle& file);

    // sending_again.cpp
    struct OpenedAgain {
        HandleId handle;
        std::uint32_t credential = 0;
        wire::Attributes attributes;
    };
    struct LostFiles;
    struct SentChanges;
    Task<bool> send_lost_again();
    Task<void> send_some_again(std::shared_ptr<LostFiles> all);
    Task<Status> send_again(InodeNumber inode);
    Task<Result<OpenedAgain>> open_to_send_again(NodeId node);
    Task<Status> send_changes(OpenedAgain file, NodeId node, std::vector<UnsyncedWrites::Change> changes);
    Task<void> send_change(OpenedAgain file, NodeId node, UnsyncedWrites::Change change,
                           std::shared_ptr<SentChanges> sent);
    void give_up_lost();
    void note_unsynced();
    void forget_old_unsynced();
    InodeNumber unsynced_at(InodeNumber directory, std::string_view name);
    client::Fate fate_of_change(std::uint64_t change, const std::vector<client::EncodedRequest>& requests);
    client::EncodedReply answer_of_before(const client::EncodedRequest& request);
    wire::EntryReply made_before(NodeId node);

    // Whether what is known under leases may answer the caller: it was told to whoever asked first, who need not be the
    // one to whom the server would tell it, and is kept for one user where the server tells users apart.
    bool may_use_names(const Operation& operation);
    // Whether the front may keep what it is told, and answer others by it.
    bool may_lend() const;
    Duration life_of_attributes(const Inode& inode);
    ShownAttributes lend_attributes(const Inode& inode, const wire::Attributes& attributes);
    Entry with_loan(Entry entry, InodeNumber parent, std::string_view name);
    void changed_here(InodeNumber inode);
    void written_here(InodeNumber inode);
    void xattr_changed_here(InodeNumber inode);

    // names.cpp
    Task<std::optional<Result<Entry>>> known_entry(Operation& operation, InodeNumber parent, const std::string& name);
    std::optional<Entry> give_out_known(const Operation& operation, InodeNumber parent, std::string_view name,
                                        const DirectoryCache::Answer& answer);
    void has_moved(InodeNumber parent, const std::string& name, InodeNumber new_parent, const std::string& new_name,
                   std::uint64_t asked_at);
    void made(InodeNumber parent, std::string_view name, const wire::Attributes& attributes, std::uint64_t asked_at);
    void has_its_access_time_asked_for(const Inode& inode);
    void removed(InodeNumber parent, std::string_view name, std::uint64_t asked_at);
    Task<Result<wire::EntryReply>> look_up(Operation& operation, wire::Lookup message);
    Task<Result<wire::EntryReply>> look_up_and_hold(Operation& operation, wire::Lookup message);
    template <class Message>
    Task<Result<Entry>> make(Operation& operation, InodeNumber parent, Message message);
    Task<Result<Entry>> make_directory(Operation& operation, InodeNumber parent, wire::Mkdir message);
    template <class Message>
    Task<Result<>> remove(Operation& operation, InodeNumber parent, Message message);
    template <class Message>
    Task<Status> take_away(Operation& operation, InodeNumber parent, std::string name, Message message);
    bool may_be_known_by_name_alone(InodeNumber parent, const std::string& name);

    // making.cpp
    struct Standing {
        DirectoryCache::Knowledge knowledge = DirectoryCache::Knowledge::unknown;
        InodeNumber inode = 0;   // of what is present; 0 if nobody knows it by number
        std::uint32_t type = 0;  // S_IFMT bits; 0 if it is not known
        // Nothing but its directory decides whether it may be removed and renamed, and it has no other name.
        bool is_plain = false;
    };
    Standing standing_of(InodeNumber directory, std::string_view name);
    bool may_answer(const Operation& operation, InodeNumber directory);
    Task<Result<bool>> may_make(Operation& operation, InodeNumber parent, const std::string& name);
    Task<Result<bool>> may_remove(Operation& operation, InodeNumber parent, const std::string& name);
    Task<Result<bool>> may_rename(Operation& operation, InodeNumber parent, const std::string& name,
                                  InodeNumber new_parent, const std::string& new_name, std::uint32_t flags);
    const wire::Attributes* may_link(const Operation& operation, const Inode& inode);
    bool may_close_unwaited(const FileHandle& file);
    bool is_empty(InodeNumber directory);
    bool has_unopened(InodeNumber inode);
    bool is_open(InodeNumber inode);
    wire::Attributes attributes_of_new(const Inode& inode, std::uint32_t mode, const wire::LentInode* lent) const;
    wire::Timestamp time_now();
    std::optional<wire::LentInode> borrow(LentInodes::Kind kind, InodeNumber parent);
    std::optional<Entry> give_out_pending(InodeNumber inode);
    Task<Status> settled(Operation& operation, InodeNumber inode);
    Task<Status> settled(Operation& operation, HandleNumber handle);
    // The same of everything, for a request that changes something: whoever looks at the server sees changes in the
    // order in which programs made them. (Sent in order behind the others it could wait for another client, which may
    // wait for these.)
    Task<Status> all_settled(client::Cancellation* cancellation) {
        if (behind_.any())
            hurry();
        return behind_.all_settled(cancellation);
    }
    // Somebody waits for what is under way.
    void hurry() {
        send_held();
        session_.hurry();
    }
    Task<bool> settled_briefly(Operation& operation, InodeNumber inode);
    InodeNumber meaning_of(InodeNumber directory, std::string_view name);
    ChangesBehind::Asked ask_for_change(Operation& operation, std::vector<NameChange> names);
    ChangesBehind::UnderWay begin_change(ChangesBehind::Concern concern);
    void change_settled(InodeNumber inode, const std::optional<ChangesBehind::Heard>& heard);
    void loses_name(InodeNumber inode);
    void has_another_directory(InodeNumber parent, std::int32_t more);
    void look_at_quiet_directories();
    Task<void> look_at_quiet(InodeNumber directory);
    Task<void> carried_out_in(InodeNumber directory) {
        hurry();
        co_await behind_.settled(directory, nullptr);
    }
    void failed_behind(std::string_view what, InodeNumber directory, std::string_view name, InodeNumber made_as,
                       Status status);
    template <class Message>
    void note_request(const ChangesBehind::UnderWay& change, const Message& message,
                      std::optional<wire::Attributes> file = {}, std::optional<wire::Attributes> replaced = {}) {
        if (settings_.keeps_unsent)
            behind_.note_request(change,
                                 {Message::opcode, wire::encode_body(message), std::move(file), std::move(replaced)});
    }
    // How requests are sent whose outcome programs have been told already.
    static client::CallOptions options_of_change(const ChangesBehind::UnderWay& change) {
        return {.ahead = true, .in_order = true, .change = change.number()};
    }
    void confirm_made(InodeNumber parent, std::string_view name, InodeNumber inode, const wire::Attributes& attributes,
                      std::uint64_t asked_at);
    template <class Message>
    Entry make_behind(InodeNumber parent, Message message, std::uint32_t mode, const wire::LentInode* lent = nullptr);
    Created create_behind(InodeNumber parent, wire::Create message, const OpenHow& how);
    template <class Message>
    Task<void> carry_out_making(ChangesBehind::UnderWay change, InodeNumber parent, InodeNumber inode, Message message,
                                std::uint64_t asked_at);
    Entry link_behind(Inode& inode, InodeNumber new_parent, std::string new_name, wire::Attributes known);
    Task<void> carry_out_link(ChangesBehind::UnderWay change, InodeNumber inode, InodeNumber new_parent,
                              wire::Link message, std::uint64_t asked_at);
    bool may_open_behind(const Operation& operation, InodeNumber inode, const OpenHow& how);
    Opened open_behind(InodeNumber inode, const OpenHow& how);
    Task<void> carry_out_opening(ChangesBehind::UnderWay change, HandleNumber handle, wire::Open message);
    template <class Message>
    Task<Status> take_away_behind(const ChangesBehind::UnderWay& change, InodeNumber parent, std::string name,
                                  Message message, bool look_first);
    template <class Message>
    void remove_behind(InodeNumber parent, Message message);
    template <class Message>
    Task<void> carry_out_removal(ChangesBehind::UnderWay change, InodeNumber parent, InodeNumber directory,
                                 Message message, bool look_first, std::uint64_t asked_at);
    void rename_behind(InodeNumber parent, std::string name, InodeNumber new_parent, std::string new_name,
                       std::uint32_t flags);
    Task<void> carry_out_rename(ChangesBehind::UnderWay change, InodeNumber parent, InodeNumber new_parent,
                                InodeNumber moved, wire::Rename message, bool look_first, std::uint64_t asked_at);
    std::optional<wire::Attributes> attributes_after(const Operation& operation, const Inode& inode,
                                                     const wire::Setattr& change);
    ShownAttributes set_behind(Inode& inode, wire::Setattr change, wire::Attributes after);
    void hold_for_a_moment();
    void send_held();
    void send_held_setting();
    void send_held_removal();
    Task<void> carry_out_setting(ChangesBehind::UnderWay change, InodeNumber inode, wire::Setattr message,
                                 bool look_first, std::uint64_t asked_at);
    void attributes_are(InodeNumber inode, const wire::Attributes& attributes, std::uint64_t asked_at);
    void close_unwaited(InodeNumber inode);
    Task<void> finish_closed(ChangesBehind::UnderWay change, InodeNumber inode);
    Task<void> release_when_settled(const FileHandle& file);

    // directories.cpp
    Task<Result<DirectoryCache::Names>> names_of(Operation& operation, InodeNumber inode);
    Task<Result<HandleId>> open_at_server(Operation& operation, InodeNumber inode);
    OpenedDirectory add_directory(DirectoryHandle opened);
    bool may_open_unasked(const Operation& operation, InodeNumber inode);
    Result<OpenedDirectory> open_unasked(InodeNumber inode);
    bool may_lend_names(InodeNumber inode);
    bool lent_names_are(InodeNumber inode, const DirectoryCache::Names& names);
    void watch_lent_names();
    void check_lent_names();
    Task<Result<>> have_at_server(Operation& operation, HandleNumber handle);
    Task<void> have_directory_at_server(Operation& operation, InodeNumber inode);
    Task<Result<>> find_entries(Operation& operation, HandleNumber handle, Listing listing);
    void list_known(DirectoryHandle& directory);
    Task<Result<>> fetch_entries(Operation& operation, HandleNumber handle, Listing listing);
    static std::optional<std::uint64_t> known_position(const DirectoryHandle& directory, std::uint64_t number);
    bool go_to(DirectoryHandle& directory, std::uint64_t number);
    void discard_entries(DirectoryHandle& directory);
    void deliver(const Operation& operation, DirectoryHandle& directory, Listing listing, ListingSink& sink);
    Entry known_listed(const Operation& operation, InodeNumber parent, const std::string& name);
    bool is_outdated(const DirectoryHandle& directory, const wire::DirectoryEntry& entry);
    ListedEntry brief(const DirectoryHandle& directory, const wire::DirectoryEntry& entry);

    // attributes.cpp
    wire::Attributes seen(InodeNumber inode, const wire::Attributes& attributes, std::uint64_t asked_at);
    std::optional<wire::Attributes> attributes_under_way(const Operation& operation, InodeNumber inode);
    ShownAttributes shown(const Operation& operation, InodeNumber inode, const wire::Attributes& attributes);
    const wire::Attributes* just_heard(const Operation& operation, InodeNumber inode);
    Task<Result<ShownAttributes>> getattr_of_root(Operation& operation, NodeId node);
    template <class Message>
    Task<std::optional<Result<client::Reply<Message>>>> ask_briefly(Operation& operation, Message message);
    Task<Result<wire::Attributes>> set_at_server(Operation& operation, InodeNumber inode, wire::Setattr change);

    // keeping.cpp
    class Keeping;
    std::optional<wire::Attributes> known_of(InodeNumber directory, std::string_view name);

    // files.cpp
    // With more files open, whoever opens or makes one waits: the server may have no descriptor for it.
    static constexpr std::size_t max_open_unasked = 32;
    struct OpenAnswer {
        HandleId handle;
        wire::Attributes attributes;
        Buffer beginning;  // of the content, if it came along
        bool has_beginning = false;
    };
    bool wants_content(InodeNumber inode, const OpenHow& how);
    Task<Result<std::optional<Opened>>> open_kept_file(Operation& operation, InodeNumber inode, OpenHow how);
    bool is_known_for_sure(const Inode& inode);
    bool keep_handle(const FileHandle& file);
    Task<Result<std::optional<Opened>>> open_known_file(Operation& operation, InodeNumber inode, OpenHow how);
    Task<Result<>> have_open(Operation& operation, HandleNumber handle);
    Task<Result<>> have_all_open(Operation& operation, InodeNumber directory, std::string name);
    void open_later(const Operation& operation, HandleNumber handle);
    void open_late_ones();
    Task<void> open_late(Caller caller, HandleNumber handle);
    const FileHandle* known_handle(InodeNumber inode);
    Task<Result<OpenAnswer>> open_with_content(Operation& operation, wire::Open message);
    Task<Result<OpenAnswer>> open_alone(Operation& operation, wire::Open message, bool to_append);
    Opened add_file(const Operation& operation, InodeNumber inode, HandleId handle, const wire::Attributes& attributes,
                    std::uint64_t asked_at, const OpenHow& how);
    Result<Created> take_in(const Operation& operation, InodeNumber parent, std::string_view name,
                            const wire::EntryReply& reply, HandleId handle, const OpenHow& how);

    // data.cpp
    bool is_copied_by_reading(HandleNumber from, HandleNumber to);
    std::optional<client::FileReader::Data> read_known(const FileHandle& file, std::uint64_t offset, std::size_t size);
    Task<Result<client::Reply<wire::Write>>> write_page(HandleNumber handle, wire::Write message, Buffer data);
    Task<Result<std::size_t>> write_through(Operation& operation, InodeNumber inode, HandleNumber handle,
                                            wire::Write message, Buffer data, bool of_mapping);
    Task<Result<std::size_t>> write_behind(Operation& operation, client::WriteBehind::Target target,
                                           std::uint64_t offset, Buffer data);
    void note_accepted(InodeNumber inode, std::uint64_t offset, std::size_t size);
    Status take_write_error(HandleNumber handle);
    Result<> after_write_error(HandleNumber handle, Status now, bool is_fsync);

    // locks.cpp
    Task<void> release_locked(InodeNumber inode, HandleId handle);
    Task<Status> locks_released(Operation& operation, InodeNumber inode);
    // What is known of a locked file, if anything.
    using Look = std::optional<wire::Attributes>;
    Task<Result<Look>> look_at_locked(Operation& operation, wire::Getattr getattr);
    template <class Message>
    Task<Result<Look>> lock_and_look(Operation& operation, Message message, wire::Getattr getattr);
    template <class Message, class Had>
    Task<Result<>> take_lock(Operation& operation, InodeNumber inode, Message message, Had had);
    template <class Message>
    Task<Result<>> drop_lock(Operation& operation, InodeNumber inode, Message message);

    // xattrs.cpp
    void remember_xattr(InodeNumber inode, std::string_view name, Status status);
    bool xattr_unsupported(InodeNumber inode, std::string_view name);
    bool surely_allows(const Operation& operation, InodeNumber inode, std::uint32_t mask);
    bool mode_allows(const Operation& operation, const wire::Attributes& attributes, std::uint32_t mask) const;
    bool lacks_xattr(InodeNumber inode, std::string_view name);
    void remember_absence(InodeNumber inode, std::string_view name, std::uint64_t asked_at);
    Task<Result<Xattr>> ask_for_xattr(Operation& operation, InodeNumber inode, std::string name, std::size_t room);
    Task<Result<Xattr>> ask_for_xattr_names(Operation& operation, InodeNumber inode, std::size_t room);
    void remember_of_root(std::string_view name, Status status, const wire::XattrReply& reply, std::string_view value);
    std::optional<Result<Xattr>> last_of_root(InodeNumber inode, std::string_view name) const;

    client::Session& session_;
    transport::Reactor& reactor_;
    FileSystemSettings settings_;
    FrontCache* front_ = nullptr;
    FrontNames* front_names_ = nullptr;
    std::uint64_t export_device_;
    std::uint64_t machine_start_ = 0;  // of the server's machine; 0: not known
    InodeMap inodes_;
    HandleTable<FileHandle> files_;
    HandleTable<FileHandle> released_;  // closed, and needed until what was written through them is answered
    HandleTable<DirectoryHandle> directories_;
    std::unordered_map<InodeNumber, std::vector<HandleNumber>> lent_directories_;  // the handles that are lent
    std::optional<transport::TimerId> lent_names_timer_;
    FileContents contents_;
    client::ResidentMemory resident_memory_;
    LeasedNames names_;
    ChangesBehind behind_;
    ExclusiveLeases exclusive_;
    LentInodes lent_;
    ShownTimes shown_times_;
    FetchedFiles fetched_;
    struct LateOpen {
        TimePoint due{};
        Caller caller;
        HandleNumber handle{};
    };
    std::deque<LateOpen> late_opens_;  // in the order of their time
    // Directories in which nothing is changed any more, whose times are not known.
    struct Quiet {
        TimePoint due{};
        InodeNumber directory = 0;
    };
    std::deque<Quiet> quiet_;  // in the order of their time
    // The latest change waits a moment if that may make it less to ask for; it goes before whatever is changed next. At
    // most one does. Of attributes: programs that unpack set the owner, the mode and the times one after the other.
    struct HeldSetting {
        InodeNumber inode = 0;
        wire::Setattr message;
        bool look_first = false;
        std::uint64_t asked_at = 0;
        ChangesBehind::UnderWay under_way;
    };
    std::optional<HeldSetting> held_setting_;
    // Of a file that is known to the server by its name alone: whoever is told of the removal forgets the file at once,
    // unless somebody holds it, who may ask about it later.
    struct HeldRemoval {
        InodeNumber inode = 0;
        InodeNumber parent = 0;
        wire::Unlink message;
        std::uint64_t asked_at = 0;
        ChangesBehind::UnderWay under_way;
    };
    std::optional<HeldRemoval> held_removal_;
    std::optional<transport::TimerId> held_timer_;
    std::optional<transport::TimerId> quiet_timer_;
    std::optional<transport::TimerId> late_timer_;
    std::optional<transport::TimerId> unsynced_timer_;
    std::optional<std::uint32_t> names_user_;  // for whom they are kept, if not for everybody
    XattrMemory xattr_memory_;
    SecondAttempts second_attempts_;
    // What had been carried out of the changes that were under way when the server was lost. (Here until it is lost
    // again.)
    struct FoundAgain {
        std::uint64_t last_change = 0;  // of those that nobody waits for
        std::map<NamePlace, InodeNumber> names;
        // Of those that somebody waits for.
        std::set<std::uint64_t> carried_out;
        std::set<std::uint64_t> not_carried_out;
        std::unordered_map<InodeNumber, wire::Attributes> attributes;  // of what the names stand for
    };
    std::optional<FoundAgain> found_again_;
    std::size_t lost_files_ = 0;
    bool unsent_taken_ = false;
    FreshLookUps fresh_look_ups_;
    HeldLocks held_locks_;
    LinkedNames linked_names_;
    std::unordered_map<InodeNumber, unsigned> locked_releases_;  // under way
    client::Waiters locked_release_answered_;
    Statistics statistics_;
    KeptHandles kept_handles_;
    // What the server said last of the root's ACLs, and without a name of the list of its attributes.
    struct KnownXattr {
        Status status = Status::ok;
        std::string value;
    };
    std::map<std::string, KnownXattr, std::less<>> root_xattrs_;
};

template <class Message>
Task<Result<client::Reply<Message>>> FileSystem::call(Operation& operation, Message message) {
    auto credential = co_await credential_of(operation);
    if (!credential)
        co_return Result<client::Reply<Message>>(credential.error());
    const client::CallOptions options{
        .credential = *credential, .set_id = operation.set_id, .change = operation.change};
    auto reply = co_await session_.call(std::move(message), options, &operation.cancellation);
    if (reply.status() == Status::no_session && operation.change != 0)
        reply = Result<client::Reply<Message>>(in_doubt);
    co_return std::move(reply);
}

template <class Message>
Task<Result<client::Reply<Message>>> FileSystem::change(Operation& operation, Message message) {
    auto credential = co_await credential_of(operation);
    if (!credential)
        co_return Result<client::Reply<Message>>(credential.error());
    const client::CallOptions options{
        .lane = client::LaneKind::data, .credential = *credential, .set_id = operation.set_id};
    co_return co_await session_.call(std::move(message), options, &operation.cancellation);
}

template <class Message>
Task<Result<client::Reply<Message>>> FileSystem::call_with_bulk(Operation& operation, Message message, Buffer bulk,
                                                                client::LaneKind lane) {
    auto credential = co_await credential_of(operation);
    if (!credential)
        co_return Result<client::Reply<Message>>(credential.error());
    const client::CallOptions options{.lane = lane, .credential = *credential, .set_id = operation.set_id};
    co_return co_await session_.call_with_bulk(std::move(message), std::move(bulk), options, &operation.cancellation);
}

}  // namespace remofile::filesystem
