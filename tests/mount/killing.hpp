// SPDX-License-Identifier: MIT
// A server that is killed or ended, and started again, while a program is at work on its mount.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>

#include "harness/child.hpp"
#include "harness/server_process.hpp"

namespace remofile::test {

// A number that the environment gives, or that one.
inline std::uint32_t number_from(const char* variable, std::uint32_t otherwise) {
    const char* text = std::getenv(variable);
    return text == nullptr ? otherwise : static_cast<std::uint32_t>(std::stoul(text));
}

// Kills the server at random moments, or ends it as an administrator does (SIGTERM), at most so often, until the
// program has ended; returns how often.
inline std::uint32_t kill_under(ServerProcess& server, Child& program, std::mt19937& random, std::uint32_t kills) {
    std::uint32_t killed = 0;
    for (; killed < kills && program.running(); ++killed) {
        std::this_thread::sleep_for(Milliseconds{20 + random() % 180});
        if (random() % 2 == 0)
            server.kill();
        else
            server.stop();
        server.start_again();
    }
    return killed;
}

}  // namespace remofile::test
