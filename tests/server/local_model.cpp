// SPDX-License-Identifier: MIT
#include "local_model.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "base/log.hpp"
#include "base/unique_fd.hpp"

namespace remofile::server::test {
namespace {

using Kind = Change::Kind;

constexpr const char* xattr_name = "user.test";
// Only times that a change has set are compared; these are before any that the clock could give.
constexpr std::int64_t set_time_end = 1'000'000;

std::string content_of(const Change& change) {
    std::string content(change.length, '\0');
    for (std::size_t i = 0; i < content.size(); ++i)
        content[i] = static_cast<char>('a' + (change.offset + i * 7 + change.mode) % 26);
    return content;
}

int fallocate_mode(Kind kind) {
    switch (kind) {
        case Kind::allocate_keeping_size:
            return FALLOC_FL_KEEP_SIZE;
        case Kind::punch_hole:
            return FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;
        case Kind::zero_range:
            return FALLOC_FL_ZERO_RANGE;
        case Kind::collapse_range:
            return FALLOC_FL_COLLAPSE_RANGE;
        case Kind::insert_range:
            return FALLOC_FL_INSERT_RANGE;
        default:
            return 0;
    }
}

int error_of(long result) {
    return result < 0 ? errno : 0;
}

// Where a path leads: the directory of its last component, as a kernel finds it by one LOOKUP a component.
struct Place {
    Status status = Status::ok;
    NodeId parent;
    std::string name;
};

NodeId look_up(Session& session, NodeId parent, const std::string& name, Status& status) {
    const auto found = session.call(wire::Lookup{.parent = parent, .name = name, .node = {session.new_node(), true}});
    status = found.status;
    // The local kernel would follow a symlink in the middle of a path, to nowhere.
    return found.body.node;
}

Place find_place(Session& session, const std::string& path) {
    Place place{.parent = Session::root};
    std::istringstream components(path);
    std::string next;
    std::getline(components, place.name, '/');
    while (std::getline(components, next, '/')) {
        const NodeId node = look_up(session, place.parent, place.name, place.status);
        if (place.status != Status::ok)
            return place;
        const auto type = session.call(wire::Getattr{.node = node}).body.attributes.mode & S_IFMT;
        if (type != S_IFDIR) {
            place.status = type == S_IFLNK ? Status::no_entry : Status::not_directory;
            return place;
        }
        place.parent = node;
        place.name = next;
    }
    return place;
}

NodeId find_node(Session& session, const std::string& path, Status& status) {
    const Place place = find_place(session, path);
    status = place.status;
    return status == Status::ok ? look_up(session, place.parent, place.name, status) : NodeId{};
}

struct Remote {
    Session& session;
    const Change& change;

    // Opens, runs `work` with the handle, and releases.
    template <class Work>
    Status with_open(std::uint32_t flags, Work&& work) {
        Status status = Status::ok;
        const NodeId node = find_node(session, change.path, status);
        if (status != Status::ok)
            return status;
        const HandleId handle = session.new_handle();
        status = session.call(wire::Open{.node = node, .handle = handle, .flags = flags}).status;
        if (status != Status::ok)
            return status;
        status = work(handle);
        session.call(wire::Flush{.handle = handle});
        session.call(wire::Release{.handle = handle});
        return status;
    }

    Status create(std::uint32_t flags) {
        const Place place = find_place(session, change.path);
        if (place.status != Status::ok)
            return place.status;
        const HandleId handle = session.new_handle();
        const Status status = session.create(place.parent, place.name, handle, flags, change.mode & 0777, 022).status;
        session.call(wire::Release{.handle = handle});
        return status;
    }

    // With the node of the path itself.
    template <class Work>
    Status with_node(Work&& work) {
        Status status = Status::ok;
        const NodeId node = find_node(session, change.path, status);
        return status == Status::ok ? work(node) : status;
    }

    template <class Work>
    Status with_place(Work&& work) {
        const Place place = find_place(session, change.path);
        return place.status == Status::ok ? work(place) : place.status;
    }

    Status rename(std::uint32_t flags) {
        const Place from = find_place(session, change.path);
        if (from.status != Status::ok)
            return from.status;
        const Place to = find_place(session, change.path2);
        if (to.status != Status::ok)
            return to.status;
        return session
            .call(wire::Rename{
                .parent = from.parent, .name = from.name, .new_parent = to.parent, .new_name = to.name, .flags = flags})
            .status;
    }

    Status setxattr(std::uint32_t flags) {
        return with_node([&](NodeId node) {
            return session
                .call(wire::Setxattr{.node = node, .name = xattr_name, .flags = flags},
                      Buffer::copy_of(content_of(change)))
                .status;
        });
    }

    Status copy_range() {
        return with_open(wire::open_read, [&](HandleId from) {
            Status status = Status::ok;
            const NodeId target = find_node(session, change.path2, status);
            if (status != Status::ok)
                return status;
            const HandleId to = session.new_handle();
            status = session.call(wire::Open{.node = target, .handle = to, .flags = wire::open_write}).status;
            if (status != Status::ok)
                return status;
            status =
                session
                    .call(wire::CopyRange{
                        .from = from, .from_offset = 3, .to = to, .to_offset = change.offset, .size = change.length})
                    .status;
            session.call(wire::Release{.handle = to});
            return status;
        });
    }

    Status apply() {
        switch (change.kind) {
            case Kind::create:
                return create(wire::open_read | wire::open_write);
            case Kind::create_exclusively:
                return create(wire::open_read | wire::open_write | wire::open_exclusive);
            case Kind::create_truncated:
                return create(wire::open_write | wire::open_truncate);
            case Kind::open_to_read:
                return with_open(wire::open_read, [](HandleId) { return Status::ok; });
            case Kind::write:
                return with_open(wire::open_write, [&](HandleId handle) {
                    return session.write(handle, change.offset, content_of(change)).status;
                });
            case Kind::append:
                return with_open(wire::open_write | wire::open_append,
                                 [&](HandleId handle) { return session.write(handle, 0, content_of(change)).status; });
            case Kind::truncate:
                return with_node([&](NodeId node) {
                    // What the kernel of the client answers by itself.
                    const auto type = session.call(wire::Getattr{.node = node}).body.attributes.mode & S_IFMT;
                    if (type == S_IFLNK)
                        return Status::no_entry;
                    return session.call(wire::Setattr{.node = node, .which = wire::set_size, .size = change.offset})
                        .status;
                });
            case Kind::mkdir:
                return with_place([&](const Place& place) {
                    return session
                        .call(wire::Mkdir{.parent = place.parent,
                                          .name = place.name,
                                          .node = {session.new_node()},
                                          .mode = change.mode,
                                          .umask = 022})
                        .status;
                });
            case Kind::rmdir:
                return with_place([&](const Place& place) {
                    return session.call(wire::Rmdir{.parent = place.parent, .name = place.name}).status;
                });
            case Kind::unlink:
                return with_place([&](const Place& place) {
                    return session.call(wire::Unlink{.parent = place.parent, .name = place.name}).status;
                });
            case Kind::rename:
                return rename(0);
            case Kind::rename_noreplace:
                return rename(wire::rename_noreplace);
            case Kind::rename_exchange:
                return rename(wire::rename_exchange);
            case Kind::rename_whiteout:
                return rename(wire::rename_whiteout);
            case Kind::link:
                return with_node([&](NodeId node) {
                    const Place to = find_place(session, change.path2);
                    if (to.status != Status::ok)
                        return to.status;
                    return session.call(wire::Link{.node = node, .new_parent = to.parent, .new_name = to.name}).status;
                });
            case Kind::symlink:
                return with_place([&](const Place& place) {
                    return session
                        .call(wire::Symlink{.parent = place.parent,
                                            .name = place.name,
                                            .node = {session.new_node()},
                                            .target = "/nowhere/" + change.path2})
                        .status;
                });
            case Kind::mkfifo:
                return with_place([&](const Place& place) {
                    return session
                        .call(wire::Mknod{.parent = place.parent,
                                          .name = place.name,
                                          .node = {session.new_node()},
                                          .mode = S_IFIFO | (change.mode & 0777),
                                          .umask = 022})
                        .status;
                });
            case Kind::chmod:
                return with_node([&](NodeId node) {
                    return session.call(wire::Setattr{.node = node, .which = wire::set_mode, .mode = change.mode})
                        .status;
                });
            case Kind::chown:
                return with_node([&](NodeId node) {
                    return session
                        .call(wire::Setattr{.node = node,
                                            .which = wire::set_uid | wire::set_gid,
                                            .uid = change.mode,
                                            .gid = change.mode + 1})
                        .status;
                });
            case Kind::set_times:
                return with_node([&](NodeId node) {
                    return session
                        .call(wire::Setattr{.node = node,
                                            .which = wire::set_modification,
                                            .modification = {static_cast<std::int64_t>(change.offset), 123456789}})
                        .status;
                });
            case Kind::set_xattr:
                return setxattr(0);
            case Kind::create_xattr:
                return setxattr(wire::xattr_create);
            case Kind::replace_xattr:
                return setxattr(wire::xattr_replace);
            case Kind::remove_xattr:
                return with_node([&](NodeId node) {
                    return session.call(wire::Removexattr{.node = node, .name = xattr_name}).status;
                });
            case Kind::allocate:
            case Kind::allocate_keeping_size:
            case Kind::punch_hole:
            case Kind::zero_range:
            case Kind::collapse_range:
            case Kind::insert_range:
                return with_open(wire::open_write, [&](HandleId handle) {
                    return session
                        .call(wire::Fallocate{.handle = handle,
                                              .mode = static_cast<std::uint32_t>(fallocate_mode(change.kind)),
                                              .offset = change.offset,
                                              .length = change.length})
                        .status;
                });
            case Kind::copy_range:
                return copy_range();
            case Kind::access:
                return with_node([&](NodeId node) {
                    return session.call(wire::Access{.node = node, .mask = change.mode & 7}).status;
                });
        }
        return Status::io_error;
    }
};

struct Local {
    std::string path;
    std::string path2;
    const Change& change;

    int create(int flags) {
        struct stat stat {};
        // The client opens fifos and the like by itself.
        if (lstat(path.c_str(), &stat) == 0 && S_ISFIFO(stat.st_mode))
            return (flags & O_EXCL) != 0 ? EEXIST : ENXIO;
        // CREATE opens no symlink, where the local kernel would make the file that it leads to.
        return error_of(UniqueFd(::open(path.c_str(), flags | O_CREAT | O_NOFOLLOW, change.mode & 0777)).get());
    }
    template <class Work>
    int with_open(int flags, Work&& work) {
        const UniqueFd file(::open(path.c_str(), flags | O_NOFOLLOW | O_NONBLOCK));
        if (!file)
            return errno;
        struct stat stat {};
        fstat(file.get(), &stat);
        // The client opens fifos and the like by itself.
        if (!S_ISREG(stat.st_mode) && !S_ISDIR(stat.st_mode))
            return ENXIO;
        if (S_ISDIR(stat.st_mode))
            return EISDIR;
        return error_of(work(file.get()));
    }
    int copy_range() {
        return with_open(O_RDONLY, [&](int from) -> long {
            const UniqueFd to(::open(path2.c_str(), O_WRONLY | O_NOFOLLOW | O_NONBLOCK));
            if (!to)
                return -1;
            loff_t from_offset = 3;
            auto to_offset = static_cast<loff_t>(change.offset);
            return ::copy_file_range(from, &from_offset, to.get(), &to_offset, change.length, 0);
        });
    }
    int rename(unsigned flags) { return error_of(::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, path2.c_str(), flags)); }
    int setxattr(int flags) {
        const std::string value = content_of(change);
        return error_of(::lsetxattr(path.c_str(), xattr_name, value.data(), value.size(), flags));
    }

    int apply() {
        const auto offset = static_cast<off_t>(change.offset);
        switch (change.kind) {
            case Kind::create:
                return create(O_RDWR);
            case Kind::create_exclusively:
                return create(O_RDWR | O_EXCL);
            case Kind::create_truncated:
                return create(O_WRONLY | O_TRUNC);
            case Kind::open_to_read:
                return with_open(O_RDONLY, [](int) { return 0; });
            case Kind::write:
                return with_open(O_WRONLY, [&](int file) {
                    const std::string content = content_of(change);
                    return ::pwrite(file, content.data(), content.size(), offset);
                });
            case Kind::append:
                return with_open(O_WRONLY | O_APPEND, [&](int file) {
                    const std::string content = content_of(change);
                    return ::write(file, content.data(), content.size());
                });
            case Kind::truncate:
                return error_of(::truncate(path.c_str(), offset));
            case Kind::mkdir:
                return error_of(::mkdir(path.c_str(), change.mode));
            case Kind::rmdir:
                return error_of(::rmdir(path.c_str()));
            case Kind::unlink:
                return error_of(::unlink(path.c_str()));
            case Kind::rename:
                return rename(0);
            case Kind::rename_noreplace:
                return rename(RENAME_NOREPLACE);
            case Kind::rename_exchange:
                return rename(RENAME_EXCHANGE);
            case Kind::rename_whiteout:
                return rename(RENAME_WHITEOUT);
            case Kind::link:
                return error_of(::link(path.c_str(), path2.c_str()));
            case Kind::symlink:
                return error_of(::symlink(("/nowhere/" + change.path2).c_str(), path.c_str()));
            case Kind::mkfifo:
                return error_of(::mkfifo(path.c_str(), change.mode & 0777));
            case Kind::chmod:
                return error_of(::fchmodat(AT_FDCWD, path.c_str(), change.mode & 07777, AT_SYMLINK_NOFOLLOW));
            case Kind::chown:
                return error_of(::lchown(path.c_str(), change.mode, change.mode + 1));
            case Kind::set_times: {
                const timespec times[2]{{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, {.tv_sec = offset, .tv_nsec = 123456789}};
                return error_of(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW));
            }
            case Kind::set_xattr:
                return setxattr(0);
            case Kind::create_xattr:
                return setxattr(XATTR_CREATE);
            case Kind::replace_xattr:
                return setxattr(XATTR_REPLACE);
            case Kind::remove_xattr:
                return error_of(::lremovexattr(path.c_str(), xattr_name));
            case Kind::allocate:
            case Kind::allocate_keeping_size:
            case Kind::punch_hole:
            case Kind::zero_range:
            case Kind::collapse_range:
            case Kind::insert_range:
                return with_open(O_WRONLY, [&](int file) {
                    return ::fallocate(file, fallocate_mode(change.kind), offset, static_cast<off_t>(change.length));
                });
            case Kind::copy_range:
                return copy_range();
            case Kind::access: {
                const UniqueFd file(::open(path.c_str(), O_PATH | O_NOFOLLOW));
                if (!file)
                    return errno;
                return error_of(::faccessat(file.get(), "", static_cast<int>(change.mode & 7), AT_EMPTY_PATH));
            }
        }
        return EIO;
    }
};

std::string describe_attributes(const std::string& path, std::uint32_t mode, std::uint32_t links, std::uint32_t uid,
                                std::uint32_t gid, std::uint64_t size, std::int64_t modified,
                                const std::string& content, const std::string& xattr) {
    const bool sized = S_ISREG(mode) || S_ISLNK(mode);
    return fmt::format("{} {:o} {} {}:{} {} {} {:?} {:?}", path, mode, links, uid, gid, sized ? size : 0,
                       modified < set_time_end ? modified : -1, content, xattr);
}

std::string join(const std::set<std::string>& lines) {
    std::string text;
    for (const auto& line : lines)
        text += line + "\n";
    return text;
}

void describe_node(Session& session, const std::string& path, NodeId node, std::set<std::string>& lines) {
    for (const auto& entry : session.list(node, true)) {
        if (entry.name == "." || entry.name == "..")
            continue;
        const auto attributes = session.call(wire::Getattr{.node = entry.entry.node}).body.attributes;
        std::string content;
        if (S_ISREG(attributes.mode)) {
            const HandleId handle = session.open(entry.entry.node, wire::open_read);
            content = session.read(handle, 0, wire::max_bulk_bytes);
            session.call(wire::Release{.handle = handle});
        } else if (S_ISLNK(attributes.mode)) {
            content = session.call(wire::Readlink{.node = entry.entry.node}).body.target;
        }
        const auto xattr = session.call(wire::Getxattr{.node = entry.entry.node, .name = xattr_name, .size = 65536});
        lines.insert(describe_attributes(path + entry.name, attributes.mode, attributes.links, attributes.uid,
                                         attributes.gid, attributes.size, attributes.modification.seconds, content,
                                         std::string(xattr.bulk.text())));
        if (S_ISDIR(attributes.mode))
            describe_node(session, path + entry.name + "/", entry.entry.node, lines);
    }
}

}  // namespace

std::string to_string(const Change& change) {
    return fmt::format(
        "{{.kind = Kind({}), .path = \"{}\", .path2 = \"{}\", .mode = 0{:o}, .offset = {}, .length = {}}}",
        static_cast<int>(change.kind), change.path, change.path2, change.mode, change.offset, change.length);
}

void showValue(const Change& change, std::ostream& out) {
    out << to_string(change);
}

int apply_remotely(Session& session, const Change& change) {
    return to_errno(Remote{session, change}.apply());
}

int apply_locally(const std::string& directory, const Change& change) {
    const mode_t previous = umask(022);
    const int result = Local{directory + "/" + change.path, directory + "/" + change.path2, change}.apply();
    umask(previous);
    return result;
}

std::string describe_locally(const std::string& directory) {
    std::set<std::string> lines;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
        const std::string path = entry.path().string();
        struct stat stat {};
        lstat(path.c_str(), &stat);
        std::string content;
        if (S_ISREG(stat.st_mode))
            content = read_file(path);
        else if (S_ISLNK(stat.st_mode))
            content = std::filesystem::read_symlink(path).string();
        std::string xattr(65536, '\0');
        const ssize_t size = lgetxattr(path.c_str(), xattr_name, xattr.data(), xattr.size());
        xattr.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
        lines.insert(describe_attributes(
            path.substr(directory.size() + 1), stat.st_mode, static_cast<std::uint32_t>(stat.st_nlink), stat.st_uid,
            stat.st_gid, static_cast<std::uint64_t>(stat.st_size), stat.st_mtim.tv_sec, content, xattr));
    }
    return join(lines);
}

std::string describe_remotely(Session& session) {
    std::set<std::string> lines;
    describe_node(session, "", Session::root, lines);
    return join(lines);
}

}  // namespace remofile::server::test
