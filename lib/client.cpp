// SPDX-License-Identifier: MIT
#include "remofile/client.hpp"

#include <exception>
#include <utility>

#include "base/log.hpp"
#include "connection.hpp"
#include "opened.hpp"

namespace libremofile {

using detail::Connection;
using detail::Opened;
using detail::to_public;
using remofile::NodeId;
using remofile::Status;
using remofile::Task;
using remofile::client::RemotePlace;
using remofile::client::Symlinks;
namespace wire = remofile::wire;
template <class T = void>
using Outcome = remofile::Result<T>;

namespace {

// Coroutines take a reference to the connection: run() waits for their end, and its caller holds the connection.

Task<Outcome<Attributes>> get_attributes(Connection& connection, std::string path, Symlinks symlinks) {
    auto file = co_await connection.find(std::move(path), symlinks);
    if (!file)
        co_return Outcome<Attributes>(file.error());
    if (file->node != connection.session().hello().root) {
        connection.tree().forget(file->node);
        co_return Outcome<Attributes>(to_public(file->attributes));
    }
    // What HELLO said of the root may be old.
    const wire::Getattr getattr{file->node, {}};
    auto reply = co_await connection.session().call(getattr);
    if (!reply)
        co_return Outcome<Attributes>(reply.error());
    co_return Outcome<Attributes>(to_public(reply->body.attributes));
}

Task<Outcome<std::vector<DirectoryEntry>>> list_entries(Connection& connection, std::string path) {
    using Listing = Outcome<std::vector<DirectoryEntry>>;
    auto directory = co_await connection.find(std::move(path), Symlinks::follow);
    if (!directory)
        co_return Listing(directory.error());
    auto entries = co_await connection.tree().list(directory->node);
    connection.tree().forget(directory->node);
    if (!entries)
        co_return Listing(entries.error());
    connection.tree().forget(*entries);
    std::vector<DirectoryEntry> listing;
    listing.reserve(entries->size());
    // Better no listing than one that leaves something out.
    if (const auto problem = first_problem(*entries); problem != remofile::Status::ok)
        co_return Listing(problem);
    for (remofile::client::RemoteEntry& entry : *entries)
        listing.push_back({std::move(entry.name), to_public(entry.file.attributes)});
    co_return Listing(std::move(listing));
}

// Requests that act on a name of a directory: `make` builds one from the connection and the place.
template <class Make>
Task<Outcome<>> at_place(Connection& connection, std::string path, Make make) {
    auto place = co_await connection.find_place(std::move(path));
    if (!place)
        co_return Outcome<>(place.error());
    auto request = make(connection, *place);
    auto reply = co_await connection.session().call(std::move(request));
    connection.tree().forget(place->directory);
    if (!reply)
        co_return Outcome<>(reply.error());
    if constexpr (requires { reply->body.node; })
        connection.tree().forget(reply->body.node);
    co_return Outcome<>();
}

Task<Outcome<>> rename_entry(Connection& connection, std::string from, std::string to, bool replace) {
    auto source = co_await connection.find_place(std::move(from));
    if (!source)
        co_return Outcome<>(source.error());
    const std::uint64_t epoch = connection.session().epoch();
    auto target = co_await connection.find_place(std::move(to));
    Outcome<> outcome;
    if (!target) {
        outcome = target.error();
    } else if (epoch != connection.session().epoch()) {
        co_return Outcome<>(Status::no_session);
    } else {
        const wire::Rename rename{source->directory, source->name, target->directory, target->name,
                                  replace ? 0 : wire::rename_noreplace};
        auto reply = co_await connection.session().call(rename);
        if (!reply)
            outcome = reply.error();
        connection.tree().forget(target->directory);
    }
    connection.tree().forget(source->directory);
    co_return outcome;
}

Task<Outcome<>> make_link(Connection& connection, std::string from, std::string to) {
    auto file = co_await connection.find(std::move(from), Symlinks::keep);
    if (!file)
        co_return Outcome<>(file.error());
    const std::uint64_t epoch = connection.session().epoch();
    auto target = co_await connection.find_place(std::move(to));
    Outcome<> outcome;
    if (!target) {
        outcome = target.error();
    } else if (epoch != connection.session().epoch()) {
        co_return Outcome<>(Status::no_session);
    } else {
        const wire::Link link{file->node, target->directory, target->name};
        auto reply = co_await connection.session().call(link);
        if (reply)
            connection.tree().forget(reply->body.node);
        else
            outcome = reply.error();
        connection.tree().forget(target->directory);
    }
    connection.tree().forget(file->node);
    co_return outcome;
}

Task<Outcome<std::string>> get_link_target(Connection& connection, std::string path) {
    auto file = co_await connection.find(std::move(path), Symlinks::keep);
    if (!file)
        co_return Outcome<std::string>(file.error());
    const wire::Readlink readlink{file->node};
    auto reply = co_await connection.session().call(readlink);
    connection.tree().forget(file->node);
    if (!reply)
        co_return Outcome<std::string>(reply.error());
    co_return Outcome<std::string>(std::move(reply->body.target));
}

Task<Outcome<>> set_attributes(Connection& connection, std::string path, wire::Setattr setattr) {
    auto file = co_await connection.find(std::move(path), Symlinks::follow);
    if (!file)
        co_return Outcome<>(file.error());
    setattr.node = file->node;
    auto reply = co_await connection.session().call(setattr);
    connection.tree().forget(file->node);
    if (!reply)
        co_return Outcome<>(reply.error());
    co_return Outcome<>();
}

Task<Outcome<Space>> get_space(Connection& connection, std::string path) {
    auto file = co_await connection.find(std::move(path), Symlinks::follow);
    if (!file)
        co_return Outcome<Space>(file.error());
    const wire::Statfs statfs{file->node};
    auto reply = co_await connection.session().call(statfs);
    connection.tree().forget(file->node);
    if (!reply)
        co_return Outcome<Space>(reply.error());
    const wire::StatfsReply& body = reply->body;
    co_return Outcome<Space>(Space{body.block_size, body.blocks, body.blocks_free, body.blocks_available, body.files,
                                   body.files_free, body.name_max});
}

std::uint32_t wire_flags(Open flags) {
    constexpr std::pair<Open, std::uint32_t> table[] = {
        {Open::read, wire::open_read},         {Open::write, wire::open_write},
        {Open::append, wire::open_append},     {Open::exclusive, wire::open_exclusive},
        {Open::truncate, wire::open_truncate},
    };
    std::uint32_t result = 0;
    for (const auto& [flag, bit] : table) {
        if (has(flags, flag))
            result |= bit;
    }
    return result;
}

Task<Outcome<Opened>> open_existing(Connection& connection, std::string path, std::uint32_t flags) {
    auto file = co_await connection.find(std::move(path), Symlinks::follow);
    if (!file)
        co_return Outcome<Opened>(file.error());
    const Opened opened{connection.session().epoch(), file->node, connection.session().new_handle_id(),
                        (flags & wire::open_append) != 0};
    const wire::Open open{opened.node, opened.handle, flags};
    auto reply = co_await connection.session().call(open);
    if (reply)
        co_return Outcome<Opened>(opened);
    connection.tree().forget(file->node);
    co_return Outcome<Opened>(reply.error());
}

Task<Outcome<Opened>> open_or_create(Connection& connection, std::string path, std::uint32_t flags,
                                     std::uint32_t mode) {
    auto place = co_await connection.find_place(path);
    if (!place)
        co_return Outcome<Opened>(place.error());
    Opened opened{connection.session().epoch(), connection.session().new_node_id(),
                  connection.session().new_handle_id(), (flags & wire::open_append) != 0};
    const wire::Create create{place->directory, place->name, {opened.node, false}, opened.handle, flags, mode, 0};
    auto reply = co_await connection.session().call(create);
    connection.tree().forget(place->directory);
    if (reply) {
        opened.node = reply->body.entry.node;
        co_return Outcome<Opened>(opened);
    }
    // The server follows no link; this side does, to a file that is there.
    if (reply.status() != Status::symlink_loop || (flags & wire::open_exclusive) != 0)
        co_return Outcome<Opened>(reply.error());
    auto existing = co_await open_existing(connection, std::move(path), flags);
    co_return existing;
}

struct OpenedDirectory {
    Opened opened;
    remofile::client::DirectoryPart part;
};

Task<Outcome<OpenedDirectory>> open_for_reading(Connection& connection, std::string path) {
    auto directory = co_await connection.find(std::move(path), Symlinks::follow);
    if (!directory)
        co_return Outcome<OpenedDirectory>(directory.error());
    const Opened opened{connection.session().epoch(), directory->node, connection.session().new_handle_id(), false};
    auto part = co_await connection.tree().list_part(opened.node, opened.handle, 0);
    if (!part) {
        connection.session().tell(wire::Releasedir{opened.handle});
        connection.tree().forget(opened.node);
        co_return Outcome<OpenedDirectory>(part.error());
    }
    connection.tree().forget(part->entries);
    if (const auto problem = first_problem(part->entries); problem != remofile::Status::ok) {
        connection.session().tell(wire::Releasedir{opened.handle});
        connection.tree().forget(opened.node);
        co_return Outcome<OpenedDirectory>(problem);
    }
    co_return Outcome<OpenedDirectory>(OpenedDirectory{opened, std::move(*part)});
}

// A name as one line of a message.
std::string printable(const Path& path) {
    return remofile::log::printable("/" + path.relative_path().string());
}

// The system's phrase alone does not say which file it was.
template <class T>
Result<T> about(const Path& path, Outcome<T> outcome) {
    auto result = to_public(std::move(outcome));
    if (!result && !result.error().message.starts_with('/'))
        result.error().message = printable(path) + ": " + result.error().message;
    return result;
}

bool is_too_long(const Path& path) {
    return path.native().size() > wire::max_path_bytes;
}

// Has the connection carry out the task that `make` makes for a path. The caller's reference to the connection is not
// touched after the call has left it, so that close() may be followed by the end of the object.
template <class Make>
auto carry_out(const std::shared_ptr<Connection>& connection, const Path& path, Make make)
    -> decltype(about(path, connection->run(make(*connection)))) {
    if (!connection)
        return std::unexpected(Error{ErrorCode::closed, "the client was moved elsewhere"});
    if (is_too_long(path))
        return std::unexpected(Error{ErrorCode::name_too_long, "a path of more than 4095 bytes"});
    return about(path, connection->run(make(*connection)));
}

// Of a name's directory: what `make_request` makes of the connection and the place.
template <class MakeRequest>
Result<> carry_out_at_place(const std::shared_ptr<Connection>& connection, const Path& path, MakeRequest make_request) {
    return carry_out(connection, path, [&](Connection& its) { return at_place(its, path.string(), make_request); });
}

Result<> set_attributes_of(const std::shared_ptr<Connection>& connection, const Path& path,
                           const wire::Setattr& setattr) {
    return carry_out(connection, path, [&](Connection& its) { return set_attributes(its, path.string(), setattr); });
}

Result<Attributes> attributes_of(const std::shared_ptr<Connection>& connection, const Path& path, Symlinks symlinks) {
    return carry_out(connection, path, [&](Connection& its) { return get_attributes(its, path.string(), symlinks); });
}

}  // namespace

Result<Client> Client::connect(const std::string& source, const Options& options) {
    if (options.timeout < std::chrono::milliseconds(1))
        return std::unexpected(Error{ErrorCode::invalid, "the timeout must be at least 1 ms"});
    if (options.compression.value_or(0) > wire::max_compression_level)
        return std::unexpected(Error{ErrorCode::invalid, "compression levels go from 0 to 12"});
    const remofile::client::ConnectOptions connect{
        .source = source,
        .server_key = options.server_key,
        .identity = options.identity,
        .token_file = options.token_file,
        .token = options.token,
        .insecure = options.insecure,
        .exclusive = options.exclusive,
        .read_only = options.read_only,
        .compression =
            options.compression ? static_cast<std::uint8_t>(*options.compression) : wire::compression_automatic,
        .request_timeout = options.timeout,
        .server_key_option = "server_key=",
    };
    // Context and threads are third parties', which throw when the system has no more of them.
    try {
        auto session_options = remofile::client::make_session_options(connect);
        if (!session_options)
            return std::unexpected(to_public(session_options.error()));
        session_options->first_connect_timeout =
            std::min<remofile::Duration>(session_options->first_connect_timeout, options.timeout);
        auto connection = Connection::open(std::move(*session_options));
        if (!connection)
            return std::unexpected(to_public(connection.error()));
        return Client(std::move(*connection));
    } catch (const std::exception& error) {
        return std::unexpected(Error{ErrorCode::io_error, error.what()});
    }
}

Client::Client(std::shared_ptr<Connection> connection) : connection_(std::move(connection)) {}
Client::Client(Client&& other) noexcept = default;
Client& Client::operator=(Client&& other) noexcept {
    Client taken(std::move(other));
    std::swap(connection_, taken.connection_);
    return *this;
}
Client::~Client() {
    close();
}

void Client::close() {
    if (connection_)
        connection_->close();
}

Result<Attributes> Client::stat(const Path& path) const {
    return attributes_of(connection_, path, Symlinks::follow);
}

Result<Attributes> Client::lstat(const Path& path) const {
    return attributes_of(connection_, path, Symlinks::keep);
}

Result<bool> Client::exists(const Path& path) const {
    auto found = stat(path);
    if (found)
        return true;
    if (found.error().code == ErrorCode::no_entry || found.error().code == ErrorCode::not_directory)
        return false;
    return std::unexpected(found.error());
}

Result<Directory> Client::open_directory(const Path& path) const {
    auto directory =
        carry_out(connection_, path, [&](Connection& its) { return open_for_reading(its, path.string()); });
    if (!directory)
        return std::unexpected(directory.error());
    return Directory(std::unique_ptr<detail::DirectoryState>(
        new detail::DirectoryState{connection_, directory->opened, std::move(directory->part)}));
}

Result<std::vector<DirectoryEntry>> Client::list(const Path& path) const {
    return carry_out(connection_, path, [&](Connection& its) { return list_entries(its, path.string()); });
}

Result<> Client::mkdir(const Path& path, std::uint32_t mode) const {
    return carry_out_at_place(connection_, path, [mode](Connection& connection, const RemotePlace& place) {
        return wire::Mkdir{place.directory, place.name, {connection.session().new_node_id(), false}, mode & 07777U, 0};
    });
}

Result<> Client::rmdir(const Path& path) const {
    return carry_out_at_place(connection_, path, [](Connection& /*connection*/, const RemotePlace& place) {
        return wire::Rmdir{place.directory, place.name};
    });
}

Result<> Client::unlink(const Path& path) const {
    return carry_out_at_place(connection_, path, [](Connection& /*connection*/, const RemotePlace& place) {
        return wire::Unlink{place.directory, place.name};
    });
}

Result<> Client::rename(const Path& from, const Path& to, bool replace) const {
    if (is_too_long(to))
        return std::unexpected(Error{ErrorCode::name_too_long, "a path of more than 4095 bytes"});
    return carry_out(connection_, from, [&](Connection& connection) {
        return rename_entry(connection, from.string(), to.string(), replace);
    });
}

Result<> Client::symlink(const std::string& target, const Path& path) const {
    if (is_too_long(target))
        return std::unexpected(Error{ErrorCode::name_too_long, "a target of more than 4095 bytes"});
    return carry_out_at_place(connection_, path, [&target](Connection& connection, const RemotePlace& place) {
        return wire::Symlink{place.directory, place.name, {connection.session().new_node_id(), false}, target};
    });
}

Result<std::string> Client::readlink(const Path& path) const {
    return carry_out(connection_, path, [&](Connection& its) { return get_link_target(its, path.string()); });
}

Result<> Client::link(const Path& from, const Path& to) const {
    if (is_too_long(to))
        return std::unexpected(Error{ErrorCode::name_too_long, "a path of more than 4095 bytes"});
    return carry_out(connection_, from,
                     [&](Connection& connection) { return make_link(connection, from.string(), to.string()); });
}

Result<> Client::chmod(const Path& path, std::uint32_t mode) const {
    return set_attributes_of(connection_, path, {.which = wire::set_mode, .mode = mode & 07777U});
}

Result<> Client::chown(const Path& path, std::optional<std::uint32_t> uid, std::optional<std::uint32_t> gid) const {
    return set_attributes_of(connection_, path,
                             {.which = (uid ? wire::set_uid : 0U) | (gid ? wire::set_gid : 0U),
                              .uid = uid.value_or(0),
                              .gid = gid.value_or(0)});
}

Result<> Client::utimes(const Path& path, std::optional<Timestamp> access,
                        std::optional<Timestamp> modification) const {
    wire::Setattr setattr;
    const auto set = [&setattr](const std::optional<Timestamp>& time, std::uint32_t given, std::uint32_t now,
                                wire::Timestamp& field) {
        if (!time)
            return true;
        const bool is_now = time->nanoseconds == server_now.nanoseconds;
        setattr.which |= is_now ? now : given;
        field = is_now ? wire::Timestamp{} : wire::Timestamp{time->seconds, time->nanoseconds};
        return is_now || time->nanoseconds < 1'000'000'000;
    };
    if (!set(access, wire::set_access, wire::set_access_now, setattr.access) ||
        !set(modification, wire::set_modification, wire::set_modification_now, setattr.modification))
        return std::unexpected(Error{ErrorCode::invalid, "utimes: a second has 1,000,000,000 nanoseconds"});
    return set_attributes_of(connection_, path, setattr);
}

Result<> Client::truncate(const Path& path, std::uint64_t size) const {
    return set_attributes_of(connection_, path, {.which = wire::set_size, .size = size});
}

Result<Space> Client::statfs(const Path& path) const {
    return carry_out(connection_, path, [&](Connection& its) { return get_space(its, path.string()); });
}

Result<File> Client::open(const Path& path, Open flags, std::uint32_t mode) const {
    if (!has(flags, Open::read | Open::write))
        return std::unexpected(Error{ErrorCode::invalid, "open: neither to read nor to write"});
    if (has(flags, Open::truncate | Open::append) && !has(flags, Open::write))
        return std::unexpected(Error{ErrorCode::invalid, "open: to append or truncate, but not to write"});
    if (has(flags, Open::exclusive) && !has(flags, Open::create))
        return std::unexpected(Error{ErrorCode::invalid, "open: exclusive, but not to create"});
    const std::uint32_t wanted = wire_flags(flags);
    auto opened = carry_out(connection_, path, [&](Connection& connection) {
        return has(flags, Open::create) ? open_or_create(connection, path.string(), wanted, mode & 07777U)
                                        : open_existing(connection, path.string(), wanted);
    });
    if (!opened)
        return std::unexpected(opened.error());
    return File(std::unique_ptr<detail::FileState>(new detail::FileState{connection_, *opened}));
}

}  // namespace libremofile
