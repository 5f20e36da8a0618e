// SPDX-License-Identifier: MIT
// The command line of remofs, as a person writes it and as mount(8) hands it on: the input's lines are the words. Each
// is also taken for a list of mount options.
#include <string_view>

#include "base/assert.hpp"
#include "fuzz_target.hpp"
#include "remofs/program/options.hpp"

using namespace remofile;
using namespace remofile::remofs;

namespace {

std::vector<std::string> words_of(std::string_view text) {
    std::vector<std::string> words(1);
    for (const char c : text) {
        if (c == '\n')
            words.emplace_back();
        else if (c != '\0')  // which no argument holds
            words.back() += c;
    }
    return words;
}

void check(const Result<Options>& options) {
    if (!options) {
        REMOFILE_ASSERT(options.error().status == Status::bad_usage && !options.error().message.empty());
        return;
    }
    if (options->action == Options::Action::show_help || options->action == Options::Action::show_version)
        return;
    REMOFILE_ASSERT(!options->source.empty() && !options->mountpoint.empty());
    REMOFILE_ASSERT(options->timeout > Duration::zero());
    REMOFILE_ASSERT(!options->wait || *options->wait > Duration::zero());
    REMOFILE_ASSERT(!options->insecure || (options->server_key.empty() && options->identity.empty()));
}

// Escaped and joined they are the same parts again.
void check_split(std::string_view list) {
    const std::vector<std::string> parts = split_options(list);
    std::string again;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        again += i > 0 ? "," : "";
        for (const char c : parts[i])
            again += c == ',' || c == '\\' ? std::string{'\\', c} : std::string{c};
    }
    REMOFILE_ASSERT(split_options(again) == parts);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::vector<std::string> words = words_of({reinterpret_cast<const char*>(data), size});
    check(parse_command_line(words));
    check(parse_helper_command_line(words));
    for (const std::string& word : words) {
        check_split(word);
        static_cast<void>(is_mount_helper(word));
        check(parse_command_line(std::vector<std::string>{"host:/", "/mnt", "-o", word}));
    }
    return 0;
}

std::vector<std::string> fuzz_seeds() {
    std::vector<std::string> seeds{"host:/dir\n/mnt\n-f\n-o\nro,soft,timeout=7",
                                   "-oro\n--\nhost:/dir\n-mnt",
                                   "host:/\n/mnt\n-sfnv\n-o\nrw,_netdev,x-systemd.automount,unknown\n-t\nremofs",
                                   "fsname=a\\,b\\\\,ro",
                                   "compress=9,congestion=bbr,cache_size=64M,wait=5,symlinks=contain",
                                   "insecure,server_key=x",
                                   "--help"};
    return seeds;
}

std::vector<std::string> fuzz_words() {
    std::vector<std::string> words{"\n-o\n", "\\,", "\\\\", "--", "-s", "-t"};
    for (const OptionRow& row : option_table())
        words.emplace_back(std::string(row.name) + (row.kind == OptionRow::Kind::value ? "=" : ""));
    return words;
}
