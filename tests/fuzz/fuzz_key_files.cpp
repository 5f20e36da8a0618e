// SPDX-License-Identifier: MIT
// Key files that somebody edited: authorized_keys, known_servers, keys as text, a client's token.
#include <algorithm>
#include <string_view>

#include "base/log.hpp"
#include "client/connect_options.hpp"
#include "fuzz_file.hpp"
#include "fuzz_target.hpp"
#include "transport/keys.hpp"
#include "wire/export_path.hpp"

using namespace remofile;

namespace {

void check_authorized_keys(std::string_view text) {
    std::vector<std::string> problems;
    for (const auto& line : transport::parse_authorized_keys(text, problems)) {
        const auto again = transport::PublicKey::from_text(line.key.to_text());
        REMOFILE_ASSERT(again && *again == line.key);
        REMOFILE_ASSERT(line.comment.find('\n') == std::string::npos);
        REMOFILE_ASSERT(std::ranges::all_of(line.exports, wire::is_export_name));
    }
}

void check_keys(std::string_view text) {
    if (const auto key = transport::PublicKey::from_text(text))
        REMOFILE_ASSERT(key->to_text() == text);
    if (const auto pair = transport::KeyPair::from_secret_text(text))
        REMOFILE_ASSERT(pair->secret_text() == text);
}

void check_token(const std::string& file) {
    const auto session = client::make_session_options({.source = "localhost:/", .token_file = file, .insecure = true});
    REMOFILE_ASSERT(!session || (!session->token.empty() && session->token.size() <= wire::max_token_bytes));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::configure("fuzz", log::Level::off, log::Target::standard_error);
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    check_authorized_keys(text);
    check_keys(text);
    const FuzzFile file(text);
    static_cast<void>(transport::find_known_server(file.name(), "server.example:6768"));
    static_cast<void>(transport::load_public_key(file.name()));
    check_token(file.name());
    return 0;
}

std::vector<std::string> fuzz_seeds() {
    const std::string key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
    return {key,
            key + "\n",
            key + " user@host\n",
            "# comment\n\n" + key + "\tlaptop # not a comment\r\n",
            "export=\"media,home\",read-only " + key + " bound\n",
            "server.example:6768 " + key + "\n[::1]:6768 " + key + "\n",
            "server.example:6768\n",
            "  a token\n",
            std::string("\0\xff\x80", 3)};
}

std::vector<std::string> fuzz_words() {
    return {"rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
            "server.example:6768 ",
            "export=\"",
            "\"",
            ",",
            "read-only",
            "\n",
            "# ",
            "\r\n",
            "\t"};
}
