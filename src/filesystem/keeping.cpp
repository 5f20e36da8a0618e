// SPDX-License-Identifier: MIT
// What the server has not answered when a mount ends, told so that another session can carry it out (replay.hpp):
// files by their names below the root and by what the server told of them last, not by what ids stand for here.
#include <sys/stat.h>

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/log.hpp"
#include "filesystem/file_system.hpp"

namespace remofile::filesystem {

using spool::ChangeKind;
using spool::no_object;
using spool::ObjectNumber;

std::optional<wire::Attributes> FileSystem::known_of(InodeNumber directory, std::string_view name) {
    if (!settings_.keeps_unsent)
        return std::nullopt;
    const auto answer = names_.known().find(directory, name);
    if (answer.attributes == nullptr)
        return std::nullopt;
    wire::Attributes attributes = *answer.attributes;
    const Inode* inode = inodes_.find(attributes.identity);
    if (const auto* told = inode == nullptr ? nullptr : contents_.last_told(inode->id)) {
        attributes.size = told->size;
        attributes.modification = told->modification;
    }
    return attributes;
}

class FileSystem::Keeping {
public:
    explicit Keeping(FileSystem& files) : files_(files) { add({.type = S_IFDIR}, root_inode); }

    Unsent keep() {
        unsent_.contents.objects.front().identity = files_.inodes_.root().identity;
        for (const auto& [number, request] : files_.behind_.requests())
            keep_change(number, request);
        for (const InodeNumber id : files_.contents_.writes().pending_files())
            keep_writes(id);
        return std::move(unsent_);
    }

private:
    // What is asked for, but for what the numbers stand for here.
    template <class Message>
    static std::optional<Message> decoded(const ChangesBehind::Request& request) {
        if (request.opcode != Message::opcode)
            return std::nullopt;
        auto message = wire::decode_body<Message>(request.body);
        return message ? std::optional(std::move(*message)) : std::nullopt;
    }

    ObjectNumber add(spool::Object object, InodeNumber id) {
        const auto number = static_cast<ObjectNumber>(unsent_.contents.objects.size());
        if (id != 0)
            numbers_.emplace(id, number);
        unsent_.contents.objects.push_back(std::move(object));
        return number;
    }

    // The changes that are under way have not moved directories.
    std::optional<std::string> path_of(const NamePlace& place) const {
        std::string path = place.name;
        InodeNumber directory = place.directory;
        while (directory != root_inode) {
            const Inode* inode = files_.inodes_.find(directory);
            if (inode == nullptr || inode->unmade || inode->place.name.empty() || path.size() > UINT16_MAX)
                return std::nullopt;
            path = inode->place.name + "/" + path;
            directory = inode->place.parent;
        }
        return path.empty() || path.size() > UINT16_MAX ? std::nullopt : std::optional(std::move(path));
    }

    // Where the server has the file: before the changes.
    std::optional<NamePlace> place_at_server(const Inode& inode) const {
        for (const auto& [_, names] : files_.behind_.of_names())
            for (const NameChange& name : names)
                if (name.before == inode.id)
                    return name.place;
        if (inode.place.name.empty())
            return std::nullopt;
        return NamePlace{inode.place.parent, inode.place.name};
    }

    ObjectNumber object_of(InodeNumber id, const std::optional<wire::Attributes>& known = {}) {
        if (const auto found = numbers_.find(id); found != numbers_.end())
            return found->second;
        const Inode* inode = files_.inodes_.find(id);
        if (inode == nullptr)
            return no_object;
        spool::Object object{.is_new = inode->unmade, .type = inode->type};
        if (InodeMap::has_identity(*inode))
            object.identity = inode->identity;
        if (object.is_new)
            return add(std::move(object), id);
        const auto place = place_at_server(*inode);
        auto path = place ? path_of(*place) : std::nullopt;
        if (!path)
            return no_object;
        object.path = std::move(*path);
        if (const auto* told = files_.contents_.last_told(id)) {
            object.is_told = inode->type == S_IFREG;
            object.told = {told->size, told->modification};
        } else if (known) {
            object.is_told = inode->type == S_IFREG;
            object.told = {known->size, known->modification};
        }
        return add(std::move(object), id);
    }

    // What nobody knows by number.
    ObjectNumber unnumbered(const NamePlace& place, const std::optional<wire::Attributes>& known) {
        auto path = known ? path_of(place) : std::nullopt;
        if (!path)
            return no_object;
        return add({.path = std::move(*path),
                    .identity = known->identity,
                    .type = known->mode & S_IFMT,
                    .is_told = S_ISREG(known->mode),
                    .told = {known->size, known->modification}},
                   0);
    }
    ObjectNumber object_before(const NameChange& name, const std::optional<wire::Attributes>& known) {
        if (name.before == 0)
            return no_object;
        const ObjectNumber number = object_of(name.before, known);
        return number == no_object ? unnumbered(name.place, known) : number;
    }

    std::string shown(const NamePlace& place) const { return path_of(place).value_or(place.name); }
    void lose(const NamePlace& place, std::string_view what) {
        unsent_.lost.push_back(fmt::format("\"{}\": {}", log::printable(shown(place)), what));
    }

    void keep_change(std::uint64_t number, const ChangesBehind::Request& request) {
        spool::Change change;
        if (auto setting = decoded<wire::Setattr>(request)) {
            const Inode* inode = files_.inodes_.find(setting->node);
            change.kind = ChangeKind::set;
            change.object = inode == nullptr ? no_object : object_of(inode->id);
            change.setting = *setting;
            change.setting.node = {};
            change.setting.handle = {};
            // What was written afterwards gives it another time.
            if (inode != nullptr && files_.behind_.is_written(inode->id))
                change.setting.which &= ~wire::set_modification;
            if (change.object != no_object)
                unsent_.contents.changes.push_back(std::move(change));
            return;
        }
        const auto names = files_.behind_.of_names().find(number);
        if (names == files_.behind_.of_names().end() || names->second.empty())
            return;
        const NameChange& name = names->second.front();
        change.directory = object_of(name.place.directory);
        change.name = name.place.name;
        bool is_told = true;
        if (names->second.size() > 1) {
            const NameChange& new_name = names->second[1];
            change.kind = ChangeKind::rename;
            change.object = object_before(name, request.file);
            change.new_directory = object_of(new_name.place.directory);
            change.new_name = new_name.place.name;
            change.replaced = object_before(new_name, request.replaced);
            if (const auto message = decoded<wire::Rename>(request))
                change.flags = message->flags;
            is_told = change.object != no_object && change.new_directory != no_object &&
                      (new_name.before == 0) == (change.replaced == no_object);
        } else if (name.after == 0) {
            change.kind = ChangeKind::remove;
            change.object = object_before(name, request.file);
            is_told = change.object != no_object;
        } else if (const auto message = decoded<wire::Link>(request)) {
            change.kind = ChangeKind::link;
            change.object = object_of(name.after);
            is_told = change.object != no_object;
        } else {
            is_told = keep_making(change, name, request);
        }
        if (change.directory == no_object || !is_told)
            return lose(name.place, "not enough is known of a change of this name");
        unsent_.contents.changes.push_back(std::move(change));
    }

    bool keep_making(spool::Change& change, const NameChange& name, const ChangesBehind::Request& request) {
        change.kind = ChangeKind::make;
        change.object = object_of(name.after);
        if (change.object == no_object || !unsent_.contents.objects[change.object].is_new)
            return false;
        if (const auto made = decoded<wire::Create>(request)) {
            change.mode = S_IFREG | made->mode;
            change.umask = made->umask;
        } else if (const auto lent = decoded<wire::MakeLent>(request)) {
            change.mode = unsent_.contents.objects[change.object].type | lent->mode;
            change.umask = lent->umask;
        } else if (const auto directory = decoded<wire::Mkdir>(request)) {
            change.mode = S_IFDIR | directory->mode;
            change.umask = directory->umask;
        } else if (const auto node = decoded<wire::Mknod>(request)) {
            change.mode = node->mode;
            change.umask = node->umask;
            change.rdev_major = node->rdev_major;
            change.rdev_minor = node->rdev_minor;
        } else if (auto link = decoded<wire::Symlink>(request)) {
            change.mode = S_IFLNK;
            change.target = std::move(link->target);
        } else {
            return false;
        }
        return true;
    }

    // Whether anything leads to the file once all changes have been carried out.
    bool has_name(const Inode& inode) const {
        for (const auto& [_, names] : files_.behind_.of_names())
            for (const NameChange& name : names)
                if (name.after == inode.id && files_.behind_.meaning(name.place.directory, name.place.name) == inode.id)
                    return true;
        const auto place = inode.unmade ? std::nullopt : place_at_server(inode);
        return place && files_.behind_.meaning(place->directory, place->name).value_or(inode.id) == inode.id;
    }

    void keep_writes(InodeNumber id) {
        const Inode* inode = files_.inodes_.find(id);
        if (inode == nullptr || !has_name(*inode))
            return;
        spool::Written written{.object = object_of(id), .size = inode->content.size};
        files_.contents_.writes().visit_pending(id, [&](std::uint64_t offset, std::span<const std::byte> bytes) {
            if (!bytes.empty())
                written.extents.push_back({offset, {bytes.begin(), bytes.end()}});
        });
        if (written.extents.empty())
            return;
        for (const spool::Extent& extent : written.extents)
            written.size = std::max(written.size, extent.end());
        if (written.object == no_object)
            return lose({inode->place.parent, inode->place.name}, "it is not known where the file is");
        unsent_.contents.written.push_back(std::move(written));
    }

    FileSystem& files_;
    Unsent unsent_;
    std::unordered_map<InodeNumber, ObjectNumber> numbers_;
};

FileSystem::Unsent FileSystem::take_unsent() {
    send_held();
    unsent_taken_ = true;
    contents_.be_quiet();
    return Keeping(*this).keep();
}

}  // namespace remofile::filesystem
