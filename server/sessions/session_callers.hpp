// SPDX-License-Identifier: MIT
// Whom the requests of a session act as: the credentials that its client has numbered.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "base/result.hpp"
#include "server/file_service.hpp"
#include "transport/keys.hpp"
#include "wire/messages.hpp"

namespace remofile::server {

struct CallerPolicy {
    bool client_identity = false;  // --identity=client; otherwise every request acts as the server's own user
    bool allow_root = false;       // --allow-root; otherwise a client's root becomes `anonymous`, as NFS's root_squash
    // Every request acts as that user; then credentials say nothing. None: as above.
    std::optional<transport::Account> account = {};
};

// Whom a client's root, and a request without a credential, act as under --identity=client: "nobody" and "nogroup".
inline constexpr uid_t anonymous_id = 65534;

// One session's; one thread.
class SessionCallers {
public:
    explicit SessionCallers(CallerPolicy policy);

    // Binds a number. Errors: invalid for number 0 or an id that stands for "none", limit_exceeded for too many
    // groups or numbers.
    Result<> bind(const wire::Credential& credential);

    // Whom a number stands for, with what a request of theirs says of set-id bits; null for one that was never bound.
    std::shared_ptr<const Caller> find(std::uint32_t number, wire::SetId set_id) const;

private:
    // Numbers of one session: the users of the client's machine that use the mount.
    static constexpr std::size_t max_numbers = 1024;

    // One caller with each of what requests may say; shared with the requests under way.
    struct Variants {
        explicit Variants(const Caller& caller);
        std::shared_ptr<const Caller> as_caller;
        std::shared_ptr<const Caller> drop;
        std::shared_ptr<const Caller> keep;
        const std::shared_ptr<const Caller>& of(wire::SetId set_id) const;
    };

    const CallerPolicy policy_;
    const Variants unnumbered_;
    std::map<std::uint32_t, Variants> numbered_;
};

}  // namespace remofile::server
