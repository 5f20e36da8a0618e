// SPDX-License-Identifier: MIT
// CURVE keys and the files that hold them. docs/PROTOCOL.md, "Keys", gives the formats.
//
// The configuration directory is $REMOFILE_CONFIG_DIR if set, else /etc/remofile for root, else
// $XDG_CONFIG_HOME/remofile, else ~/.config/remofile. In it:
//   server.key, server.pub      a server's key pair
//   identity.key, identity.pub  a client's key pair
//   authorized_keys             clients that a server lets in: options, a public key and a comment a line; # starts a
//                               comment
//   known_servers               servers and their keys: "HOST:PORT KEY" a line; several of one that is to change its
//                               key
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace remofile::transport {

// A public CURVE key. As text it is Z85: 40 characters.
struct PublicKey {
    std::array<std::uint8_t, 32> bytes{};

    static Result<PublicKey> from_text(std::string_view z85);
    std::string to_text() const;
    friend auto operator<=>(const PublicKey&, const PublicKey&) = default;
};

// A key pair; the secret is wiped from memory when it goes.
class KeyPair {
public:
    // A new pair, whose public key as text can be told from a comment.
    static KeyPair generate();
    static Result<KeyPair> from_secret_text(std::string_view z85);
    KeyPair(const KeyPair&) = default;
    KeyPair& operator=(const KeyPair&) = default;
    ~KeyPair();

    const PublicKey& public_key() const { return public_key_; }
    // Z85; the caller keeps it no longer than needed.
    std::string secret_text() const;

private:
    KeyPair() = default;
    PublicKey public_key_;
    std::array<std::uint8_t, 32> secret_{};
};

// The directory described above; it may not exist yet. Error: bad_usage when no home directory can be told.
Result<std::filesystem::path> config_directory();

// Reads a secret key file. Errors: no_entry; access_denied when group or others may read it, when it is not a regular
// file, or when it belongs to neither this user nor root; invalid when it holds no key. Each message names the file and
// the remedy.
Result<KeyPair> load_key_pair(const std::filesystem::path& secret_file);

// The same, but makes the pair on first use: NAME.key with mode 0600 and NAME.pub with 0644, each complete or absent
// whoever else does the same at the same time (both then end with the same pair). Where NAME.pub shows that it is not
// the first one, the log has a warning.
Result<KeyPair> load_or_create_key_pair(const std::filesystem::path& secret_file);

// Writes a file that its owner alone may read, complete or not at all; `exists` if it is there and `overwrite` is
// false, invalid if that is no regular file.
Result<> create_secret_file(const std::filesystem::path& file, std::string_view text, bool overwrite);

// Writes a new pair; `exists` if either file is there and `overwrite` is false.
Result<KeyPair> create_key_pair(const std::filesystem::path& secret_file, bool overwrite);

Result<PublicKey> load_public_key(const std::filesystem::path& file);

// A user of this machine, and the groups that a process of theirs has.
struct Account {
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> groups;
};

struct AuthorizedKey {
    PublicKey key;
    std::string comment;
    std::vector<std::string> exports;  // that it may use, by their names; none: all
    bool read_only = false;
    std::optional<Account> identity;  // whom its requests act as; none: as the export says
    std::size_t line = 0;             // of its file, from 1 on

    // Whether it may use the export of that name; the empty name is that of an export without one.
    bool may_use(std::string_view export_name) const;
};

// The keys in the text of an authorized_keys file. As in sshd's, options may stand before a key, separated by commas:
// export="NAME,...", read-only and identity="USER" or "UID:GID", which only root's server can have. A line that holds
// no key, an option that is not understood, or a user that there is not, is left out, and `problems` says why, naming
// the line; of many only the first.
std::vector<AuthorizedKey> parse_authorized_keys(std::string_view text, std::vector<std::string>& problems);

// The keys that known_servers has for an endpoint, in their order and each once: more than one if the server is to
// change its key. What is beyond max_known_keys does not count. Lines of other servers that hold no key are left out,
// with a warning in the log. Error: invalid, naming the line, if they are this server's and no other line has a key.
inline constexpr std::size_t max_known_keys = 8;  // each may cost an attempt to connect
Result<std::vector<PublicKey>> find_known_server(const std::filesystem::path& file, std::string_view host_and_port);

// Makes these the only lines of an endpoint; all other lines stay as they are. The file, whose directory must be there,
// is replaced by one that its owner alone may read, whole or not at all; whoever does the same at the same time waits.
// Errors: those of reading and writing, naming the file.
Result<> write_known_server(const std::filesystem::path& file, std::string_view host_and_port,
                            std::span<const PublicKey> keys);

// The same for a server that has proved to hold the first of the keys, if that is known already: nothing is written for
// a server that is not known by it, nor if all is as it should be. Whether something was. Waits for a moment only for
// those who write there too: `busy`.
Result<bool> update_known_server(const std::filesystem::path& file, std::string_view host_and_port,
                                 std::span<const PublicKey> keys);

// Which clients a server lets in: read again whenever a file has changed, so that an edit takes effect at the next
// connection. A file that cannot be read lets nobody in, a line without a key nobody either; both are logged. Callable
// from any thread.
class Authorizer {
public:
    virtual ~Authorizer() = default;
    // The comment of the key's line if the key is authorised.
    virtual std::optional<std::string> authorize(const PublicKey& key, std::string_view address) = 0;
};

class FileAuthorizer : public Authorizer {
public:
    // Reads what has changed, as authorize() does.
    virtual void refresh() = 0;
    // The first line of a key, as the files were when they were read last. Takes no system call, and does not wait for
    // one.
    virtual std::optional<AuthorizedKey> known(const PublicKey& key) = 0;
};

// Keys of `authorized_keys` (need not exist) and the single key in the file `own_identity` (need not exist): the
// account's own identity.pub. They are read at once. Either file must belong to this user or root and must not be
// writable by everybody.
std::unique_ptr<FileAuthorizer> make_file_authorizer(std::filesystem::path authorized_keys,
                                                     std::filesystem::path own_identity);

// The lines of an authorized_keys file that the server would use, and what is wrong with the others. Errors: no_entry,
// access_denied if others could let anybody in by it, too_big; each names the file.
struct AuthorizedKeyLines {
    std::vector<AuthorizedKey> keys;
    std::vector<std::string> problems;
};
Result<AuthorizedKeyLines> read_authorized_keys(const std::filesystem::path& file);

}  // namespace remofile::transport
