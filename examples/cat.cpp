// SPDX-License-Identifier: MIT
// Writes a remote file to standard output: cat SOURCE PATH, for example: cat localhost:/ notes/today.txt
#include <iostream>
#include <remofile/client.hpp>
#include <remofile/stream.hpp>

int main(int argc, char** argv) {
    if (argc != 3)
        return std::cerr << "usage: cat SOURCE PATH\n", 2;
    const auto client = libremofile::Client::connect(argv[1]);
    if (!client)
        return std::cerr << client.error().message << '\n', 1;
    auto file = client->open(argv[2]);
    if (!file)
        return std::cerr << file.error().message << '\n', 1;
    libremofile::Stream stream(std::move(*file));
    std::cout << stream.rdbuf() << std::flush;
    if (const auto closed = stream.close(); !closed)
        return std::cerr << closed.error().message << '\n', 1;
    return std::cout.bad() ? 1 : 0;
}
