// SPDX-License-Identifier: MIT
#include "remofs/program/options.hpp"

#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/byte_size.hpp"
#include "base/log.hpp"
#include "client/connect_options.hpp"

namespace remofile::remofs {
namespace {

using Kind = OptionRow::Kind;

Error usage_error(std::string message) {
    return make_error(Status::bad_usage, std::move(message));
}

Result<Duration> parse_seconds(std::string_view name, std::string_view text) {
    constexpr unsigned max_seconds = 10 * 365 * 24 * 3600U;  // ten years; keeps sums of durations in range
    unsigned seconds = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (error != std::errc() || end != text.data() + text.size() || seconds == 0 || seconds > max_seconds)
        return usage_error(fmt::format("{}={}: expected a whole number of seconds, 1 or more", name, text));
    return Duration(std::chrono::seconds(seconds));
}

Result<> set_timeout(Options& options, std::string_view value) {
    REMOFILE_TRY(seconds, parse_seconds("timeout", value));
    options.timeout = seconds;
    return {};
}

Result<> set_wait(Options& options, std::string_view value) {
    options.wait = Duration::max();
    if (value.empty())
        return {};
    REMOFILE_TRY(seconds, parse_seconds("wait", value));
    options.wait = seconds;
    return {};
}

Result<> set_compress(Options& options, std::string_view value) {
    constexpr int max_level = wire::max_compression_level;
    int level = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), level);
    const bool is_level =
        error == std::errc() && end == value.data() + value.size() && level >= 1 && level <= max_level;
    if (!is_level && !value.empty() && value != "auto" && value != "off")
        return usage_error(fmt::format("compress={}: expected auto, off or a level from 1 to {}", value, max_level));
    if (is_level)
        options.compress = static_cast<std::uint8_t>(level);
    else
        options.compress = value == "off" ? wire::compression_off : wire::compression_automatic;
    return {};
}

Result<> set_congestion(Options& options, std::string_view value) {
    auto parsed = transport::CongestionControl::parse(value);
    if (!parsed)
        return usage_error("congestion: " + parsed.error().to_string());
    options.congestion_control = std::move(*parsed);
    return {};
}

Result<> set_log_format(Options& options, std::string_view value) {
    if (value == "text")
        options.log_format = log::Format::text;
    else if (value == "json")
        options.log_format = log::Format::json;
    else if (value == "journald")
        options.log_format = log::Format::journald;
    else
        return usage_error(fmt::format("log_format={}: expected text, json or journald", value));
    return {};
}

Result<> set_metrics(Options& options, std::string_view value) {
    auto parsed = transport::parse_metrics_address(value);
    if (!parsed)
        return usage_error("metrics: " + parsed.error().to_string());
    options.metrics = std::move(*parsed);
    return {};
}

// The default. The word itself tells a mount that is there.
Result<> keep_access_times(Options& options, std::string_view) {
    std::erase(options.kernel_options, "noatime");
    return {};
}

Result<> set_cache_size(Options& options, std::string_view value) {
    const auto size = parse_byte_size(value);
    if (!size)
        return usage_error(fmt::format("cache_size={}: expected bytes, as 8388608, 8192K, 256M or 1G", value));
    // Four requests of the largest kind: less could not keep a link busy.
    constexpr std::uint64_t min_size = std::uint64_t{4} << 20;
    if (*size < min_size)
        return usage_error(fmt::format("cache_size={}: expected 4M at least", value));
    options.cache_size_bytes = *size;
    return {};
}

// All of the text, in that base.
std::optional<std::uint32_t> parse_number(std::string_view text, int base) {
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
    return error == std::errc() && end == text.data() + text.size() ? std::optional(number) : std::nullopt;
}

// chown(2) means "none" by the highest number.
constexpr std::uint32_t no_id = UINT32_MAX;

Result<> set_uid(Options& options, std::string_view value) {
    const passwd* user = ::getpwnam(std::string(value).c_str());
    options.overrides.uid = user != nullptr ? std::optional(user->pw_uid) : parse_number(value, 10);
    if (options.overrides.uid.value_or(no_id) == no_id)
        return usage_error(fmt::format("uid={}: expected a user of this machine, by name or number", value));
    return {};
}

Result<> set_gid(Options& options, std::string_view value) {
    const group* known = ::getgrnam(std::string(value).c_str());
    options.overrides.gid = known != nullptr ? std::optional(known->gr_gid) : parse_number(value, 10);
    if (options.overrides.gid.value_or(no_id) == no_id)
        return usage_error(fmt::format("gid={}: expected a group of this machine, by name or number", value));
    return {};
}

Result<mode_t> parse_mask(std::string_view name, std::string_view value) {
    constexpr mode_t all_permissions = 0777;
    const auto mask = parse_number(value, 8);
    if (!mask || *mask > all_permissions)
        return usage_error(fmt::format("{}={}: expected permission bits in octal, as 027", name, value));
    return *mask;
}

Result<> set_fmask(Options& options, std::string_view value) {
    REMOFILE_TRY(mask, parse_mask("fmask", value));
    options.overrides.file_mask = mask;
    return {};
}

Result<> set_dmask(Options& options, std::string_view value) {
    REMOFILE_TRY(mask, parse_mask("dmask", value));
    options.overrides.directory_mask = mask;
    return {};
}

Result<> set_umask(Options& options, std::string_view value) {
    REMOFILE_TRY(mask, parse_mask("umask", value));
    options.overrides.file_mask = options.overrides.directory_mask = mask;
    return {};
}

Result<> set_bandwidth_limit(Options& options, std::string_view value) {
    const auto limit = client::parse_bandwidth_limit(value);
    if (!limit)
        return usage_error(fmt::format("bandwidth_limit={}: {}", value, limit.error().to_string()));
    options.bandwidth_limit = *limit;
    return {};
}

Result<> set_symlinks(Options& options, std::string_view value) {
    if (value != "keep" && value != "contain")
        return usage_error(fmt::format("symlinks={}: expected keep or contain", value));
    options.symlinks = value == "keep" ? SymlinkPolicy::keep : SymlinkPolicy::contain;
    return {};
}

// A member of Options set to a constant, or to the text given.
template <auto Member>
Result<> set_true(Options& options, std::string_view) {
    options.*Member = true;
    return {};
}
template <auto Member>
Result<> set_false(Options& options, std::string_view) {
    options.*Member = false;
    return {};
}
template <auto Member>
Result<> set_text(Options& options, std::string_view value) {
    options.*Member = std::string(value);
    return {};
}

constexpr auto table = std::to_array<OptionRow>({
    {"server_key", Kind::value, "KEY|FILE", "the server's public key, or a file that holds it",
     set_text<&Options::server_key>},
    {"identity", Kind::value, "FILE", "this client's secret key (made on first use if not given)",
     set_text<&Options::identity>},
    {"token_file", Kind::value, "FILE", "a file that holds the token which the server asks for",
     set_text<&Options::token_file>},
    {"insecure", Kind::flag, "", "no encryption, for a server that was told the same", set_true<&Options::insecure>},
    {"ro", Kind::changeable, "", "change nothing", set_true<&Options::read_only>},
    {"rw", Kind::changeable, "", "allow changes (the default)", set_false<&Options::read_only>},
    {"exclusive", Kind::flag, "", "have the server for this mount alone", set_true<&Options::exclusive>},
    {"wait", Kind::optional_value, "SECONDS", "wait if another client has the server for itself", set_wait},
    {"hard", Kind::flag, "", "wait for a silent server as long as it takes (the default)", set_false<&Options::soft>},
    {"soft", Kind::flag, "", "report ETIMEDOUT when a server is silent for the time-out", set_true<&Options::soft>},
    {"timeout", Kind::value, "SECONDS", "the time-out of soft (30)", set_timeout},
    {"idmap", Kind::value, "user|none|FILE", "whose the server's files are (user; for root none)",
     set_text<&Options::idmap>},
    {"uid", Kind::value, "USER", "show all files as this user's", set_uid},
    {"gid", Kind::value, "GROUP", "show all files as of this group", set_gid},
    {"umask", Kind::value, "OCTAL", "permission bits not to be shown", set_umask},
    {"fmask", Kind::value, "OCTAL", "the same, of all but directories", set_fmask},
    {"dmask", Kind::value, "OCTAL", "the same, of directories", set_dmask},
    {"symlinks", Kind::value, "keep|contain", "contain: refuse symlinks that would leave the mount (keep)",
     set_symlinks},
    {"allow_other", Kind::flag, "", "let other users in, as permissions allow", set_true<&Options::allow_other>},
    {"allow_root", Kind::flag, "", "let root in, but no other user", set_true<&Options::allow_root>},
    {"default_permissions", Kind::flag, "", "let the kernel check permissions too; implied by allow_other, allow_root",
     set_true<&Options::default_permissions>},
    {"sync_names", Kind::flag, "", "wait for the server whenever a name is made, removed or changed",
     set_true<&Options::sync_names>},
    {"compress", Kind::optional_value, "auto|off|LEVEL", "compress data on its way (auto)", set_compress},
    {"congestion", Kind::value, "auto|system|NAME", "TCP's congestion control: auto takes bbr on longer links (auto)",
     set_congestion},
    {"bandwidth_limit", Kind::value, "RATE", "bytes a second at most, in each direction, such as 5M",
     set_bandwidth_limit},
    {"cache_size", Kind::value, "SIZE", "memory for cached data", set_cache_size},
    {"spool", Kind::value, "DIRECTORY", "keep there what the server lacks when the mount ends; the next sends it",
     set_text<&Options::spool>},
    {"metrics", Kind::value, "ADDRESS:PORT", "offer metrics by HTTP; PORT alone: to this machine only", set_metrics},
    {"log_format", Kind::value, "text|json|journald", "how a line of the log looks (text; in the journal, journald)",
     set_log_format},
    {"fsname", Kind::value, "NAME", "what mount shows as the source", set_text<&Options::file_system_name>},
    {"debug", Kind::flag, "", "as -d", set_true<&Options::debug>},
    {"auto_unmount", Kind::flag, "", "unmount also when remofs is killed", set_true<&Options::auto_unmount>},
    {"remount", Kind::flag, "", "change ro, nosuid and the like of a mount that is there", set_true<&Options::remount>},

    {"dev", Kind::changeable},
    {"nodev", Kind::changeable},
    {"suid", Kind::changeable},
    {"nosuid", Kind::changeable},
    {"exec", Kind::changeable},
    {"noexec", Kind::changeable},
    {"sync", Kind::kernel},
    {"async", Kind::kernel},
    {"dirsync", Kind::kernel},
    {"atime", Kind::changeable, "", "", keep_access_times},
    {"noatime", Kind::changeable},
    // The access times are the server's; these say how a local file system should keep them.
    {"diratime", Kind::ignored},
    {"nodiratime", Kind::ignored},
    {"relatime", Kind::ignored},
    {"norelatime", Kind::ignored},
    {"strictatime", Kind::ignored},
    {"nostrictatime", Kind::ignored},
    {"lazytime", Kind::ignored},
    {"nolazytime", Kind::ignored},
    // Always remofs: /proc/mounts says fuse.remofs, by which mounts are found again.
    {"subtype", Kind::ignored},
    // For mount(8), systemd and others who read fstab.
    {"defaults", Kind::ignored},
    {"auto", Kind::ignored},
    {"noauto", Kind::ignored},
    {"nofail", Kind::ignored},
    {"_netdev", Kind::ignored},
    {"user", Kind::ignored},
    {"nouser", Kind::ignored},
    {"users", Kind::ignored},
    {"owner", Kind::ignored},
    {"group", Kind::ignored},
    {"comment", Kind::ignored},
    // What the kernel and note_for_umount() say of a mount, and mount(8) hands on with remount.
    {"uhelper", Kind::ignored},
    {"user_id", Kind::ignored},
    {"group_id", Kind::ignored},
    {"max_read", Kind::ignored},
    {"blksize", Kind::ignored},
    {"x-*", Kind::ignored},
    {"X-*", Kind::ignored},
});

const OptionRow* find_row(std::string_view name) {
    const auto matches = [name](const OptionRow& row) {
        return row.name.ends_with('*') ? name.starts_with(row.name.substr(0, row.name.size() - 1)) : row.name == name;
    };
    const auto* row = std::ranges::find_if(table, matches);
    return row == table.end() ? nullptr : row;
}

Result<> apply_option(Options& options, const std::string& option) {
    const std::size_t equals = option.find('=');
    const bool has_value = equals != std::string::npos;
    const std::string name = option.substr(0, equals);
    const std::string value = has_value ? option.substr(equals + 1) : "";
    const OptionRow* row = find_row(name);
    if (row == nullptr)
        return usage_error(fmt::format("unknown mount option \"{}\" (remofs --help lists them)", name));
    const bool is_for_kernel = row->kind == Kind::kernel || row->kind == Kind::changeable;
    if (has_value && (row->kind == Kind::flag || is_for_kernel))
        return usage_error(fmt::format("mount option {} takes no value", name));
    if (row->kind == Kind::value && value.empty())
        return usage_error(fmt::format("mount option {} needs a value: {}={}", name, name, row->argument));
    if (row->kind == Kind::optional_value && has_value && value.empty())
        return usage_error(fmt::format("mount option {}= has no value", name));
    if (is_for_kernel)
        options.kernel_options.push_back(name);
    if (row->apply != nullptr)
        REMOFILE_CHECK(row->apply(options, value));
    // mount(8) makes numbers of users' and groups' names.
    if (name == "uid")
        options.lasting_options.push_back(fmt::format("uid={}", *options.overrides.uid));
    else if (name == "gid")
        options.lasting_options.push_back(fmt::format("gid={}", *options.overrides.gid));
    else if (row->kind != Kind::changeable && row->kind != Kind::ignored && name != "remount")
        options.lasting_options.push_back(option);
    return {};
}

// mount -s leaves out what it does not know, as in an fstab that several systems share.
enum class Unknown : std::uint8_t { refused, left_out };

Result<> apply_options(Options& options, std::string_view list, Unknown unknown = Unknown::refused) {
    for (const std::string& option : split_options(list)) {
        const bool left_out = unknown == Unknown::left_out && find_row(option.substr(0, option.find('='))) == nullptr;
        if (!option.empty() && !left_out)
            REMOFILE_CHECK(apply_option(options, option));
    }
    return {};
}

Result<> check(const Options& options) {
    if (options.action == Options::Action::show_help || options.action == Options::Action::show_version)
        return {};
    if (options.source.empty() || options.mountpoint.empty())
        return usage_error("usage: remofs SOURCE MOUNTPOINT [-f] [-d] [-o OPTION,...] (remofs --help says more)");
    if (options.insecure && (!options.server_key.empty() || !options.identity.empty()))
        return usage_error("insecure excludes server_key and identity: without encryption keys mean nothing");
    // A mount that lets root in alone is shown with allow_other, which mount(8) hands on with remount.
    if (options.allow_other && options.allow_root && !options.remount)
        return usage_error("allow_root excludes allow_other: the one keeps out whom the other lets in");
    return {};
}

Result<> apply_place(Options& options, std::string_view word) {
    if (options.source.empty())
        options.source = word;
    else if (options.mountpoint.empty())
        options.mountpoint = word;
    else
        return usage_error(fmt::format("\"{}\" is one word too many: expected SOURCE MOUNTPOINT", word));
    return {};
}

// One word of the command line; `next` is the one after it, if it is needed.
Result<> apply_word(Options& options, std::string_view word, const std::string* next, bool& took_next) {
    if (word == "-h" || word == "--help")
        options.action = Options::Action::show_help;
    else if (word == "-V" || word == "--version")
        options.action = Options::Action::show_version;
    else if (word == "-f" || word == "--foreground")
        options.foreground = true;
    else if (word == "-d" || word == "--debug")
        options.debug = true;
    else if (word == "-o" && next == nullptr)
        return usage_error("-o needs mount options after it");
    else if (word == "-o") {
        took_next = true;
        return apply_options(options, *next);
    } else if (word.starts_with("-o"))
        return apply_options(options, word.substr(2));
    else if (word.starts_with('-') && word.size() > 1)
        return usage_error(fmt::format("unknown option \"{}\" (remofs --help lists them)", word));
    else
        return apply_place(options, word);
    return {};
}

}  // namespace

std::span<const OptionRow> option_table() {
    return table;
}

std::vector<std::string> split_options(std::string_view list) {
    std::vector<std::string> parts(1);
    for (std::size_t i = 0; i < list.size(); ++i) {
        const bool escaped = list[i] == '\\' && i + 1 < list.size() && (list[i + 1] == ',' || list[i + 1] == '\\');
        if (escaped)
            parts.back() += list[++i];
        else if (list[i] == ',')
            parts.emplace_back();
        else
            parts.back() += list[i];
    }
    return parts;
}

std::string join_options(std::span<const std::string> options) {
    std::string list;
    for (const std::string& option : options) {
        list += list.empty() ? "" : ",";
        for (const char c : option) {
            if (c == ',' || c == '\\')
                list += '\\';
            list += c;
        }
    }
    return list;
}

Result<> add_mount_options(Options& options, std::string_view list) {
    REMOFILE_CHECK(apply_options(options, list));
    if (options.remount)
        return usage_error("remount is for the command line");
    return {};
}

Result<Options> parse_command_line(std::span<const std::string> arguments, Options options) {
    bool places_only = false;  // after "--"
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        if (places_only) {
            REMOFILE_CHECK(apply_place(options, arguments[i]));
            continue;
        }
        places_only = arguments[i] == "--";
        if (places_only)
            continue;
        bool took_next = false;
        const std::string* next = i + 1 < arguments.size() ? &arguments[i + 1] : nullptr;
        REMOFILE_CHECK(apply_word(options, arguments[i], next, took_next));
        i += took_next ? 1 : 0;
    }
    options.foreground |= options.debug;
    REMOFILE_CHECK(check(options));
    return options;
}

bool is_mount_helper(std::string_view program) {
    const std::string_view name = program.substr(program.rfind('/') + 1);
    return name == "mount.remofs" || name == "mount.fuse.remofs";
}

Result<Options> parse_helper_command_line(std::span<const std::string> arguments, Options options) {
    std::vector<std::string_view> lists;
    Unknown unknown = Unknown::refused;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string& word = arguments[i];
        if (word == "-h" || word == "--help" || word == "-V" || word == "--version" || !word.starts_with('-')) {
            bool took_next = false;
            REMOFILE_CHECK(apply_word(options, word, nullptr, took_next));
            continue;
        }
        if (word == "-o" || word == "-t") {
            if (++i == arguments.size())
                return usage_error(fmt::format("{} needs a word after it", word));
            if (word == "-o")
                lists.push_back(arguments[i]);
            continue;
        }
        for (const char flag : word.substr(1)) {
            if (flag == 'f')
                options.action = Options::Action::check_only;
            else if (flag == 's')
                unknown = Unknown::left_out;
            else if (flag != 'n' && flag != 'v')  // mount(8) itself has done what these say
                return usage_error(fmt::format("unknown option \"-{}\" of mount(8)", flag));
        }
    }
    for (const std::string_view list : lists)
        REMOFILE_CHECK(apply_options(options, list, unknown));
    options.foreground = options.debug;
    REMOFILE_CHECK(check(options));
    return options;
}

std::string help_text() {
    std::string text =
        "Usage: remofs SOURCE MOUNTPOINT [-f] [-d] [-o OPTION,...]\n"
        "Mounts the directory of a Remofile server. \"umount MOUNTPOINT\" ends the mount.\n\n"
        "SOURCE is HOST[:PORT]:/PATH, remofile://HOST[:PORT]/PATH or remofile+ipc:///SOCKET.\n\n"
        "  -f, --foreground  stay in the foreground and log to standard error\n"
        "  -d, --debug       the same, with a line for each operation\n"
        "  -h, --help        show this text\n"
        "  -V, --version     show the version\n\n"
        "Mount options (-o); those of mount(8) and fstab(5) are accepted too:\n";
    for (const OptionRow& row : table) {
        if (row.help.empty())
            continue;
        const std::string argument = row.argument.empty()               ? ""
                                     : row.kind == Kind::optional_value ? fmt::format("[={}]", row.argument)
                                                                        : fmt::format("={}", row.argument);
        text += fmt::format("  {:<28}{}\n", std::string(row.name) + argument, row.help);
    }
    return text;
}

}  // namespace remofile::remofs
