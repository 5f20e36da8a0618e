// SPDX-License-Identifier: MIT
#include "mount/random_operations.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <random>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "harness/mount_process.hpp"
#include "harness/transcript.hpp"

namespace remofile::test {

namespace {

constexpr int slots = 4;
constexpr std::size_t steps_remembered = 150;
constexpr int steps_between_comparisons = 250;
// Most files stay below this: small enough for many steps a second, large enough for several chunks and pages.
constexpr off_t usual_file_size = 300'000;

// Everything an operation may need, drawn before it is known what it is used for, so that a step is the same in all
// places.
struct Draw {
    int slot = 0;
    int other_slot = 0;
    std::string path;
    std::string other_path;
    int flags = 0;
    mode_t mode = 0;
    off_t offset = 0;
    off_t other_offset = 0;
    std::size_t size = 0;
    unsigned seed = 0;
    std::size_t view = 0;
};

// Where operations happen: a directory, under the names of its views, and the files held open in it.
class Place {
public:
    explicit Place(std::vector<std::string> views) : views_(std::move(views)) { slots_.fill(-1); }
    ~Place() { close_all(); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

    std::string path(const Draw& draw) const { return view(draw) + "/" + draw.path; }
    std::string other_path(const Draw& draw) const { return view(draw) + "/" + draw.other_path; }
    int& slot(int number) { return slots_[static_cast<std::size_t>(number)]; }
    void close_all() {
        for (int& fd : slots_) {
            if (fd >= 0)
                close(fd);
            fd = -1;
        }
    }

private:
    const std::string& view(const Draw& draw) const { return views_[draw.view % views_.size()]; }

    std::vector<std::string> views_;
    std::array<int, slots> slots_;
};

std::string outcome(long result) {
    return result < 0 ? errno_name(errno) : std::to_string(result);
}

std::string status_of(int fd) {
    struct stat attributes = {};
    return fstat(fd, &attributes) == 0 ? describe(attributes) : errno_name(errno);
}

std::string open_slot(Place& place, const Draw& draw) {
    int& fd = place.slot(draw.slot);
    if (fd >= 0)
        close(fd);
    fd = open(place.path(draw).c_str(), draw.flags | O_NONBLOCK | O_CLOEXEC, draw.mode);
    return fd < 0 ? errno_name(errno) : "opened, " + status_of(fd);
}

std::string close_slot(Place& place, const Draw& draw) {
    int& fd = place.slot(draw.slot);
    return outcome(close(std::exchange(fd, -1)));
}

std::string write_at(Place& place, const Draw& draw) {
    const std::string bytes = random_bytes(draw.size, draw.seed);
    return outcome(pwrite(place.slot(draw.slot), bytes.data(), bytes.size(), draw.offset));
}

std::string write_on(Place& place, const Draw& draw) {
    const std::string bytes = random_bytes(draw.size, draw.seed);
    const std::string written = outcome(write(place.slot(draw.slot), bytes.data(), bytes.size()));
    return written + " at " + outcome(lseek(place.slot(draw.slot), 0, SEEK_CUR));
}

std::string read_at(Place& place, const Draw& draw) {
    std::string bytes(draw.size, '\0');
    const ssize_t size = pread(place.slot(draw.slot), bytes.data(), bytes.size(), draw.offset);
    return size < 0 ? errno_name(errno) : abbreviated({bytes.data(), static_cast<std::size_t>(size)});
}

std::string truncate_slot(Place& place, const Draw& draw) {
    return outcome(ftruncate(place.slot(draw.slot), draw.offset)) + ", " + status_of(place.slot(draw.slot));
}

std::string punch_hole(Place& place, const Draw& draw) {
    const int mode = draw.seed % 2 ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : 0;
    return outcome(fallocate(place.slot(draw.slot), mode, draw.offset, static_cast<off_t>(draw.size) + 1));
}

std::string sync_slot(Place& place, const Draw& draw) {
    return outcome(draw.seed % 2 ? fsync(place.slot(draw.slot)) : fdatasync(place.slot(draw.slot)));
}

// What the other views are promised to see.
std::string write_synced(Place& place, const Draw& draw) {
    const std::string written = write_at(place, draw);
    return written + ", fsync " + sync_slot(place, draw);
}

std::string truncate_synced(Place& place, const Draw& draw) {
    const std::string truncated = outcome(ftruncate(place.slot(draw.slot), draw.offset));
    return truncated + ", fsync " + sync_slot(place, draw);
}

std::string stat_slot(Place& place, const Draw& draw) {
    return status_of(place.slot(draw.slot));
}

std::string copy_between_slots(Place& place, const Draw& draw) {
    off_t from = draw.other_offset, to = draw.offset;
    std::size_t rest = draw.size;
    while (rest > 0) {
        const ssize_t step = copy_file_range(place.slot(draw.other_slot), &from, place.slot(draw.slot), &to, rest, 0);
        if (step < 0)
            return errno_name(errno);
        if (step == 0)
            break;
        rest -= static_cast<std::size_t>(step);
    }
    return outcome(static_cast<long>(draw.size - rest));
}

std::string write_mapped(Place& place, const Draw& draw) {
    struct stat attributes = {};
    const int fd = place.slot(draw.slot);
    if (fstat(fd, &attributes) != 0 || attributes.st_size == 0)
        return "nothing to map";
    // Not to be had there before libfuse 3.17; test_data.cpp says what happens.
    if ((fcntl(fd, F_GETFL) & O_APPEND) != 0)
        return "not mapped";
    const auto size = static_cast<std::size_t>(attributes.st_size);
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return errno_name(errno);
    const std::size_t from = static_cast<std::size_t>(draw.offset) % size;
    const std::string bytes = random_bytes(std::min(draw.size, size - from), draw.seed);
    std::memcpy(static_cast<char*>(memory) + from, bytes.data(), bytes.size());
    const std::string all = abbreviated({static_cast<char*>(memory), size});
    const long synced = msync(memory, size, MS_SYNC);
    munmap(memory, size);
    return outcome(synced) + " " + all;
}

// The operations that stand alone: they leave nothing open.

std::string write_whole(Place& place, const Draw& draw) {
    const int fd = open(place.path(draw).c_str(),
                        O_WRONLY | O_CREAT | O_NONBLOCK | (draw.flags & (O_TRUNC | O_APPEND | O_EXCL)), draw.mode);
    if (fd < 0)
        return errno_name(errno);
    const std::string bytes = random_bytes(draw.size, draw.seed);
    const std::string written = outcome(pwrite(fd, bytes.data(), bytes.size(), draw.offset));
    return written + ", close " + outcome(close(fd));
}

std::string read_whole(Place& place, const Draw& draw) {
    try {
        return abbreviated(read_file(place.path(draw)));
    } catch (const std::runtime_error& error) {
        return error.what();
    }
}

std::string truncate_path(Place& place, const Draw& draw) {
    return outcome(truncate(place.path(draw).c_str(), draw.offset));
}

std::string stat_path(Place& place, const Draw& draw) {
    struct stat attributes = {};
    return lstat(place.path(draw).c_str(), &attributes) == 0 ? describe(attributes) : errno_name(errno);
}

// With what is not the same in two directories of one content.
std::string full_status(const std::string& path) {
    struct stat attributes = {};
    if (lstat(path.c_str(), &attributes) != 0)
        return errno_name(errno);
    std::ostringstream text;
    text << describe(attributes) << " inode " << attributes.st_ino << " modified " << attributes.st_mtim.tv_sec << "."
         << attributes.st_mtim.tv_nsec << " changed " << attributes.st_ctim.tv_sec << "." << attributes.st_ctim.tv_nsec;
    return text.str();
}

std::string rename_path(Place& place, const Draw& draw) {
    constexpr std::array<unsigned, 6> flags = {0, 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
    const std::string path = place.path(draw), other = place.other_path(draw);
    const auto rename_once = [&] {
        return outcome(renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, other.c_str(), flags[draw.seed % flags.size()]));
    };
    std::string result = rename_once();
    // docs/SEMANTICS.md: the kernel cannot take in that another client has moved a directory while it renames. A look
    // at the names is enough.
    if (result == "ESTALE") {
        struct stat ignored = {};
        (void)lstat(path.c_str(), &ignored);
        (void)lstat(other.c_str(), &ignored);
        result = rename_once();
    }
    return result;
}

std::string link_path(Place& place, const Draw& draw) {
    return outcome(link(place.path(draw).c_str(), place.other_path(draw).c_str()));
}

std::string symlink_path(Place& place, const Draw& draw) {
    return outcome(symlink(draw.other_path.c_str(), place.path(draw).c_str()));
}

std::string unlink_path(Place& place, const Draw& draw) {
    return outcome(unlink(place.path(draw).c_str()));
}

std::string make_directory(Place& place, const Draw& draw) {
    return outcome(mkdir(place.path(draw).c_str(), draw.mode | 0700));
}

std::string remove_directory(Place& place, const Draw& draw) {
    return outcome(rmdir(place.path(draw).c_str()));
}

std::string make_fifo(Place& place, const Draw& draw) {
    return outcome(mkfifo(place.path(draw).c_str(), draw.mode));
}

std::string change_mode(Place& place, const Draw& draw) {
    return outcome(chmod(place.path(draw).c_str(), draw.mode | 0700));
}

std::string set_times(Place& place, const Draw& draw) {
    const timespec times[2] = {{draw.offset, 1}, {draw.other_offset, static_cast<long>(draw.size)}};
    return outcome(utimensat(AT_FDCWD, place.path(draw).c_str(), times, AT_SYMLINK_NOFOLLOW));
}

// With its time, if that has been set: set_times() sets none that a clock shows.
std::string stat_with_time(Place& place, const Draw& draw) {
    struct stat attributes = {};
    if (lstat(place.path(draw).c_str(), &attributes) != 0)
        return errno_name(errno);
    constexpr time_t clocks_show_more = 1'000'000'000;
    const timespec& modified = attributes.st_mtim;
    const bool is_set = modified.tv_sec < clocks_show_more;
    return describe(attributes) + " modified " +
           (is_set ? std::to_string(modified.tv_sec) + "." + std::to_string(modified.tv_nsec) : "since");
}

// To a name in the same directory, so that it leads somewhere now and then.
std::string symlink_beside(Place& place, const Draw& draw) {
    const std::string target = std::filesystem::path(draw.other_path).filename();
    return outcome(symlink(target.c_str(), place.path(draw).c_str()));
}

// Tells of what went wrong after a program was told that it was done.
std::string sync_directory(Place& place, const Draw& draw) {
    const std::string directory = std::filesystem::path(place.path(draw)).parent_path();
    const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno_name(errno);
    const std::string result = outcome(fsync(fd));
    close(fd);
    return result;
}

std::string list(Place& place, const Draw& draw) {
    return describe_tree(place.path(draw));
}

// The names alone: answered from a listing, where attributes are asked for by name.
std::string list_names(Place& place, const Draw& draw) {
    DIR* directory = opendir(place.path(draw).c_str());
    if (!directory)
        return errno_name(errno);
    std::vector<std::string> names;
    while (const dirent* entry = readdir(directory))
        names.emplace_back(entry->d_name);
    closedir(directory);
    std::ranges::sort(names);
    std::string text;
    for (const std::string& name : names)
        text += name + "/";
    return text;
}

std::string read_link(Place& place, const Draw& draw) {
    std::array<char, 256> target = {};
    const ssize_t size = readlink(place.path(draw).c_str(), target.data(), target.size());
    return size < 0 ? errno_name(errno) : std::string(target.data(), static_cast<std::size_t>(size));
}

std::string set_xattr(Place& place, const Draw& draw) {
    const std::string value = random_bytes(draw.size % 500, draw.seed);
    return outcome(
        lsetxattr(place.path(draw).c_str(), draw.seed % 2 ? "user.a" : "user.b", value.data(), value.size(), 0));
}

std::string remove_xattr(Place& place, const Draw& draw) {
    return outcome(lremovexattr(place.path(draw).c_str(), draw.seed % 2 ? "user.a" : "user.b"));
}

enum class Needs {
    nothing,
    open_file,         // a file kept open in one view, which need not have been synced
    synced_open_file,  // one that is kept open and synced within each step
    one_kernel,        // what is open for somebody shows through no mount
};

enum class Effect { none, change };

struct Operation {
    const char* name;
    int weight;
    Needs needs;
    Effect effect;
    std::string (*apply)(Place&, const Draw&);
};

constexpr Operation operations[] = {
    {"open", 10, Needs::open_file, Effect::change, open_slot},
    {"close", 3, Needs::open_file, Effect::change, close_slot},
    {"pwrite", 14, Needs::open_file, Effect::change, write_at},
    {"write", 8, Needs::open_file, Effect::change, write_on},
    {"pread", 14, Needs::open_file, Effect::none, read_at},
    {"ftruncate", 4, Needs::open_file, Effect::change, truncate_slot},
    {"fallocate", 3, Needs::open_file, Effect::change, punch_hole},
    {"fsync", 2, Needs::open_file, Effect::none, sync_slot},
    {"fstat", 4, Needs::open_file, Effect::none, stat_slot},
    {"copy_file_range", 2, Needs::open_file, Effect::change, copy_between_slots},
    {"write through mmap", 3, Needs::open_file, Effect::change, write_mapped},
    {"open and keep", 6, Needs::synced_open_file, Effect::change, open_slot},
    {"close what was kept", 2, Needs::synced_open_file, Effect::none, close_slot},
    {"pwrite and fsync", 6, Needs::synced_open_file, Effect::change, write_synced},
    {"ftruncate and fsync", 2, Needs::synced_open_file, Effect::change, truncate_synced},
    {"write file", 8, Needs::nothing, Effect::change, write_whole},
    {"read file", 8, Needs::nothing, Effect::none, read_whole},
    {"truncate", 3, Needs::nothing, Effect::change, truncate_path},
    {"stat", 8, Needs::nothing, Effect::none, stat_path},
    {"rename", 6, Needs::nothing, Effect::change, rename_path},
    {"link", 4, Needs::nothing, Effect::change, link_path},
    {"symlink", 2, Needs::nothing, Effect::change, symlink_path},
    {"unlink", 4, Needs::nothing, Effect::change, unlink_path},
    {"mkdir", 4, Needs::nothing, Effect::change, make_directory},
    {"rmdir", 2, Needs::nothing, Effect::change, remove_directory},
    {"mkfifo", 1, Needs::one_kernel, Effect::change, make_fifo},
    {"chmod", 2, Needs::nothing, Effect::change, change_mode},
    {"utimens", 2, Needs::nothing, Effect::change, set_times},
    {"list", 1, Needs::nothing, Effect::none, list},
    {"setxattr", 2, Needs::nothing, Effect::change, set_xattr},
    {"removexattr", 1, Needs::nothing, Effect::change, remove_xattr},
};

// Where names are what matters: most of these are answered before the server has been asked, and few wait for it.
constexpr Operation making[] = {
    {"open", 2, Needs::open_file, Effect::change, open_slot},
    {"close", 1, Needs::open_file, Effect::change, close_slot},
    {"pwrite", 3, Needs::open_file, Effect::change, write_at},
    {"pread", 1, Needs::open_file, Effect::none, read_at},
    {"fstat", 2, Needs::open_file, Effect::none, stat_slot},
    {"ftruncate", 1, Needs::open_file, Effect::change, truncate_slot},
    {"fsync", 1, Needs::open_file, Effect::none, sync_slot},
    {"write file", 24, Needs::nothing, Effect::change, write_whole},
    {"read file", 4, Needs::nothing, Effect::none, read_whole},
    {"truncate", 1, Needs::nothing, Effect::change, truncate_path},
    {"stat", 16, Needs::nothing, Effect::none, stat_with_time},
    {"rename", 14, Needs::nothing, Effect::change, rename_path},
    {"link", 8, Needs::nothing, Effect::change, link_path},
    {"symlink", 5, Needs::nothing, Effect::change, symlink_beside},
    {"readlink", 2, Needs::nothing, Effect::none, read_link},
    {"unlink", 12, Needs::nothing, Effect::change, unlink_path},
    {"mkdir", 12, Needs::nothing, Effect::change, make_directory},
    {"rmdir", 8, Needs::nothing, Effect::change, remove_directory},
    {"mkfifo", 1, Needs::nothing, Effect::change, make_fifo},
    {"chmod", 8, Needs::nothing, Effect::change, change_mode},
    {"utimens", 10, Needs::nothing, Effect::change, set_times},
    {"list", 1, Needs::nothing, Effect::none, list},
    {"list names", 2, Needs::nothing, Effect::none, list_names},
    {"fsync of a directory", 1, Needs::nothing, Effect::none, sync_directory},
    {"setxattr", 1, Needs::nothing, Effect::change, set_xattr},
};
// A view works in its own place for about as many steps before another goes on, and in each place for as many before it
// begins the next. Of as many paths one leads elsewhere.
constexpr unsigned steps_of_a_view = 60;
constexpr unsigned steps_in_a_place = 150;
constexpr unsigned paths_elsewhere = 250;
constexpr unsigned steps_a_number = 8;

// What is done in a view that another has changed.
constexpr Operation looks[] = {
    {"stat", 3, Needs::nothing, Effect::none, stat_path},
    {"read file", 2, Needs::nothing, Effect::none, read_whole},
    {"list names", 2, Needs::nothing, Effect::none, list_names},
    {"readlink", 1, Needs::nothing, Effect::none, read_link},
};

bool is_possible(const Operation& operation, const RandomRun& run) {
    switch (operation.needs) {
        case Needs::open_file:
            return run.keep_open && run.server.empty();
        case Needs::synced_open_file:
            return !run.server.empty();
        case Needs::one_kernel:
            return run.server.empty();
        default:
            return true;
    }
}

class Dice {
public:
    explicit Dice(std::uint64_t seed) : generator_(seed) {}

    std::uint64_t below(std::uint64_t limit) { return generator_() % limit; }

    const Operation& operation(const RandomRun& run) {
        const auto is_wanted = [&run](const Operation& operation) { return is_possible(operation, run); };
        return run.making ? pick(making, is_wanted) : pick(operations, is_wanted);
    }

    const Operation& look() {
        return pick(looks, [](const Operation&) { return true; });
    }

    Draw draw() {
        Draw draw;
        draw.slot = static_cast<int>(below(slots));
        draw.other_slot = static_cast<int>(below(slots));
        draw.path = path();
        draw.other_path = path();
        draw.flags = open_flags();
        draw.mode = static_cast<mode_t>(below(01000)) | 0600;
        draw.offset = offset();
        draw.other_offset = offset();
        draw.size = size();
        draw.seed = static_cast<unsigned>(generator_());
        draw.view = below(4);
        return draw;
    }

    // Few names, so that operations meet often.
    std::string path() {
        constexpr std::array<const char*, 8> directories = {"", "", "", "d/", "d/", "e/", "d/e/", "e/d/"};
        constexpr std::array<const char*, 7> names = {"a", "b", "c", "d", "e", "\xff", "name with blanks"};
        return std::string(directories[below(directories.size())]) + names[below(names.size())];
    }

private:
    template <std::size_t N>
    const Operation& pick(const Operation (&from)[N], const auto& is_wanted) {
        int total = 0;
        for (const Operation& operation : from)
            total += is_wanted(operation) ? operation.weight : 0;
        int at = static_cast<int>(below(static_cast<std::uint64_t>(total)));
        for (const Operation& operation : from) {
            at -= is_wanted(operation) ? operation.weight : 0;
            if (at < 0)
                return operation;
        }
        return from[0];
    }

    int open_flags() {
        constexpr std::array<int, 4> accesses = {O_RDWR, O_RDWR, O_RDONLY, O_WRONLY};
        int flags = accesses[below(accesses.size())];
        if (below(4) != 0)
            flags |= O_CREAT;
        if (below(6) == 0)
            flags |= O_TRUNC;
        if (below(6) == 0)
            flags |= O_APPEND;
        if (below(10) == 0)
            flags |= O_EXCL | O_CREAT;
        if (below(20) == 0)
            flags |= O_SYNC;
        return flags;
    }

    off_t offset() {
        switch (below(8)) {
            case 0:
                return 0;
            case 1:
                return static_cast<off_t>(below(100));
            case 2:
                return static_cast<off_t>(below(70) * 4096);
            case 3:
                return static_cast<off_t>(below(3) * 131'072 + below(3));
            default:
                return static_cast<off_t>(below(usual_file_size));
        }
    }

    std::size_t size() {
        switch (below(8)) {
            case 0:
                return below(10);
            case 1:
                return 4096 * (1 + below(8));
            case 2:
                return below(300'000);
            default:
                return below(10'000);
        }
    }

    std::mt19937_64 generator_;
};

std::string to_text(const Operation& operation, const Draw& draw) {
    std::ostringstream text;
    text << operation.name << " path=" << draw.path << " other=" << draw.other_path << " slot=" << draw.slot
         << " other_slot=" << draw.other_slot << " flags=0" << std::oct << draw.flags << " mode=0" << draw.mode
         << std::dec << " offset=" << draw.offset << " other_offset=" << draw.other_offset << " size=" << draw.size
         << " seed=" << draw.seed << " view=" << draw.view;
    return text.str();
}

// The tree as each mount shows it.
std::string compare_trees(const RandomRun& run) {
    const std::string expected = describe_tree(run.model);
    for (const std::string& root : run.mounted) {
        const std::string difference = first_difference(expected, describe_tree(root));
        if (!difference.empty())
            return "the trees differ in " + root + "\n" + difference;
    }
    return {};
}

std::vector<std::string> views_of(const RandomRun& run) {
    std::vector<std::string> views = run.mounted;
    if (!run.server.empty())
        views.push_back(run.server);
    return views;
}

// That a file keeps the number that was told as long as it lives. Which file it is, its handle in the model says: no
// other ever has the same.
class InodeNumbers {
public:
    // Empty if all is well, or nothing is known.
    std::string check(const std::string& model_path, const std::string& path) {
        struct stat attributes = {};
        const std::string file = handle_of(model_path);
        if (file.empty() || lstat(path.c_str(), &attributes) != 0)
            return {};
        const auto [known, is_new] = told_.try_emplace(file, attributes.st_ino);
        if (is_new || known->second == attributes.st_ino)
            return {};
        return path + " had the number " + std::to_string(known->second) + " and has " +
               std::to_string(attributes.st_ino);
    }

private:
    static std::string handle_of(const std::string& path) {
        alignas(file_handle) std::array<char, sizeof(file_handle) + MAX_HANDLE_SZ> buffer = {};
        auto* handle = reinterpret_cast<file_handle*>(buffer.data());
        handle->handle_bytes = MAX_HANDLE_SZ;
        int mount = 0;
        if (name_to_handle_at(AT_FDCWD, path.c_str(), handle, &mount, 0) != 0)
            return {};
        return {reinterpret_cast<const char*>(handle->f_handle), handle->handle_bytes};
    }

    std::map<std::string, ino_t> told_;
};

class RandomSteps {
public:
    explicit RandomSteps(const RandomRun& run)
        : run_(run), dice_(run.seed), model_({run.model}), views_(views_of(run)) {}

    // Empty if all went well, as run_randomly() has it.
    std::string run() {
        if (run_.making)
            if (const std::string wrong = begin_making(); !wrong.empty())
                return report(wrong);
        for (int step = 0; step < run_.operations; ++step) {
            const bool compare = (step + 1) % steps_between_comparisons == 0;
            std::string wrong = take(step);
            if (wrong.empty() && compare)
                wrong = compare_trees(run_);
            if (!wrong.empty())
                return report(wrong);
        }
        model_.close_all();
        views_.close_all();
        const std::string difference = compare_trees(run_);
        return difference.empty() ? "" : report("at the end " + difference);
    }

private:
    std::string take(int step) {
        const Operation& operation = dice_.operation(run_);
        Draw draw = dice_.draw();
        const bool by_program = tests_coherence() && dice_.below(run_.steps_a_program) == 0;
        if (tests_coherence()) {
            draw.view = by_program ? run_.mounted.size() : draw.view % run_.mounted.size();
            draw.slot = static_cast<int>(draw.view);  // each view its own
            if (dice_.below(8) != 0)
                make_small(draw);
        }
        if (by_program && operation.apply == link_path)
            list_directory_of(draw.other_path);
        if (run_.making)
            if (const std::string wrong = choose_place(draw); !wrong.empty())
                return wrong;
        remember(std::to_string(step) + ": ", operation, draw);
        if (const std::string wrong = compare(operation, draw); !wrong.empty())
            return wrong;
        if (run_.making && dice_.below(steps_a_number) == 0)
            return numbers_.check(model_.path(draw), views_.path(draw));
        if (!tests_coherence() || operation.effect == Effect::none)
            return {};
        return by_program ? await_change() : look_around(draw);
    }

    // A further name that a program gives to a file is noticed in directories that a mount knows.
    void list_directory_of(const std::string& path) {
        Draw draw;
        draw.path = std::filesystem::path(path).parent_path();
        list_names(views_, draw);
    }

    // Whole files are looked at all the time.
    static void make_small(Draw& draw) {
        draw.offset %= 10'000;
        draw.size %= 10'000;
    }

    // ---- making

    std::string begin_making() {
        places_.resize(run_.mounted.size());
        for (std::size_t view = 0; view < places_.size(); ++view) {
            Draw draw;
            draw.view = view;
            draw.path = std::to_string(view);
            std::string wrong = make_for_making(draw);
            if (wrong.empty())
                wrong = begin_place(view);
            if (!wrong.empty())
                return wrong;
        }
        return {};
    }

    std::string make_for_making(Draw& draw) {
        draw.mode = 0755;
        const Operation mkdir{"mkdir", 1, Needs::nothing, Effect::change, make_directory};
        remember("  place: ", mkdir, draw);
        return compare(mkdir, draw);
    }

    // What is new nobody else has seen, so that the view may have it for itself.
    std::string begin_place(std::size_t view) {
        std::string& place = places_[view];
        if (!place.empty()) {
            const std::string expected = describe_tree(run_.model + "/" + place);
            for (const std::string& root : run_.mounted)
                if (const std::string difference = first_difference(expected, describe_tree(root + "/" + place));
                    !difference.empty())
                    return root + "/" + place + " differs:\n" + difference;
            std::error_code from_model, from_view;
            const auto in_model = std::filesystem::remove_all(run_.model + "/" + place, from_model);
            const auto in_view = std::filesystem::remove_all(run_.mounted[view] + "/" + place, from_view);
            if (in_model != in_view || from_view)
                return place + " cannot be removed: " + from_view.message();
        }
        place = std::to_string(view) + "/place" + std::to_string(places_begun_++);
        // The second change in a row makes it the view's own.
        for (const char* directory : {"", "/a", "/b", "/d", "/e", "/d/e", "/e/d"}) {
            Draw draw;
            draw.view = view;
            draw.path = place + directory;
            if (std::string wrong = make_for_making(draw); !wrong.empty())
                return wrong;
        }
        return {};
    }

    // Each view works in a place of its own, and somewhere else now and then.
    std::string choose_place(Draw& draw) {
        if (dice_.below(steps_of_a_view) == 0)
            at_work_ = dice_.below(places_.size());
        draw.view = at_work_;
        if (dice_.below(8) != 0)
            make_small(draw);
        if (dice_.below(steps_in_a_place) == 0)
            if (std::string wrong = begin_place(at_work_); !wrong.empty())
                return wrong;
        for (std::string* path : {&draw.path, &draw.other_path})
            *path = places_[dice_.below(paths_elsewhere) == 0 ? dice_.below(places_.size()) : at_work_] + "/" + *path;
        return {};
    }

    bool tests_coherence() const { return !run_.server.empty(); }

    std::string compare(const Operation& operation, const Draw& draw) {
        if (draw.view == run_.mounted.size())
            have_all_carried_out();
        const std::string expected = operation.apply(model_, draw);
        const std::string actual = operation.apply(views_, draw);
        last_steps_.back() += " -> " + expected.substr(0, 200);
        return expected == actual ? "" : "local: " + expected + "\nmount: " + actual;
    }

    // What was done on a mount is seen by the others at once, by a program on the server once it is carried out.
    void have_all_carried_out() const {
        for (const std::string& mount : run_.mounted)
            carried_out(mount);
    }

    // What the program on the server did is told some time later, to one mount after the other.
    std::string await_change() {
        std::string difference;
        const bool shown = eventually(run_.told_within, [&] {
            difference = compare_trees(run_);
            if (difference.empty())
                difference = compare_each_status();
            return difference.empty();
        });
        return shown ? "" : "what a program did at the server is not seen: " + difference;
    }

    // Each view shows at once what was done in one of them.
    std::string look_around(const Draw& changed) {
        const std::size_t views = run_.mounted.size() + 1, first = dice_.below(views);
        for (std::size_t i = 0; i < views; ++i) {
            Draw draw = changed;
            draw.view = (first + i) % views;
            const std::uint64_t which = dice_.below(6);
            if (which == 0)
                continue;
            if (which >= 4)
                draw.path = which == 4 ? dice_.path() : draw.other_path;
            const Operation& look = dice_.look();
            if (look.apply == list_names)
                draw.path = std::filesystem::path(draw.path).parent_path();
            remember("  looks: ", look, draw);
            std::string wrong = compare(look, draw);
            if (wrong.empty())
                wrong = compare_status(draw);
            if (!wrong.empty())
                return wrong;
        }
        return {};
    }

    // What was written within a file is read before the times that it brought are shown.
    std::string compare_each_status() const {
        const std::filesystem::path server = run_.server;
        std::error_code ended;
        for (std::filesystem::recursive_directory_iterator at(server, ended), end; !ended && at != end;
             at.increment(ended)) {
            const std::string expected = full_status(at->path());
            for (const std::string& root : run_.mounted) {
                const std::string actual = full_status(root / at->path().lexically_relative(server));
                if (actual != expected)
                    return "at the server: " + expected + "\n" + root + ": " + actual;
            }
        }
        return {};
    }

    // Against what stands at the server: also what no model has.
    std::string compare_status(const Draw& draw) {
        Draw at_server = draw;
        at_server.view = run_.mounted.size();
        have_all_carried_out();
        const std::string expected = full_status(views_.path(at_server)), actual = full_status(views_.path(draw));
        return expected == actual ? "" : "at the server: " + expected + "\nmount:         " + actual;
    }

    void remember(const std::string& what, const Operation& operation, const Draw& draw) {
        last_steps_.push_back(what + to_text(operation, draw));
        if (last_steps_.size() > steps_remembered)
            last_steps_.pop_front();
    }

    std::string report(const std::string& what) const {
        std::string text = "REMOFS_TEST_SEED=" + std::to_string(run_.seed) + "\n";
        for (const std::string& step : last_steps_)
            text += step + "\n";
        return text + what;
    }

    const RandomRun& run_;
    Dice dice_;
    Place model_;
    Place views_;
    std::deque<std::string> last_steps_;
    std::vector<std::string> places_;  // of each view, below the root
    int places_begun_ = 0;
    std::size_t at_work_ = 0;
    InodeNumbers numbers_;
};

}  // namespace

std::string run_randomly(const RandomRun& run) {
    std::signal(SIGPIPE, SIG_IGN);  // a FIFO may have lost its reader: that is an error like others
    umask(022);
    return RandomSteps(run).run();
}

std::uint64_t seed_for_tests() {
    const char* given = std::getenv("REMOFS_TEST_SEED");
    return given ? std::strtoull(given, nullptr, 0) : std::random_device()();
}

int operations_for_tests(int by_default) {
    const char* given = std::getenv("REMOFS_TEST_OPERATIONS");
    return given ? std::atoi(given) : by_default;
}

}  // namespace remofile::test
