// SPDX-License-Identifier: MIT
#include "wire/opcode_table.hpp"

#include <linux/falloc.h>

#include <algorithm>
#include <set>

#include "catch.hpp"
#include "wire/frame.hpp"
#include "wire/messages.hpp"

namespace remofile::wire {

TEST_CASE("the table of opcodes knows every request, and nothing else") {
    std::set<std::string_view> names;
    for (const OpcodeFacts& facts : opcode_table()) {
        INFO(facts.name);
        CHECK(find_opcode(facts.opcode) == &facts);
        CHECK(names.insert(facts.name).second);
        // What may be carried out late, or twice, changes nothing.
        CHECK_FALSE((facts.changes_files && (facts.harmless_late || facts.repeatable)));
        CHECK((facts.harmless_late || !facts.repeatable));
        // What may wait holds up whatever it shares a message with.
        CHECK_FALSE((facts.may_wait && facts.quick));
        // What gives back or tells shall not have to wait for anything.
        CHECK((facts.quick || facts.account != Account::control));
    }
    CHECK(find_opcode(static_cast<Opcode>(0)) == nullptr);
    CHECK(find_opcode(Opcode::push_invalidate) == nullptr);
    CHECK(find_opcode(Opcode::push_shutdown) == nullptr);
    CHECK(find_opcode(Opcode::push_next_keys) == nullptr);
}

TEST_CASE("what an unanswered request is counted against") {
    const auto of = [](const auto& request) { return account_of(request.opcode, encode_body(request)); };
    CHECK(of(Getattr{}) == Account::request);
    CHECK(of(Write{}) == Account::request);
    for (const Account account :
         {of(Release{}), of(Releasedir{}), of(Forget{}), of(Cancel{}), of(Ping{}), of(Credential{}), of(Invalidated{})})
        CHECK(account == Account::control);
    CHECK(of(Setlk{.wait = true}) == Account::lock_wait);
    CHECK(of(Flock{.wait = true}) == Account::lock_wait);
    CHECK(of(Setlk{.wait = false}) == Account::request);
    CHECK(of(Flock{.wait = false}) == Account::request);
    // A body that cannot be decoded waits for nothing, and an unknown opcode is counted all the same.
    CHECK(account_of(Opcode::setlk, {}) == Account::request);
    CHECK(account_of(static_cast<Opcode>(999), {}) == Account::request);
}

TEST_CASE("what may be carried out by a server that does not know whether one before it did") {
    const auto of = [](const auto& request) {
        return may_be_done_again(*find_opcode(request.opcode), encode_body(request));
    };
    CHECK((of(Lookup{}) && of(FindKept{}) && of(Read{}) && of(Open{}) && of(Setattr{}) && of(Fallocate{}) &&
           of(Setlk{}) && of(Flock{})));
    CHECK(of(Fallocate{.mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE}));
    CHECK_FALSE((of(Fallocate{.mode = FALLOC_FL_COLLAPSE_RANGE}) || of(Fallocate{.mode = FALLOC_FL_INSERT_RANGE})));
    CHECK(of(Write{.append = false}));
    CHECK_FALSE(of(Write{.append = true}));
    CHECK(of(Create{}));
    CHECK_FALSE(of(Create{.flags = open_exclusive}));
    CHECK(of(Setxattr{.flags = 0}));
    CHECK_FALSE(of(Setxattr{.flags = 1}));
    CHECK_FALSE((of(Mkdir{}) || of(Mknod{}) || of(Symlink{}) || of(Link{}) || of(Unlink{}) || of(Rmdir{}) ||
                 of(Rename{}) || of(MakeLent{}) || of(Removexattr{})));
    CHECK(of(CopyRange{.from = HandleId{1}, .to = HandleId{2}}));
    CHECK_FALSE(of(CopyRange{.from = HandleId{1}, .to = HandleId{1}}));
}

TEST_CASE("how much bulk data a reply may bring is what its request asks for") {
    const auto of = [](const auto& request) {
        return reply_bulk_limit(find_opcode(request.opcode), encode_body(request));
    };
    CHECK(of(Read{.size = 1000}) == 1000);
    CHECK(of(Readdir{.size = 1000}) == 1000);
    CHECK(of(List{.size = 1000}) == 1000);
    CHECK(of(Fetch{.size = 1000}) == 1000);
    CHECK(of(Getxattr{.size = 1000}) == 1000);
    CHECK(of(Listxattr{.size = 1000}) == 1000);
    CHECK(of(Hash{.block_size = 4096, .count = 10}) == 10 * digest_bytes);
    CHECK(of(Read{.size = UINT32_MAX}) == max_bulk_bytes);
    CHECK(of(Getattr{}) == 0);
    CHECK(of(Write{}) == 0);
    // A body that cannot be decoded asks for nothing, nor does an unknown opcode.
    CHECK(reply_bulk_limit(find_opcode(Opcode::read), {}) == 0);
    CHECK(reply_bulk_limit(find_opcode(static_cast<Opcode>(999)), {}) == 0);
}

}  // namespace remofile::wire
