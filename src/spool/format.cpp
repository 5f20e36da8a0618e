// SPDX-License-Identifier: MIT
#include "spool/format.hpp"

#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "base/log.hpp"
#include "wire/codec.hpp"

namespace remofile::spool {
namespace {

constexpr std::string_view magic = "RFSPOOL\n";
constexpr std::size_t checksum_bytes = sizeof(XXH128_canonical_t);

enum class RecordKind : std::uint8_t { header, object, change, written, extent };

struct Header {
    std::string source;
    std::int64_t ended_at = 0;
    static constexpr auto fields = std::tuple{&Header::source, &Header::ended_at};
};
struct WrittenHeader {
    ObjectNumber object = no_object;
    std::uint64_t size = 0;
    static constexpr auto fields = std::tuple{&WrittenHeader::object, &WrittenHeader::size};
};

template <class Structure>
void put_record(std::vector<std::byte>& out, RecordKind kind, const Structure& structure,
                std::span<const std::byte> rest = {}) {
    std::vector<std::byte> body;
    wire::Encoder(body).put(structure);
    wire::Encoder encoder(out);
    encoder.put(kind);
    encoder.put(static_cast<std::uint64_t>(body.size() + rest.size()));
    out.insert(out.end(), body.begin(), body.end());
    out.insert(out.end(), rest.begin(), rest.end());
}

XXH128_canonical_t checksum(std::span<const std::byte> bytes) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
    return canonical;
}

void seal(std::vector<std::byte>& out) {
    const XXH128_canonical_t sum = checksum(out);
    const auto bytes = std::as_bytes(std::span(sum.digest));
    out.insert(out.end(), bytes.begin(), bytes.end());
}

bool is_sealed(std::span<const std::byte> all) {
    const XXH128_canonical_t sum = checksum(all.first(all.size() - checksum_bytes));
    return std::memcmp(sum.digest, all.last(checksum_bytes).data(), checksum_bytes) == 0;
}

struct Record {
    RecordKind kind{};
    std::span<const std::byte> body;
};

// Nothing once the bytes are used up or do not make one.
bool take_record(std::span<const std::byte>& rest, Record& record) {
    wire::Decoder decoder(rest);
    std::uint64_t size = 0;
    decoder.get(record.kind);
    decoder.get(size);
    if (!decoder.ok() || size > decoder.remaining())
        return false;
    rest = rest.last(decoder.remaining());
    record.body = rest.first(size);
    rest = rest.subspan(size);
    return true;
}

template <class Structure>
bool decode_whole(std::span<const std::byte> body, Structure& structure) {
    wire::Decoder decoder(body);
    decoder.get(structure);
    return decoder.finished();
}

bool take_in(const Record& record, Contents& contents) {
    switch (record.kind) {
        case RecordKind::header: {
            Header header;
            if (!decode_whole(record.body, header))
                return false;
            contents.source = std::move(header.source);
            contents.ended_at = header.ended_at;
            return true;
        }
        case RecordKind::object:
            return decode_whole(record.body, contents.objects.emplace_back());
        case RecordKind::change:
            return decode_whole(record.body, contents.changes.emplace_back());
        case RecordKind::written: {
            WrittenHeader header;
            if (!decode_whole(record.body, header))
                return false;
            contents.written.push_back({header.object, header.size, {}});
            return true;
        }
        case RecordKind::extent: {
            wire::Decoder decoder(record.body);
            Extent extent;
            decoder.get(extent.offset);
            if (!decoder.ok() || contents.written.empty())
                return false;
            const auto bytes = record.body.last(decoder.remaining());
            extent.bytes.assign(bytes.begin(), bytes.end());
            contents.written.back().extents.push_back(std::move(extent));
            return true;
        }
    }
    return false;
}

bool is_name(std::string_view name) {
    return !name.empty() && name.size() <= wire::max_name_bytes && name != "." && name != ".." &&
           name.find('/') == name.npos && name.find('\0') == name.npos;
}

// Of what a checksum cannot say: a file that was made up must lead nowhere else either.
bool is_sound(const Contents& contents) {
    const auto is_object = [&](ObjectNumber number) { return number < contents.objects.size(); };
    const auto is_any = [&](ObjectNumber number) { return number == no_object || is_object(number); };
    if (contents.objects.empty() || contents.objects.front().is_new || !contents.objects.front().path.empty())
        return false;
    const auto is_sound_change = [&](const Change& change) {
        if (!is_any(change.object) || !is_any(change.directory) || !is_any(change.new_directory) ||
            !is_any(change.replaced))
            return false;
        const bool is_named = is_object(change.directory) && is_name(change.name);
        switch (change.kind) {
            case ChangeKind::make:
                return is_named && is_object(change.object) && contents.objects[change.object].is_new;
            case ChangeKind::link:
                return is_named && is_object(change.object);
            case ChangeKind::remove:
                return is_named && is_object(change.object);
            case ChangeKind::rename:
                return is_named && is_object(change.object) && is_object(change.new_directory) &&
                       is_name(change.new_name);
            case ChangeKind::set:
                return is_object(change.object);
        }
        return false;
    };
    return std::ranges::all_of(contents.changes, is_sound_change) &&
           std::ranges::all_of(contents.written, [&](const Written& file) {
               return is_object(file.object) && contents.objects[file.object].type == S_IFREG;
           });
}

}  // namespace

std::vector<std::byte> encode(const Contents& contents) {
    std::vector<std::byte> out;
    const auto start = std::as_bytes(std::span(magic));
    out.insert(out.end(), start.begin(), start.end());
    wire::Encoder(out).put(format_version);
    put_record(out, RecordKind::header, Header{contents.source, contents.ended_at});
    for (const Object& object : contents.objects)
        put_record(out, RecordKind::object, object);
    for (const Change& change : contents.changes)
        put_record(out, RecordKind::change, change);
    for (const Written& file : contents.written) {
        put_record(out, RecordKind::written, WrittenHeader{file.object, file.size});
        for (const Extent& extent : file.extents)
            put_record(out, RecordKind::extent, extent.offset, extent.bytes);
    }
    seal(out);
    return out;
}

Result<Contents> decode(std::span<const std::byte> bytes) {
    const auto damaged = [](std::string_view what) { return make_error(Status::malformed, std::string(what)); };
    constexpr std::size_t version_bytes = sizeof format_version;
    if (bytes.size() < magic.size() || std::memcmp(bytes.data(), magic.data(), magic.size()) != 0)
        return damaged("not a spool file of remofs");
    if (bytes.size() < magic.size() + version_bytes + checksum_bytes)
        return damaged("damaged: it is too short");
    if (!is_sealed(bytes))
        return damaged("damaged: its checksum is wrong");
    std::uint32_t version = 0;
    wire::Decoder(bytes.subspan(magic.size())).get(version);
    if (version != format_version)
        return make_error(Status::version_mismatch,
                          fmt::format("of version {}, and this remofs knows version {}", version, format_version));
    std::span<const std::byte> rest = bytes.subspan(magic.size() + version_bytes);
    rest = rest.first(rest.size() - checksum_bytes);
    Contents contents;
    while (!rest.empty()) {
        Record record;
        if (!take_record(rest, record) || !take_in(record, contents))
            return damaged("damaged: a record is wrong");
    }
    if (!is_sound(contents))
        return damaged("damaged: its records do not fit together");
    return contents;
}

// ---------------------------------------------------------------- how far it has been carried out

std::vector<std::byte> encode(const Step& step) {
    std::vector<std::byte> body;
    wire::Encoder(body).put(step);
    std::vector<std::byte> out;
    wire::Encoder(out).put(static_cast<std::uint64_t>(body.size()));
    out.insert(out.end(), body.begin(), body.end());
    seal(out);
    return out;
}

Steps decode_steps(std::span<const std::byte> bytes) {
    Steps found;
    for (;;) {
        const auto rest = bytes.subspan(found.bytes);
        std::uint64_t size = 0;
        wire::Decoder decoder(rest);
        decoder.get(size);
        if (!decoder.ok() || size > decoder.remaining() || decoder.remaining() - size < checksum_bytes)
            return found;
        const auto whole = rest.first(sizeof size + size + checksum_bytes);
        Step step;
        if (!is_sealed(whole) || !decode_whole(whole.subspan(sizeof size, size), step))
            return found;
        found.steps.push_back(std::move(step));
        found.bytes += whole.size();
    }
}

}  // namespace remofile::spool
