// SPDX-License-Identifier: MIT
#include "mount/data_run.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <filesystem>
#include <functional>
#include <random>
#include <sstream>
#include <stdexcept>
#include <utility>
#include <vector>

#include "harness/mount_process.hpp"
#include "harness/transcript.hpp"
#include "mount/data_model.hpp"
#include "mount/data_worker.hpp"

namespace remofile::test {

namespace {

constexpr std::size_t steps_remembered = 80;
// Beyond every block and readahead unit that a cache may have, small enough to be compared often.
constexpr std::size_t usual_file_size = 2'500'000;
constexpr std::array<const char*, 6> paths = {"a", "b", "c", "d/a", "d/b", "d/c"};
// Where caches have seams.
constexpr std::array<std::size_t, 6> seams = {4096, 65'536, 131'072, 262'144, 524'288, 1'048'576};

// The part of a file that a step uses.
struct Touch {
    ModelFilePtr file;
    bool whole = true;    // and so its size
    bool changes = true;  // else it only reads
    std::size_t from = 0;
    std::size_t to = 0;
};

struct Step {
    Request request;
    // Empty if the reply is right.
    std::function<std::string(const Reply&, const char* area)> check;
    Touch touch;
    ModelFilePtr flushed = {};  // its data ought to be at the server now, unless somebody wrote since
};

class Dice {
public:
    explicit Dice(std::uint64_t seed) : generator_(seed) {}

    std::uint64_t below(std::uint64_t limit) { return generator_() % limit; }
    bool one_in(std::uint64_t n) { return below(n) == 0; }
    const char* path() { return paths[below(paths.size())]; }
    int slot() { return static_cast<int>(below(data_slots)); }
    unsigned seed() { return static_cast<unsigned>(generator_()); }

    // Often close to the one before, so that operations meet.
    std::size_t offset() {
        const std::size_t before = std::exchange(last_offset_, fresh_offset());
        if (one_in(2))
            last_offset_ = before + 6'000 > usual_file_size
                               ? before
                               : before + below(12'000) - std::min<std::size_t>(before, 6'000);
        return last_offset_;
    }

    std::size_t size() {
        switch (below(8)) {
            case 0:
                return 1 + below(10);
            case 1:
                return 4096 * (1 + below(8));
            case 2:
                return seams[below(seams.size())] + below(3) - 1;
            case 3:
                return 1 + below(400'000);
            default:
                return 1 + below(12'000);
        }
    }

    timespec time() {
        return {.tv_sec = static_cast<time_t>(1'500'000'000 + below(100'000'000)),
                .tv_nsec = static_cast<long>(below(1'000'000'000))};
    }

private:
    std::size_t fresh_offset() {
        switch (below(6)) {
            case 0:
                return 0;
            case 1:
                return below(5000);
            case 2: {
                const std::size_t seam = seams[below(seams.size())];
                const std::size_t at = seam * (1 + below(usual_file_size / seam));
                return at + below(5) - 2;
            }
            default:
                return below(usual_file_size);
        }
    }

    std::mt19937_64 generator_;
    std::size_t last_offset_ = 0;
};

std::string unexpected(long result, int error, const std::string& expected) {
    return "expected " + expected + ", got " + (result < 0 ? errno_name(error) : std::to_string(result));
}

std::string as_text(const timespec& time) {
    return std::to_string(time.tv_sec) + " s " + std::to_string(time.tv_nsec) + " ns";
}

auto expect_result(long expected) {
    return [expected](const Reply& reply, const char*) {
        return reply.result == expected ? "" : unexpected(reply.result, reply.error, std::to_string(expected));
    };
}

auto expect_status(int error) {
    return [error](const Reply& reply, const char*) {
        const bool right = error == 0 ? reply.result >= 0 : reply.result < 0 && reply.error == error;
        return right ? "" : unexpected(reply.result, reply.error, error == 0 ? "success" : errno_name(error));
    };
}

auto expect_bytes(std::string bytes) {
    return [bytes = std::move(bytes)](const Reply& reply, const char* area) {
        if (reply.result < 0)
            return unexpected(reply.result, reply.error, std::to_string(bytes.size()) + " bytes");
        return difference_between(bytes, {area, static_cast<std::size_t>(reply.result)});
    };
}

void set_path(std::array<char, 16>& field, std::string_view path) {
    path.copy(field.data(), field.size() - 1);
}

class TwoProcesses {
public:
    explicit TwoProcesses(const DataRun& run) : run_(run), dice_(run.seed) {}

    std::string carry_out() {
        std::filesystem::create_directory(run_.server + "/d");
        while (failure_.empty() && done_ < run_.operations)
            one_or_two_steps();
        if (failure_.empty())
            compare_at_the_end();
        return failure_.empty() ? "" : report();
    }

private:
    using Plan = std::optional<Step> (TwoProcesses::*)(int process);
    struct Kind {
        int weight;
        Plan plan;
        bool beside = false;  // may be carried out while the other process does something as well
    };
    static const std::vector<Kind> kinds;

    const Kind& draw_kind() {
        std::uint64_t total = 0;
        for (const Kind& kind : kinds)
            total += static_cast<std::uint64_t>(kind.weight);
        auto at = static_cast<int>(dice_.below(total));
        const auto chosen = std::find_if(kinds.begin(), kinds.end(), [&](const Kind& kind) {
            at -= kind.weight;
            return at < 0;
        });
        return *chosen;
    }

    void one_or_two_steps() {
        const int process = static_cast<int>(dice_.below(2));
        const Kind& kind = draw_kind();
        beside_ = nullptr;
        const auto first = (this->*kind.plan)(process);
        if (!first || !failure_.empty())
            return;
        std::optional<Step> second;
        const Kind& other_kind = draw_kind();
        if (kind.beside && other_kind.beside && dice_.one_in(3)) {
            beside_ = &first->touch;
            second = (this->*other_kind.plan)(1 - process);
            beside_ = nullptr;
        }
        perform(process, *first, second ? &*second : nullptr);
    }

    // Carries out a step of `process`, and at the same time one of the other.
    void perform(int process, const Step& step, const Step* other = nullptr) {
        remember(process, step, other ? ", beside:" : "");
        worker(process).send(step.request);
        if (other) {
            remember(1 - process, *other, "");
            worker(1 - process).send(other->request);
        }
        check_reply(process, step);
        if (other)
            check_reply(1 - process, *other);
        for (const Step* done : {&step, other}) {
            if (done && done->flushed && failure_.empty())
                look_at_the_server(done->flushed);
        }
    }

    void check_reply(int process, const Step& step) {
        ++done_;
        const auto reply = worker(process).receive();
        const std::string wrong = reply ? step.check(*reply, worker(process).area()) : "hangs, or has died";
        if (!wrong.empty() && failure_.empty())
            failure_ = "process " + std::to_string(process) + ", " + step.request.to_string() + ": " + wrong;
    }

    // A program on the server sees what was done on a mount only then.
    void have_all_carried_out() {
        for (const std::string& root : run_.roots)
            carried_out(root);
    }

    // Once close() or fsync() has returned, what nobody changed since must be on the server, with a time of
    // modification that stays.
    void look_at_the_server(const ModelFilePtr& file) {
        const auto name = model_.name_of(file);
        if (!name || model_.unflushed_by(0, file) || model_.unflushed_by(1, file))
            return;
        have_all_carried_out();
        const std::string path = run_.server + "/" + *name;
        struct stat found = {};
        if (::stat(path.c_str(), &found) != 0) {
            failure_ = *name + " is not there on the server";
            return;
        }
        if (!file->modified)
            file->modified = found.st_mtim;
        const std::string wrong = dice_.one_in(3) ? difference_between(file->content, read_file(path)) : "";
        if (!wrong.empty())
            failure_ = *name + " on the server: " + wrong;
    }

    DataWorker& worker(int process) { return process == 0 ? first_ : second_; }
    ModelHandle& handle(int process, int slot) { return model_.handle(process, slot); }

    // ---- what a process may use

    static bool commute(const Touch& a, const Touch& b) {
        if (a.file != b.file || (!a.changes && !b.changes))
            return true;
        return !a.whole && !b.whole && (a.to <= b.from || b.to <= a.from);
    }

    // True if `process` may use the open file now. May carry out steps that make it so, when the step to come is to be
    // carried out alone.
    bool claim(int process, int slot, const Touch& touch) {
        if (beside_ && !(run_.one_view ? commute(*beside_, touch) : beside_->file != touch.file))
            return false;
        return run_.one_view || (settle(1 - process, touch.file) && see(process, slot));
    }

    // The same for a file to be used by its name.
    bool claim_name(int process, const ModelFilePtr& file) {
        if (beside_ && beside_->file == file)
            return false;
        return run_.one_view || !file || settle(1 - process, file);
    }

    // Makes visible to the other process what `process` wrote.
    bool settle(int process, const ModelFilePtr& file) {
        const std::uint64_t way = beside_ ? 0 : dice_.below(4);
        for (int slot = 0; slot < data_slots && model_.unflushed_by(process, file); ++slot) {
            const ModelHandle& open = handle(process, slot);
            if (open.file != file || !open.unflushed)
                continue;
            if (beside_)
                return false;
            if (way == 0)
                perform(process, sync_step(process, slot));
            else if (way < 3)
                perform(process, close_step(process, slot));
            else
                hand_over_by_lock(process, slot);
        }
        return failure_.empty();
    }

    // Makes visible to `process` what the other wrote and settled.
    bool see(int process, int slot) {
        const ModelFilePtr file = handle(process, slot).file;
        if (current(process, file))
            return true;
        if (beside_)
            return false;
        if (dice_.one_in(2)) {
            perform(process, close_step(process, slot));
            return false;
        }
        take_and_release_lock(process, slot);
        file->current[static_cast<std::size_t>(process)] = true;
        return failure_.empty();
    }

    static bool current(int process, const ModelFilePtr& file) {
        return file->current[static_cast<std::size_t>(process)];
    }

    void hand_over_by_lock(int process, int slot) {
        take_and_release_lock(process, slot);
        model_.flushed(process, handle(process, slot).file);
    }

    void take_and_release_lock(int process, int slot) {
        Step step = {.request = {.action = Action::lock, .slot = slot}, .check = expect_result(0), .touch = {}};
        step.request.posix = dice_.one_in(2);
        // A lock by fcntl() needs a file open for what it protects.
        step.request.flags = handle(process, slot).writable() ? LOCK_EX : LOCK_SH;
        perform(process, step);
        step.request.flags = LOCK_UN;
        perform(process, step);
    }

    // A slot of a file that is open for what `suits` asks.
    std::optional<int> draw_slot(int process, bool (*suits)(const ModelHandle&)) {
        const int start = dice_.slot();
        for (int i = 0; i < data_slots; ++i) {
            const int slot = (start + i) % data_slots;
            if (handle(process, slot).file && suits(handle(process, slot)))
                return slot;
        }
        return {};
    }

    static bool is_open(const ModelHandle&) { return true; }
    static bool is_readable(const ModelHandle& handle) { return handle.readable(); }
    static bool is_writable(const ModelHandle& handle) { return handle.writable(); }
    static bool is_mappable(const ModelHandle& handle) { return handle.mappable(); }
    static bool is_mappable_for_writing(const ModelHandle& handle) { return handle.mappable() && handle.writable(); }
    static bool takes_ranges(const ModelHandle& handle) { return handle.writable() && !handle.appends(); }

    // ---- steps: each changes the model, then says what is to be done and what it must give

    std::optional<Step> open(int process) {
        for (int slot = 0; slot < data_slots; ++slot) {
            if (!handle(process, slot).file)
                return open_in(process, slot);
        }
        return close_step(process, dice_.slot());
    }

    std::optional<Step> open_in(int process, int slot) {
        Request request = {.action = Action::open, .slot = slot};
        const std::string path = dice_.path();
        set_path(request.path, path);
        request.flags = open_flags();
        ModelFilePtr file = model_.find(path);
        if (!claim_name(process, file))
            return {};
        const bool creates = (request.flags & O_CREAT) != 0;
        const bool refused = file ? (request.flags & O_EXCL) != 0 : !creates;
        if (refused)
            return Step{.request = request, .check = expect_status(file ? EEXIST : ENOENT), .touch = {}};
        if (!file)
            file = model_.create(path);
        if ((request.flags & O_TRUNC) != 0) {
            file->changed_by(process);
            file->resize(0);
        }
        file->current[static_cast<std::size_t>(process)] = true;
        handle(process, slot) = {.file = file, .flags = request.flags};
        return Step{.request = request, .check = expect_result(0), .touch = {.file = file}};
    }

    int open_flags() {
        constexpr std::array<int, 5> accesses = {O_RDWR, O_RDWR, O_RDWR, O_RDONLY, O_WRONLY};
        int flags = accesses[dice_.below(accesses.size())];
        if (!dice_.one_in(4))
            flags |= O_CREAT;
        if (dice_.one_in(12))
            flags |= O_EXCL | O_CREAT;
        if (flags != O_RDONLY && dice_.one_in(10))
            flags |= O_TRUNC;
        if (dice_.one_in(6))
            flags |= O_APPEND;
        if (dice_.one_in(16))
            flags |= O_SYNC;
        if (run_.direct && dice_.one_in(8))
            flags |= O_DIRECT;
        return (flags & O_ACCMODE) == O_RDONLY ? flags & ~O_TRUNC : flags;
    }

    std::optional<Step> close(int process) {
        const auto slot = draw_slot(process, is_open);
        if (!slot || (beside_ && beside_->file == handle(process, *slot).file))
            return {};
        return close_step(process, *slot);
    }

    Step close_step(int process, int slot) {
        const ModelFilePtr file = std::exchange(handle(process, slot), {}).file;
        if (!file)
            return {.request = {.action = Action::close, .slot = slot}, .check = expect_status(EBADF), .touch = {}};
        return {.request = {.action = Action::close, .slot = slot},
                .check = expect_result(0),
                .touch = {.file = file},
                .flushed = file};
    }

    std::optional<Step> sync(int process) {
        const auto slot = draw_slot(process, is_open);
        if (!slot || (beside_ && beside_->file == handle(process, *slot).file))
            return {};
        return sync_step(process, *slot);
    }

    Step sync_step(int process, int slot) {
        const ModelFilePtr file = handle(process, slot).file;
        model_.flushed(process, file);
        if (run_.one_view)
            model_.flushed(1 - process, file);
        return {.request = {.action = Action::sync, .slot = slot, .flags = dice_.one_in(3) ? 1 : 0},
                .check = expect_result(0),
                .touch = {.file = file},
                .flushed = file};
    }

    std::optional<Step> read(int process) {
        const auto slot = draw_slot(process, is_readable);
        if (!slot)
            return {};
        const std::size_t offset = dice_.offset(), size = dice_.size();
        const ModelFilePtr file = handle(process, *slot).file;
        const Touch touch = {.file = file,
                             .whole = offset + size > file->content.size(),
                             .changes = false,
                             .from = offset,
                             .to = offset + size};
        if (!claim(process, *slot, touch))
            return {};
        return Step{
            .request = {.action = Action::read, .slot = *slot, .offset = static_cast<off_t>(offset), .size = size},
            .check = expect_bytes(file->read(offset, size)),
            .touch = touch};
    }

    std::optional<Step> scan(int process) {
        const auto slot = draw_slot(process, is_readable);
        if (!slot)
            return {};
        const ModelFilePtr file = handle(process, *slot).file;
        const Touch touch = {.file = file, .changes = false};
        if (!claim(process, *slot, touch))
            return {};
        Request request = {.action = Action::scan, .slot = *slot, .size = file->content.size()};
        request.piece = 4096 * (1 + dice_.below(60)) + dice_.below(2) * dice_.below(4096);
        request.pattern = static_cast<Pattern>(dice_.below(3));
        return Step{.request = request,
                    .check = [request, content = file->content](const Reply& reply, const char* area) -> std::string {
                        if (reply.result < 0)
                            return unexpected(reply.result, reply.error, "bytes");
                        for (const Piece& piece : pieces_of(request.pattern, request.size, request.piece)) {
                            const std::string wrong =
                                difference_between(std::string_view(content).substr(piece.offset, piece.size),
                                                   {area + piece.offset, piece.size});
                            if (!wrong.empty())
                                return "from " + std::to_string(piece.offset) + " on: " + wrong;
                        }
                        return {};
                    },
                    .touch = touch};
    }

    std::optional<Step> read_mapped(int process) {
        const auto slot = draw_slot(process, is_mappable);
        if (!slot)
            return {};
        const ModelFilePtr file = handle(process, *slot).file;
        const Touch touch = {.file = file, .changes = false};
        if (file->content.empty() || !claim(process, *slot, touch))
            return {};
        return Step{.request = {.action = Action::read_mapped, .slot = *slot, .size = file->content.size()},
                    .check =
                        [content = file->content](const Reply& reply, const char* area) {
                            return reply.result != 0 ? unexpected(reply.result, reply.error, "a mapping")
                                                     : difference_between(content, {area, content.size()});
                        },
                    .touch = touch};
    }

    std::optional<Step> read_path(int process) {
        Request request = {.action = Action::read_path};
        const std::string path = dice_.path();
        set_path(request.path, path);
        const ModelFilePtr file = model_.find(path);
        if (!claim_name(process, file))
            return {};
        if (!file)
            return Step{.request = request, .check = expect_status(ENOENT), .touch = {}};
        // Opening it has brought the handles that were open before up to date as well: they share a cache.
        file->current[static_cast<std::size_t>(process)] = true;
        return Step{
            .request = request, .check = expect_bytes(file->content), .touch = {.file = file, .changes = false}};
    }

    std::optional<Step> write(int process) {
        const auto slot = draw_slot(process, is_writable);
        if (!slot)
            return {};
        ModelHandle& open = handle(process, *slot);
        const ModelFilePtr file = open.file;
        std::size_t offset = dice_.offset();
        const std::size_t size = dice_.size();
        const unsigned seed = dice_.seed();
        const std::size_t at = open.appends() ? file->content.size() : offset;
        if (at + size > max_data_file_size)
            return {};
        const Touch touch = {.file = file, .whole = at + size > file->content.size(), .from = at, .to = at + size};
        if (!claim(process, *slot, touch))
            return {};
        file->changed_by(process);
        file->write(at, random_bytes(size, seed));
        open.unflushed |= (open.flags & O_SYNC) != O_SYNC;
        return Step{.request = {.action = Action::write,
                                .slot = *slot,
                                .offset = static_cast<off_t>(offset),
                                .size = size,
                                .seed = seed},
                    .check = expect_result(static_cast<long>(size)),
                    .touch = touch};
    }

    std::optional<Step> write_mapped(int process) {
        const auto slot = draw_slot(process, is_mappable_for_writing);
        if (!slot)
            return {};
        ModelHandle& open = handle(process, *slot);
        const ModelFilePtr file = open.file;
        const unsigned seed = dice_.seed();
        const std::size_t drawn_offset = dice_.offset(), drawn_size = dice_.size();
        // Whole pages are written back, which counts where other processes write beside it.
        const Touch touch = {.file = file};
        if (file->content.empty() || !claim(process, *slot, touch))
            return {};
        const std::size_t offset = drawn_offset % file->content.size();
        const std::size_t size = std::min(drawn_size, file->content.size() - offset);
        file->changed_by(process);
        file->write(offset, random_bytes(size, seed));
        open.unflushed = true;
        return Step{.request = {.action = Action::write_mapped,
                                .slot = *slot,
                                .flags = dice_.one_in(2) ? MS_SYNC : 0,
                                .offset = static_cast<off_t>(offset),
                                .size = size,
                                .seed = seed},
                    .check = expect_result(0),
                    .touch = touch};
    }

    std::optional<Step> write_path(int process) {
        Request request = {.action = Action::write_path, .size = dice_.size(), .seed = dice_.seed()};
        const std::string path = dice_.path();
        set_path(request.path, path);
        const bool appends = dice_.one_in(3);
        request.flags = O_WRONLY | O_CREAT | (appends ? O_APPEND : O_TRUNC);
        ModelFilePtr file = model_.find(path);
        if (!claim_name(process, file))
            return {};
        if (!file)
            file = model_.create(path);
        if (appends && file->content.size() + request.size > max_data_file_size)
            return {};
        file->changed_by(process);
        if (!appends)
            file->resize(0);
        file->write(file->content.size(), random_bytes(request.size, request.seed));
        file->current[static_cast<std::size_t>(process)] = true;
        return Step{.request = request,
                    .check = expect_result(static_cast<long>(request.size)),
                    .touch = {.file = file},
                    .flushed = file};
    }

    std::optional<Step> truncate(int process) {
        const auto slot = draw_slot(process, is_writable);
        const std::size_t size = dice_.offset();
        if (!slot)
            return {};
        const ModelFilePtr file = handle(process, *slot).file;
        const Touch touch = {.file = file};
        if (!claim(process, *slot, touch))
            return {};
        file->changed_by(process);
        file->resize(size);
        return Step{.request = {.action = Action::truncate, .slot = *slot, .offset = static_cast<off_t>(size)},
                    .check = expect_result(0),
                    .touch = touch};
    }

    std::optional<Step> truncate_path(int process) {
        const std::string path = dice_.path();
        Request request = {.action = Action::truncate_path, .offset = static_cast<off_t>(dice_.offset())};
        set_path(request.path, path);
        const ModelFilePtr file = model_.find(path);
        if (!claim_name(process, file))
            return {};
        if (!file)
            return Step{.request = request, .check = expect_status(ENOENT), .touch = {}};
        file->changed_by(process);
        file->resize(static_cast<std::size_t>(request.offset));
        return Step{.request = request, .check = expect_result(0), .touch = {.file = file}};
    }

    std::optional<Step> allocate(int process) {
        constexpr std::array<int, 6> modes = {0,
                                              FALLOC_FL_KEEP_SIZE,
                                              FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                              FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                              FALLOC_FL_ZERO_RANGE,
                                              FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
        const auto slot = draw_slot(process, is_writable);
        const int mode = modes[dice_.below(modes.size())];
        const std::size_t offset = dice_.offset(), size = dice_.size();
        if (!slot)
            return {};
        const ModelFilePtr file = handle(process, *slot).file;
        if (!claim(process, *slot, {.file = file}))
            return {};
        handle(process, *slot).unflushed = true;
        file->changed_by(process);
        return Step{.request = {.action = Action::allocate,
                                .slot = *slot,
                                .flags = mode,
                                .offset = static_cast<off_t>(offset),
                                .size = size},
                    .check =
                        [=](const Reply& reply, const char*) {
                            // Not every file system of a server can do all of it.
                            if (reply.result < 0)
                                return expect_status(EOPNOTSUPP)(reply, nullptr);
                            if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0)
                                file->zero(offset, size);
                            if ((mode & FALLOC_FL_KEEP_SIZE) == 0)
                                file->resize(std::max(file->content.size(), offset + size));
                            return std::string();
                        },
                    .touch = {.file = file}};
    }

    std::optional<Step> copy(int process) {
        const auto from = draw_slot(process, is_readable), to = draw_slot(process, takes_ranges);
        const std::size_t source = dice_.offset(), target = dice_.offset(), size = dice_.size();
        if (!from || !to)
            return {};
        const ModelFilePtr source_file = handle(process, *from).file, file = handle(process, *to).file;
        // Two pieces of one file must not overlap, and what is copied must not make the source longer meanwhile.
        if (source_file == file &&
            (std::max(source, target) - std::min(source, target) < size || source + size > file->content.size()))
            return {};
        if (!claim(process, *from, {.file = source_file}) || !claim(process, *to, {.file = file}) ||
            !handle(process, *from).file)
            return {};
        const std::string bytes = source_file->read(source, size);
        if (!bytes.empty()) {
            file->changed_by(process);
            handle(process, *to).unflushed = true;
        }
        file->write(target, bytes);
        return Step{.request = {.action = Action::copy,
                                .slot = *to,
                                .other_slot = *from,
                                .offset = static_cast<off_t>(target),
                                .other_offset = static_cast<off_t>(source),
                                .size = size},
                    .check = expect_result(static_cast<long>(bytes.size())),
                    .touch = {}};
    }

    std::optional<Step> seek_data(int process) {
        const auto slot = draw_slot(process, is_open);
        const std::size_t offset = dice_.offset();
        if (!slot)
            return {};
        const ModelFilePtr file = handle(process, *slot).file;
        const Touch touch = {.file = file, .changes = false};
        if (!claim(process, *slot, touch))
            return {};
        return Step{.request = {.action = Action::seek_data, .slot = *slot, .offset = static_cast<off_t>(offset)},
                    .check = [offset, file](const Reply& reply, const char*) -> std::string {
                        if (reply.result < 0 && reply.error != ENXIO)
                            return unexpected(reply.result, reply.error, "an offset");
                        const std::size_t end =
                            reply.result < 0 ? file->content.size() : static_cast<std::size_t>(reply.result);
                        return file->only_zeros(offset, end) ? ""
                                                             : "a hole that has data, up to " + std::to_string(end);
                    },
                    .touch = touch};
    }

    std::optional<Step> stat(int process) {
        const auto slot = draw_slot(process, is_open);
        if (!slot)
            return {};
        const ModelFilePtr file = handle(process, *slot).file;
        const Touch touch = {.file = file, .changes = false};
        if (!claim(process, *slot, touch))
            return {};
        return Step{
            .request = {.action = Action::stat, .slot = *slot}, .check = expect_attributes(*file), .touch = touch};
    }

    std::optional<Step> stat_path(int process) {
        const std::string path = dice_.path();
        Request request = {.action = Action::stat_path};
        set_path(request.path, path);
        const ModelFilePtr file = model_.find(path);
        if (!claim_name(process, file))
            return {};
        if (!file)
            return Step{.request = request, .check = expect_status(ENOENT), .touch = {}};
        return Step{.request = request, .check = expect_attributes(*file), .touch = {.file = file, .changes = false}};
    }

    static std::function<std::string(const Reply&, const char*)> expect_attributes(const ModelFile& file) {
        return [size = file.content.size(), links = file.links, modified = file.modified](const Reply& reply,
                                                                                          const char*) -> std::string {
            if (reply.result != 0)
                return unexpected(reply.result, reply.error, "attributes");
            if (static_cast<std::size_t>(reply.file_size) != size)
                return "size " + std::to_string(reply.file_size) + " instead of " + std::to_string(size);
            if (static_cast<int>(reply.links) != links)
                return std::to_string(reply.links) + " links instead of " + std::to_string(links);
            const bool same_time =
                !modified || (modified->tv_sec == reply.modified.tv_sec && modified->tv_nsec == reply.modified.tv_nsec);
            return same_time
                       ? ""
                       : "the time of modification is " + as_text(reply.modified) + " instead of " + as_text(*modified);
        };
    }

    std::optional<Step> set_times(int process) {
        const auto slot = draw_slot(process, is_writable);
        const timespec time = dice_.time();
        if (!slot)
            return {};
        const ModelFilePtr file = handle(process, *slot).file;
        const Touch touch = {.file = file};
        if (!claim(process, *slot, touch))
            return {};
        file->modified = time;
        return Step{.request = {.action = Action::set_times, .slot = *slot, .time = time},
                    .check = expect_result(0),
                    .touch = touch};
    }

    std::optional<Step> set_path_time(int process) {
        const std::string path = dice_.path();
        Request request = {.action = Action::set_path_time, .time = dice_.time()};
        set_path(request.path, path);
        const ModelFilePtr file = model_.find(path);
        if (!claim_name(process, file))
            return {};
        if (file)
            file->modified = request.time;
        return Step{.request = request, .check = expect_status(file ? 0 : ENOENT), .touch = {.file = file}};
    }

    std::optional<Step> rename(int) {
        constexpr std::array<int, 4> flags = {0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
        return with_two_names(Action::rename, flags[dice_.below(flags.size())], &DataModel::rename);
    }

    std::optional<Step> link(int) {
        return with_two_names(Action::link, 0, [](DataModel& model, std::string_view from, std::string_view to, int) {
            return model.link(from, to);
        });
    }

    template <class Change>
    Step with_two_names(Action action, int flags, Change change) {
        Request request = {.action = action, .flags = flags};
        const std::string from = dice_.path(), to = dice_.path();
        set_path(request.path, from);
        set_path(request.other_path, to);
        const int error = std::invoke(change, model_, from, to, flags);
        return {.request = request, .check = expect_status(error), .touch = {}};
    }

    std::optional<Step> unlink(int) {
        Request request = {.action = Action::unlink};
        const std::string path = dice_.path();
        set_path(request.path, path);
        return Step{.request = request, .check = expect_status(model_.unlink(path)), .touch = {}};
    }

    // Both processes write to one file at the same time, to ranges that do not overlap but may share a page or a
    // block, and then sync or close. Whoever opens the file afterwards must find the bytes of both.
    std::optional<Step> write_together(int process) {
        const auto mine = draw_slot(process, takes_ranges);
        if (!mine)
            return {};
        const ModelFilePtr file = handle(process, *mine).file;
        std::optional<int> others;
        for (int slot = 0; slot < data_slots && !others; ++slot) {
            const ModelHandle& open = handle(1 - process, slot);
            if (open.file == file && takes_ranges(open))
                others = slot;
        }
        if (!others || !claim(process, *mine, {.file = file}) || model_.unflushed_by(process, file) ||
            handle(1 - process, *others).file != file)
            return {};
        // One writes below, the other above: without a word between them they must not write the same bytes.
        const std::size_t middle = 1 + dice_.offset();
        for (std::uint64_t rounds = 1 + dice_.below(4); rounds > 0 && failure_.empty(); --rounds) {
            const std::size_t below = std::min(dice_.size(), middle), above = dice_.size();
            const std::size_t gap_below = dice_.below(std::min<std::size_t>(middle - below + 1, 9'000));
            const std::size_t gap_above = dice_.below(9'000);
            const Step left = piece_of_joint_write(process, *mine, middle - below - gap_below, below);
            const Step right = piece_of_joint_write(1 - process, *others, middle + gap_above, above);
            perform(process, left, &right);
        }
        file->changed_by(process);
        file->changed_by(1 - process);
        if (!run_.one_view && failure_.empty() && settle(process, file))
            settle(1 - process, file);
        if (run_.one_view)
            file->current = {true, true};
        return {};
    }

    Step piece_of_joint_write(int process, int slot, std::size_t offset, std::size_t size) {
        const unsigned seed = dice_.seed();
        ModelHandle& open = handle(process, slot);
        open.file->write(offset, random_bytes(size, seed));
        open.unflushed = true;
        return {.request = {.action = Action::write,
                            .slot = slot,
                            .offset = static_cast<off_t>(offset),
                            .size = size,
                            .seed = seed},
                .check = expect_result(static_cast<long>(size)),
                .touch = {}};
    }

    // ---- the end, and what is said about it

    void compare_at_the_end() {
        for (int process = 0; process < 2; ++process) {
            for (int slot = 0; slot < data_slots && failure_.empty(); ++slot) {
                if (handle(process, slot).file)
                    perform(process, close_step(process, slot));
            }
        }
        have_all_carried_out();
        for (const char* path : paths) {
            const ModelFilePtr file = model_.find(path);
            for (int process = 0; process < 2 && failure_.empty(); ++process) {
                Step step = {.request = {.action = Action::read_path}, .check = expect_status(ENOENT), .touch = {}};
                set_path(step.request.path, path);
                if (file)
                    step.check = expect_bytes(file->content);
                perform(process, step);
            }
            if (file && failure_.empty())
                failure_ = difference_between(file->content, read_file(run_.server + "/" + path));
        }
        std::size_t entries = 0;
        for ([[maybe_unused]] const auto& entry : std::filesystem::recursive_directory_iterator(run_.server))
            ++entries;
        if (failure_.empty() && entries != model_.names().size() + 1)
            failure_ = "the directory has " + std::to_string(entries) + " entries";
    }

    void remember(int process, const Step& step, const char* how) {
        last_steps_.push_back(std::to_string(done_) + " process " + std::to_string(process) + ": " +
                              step.request.to_string() + how);
        if (last_steps_.size() > steps_remembered)
            last_steps_.pop_front();
    }

    std::string describe_slot(int process, int slot) {
        const ModelHandle& open = handle(process, slot);
        if (!open.file)
            return {};
        std::ostringstream text;
        text << "process " << process << " slot " << slot << ": " << model_.name_of(open.file).value_or("unlinked")
             << ", flags 0" << std::oct << open.flags << std::dec << ", " << open.file->content.size() << " bytes"
             << (open.unflushed ? ", unflushed" : "") << (current(process, open.file) ? ", current" : "") << "\n";
        return text.str();
    }

    std::string report() {
        std::string text;
        for (const std::string& step : last_steps_)
            text += step + "\n";
        for (int process = 0; process < 2; ++process) {
            for (int slot = 0; slot < data_slots; ++slot)
                text += describe_slot(process, slot);
        }
        return text + "REMOFS_TEST_SEED=" + std::to_string(run_.seed) + " after " + std::to_string(done_) +
               " operations: " + failure_;
    }

    const DataRun& run_;
    Dice dice_;
    DataModel model_;
    DataWorker first_{run_.roots[0]};
    DataWorker second_{run_.roots[1]};
    const Touch* beside_ = nullptr;  // what is under way already, while a second step is planned
    int done_ = 0;
    std::deque<std::string> last_steps_;
    std::string failure_;
};

const std::vector<TwoProcesses::Kind> TwoProcesses::kinds = {
    {12, &TwoProcesses::open},         {5, &TwoProcesses::close, true},    {5, &TwoProcesses::sync, true},
    {16, &TwoProcesses::read, true},   {3, &TwoProcesses::scan, true},     {2, &TwoProcesses::read_mapped, true},
    {4, &TwoProcesses::read_path},     {24, &TwoProcesses::write, true},   {4, &TwoProcesses::write_mapped, true},
    {3, &TwoProcesses::write_path},    {3, &TwoProcesses::truncate, true}, {2, &TwoProcesses::truncate_path},
    {4, &TwoProcesses::allocate},      {4, &TwoProcesses::copy},           {2, &TwoProcesses::seek_data, true},
    {4, &TwoProcesses::stat, true},    {3, &TwoProcesses::stat_path},      {2, &TwoProcesses::set_times, true},
    {1, &TwoProcesses::set_path_time}, {4, &TwoProcesses::rename},         {2, &TwoProcesses::link},
    {3, &TwoProcesses::unlink},        {4, &TwoProcesses::write_together},
};

}  // namespace

std::string run_two_processes(const DataRun& run) {
    return TwoProcesses(run).carry_out();
}

}  // namespace remofile::test
