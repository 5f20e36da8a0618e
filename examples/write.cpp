// SPDX-License-Identifier: MIT
// Writes standard input to a remote file, which is made or replaced: write SOURCE PATH
#include <iostream>
#include <remofile/client.hpp>
#include <vector>

using libremofile::Open;

namespace {

libremofile::Result<> write_input(const libremofile::Client& client, const libremofile::Path& path) {
    auto file = client.open(path, Open::write | Open::create | Open::truncate);
    if (!file)
        return std::unexpected(file.error());
    // Large pieces: each travels as several requests at once.
    std::vector<char> buffer(8U << 20);
    std::uint64_t offset = 0;
    while (std::cin) {
        std::cin.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
        const std::span<const char> piece(buffer.data(), static_cast<std::size_t>(std::cin.gcount()));
        if (const auto written = file->pwrite(std::as_bytes(piece), offset); !written)
            return written;
        offset += piece.size();
    }
    if (const auto durable = file->sync(); !durable)
        return durable;
    return file->close();
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::cerr << "usage: write SOURCE PATH\n";
        return 2;
    }
    const auto client = libremofile::Client::connect(argv[1]);
    const auto written = client ? write_input(*client, argv[2]) : std::unexpected(client.error());
    if (!written) {
        std::cerr << "write: " << written.error().message << '\n';
        return 1;
    }
    return 0;
}
