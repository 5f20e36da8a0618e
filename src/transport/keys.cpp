// SPDX-License-Identifier: MIT
#include "transport/keys.hpp"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utility>

#include "base/assert.hpp"
#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "transport/home_directory.hpp"
#include "transport/text_file.hpp"

namespace remofile::transport {
namespace {

constexpr std::size_t key_bytes = 32;
constexpr std::size_t key_text_bytes = 40;
constexpr std::size_t max_key_file_bytes = 4096;  // one line and whatever blanks an editor left

using KeyBytes = std::array<std::uint8_t, key_bytes>;

std::string to_z85(const KeyBytes& bytes) {
    char text[key_text_bytes + 1];
    REMOFILE_ASSERT(zmq_z85_encode(text, bytes.data(), bytes.size()) != nullptr);
    std::string result(text, key_text_bytes);
    sodium_memzero(text, sizeof(text));
    return result;
}

bool from_z85(std::string_view z85, KeyBytes& bytes) {
    if (z85.size() != key_text_bytes)
        return false;
    std::string text(z85);
    bool valid = zmq_z85_decode(bytes.data(), text.c_str()) != nullptr;
    if (valid) {
        // libzmq's decoder lets some strings pass that stand for no number; only the exact inverse counts.
        std::string again = to_z85(bytes);
        valid = again == text;
        sodium_memzero(again.data(), again.size());
    }
    sodium_memzero(text.data(), text.size());
    return valid;
}

std::filesystem::path public_file_of(const std::filesystem::path& secret_file) {
    std::filesystem::path file = secret_file;
    return file.replace_extension(".pub");
}

Error file_error(const std::filesystem::path& file, std::string_view what) {
    const Status status = from_errno(errno);
    return make_error(status, fmt::format("{} {}: {}", what, file.native(), describe(status)));
}

// A new file of a random name beside `target`, complete and on disk; removed unless it has been given its place.
class TemporaryFile {
public:
    static Result<TemporaryFile> write(const std::filesystem::path& target, std::string_view text, mode_t mode) {
        TemporaryFile file;
        file.path_ = target.native() + ".XXXXXX";
        const UniqueFd fd(mkostemp(file.path_.data(), O_CLOEXEC));
        if (!fd) {
            file.path_.clear();
            return file_error(target, "cannot write beside");
        }
        const bool complete = ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                              fchmod(fd.get(), mode) == 0 && fsync(fd.get()) == 0;
        if (!complete)
            return file_error(target, "cannot write");
        return file;
    }
    TemporaryFile(TemporaryFile&& other) noexcept : path_(std::exchange(other.path_, {})) {}
    TemporaryFile& operator=(TemporaryFile&&) = delete;
    ~TemporaryFile() {
        if (!path_.empty())
            ::unlink(path_.c_str());
    }

    // Takes the place of `target`, whatever is there.
    Result<> replace(const std::filesystem::path& target) {
        if (::rename(path_.c_str(), target.c_str()) != 0)
            return file_error(target, "cannot write");
        path_.clear();
        return {};
    }
    // Appears as `target` unless there is one already: `exists`.
    Result<> appear_as(const std::filesystem::path& target) {
        if (::link(path_.c_str(), target.c_str()) == 0)
            return {};
        if (errno == EEXIST)
            return make_error(Status::exists, target.native() + " exists already");
        // A file system without hard links.
        if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target.c_str(), RENAME_NOREPLACE) == 0) {
            path_.clear();
            return {};
        }
        if (errno == EEXIST)
            return make_error(Status::exists, target.native() + " exists already");
        return file_error(target, "cannot write");
    }

private:
    TemporaryFile() = default;
    std::string path_;
};

Result<> make_directory_for(const std::filesystem::path& file) {
    const std::filesystem::path directory = file.parent_path();
    if (directory.empty())
        return {};
    std::error_code failure;
    if (std::filesystem::is_directory(directory, failure))
        return {};
    REMOFILE_CHECK(make_directory_for(directory));
    if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
        return file_error(directory, "cannot make the directory");
    return {};
}

Result<TemporaryFile> write_secret(const std::filesystem::path& secret_file, const KeyPair& pair) {
    std::string text = pair.secret_text() + "\n";
    auto written = TemporaryFile::write(secret_file, text, 0600);
    sodium_memzero(text.data(), text.size());
    return written;
}

Result<> write_public(const std::filesystem::path& secret_file, const KeyPair& pair) {
    const std::filesystem::path file = public_file_of(secret_file);
    REMOFILE_TRY(written, TemporaryFile::write(file, pair.public_key().to_text() + "\n", 0644));
    return written.replace(file);
}

}  // namespace

Result<PublicKey> PublicKey::from_text(std::string_view z85) {
    PublicKey key;
    if (!from_z85(z85, key.bytes))
        return make_error(Status::invalid, "\"" + log::printable(z85.substr(0, 2 * key_text_bytes)) +
                                               "\" is no key: a key is 40 characters of Z85");
    return key;
}

std::string PublicKey::to_text() const {
    return to_z85(bytes);
}

KeyPair KeyPair::generate() {
    REMOFILE_ASSERT(sodium_init() >= 0);
    KeyPair pair;
    // A line of authorized_keys that begins with '#' is a comment.
    do {
        REMOFILE_ASSERT(crypto_box_keypair(pair.public_key_.bytes.data(), pair.secret_.data()) == 0);
    } while (pair.public_key_.to_text().starts_with('#'));
    return pair;
}

Result<KeyPair> KeyPair::from_secret_text(std::string_view z85) {
    REMOFILE_ASSERT(sodium_init() >= 0);
    KeyPair pair;
    // The text stays out of the message: it may be a secret with one character wrong.
    if (!from_z85(z85, pair.secret_))
        return make_error(Status::invalid, "not a secret key: it must be 40 characters of Z85");
    if (crypto_scalarmult_base(pair.public_key_.bytes.data(), pair.secret_.data()) != 0)
        return make_error(Status::invalid, "not a usable secret key");
    return pair;
}

KeyPair::~KeyPair() {
    sodium_memzero(secret_.data(), secret_.size());
}

std::string KeyPair::secret_text() const {
    return to_z85(secret_);
}

Result<std::filesystem::path> config_directory() {
    const auto variable = [](const char* name) {
        const char* value = std::getenv(name);
        return std::string(value != nullptr ? value : "");
    };
    if (const std::string chosen = variable("REMOFILE_CONFIG_DIR"); !chosen.empty())
        return std::filesystem::path(chosen);
    if (geteuid() == 0)
        return std::filesystem::path("/etc/remofile");
    // The XDG base directory specification: a relative path is to be ignored.
    if (const std::string chosen = variable("XDG_CONFIG_HOME"); chosen.starts_with('/'))
        return std::filesystem::path(chosen) / "remofile";
    // Not HOME, which may be somebody else's: mount.fuse3 sets it to root's where a user mounts by a line of fstab.
    REMOFILE_TRY(home, home_directory());
    return home / ".config" / "remofile";
}

Result<KeyPair> load_key_pair(const std::filesystem::path& secret_file) {
    const std::string& name = secret_file.native();
    const UniqueFd fd(::open(secret_file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!fd && errno == ELOOP)
        return make_error(Status::access_denied,
                          name + " is a symbolic link, which is not followed for a secret key; name the file itself");
    if (!fd)
        return file_error(secret_file, "cannot read the key file");
    struct stat attributes {};
    if (fstat(fd.get(), &attributes) != 0)
        return file_error(secret_file, "cannot read the key file");
    if (!S_ISREG(attributes.st_mode))
        return make_error(Status::access_denied, name + " is not a regular file; a secret key must be in one");
    if (attributes.st_uid != geteuid() && attributes.st_uid != 0)
        return make_error(Status::access_denied,
                          fmt::format("the secret key {} belongs to user {}; make it yours with chown, or use another",
                                      name, attributes.st_uid));
    if ((attributes.st_mode & 077) != 0)
        return make_error(Status::access_denied,
                          fmt::format("others can get at the secret key {} (mode {:04o}); run: chmod 600 {}", name,
                                      attributes.st_mode & 07777U, name));
    REMOFILE_TRY(text, read_text(fd.get(), secret_file, max_key_file_bytes));
    auto pair = KeyPair::from_secret_text(trimmed(text));
    sodium_memzero(text.data(), text.size());
    if (!pair)
        return make_error(Status::invalid, name + ": " + pair.error().message);
    return pair;
}

Result<> create_secret_file(const std::filesystem::path& file, std::string_view text, bool overwrite) {
    std::error_code ignored;
    const auto type = std::filesystem::symlink_status(file, ignored).type();
    if (overwrite && type != std::filesystem::file_type::not_found && type != std::filesystem::file_type::regular)
        return make_error(Status::invalid, file.native() + " is no regular file, and is not replaced");
    REMOFILE_TRY(written, TemporaryFile::write(file, text, 0600));
    return overwrite ? written.replace(file) : written.appear_as(file);
}

Result<KeyPair> create_key_pair(const std::filesystem::path& secret_file, bool overwrite) {
    const KeyPair pair = KeyPair::generate();
    REMOFILE_CHECK(make_directory_for(secret_file));
    const std::filesystem::path public_file = public_file_of(secret_file);
    if (!overwrite && ::access(public_file.c_str(), F_OK) == 0)
        return make_error(Status::exists, public_file.native() + " exists already");
    REMOFILE_TRY(written, write_secret(secret_file, pair));
    REMOFILE_CHECK(overwrite ? written.replace(secret_file) : written.appear_as(secret_file));
    REMOFILE_CHECK(write_public(secret_file, pair));
    return pair;
}

Result<KeyPair> load_or_create_key_pair(const std::filesystem::path& secret_file) {
    auto loaded = load_key_pair(secret_file);
    if (!loaded && loaded.error().status == Status::no_entry) {
        REMOFILE_CHECK(make_directory_for(secret_file));
        const KeyPair pair = KeyPair::generate();
        REMOFILE_TRY(written, write_secret(secret_file, pair));
        const bool was_known = ::access(public_file_of(secret_file).c_str(), F_OK) == 0;
        const Result<> placed = written.appear_as(secret_file);
        if (!placed && placed.error().status != Status::exists)
            return placed.error();
        if (placed && was_known)
            log::warn("{} was not there, so a new key was made; whoever knew the old one has to be told what is in {}",
                      secret_file.native(), public_file_of(secret_file).native());
        // Whoever was first: this is the pair now.
        loaded = load_key_pair(secret_file);
    }
    if (!loaded)
        return loaded;
    const auto known = load_public_key(public_file_of(secret_file));
    if (!known || *known != loaded->public_key()) {
        // The secret key is what counts; the other file only tells people. A read-only directory must not stop us.
        if (const auto written = write_public(secret_file, *loaded); !written)
            log::warn("{}", written.error().message);
    }
    return loaded;
}

Result<PublicKey> load_public_key(const std::filesystem::path& file) {
    REMOFILE_TRY(text, read_text_file(file, max_key_file_bytes));
    auto key = PublicKey::from_text(trimmed(text));
    if (!key)
        return make_error(Status::invalid, file.native() + ": " + key.error().message);
    return key;
}

}  // namespace remofile::transport
