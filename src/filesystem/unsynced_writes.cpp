// SPDX-License-Identifier: MIT
#include "filesystem/unsynced_writes.hpp"

#include <algorithm>
#include <limits>

namespace remofile::filesystem {
namespace {

// What a piece takes beyond its bytes.
constexpr std::size_t overhead_bytes = 256;
// A file that holds this part of the room itself gives way to what is written to it next; so do others.
constexpr std::size_t large_share = 4;
// Of a file that cannot be sent again yet so much is kept, so that one that goes on slowly can be some time later.
constexpr std::uint64_t max_broken_bytes = 4U << 20;
constexpr std::size_t max_sizes = 64;
// Memory that is used to less than half is copied.
constexpr std::size_t max_waste = 2;

}  // namespace

// ---------------------------------------------------------------- what is done

void UnsyncedWrites::answered(InodeNumber id, TimePoint now) {
    File& file = files_[id];
    const bool is_new = !file.answered_at;
    file.answered_at = now;
    if (is_new && on_begun)
        on_begun(id);
}

void UnsyncedWrites::keep(InodeNumber id, std::uint64_t offset, std::uint64_t size, const client::SharedBytes& bytes,
                          TimePoint now) {
    if (size == 0)
        return;
    auto kept = std::make_shared<Bytes>();
    std::size_t start = bytes.start;
    std::size_t charged = bytes.allocated;
    if (bytes.allocated / max_waste > size) {
        kept->memory = std::make_shared<Buffer>(Buffer::copy_of(bytes.memory->bytes().subspan(start, size)));
        start = 0;
        charged = size;
    } else {
        kept->memory = bytes.memory;
    }
    add(id, offset, size, std::move(kept), start, charged, now);
}

void UnsyncedWrites::keep_hole(InodeNumber id, std::uint64_t offset, std::uint64_t size, TimePoint now) {
    if (size > 0)
        add(id, offset, size, std::make_shared<Bytes>(), 0, 0, now);
}

void UnsyncedWrites::add(InodeNumber id, std::uint64_t offset, std::uint64_t size, std::shared_ptr<Bytes> bytes,
                         std::size_t start, std::size_t charged, TimePoint now) {
    File& file = files_[id];
    const std::uint64_t counted = bytes->memory == nullptr ? 0 : size;
    if (file.broken_at && file.kept_bytes + counted > max_broken_bytes)
        return break_off(id, file, now);
    while (!kept_.charge(charged + overhead_bytes, bytes->kept)) {
        if (!make_room(id, now))
            return break_off(id, file, now);
    }
    if (!memory_.charge(charged + overhead_bytes, bytes->charge))
        return break_off(id, file, now);
    cut_out(file, offset, offset + size);
    file.last = ++last_number_;
    file.kept_bytes += counted;
    file.pieces.emplace(offset, Piece{std::move(bytes), size, start, file.last, now});
    note_kept(id, file);
}

void UnsyncedWrites::keep_size(InodeNumber id, std::uint64_t size, TimePoint now) {
    File& file = files_[id];
    cut_out(file, size, std::numeric_limits<std::uint64_t>::max());
    while (!file.sizes.empty() && file.sizes.back().size >= size)
        file.sizes.pop_back();
    file.last = ++last_number_;
    file.sizes.push_back({size, file.last, now});
    if (file.sizes.size() > max_sizes)
        break_off(id, file, now);
    note_kept(id, file);
}

void UnsyncedWrites::cannot_keep(InodeNumber id, TimePoint now) {
    if (const auto found = files_.find(id); found != files_.end())
        break_off(id, found->second, now);
}

void UnsyncedWrites::break_off(InodeNumber id, File& file, TimePoint now) {
    file.pieces.clear();
    file.sizes.clear();
    file.kept_bytes = 0;
    file.broken_at = now;
    note_kept(id, file);
}

bool UnsyncedWrites::make_room(InodeNumber wanted_by, TimePoint now) {
    if (File& own = files_.at(wanted_by); own.kept_bytes >= kept_.limit_bytes() / large_share) {
        break_off(wanted_by, own, now);
        return true;
    }
    if (by_age_.empty())
        return false;
    const InodeNumber oldest = by_age_.begin()->second;
    break_off(oldest, files_.at(oldest), now);
    return true;
}

// Nothing is kept of these bytes any more.
void UnsyncedWrites::cut_out(File& file, std::uint64_t begin, std::uint64_t end) {
    const auto forget_bytes = [&file](const Piece& piece, std::uint64_t size) {
        file.kept_bytes -= piece.bytes->memory == nullptr ? 0 : size;
    };
    auto at = file.pieces.lower_bound(begin);
    if (at != file.pieces.begin()) {
        const auto before = std::prev(at);
        const std::uint64_t offset = before->first;
        Piece& piece = before->second;
        if (const std::uint64_t piece_end = offset + piece.size; piece_end > begin) {
            if (piece_end > end) {
                Piece rest = piece;
                rest.start += static_cast<std::size_t>(end - offset);
                rest.size = piece_end - end;
                file.pieces.emplace(end, std::move(rest));
            }
            forget_bytes(piece, std::min(piece_end, end) - begin);
            piece.size = begin - offset;
        }
    }
    while (at != file.pieces.end() && at->first < end) {
        const std::uint64_t offset = at->first;
        Piece piece = std::move(at->second);
        at = file.pieces.erase(at);
        const std::uint64_t cut = std::min(piece.size, end - offset);
        forget_bytes(piece, cut);
        if (cut == piece.size)
            continue;
        piece.start += static_cast<std::size_t>(cut);
        piece.size -= cut;
        file.pieces.emplace(end, std::move(piece));
        break;
    }
}

void UnsyncedWrites::note_kept(InodeNumber id, File& file) {
    if (file.pieces.empty() != (file.since == 0)) {
        if (file.pieces.empty()) {
            by_age_.erase(file.since);
            file.since = 0;
        } else {
            file.since = file.last;
            by_age_.emplace(file.since, id);
        }
    }
}

void UnsyncedWrites::told(InodeNumber id, const wire::Attributes& attributes, std::uint64_t event) {
    const auto found = files_.find(id);
    if (found == files_.end())
        return;
    std::optional<Told>& told = found->second.told;
    if (!told)
        told.emplace();
    told->modification = attributes.modification;
    told->latest_modification = std::max(told->latest_modification, attributes.modification);
    told->latest_change = std::max(told->latest_change, attributes.change);
    told->event = event;
}

const UnsyncedWrites::Told* UnsyncedWrites::told(InodeNumber id) const {
    const auto found = files_.find(id);
    return found == files_.end() || !found->second.told ? nullptr : &*found->second.told;
}

// ---------------------------------------------------------------- making it durable

UnsyncedWrites::Mark UnsyncedWrites::mark(InodeNumber id) const {
    const auto found = files_.find(id);
    return found == files_.end() ? Mark{} : Mark{found->second.accepted, found->second.last};
}

void UnsyncedWrites::synced(InodeNumber id, const Mark& mark) {
    const auto found = files_.find(id);
    if (found == files_.end())
        return;
    File& file = found->second;
    if (file.accepted == mark.accepted)
        return erase(id);
    std::erase_if(file.pieces, [&](const auto& each) {
        const Piece& piece = each.second;
        const bool is_durable = piece.number <= mark.kept;
        file.kept_bytes -= is_durable && piece.bytes->memory != nullptr ? piece.size : 0;
        return is_durable;
    });
    std::erase_if(file.sizes, [&](const Size& size) { return size.number <= mark.kept; });
    note_kept(id, file);
}

void UnsyncedWrites::forget(InodeNumber id) {
    if (files_.contains(id))
        erase(id);
}

void UnsyncedWrites::erase(InodeNumber id) {
    const auto found = files_.find(id);
    File& file = found->second;
    const bool has_begun = file.answered_at.has_value();
    file.pieces.clear();
    note_kept(id, file);
    files_.erase(found);
    if (has_begun && on_ended)
        on_ended(id);
}

void UnsyncedWrites::forget_old(TimePoint now) {
    const auto is_old = [now](TimePoint at) { return at + written_back_after <= now; };
    std::vector<InodeNumber> old;
    for (auto& [id, file] : files_) {
        if (file.is_lost || !file.answered_at)
            continue;
        if (is_old(*file.answered_at)) {
            old.push_back(id);
            continue;
        }
        std::erase_if(file.pieces, [&](const auto& each) {
            const bool goes = is_old(each.second.at);
            file.kept_bytes -= goes && each.second.bytes->memory != nullptr ? each.second.size : 0;
            return goes;
        });
        std::erase_if(file.sizes, [&](const Size& size) { return is_old(size.at); });
        if (file.broken_at && is_old(*file.broken_at))
            file.broken_at.reset();
        note_kept(id, file);
    }
    for (const InodeNumber id : old)
        erase(id);
}

// ---------------------------------------------------------------- when it is lost

void UnsyncedWrites::lose(TimePoint lost_at) {
    for (auto& [id, file] : files_) {
        file.is_lost |= file.answered_at && *file.answered_at + written_back_after > lost_at;
        if (file.broken_at && *file.broken_at + written_back_after <= lost_at)
            file.broken_at.reset();
    }
}

std::vector<InodeNumber> UnsyncedWrites::lost() const {
    std::vector<InodeNumber> lost;
    for (const auto& [id, file] : files_) {
        if (file.is_lost)
            lost.push_back(id);
    }
    std::ranges::sort(lost);
    return lost;
}

std::vector<InodeNumber> UnsyncedWrites::files() const {
    std::vector<InodeNumber> files;
    for (const auto& [id, file] : files_)
        files.push_back(id);
    return files;
}

bool UnsyncedWrites::is_lost(InodeNumber id) const {
    const auto found = files_.find(id);
    return found != files_.end() && found->second.is_lost;
}

bool UnsyncedWrites::is_whole(InodeNumber id) const {
    const auto found = files_.find(id);
    return found != files_.end() && !found->second.broken_at;
}

void UnsyncedWrites::sent_again(InodeNumber id, TimePoint now) {
    const auto found = files_.find(id);
    if (found == files_.end())
        return;
    File& file = found->second;
    file.is_lost = false;
    file.answered_at = now;
    for (auto& [offset, piece] : file.pieces)
        piece.at = now;
    for (Size& size : file.sizes)
        size.at = now;
}

std::vector<UnsyncedWrites::Change> UnsyncedWrites::changes(InodeNumber id) const {
    std::vector<Change> changes;
    const auto found = files_.find(id);
    if (found == files_.end())
        return changes;
    for (const auto& [offset, piece] : found->second.pieces)
        changes.push_back({piece.bytes, offset, piece.size, piece.start, piece.number});
    for (const Size& size : found->second.sizes)
        changes.push_back({.bytes = nullptr, .offset = 0, .size = size.size, .start = 0, .number = size.number});
    std::ranges::stable_sort(changes, {}, &Change::number);
    return changes;
}

}  // namespace remofile::filesystem
