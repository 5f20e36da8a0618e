// SPDX-License-Identifier: MIT
// remofile generate-keys and generate-token: secrets for clients and servers.
#include <sys/random.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <memory>

#include "base/log.hpp"
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
    const Result<> written = transport::create_secret_file(options.file, token, options.overwrite);
    if (written.status() == Status::exists)
        return make_error(Status::exists, written.error().message + "; pass --force to replace it");
    return written;
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
        return outcome ? ExitStatus::success : complain(outcome.error(), ExitStatus::failure);
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
