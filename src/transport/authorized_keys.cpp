// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <map>

#include "base/file_time.hpp"
#include "base/guarded.hpp"
#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "transport/keys.hpp"
#include "transport/text_file.hpp"

namespace remofile::transport {
namespace {

constexpr std::size_t max_list_file_bytes = 4U << 20;  // some 60,000 keys; parsed anew after each change
constexpr std::size_t max_comment_bytes = 128;         // it is repeated in log lines and to other clients
constexpr std::size_t max_problems = 10;               // that are told of one file

bool is_skipped(std::string_view line) {
    return line.empty() || line.front() == '#';
}

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

Result<std::vector<AuthorizedKey>> read_authorized_keys(const std::filesystem::path& file) {
    REMOFILE_CHECK(check_trustworthy(file));
    REMOFILE_TRY(text, read_text_file(file, max_list_file_bytes));
    std::vector<std::string> problems;
    auto keys = parse_authorized_keys(text, problems);
    for (const std::string& problem : problems)
        log::error("{}, {}; the line is left out", file.native(), problem);
    return keys;
}

Result<std::vector<AuthorizedKey>> read_own_identity(const std::filesystem::path& file) {
    REMOFILE_CHECK(check_trustworthy(file));
    REMOFILE_TRY(key, load_public_key(file));
    return std::vector<AuthorizedKey>{{.key = key, .comment = "this account"}};
}

// One file's keys, as of the last time it changed.
class WatchedKeys {
public:
    using Read = Result<std::vector<AuthorizedKey>> (*)(const std::filesystem::path&);

    WatchedKeys(std::filesystem::path file, Read read) : file_(std::move(file)), read_(read) {}

    std::optional<std::string> find(const PublicKey& key) {
        refresh();
        const auto found = comments_.find(key);
        return found == comments_.end() ? std::nullopt : std::optional(found->second);
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
        comments_.clear();
        if (!version.present)
            return;
        const auto keys = read_(file_);
        if (!keys) {
            if (!is_known)
                log::error("{}; none of its keys is let in", keys.error().to_string());
            return;
        }
        for (const AuthorizedKey& entry : *keys)
            comments_.emplace(entry.key, entry.comment);
    }

    std::filesystem::path file_;
    Read read_;
    FileVersion version_;
    bool is_new_ = false;  // another content could have the same version
    std::chrono::steady_clock::time_point known_since_{};
    std::map<PublicKey, std::string> comments_;
};

class FileAuthorizer final : public Authorizer {
public:
    FileAuthorizer(std::filesystem::path authorized_keys, std::filesystem::path own_identity)
        : files_(Files{.authorized = WatchedKeys(std::move(authorized_keys), read_authorized_keys),
                       .own = WatchedKeys(std::move(own_identity), read_own_identity)}) {}

    std::optional<std::string> authorize(const PublicKey& key, std::string_view) override {
        return files_.with([&](Files& files) {
            const auto comment = files.authorized.find(key);
            return comment ? comment : files.own.find(key);
        });
    }

private:
    struct Files {
        WatchedKeys authorized;
        WatchedKeys own;
    };
    // The lock is held while a changed file is read: two connections at once must not read it twice.
    Guarded<Files> files_;
};

}  // namespace

std::vector<AuthorizedKey> parse_authorized_keys(std::string_view text, std::vector<std::string>& problems) {
    std::vector<AuthorizedKey> keys;
    for (std::size_t number = 1; !text.empty(); ++number) {
        std::string_view rest = trimmed(take_line(text));
        if (is_skipped(rest))
            continue;
        const auto key = PublicKey::from_text(take_word(rest));
        if (key)
            keys.push_back({.key = *key, .comment = log::printable(trimmed(rest).substr(0, max_comment_bytes))});
        else if (problems.size() < max_problems)
            problems.push_back(fmt::format("line {}: {}", number, key.error().message));
    }
    return keys;
}

Result<std::optional<PublicKey>> find_known_server(const std::filesystem::path& file, std::string_view host_and_port) {
    auto content = read_text_file(file, max_list_file_bytes);
    if (!content && content.error().status == Status::no_entry)
        return std::optional<PublicKey>();
    if (!content)
        return content.error();
    std::string_view text = *content;
    std::optional<PublicKey> found;
    std::optional<Error> wrong;  // this server's line
    for (std::size_t number = 1; !text.empty(); ++number) {
        std::string_view rest = trimmed(take_line(text));
        if (is_skipped(rest))
            continue;
        const std::string_view server = take_word(rest);
        const auto key = PublicKey::from_text(take_word(rest));
        if (key && !found && server == host_and_port)
            found = *key;
        if (key)
            continue;
        const std::string problem = fmt::format("{}, line {}: after {}, {}", file.native(), number,
                                                log::printable(server), key.error().message);
        if (server == host_and_port)
            wrong = wrong ? wrong : make_error(Status::invalid, problem);
        else
            log::warn("{}; the line is left out", problem);
    }
    if (!found && wrong)
        return *wrong;
    return found;
}

std::unique_ptr<Authorizer> make_file_authorizer(std::filesystem::path authorized_keys,
                                                 std::filesystem::path own_identity) {
    return std::make_unique<FileAuthorizer>(std::move(authorized_keys), std::move(own_identity));
}

}  // namespace remofile::transport
