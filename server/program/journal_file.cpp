// SPDX-License-Identifier: MIT
#include "server/program/journal_file.hpp"

#include <sodium.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>

namespace remofile::server {
namespace {

// Files that the kernel keeps in memory, so that they end with it, but for $REMOFILE_CONFIG_DIR.
Result<std::filesystem::path> journal_folder() {
    const auto variable = [](const char* name) {
        const char* value = std::getenv(name);
        return std::string(value != nullptr ? value : "");
    };
    // systemd's: the first of a list.
    if (const std::string chosen = variable("RUNTIME_DIRECTORY"); !chosen.empty())
        return std::filesystem::path(chosen.substr(0, chosen.find(':')));
    if (const std::string chosen = variable("REMOFILE_CONFIG_DIR"); !chosen.empty())
        return std::filesystem::path(chosen);
    if (::geteuid() == 0)
        return std::filesystem::path("/run/remofile");
    if (const std::string chosen = variable("XDG_RUNTIME_DIR"); chosen.starts_with('/'))
        return std::filesystem::path(chosen) / "remofile";
    return make_error(Status::no_entry, "XDG_RUNTIME_DIR is not set");
}

std::string file_name(const std::string& directory, const Security& security, std::span<const std::string> endpoints) {
    std::array<std::uint8_t, 16> hash{};
    crypto_generichash_state state;
    crypto_generichash_init(&state, nullptr, 0, hash.size());
    const auto add = [&](std::string_view text) {
        constexpr std::uint8_t end = 0;
        crypto_generichash_update(&state, reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
        crypto_generichash_update(&state, &end, 1);
    };
    std::error_code failed;
    const std::filesystem::path real = std::filesystem::canonical(directory, failed);
    add(failed ? directory : real.string());
    add(security.server_key ? security.server_key->public_key().to_text() : "");
    for (const std::string& endpoint : endpoints)
        add(endpoint);
    crypto_generichash_final(&state, hash.data(), hash.size());
    std::array<char, hash.size() * 2 + 1> text{};
    sodium_bin2hex(text.data(), text.size(), hash.data(), hash.size());
    return std::string("answers-") + text.data();
}

}  // namespace

std::string machine_start() {
    std::string id;
    std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
    return id;
}

Result<std::string> prepare_journal_folder() {
    REMOFILE_TRY(folder, journal_folder());
    std::error_code failed;
    if (std::filesystem::create_directory(folder, failed))
        std::filesystem::permissions(folder, std::filesystem::perms::owner_all, failed);
    return folder.string();
}

Result<std::shared_ptr<AnswerJournal>> open_journal(const std::string& directory, const Security& security,
                                                    std::span<const std::string> endpoints) {
    REMOFILE_TRY(folder, prepare_journal_folder());
    return AnswerJournal::open(std::filesystem::path(folder) / file_name(directory, security, endpoints),
                               machine_start());
}

}  // namespace remofile::server
