// SPDX-License-Identifier: MIT
// The file system on a fake server that keeps a tree of files: what is asked of it is carried out, unless the test
// holds the answer back or gives one of its own, and the test may change the tree behind the client's back.
#pragma once

#include <dirent.h>
#include <sys/stat.h>

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "client/fake_server.hpp"
#include "filesystem/file_system.hpp"
#include "wire/codec.hpp"

namespace remofile::filesystem {

using client::FakeReply;
using client::FakeRequest;
using transport::FakeClock;
using wire::Opcode;

// The server's side. One session; its nodes and handles are counted as a server counts them.
class FakeExport {
public:
    struct File {
        std::uint64_t number = 0;
        std::uint32_t mode = S_IFREG | 0644U;
        std::string content;  // or target
        std::map<std::string, std::uint64_t> names;
        std::uint32_t links = 1;
        std::uint64_t version = 0;
        wire::Timestamp modification;
        wire::Timestamp change;
        std::map<std::string, std::string> xattrs;
        bool kept = false;  // for FIND_KEPT
    };

    FakeExport() {
        File& root = files_[1];
        root.number = 1;
        root.mode = S_IFDIR | 0755U;
        touch(root);
        nodes_[NodeId{1}] = 1;
    }

    // ---- for the test, as a program on the server

    File& make(const std::string& name, std::string content = {}, std::uint64_t parent = 1) {
        File& file = add(parent, name, S_IFREG | 0644U);
        file.content = std::move(content);
        return file;
    }
    File& make_directory(const std::string& name, std::uint64_t parent = 1) {
        return add(parent, name, S_IFDIR | 0755U);
    }
    File& file(std::uint64_t number) { return files_.at(number); }
    File& file(const std::string& name, std::uint64_t parent = 1) {
        return files_.at(files_.at(parent).names.at(name));
    }
    void write(File& file, std::string content) {
        file.content = std::move(content);
        touch(file);
    }
    // A new version, an even number: the lowest bit tells of one that is fresh.
    void touch(File& file) {
        file.version = next_version_ += 2;
        ++now.nanoseconds;
        file.modification = file.change = now;
    }
    bool fresh = false;  // versions told are fresh ones

    wire::Attributes attributes(const File& file) const {
        wire::Attributes attributes;
        attributes.identity = {.device = 7, .inode = file.number};
        attributes.mode = file.mode;
        attributes.links = file.links;
        attributes.size = file.content.size();
        attributes.block_size = 4096;
        attributes.modification = file.modification;
        attributes.change = file.change;
        attributes.version = file.version | (fresh ? wire::version_is_fresh : 0);
        return attributes;
    }

    // The session is another one: its nodes and handles mean nothing any more.
    void new_session() {
        nodes_ = {{NodeId{1}, 1}};
        handles_.clear();
        held_nodes.clear();
        open_handles.clear();
    }

    // How often replies have named each node, less what FORGET gave back.
    std::map<std::uint64_t, std::uint64_t> held_nodes;
    std::set<HandleId> open_handles;
    std::uint16_t piece_entries = 1024;   // READDIR and LIST answer with no more than that
    bool reads_on_under_leases = true;    // READDIR knows ListedAttributes::leased
    std::uint32_t trust_ms = UINT32_MAX;  // of leases
    bool gives_exclusive_leases = true;
    std::set<std::uint64_t> locked_by_others;  // since a session was lost
    bool lends = true;
    // The clock from which files take their times.
    wire::Timestamp now{.seconds = 2'000'000'000};

    // ---- what the server answers

    // Ids of before have no meaning after new_session().
    FakeReply answer(const FakeRequest& request) {
        if (request.header.opcode == Opcode::forget)
            return forget(request.as<wire::Forget>());
        try {
            return carry_out(request);
        } catch (const std::out_of_range&) {
            return {.status = Status::stale};
        }
    }
    FakeReply make_directory_for(const wire::Mkdir& asked) { return make_entry(asked, S_IFDIR | asked.mode); }

private:
    FakeReply carry_out(const FakeRequest& request) {
        switch (request.header.opcode) {
            case Opcode::lookup:
                return lookup(request.as<wire::Lookup>());
            case Opcode::find_kept:
                return find_kept(request.as<wire::FindKept>());
            case Opcode::getattr:
                return attributes_of(request.as<wire::Getattr>().node);
            case Opcode::setattr:
                return setattr(request.as<wire::Setattr>());
            case Opcode::readlink:
                return FakeReply::of(wire::ReadlinkReply{at(request.as<wire::Readlink>().node).content});
            case Opcode::mknod:
                return make_entry(request.as<wire::Mknod>(), request.as<wire::Mknod>().mode);
            case Opcode::mkdir:
                return make_entry(request.as<wire::Mkdir>(), S_IFDIR | request.as<wire::Mkdir>().mode);
            case Opcode::symlink:
                return make_symlink(request.as<wire::Symlink>());
            case Opcode::link:
                return link(request.as<wire::Link>());
            case Opcode::unlink:
                return remove(request.as<wire::Unlink>());
            case Opcode::rmdir:
                return remove(request.as<wire::Rmdir>());
            case Opcode::rename:
                return rename(request.as<wire::Rename>());
            case Opcode::statfs:
                return FakeReply::of(wire::StatfsReply{.block_size = 4096, .blocks = 100});
            case Opcode::open:
                return open(request.as<wire::Open>());
            case Opcode::create:
                return create(request.as<wire::Create>());
            case Opcode::read:
                return read(request.as<wire::Read>());
            case Opcode::write:
                return write(request.as<wire::Write>(), request.bulk);
            case Opcode::fallocate:
                return make_hole(request.as<wire::Fallocate>());
            case Opcode::release:
                return close(request.as<wire::Release>().handle);
            case Opcode::opendir:
                return opendir(request.as<wire::Opendir>());
            case Opcode::readdir:
                return readdir(request.as<wire::Readdir>());
            case Opcode::fetch:
                return fetch(request.as<wire::Fetch>());
            case Opcode::list:
                return list(request.as<wire::List>());
            case Opcode::releasedir:
                return close(request.as<wire::Releasedir>().handle);
            case Opcode::getxattr:
                return getxattr(request.as<wire::Getxattr>());
            case Opcode::take_leases:
                return take_leases(request.as<wire::TakeLeases>());
            case Opcode::lend_inodes:
                return lend(request.as<wire::LendInodes>());
            case Opcode::make_lent:
                return make_lent(request.as<wire::MakeLent>());
            case Opcode::reclaim_locks:
                return reclaim_locks(request.as<wire::ReclaimLocks>());
            case Opcode::listxattr:
                return listxattr(request.as<wire::Listxattr>());
            case Opcode::setxattr: {
                const auto asked = request.as<wire::Setxattr>();
                at(asked.node).xattrs[asked.name] = request.bulk;
                return {};
            }
            default:  // FLUSH, FSYNC, locks and the like succeed
                return {};
        }
    }

    File& add(std::uint64_t parent, const std::string& name, std::uint32_t mode) {
        const std::uint64_t number = next_number_++;
        files_.at(parent).names[name] = number;
        File& file = files_[number];
        file.number = number;
        file.mode = mode;
        touch(file);
        return file;
    }
    File& at(NodeId node) { return files_.at(nodes_.at(node)); }
    File& at(HandleId handle) { return files_.at(handles_.at(handle)); }

    NodeId name(const wire::NewNode& wanted, const File& file) {
        NodeId node = wanted.id;
        if (wanted.reuse)
            for (const auto& [known, number] : nodes_)
                if (number == file.number)
                    node = known;
        nodes_[node] = file.number;
        ++held_nodes[node.value];
        return node;
    }
    wire::EntryReply entry(const wire::NewNode& wanted, const File& file) {
        return {name(wanted, file), attributes(file)};
    }
    File* find(NodeId parent, const std::string& name) {
        const auto& names = at(parent).names;
        const auto found = names.find(name);
        return found == names.end() ? nullptr : &files_.at(found->second);
    }

    FakeReply lookup(const wire::Lookup& asked) {
        const File* file = find(asked.parent, asked.name);
        return file == nullptr ? FakeReply{.status = Status::no_entry} : FakeReply::of(entry(asked.node, *file));
    }
    FakeReply find_kept(const wire::FindKept& asked) {
        const auto found = files_.find(asked.identity.inode);
        const bool is_it =
            found != files_.end() && found->second.kept && attributes(found->second).identity == asked.identity;
        return is_it ? FakeReply::of(entry(asked.node, found->second)) : FakeReply{.status = Status::no_entry};
    }
    FakeReply forget(const wire::Forget& asked) {
        for (const wire::ForgetNode& forgotten : asked.nodes) {
            auto& held = held_nodes.at(forgotten.node.value);
            REQUIRE(held >= forgotten.count);
            held -= forgotten.count;
            if (held == 0) {
                held_nodes.erase(forgotten.node.value);
                nodes_.erase(forgotten.node);
            }
        }
        return {};
    }
    FakeReply reclaim_locks(const wire::ReclaimLocks& asked) {
        wire::ReclaimLocksReply reply;
        for (std::uint32_t i = 0; i < asked.locks.size(); ++i) {
            if (locked_by_others.contains(at(asked.locks[i].handle).number))
                reply.lost.push_back(i);
        }
        return FakeReply::of(reply);
    }
    FakeReply attributes_of(NodeId node) { return FakeReply::of(wire::AttributesReply{attributes(at(node))}); }
    FakeReply setattr(const wire::Setattr& asked) {
        File& file = at(asked.node);
        if ((asked.which & wire::set_size) != 0)
            file.content.resize(asked.size);
        if ((asked.which & wire::set_mode) != 0)
            file.mode = (file.mode & S_IFMT) | asked.mode;
        const wire::Timestamp before = file.modification;
        touch(file);
        if ((asked.which & wire::set_size) == 0)
            file.modification = (asked.which & wire::set_modification) != 0 ? asked.modification : before;
        return attributes_of(asked.node);
    }
    template <class Message>
    FakeReply make_entry(const Message& asked, std::uint32_t mode) {
        if (find(asked.parent, asked.name) != nullptr)
            return {.status = Status::exists};
        return FakeReply::of(entry(asked.node, add(nodes_.at(asked.parent), asked.name, mode)));
    }
    FakeReply make_symlink(const wire::Symlink& asked) {
        File& link = add(nodes_.at(asked.parent), asked.name, S_IFLNK | 0777U);
        link.content = asked.target;
        return FakeReply::of(entry(asked.node, link));
    }
    FakeReply link(const wire::Link& asked) {
        File& file = at(asked.node);
        at(asked.new_parent).names[asked.new_name] = file.number;
        ++file.links;
        touch(file);
        ++held_nodes[asked.node.value];
        return FakeReply::of(wire::EntryReply{asked.node, attributes(file)});
    }
    template <class Message>
    FakeReply remove(const Message& asked) {
        File* file = find(asked.parent, asked.name);
        if (file == nullptr)
            return {.status = Status::no_entry};
        at(asked.parent).names.erase(asked.name);
        if (file->links > 1)
            --file->links;
        return {};
    }
    FakeReply rename(const wire::Rename& asked) {
        auto& from = at(asked.parent).names;
        auto& to = at(asked.new_parent).names;
        if ((asked.flags & wire::rename_exchange) != 0) {
            std::swap(from.at(asked.name), to.at(asked.new_name));
            return {};
        }
        to[asked.new_name] = from.at(asked.name);
        from.erase(asked.name);
        return {};
    }
    FakeReply open(const wire::Open& asked) {
        File& file = at(asked.node);
        if ((asked.flags & wire::open_truncate) != 0)
            write(file, "");
        handles_[asked.handle] = file.number;
        open_handles.insert(asked.handle);
        return attributes_of(asked.node);
    }
    FakeReply create(const wire::Create& asked) {
        File* file = find(asked.parent, asked.name);
        const bool created = file == nullptr;
        if (created)
            file = &add(nodes_.at(asked.parent), asked.name, S_IFREG | asked.mode);
        else if ((asked.flags & wire::open_truncate) != 0)
            write(*file, "");
        handles_[asked.handle] = file->number;
        open_handles.insert(asked.handle);
        return FakeReply::of(wire::CreateReply{entry(asked.node, *file), created});
    }
    FakeReply read(const wire::Read& asked) {
        const std::string& content = at(asked.handle).content;
        return {.bulk = content.substr(std::min<std::size_t>(asked.offset, content.size()), asked.size)};
    }
    FakeReply write(const wire::Write& asked, const std::string& data) {
        File& file = at(asked.handle);
        const std::uint64_t before = file.version;
        const std::size_t offset = asked.append ? file.content.size() : asked.offset;
        file.content.resize(std::max(file.content.size(), offset + data.size()));
        file.content.replace(offset, data.size(), data);
        touch(file);
        return FakeReply::of(wire::WriteReply{.offset = offset,
                                              .size = static_cast<std::uint32_t>(data.size()),
                                              .attributes = attributes(file),
                                              .version_before = before});
    }
    // Whatever is asked for.
    FakeReply make_hole(const wire::Fallocate& asked) {
        File& file = at(asked.handle);
        for (std::uint64_t i = asked.offset;
             i < std::min<std::uint64_t>(asked.offset + asked.length, file.content.size()); ++i)
            file.content[i] = '\0';
        touch(file);
        return FakeReply::of(wire::AttributesReply{attributes(file)});
    }
    FakeReply close(HandleId handle) {
        open_handles.erase(handle);
        handles_.erase(handle);
        return {};
    }
    FakeReply opendir(const wire::Opendir& asked) {
        handles_[asked.handle] = nodes_.at(asked.node);
        open_handles.insert(asked.handle);
        return attributes_of(asked.node);
    }
    // The cookies are far from small and in a row, as those of real file systems are.
    FakeReply readdir(const wire::Readdir& asked) {
        if (asked.attributes == wire::ListedAttributes::leased && !reads_on_under_leases)
            return {.status = Status::invalid};
        const File& directory = at(asked.handle);
        std::vector<std::pair<std::string, std::uint64_t>> all{{".", directory.number}, {"..", 1}};
        all.insert(all.end(), directory.names.begin(), directory.names.end());
        const std::size_t start = asked.cookie == 0 ? 0 : asked.cookie - first_cookie;
        const std::size_t count = std::min<std::size_t>({all.size() - start, piece_entries, asked.max_entries});
        std::vector<std::byte> bytes;
        wire::Encoder encoder(bytes);
        for (std::size_t i = start; i < start + count; ++i) {
            const File& file = files_.at(all[i].second);
            wire::DirectoryEntry listed{.cookie = first_cookie + i + 1,
                                        .inode = file.number,
                                        .type = static_cast<std::uint8_t>(IFTODT(file.mode)),
                                        .name = all[i].first};
            if (asked.attributes == wire::ListedAttributes::with_nodes && i >= 2)
                listed.entry = entry({NodeId{asked.first_node.value + i - start}, true}, file);
            if (asked.attributes == wire::ListedAttributes::leased && i >= 2)
                add_leased(file, listed);
            encoder.put(listed);
        }
        FakeReply reply =
            FakeReply::of(wire::ReaddirReply{static_cast<std::uint16_t>(count), start + count == all.size()});
        reply.bulk = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        return reply;
    }
    FakeReply lend(const wire::LendInodes& asked) {
        wire::LendInodesReply reply{.now = now};
        for (std::uint32_t i = 0; lends && i < asked.files + asked.directories; ++i) {
            const std::uint64_t number = next_number_++;
            File& file = files_[number];
            file.number = number;
            file.mode = i < asked.files ? S_IFREG | 0600U : S_IFDIR | 0700U;
            file.links = i < asked.files ? 1 : 2;
            touch(file);
            (i < asked.files ? reply.files : reply.directories).push_back({number, attributes(file)});
        }
        return FakeReply::of(reply);
    }
    FakeReply make_lent(const wire::MakeLent& asked) {
        if (find(asked.parent, asked.name) != nullptr)
            return {.status = Status::exists};
        File& file = files_.at(asked.lent);
        at(asked.parent).names[asked.name] = file.number;
        file.mode = (file.mode & S_IFMT) | (asked.mode & ~asked.umask);
        touch(file);
        file.modification = asked.time;
        if (asked.handle) {
            handles_[asked.handle] = file.number;
            open_handles.insert(asked.handle);
        }
        return FakeReply::of(entry(asked.node, file));
    }
    FakeReply take_leases(const wire::TakeLeases& asked) {
        wire::TakeLeasesReply reply{.leases = {}, .trust_ms = trust_ms};
        for (const NodeId node : asked.directories) {
            const bool is_known = nodes_.contains(node) && gives_exclusive_leases;
            reply.leases.push_back({.taken = is_known, .empty = is_known && at(node).names.empty()});
        }
        return FakeReply::of(reply);
    }
    FakeReply fetch(const wire::Fetch& asked) {
        const File* file = find(asked.parent, asked.name);
        if (file == nullptr)
            return {.status = Status::no_entry};
        const bool complete = S_ISREG(file->mode) && file->content.size() <= asked.size;
        FakeReply reply = FakeReply::of(wire::FetchReply{attributes(*file), complete});
        if (complete)
            reply.bulk = file->content;
        return reply;
    }
    FakeReply list(const wire::List& asked) {
        const File* found = asked.name.empty() ? &at(asked.node) : find(asked.node, asked.name);
        if (found == nullptr)
            return {.status = Status::no_entry};
        const File& directory = *found;
        if (!S_ISDIR(directory.mode))
            return {.status = Status::not_directory};
        wire::ListReply body{.leased = asked.lease, .trust_ms = trust_ms, .no_xattrs = directory.xattrs.empty()};
        body.entry =
            asked.name.empty() ? wire::EntryReply{asked.node, attributes(directory)} : entry(asked.new_node, directory);
        std::vector<std::byte> bytes;
        wire::Encoder encoder(bytes);
        for (const auto& [name, number] : directory.names) {
            if (body.count == piece_entries)
                break;
            const File& file = files_.at(number);
            wire::DirectoryEntry listed{.cookie = first_cookie + dots + ++body.count,
                                        .inode = number,
                                        .type = static_cast<std::uint8_t>(IFTODT(file.mode)),
                                        .name = name};
            add_leased(file, listed);
            encoder.put(listed);
        }
        body.end = body.count == directory.names.size();
        if (!body.end && asked.handle) {
            handles_[asked.handle] = directory.number;
            open_handles.insert(asked.handle);
        }
        FakeReply reply = FakeReply::of(body);
        reply.bulk = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        return reply;
    }
    void add_leased(const File& file, wire::DirectoryEntry& listed) const {
        listed.entry = {NodeId{}, attributes(file)};
        listed.no_xattrs = file.xattrs.empty();
        listed.target = S_ISLNK(file.mode) ? file.content : "";
    }
    FakeReply getxattr(const wire::Getxattr& asked) {
        const auto& xattrs = at(asked.node).xattrs;
        const auto found = xattrs.find(asked.name);
        if (found == xattrs.end())
            return {.status = Status::no_data};
        FakeReply reply = FakeReply::of(wire::XattrReply{static_cast<std::uint32_t>(found->second.size())});
        if (asked.size > 0)
            reply.bulk = found->second;
        return reply;
    }
    FakeReply listxattr(const wire::Listxattr& asked) {
        std::string names;
        for (const auto& [name, value] : at(asked.node).xattrs)
            names.append(name).push_back('\0');
        FakeReply reply = FakeReply::of(wire::XattrReply{static_cast<std::uint32_t>(names.size())});
        if (asked.size > 0)
            reply.bulk = names;
        return reply;
    }

    static constexpr std::uint64_t first_cookie = std::uint64_t{1} << 40U;
    static constexpr std::uint64_t dots = 2;  // come first

    std::map<std::uint64_t, File> files_;
    std::map<NodeId, std::uint64_t> nodes_;
    std::map<HandleId, std::uint64_t> handles_;
    std::uint64_t next_number_ = 100;
    std::uint64_t next_version_ = 1000;
};

// Keeps what it is told to drop, and drops it at once unless `slow`.
class FakeFront : public FrontCache, public FrontNames {
public:
    void drop_attributes(InodeNumber inode) override { dropped_attributes.push_back(inode); }
    void drop_name(InodeNumber, const std::string& name, InodeNumber) override { dropped_names.push_back(name); }
    void drop_listing(InodeNumber directory) override { dropped_listings.push_back(directory); }
    void when_names_dropped(std::function<void()> done) override {
        if (keeps_names)
            names_kept_.push_back(std::move(done));
        else
            done();
    }
    void let_go_of_names() {
        keeps_names = false;
        for (const auto& done : std::exchange(names_kept_, {}))
            done();
    }
    void drop(InodeNumber inode, std::function<void()> done) override {
        dropped.push_back(inode);
        if (slow)
            waiting_.push_back(std::move(done));
        else if (done)
            done();
    }
    Task<Status> mappings_written(InodeNumber inode, client::Cancellation*) override {
        written_back.push_back(inode);
        co_return Status::ok;
    }
    Task<Status> current(InodeNumber, client::Cancellation* cancellation) override {
        if (waiting_.empty())
            co_return Status::ok;
        co_return co_await settled_.wait(cancellation);
    }
    void settle() {
        for (const auto& done : std::exchange(waiting_, {}))
            if (done)
                done();
        settled_.wake(Status::ok);
    }

    std::vector<InodeNumber> dropped;
    std::vector<InodeNumber> written_back;
    bool slow = false;
    std::vector<InodeNumber> dropped_attributes;
    std::vector<std::string> dropped_names;
    std::vector<InodeNumber> dropped_listings;
    bool keeps_names = false;  // until let_go_of_names()

private:
    std::vector<std::function<void()>> names_kept_;
    std::vector<std::function<void()>> waiting_;
    client::Waiters settled_;
};

// Takes as many names as it is told to.
class FakeSink : public ListingSink {
public:
    explicit FakeSink(std::size_t room) : room_(room) {}
    bool has_room_for(const std::string&) override { return entries.size() < room_; }
    void add(const ListedEntry& entry) override { entries.push_back(entry); }
    std::vector<std::string> names() const {
        std::vector<std::string> names;
        for (const ListedEntry& entry : entries)
            names.push_back(entry.name);
        return names;
    }
    std::vector<ListedEntry> entries;

private:
    std::size_t room_;
};

struct Fixture : client::SessionFixture {
    FakeClock clock;
    FakeExport server_files;
    FakeFront front;
    FileSystemSettings settings{.cache_bytes = 16U << 20, .facts_of = {}};
    std::optional<FileSystem> fs;
    // Answers to these are held back, until release().
    std::set<Opcode> held;
    // Answers in place of the tree's, while they say something.
    std::function<std::optional<FakeReply>(const FakeRequest&)> instead;

    enum class Leases : std::uint8_t { none, granted, exclusive };
    static constexpr std::chrono::milliseconds lease_term{10'000};

    explicit Fixture(Leases leases = Leases::none) {
        if (leases == Leases::exclusive)
            server.greeting.features |= wire::feature_exclusive_leases | wire::feature_lent_inodes;
        if (leases != Leases::none) {
            server.greeting.features |= wire::feature_leases;
            server.greeting.lease_term_ms = static_cast<std::uint32_t>(lease_term.count());
            options.leases = true;
            options.lease_clock = &clock;
        }
        server.greeting.root_attributes = server_files.attributes(server_files.file(1));
        server.on_request = [this](const FakeRequest& request) -> std::optional<FakeReply> {
            if (held.contains(request.header.opcode)) {
                waiting_.push_back(request);
                return std::nullopt;
            }
            return answer(request);
        };
        connect();
        make_file_system();
    }
    ~Fixture() {
        held.clear();
        release();
        front.settle();
        session->close();
    }

    // In place of the one before, with the settings as they are.
    void make_file_system() {
        fs.reset();
        fs.emplace(*session, reactor, clock, counters, settings);
        fs->set_front(static_cast<FrontCache*>(&front));
        fs->set_front(static_cast<FrontNames*>(&front));
    }
    FakeReply answer(const FakeRequest& request) {
        if (instead)
            if (auto reply = instead(request))
                return std::move(*reply);
        return server_files.answer(request);
    }
    // Answers what was held back, as things are now.
    void release() {
        held.clear();
        for (const FakeRequest& request : std::exchange(waiting_, {}))
            server.reply(request, answer(request));
    }
    // Carries out the first of what was held back; the answers are lost.
    void carry_out_held(std::size_t count) {
        REQUIRE(count <= waiting_.size());
        for (std::size_t i = 0; i < count; ++i)
            server_files.answer(waiting_[i]);
    }
    // The server is started again, and has forgotten the session.
    void lose_session() {
        const std::size_t greetings = server.greetings.size();
        begin_to_lose_session();
        REQUIRE(wait_for([&] { return server.greetings.size() > greetings && session->connected(); }));
    }
    // The same without waiting until it is taken up.
    void begin_to_lose_session() {
        server.knows_session = false;
        server_files.new_session();
        waiting_.clear();  // nobody waits for these answers any more
        const TimePoint lost_before = session->lost_at();
        server.stop();
        REQUIRE(wait_for([&] { return session->lost_at() != lost_before; }));
        server.start();
    }
    // The same once so many of those that are held back have been carried out; what is sent again is answered.
    void lose_session_after(std::size_t carried_out) {
        carry_out_held(carried_out);
        lose_session();
        release();
    }
    std::size_t held_back() const { return waiting_.size(); }
    bool await_held(std::size_t count) {
        return wait_for([&] { return held_back() == count; });
    }
    std::size_t asked(Opcode opcode) const { return server.of(opcode).size(); }

    // An operation under way, and its answer.
    template <class T>
    struct Asked {
        Operation operation;
        std::optional<T> answer;
        bool done() const { return answer.has_value(); }
    };
    template <class T, class... Parameters, class... Arguments>
    std::shared_ptr<Asked<T>> begin(Task<T> (FileSystem::*method)(Operation&, Parameters...),
                                    Arguments&&... arguments) {
        auto asked = std::make_shared<Asked<T>>();
        asked->operation = fs->begin(caller);
        spawn(keep<T>(asked, ((*fs).*method)(asked->operation, std::forward<Arguments>(arguments)...)));
        return asked;
    }
    template <class T, class... Parameters, class... Arguments>
    T ask(Task<T> (FileSystem::*method)(Operation&, Parameters...), Arguments&&... arguments) {
        return finish(begin(method, std::forward<Arguments>(arguments)...));
    }
    template <class T>
    T finish(const std::shared_ptr<Asked<T>>& asked) {
        REQUIRE(wait_for([&] { return asked->done(); }));
        return std::move(*asked->answer);
    }
    Caller caller{.uid = 1000, .gid = 1000, .umask = 022, .thread = 1};

    // What the thread does next belongs to another system call.
    Entry lookup(const std::string& name, InodeNumber parent = root_inode) {
        const auto entry = ask(&FileSystem::lookup, parent, name);
        REQUIRE(entry.has_value());
        clock.advance(std::chrono::milliseconds(2));
        return *entry;
    }

private:
    template <class T>
    static Task<void> keep(std::shared_ptr<Asked<T>> asked, Task<T> task) {
        asked->answer.emplace(co_await std::move(task));
    }

    std::deque<FakeRequest> waiting_;
};

}  // namespace remofile::filesystem
