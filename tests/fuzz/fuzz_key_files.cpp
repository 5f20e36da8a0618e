// SPDX-License-Identifier: MIT
// Key files that somebody edited: authorized_keys, known_servers, keys as text.
#include <sys/mman.h>
#include <unistd.h>

#include <string_view>

#include "base/assert.hpp"
#include "base/unique_fd.hpp"
#include "fuzz_target.hpp"
#include "transport/keys.hpp"

using namespace remofile;

namespace {

void find_in_known_servers(std::string_view text) {
    const UniqueFd file(::memfd_create("known_servers", MFD_CLOEXEC));
    REMOFILE_ASSERT(file && ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    static_cast<void>(
        transport::find_known_server("/proc/self/fd/" + std::to_string(file.get()), "server.example:6768"));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    std::vector<std::string> problems;
    for (const auto& line : transport::parse_authorized_keys(text, problems)) {
        const auto again = transport::PublicKey::from_text(line.key.to_text());
        REMOFILE_ASSERT(again && *again == line.key);
    }
    static_cast<void>(transport::PublicKey::from_text(text));
    static_cast<void>(transport::KeyPair::from_secret_text(text));
    find_in_known_servers(text);
    return 0;
}

std::vector<std::string> fuzz_seeds() {
    const std::string key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
    return {key,
            key + "\n",
            key + " user@host\n",
            "# comment\n\n" + key + "\tlaptop # not a comment\r\n",
            "server.example:6768 " + key + "\n[::1]:6768 " + key + "\n",
            "server.example:6768\n",
            std::string("\0\xff\x80", 3)};
}
