// SPDX-License-Identifier: MIT
// The bytes of every structure, written by hand from docs/PROTOCOL.md. If one of these fails, old and new programs no
// longer understand each other: do not change the bytes, change the code.
#include <set>
#include <string>
#include <string_view>

#include "all_structures.hpp"
#include "catch.hpp"
#include "wire/frame.hpp"

using namespace remofile;
using namespace remofile::wire;

namespace {

unsigned from_hex_digit(char digit) {
    return static_cast<unsigned>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

// Blanks between the digits are ignored.
std::vector<std::byte> from_hex(std::string_view text) {
    std::string digits;
    for (const char c : text)
        if (c != ' ')
            digits += c;
    REQUIRE(digits.size() % 2 == 0);
    std::vector<std::byte> bytes;
    for (std::size_t i = 0; i < digits.size(); i += 2)
        bytes.push_back(static_cast<std::byte>(from_hex_digit(digits[i]) << 4 | from_hex_digit(digits[i + 1])));
    return bytes;
}

std::string to_hex(std::span<const std::byte> bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (const std::byte byte : bytes) {
        text += digits[std::to_integer<std::size_t>(byte >> 4)];
        text += digits[std::to_integer<std::size_t>(byte & std::byte{15})];
    }
    return text;
}

// `value` encodes to exactly these bytes; they decode to the same; and no shorter or longer ones decode at all.
template <Structure T>
void check_bytes(const T& value, std::string_view golden) {
    const auto bytes = from_hex(golden);
    CHECK(to_hex(encode_body(value)) == to_hex(bytes));
    const auto decoded = decode_body<T>(bytes);
    REQUIRE(decoded);
    CHECK(to_hex(encode_body(*decoded)) == to_hex(bytes));
    for (std::size_t size = 0; size < bytes.size(); ++size)
        CHECK(decode_body<T>(std::span(bytes).first(size)).status() == Status::malformed);
    auto longer = bytes;
    longer.push_back(std::byte{0});
    CHECK(decode_body<T>(longer).status() == Status::malformed);
}

// A request, whose opcode the document gives.
template <Structure T>
void check_request(unsigned number, const T& value, std::string_view golden) {
    CHECK(static_cast<unsigned>(T::opcode) == number);
    check_bytes(value, golden);
}

constexpr std::array<std::uint8_t, 16> secret{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
                                              0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};
const std::string secret_bytes = "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf ";

const Attributes attributes{.identity = {.device = 0x0102, .inode = 0x0304, .birth = {.seconds = 5, .nanoseconds = 6}},
                            .mode = 0100644,
                            .links = 2,
                            .uid = 1000,
                            .gid = 1001,
                            .rdev_major = 8,
                            .rdev_minor = 1,
                            .size = 0x1122334455667788,
                            .blocks = 16,
                            .block_size = 4096,
                            .access = {.seconds = -1, .nanoseconds = 999999999},
                            .modification = {.seconds = 256, .nanoseconds = 1},
                            .change = {.seconds = 257, .nanoseconds = 2},
                            .version = 0xfedcba9876543210};
const std::string attributes_bytes =
    "0201000000000000 0403000000000000 0500000000000000 06000000 "  // identity: device, inode, birth
    "a4810000 02000000 e8030000 e9030000 08000000 01000000 "        // mode, links, uid, gid, rdev
    "8877665544332211 1000000000000000 00100000 "                   // size, blocks, block_size
    "ffffffffffffffff ffc99a3b "                                    // access
    "0001000000000000 01000000 "                                    // modification
    "0101000000000000 02000000 "                                    // change
    "1032547698badcfe ";                                            // version
const Client client{
    .name = "u@h", .address = "ipc", .since = 0x65000000, .exclusive = true, .leases = 3, .revoked = 4, .expired = 5};
const std::string client_bytes =
    "0300 754068 0300 697063 0000006500000000 01 03000000 0400000000000000 0500000000000000 ";

}  // namespace

TEST_CASE("golden bytes: the session") {
    check_request(1,
                  Hello{.min_version = 2,
                        .max_version = 3,
                        .features = 3,
                        .compression = compression_automatic,
                        .flags = hello_exclusive | hello_read_only,
                        .wait_ms = 1000,
                        .resume = SessionId{0x0807060504030201},
                        .session_secret = secret,
                        .root = NodeId{1},
                        .path = "/d",
                        .client_name = "me",
                        .token = "t"},
                  "02 03 0300000000000000 ff 03000000 e8030000 0102030405060708 " + secret_bytes +
                      "0100000000000000 0200 2f64 0200 6d65 0100 74");
    check_bytes(HelloReply{.version = 2,
                           .features = 1,
                           .session = SessionId{9},
                           .session_secret = secret,
                           .boot = 7,
                           .resumed = true,
                           .read_only = false,
                           .client_identity = true,
                           .server_uid = 33,
                           .server_gid = 34,
                           .root = NodeId{1},
                           .root_attributes = attributes,
                           .max_requests = 1024,
                           .request_bytes = 8 << 20,
                           .reply_window_bytes = 16 << 20,
                           .session_timeout_ms = 60000,
                           .ping_interval_ms = 15000,
                           .lease_term_ms = 10000,
                           .others = {client}},
                "02 0100000000000000 0900000000000000 " + secret_bytes +
                    "0700000000000000 01 00 01 21000000 22000000 0100000000000000 " + attributes_bytes +
                    "00040000 00008000 00000001 60ea0000 983a0000 10270000 0100 " + client_bytes);
    check_bytes(InUse{.holders = {client, client}}, "0200 " + client_bytes + client_bytes);
    check_request(2, Attach{.session = SessionId{9}, .session_secret = secret, .lane = 7},
                  "0900000000000000 " + secret_bytes + "07");
    check_request(3, Bye{}, "");
    check_request(4, Ping{}, "");
    check_request(5, Cancel{.request = RequestId{258}}, "0201000000000000");
    check_request(6, Credential{.number = 1, .uid = 1000, .gid = 100, .groups = {4, 24}},
                  "01000000 e8030000 64000000 0200 04000000 18000000");
    check_request(7, ServerStatus{}, "");
    check_bytes(
        ServerStatusReply{
            .version = "0.1", .started = 2, .clients = {client}, .counters = {{.name = "requests", .value = 513}}},
        "0300 302e31 0200000000000000 0100 " + client_bytes + "0100 0800 7265717565737473 0102000000000000");
    check_request(14, Exports{}, "");
    check_bytes(ExportsReply{.exports = {{.name = "media", .read_only = true, .clients = {client}}, {}}},
                "0200 0500 6d65646961 01 0100 " + client_bytes + "0000 00 0000");
    check_bytes(ExportNeeded{.names = {"a", "bc"}}, "0200 0100 61 0200 6263");
    check_request(8, Invalidated{.sequence = 5}, "0500000000000000");
    check_request(9, LaneTicket{.lane = 2}, "02");
    check_request(11, TakeLeases{.directories = {NodeId{2}}}, "0100 0200000000000000");
    check_request(12, ShareLeases{.directories = {NodeId{2}}}, "0100 0200000000000000");
    check_request(13, LendInodes{.directory = NodeId{2}, .files = 3, .directories = 4},
                  "0200000000000000 03000000 04000000");
    check_bytes(LendInodesReply{.now = {.seconds = 5, .nanoseconds = 6},
                                .files = {{.number = 7, .attributes = attributes}},
                                .directories = {}},
                "0500000000000000 06000000 0100 0700000000000000 " + attributes_bytes + " 0000");
    check_request(10, ReturnLeases{.directories = {NodeId{2}, NodeId{3}}}, "0200 0200000000000000 0300000000000000");
    LaneTicketReply ticket{.port = 6769};
    ticket.ticket.fill(0xab);
    ticket.key_to_server.fill(1);
    ticket.key_to_client.fill(2);
    const auto repeated = [](std::string_view byte, int times) {
        std::string bytes;
        for (int i = 0; i < times; ++i)
            bytes += byte;
        return bytes;
    };
    check_bytes(ticket, "711a" + repeated("ab", 16) + repeated("01", 32) + repeated("02", 32));
}

TEST_CASE("golden bytes: names and attributes") {
    check_request(16, Lookup{.parent = NodeId{1}, .name = "ab", .node = {.id = NodeId{2}, .reuse = true}},
                  "0100000000000000 0200 6162 0200000000000000 01");
    check_bytes(EntryReply{.node = NodeId{2}, .attributes = attributes}, "0200000000000000 " + attributes_bytes);
    check_bytes(AttributesReply{.attributes = attributes}, attributes_bytes);
    check_request(17, Forget{.nodes = {{.node = NodeId{2}, .count = 1}, {.node = NodeId{3}, .count = 4}}},
                  "0200 0200000000000000 0100000000000000 0300000000000000 0400000000000000");
    check_request(18, Getattr{.node = NodeId{2}, .handle = HandleId{3}}, "0200000000000000 0300000000000000");
    check_request(19,
                  Setattr{.node = NodeId{2},
                          .handle = HandleId{3},
                          .which = set_mode | set_modification_now,
                          .mode = 0755,
                          .uid = 1,
                          .gid = 2,
                          .size = 4,
                          .access = {.seconds = 5, .nanoseconds = 6},
                          .modification = {.seconds = 7, .nanoseconds = 8}},
                  "0200000000000000 0300000000000000 81000000 ed010000 01000000 02000000 0400000000000000 "
                  "0500000000000000 06000000 0700000000000000 08000000");
    check_request(20, Readlink{.node = NodeId{2}}, "0200000000000000");
    check_bytes(ReadlinkReply{.target = "../x"}, "0400 2e2e2f78");
    check_request(21,
                  Mknod{.parent = NodeId{1},
                        .name = "n",
                        .node = {.id = NodeId{2}},
                        .mode = 0010600,
                        .umask = 022,
                        .rdev_major = 1,
                        .rdev_minor = 3},
                  "0100000000000000 0100 6e 0200000000000000 00 80110000 12000000 01000000 03000000");
    check_request(30,
                  MakeLent{.parent = NodeId{1},
                           .name = "f",
                           .node = {.id = NodeId{2}},
                           .lent = 3,
                           .handle = HandleId{4},
                           .flags = open_write,
                           .mode = 0644,
                           .umask = 022,
                           .time = {.seconds = 5, .nanoseconds = 6}},
                  "0100000000000000 0100 66 0200000000000000 00 0300000000000000 0400000000000000 02000000 a4010000 "
                  "12000000 0500000000000000 06000000");
    check_request(31,
                  FindKept{.identity = {.device = 0x0102, .inode = 0x0304, .birth = {.seconds = 5, .nanoseconds = 6}},
                           .node = {.id = NodeId{2}}},
                  "0201000000000000 0403000000000000 0500000000000000 06000000 0200000000000000 00");
    check_request(22, Mkdir{.parent = NodeId{1}, .name = "d", .node = {.id = NodeId{2}}, .mode = 0777, .umask = 027},
                  "0100000000000000 0100 64 0200000000000000 00 ff010000 17000000");
    check_request(23, Unlink{.parent = NodeId{1}, .name = "\xff"}, "0100000000000000 0100 ff");
    check_request(24, Rmdir{.parent = NodeId{1}, .name = "d"}, "0100000000000000 0100 64");
    check_request(25, Symlink{.parent = NodeId{1}, .name = "s", .node = {.id = NodeId{2}}, .target = "t"},
                  "0100000000000000 0100 73 0200000000000000 00 0100 74");
    check_request(
        26,
        Rename{.parent = NodeId{1}, .name = "a", .new_parent = NodeId{2}, .new_name = "b", .flags = rename_exchange},
        "0100000000000000 0100 61 0200000000000000 0100 62 02000000");
    check_request(27, Link{.node = NodeId{3}, .new_parent = NodeId{1}, .new_name = "l"},
                  "0300000000000000 0100000000000000 0100 6c");
    check_request(28, Access{.node = NodeId{3}, .mask = 6}, "0300000000000000 06000000");
    check_request(29, Statfs{.node = NodeId{3}}, "0300000000000000");
    check_bytes(StatfsReply{.block_size = 4096,
                            .blocks = 5,
                            .blocks_free = 4,
                            .blocks_available = 3,
                            .files = 2,
                            .files_free = 1,
                            .name_max = 255},
                "0010000000000000 0500000000000000 0400000000000000 0300000000000000 0200000000000000 "
                "0100000000000000 ff000000");
}

TEST_CASE("golden bytes: open files") {
    check_request(32, Open{.node = NodeId{2}, .handle = HandleId{3}, .flags = open_read | open_execute},
                  "0200000000000000 0300000000000000 01010000");
    check_request(33,
                  Create{.parent = NodeId{1},
                         .name = "c",
                         .node = {.id = NodeId{2}},
                         .handle = HandleId{3},
                         .flags = open_write | open_exclusive,
                         .mode = 0644,
                         .umask = 0},
                  "0100000000000000 0100 63 0200000000000000 00 0300000000000000 12000000 a4010000 00000000");
    check_bytes(CreateReply{.entry = {.node = NodeId{2}, .attributes = attributes}, .created = true},
                "0200000000000000 " + attributes_bytes + "01");
    check_request(34,
                  Tmpfile{.parent = NodeId{1},
                          .node = {.id = NodeId{2}},
                          .handle = HandleId{3},
                          .flags = open_read | open_write,
                          .mode = 0600,
                          .umask = 077},
                  "0100000000000000 0200000000000000 00 0300000000000000 03000000 80010000 3f000000");
    check_request(35, Read{.handle = HandleId{3}, .offset = 65536, .size = 1048576},
                  "0300000000000000 0000010000000000 00001000");
    check_request(36, Write{.handle = HandleId{3}, .offset = 1, .append = true},
                  "0300000000000000 0100000000000000 01");
    check_bytes(WriteReply{.offset = 1, .size = 5, .attributes = attributes, .version_before = 6},
                "0100000000000000 05000000 " + attributes_bytes + " 0600000000000000");
    check_request(37, Release{.handle = HandleId{3}}, "0300000000000000");
    check_request(38, Flush{.handle = HandleId{3}, .owner = LockOwner{4}}, "0300000000000000 0400000000000000");
    check_request(39, Fsync{.handle = HandleId{3}, .data_only = true}, "0300000000000000 01");
    check_request(40, Fallocate{.handle = HandleId{3}, .mode = 3, .offset = 4, .length = 5},
                  "0300000000000000 03000000 0400000000000000 0500000000000000");
    check_request(41, Seek{.handle = HandleId{3}, .offset = 4, .what = SeekWhat::hole},
                  "0300000000000000 0400000000000000 01");
    check_bytes(SeekReply{.offset = 6}, "0600000000000000");
    check_request(42, CopyRange{.from = HandleId{3}, .from_offset = 4, .to = HandleId{5}, .to_offset = 6, .size = 7},
                  "0300000000000000 0400000000000000 0500000000000000 0600000000000000 0700000000000000");
    check_bytes(CopyRangeReply{.size = 7}, "0700000000000000");
    check_request(43, Hash{.handle = HandleId{3}, .offset = 4, .block_size = 5, .count = 6},
                  "0300000000000000 0400000000000000 05000000 0600");
    check_request(44, Fetch{.parent = NodeId{1}, .name = "f", .size = 65536}, "0100000000000000 0100 66 00000100");
    check_bytes(FetchReply{.attributes = attributes, .complete = true}, attributes_bytes + "01");
}

TEST_CASE("golden bytes: directories") {
    check_request(48, Opendir{.node = NodeId{1}, .handle = HandleId{3}}, "0100000000000000 0300000000000000");
    check_request(49,
                  Readdir{.handle = HandleId{3},
                          .cookie = 4,
                          .size = 65536,
                          .max_entries = 1000,
                          .attributes = ListedAttributes::alone,
                          .first_node = NodeId{50}},
                  "0300000000000000 0400000000000000 00000100 e803 02 3200000000000000");
    check_bytes(ReaddirReply{.count = 2, .end = true}, "0200 01");
    check_bytes(
        DirectoryEntry{
            .cookie = 1, .inode = 2, .type = 8, .name = "f", .entry = {.node = NodeId{51}, .attributes = attributes}},
        "0100000000000000 0200000000000000 08 0100 66 3300000000000000 " + attributes_bytes + "00 0000");
    check_bytes(DirectoryEntry{.cookie = 1,
                               .inode = 2,
                               .type = 10,
                               .name = "l",
                               .entry = {.node = NodeId{}, .attributes = attributes},
                               .no_xattrs = true,
                               .target = "to"},
                "0100000000000000 0200000000000000 0a 0100 6c 0000000000000000 " + attributes_bytes + "01 0200 746f");
    check_request(50, Releasedir{.handle = HandleId{3}}, "0300000000000000");
    check_request(51, Fsyncdir{.handle = HandleId{3}, .data_only = false}, "0300000000000000 00");
    check_request(52,
                  List{.node = NodeId{1},
                       .name = "d",
                       .new_node = {.id = NodeId{2}, .reuse = true},
                       .handle = HandleId{3},
                       .size = 65536,
                       .lease = true},
                  "0100000000000000 0100 64 0200000000000000 01 0300000000000000 00000100 01");
    check_bytes(ListReply{.entry = {.node = NodeId{2}, .attributes = attributes},
                          .count = 2,
                          .end = true,
                          .leased = true,
                          .trust_ms = 1000,
                          .no_xattrs = true},
                "0200000000000000 " + attributes_bytes + "0200 01 01 e8030000 01");
}

TEST_CASE("golden bytes: extended attributes and locks") {
    check_request(56, Getxattr{.node = NodeId{2}, .name = "user.k", .size = 10},
                  "0200000000000000 0600 757365722e6b 0a000000");
    check_bytes(XattrReply{.size = 9}, "09000000");
    check_request(57, Setxattr{.node = NodeId{2}, .name = "k", .flags = xattr_replace},
                  "0200000000000000 0100 6b 02000000");
    check_request(58, Listxattr{.node = NodeId{2}, .size = 10}, "0200000000000000 0a000000");
    check_request(59, Removexattr{.node = NodeId{2}, .name = "k"}, "0200000000000000 0100 6b");

    const LockRange range{.type = LockType::write, .start = 1, .end = 0x7fffffffffffffff, .pid = 42};
    const std::string range_bytes = "01 0100000000000000 ffffffffffffff7f 2a000000 ";
    check_request(64, Getlk{.handle = HandleId{3}, .owner = LockOwner{4}, .range = range},
                  "0300000000000000 0400000000000000 " + range_bytes);
    check_bytes(LockReply{.range = range}, range_bytes);
    check_request(65, Setlk{.handle = HandleId{3}, .owner = LockOwner{4}, .range = range, .wait = true},
                  "0300000000000000 0400000000000000 " + range_bytes + "01");
    check_request(66, Flock{.handle = HandleId{3}, .type = LockType::unlock, .wait = false}, "0300000000000000 02 00");
    check_bytes(HeldLock{.handle = HandleId{3}, .whole = true, .owner = LockOwner{4}, .range = range},
                "0300000000000000 01 0400000000000000 " + range_bytes);
    check_request(67,
                  ReclaimLocks{.locks = {{.handle = HandleId{3}, .owner = LockOwner{4}, .range = range}}, .more = true},
                  "0100 0300000000000000 00 0400000000000000 " + range_bytes + "01");
    check_bytes(ReclaimLocksReply{.lost = {2}}, "0100 02000000");
}

TEST_CASE("golden bytes: pushes") {
    check_request(0x8001,
                  PushInvalidate{.sequence = 5,
                                 .flags = invalidate_all_leases,
                                 .nodes = {NodeId{2}, NodeId{3}},
                                 .changes = {{NodeId{4}, LeaseChange::What::content, "f"},
                                             {NodeId{5}, LeaseChange::What::name, "g"},
                                             {NodeId{6}, LeaseChange::What::ended, ""},
                                             {NodeId{7}, LeaseChange::What::directory, ""}}},
                  "0500000000000000 01 0200 0200000000000000 0300000000000000 0400 0400000000000000 00 0100 66 "
                  "0500000000000000 01 0100 67 0600000000000000 02 0000 0700000000000000 03 0000");
    check_request(0x8002, PushShutdown{.reason = "stop"}, "0400 73746f70");
    check_request(0x8003, PushNextKeys{.keys = {{0x07, 0x08}}}, "0100 0708" + std::string(60, '0'));
}

TEST_CASE("golden bytes: a whole message") {
    MessageWriter writer(MessageKind::request);
    writer.add({.opcode = Opcode::release, .flags = flag_link, .id = RequestId{0x0102}, .detail = 3},
               Release{.handle = HandleId{9}});
    writer.add({.opcode = Opcode::write, .id = RequestId{0x0103}}, Write{.handle = HandleId{9}, .offset = 0},
               Buffer::copy_of("data"));
    const Message message = std::move(writer).finish(RequestId{0x0100}, 0x2000);
    const std::string golden =
        "5246 02 01 0200 0000 0001000000000000 0020000000000000"  // magic, version, kind, records, reserved, two counts
        "08000000 2500 01 00 0201000000000000 03000000 00000000"  // the first record's header
        "0900000000000000"                                        // its body
        "11000000 2400 02 00 0301000000000000 00000000 04000000"  // the second's
        "0900000000000000 0000000000000000 00";
    CHECK(to_hex(message.head.bytes()) == to_hex(from_hex(golden)));
    REQUIRE(message.bulk.size() == 1);
    CHECK(message.bulk[0].text() == "data");
}

TEST_CASE("golden bytes: a reply that renews no lease") {
    MessageWriter writer(MessageKind::reply);
    writer.set_flags(message_overtakes);
    writer.add({.opcode = Opcode::ping, .id = RequestId{7}}, Empty{});
    Message message = std::move(writer).finish();
    CHECK(to_hex(message.head.bytes()) == to_hex(from_hex("5246 02 02 0100 0100 0000000000000000 0000000000000000"
                                                          "00000000 0400 00 00 0700000000000000 00000000 00000000")));
    const auto parsed = parse_message(std::move(message), MessageKind::reply);
    REQUIRE(parsed);
    CHECK(parsed->header.flags == message_overtakes);
}

TEST_CASE("every opcode has one structure") {
    std::multiset<unsigned> all;
    const auto collect = [&]<class... T>(std::tuple<T...>*) { (all.insert(static_cast<unsigned>(T::opcode)), ...); };
    collect(static_cast<Requests*>(nullptr));
    collect(static_cast<Pushes*>(nullptr));
    CHECK(all.size() == 59);
    CHECK(std::set(all.begin(), all.end()).size() == all.size());
}
