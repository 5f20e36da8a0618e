// SPDX-License-Identifier: MIT
// hosts.toml, and what becomes of a SOURCE by it.
#include <string_view>

#include "base/assert.hpp"
#include "client/hosts_file.hpp"
#include "fuzz_target.hpp"
#include "transport/endpoint_address.hpp"
#include "wire/export_path.hpp"

using namespace remofile;
using namespace remofile::client;

namespace {

// A path that is as long as may be gets too long by an export's name.
constexpr std::string_view sources[] = {"work:/", "work:23:/dir/a:/b", "remofile://work", "remofile://work:23/a%20b"};

void check_file(std::string_view text) {
    const auto host = parse_hosts(text, "/etc/remofile/hosts.toml", "work");
    if (!host) {
        REMOFILE_ASSERT(host.error().status == Status::bad_usage);
        REMOFILE_ASSERT(host.error().message.starts_with("/etc/remofile/hosts.toml:"));
        return;
    }
    REMOFILE_ASSERT(host->export_name.empty() || wire::is_export_name(host->export_name));
    REMOFILE_ASSERT(host->identity.empty() || host->identity.starts_with('/'));
    for (const std::string_view source : sources)
        REMOFILE_ASSERT(transport::parse_source(apply_address(source, *host).source));
}

void check_source(std::string_view text) {
    const NamedSource named = apply_address(text, {.address = "there:5", .export_name = "team"});
    REMOFILE_ASSERT(named.source == text || named.source.find("/team") != std::string::npos);
    REMOFILE_ASSERT(!transport::parse_source(named.source) ||
                    transport::parse_source(named.source)->path.starts_with('/'));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    check_file(text);
    check_source(text);
    return 0;
}

std::vector<std::string> fuzz_seeds() {
    return {"[host.work]\naddress = \"files.example.org:2300\"\nexport = \"team\"\n",
            "[host.work]\nserver_key = \"work.pub\"\nidentity = \"~/work.key\"\ntoken_file = '/t'\n",
            "[host.\"a.b\"]\noptions = \"soft,timeout=5\"\n",
            "host.work = { address = '[::1]:5' }\n",
            "[host.work]\naddress = 5\n",
            "[hosts.work]\n",
            "work:23:/dir",
            "remofile://work:23/dir"};
}

std::vector<std::string> fuzz_words() {
    return {"[host.",  "work", "]\n", "address", "export", "server_key", "identity", "token_file",
            "options", " = ",  "\"",  "'",       ":/",     "//",         "["};
}
