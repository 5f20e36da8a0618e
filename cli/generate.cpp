// SPDX-License-Identifier: MIT
// remofile generate-keys and generate-token: secrets for clients and servers.
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <memory>

#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "cli/command.hpp"
#include "transport/keys.hpp"

namespace remofile::cli {
namespace {

// 256 bits: as hard to guess as a key.
constexpr std::size_t token_entropy_bytes = 32;

struct Options {
    std::string file;
    bool overwrite = false;
};

Result<> generate_keys(const Options& options) {
    std::filesystem::path file = options.file;
    if (file.empty()) {
        REMOFILE_TRY(directory, transport::config_directory());
        file = directory / "identity.key";
    }
    auto pair = transport::create_key_pair(file, options.overwrite);
    if (!pair && pair.error().status == Status::exists)
        return make_error(Status::exists, pair.error().message + "; pass --force to replace it");
    if (!pair)
        return pair.error();
    const std::string text =
        fmt::format("secret key: {}\npublic key: {}\n", file.native(), pair->public_key().to_text());
    std::fputs(text.c_str(), stdout);
    return {};
}

Result<std::string> random_token() {
    std::array<unsigned char, token_entropy_bytes> bytes{};
    if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
        return errno_error("the system has no random numbers");
    std::string token;
    for (const unsigned char byte : bytes)
        token += fmt::format("{:02x}", byte);
    return token;
}

Result<> write_token(const Options& options, const std::string& token) {
    const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (options.overwrite ? O_TRUNC : O_EXCL);
    const UniqueFd fd(open(options.file.c_str(), flags, 0600));
    if (!fd && errno == EEXIST)
        return make_error(Status::exists, options.file + " exists already; pass --force to replace it");
    // An old file may have been readable by others: it must not be when the token is in it.
    if (!fd || fchmod(fd.get(), 0600) != 0 ||
        write(fd.get(), token.data(), token.size()) != static_cast<ssize_t>(token.size()) || fsync(fd.get()) != 0)
        return errno_error(fmt::format("cannot write {}: {}", options.file, describe(from_errno(errno))));
    return {};
}

Result<> generate_token(const Options& options) {
    REMOFILE_TRY(token, random_token());
    token += "\n";
    if (!options.file.empty())
        return write_token(options, token);
    std::fputs(token.c_str(), stdout);
    return {};
}

std::function<ExitStatus()> prepare(CLI::App& app, const char* file_help, Result<> (*action)(const Options&)) {
    const auto options = std::make_shared<Options>();  // shared by the parser and the action
    app.add_option("FILE", options->file, file_help);
    app.add_flag("--force", options->overwrite, "Replace an existing file");
    return [options, action] {
        const Result<> outcome = action(*options);
        return outcome ? ExitStatus::success : complain(outcome.error());
    };
}

}  // namespace

std::function<ExitStatus()> prepare_generate_keys(CLI::App& app) {
    return prepare(app, "Where the secret key goes; the public key goes beside it (default: this account's identity)",
                   generate_keys);
}

std::function<ExitStatus()> prepare_generate_token(CLI::App& app) {
    return prepare(app, "Where the token goes (default: standard output)", generate_token);
}

}  // namespace remofile::cli
