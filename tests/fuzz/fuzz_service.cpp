// SPDX-License-Identifier: MIT
// The server's whole way of a message, with real files below a temporary directory: two clients with a session each
// send what the fuzzer likes. The input is a list of messages: a byte for the client (or for time to pass), then the
// head frame and up to two bulk frames, each led by its length (u16).
//
// Started as root it becomes "nobody" first: what fuzzed requests make (device nodes, for example) must do no harm.
#include <grp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string_view>
#include <utility>

#include "../wire/all_structures.hpp"
#include "base/assert.hpp"
#include "base/log.hpp"
#include "fuzz_input.hpp"
#include "fuzz_target.hpp"
#include "server/sessions/service.hpp"
#include "wire/frame.hpp"

using namespace remofile;
using namespace remofile::wire;

namespace {

constexpr rlim_t max_file_bytes = 16 << 20;  // a fuzzed FALLOCATE must not fill the disk
constexpr int max_turns = 10'000;            // far beyond what one input's messages need
constexpr std::uint64_t first_free_request = 2;

// Stands beside the export, where no request may get at it.
constexpr std::string_view secret = "what no client may read, write or remove";
constexpr std::string_view secret_name = "secret-beside-the-export";

// The inodes of that file and of the directory above the export. No client can make a reply say so of something else.
std::vector<std::uint64_t>& inodes_outside() {
    static std::vector<std::uint64_t> inodes;
    return inodes;
}

template <class Reply>
const Attributes* attributes_in(const Reply& reply) {
    if constexpr (requires { reply.attributes; })
        return &reply.attributes;
    else if constexpr (requires { reply.entry.attributes; })
        return &reply.entry.attributes;
    else
        return nullptr;
}

// Whether the reply's file is one that is not below the export.
bool leads_outside(const Record& record) {
    bool outside = false;
    const auto look = [&]<class Request>(const Request*) {
        const auto reply = decode_body<typename Request::Reply>(record.body);
        if (Request::opcode != record.header.opcode || !reply)
            return;
        if (const Attributes* attributes = attributes_in(*reply))
            outside = std::ranges::find(inodes_outside(), attributes->identity.inode) != inodes_outside().end();
    };
    [&]<class... Request>(std::tuple<Request...>*) {
        (look(static_cast<const Request*>(nullptr)), ...);
    }(static_cast<Requests*>(nullptr));
    return outside;
}

class TurnedClock final : public Clock {
public:
    TimePoint now() const override { return now_; }
    void advance(Duration by) { now_ += by; }

private:
    TimePoint now_{std::chrono::hours(1)};
};

// The service's thread and its workers, one thing at a time.
class OneThread final : public server::ServiceThread, public server::Executor {
public:
    using Work = ServiceThread::Work;

    const Clock& clock() const override { return turned; }
    std::uint64_t unix_time() const override { return 1; }
    bool send(const transport::RouteId&, Message message) override {
        const auto kind = static_cast<MessageKind>(std::to_integer<int>(message.head.data()[3]));
        const auto parsed = parse_message(std::move(message), kind);
        REMOFILE_ASSERT(parsed && kind != MessageKind::request);
        for (const Record& record : parsed->records) {
            REMOFILE_ASSERT(kind == MessageKind::push || is_known(record.header.detail));
            REMOFILE_ASSERT(kind == MessageKind::push || !leads_outside(record));
        }
        return true;
    }
    bool clogged(const transport::RouteId&) const override { return false; }
    void keep(const transport::RouteId&) override {}
    void retire(const transport::RouteId&) override {}
    transport::TimerId after(Duration delay, Work work) override {
        timers_.emplace(++last_timer_, std::pair(turned.now() + delay, std::move(work)));
        return transport::TimerId{last_timer_};
    }
    void cancel(transport::TimerId timer) override { timers_.erase(timer.value); }
    void at_end_of_turn(Work work) override { end_of_turn_.push_back(std::move(work)); }
    void post(Work work) override {
        const std::lock_guard lock(posted_mutex_);  // by the thread of the lock table
        posted_.push_back(std::move(work));
    }
    void submit(std::uint64_t, Executor::Work work) override { work_.push_back(std::move(work)); }

    void run_until_quiet() {
        for (int turns = 0; turn(); ++turns)
            REMOFILE_ASSERT(turns < max_turns);
    }

    explicit OneThread(TurnedClock& clock) : turned(clock) {}

    TurnedClock& turned;

private:
    bool turn() {
        std::deque<Work> due;
        {
            const std::lock_guard lock(posted_mutex_);
            due.swap(posted_);
        }
        while (!work_.empty()) {
            due.push_back(std::move(work_.front()));
            work_.pop_front();
        }
        for (auto timer = timers_.begin(); timer != timers_.end();) {
            if (timer->second.first > turned.now()) {
                ++timer;
                continue;
            }
            due.push_back(std::move(timer->second.second));
            timer = timers_.erase(timer);
        }
        for (Work& work : due)
            work();
        std::deque<Work> last = std::exchange(end_of_turn_, {});
        for (Work& work : last)
            work();
        return !due.empty() || !last.empty();
    }

    std::mutex posted_mutex_;
    std::deque<Work> posted_;
    std::deque<Work> end_of_turn_;
    std::deque<Executor::Work> work_;
    std::map<std::uint64_t, std::pair<TimePoint, Work>> timers_;
    std::uint64_t last_timer_ = 0;
};

// The exported directory, with its service of files, for as long as the program runs.
class Export {
public:
    Export() {
        log::configure("fuzz", log::Level::off, log::Target::standard_error);
        std::string name = (std::filesystem::temp_directory_path() / "remofile-fuzz-XXXXXX").string();
        REMOFILE_ASSERT(::mkdtemp(name.data()) != nullptr);
        base_ = name;
        directory_ = base_ / "export";
        std::filesystem::create_directory(directory_);
        std::ofstream(base_ / secret_name) << secret;
        for (const auto& each : {base_, base_ / secret_name}) {
            struct stat attributes {};
            REMOFILE_ASSERT(::lstat(each.c_str(), &attributes) == 0);
            inodes_outside().push_back(attributes.st_ino);
        }
        become_nobody();
        std::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{.rlim_cur = max_file_bytes, .rlim_max = max_file_bytes};
        REMOFILE_ASSERT(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
        leases = std::make_shared<server::LeaseTable>(clock, server::LeaseTable::Limits{.told_names = 4}, counters);
        auto opened = server::FileService::open({.directory = directory_.string(), .leases = leases}, counters);
        REMOFILE_ASSERT(opened.has_value());
        files = std::move(*opened);
    }
    ~Export() {
        files.reset();
        empty();
        std::error_code ignored;  // "nobody" may not remove it from /tmp if root made it; then it stays behind, empty
        std::filesystem::remove_all(base_, ignored);
    }
    Export(const Export&) = delete;
    Export& operator=(const Export&) = delete;

    void empty() const {
        std::error_code ignored;
        std::vector<std::filesystem::path> entries;
        for (const auto& entry : std::filesystem::directory_iterator(directory_, ignored))
            entries.push_back(entry.path());
        for (const auto& entry : entries) {
            if (std::filesystem::is_directory(std::filesystem::symlink_status(entry, ignored)))
                std::filesystem::permissions(entry, std::filesystem::perms::owner_all, ignored);
            std::filesystem::remove_all(entry, ignored);
        }
    }

    // What is beside the export is as it was, and nothing has come.
    void check_outside() const {
        std::ifstream file(base_ / secret_name);
        REMOFILE_ASSERT(std::string(std::istreambuf_iterator<char>(file), {}) == secret);
        struct stat attributes {};
        REMOFILE_ASSERT(::lstat((base_ / secret_name).c_str(), &attributes) == 0 && attributes.st_nlink == 1);
        REMOFILE_ASSERT(std::distance(std::filesystem::directory_iterator(base_), {}) == 2);
    }

    TurnedClock clock;
    Counters counters;
    std::shared_ptr<server::LeaseTable> leases;  // shared with the files and each service
    std::unique_ptr<server::FileService> files;

private:
    void become_nobody() const {
        if (::geteuid() != 0)
            return;
        constexpr uid_t nobody = 65534;
        for (const auto& each : {base_, directory_, base_ / secret_name})
            REMOFILE_ASSERT(::chown(each.c_str(), nobody, nobody) == 0);
        REMOFILE_ASSERT(::setgroups(0, nullptr) == 0 && ::setgid(nobody) == 0 && ::setuid(nobody) == 0);
    }

    std::filesystem::path base_;
    std::filesystem::path directory_;
};

Export& exported() {
    static Export instance;
    return instance;
}

constexpr unsigned char time_passes = 0xff;

// Client in bit 0, number of bulk frames in bits 1 and 2.
std::string item(const Message& message, unsigned client = 0) {
    std::string input(1, static_cast<char>(client | message.bulk.size() << 1));
    append_frames(input, message);
    return input;
}

Message hello() {
    MessageWriter writer(MessageKind::request);
    writer.add({.opcode = Opcode::hello, .id = RequestId{1}},
               Hello{.features = feature_leases | feature_exclusive_leases | feature_lent_inodes,
                     .root = NodeId{1},
                     .path = "/",
                     .client_name = "fuzz"});
    return std::move(writer).finish();
}

class Conversation {
public:
    Conversation()
        : thread_(exported().clock),
          service_(*exported().files, thread_, thread_, exported().counters,
                   {.version = "fuzz", .boot = 1, .leases = exported().leases}) {
        for (unsigned client = 0; client < 2; ++client)
            say(client, hello());
    }

    void say(unsigned client, Message message) {
        const transport::RouteId route{std::string(1, static_cast<char>('a' + client))};
        service_.on_message(
            route, [] { return transport::Peer{.address = "fuzz", .key = {}, .comment = {}}; }, std::move(message));
        thread_.run_until_quiet();
    }
    void pass_time() {
        thread_.turned.advance(std::chrono::seconds(7));
        thread_.run_until_quiet();
    }

private:
    OneThread thread_;
    server::Service service_;
};

template <class... Body>
std::string one_message(unsigned client, const Body&... bodies) {
    MessageWriter writer(MessageKind::request);
    std::uint64_t id = first_free_request;
    (writer.add({.opcode = Body::opcode, .id = RequestId{id++}}, bodies), ...);
    return item(std::move(writer).finish(), client);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    FuzzInput input(data, size);
    {
        Conversation conversation;
        while (!input.empty()) {
            const auto what = input.number<std::uint8_t>();
            if (what == time_passes)
                conversation.pass_time();
            else
                conversation.say(what & 1U, input.message(what >> 1 & 3U));
        }
    }
    exported().check_outside();
    exported().empty();
    return 0;
}

std::vector<std::string> fuzz_seeds() {
    const NewNode node{.id = NodeId{2}};
    const Create create{.parent = NodeId{1},
                        .name = "f",
                        .node = node,
                        .handle = HandleId{1},
                        .flags = open_read | open_write,
                        .mode = 0644};
    const HandleId handle{1};
    const std::string beside(secret_name);
    std::vector<std::string> seeds{
        one_message(0, create, Getattr{.node = NodeId{2}}, Read{.handle = handle, .size = 10},
                    Release{.handle = handle}),
        one_message(0, create, Fallocate{.handle = handle, .length = 4096}, Seek{.handle = handle},
                    Fsync{.handle = handle}),
        one_message(0, create, CopyRange{.from = handle, .to = handle, .to_offset = 100, .size = 5},
                    Hash{.handle = handle, .block_size = 2, .count = 9}, Flush{.handle = handle}),
        one_message(0, create, Setattr{.node = NodeId{2}, .which = set_mode | set_size, .mode = 0600, .size = 9}),
        one_message(0, create, Link{.node = NodeId{2}, .new_parent = NodeId{1}, .new_name = "g"},
                    Rename{.parent = NodeId{1}, .name = "f", .new_parent = NodeId{1}, .new_name = "h"},
                    Unlink{.parent = NodeId{1}, .name = "h"}),
        one_message(0, Mkdir{.parent = NodeId{1}, .name = "d", .node = node, .mode = 0755},
                    Lookup{.parent = NodeId{1}, .name = "d", .node = {.id = NodeId{3}, .reuse = true}},
                    Rmdir{.parent = NodeId{1}, .name = "d"}, Forget{.nodes = {{.node = NodeId{2}}}}),
        one_message(0, Symlink{.parent = NodeId{1}, .name = "s", .node = node, .target = "/etc"},
                    Readlink{.node = NodeId{2}}, Open{.node = NodeId{2}, .handle = handle, .flags = open_read}),
        // Ways out of the export, none of which leads there.
        one_message(0, Symlink{.parent = NodeId{1}, .name = "s", .node = node, .target = "../" + beside},
                    Open{.node = NodeId{2}, .handle = handle, .flags = open_read}, Read{.handle = handle, .size = 100},
                    Lookup{.parent = NodeId{1}, .name = "..", .node = {.id = NodeId{3}}},
                    Fetch{.parent = NodeId{1}, .name = "../" + beside, .size = 100},
                    Unlink{.parent = NodeId{3}, .name = beside}),
        one_message(0, Symlink{.parent = NodeId{1}, .name = "up", .node = node, .target = ".."},
                    Lookup{.parent = NodeId{2}, .name = beside, .node = {.id = NodeId{3}}},
                    List{.node = NodeId{1}, .name = "up", .new_node = {.id = NodeId{4}}, .size = 4096},
                    Rename{.parent = NodeId{1}, .name = "up", .new_parent = NodeId{1}, .new_name = "../up"},
                    Link{.node = NodeId{2}, .new_parent = NodeId{1}, .new_name = "../up"}),
        one_message(0, Mknod{.parent = NodeId{1}, .name = "p", .node = node, .mode = 0010600},
                    Open{.node = NodeId{2}, .handle = handle, .flags = open_read | open_write}),
        one_message(0, Opendir{.node = NodeId{1}, .handle = handle},
                    Readdir{.handle = handle,
                            .size = 4096,
                            .max_entries = 10,
                            .attributes = ListedAttributes::with_nodes,
                            .first_node = NodeId{10}},
                    Releasedir{.handle = handle}),
        one_message(0, Mkdir{.parent = NodeId{1}, .name = "d", .node = node, .mode = 0755},
                    List{.node = NodeId{1},
                         .name = "d",
                         .new_node = {.id = NodeId{3}, .reuse = true},
                         .handle = handle,
                         .size = 4096,
                         .lease = true},
                    List{.node = NodeId{1}, .size = 200, .lease = true},
                    ReturnLeases{.directories = {NodeId{1}, NodeId{2}}}),
        // One client has two directories alone, and each kind of request of the other waits; it shares one, and is too
        // late with the other.
        one_message(0, Mkdir{.parent = NodeId{1}, .name = "d", .node = node, .mode = 0755},
                    TakeLeases{.directories = {NodeId{1}, NodeId{2}, NodeId{9}}}) +
            one_message(1, Lookup{.parent = NodeId{1}, .name = "d", .node = node}, Getattr{.node = NodeId{2}}, create) +
            one_message(0, Invalidated{.sequence = 1}, ShareLeases{.directories = {NodeId{1}, NodeId{9}}}) +
            one_message(1, Cancel{.request = RequestId{3}}) + static_cast<char>(time_passes) +
            static_cast<char>(time_passes),
        one_message(0, TakeLeases{.directories = {NodeId{1}}}) +
            one_message(1, TakeLeases{.directories = {NodeId{1}}}) +
            one_message(1, Rmdir{.parent = NodeId{1}, .name = "d"}) + one_message(0, Bye{}),
        // Inodes are lent, and used by their session, by the other, and twice.
        one_message(0, LendInodes{.directory = NodeId{1}, .files = 2, .directories = 2}) +
            one_message(1, MakeLent{.parent = NodeId{1}, .name = "d", .node = node, .lent = 3, .mode = 0755}) +
            one_message(0,
                        MakeLent{.parent = NodeId{1},
                                 .name = "f",
                                 .node = node,
                                 .lent = 1,
                                 .handle = handle,
                                 .flags = open_write,
                                 .mode = 0644},
                        MakeLent{.parent = NodeId{1}, .name = "d", .node = {.id = NodeId{3}}, .lent = 4},
                        MakeLent{.parent = NodeId{1}, .name = "e", .node = {.id = NodeId{4}}, .lent = 4}),
        // One client holds a lease, the other changes what it covers, twice; it confirms too late.
        one_message(0, List{.node = NodeId{1}, .size = 4096, .lease = true}) + one_message(1, create) +
            one_message(1, Unlink{.parent = NodeId{1}, .name = "f"}) + static_cast<char>(time_passes) +
            static_cast<char>(time_passes) + one_message(0, Invalidated{.sequence = 1}),
        one_message(1, List{.node = NodeId{1}, .size = 4096, .lease = true}) + one_message(0, create) +
            one_message(1, Invalidated{.sequence = 1}, Invalidated{.sequence = 9}),
        one_message(0, create, Fetch{.parent = NodeId{1}, .name = "f", .size = 100},
                    Fetch{.parent = NodeId{1}, .name = "f", .size = 1}),
        one_message(0, Tmpfile{.parent = NodeId{1}, .node = node, .handle = handle, .flags = open_write, .mode = 0600},
                    Statfs{.node = NodeId{1}}, Access{.node = NodeId{2}, .mask = 4}),
        one_message(0, create, Listxattr{.node = NodeId{2}, .size = 100},
                    Getxattr{.node = NodeId{2}, .name = "user.x", .size = 10},
                    Removexattr{.node = NodeId{2}, .name = "user.x"}),
        one_message(0, create, Flock{.handle = handle, .type = LockType::write},
                    Getlk{.handle = handle, .owner = LockOwner{1}, .range = {.type = LockType::read, .end = 5}},
                    Setlk{.handle = handle, .owner = LockOwner{1}, .range = {.type = LockType::write, .end = 5}}) +
            one_message(1, create,
                        Setlk{.handle = handle,
                              .owner = LockOwner{1},
                              .range = {.type = LockType::write, .end = 5},
                              .wait = true}) +
            one_message(1, Ping{}) + static_cast<char>(time_passes) + one_message(0, Bye{}),
        one_message(0, Credential{.number = 1, .uid = 1000, .gid = 1000, .groups = {1, 2}}, ServerStatus{},
                    Cancel{.request = RequestId{3}}, Invalidated{.sequence = 1}, Ping{}, Bye{}),
        item(hello(), 0) + one_message(0, Attach{.session = SessionId{1}, .lane = 1}),
    };
    MessageWriter unknown(MessageKind::request);
    unknown.add({.opcode = Opcode::getattr, .id = RequestId{2}}, Getattr{.node = NodeId{1}});
    unknown.add({.opcode = Opcode{4242}, .id = RequestId{3}}, Ping{});
    unknown.add({.opcode = Opcode::getattr, .id = RequestId{4}}, Getattr{.node = NodeId{1}});
    seeds.push_back(item(std::move(unknown).finish()));
    MessageWriter writer(MessageKind::request);
    writer.add({.opcode = Opcode::create, .flags = flag_link, .id = RequestId{2}}, create);
    writer.add({.opcode = Opcode::write, .flags = flag_link, .id = RequestId{3}}, Write{.handle = handle},
               Buffer::copy_of("some data"));
    writer.add({.opcode = Opcode::setxattr, .id = RequestId{4}}, Setxattr{.node = NodeId{2}, .name = "user.x"},
               Buffer::copy_of("value"));
    const Message message = std::move(writer).finish(RequestId{2}, 0);
    seeds.push_back(item(message));
    seeds.push_back(item(message) + item(message));  // the same numbers again
    MessageWriter ordered(MessageKind::request);
    ordered.add({.opcode = Opcode::create, .flags = flag_in_order, .id = RequestId{2}}, create);
    ordered.add({.opcode = Opcode::ping, .flags = flag_in_order, .id = RequestId{3}}, Ping{});
    seeds.push_back(item(std::move(ordered).finish()));
    return seeds;
}

std::vector<std::string> fuzz_words() {
    return {std::string("RF\x02\x01", 4), "..", "../", std::string(secret_name), "/proc/self/cwd"};
}
