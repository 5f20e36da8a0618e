// SPDX-License-Identifier: MIT
// Which keys are let in, and to which exports.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/guarded.hpp"
#include "server/sessions/service.hpp"
#include "transport/keys.hpp"

namespace remofile::server {

// Whoever is in the authorized_keys file of any export may connect; what they may use is asked of the export's own
// file. The account's own client is in each. Callable from any thread.
class ClientKeys final : public transport::Authorizer {
public:
    // `own_identity`: the file of the account's own public key.
    explicit ClientKeys(std::filesystem::path own_identity) : own_identity_(std::move(own_identity)) {}

    // From now on these files count, as they are now; they are read again whenever they change.
    void use(const std::set<std::string>& files);

    std::optional<std::string> authorize(const transport::PublicKey& key, std::string_view address) override;

    // What a key may do in the export of that name, whose file it is; nothing: it may not use it. As of the latest
    // authorize(), and without system calls.
    std::optional<Admittance> admits(const std::string& file, std::string_view export_name,
                                     const transport::PublicKey& key);

private:
    // Shared with the threads that are just asking.
    using Files = std::map<std::string, std::shared_ptr<transport::FileAuthorizer>>;

    const std::filesystem::path own_identity_;
    Guarded<Files> files_;
};

}  // namespace remofile::server
