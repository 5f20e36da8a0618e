// SPDX-License-Identifier: MIT
// What the three programs say to wrong words, files and surroundings, and with which exit status: one line, about the
// thing that is wrong.
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch.hpp>
#include <map>
#include <sstream>

#include "base/unique_fd.hpp"
#include "harness/mount_process.hpp"
#include "harness/mount_table.hpp"
#include "harness/scratch.hpp"
#include "local_tree.hpp"
#include "remofile.hpp"

namespace remofile::test {
namespace {

// A port on which nothing listens: bound, but not listening, so that nobody else gets it meanwhile.
class DeadPort {
public:
    DeadPort() {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof(address);
        REQUIRE(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
        REQUIRE(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
        port_ = ntohs(address.sin_port);
    }
    std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

private:
    UniqueFd fd_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    int port_ = 0;
};

// A server, and files to name. "{s}" in a text stands for the server's SOURCE less the path, "{address}" for its
// address, "{dead}" for one of no server, and "{t}" for a directory of this machine.
class Surroundings {
public:
    Surroundings() {
        const std::string& files = server_.directory();
        write_file(files + "/file", "content");
        fs::create_directories(files + "/dir/a");
        fs::create_directory_symlink("dir", files + "/link");
        fs::create_directories(directory_ + "/tree");
        fs::create_directory(directory_ + "/mnt");
        write_file(directory_ + "/a", "content");
        write_file(directory_ + "/b", "content");
        write_file(directory_ + "/empty", "");
        write_file(directory_ + "/garbage", "garbage\n");
        write_file(directory_ + "/token", "a token of some length\n");
        write_file(directory_ + "/open", "a token that all may read\n");
        write_file(directory_ + "/existing.key", "");
        write_file(directory_ + "/map", "uid one two\n");
        write_file(directory_ + "/listen.toml", "listen = 5\n");
        write_file(directory_ + "/flag.toml", "\ninsecure = \"false\"\n");
        write_file(directory_ + "/unknown.toml", "red-only = true\n");
        write_file(directory_ + "/path.toml", "token-file = 5\n");
        fs::create_symlink(server_.config_dir() + "/identity.key", directory_ + "/linked.key");
        for (const std::string name : {"/empty", "/garbage", "/token"})
            REQUIRE(::chmod((directory_ + name).c_str(), 0600) == 0);
        for (const std::string name : {"/open", "/existing.key"})
            REQUIRE(::chmod((directory_ + name).c_str(), 0644) == 0);
        // Makes the keys.
        succeeds(server_, {"ls", source_of(server_, "/")});
    }

    std::string in_place(std::string text) const {
        for (const auto& [name, value] :
             std::map<std::string, std::string>{{"{s}", server_.address() + ":"},
                                                {"{address}", server_.address()},
                                                {"{dead}", dead_.address()},
                                                {"{t}", directory_},
                                                {"{remofile}", program_from_environment("REMOFILE")},
                                                {"{remofs}", program_from_environment("REMOFS")},
                                                {"{server}", program_from_environment("REMOFILE_SERVER")}}) {
            for (std::size_t at = text.find(name); at != text.npos; at = text.find(name))
                text.replace(at, name.size(), value);
        }
        return text;
    }

    Command command(const std::string& line) const {
        std::istringstream words(in_place(line));
        Command command{.environment = {{"REMOFILE_CONFIG_DIR", server_.config_dir()}}, .directory = directory_};
        for (std::string word; words >> word;)
            command.arguments.push_back(word);
        return command;
    }
    Ended run_line(const std::string& line) const { return run(command(line), Milliseconds{20'000}); }
    Ended run_shell(const std::string& line) const {
        Command shell{.arguments = {"/bin/sh", "-c", in_place(line)},
                      .environment = {{"REMOFILE_CONFIG_DIR", server_.config_dir()}},
                      .directory = directory_};
        return run(shell, Milliseconds{20'000});
    }

    const ServerProcess& server() const { return server_; }
    const std::string& directory() const { return directory_; }

private:
    ServerProcess server_;
    DeadPort dead_;
    std::string directory_ = Scratch::instance().make_directory("here");
};

struct Row {
    std::string line;
    int exit_status;
    std::string says;
};

void check(const Row& row, const Ended& ended, const Surroundings& here) {
    INFO(row.line << "\n" << ended.to_string());
    CHECK(ended.exit_status == row.exit_status);
    CHECK(std::ranges::count(ended.errors, '\n') == 1);
    CHECK_THAT(ended.errors, ContainsSubstring(here.in_place(row.says)));
    CHECK(ended.output.empty());
}

}  // namespace

TEST_CASE("remofile says in one line what is wrong") {
    const Surroundings here;
    const std::string other_key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
    for (const Row& row : std::vector<Row>{
             // Commands and options.
             {"{remofile}", 1, "a command is missing"},
             {"{remofile} bogus", 1, "no command \"bogus\""},
             {"{remofile} --bogus", 1, "--bogus"},
             {"{remofile} ls", 1, "SOURCE is required"},
             {"{remofile} ls --bogus {s}/", 1, "--bogus"},
             {"{remofile} ls --json=false {s}/", 1, "--json takes no value"},
             {"{remofile} ls --json=true {s}/", 1, "--json takes no value"},
             {"{remofile} ls --insecure=no {s}/", 1, "--insecure takes no value"},
             {"{remofile} list --all=1 {s}/", 1, "--all takes no value"},
             {"{remofile} put --quiet=false {t}/a {s}/", 1, "--quiet takes no value"},
             {"{remofile} get --archive=off {s}/file {t}", 1, "--archive takes no value"},
             {"{remofile} sync --both=no {t}/tree {s}/dir", 1, "--both takes no value"},
             {"{remofile} rm --recursive=0 {s}/dir", 1, "--recursive takes no value"},
             {"{remofile} generate-keys --force=false {t}/k", 1, "--force takes no value"},
             {"{remofile} ls --help=no", 1, "--help takes no value"},
             {"{remofile} ls --server-key", 1, "--server-key"},
             {"{remofile} ls --wait=0 {s}/", 1, "--wait"},
             {"{remofile} ls --wait=soon {s}/", 1, "--wait"},
             {"{remofile} ls --congestion=b/r {s}/", 1, "--congestion: \"b/r\" is neither auto nor system"},
             {"{remofile} ping -c 0 {s}/", 1, "--count"},
             {"{remofile} ping -c x {s}/", 1, "--count"},
             {"{remofile} ping --count=-1 {s}/", 1, "--count"},
             {"{remofile} ping {s}/ {s}/", 1, "{s}/"},
             {"{remofile} status", 1, "SOURCE is required"},
             {"{remofile} put {t}/a", 1, "FILES"},
             {"{remofile} get {s}/file", 1, "FILES"},
             {"{remofile} mv {s}/file", 1, "SOURCE"},
             {"{remofile} sync --both {t}/tree", 1, "TO is required"},
             {"{remofile} put --compress-level=13 {t}/a {s}/", 1, "--compress-level"},
             {"{remofile} put --compress-level=x {t}/a {s}/", 1, "--compress-level"},
             {"{remofile} put -z --compress-level=0 {t}/a {s}/", 1, "contradict"},
             // Sources.
             {"{remofile} ls {s}", 1, "an absolute path"},
             {"{remofile} ls localhost", 1, "must name a host"},
             {"{remofile} ls /file", 1, "must name a host"},
             {"{remofile} ls :/x", 1, "the host is missing"},
             {"{remofile} ls host:99999:/", 1, "port must be a number"},
             {"{remofile} ls host:0:/", 1, "port must be a number"},
             {"{remofile} ls host:x:/", 1, "port must be a number"},
             {"{remofile} ls http://host/", 1, "unknown kind of address"},
             {"{remofile} ls remofile://host/?a", 1, "%3F"},
             {"{remofile} ls remofile://host/%zz", 1, "hexadecimal"},
             {"{remofile} ls remofile+ipc://", 1, "socket's absolute path"},
             {"{remofile} ls remofile+ipc:///", 1, "socket's absolute path"},
             {"{remofile} ls remofile+ipc:///nonexistent/socket", 2, "no such socket"},
             {"{remofile} ls me@host:/", 1, "no user names"},
             {"{remofile} ls [::1:/", 1, "bracket is not closed"},
             {"{remofile} ls [zz]:/", 1, "no IPv6 address"},
             {"{remofile} ls ::1:/", 1, "must stand in brackets"},
             {"{remofile} ls ho$t:/", 1, "no name of a host"},
             {"{remofile} ls {dead}:/", 2, "connection refused"},
             {"{remofile} status {dead}:/", 2, "connection refused"},
             {"{remofile} ls 192.0.2.1:/", 3, "the server's key is unknown"},
             {"{remofile} mv {s}/file other.example:/x", 1, "different servers"},
             // Keys and tokens: a file of this machine is no path of the server's.
             {"{remofile} ls --server-key=short {s}/", 1, "neither a key"},
             {"{remofile} ls --server-key={t}/empty {s}/", 1, "{t}/empty"},
             {"{remofile} ls --server-key={t}/none {s}/", 1, "{t}/none"},
             {"{remofile} ls --server-key=" + other_key + " {s}/", 3, "does not hold the key"},
             {"{remofile} ls --identity={t}/none {s}/", 1, "{t}/none"},
             {"{remofile} ls --identity={t}/open {s}/", 1, "chmod 600"},
             {"{remofile} ls --identity={t} {s}/", 1, "not a regular file"},
             {"{remofile} ls --identity={t}/linked.key {s}/", 1, "symbolic link"},
             {"{remofile} ls --identity={t}/garbage {s}/", 1, "not a secret key"},
             {"{remofile} ls --token-file={t}/none {s}/", 1, "{t}/none"},
             {"{remofile} status --token-file={t}/none {s}/", 1, "{t}/none"},
             {"{remofile} ls --token-file={t}/open {s}/", 1, "chmod 600"},
             {"{remofile} ls --token-file={t} {s}/", 1, "no regular file"},
             {"{remofile} ls --token-file={t}/empty {s}/", 1, "empty or too long"},
             {"{remofile} ls --insecure --server-key=x {s}/", 1, "insecure means without keys"},
             {"{remofile} ls --insecure {s}/", 4, "demands encryption"},
             {"{remofile} ls --insecure --token-file={t}/token 192.0.2.1:/", 1, "plain text"},
             // Files.
             {"{remofile} ls {s}/none", 7, "/none: no such file"},
             {"{remofile} ls {s}/file/below", 7, "not a directory"},
             {"{remofile} stat {s}/none", 7, "/none: no such file"},
             {"{remofile} cat {s}/", 1, "is a directory"},
             {"{remofile} cat {s}/none", 7, "/none: no such file"},
             {"{remofile} touch {s}/none/x", 7, "/none: no such file"},
             {"{remofile} touch {s}/", 1, "root of the export"},
             {"{remofile} mkdir {s}/file", 1, "/file: file exists"},
             {"{remofile} mkdir {s}/none/x", 7, "/none: no such file"},
             {"{remofile} mkdir -p {s}/file/x", 1, "/file: file exists"},
             {"{remofile} rm {s}/none", 7, "/none: no such file"},
             {"{remofile} rm {s}/dir", 1, "pass -r"},
             {"{remofile} rm -r {s}/", 1, "root of the export"},
             {"{remofile} mv {s}/none {s}/x", 7, "no such file"},
             {"{remofile} mv -n {s}/file {s}/file", 1, "file exists"},
             {"{remofile} put {t}/none {s}/", 7, "{t}/none: no such file"},
             {"{remofile} put {t}/a {s}/none/", 7, "/none/: there is no such directory on the server"},
             {"{remofile} put {t}/a {t}/b {s}/file", 7, "/file: there is no such directory on the server"},
             {"{remofile} put {t}/a {s}/none/x", 7, "/none: no such file"},
             {"{remofile} put /dev/null {s}/", 1, "/dev/null: is no regular file"},
             {"{remofile} put {t}/tree {s}/file", 7, "on the server is no directory"},
             {"{remofile} put {t}/a {s}/dir", 1, "{t}/a: on the server: is a directory"},
             {"{remofile} get {s}/none {t}", 7, "/none: no such file"},
             {"{remofile} get {s}/dir {t}/a", 7, "/dir: what is in its place here is no directory"},
             {"{remofile} get {s}/file {t}/none/x", 7, "{t}/none/: no such file"},
             {"{remofile} get {s}/file {s}/dir {t}/a", 7, "{t}/a: is no directory"},
             {"{remofile} get {s}/file {t}/a/", 7, "{t}/a/: is no directory"},
             {"{remofile} get {s}/file /proc", 7, "/file: here: no such file"},
             {"{remofile} get {s}/file {t}/tree/../mnt/none/", 7, "is no directory"},
             {"{remofile} sync {t}/a {t}/tree", 1, "the other a SOURCE"},
             {"{remofile} sync {s}/ {s}/dir", 1, "the other a SOURCE"},
             {"{remofile} sync {t}/none {s}/dir", 7, "{t}/none"},
             {"{remofile} sync {s}/none {t}/tree", 7, "/none: no such file"},
             {"{remofile} sync {t}/a {s}/dir", 7, "{t}/a: not a directory"},
             {"{remofile} sync {t}/tree {s}/file", 7, "/file: is no directory"},
             {"{remofile} generate-token {t}/none/t", 1, "{t}/none/t"},
             {"{remofile} generate-token {t}/a", 1, "{t}/a exists already; pass --force"},
             {"{remofile} generate-token --force {t}/tree", 1, "{t}/tree is no regular file"},
             {"{remofile} generate-token a b", 1, "b"},
             {"{remofile} generate-keys /proc/none/k", 1, "/proc/none"},
             {"{remofile} generate-keys {t}/existing.key", 1, "{t}/existing.key exists already; pass --force"},
         })
        check(row, here.run_line(row.line), here);
}

TEST_CASE("remofs says in one line what is wrong") {
    const Surroundings here;
    for (const Row& row : std::vector<Row>{
             {"{remofs}", 1, "usage"},
             {"{remofs} {s}/", 1, "usage"},
             {"{remofs} {s}/ {t}/mnt more", 1, "\"more\" is one word too many"},
             {"{remofs} -- {s}/ {t}/mnt -f", 1, "\"-f\" is one word too many"},
             {"{remofs} --bogus {s}/ {t}/mnt", 1, "--bogus"},
             {"{remofs} {s}/ {t}/mnt -o", 1, "-o needs"},
             {"{remofs} {s}/ {t}/mnt -o bogus", 1, "\"bogus\""},
             {"{remofs} {s}/ {t}/mnt -o ro=1", 1, "ro takes no value"},
             {"{remofs} {s}/ {t}/mnt -o insecure=false", 1, "insecure takes no value"},
             {"{remofs} {s}/ {t}/mnt -o nosuid=no", 1, "nosuid takes no value"},
             {"{remofs} {s}/ {t}/mnt -o atime=no", 1, "atime takes no value"},
             {"{remofs} {s}/ {t}/mnt -o timeout", 1, "timeout=SECONDS"},
             {"{remofs} {s}/ {t}/mnt -o timeout=0", 1, "timeout=0"},
             {"{remofs} {s}/ {t}/mnt -o wait=", 1, "wait"},
             {"{remofs} {s}/ {t}/mnt -o wait=soon", 1, "wait=soon"},
             {"{remofs} {s}/ {t}/mnt -o compress=13", 1, "compress=13"},
             {"{remofs} {s}/ {t}/mnt -o congestion=b/r", 1, "congestion: \"b/r\" is neither auto nor system"},
             {"{remofs} {s}/ {t}/mnt -o cache_size=1K", 1, "cache_size=1K"},
             {"{remofs} {s}/ {t}/mnt -o cache_size=big", 1, "cache_size=big"},
             {"{remofs} {s}/ {t}/mnt -o symlinks=follow", 1, "keep or contain"},
             {"{remofs} {s}/ {t}/mnt -o idmap={t}/none", 1, "idmap={t}/none"},
             {"{remofs} {s}/ {t}/mnt -o idmap={t}/map", 1, "idmap={t}/map"},
             {"{remofs} {s}/ {t}/mnt -o insecure,server_key=x", 1, "insecure excludes"},
             {"{remofs} {s}/ {t}/mnt -o server_key=x", 1, "-o server_key=x is neither"},
             {"{remofs} {s}/ {t}/mnt -o token_file={t}/none", 1, "{t}/none"},
             {"{remofs} {s}/ {t}/mnt -o identity={t}/none", 1, "{t}/none"},
             {"{remofs} nothing {t}/mnt", 1, "must name a host"},
             {"{remofs} 192.0.2.1:/ {t}/mnt", 3, "the server's key is unknown"},
             {"{remofs} {dead}:/ {t}/mnt", 2, "connection refused"},
             {"{remofs} {s}/none {t}/mnt", 7, "/none"},
             {"{remofs} {s}/file {t}/mnt", 7, "/file on the server is no directory"},
             {"{remofs} {s}/dir/../file {t}/mnt", 7, "/file on the server is no directory"},
             {"{remofs} {s}/link {t}/mnt", 7, "symlink"},
             {"{remofs} -- {s}/none {t}/mnt", 7, "/none"},
             {"{remofs} {s}/ {t}/none", 9, "{t}/none"},
             {"{remofs} {s}/ {t}/a", 9, "{t}/a"},
             {"{remofs} {s}/ {t}/mnt -o remount,ro", 9, "nothing to change"},
         })
        check(row, here.run_line(row.line), here);
    CHECK_FALSE(mounted_at(here.directory() + "/mnt"));
}

TEST_CASE("remofile-server says in one line what is wrong") {
    const Surroundings here;
    for (const Row& row : std::vector<Row>{
             {"{server}", 2, "no directory to serve"},
             {"{server} --bogus {t}", 2, "--bogus"},
             {"{server} --insecure=false {t}", 2, "--insecure takes no value"},
             {"{server} --insecure=true {t}", 2, "--insecure takes no value"},
             {"{server} --read-only=no {t}", 2, "--read-only takes no value"},
             {"{server} --exclusive=1 {t}", 2, "--exclusive takes no value"},
             {"{server} --daemon=off {t}", 2, "--daemon takes no value"},
             {"{server} --allow-root=0 --identity=client {t}", 2, "--allow-root takes no value"},
             {"{server} --help=no", 2, "--help takes no value"},
             {"{server} {t} {t}", 2, "{t}"},
             {"{server} --listen udp://127.0.0.1:1 {t}", 2, "unknown kind of address"},
             {"{server} --listen 127.0.0.1:1 {t}", 2, "unknown kind of address"},
             {"{server} --listen tcp:// {t}", 2, "the host is missing"},
             {"{server} --listen tcp://127.0.0.1:99999 {t}", 2, "port must be a number"},
             {"{server} --listen ipc:// {t}", 2, "socket's absolute path"},
             {"{server} --listen tcp://192.0.2.1:0 {t}", 1, "no such address"},
             {"{server} --listen tcp://{address} {t}", 1, "tcp://{address}"},
             {"{server} --session-timeout 1 {t}", 2, "--session-timeout"},
             {"{server} --session-timeout soon {t}", 2, "--session-timeout"},
             {"{server} --max-clients 0 {t}", 2, "--max-clients"},
             {"{server} --max-clients-per-key 5000 {t}", 2, "--max-clients-per-key"},
             {"{server} --strangers-per-second 0 {t}", 2, "--strangers-per-second"},
             {"{server} --data-port 70000 {t}", 2, "--data-port"},
             {"{server} --congestion-control b/r {t}", 2, "--congestion-control: \"b/r\" is neither auto nor system"},
             {"{server} --identity root {t}", 2, "squash, client"},
             {"{server} --allow-root {t}", 2, "--identity=client"},
             {"{server} --log-level loud {t}", 2, "debug, info, warn, error"},
             {"{server} --config {t} {t}", 2, "{t} is a directory"},
             {"{server} --config {t}/none {t}", 2, "{t}/none"},
             {"{server} --config {t}/listen.toml {t}", 2, "{t}/listen.toml:1: listen must be a text"},
             {"{server} --config {t}/flag.toml {t}", 2, "{t}/flag.toml:2: insecure must be true or false"},
             {"{server} --config {t}/unknown.toml {t}", 2, "{t}/unknown.toml:1: unknown option \"red-only\""},
             {"{server} --config {t}/path.toml {t}", 2, "{t}/path.toml:1: token-file must be a text"},
             {"{server} --listen tcp://127.0.0.1:0 --token-file {t}/none {t}", 1, "{t}/none"},
             {"{server} --listen tcp://127.0.0.1:0 --token-file {t}/open {t}", 1, "{t}/open"},
             {"{server} --listen tcp://127.0.0.1:0 --server-key {t}/none {t}", 1, "{t}/none"},
             {"{server} --listen tcp://127.0.0.1:0 --server-key {t}/garbage {t}", 1, "{t}/garbage"},
             {"{server} --listen tcp://127.0.0.1:0 --pid-file {t}/none/pid {t}", 1, "{t}/none/pid"},
             {"{server} --listen tcp://127.0.0.1:0 {t}/none", 1, "{t}/none"},
             {"{server} --listen tcp://127.0.0.1:0 {t}/a", 1, "{t}/a"},
         })
        check(row, here.run_line(row.line), here);
}

TEST_CASE("what has no place to go, or too little to work with, is an error") {
    const Surroundings here;
    for (const Row& row : std::vector<Row>{
             {"{remofile} ls {s}/ > /dev/full", 1, "standard output"},
             {"{remofile} stat {s}/file > /dev/full", 1, "standard output"},
             {"{remofile} cat {s}/file > /dev/full", 1, "standard output"},
             {"{remofile} status {s}/ > /dev/full", 1, "standard output"},
             {"{remofile} ping -c 1 {s}/ > /dev/full", 1, "standard output"},
             {"{remofile} put {t}/a {s}/ > /dev/full", 1, "standard output"},
             {"{remofile} generate-token > /dev/full", 1, "standard output"},
             {"{remofile} --help > /dev/full", 1, "standard output"},
             {"{remofile} ls {s}/ >&-", 1, "standard output"},
             {"{remofile} status {s}/ >&-", 1, "standard output"},
             {"{remofile} get {s}/none {t} <&- >&-", 7, "/none"},
             {"ulimit -n 16; {remofile} ls {s}/", 1, "limit of open files is 16"},
             {"ulimit -n 16; {remofs} {s}/ {t}/mnt", 1, "limit of open files is 16"},
             {"ulimit -n 16; {server} --listen tcp://127.0.0.1:0 {t}", 1, "limit of open files is 16"},
             {"touch {t}/config; REMOFILE_CONFIG_DIR={t}/config {remofile} ls {s}/", 1, "{t}/config"},
             {"REMOFILE_CONFIG_DIR={t}/a {remofile} sync --both {t}/tree {s}/dir", 1, "{t}/a"},
             {"REMOFILE_HOSTNAME=127.0.0.1 REMOFILE_PORT=x {remofile} ls /", 1, "port must be a number"},
             {"REMOFILE_PUBLIC_KEY=x {remofile} ls {s}/", 1, "neither a key"},
             {"{remofs} -h > /dev/full || { echo full >&2; false; }", 1, "full"},
             {"{server} --help > /dev/full || { echo full >&2; false; }", 1, "full"},
         })
        check(row, here.run_shell(row.line), here);
}

TEST_CASE("a host that there is not is said to be missing, not its key") {
    addrinfo* found = nullptr;
    if (::getaddrinfo("no-such-host.invalid", nullptr, nullptr, &found) != EAI_NONAME)
        return;  // no name service here
    const Surroundings here;
    for (const std::string program :
         {"{remofile} ls no-such-host.invalid:/", "{remofs} no-such-host.invalid:/ {t}/mnt"})
        check({program, 2, "no host no-such-host.invalid"}, here.run_line(program), here);
}

TEST_CASE("a token on a full disk leaves nothing behind") {
    if (::geteuid() != 0)
        return;
    const Surroundings here;
    const std::string small = Scratch::instance().make_directory("small");
    REQUIRE(::mount("tmpfs", small.c_str(), "tmpfs", 0, "size=4k") == 0);
    write_file(small + "/filler", std::string(4096, 'x'));
    check({"{remofile} generate-token", 1, small + "/t"}, here.run_line("{remofile} generate-token " + small + "/t"),
          here);
    CHECK_FALSE(fs::exists(small + "/t"));
    CHECK(std::distance(fs::directory_iterator(small), fs::directory_iterator()) == 1);
    ::umount2(small.c_str(), MNT_DETACH);
}

TEST_CASE("remofs mounts without standard descriptors") {
    const Surroundings here;
    const std::string mountpoint = here.directory() + "/mnt";
    for (const std::string closed : {"<&- >&-", "<&- >&- 2>&-", ">&- 2>&-"}) {
        const Ended ended = here.run_shell("{remofs} {s}/ {t}/mnt " + closed);
        INFO(closed << "\n" << ended.to_string());
        CHECK(ended.exit_status == 0);
        CHECK(read_file(mountpoint + "/file") == "content");
        CHECK(run({.arguments = {"fusermount3", "-u", mountpoint}}).exit_status == 0);
    }
}

TEST_CASE("options of a mount are changed where it is") {
    if (::geteuid() != 0)
        return;
    const Surroundings here;
    const std::string mountpoint = here.directory() + "/mnt";
    MountProcess mount(MountProcess::Options{.source = here.server().address() + ":/",
                                             .config_dir = here.server().config_dir(),
                                             .options = {},
                                             .mountpoint = mountpoint});
    const auto changed = [&](const std::string& options) {
        const Ended ended = here.run_line("{remofs} {s}/ {t}/mnt -o remount," + options);
        INFO(ended.to_string());
        CHECK(ended.exit_status == 0);
    };
    // As mount(8) hands on what it has found.
    changed("ro,nosuid,nodev,relatime,user_id=0,group_id=0");
    CHECK_FALSE(std::ofstream(mountpoint + "/new").is_open());
    changed("rw");
    CHECK(std::ofstream(mountpoint + "/new").is_open());
}

}  // namespace remofile::test
