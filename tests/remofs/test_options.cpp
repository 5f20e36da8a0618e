// SPDX-License-Identifier: MIT
#include <fstream>
#include <sstream>

#include "catch.hpp"
#include "remofs/program/options.hpp"

using namespace remofile;
using namespace remofile::remofs;

namespace {

Result<Options> parse(std::vector<std::string> words) {
    return parse_command_line(words);
}

Options parse_mount_options(const std::string& list) {
    const auto options = parse({"host:/", "/mnt", "-o", list});
    INFO(list);
    REQUIRE(options);
    return *options;
}

std::string refusal_of(const std::string& list) {
    const auto options = parse({"host:/", "/mnt", "-o", list});
    INFO(list);
    REQUIRE_FALSE(options);
    CHECK(options.status() == Status::bad_usage);
    CHECK(options.error().message.find('\n') == std::string::npos);
    return options.error().message;
}

}  // namespace

TEST_CASE("words may come in any order, as mount.fuse and people write them") {
    for (const auto& words : std::vector<std::vector<std::string>>{
             {"host:/dir", "/mnt", "-f", "-o", "ro,soft"},
             {"-f", "-o", "ro", "host:/dir", "-osoft", "/mnt"},
             {"host:/dir", "/mnt", "-o", "ro", "-o", "soft", "--foreground"},
         }) {
        const auto options = parse(words);
        REQUIRE(options);
        CHECK(options->source == "host:/dir");
        CHECK(options->mountpoint == "/mnt");
        CHECK(options->foreground);
        CHECK(options->read_only);
        CHECK(options->soft);
    }
}

TEST_CASE("as mount.remofs it takes what mount(8) hands to a helper") {
    CHECK(is_mount_helper("/sbin/mount.remofs"));
    CHECK(is_mount_helper("mount.remofs"));
    CHECK(is_mount_helper("/sbin/mount.fuse.remofs"));
    CHECK_FALSE(is_mount_helper("/usr/bin/remofs"));
    CHECK_FALSE(is_mount_helper("/usr/bin/mount.remofs/remofs"));

    const auto parse_helper = [](std::vector<std::string> words) { return parse_helper_command_line(words); };
    const auto options = parse_helper({"host:/", "/mnt", "-n", "-v", "-o", "rw,_netdev,soft", "-t", "remofs"});
    REQUIRE(options);
    CHECK(options->action == Options::Action::mount);
    CHECK(options->source == "host:/");
    CHECK(options->mountpoint == "/mnt");
    CHECK(options->soft);
    CHECK_FALSE(options->foreground);

    // mount -f: only see whether it could be tried. Elsewhere -f means the foreground.
    const auto fake = parse_helper({"host:/", "/mnt", "-fv", "-o", "ro"});
    REQUIRE(fake);
    CHECK(fake->action == Options::Action::check_only);
    CHECK_FALSE(fake->foreground);
    CHECK_FALSE(parse_helper({"host:/", "/mnt", "-f", "-o", "nonsense"}));

    // mount -s, wherever it stands.
    CHECK_FALSE(parse_helper({"host:/", "/mnt", "-o", "nonsense,soft"}));
    const auto sloppy = parse_helper({"host:/", "/mnt", "-o", "nonsense,soft,other=x", "-s"});
    REQUIRE(sloppy);
    CHECK(sloppy->soft);
    CHECK_FALSE(parse_helper({"host:/", "/mnt", "-o", "timeout=x", "-s"}));  // known, and wrong

    for (const auto& words : std::vector<std::vector<std::string>>{
             {"host:/", "/mnt", "-o"}, {"host:/", "/mnt", "-t"}, {"host:/", "/mnt", "-N", "1"}, {"host:/"}}) {
        const auto refused = parse_helper(words);
        REQUIRE_FALSE(refused);
        CHECK(refused.status() == Status::bad_usage);
    }
}

TEST_CASE("what mount(8), fstab and systemd pass is accepted") {
    const Options options = parse_mount_options(
        "rw,nosuid,nodev,noexec,relatime,noatime,user=root,_netdev,nofail,noauto,x-systemd.automount,"
        "x-gvfs-show,comment=a b,users,defaults,exec,suid,dev,sync,async");
    CHECK_FALSE(options.read_only);
    CHECK(options.kernel_options == std::vector<std::string>{"rw", "nosuid", "nodev", "noexec", "noatime", "exec",
                                                             "suid", "dev", "sync", "async"});
    CHECK(parse_mount_options("noatime,nodev,atime").kernel_options == std::vector<std::string>{"nodev", "atime"});
}

TEST_CASE("each option of remofs has its effect") {
    CHECK(parse_mount_options("server_key=abc").server_key == "abc");
    CHECK(parse_mount_options("identity=/k").identity == "/k");
    CHECK(parse_mount_options("token_file=/t").token_file == "/t");
    CHECK(parse_mount_options("insecure").insecure);
    CHECK(parse_mount_options("exclusive").exclusive);
    CHECK(parse_mount_options("wait").wait == Duration::max());
    CHECK(parse_mount_options("wait=5").wait == Duration(std::chrono::seconds(5)));
    CHECK_FALSE(parse_mount_options("ro").wait);
    CHECK(parse_mount_options("soft,timeout=7").timeout == Duration(std::chrono::seconds(7)));
    CHECK_FALSE(parse_mount_options("soft,hard").soft);
    CHECK(parse_mount_options("compress").compress == wire::compression_automatic);
    CHECK(parse_mount_options("compress=off").compress == wire::compression_off);
    CHECK(parse_mount_options("compress=9").compress == 9);
    CHECK(parse_mount_options("congestion=auto").congestion_control == transport::CongestionControl());
    CHECK(parse_mount_options("congestion=bbr").congestion_control == *transport::CongestionControl::parse("bbr"));
    CHECK(parse_mount_options("congestion=system").congestion_control ==
          *transport::CongestionControl::parse("system"));
    CHECK(parse_mount_options("uid=root,ro,cache_size=8M").lasting_options ==
          std::vector<std::string>{"uid=0", "cache_size=8M"});
    CHECK(parse_mount_options("bandwidth_limit=5M").bandwidth_limit == 5U << 20U);
    CHECK_THAT(refusal_of("bandwidth_limit=1K"), ContainsSubstring("bandwidth_limit=1K"));
    CHECK_THAT(refusal_of("bandwidth_limit=fast"), ContainsSubstring("bandwidth_limit=fast"));
    CHECK(parse_mount_options("cache_size=64M").cache_size_bytes == std::uint64_t{64} << 20U);
    CHECK(parse_mount_options("ro").log_format == log::Format::automatic);
    CHECK(parse_mount_options("log_format=journald").log_format == log::Format::journald);
    CHECK_FALSE(parse_mount_options("ro").metrics);
    CHECK(parse_mount_options("metrics=9100").metrics->host == "127.0.0.1");
    CHECK(parse_mount_options("metrics=0.0.0.0:9100").metrics->beyond_loopback);
    CHECK(parse_mount_options("idmap=none").idmap == "none");
    CHECK(parse_mount_options("symlinks=contain").symlinks == SymlinkPolicy::contain);
    CHECK(parse_mount_options("allow_other,default_permissions").allow_other);
    CHECK(parse_mount_options("fsname=a\\,b,ro").file_system_name == "a,b");
    CHECK(parse_mount_options("ro,rw").read_only == false);
}

TEST_CASE("users, groups and masks that files are shown with") {
    CHECK(parse_mount_options("ro").overrides == Overrides{});
    CHECK(parse_mount_options("uid=1234").overrides == Overrides{.uid = 1234});
    CHECK(parse_mount_options("uid=root,gid=root").overrides == Overrides{.uid = 0, .gid = 0});
    CHECK(parse_mount_options("umask=027").overrides == Overrides{.file_mask = 027, .directory_mask = 027});
    CHECK(parse_mount_options("umask=027,dmask=2").overrides == Overrides{.file_mask = 027, .directory_mask = 2});
    CHECK(parse_mount_options("fmask=133,dmask=022").overrides == Overrides{.file_mask = 0133, .directory_mask = 022});
    for (const char* wrong : {"uid=nobody of that name", "uid=-1", "uid=4294967295", "gid=4294967296", "gid=1x",
                              "umask=8", "umask=1777", "fmask=-1", "dmask=0x1"})
        CHECK_THAT(refusal_of(wrong), ContainsSubstring(wrong));
    CHECK_THAT(refusal_of("uid"), ContainsSubstring("uid=USER"));
}

TEST_CASE("a wrong option is named in one line") {
    CHECK_THAT(refusal_of("cach_size=1G"), ContainsSubstring("cach_size"));
    CHECK_THAT(refusal_of("ro=1"), ContainsSubstring("ro"));
    CHECK_THAT(refusal_of("nodev=1"), ContainsSubstring("nodev"));
    CHECK_THAT(refusal_of("timeout"), ContainsSubstring("timeout=SECONDS"));
    CHECK_THAT(refusal_of("timeout=0"), ContainsSubstring("timeout=0"));
    CHECK_THAT(refusal_of("timeout=99999999999"), ContainsSubstring("timeout"));
    CHECK_THAT(refusal_of("wait=soon"), ContainsSubstring("wait=soon"));
    CHECK_THAT(refusal_of("wait="), ContainsSubstring("wait"));
    CHECK_THAT(refusal_of("compress=fast"), ContainsSubstring("compress=fast"));
    CHECK_THAT(refusal_of("compress=13"), ContainsSubstring("12"));
    CHECK_THAT(refusal_of("congestion"), ContainsSubstring("congestion=auto|system|NAME"));
    CHECK_THAT(refusal_of("congestion=b b r"), ContainsSubstring("congestion: \"b b r\""));
    CHECK_THAT(refusal_of("cache_size=big"), ContainsSubstring("cache_size=big"));
    CHECK_THAT(refusal_of("log_format=xml"), ContainsSubstring("text, json or journald"));
    CHECK_THAT(refusal_of("metrics=host:1"), ContainsSubstring("metrics: \"host:1\""));
    CHECK_THAT(refusal_of("symlinks=follow"), ContainsSubstring("keep or contain"));
    CHECK_THAT(refusal_of("insecure,server_key=x"), ContainsSubstring("insecure"));
    CHECK_THAT(refusal_of("allow_other,allow_root"), ContainsSubstring("allow_root excludes allow_other"));
}

TEST_CASE("a wrong command line is refused") {
    CHECK_FALSE(parse({}));
    CHECK_FALSE(parse({"host:/"}));
    CHECK_FALSE(parse({"host:/", "/mnt", "/more"}));
    CHECK_FALSE(parse({"host:/", "/mnt", "-o"}));
    CHECK_FALSE(parse({"host:/", "/mnt", "--frobnicate"}));
    CHECK(parse({"--help"})->action == Options::Action::show_help);
    CHECK(parse({"-V"})->action == Options::Action::show_version);
}

TEST_CASE("options are split at commas that are not escaped") {
    using Parts = std::vector<std::string>;
    CHECK(split_options("a,b=c,,d") == Parts{"a", "b=c", "", "d"});
    CHECK(split_options("a=1\\,2,b") == Parts{"a=1,2", "b"});
    CHECK(split_options("a=\\\\,b\\") == Parts{"a=\\", "b\\"});
    CHECK(split_options("") == Parts{""});
}

TEST_CASE("joined options are those that were split") {
    for (const char* list : {"", "a", "a,b=c", "a=1\\,2,b", "a=\\\\,b"})
        CHECK(join_options(split_options(list)) == list);
}

TEST_CASE("what a mount keeps as long as it is there is told from what can be changed") {
    const Options options =
        parse_mount_options("remount,ro,nodev,noatime,soft,timeout=5,sync,uid=0,_netdev,user_id=0,uhelper=fuse.remofs");
    CHECK(options.remount);
    CHECK(options.kernel_options == std::vector<std::string>{"ro", "nodev", "noatime", "sync"});
    CHECK(options.lasting_options == std::vector<std::string>{"soft", "timeout=5", "sync", "uid=0"});
    // As mount(8) repeats what the mount table and fstab say of a mount with allow_root.
    CHECK(parse_mount_options("allow_other,allow_root,remount").remount);
}

TEST_CASE("the help and the man page tell of each option") {
    std::ifstream file(REMOFS_MAN_PAGE);
    std::ostringstream text;
    text << file.rdbuf();
    REQUIRE_FALSE(text.str().empty());
    const std::string help = help_text();
    for (const OptionRow& row : option_table()) {
        if (row.help.empty())
            continue;
        INFO(row.name);
        CHECK_THAT(help, ContainsSubstring("  " + std::string(row.name)));
        // mdoc: ".It Cm NAME" leads an option's paragraph; an underscore needs no escape.
        CHECK_THAT(text.str(), ContainsSubstring(".It Cm " + std::string(row.name)));
    }
}
