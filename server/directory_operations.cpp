// SPDX-License-Identifier: MIT
// OPENDIR to FSYNCDIR: open directories.
#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "server/operation.hpp"
#include "wire/frame.hpp"

namespace remofile::server::operations {
namespace {

using wire::Empty;

// Bytes of entries read from the kernel at once: some hundred entries.
constexpr std::size_t kernel_chunk_bytes = 32U << 10;

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
        directory.unsent.push_back({static_cast<std::uint64_t>(head.next_offset), head.inode, head.type,
                                    std::string(name, strnlen(name, head.record_bytes - kernel_name_offset))});
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

std::size_t encoded_bytes(const OpenDirectory::Entry& entry) {
    static const std::size_t fixed = wire::encode_body(wire::DirectoryEntry{}).size();
    return fixed + entry.name.size();
}

// Takes the entries that fit off those to send; `end` says that there are no more.
Result<std::vector<OpenDirectory::Entry>> take_entries(OpenDirectory& directory, const Descriptor& descriptor,
                                                       const wire::Readdir& request, bool& end) {
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
        bytes += encoded_bytes(entry);
        full = bytes > request.size || taken.size() == request.max_entries;
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

// The attributes of the entries as the caller sees them, and their inodes; null for one that has gone or that the
// caller may not look at, and for "." and "..", which are no names to look up.
Result<std::vector<InodePtr>> look_at(Context& context, const Context::Held& directory,
                                      const std::vector<OpenDirectory::Entry>& entries,
                                      std::vector<wire::DirectoryEntry>& listed) {
    std::vector<std::optional<EntryName>> names;
    {
        REMOFILE_TRY(acting, context.act());
        for (std::size_t i = 0; i < entries.size(); ++i) {
            auto name = EntryName::check(entries[i].name);
            auto attributes = name ? stat_entry(directory.fd(), *name) : Status::no_entry;
            if (attributes) {
                listed[i].entry.attributes = *attributes;
                names.emplace_back(std::move(*name));
            } else {
                names.emplace_back();
            }
        }
    }
    std::vector<InodePtr> inodes(entries.size());
    for (std::size_t i = 0; i < entries.size(); ++i) {
        if (!names[i])
            continue;
        auto& attributes = listed[i].entry.attributes;
        inodes[i] = context.inodes.intern(attributes, directory.inode, *names[i]);
        listed[i].inode = attributes.identity.inode;
        listed[i].type = IFTODT(attributes.mode);
    }
    return inodes;
}

}  // namespace

Result<wire::AttributesReply> opendir(Context& context, const wire::Opendir& request) {
    REMOFILE_TRY(node, context.hold_directory(request.node));
    REMOFILE_TRY(reservation, context.files->reserve(request.handle));
    REMOFILE_CHECK(context.inodes.budget().make_room_for_directory());
    constexpr int flags = O_RDONLY | O_DIRECTORY;
    Result<UniqueFd> opened = Status::io_error;
    {
        REMOFILE_TRY(acting, context.act());
        opened = context.inodes.with_room([&] { return open_for_io(node.fd(), S_IFDIR, flags); });
    }
    if (!opened)
        return opened.error();
    REMOFILE_TRY(attributes, stat_descriptor(opened->get()));
    node.inode->stamp(attributes);
    auto directory = std::make_shared<OpenDirectory>();
    directory->inode = node.inode;
    directory->open =
        OpenDescription::make(context.inodes, node.inode, std::move(*opened), flags, context.files->share());
    REMOFILE_CHECK(reservation.commit(std::move(directory)));
    return wire::AttributesReply{attributes};
}

Result<wire::ReaddirReply> readdir(Context& context, const wire::Readdir& request) {
    REMOFILE_TRY(directory, context.files->directory(request.handle));
    if (request.size > wire::max_bulk_bytes || request.max_entries == 0)
        return Status::invalid;
    REMOFILE_TRY(descriptor, directory->open->hold());
    std::vector<OpenDirectory::Entry> entries;
    wire::ReaddirReply reply;
    {
        const std::lock_guard guard(directory->reading);
        REMOFILE_CHECK(go_to(*directory, request.cookie));
        REMOFILE_TRY(taken, take_entries(*directory, descriptor, request, reply.end));
        entries = std::move(taken);
        directory->open->set_midway(!reply.end);
    }
    std::vector<wire::DirectoryEntry> listed(entries.size());
    for (std::size_t i = 0; i < entries.size(); ++i) {
        listed[i].cookie = entries[i].cookie;
        // The number of what lies above the export is nobody's business.
        const bool above = entries[i].name == ".." && directory->inode == context.inodes.root();
        listed[i].inode = above ? directory->inode->identity().inode : entries[i].inode;
        listed[i].type = entries[i].type;
        listed[i].name = entries[i].name;
    }
    if (request.attributes) {
        REMOFILE_TRY(inodes, look_at(context, {directory->inode, descriptor}, entries, listed));
        REMOFILE_TRY(ids, context.files->bind_all(request.first_node, request.max_entries, inodes));
        for (std::size_t i = 0; i < ids.size(); ++i)
            listed[i].entry.node = ids[i];
    }
    std::vector<std::byte> encoded;
    encoded.reserve(request.size);
    wire::Encoder encoder(encoded);
    for (const wire::DirectoryEntry& entry : listed)
        encoder.put(entry);
    reply.count = static_cast<std::uint16_t>(listed.size());
    context.reply_with(Buffer::copy_of(std::span<const std::byte>(encoded)));
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
