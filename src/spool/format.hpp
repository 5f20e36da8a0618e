// SPDX-License-Identifier: MIT
// Contents as the bytes of a file (docs/adr/0030-what-an-ended-mount-keeps.md):
//
//     8 bytes  "RFSPOOL\n"
//     u32      version
//     records  u8 kind, u64 length, so many bytes
//     16 bytes XXH3-128 of all before, in its canonical form
//
// Little-endian, and structures as on the wire (wire/codec.hpp). And the bytes of its neighbour, which grows while the
// contents are carried out: records of the same kind, each with a checksum of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "base/result.hpp"
#include "spool/contents.hpp"

namespace remofile::spool {

inline constexpr std::uint32_t format_version = 1;

// Precondition: all strings are shorter than 64 KiB.
std::vector<std::byte> encode(const Contents& contents);
// All or nothing. Errors: malformed, and version_mismatch, with a message for a person.
Result<Contents> decode(std::span<const std::byte> bytes);

// How far the contents have been carried out.
enum class StepKind : std::uint8_t {
    change_done,     // `number`: of the change
    placed,          // the object `number` is under `name` in the object `directory`, and is `identity`
    copied,          // what was written to the object `number` goes to another file, which is there
    about_to_write,  // the object `number`; `digests`: XXH3-64 of what is to be overwritten, one an extent
    written,         // all that was written to the object `number` is there, and the file is as `told`
};
struct Step {
    StepKind kind = StepKind::change_done;
    std::uint32_t number = 0;
    ObjectNumber directory = no_object;
    std::string name;
    wire::FileIdentity identity;
    std::vector<std::uint64_t> digests;
    Told told;
    static constexpr auto fields = std::tuple{&Step::kind,     &Step::number,  &Step::directory, &Step::name,
                                              &Step::identity, &Step::digests, &Step::told};
};

std::vector<std::byte> encode(const Step& step);
// The steps up to the first that is not whole: whoever wrote it was interrupted.
struct Steps {
    std::vector<Step> steps;
    std::size_t bytes = 0;  // that they take
};
Steps decode_steps(std::span<const std::byte> bytes);

}  // namespace remofile::spool
