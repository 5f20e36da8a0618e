// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <map>

#include "base/file_time.hpp"
#include "base/guarded.hpp"
#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "transport/keys.hpp"
#include "transport/text_file.hpp"
#include "wire/export_path.hpp"

namespace remofile::transport {
namespace {

constexpr std::size_t max_comment_bytes = 128;  // it is repeated in log lines and to other clients
constexpr std::size_t max_problems = 10;        // that are told of one file

// What tells one content of a file from the next.
struct FileVersion {
    dev_t device = 0;
    ino_t inode = 0;
    off_t size = 0;
    timespec modified{};
    timespec changed{};
    bool present = false;

    static FileVersion of(const std::filesystem::path& file) {
        struct stat attributes {};
        if (::stat(file.c_str(), &attributes) != 0)
            return {};
        return {.device = attributes.st_dev,
                .inode = attributes.st_ino,
                .size = attributes.st_size,
                .modified = attributes.st_mtim,
                .changed = attributes.st_ctim,
                .present = true};
    }
    friend bool operator==(const FileVersion& a, const FileVersion& b) {
        const auto same = [](const timespec& x, const timespec& y) {
            return x.tv_sec == y.tv_sec && x.tv_nsec == y.tv_nsec;
        };
        return a.device == b.device && a.inode == b.inode && a.size == b.size && same(a.modified, b.modified) &&
               same(a.changed, b.changed) && a.present == b.present;
    }
};

// Whoever can write the file decides who gets in.
Result<> check_trustworthy(const std::filesystem::path& file) {
    struct stat attributes {};
    if (::stat(file.c_str(), &attributes) != 0)
        return errno_error("cannot read " + file.native());
    if (attributes.st_uid != geteuid() && attributes.st_uid != 0)
        return make_error(Status::access_denied, fmt::format("{} belongs to user {}, who could let anybody in",
                                                             file.native(), attributes.st_uid));
    if ((attributes.st_mode & S_IWOTH) != 0)
        return make_error(Status::access_denied,
                          fmt::format("everybody can write {}; run: chmod o-w {}", file.native(), file.native()));
    return {};
}

Result<std::vector<AuthorizedKey>> read_clients(const std::filesystem::path& file) {
    REMOFILE_TRY(lines, read_authorized_keys(file));
    for (const std::string& problem : lines.problems)
        log::error("{}, {}; the line is left out", file.native(), problem);
    return std::move(lines.keys);
}

Result<std::vector<AuthorizedKey>> read_own_identity(const std::filesystem::path& file) {
    REMOFILE_CHECK(check_trustworthy(file));
    REMOFILE_TRY(key, load_public_key(file));
    return std::vector<AuthorizedKey>{{.key = key, .comment = "this account", .exports = {}, .identity = {}}};
}

// One file's keys, as of the last time it changed.
class WatchedKeys {
public:
    using Read = Result<std::vector<AuthorizedKey>> (*)(const std::filesystem::path&);

    WatchedKeys(std::filesystem::path file, Read read) : file_(std::move(file)), read_(read) {}

    using Keys = std::map<PublicKey, AuthorizedKey>;

    // As of now. Shared with who has asked, and constant.
    const std::shared_ptr<const Keys>& keys() {
        refresh();
        return keys_;
    }

private:
    void refresh() {
        const timespec now = coarse_now();
        const FileVersion version = FileVersion::of(file_);
        const bool is_known = version == version_;
        if (is_known && !is_new_)
            return;
        // A file system of another machine has another clock: there it also counts how long this version is known.
        constexpr auto known_well = std::chrono::seconds(4);
        if (!is_known)
            known_since_ = std::chrono::steady_clock::now();
        is_new_ = version.present &&
                  (may_recur(version.changed, now) || std::chrono::steady_clock::now() - known_since_ < known_well);
        version_ = version;
        auto by_key = std::make_shared<Keys>();
        if (version.present) {
            auto keys = read_(file_);
            if (!keys && !is_known)
                log::error("{}; none of its keys is let in", keys.error().to_string());
            for (std::size_t i = 0; keys && i < keys->size(); ++i)
                by_key->emplace((*keys)[i].key, std::move((*keys)[i]));
        }
        keys_ = std::move(by_key);
    }

    std::filesystem::path file_;
    Read read_;
    FileVersion version_;
    bool is_new_ = false;  // another content could have the same version
    std::chrono::steady_clock::time_point known_since_{};
    std::shared_ptr<const Keys> keys_ = std::make_shared<Keys>();
};

class WatchedFiles final : public FileAuthorizer {
public:
    WatchedFiles(std::filesystem::path authorized_keys, std::filesystem::path own_identity)
        : files_(Files{.authorized = WatchedKeys(std::move(authorized_keys), read_clients),
                       .own = WatchedKeys(std::move(own_identity), read_own_identity)}) {
        read();
    }

    std::optional<std::string> authorize(const PublicKey& key, std::string_view) override {
        const auto line = find(read(), key);
        return line ? std::optional(line->comment) : std::nullopt;
    }

    void refresh() override { read(); }

    std::optional<AuthorizedKey> known(const PublicKey& key) override {
        return find(known_.with([](const Known& known) { return known; }), key);
    }

private:
    struct Files {
        WatchedKeys authorized;
        WatchedKeys own;
    };
    // Shared with the files that were read, and constant.
    struct Known {
        std::shared_ptr<const WatchedKeys::Keys> authorized = std::make_shared<WatchedKeys::Keys>();
        std::shared_ptr<const WatchedKeys::Keys> own = authorized;
    };

    Known read() {
        const Known now = files_.with([](Files& files) { return Known{files.authorized.keys(), files.own.keys()}; });
        known_.with([&](Known& known) { known = now; });
        return now;
    }

    static std::optional<AuthorizedKey> find(const Known& known, const PublicKey& key) {
        for (const auto* keys : {known.authorized.get(), known.own.get()}) {
            if (const auto found = keys->find(key); found != keys->end())
                return found->second;
        }
        return std::nullopt;
    }

    // The lock is held while a changed file is read: two connections at once must not read it twice.
    Guarded<Files> files_;
    Guarded<Known> known_;
};

// Up to the first blank that does not stand in quotes.
std::string_view take_quoted_word(std::string_view& rest) {
    bool quoted = false;
    std::size_t end = 0;
    for (; end < rest.size() && (quoted || (rest[end] != ' ' && rest[end] != '\t')); ++end)
        quoted ^= rest[end] == '"';
    const std::string_view word = rest.substr(0, end);
    rest = trimmed(rest.substr(end));
    return word;
}

// The next element of a list with commas, and whether one must follow. Commas in quotes separate nothing.
std::string_view take_element(std::string_view& rest, bool& more) {
    bool quoted = false;
    std::size_t end = 0;
    for (; end < rest.size() && (quoted || rest[end] != ','); ++end)
        quoted ^= rest[end] == '"';
    const std::string_view element = rest.substr(0, end);
    more = end < rest.size();
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return element;
}

Result<> take_export_names(std::string_view value, AuthorizedKey& into) {
    if (value.size() < 2 || value.front() != '"' || value.find('"', 1) != value.size() - 1)
        return make_error(Status::invalid, "export= needs names in quotes, as in export=\"a,b\"");
    std::string_view names = value.substr(1, value.size() - 2);
    for (bool more = true; more;) {
        const std::string_view name = take_element(names, more);
        if (!wire::is_export_name(name))
            return make_error(Status::invalid,
                              fmt::format("\"{}\" is no name of an export",
                                          log::printable(name.substr(0, wire::max_export_name_bytes))));
        into.exports.emplace_back(name);
    }
    return {};
}

// As getgrouplist(3) gives them, the user's own among them.
std::vector<gid_t> groups_of(const char* user, gid_t own) {
    std::vector<gid_t> groups(64);
    int count = static_cast<int>(groups.size());
    while (::getgrouplist(user, own, groups.data(), &count) < 0)
        groups.resize(static_cast<std::size_t>(count));
    groups.resize(static_cast<std::size_t>(count));
    return groups;
}

// "UID:GID", of whoever that is. The last number means "none" to the system calls.
std::optional<Account> numbered_account(std::string_view text) {
    Account account;
    const char* end = text.data() + text.size();
    const auto uid = std::from_chars(text.data(), end, account.uid);
    if (uid.ec != std::errc() || uid.ptr == end || *uid.ptr != ':')
        return std::nullopt;
    const auto gid = std::from_chars(uid.ptr + 1, end, account.gid);
    if (gid.ec != std::errc() || gid.ptr != end || account.uid == static_cast<uid_t>(-1) ||
        account.gid == static_cast<gid_t>(-1))
        return std::nullopt;
    account.groups = {account.gid};
    return account;
}

std::optional<Account> named_account(const std::string& name) {
    passwd entry{};
    passwd* found = nullptr;
    std::array<char, 16384> text{};
    if (::getpwnam_r(name.c_str(), &entry, text.data(), text.size(), &found) != 0 || found == nullptr)
        return std::nullopt;
    return Account{.uid = found->pw_uid, .gid = found->pw_gid, .groups = groups_of(name.c_str(), found->pw_gid)};
}

Result<> take_identity(std::string_view value, AuthorizedKey& into) {
    constexpr std::size_t most_name_bytes = 256;
    if (value.size() < 3 || value.front() != '"' || value.find('"', 1) != value.size() - 1)
        return make_error(Status::invalid,
                          "identity= needs a user in quotes, as in identity=\"alice\" or \"1000:1000\"");
    const std::string name(value.substr(1, std::min(value.size() - 2, most_name_bytes)));
    into.identity = name.find(':') != std::string::npos ? numbered_account(name) : named_account(name);
    if (!into.identity)
        return make_error(Status::invalid,
                          fmt::format("identity=\"{}\": there is no such user on this machine", log::printable(name)));
    if (::geteuid() != 0)
        return make_error(Status::invalid, "identity= needs a server that root runs: only root can act as others");
    return {};
}

Result<> take_options(std::string_view options, AuthorizedKey& into) {
    constexpr std::string_view export_option = "export=";
    constexpr std::string_view identity_option = "identity=";
    constexpr std::size_t most_shown_bytes = 64;
    for (bool more = true; more;) {
        const std::string_view option = take_element(options, more);
        if (option.starts_with(export_option) && into.exports.empty())
            REMOFILE_CHECK(take_export_names(option.substr(export_option.size()), into));
        else if (option.starts_with(identity_option) && !into.identity)
            REMOFILE_CHECK(take_identity(option.substr(identity_option.size()), into));
        else if (option == "read-only" && !into.read_only)
            into.read_only = true;
        else
            return make_error(Status::invalid, fmt::format("the option {} is unknown, or stands there twice",
                                                           log::printable(option.substr(0, most_shown_bytes))));
    }
    return {};
}

// Options are told from a key that somebody has mistyped by a letter that no key has, or by the key that follows.
bool are_options(std::string_view word, std::string_view rest) {
    return word == "read-only" || word.starts_with("export=") || word.starts_with("identity=") ||
           word.find_first_of("\",") != std::string_view::npos || PublicKey::from_text(take_word(rest));
}

Result<AuthorizedKey> parse_line(std::string_view line) {
    AuthorizedKey entry;
    std::string_view rest = line;
    if (const std::string_view word = take_quoted_word(rest); !PublicKey::from_text(word) && are_options(word, rest))
        REMOFILE_CHECK(take_options(word, entry));
    else
        rest = line;
    REMOFILE_TRY(key, PublicKey::from_text(take_word(rest)));
    entry.key = key;
    entry.comment = log::printable(trimmed(rest).substr(0, max_comment_bytes));
    return entry;
}

}  // namespace

bool AuthorizedKey::may_use(std::string_view export_name) const {
    return exports.empty() || std::ranges::find(exports, export_name) != exports.end();
}

Result<AuthorizedKeyLines> read_authorized_keys(const std::filesystem::path& file) {
    REMOFILE_CHECK(check_trustworthy(file));
    REMOFILE_TRY(text, read_text_file(file, max_list_file_bytes));
    AuthorizedKeyLines lines;
    lines.keys = parse_authorized_keys(text, lines.problems);
    return lines;
}

std::vector<AuthorizedKey> parse_authorized_keys(std::string_view text, std::vector<std::string>& problems) {
    std::vector<AuthorizedKey> keys;
    for (std::size_t number = 1; !text.empty(); ++number) {
        const std::string_view line = trimmed(take_line(text));
        if (is_comment(line))
            continue;
        auto entry = parse_line(line);
        if (entry)
            keys.emplace_back(std::move(*entry)).line = number;
        else if (problems.size() < max_problems)
            problems.push_back(fmt::format("line {}: {}", number, entry.error().message));
    }
    return keys;
}

std::unique_ptr<FileAuthorizer> make_file_authorizer(std::filesystem::path authorized_keys,
                                                     std::filesystem::path own_identity) {
    return std::make_unique<WatchedFiles>(std::move(authorized_keys), std::move(own_identity));
}

}  // namespace remofile::transport
