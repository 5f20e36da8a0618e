// SPDX-License-Identifier: MIT
#include "server/program/client_keys.hpp"

#include <utility>

namespace remofile::server {

void ClientKeys::use(const std::set<std::string>& files) {
    const Files before = files_.with([](const Files& all) { return all; });
    Files now;
    for (const std::string& file : files) {
        if (const auto known = before.find(file); known != before.end()) {
            known->second->refresh();
            now.insert(*known);
        } else {
            now.emplace(file, transport::make_file_authorizer(file, own_identity_));
        }
    }
    files_.with([&](Files& all) { all.swap(now); });
}

// All files are asked, so that all are as of now when the key's rights are looked up.
std::optional<std::string> ClientKeys::authorize(const transport::PublicKey& key, std::string_view address) {
    const Files files = files_.with([](const Files& all) { return all; });
    std::optional<std::string> comment;
    for (const auto& [name, file] : files) {
        auto found = file->authorize(key, address);
        if (!comment)
            comment = std::move(found);
    }
    return comment;
}

std::optional<Admittance> ClientKeys::admits(const std::string& file, std::string_view export_name,
                                             const transport::PublicKey& key) {
    const auto keys = files_.with([&](const Files& all) {
        const auto found = all.find(file);
        return found == all.end() ? nullptr : found->second;
    });
    const auto line = keys == nullptr ? std::nullopt : keys->known(key);
    if (!line || !line->may_use(export_name))
        return std::nullopt;
    return Admittance{.read_only = line->read_only, .identity = line->identity};
}

}  // namespace remofile::server
