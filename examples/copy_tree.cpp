// SPDX-License-Identifier: MIT
// Copies a remote directory and all below it to a new local directory, with modes, times and symbolic links:
// copy_tree SOURCE PATH DIRECTORY
#include <fstream>
#include <iostream>
#include <remofile/client.hpp>
#include <remofile/stream.hpp>

namespace fs = std::filesystem;
using libremofile::Attributes;
using libremofile::Client;
using libremofile::Path;
using libremofile::Result;

namespace {

std::unexpected<libremofile::Error> local_error(const fs::path& path, const std::string& why) {
    return std::unexpected(libremofile::Error{libremofile::ErrorCode::io_error, path.string() + ": " + why});
}

Result<> copy_file(const Client& client, const Path& from, const fs::path& to) {
    auto file = client.open(from);
    if (!file)
        return std::unexpected(file.error());
    libremofile::Stream in(std::move(*file));
    std::ofstream out(to, std::ios::binary);
    // An empty file gives nothing to insert, which would set failbit.
    if (in.peek() != std::char_traits<char>::eof())
        out << in.rdbuf();
    out.close();
    if (const auto closed = in.close(); !closed)
        return closed;
    if (!out)
        return local_error(to, "cannot be written");
    return {};
}

void set_mode_and_time(const Attributes& attributes, const fs::path& path) {
    std::error_code ignored;  // what a file system does not keep is no reason to stop
    fs::permissions(path, static_cast<fs::perms>(attributes.mode & 0777U), ignored);
    const auto since_1970 = std::chrono::seconds(attributes.modification.seconds) +
                            std::chrono::nanoseconds(attributes.modification.nanoseconds);
    const std::chrono::sys_time<std::chrono::nanoseconds> time(since_1970);
    fs::last_write_time(path, std::chrono::file_clock::from_sys(time), ignored);
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the tree
Result<> copy_directory(const Client& client, const Path& from, const fs::path& to) {
    std::error_code failed;
    if (!fs::create_directory(to, failed))
        return local_error(to, failed ? failed.message() : "is there already");
    auto directory = client.open_directory(from);
    if (!directory)
        return std::unexpected(directory.error());
    for (;;) {
        const auto entry = directory->next();
        if (!entry)
            return std::unexpected(entry.error());
        if (!entry->has_value())
            return {};
        const Path name = (*entry)->name;
        // Also what keeps a server from leading us out of the directory by a name that it lists twice.
        if (fs::exists(fs::symlink_status(to / name, failed)))
            return local_error(to / name, "is there already");
        const Attributes& attributes = (*entry)->attributes;
        Result<> copied;
        if (attributes.is_directory()) {
            copied = copy_directory(client, from / name, to / name);
        } else if (attributes.is_regular()) {
            copied = copy_file(client, from / name, to / name);
        } else if (attributes.is_symlink()) {
            if (const auto target = client.readlink(from / name))
                fs::create_symlink(*target, to / name, failed);
            continue;
        }
        if (!copied)
            return copied;
        set_mode_and_time(attributes, to / name);
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) {
        std::cerr << "usage: copy_tree SOURCE PATH DIRECTORY\n";
        return 2;
    }
    const auto client = Client::connect(argv[1]);
    const auto copied = client ? copy_directory(*client, argv[2], argv[3]) : std::unexpected(client.error());
    if (!copied) {
        std::cerr << "copy_tree: " << copied.error().message << '\n';
        return 1;
    }
    return 0;
}
