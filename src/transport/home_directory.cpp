// SPDX-License-Identifier: MIT
#include "transport/home_directory.hpp"

#include <pwd.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>

namespace remofile::transport {

Result<std::filesystem::path> home_directory() {
    passwd entry{};
    passwd* found = nullptr;
    std::array<char, 16384> text{};
    getpwuid_r(geteuid(), &entry, text.data(), text.size(), &found);
    std::string home = found != nullptr && found->pw_dir != nullptr ? found->pw_dir : "";
    const char* variable = std::getenv("HOME");
    if (!home.starts_with('/') && variable != nullptr)
        home = variable;
    if (!home.starts_with('/'))
        return make_error(Status::bad_usage,
                          "cannot tell the home directory: set HOME, or REMOFILE_CONFIG_DIR to the directory of keys");
    return std::filesystem::path(home);
}

}  // namespace remofile::transport
