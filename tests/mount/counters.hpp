// SPDX-License-Identifier: MIT
// What remofs counts.
#pragma once

#include <signal.h>

#include <map>
#include <sstream>
#include <string>

#include "harness/mount_process.hpp"
#include "harness/patience.hpp"

namespace remofile::test {

using Counted = std::map<std::string, std::uint64_t>;

// All counters of a mount in the foreground, as it logs them when it is asked to.
inline Counted counters_of(MountProcess& mount) {
    const std::string before = mount.errors();
    mount.process().signal(SIGUSR1);
    std::string log;
    eventually(Milliseconds{10'000}, [&] {
        log = mount.errors().substr(before.size());
        return log.find("cache.bytes") != std::string::npos && log.ends_with('\n');
    });
    Counted counted;
    std::istringstream words(log);
    for (std::string word; words >> word;) {
        const auto equals = word.find('=');
        if (equals != std::string::npos && word.find_first_not_of("0123456789", equals + 1) == std::string::npos)
            counted[word.substr(0, equals)] = std::stoull(word.substr(equals + 1));
    }
    return counted;
}

}  // namespace remofile::test
