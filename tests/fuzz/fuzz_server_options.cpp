// SPDX-License-Identifier: MIT
// The server's command line, whose words are the input's lines; the same text as its configuration file, and as the
// file of its token.
#include <algorithm>
#include <string_view>

#include "base/assert.hpp"
#include "fuzz_file.hpp"
#include "fuzz_target.hpp"
#include "server/program/server_options.hpp"
#include "server/sessions/session_token.hpp"
#include "wire/export_path.hpp"
#include "wire/protocol.hpp"

using namespace remofile;
using namespace remofile::server;

namespace {

std::vector<std::string> words_of(std::string_view text) {
    std::vector<std::string> words(1);
    for (const char c : text) {
        if (c == '\n')
            words.emplace_back();
        else if (c != '\0')  // which no argument holds
            words.back() += c;
    }
    // The text is to say what is in a file, not which one to read.
    std::erase_if(words, [](const std::string& word) { return word.starts_with("--config"); });
    return words;
}

void check(const Result<CommandLine>& parsed) {
    if (!parsed) {
        REMOFILE_ASSERT(parsed.error().status == Status::bad_usage && !parsed.error().message.empty());
        return;
    }
    REMOFILE_ASSERT(parsed->options.has_value() != !parsed->text.empty());
    if (!parsed->options)
        return;
    const ServerOptions& options = *parsed->options;
    REMOFILE_ASSERT(!options.listen.empty() && !options.exports.empty());
    for (const ExportSettings& settings : options.exports) {
        REMOFILE_ASSERT(settings.directory.starts_with('/'));
        REMOFILE_ASSERT(wire::is_export_name(settings.name) || (settings.name.empty() && options.exports.size() == 1));
        REMOFILE_ASSERT(settings.session_timeout >= std::chrono::seconds(1) && settings.max_clients > 0);
        REMOFILE_ASSERT(!settings.allow_root || settings.identity == IdentityMode::client);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    check(parse_command_line(words_of(text)));
    const FuzzFile file(text);
    check(parse_command_line({"--config", file.name(), "/srv"}));
    check(parse_command_line({"--config", file.name()}));
    if (const auto token = load_token(file.name()))
        REMOFILE_ASSERT(!token->empty() && token->size() <= wire::max_token_bytes);
    return 0;
}

std::vector<std::string> fuzz_seeds() {
    return {"/srv",
            "--listen\ntcp://*:1\n--listen=ipc:///s\n--read-only\n--identity\nclient\n--allow-root\ndir",
            "--session-timeout=60\n--max-clients\n5\n--log-level\ndebug\n--lease-term\n5\n--watch\nnone\ndir",
            "--data-port=none\n--congestion-control\nbbr\n--\n-dir",
            "directory = \"/srv\"\nlisten = [\"tcp://*:6768\", \"ipc:///run/s\"]\nread-only = true\nmax-clients = 5\n",
            "# comment\nsession-timeout = \"60\"\ndata-port = 7000\nlog-level = \"debug\"\n",
            "identity = \"client\"\nallow-root = true\n\"token-file\" = 't'\n",
            "read-only = 1\n",
            "[table]\ndirectory = 1979-05-27\n",
            "--help"};
}

std::vector<std::string> fuzz_words() {
    const auto help = parse_command_line({"--help"});
    REMOFILE_ASSERT(help.has_value());
    std::vector<std::string> words{"directory", "\"\"\"", "[", "]", " = ", "true", "false", "tcp://*:6768"};
    std::string_view rest = help->text;
    for (std::size_t at = rest.find("--"); at != std::string_view::npos; at = rest.find("--")) {
        rest.remove_prefix(at + 2);
        const std::size_t length = rest.find_first_not_of("abcdefghijklmnopqrstuvwxyz-");
        if (const std::string word(rest.substr(0, length));
            !word.empty() && std::ranges::find(words, word) == words.end())
            words.push_back(word);
    }
    return words;
}
