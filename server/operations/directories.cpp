// SPDX-License-Identifier: MIT
// OPENDIR to FSYNCDIR: open directories.
#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "server/files/xattr_names.hpp"
#include "server/leases/exact_names.hpp"
#include "server/operations/operation.hpp"
#include "wire/frame.hpp"

namespace remofile::server::operations {
namespace {

using wire::Empty;

// Bytes of entries read from the kernel at once: some hundred entries.
constexpr std::size_t kernel_chunk_bytes = 32U << 10;

// An entry may be replaced between two looks at it; more often than this is no accident.
constexpr int max_looks = 4;

constexpr int open_flags = O_RDONLY | O_DIRECTORY;

// What getdents64(2) fills in, less the name that follows.
struct KernelEntryHead {
    std::uint64_t inode;
    std::int64_t next_offset;
    std::uint16_t record_bytes;
    std::uint8_t type;
};
constexpr std::size_t kernel_name_offset = 19;

// Appends the entries that the kernel lists next; false at the end of the directory.
Result<bool> read_more(OpenDirectory& directory, const Descriptor& descriptor) {
    // Another descriptor than the last time begins at the first entry.
    if (directory.positioned.lock() != descriptor) {
        if (lseek(descriptor->get(), directory.position, SEEK_SET) < 0)
            return errno_error();
        directory.positioned = descriptor;
    }
    std::array<std::byte, kernel_chunk_bytes> chunk;
    const long size = syscall(SYS_getdents64, descriptor->get(), chunk.data(), chunk.size());
    // A directory that has been removed has no entries.
    if (size < 0 && errno == ENOENT)
        return false;
    if (size < 0)
        return errno_error();
    for (std::size_t at = 0; at < static_cast<std::size_t>(size);) {
        KernelEntryHead head{};
        std::memcpy(&head, chunk.data() + at, kernel_name_offset);
        const auto* name = reinterpret_cast<const char*>(chunk.data() + at + kernel_name_offset);
        std::string text(name, strnlen(name, head.record_bytes - kernel_name_offset));
        if (!EntryName::is_reserved(text))
            directory.unsent.push_back(
                {static_cast<std::uint64_t>(head.next_offset), head.inode, head.type, std::move(text)});
        directory.position = head.next_offset;
        at += head.record_bytes;
    }
    return size > 0;
}

// Makes the entries after `cookie` the next ones to send.
Result<> go_to(OpenDirectory& directory, std::uint64_t cookie) {
    // From the start anew, the directory is read anew: that is what rewinddir(3) is for.
    if (cookie == directory.unsent_cookie && cookie != 0)
        return {};
    directory.unsent.clear();
    directory.unsent_cookie = cookie;
    if (cookie > INT64_MAX)
        return Status::invalid;
    directory.position = static_cast<off_t>(cookie);
    directory.positioned.reset();
    return {};
}

std::size_t encoded_bytes(std::string_view name) {
    static const std::size_t fixed = wire::encode_body(wire::DirectoryEntry{}).size();
    return fixed + name.size();
}

// What a client asks for at once.
struct Portion {
    std::uint32_t bytes = 0;
    std::size_t entries = 0;
};

// Takes the entries that fit off those to send; `end` says that there are no more.
Result<std::vector<OpenDirectory::Entry>> take_entries(OpenDirectory& directory, const Descriptor& descriptor,
                                                       const Portion& portion, bool& end) {
    std::vector<OpenDirectory::Entry> taken;
    std::size_t bytes = 0;
    std::size_t used = 0;
    bool full = false;
    while (!full) {
        if (used == directory.unsent.size()) {
            directory.unsent.clear();
            used = 0;
            const auto more = read_more(directory, descriptor);
            if (!more && taken.empty())
                return more.error();
            end = more && !*more;
            if (!more || end)
                break;
        }
        auto& entry = directory.unsent[used];
        bytes += encoded_bytes(entry.name);
        full = bytes > portion.bytes || taken.size() == portion.entries;
        if (!full) {
            directory.unsent_cookie = entry.cookie;
            taken.push_back(std::move(entry));
            ++used;
        }
    }
    directory.unsent.erase(directory.unsent.begin(), directory.unsent.begin() + static_cast<std::ptrdiff_t>(used));
    if (taken.empty() && !end)
        return Status::invalid;  // not even one fits, as getdents64(2) has it
    return taken;
}

// An entry that has attributes to be filled in.
struct Looked {
    wire::DirectoryEntry* entry;
    EntryName name;
    bool may_keep;  // the session has a lease of the directory
};

// All but "." and "..", which are no names to look up.
std::vector<Looked> names_of(const Context& context, const Context::Held& directory,
                             std::vector<wire::DirectoryEntry>& listed) {
    std::vector<Looked> names;
    names.reserve(listed.size());
    for (wire::DirectoryEntry& entry : listed) {
        if (auto name = EntryName::check(entry.name)) {
            const bool may_keep = context.asks(directory.inode, *name);
            names.push_back({&entry, std::move(*name), may_keep});
        }
    }
    return names;
}

// Fills in the attributes as the caller sees them, not stamped. Those of what has gone, or may not be looked at, become
// empty and are left out.
// Likewise directories that another has an exclusive lease of, whose attributes are asked for by name, and waited for.
Result<> look_at(Context& context, const Context::Held& directory, std::vector<Looked>& names) {
    const std::uint64_t shares = context.leases == nullptr ? 0 : context.leases->shares();
    {
        REMOFILE_TRY(acting, context.act());
        for (const Looked& looked : names) {
            const auto attributes = stat_entry(directory.fd(), looked.name);
            looked.entry->entry.attributes = attributes ? *attributes : wire::Attributes{};
        }
    }
    for (const Looked& looked : names) {
        if (context.is_anothers(looked.entry->entry.attributes, shares))
            looked.entry->entry.attributes = {};
    }
    std::erase_if(names, [](const Looked& looked) { return looked.entry->entry.attributes.mode == 0; });
    for (const Looked& looked : names) {
        looked.entry->inode = looked.entry->entry.attributes.identity.inode;
        looked.entry->type = IFTODT(looked.entry->entry.attributes.mode);
    }
    return {};
}

// Each entry gets a node, as by LOOKUP.
Result<> fill_with_nodes(Context& context, const Context::Held& directory, const wire::Readdir& request,
                         std::vector<wire::DirectoryEntry>& listed) {
    std::vector<Looked> names = names_of(context, directory, listed);
    std::vector<InodePtr> inodes;
    std::vector<wire::DirectoryEntry*> entries;
    for (int look = 1; !names.empty(); ++look) {
        REMOFILE_CHECK(look_at(context, directory, names));
        std::erase_if(names, [&](const Looked& looked) {
            bool is_news = false;
            InodePtr inode =
                context.inodes.intern(looked.entry->entry.attributes, directory.inode, looked.name, &is_news);
            const bool was_told = context.asks(inode);
            if (look < max_looks && (was_told || (is_news && looked.may_keep)))
                return false;
            inodes.push_back(std::move(inode));
            entries.push_back(looked.entry);
            return true;
        });
    }
    REMOFILE_TRY(ids, context.files->bind_all(request.first_node, request.max_entries, inodes));
    for (std::size_t i = 0; i < ids.size(); ++i)
        entries[i]->entry.node = ids[i];
    return {};
}

// Attributes alone: what nobody knows is not made known by being listed.
Result<> fill_alone(Context& context, const Context::Held& directory, std::vector<wire::DirectoryEntry>& listed) {
    std::vector<Looked> names = names_of(context, directory, listed);
    for (int look = 1; look <= max_looks && !names.empty(); ++look) {
        REMOFILE_CHECK(look_at(context, directory, names));
        std::erase_if(names, [&](const Looked& looked) {
            return context.settle(looked.entry->entry.attributes, directory.inode, looked.name);
        });
    }
    // Replaced by another known file at each look: the client asks for it by its name.
    for (const Looked& looked : names)
        looked.entry->entry.attributes = {};
    return {};
}

std::vector<wire::DirectoryEntry> plain_listing(const Context& context, const InodePtr& directory,
                                                std::vector<OpenDirectory::Entry> entries) {
    std::vector<wire::DirectoryEntry> listed(entries.size());
    for (std::size_t i = 0; i < entries.size(); ++i) {
        // The number of what lies above the export is nobody's business.
        const bool above = entries[i].name == ".." && directory == context.inodes.root();
        listed[i].cookie = entries[i].cookie;
        listed[i].inode = above ? directory->identity().inode : entries[i].inode;
        listed[i].type = entries[i].type;
        listed[i].name = std::move(entries[i].name);
    }
    return listed;
}

void reply_with(Context& context, const std::vector<wire::DirectoryEntry>& listed) {
    std::vector<std::byte> encoded;
    wire::Encoder encoder(encoded);
    for (const wire::DirectoryEntry& entry : listed)
        encoder.put(entry);
    context.reply_with(Buffer::copy_of(std::span<const std::byte>(encoded)));
}

// As the caller. Of any other directory that was removed, being empty is what there is to say. The root is what
// everybody works in, and to see nothing there would be taken for loss.
Result<UniqueFd> open_directory(Context& context, const Context::Held& node) {
    REMOFILE_TRY(acting, context.act());
    auto opened = context.inodes.with_room([&] { return open_for_io(node.fd(), S_IFDIR, open_flags); });
    if (opened && node.inode == context.inodes.root() && is_removed(opened->get()))
        return Status::stale;
    return opened;
}

Result<wire::Attributes> attributes_of(const Context& context, const Context::Held& directory) {
    context.asks(directory.inode);
    REMOFILE_TRY(attributes, stat_descriptor(directory.fd()));
    directory.inode->stamp(attributes);
    return attributes;
}

// The directory that LIST names, found as LOOKUP does.
Result<Context::Held> find_directory(Context& context, const wire::List& request) {
    REMOFILE_TRY(parent, context.hold_directory(request.node));
    if (request.name.empty())
        return parent;
    REMOFILE_TRY(name, EntryName::check(request.name));
    REMOFILE_TRY(found, context.find_entry(parent, name));
    if (!found.inode->is_directory())
        return Status::not_directory;
    REMOFILE_TRY(descriptor, context.inodes.descriptor(found.inode));
    return Context::Held{found.inode, std::move(descriptor)};
}

bool directory_has_no_xattrs(const Context::Held& directory) {
    return has_no_xattrs((std::string(DescriptorPath(directory.fd()).c_str()) + "/.").c_str());
}

// What a lease covers besides names and attributes, in an answer that is of at most `size` bytes without. By the
// server itself, not as the caller: trusted.* count too.
void add_details(const Context::Held& directory, std::uint32_t size, std::vector<wire::DirectoryEntry>& listed) {
    const std::string path = DescriptorPath(directory.fd()).c_str();
    std::size_t bytes = 0;
    for (const wire::DirectoryEntry& entry : listed)
        bytes += encoded_bytes(entry.name);
    std::size_t room = std::min<std::size_t>(size, wire::max_bulk_bytes - bytes);  // for symlinks' targets
    for (wire::DirectoryEntry& entry : listed) {
        // The lease covers none of those of directories in it.
        if (entry.entry.attributes.mode == 0 || S_ISDIR(entry.entry.attributes.mode))
            continue;
        const auto name = EntryName::check(entry.name);
        entry.no_xattrs =
            name && has_no_xattrs((path + '/' + entry.name).c_str()) && !may_be_fixed(directory.fd(), *name);
        if (!S_ISLNK(entry.entry.attributes.mode))
            continue;
        auto target = name ? read_symlink_entry(directory.fd(), *name) : Result<std::string>(name.error());
        if (!target || target->size() > room)
            continue;
        room -= target->size();
        entry.target = std::move(*target);
    }
}

// Attributes and entries of a directory that has been found, opened and, if that was asked for, leased.
Result<> read_listing(Context& context, std::uint32_t size, const Context::Held& held, OpenDirectory& directory,
                      wire::ListReply& reply) {
    REMOFILE_TRY(attributes, attributes_of(context, held));
    reply.entry.attributes = attributes;
    REMOFILE_TRY(entries, take_entries(directory, held.descriptor, {size, UINT16_MAX}, reply.end));
    std::vector<wire::DirectoryEntry> listed = plain_listing(context, held.inode, std::move(entries));
    REMOFILE_CHECK(fill_alone(context, held, listed));
    if (reply.leased) {
        reply.no_xattrs = directory_has_no_xattrs(held);
        add_details(held, size, listed);
    }
    reply.count = static_cast<std::uint16_t>(listed.size());
    reply_with(context, listed);
    return {};
}

// What a handle has open, for READDIR to go on after the first entries.
Result<> keep_open(Context& context, OpenDirectory& directory, const Descriptor& descriptor) {
    auto copy = context.inodes.with_room([&]() -> Result<UniqueFd> {
        UniqueFd opened(fcntl(descriptor->get(), F_DUPFD_CLOEXEC, 0));
        if (!opened)
            return errno_error();
        return opened;
    });
    if (!copy)
        return copy.error();
    directory.open =
        OpenDescription::make(context.inodes, directory.inode, std::move(*copy), open_flags, context.files->share());
    REMOFILE_TRY(held, directory.open->hold());
    directory.open->set_midway(true);
    return {};
}

}  // namespace

Result<wire::AttributesReply> opendir(Context& context, const wire::Opendir& request) {
    REMOFILE_TRY(node, context.hold_directory(request.node));
    REMOFILE_TRY(reservation, context.files->reserve(request.handle));
    REMOFILE_CHECK(context.inodes.budget().make_room_for_directory());
    REMOFILE_TRY(opened, open_directory(context, node));
    context.asks(node.inode);
    REMOFILE_TRY(attributes, stat_descriptor(opened.get()));
    node.inode->stamp(attributes);
    auto directory = std::make_shared<OpenDirectory>();
    directory->inode = node.inode;
    directory->open =
        OpenDescription::make(context.inodes, node.inode, std::move(opened), open_flags, context.files->share());
    REMOFILE_CHECK(reservation.commit(std::move(directory)));
    return wire::AttributesReply{attributes};
}

Result<wire::ReaddirReply> readdir(Context& context, const wire::Readdir& request) {
    REMOFILE_TRY(directory, context.files->directory(request.handle));
    if (request.size > wire::max_bulk_bytes || request.max_entries == 0 ||
        request.attributes > wire::ListedAttributes::leased)
        return Status::invalid;
    REMOFILE_TRY(descriptor, directory->open->hold());
    std::vector<OpenDirectory::Entry> entries;
    wire::ReaddirReply reply;
    {
        const std::lock_guard guard(directory->reading);
        REMOFILE_CHECK(go_to(*directory, request.cookie));
        REMOFILE_TRY(taken, take_entries(*directory, descriptor, {request.size, request.max_entries}, reply.end));
        entries = std::move(taken);
        directory->open->set_midway(!reply.end);
    }
    std::vector<wire::DirectoryEntry> listed = plain_listing(context, directory->inode, std::move(entries));
    if (request.attributes == wire::ListedAttributes::with_nodes)
        REMOFILE_CHECK(fill_with_nodes(context, {directory->inode, descriptor}, request, listed));
    else if (request.attributes != wire::ListedAttributes::none)
        REMOFILE_CHECK(fill_alone(context, {directory->inode, descriptor}, listed));
    if (request.attributes == wire::ListedAttributes::leased)
        add_details({directory->inode, descriptor}, request.size, listed);
    reply.count = static_cast<std::uint16_t>(listed.size());
    reply_with(context, listed);
    return reply;
}

Result<wire::ListReply> list(Context& context, const wire::List& request) {
    if (request.size > wire::max_bulk_bytes)
        return Status::invalid;
    std::optional<SessionFiles::Reservation> reservation;
    if (request.handle) {
        REMOFILE_TRY(reserved, context.files->reserve(request.handle));
        reservation.emplace(std::move(reserved));
        REMOFILE_CHECK(context.inodes.budget().make_room_for_directory());
    }
    REMOFILE_TRY(node, find_directory(context, request));
    REMOFILE_TRY(opened, open_directory(context, node));
    const Context::Held held{node.inode, std::make_shared<const UniqueFd>(std::move(opened))};
    const auto directory = std::make_shared<OpenDirectory>();
    directory->inode = node.inode;
    wire::ListReply reply{.entry = {request.node, {}}};
    if (!request.name.empty()) {
        REMOFILE_TRY(id, context.files->bind(request.new_node, node.inode));
        reply.entry.node = id;
    }
    if (request.lease && has_exact_names(held.fd())) {
        const auto trust_ms = context.lease(held, reply.entry.node);
        reply.leased = trust_ms.has_value();
        reply.trust_ms = trust_ms.value_or(0);
    }
    auto done = read_listing(context, request.size, held, *directory, reply);
    const bool goes_on = done && !reply.end && reservation;
    if (goes_on)
        done = keep_open(context, *directory, held.descriptor);
    if (!done) {
        // A lease of a node that lives on stays, which does no harm: the client does not know of it, or had it before.
        if (!request.name.empty())
            context.forget(std::array{wire::ForgetNode{reply.entry.node, 1}});
        return done.error();
    }
    if (goes_on)
        REMOFILE_CHECK(reservation->commit(directory));
    return reply;
}

Result<Empty> releasedir(Context& context, const wire::Releasedir& request) {
    REMOFILE_CHECK(context.files->take_directory(request.handle));
    return Empty{};
}

Result<Empty> fsyncdir(Context& context, const wire::Fsyncdir& request) {
    REMOFILE_TRY(directory, context.files->directory(request.handle));
    REMOFILE_TRY(descriptor, directory->open->hold());
    const int fd = descriptor->get();
    if ((request.data_only ? ::fdatasync(fd) : ::fsync(fd)) != 0)
        return errno_error();
    return Empty{};
}

}  // namespace remofile::server::operations
