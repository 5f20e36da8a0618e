// SPDX-License-Identifier: MIT
#include <linux/fuse.h>

#include <cstring>
#include <vector>

#include "catch.hpp"
#include "remofs/kernel/kernel_abi.hpp"
#include "remofs/kernel/kernel_request.hpp"

using namespace remofile::remofs;

namespace {

template <class Body>
std::vector<std::byte> message(std::uint32_t opcode, const Body& body) {
    const fuse_in_header header{.len = sizeof header + sizeof body, .opcode = opcode};
    std::vector<std::byte> bytes(header.len);
    std::memcpy(bytes.data(), &header, sizeof header);
    std::memcpy(bytes.data() + sizeof header, &body, sizeof body);
    return bytes;
}

template <class Body>
bool drops(std::uint32_t opcode, const Body& body) {
    return describe_request(message(opcode, body)).drops_set_id;
}

}  // namespace

TEST_CASE("the kernel says which writes, opens and truncations take set-id bits away") {
    CHECK(drops(FUSE_WRITE, fuse_write_in{.write_flags = FUSE_WRITE_LOCKOWNER | FUSE_WRITE_KILL_SUIDGID}));
    CHECK_FALSE(drops(FUSE_WRITE, fuse_write_in{.write_flags = FUSE_WRITE_CACHE}));
    CHECK(drops(FUSE_OPEN, fuse_open_in{.open_flags = FUSE_OPEN_KILL_SUIDGID}));
    CHECK_FALSE(drops(FUSE_OPEN, fuse_open_in{.flags = 1}));
    CHECK(drops(FUSE_CREATE, fuse_create_in{.open_flags = FUSE_OPEN_KILL_SUIDGID}));
    CHECK(drops(FUSE_SETATTR, fuse_setattr_in{.valid = FATTR_SIZE | FATTR_KILL_SUIDGID}));
    CHECK_FALSE(drops(FUSE_SETATTR, fuse_setattr_in{.valid = FATTR_SIZE}));
    // The bit stands at every change of owner, also by root, who keeps what the kernel lets it keep.
    CHECK_FALSE(drops(FUSE_SETATTR, fuse_setattr_in{.valid = FATTR_GID | FATTR_KILL_SUIDGID}));
    CHECK_FALSE(drops(FUSE_READ, fuse_write_in{.write_flags = FUSE_WRITE_KILL_SUIDGID}));
}

TEST_CASE("who asks is known, and what is open to all") {
    const fuse_in_header header{.len = sizeof header, .opcode = FUSE_LOOKUP, .unique = 5, .uid = 6};
    const auto request = describe_request(std::as_bytes(std::span(&header, 1)));
    CHECK(request.number == 5);
    CHECK(request.uid == 6);
    for (const std::uint32_t opcode : {FUSE_READ, FUSE_WRITE, FUSE_FLUSH, FUSE_RELEASE, FUSE_FORGET, FUSE_INTERRUPT})
        CHECK(is_open_to_all(opcode));
    for (const std::uint32_t opcode : {FUSE_LOOKUP, FUSE_GETATTR, FUSE_OPEN, FUSE_CREATE, FUSE_OPENDIR, FUSE_UNLINK,
                                       FUSE_STATFS, FUSE_GETXATTR, FUSE_ACCESS})
        CHECK_FALSE(is_open_to_all(opcode));
    CHECK_FALSE(is_open_to_all(opcode_tmpfile));
    CHECK_FALSE(is_open_to_all(opcode_statx));
}

TEST_CASE("a message that ends early says nothing") {
    auto bytes = message(FUSE_WRITE, fuse_write_in{.write_flags = FUSE_WRITE_KILL_SUIDGID});
    bytes.pop_back();
    CHECK_FALSE(describe_request(bytes).drops_set_id);
    CHECK(describe_request(bytes).opcode == FUSE_WRITE);
    bytes.resize(sizeof(fuse_in_header) - 1);
    CHECK(describe_request(bytes).opcode == 0);
}

TEST_CASE("requests that libfuse may not know become such as it knows, and are told apart by the opcode that came") {
    struct Row {
        std::uint32_t opcode;
        std::uint32_t familiar;
    };
    for (const Row row : {Row{opcode_tmpfile, FUSE_CREATE}, Row{opcode_statx, FUSE_GETATTR},
                          Row{opcode_copy_file_range_64, FUSE_COPY_FILE_RANGE}, Row{FUSE_READ, FUSE_READ}}) {
        const fuse_read_in body{.fh = 7};
        auto bytes = message(row.opcode, body);
        CHECK(describe_request(bytes).opcode == row.opcode);
        make_familiar(bytes);
        CHECK(bytes == message(row.familiar, body));
    }
    std::vector<std::byte> beginning(3);
    make_familiar(beginning);
    CHECK(beginning == std::vector<std::byte>(3));
}
