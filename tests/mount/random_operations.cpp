// SPDX-License-Identifier: MIT
#include "mount/random_operations.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <random>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "harness/transcript.hpp"

namespace remofile::test {

namespace {

constexpr int slots = 4;
constexpr std::size_t steps_remembered = 25;
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
    std::size_t mount = 0;
};

// Where operations happen: a directory and the files held open in it.
class Place {
public:
    explicit Place(std::vector<std::string> roots) : roots_(std::move(roots)) { slots_.fill(-1); }
    ~Place() { close_all(); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

    std::string path(const Draw& draw) const { return root(draw) + "/" + draw.path; }
    std::string other_path(const Draw& draw) const { return root(draw) + "/" + draw.other_path; }
    int& slot(int number) { return slots_[static_cast<std::size_t>(number)]; }
    void close_all() {
        for (int& fd : slots_) {
            if (fd >= 0)
                close(fd);
            fd = -1;
        }
    }

private:
    const std::string& root(const Draw& draw) const { return roots_[draw.mount % roots_.size()]; }

    std::vector<std::string> roots_;
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

std::string list(Place& place, const Draw& draw) {
    return describe_tree(place.path(draw));
}

std::string set_xattr(Place& place, const Draw& draw) {
    const std::string value = random_bytes(draw.size % 500, draw.seed);
    return outcome(
        lsetxattr(place.path(draw).c_str(), draw.seed % 2 ? "user.a" : "user.b", value.data(), value.size(), 0));
}

std::string remove_xattr(Place& place, const Draw& draw) {
    return outcome(lremovexattr(place.path(draw).c_str(), draw.seed % 2 ? "user.a" : "user.b"));
}

struct Operation {
    const char* name;
    int weight;
    bool on_slot;  // needs files kept open
    std::string (*apply)(Place&, const Draw&);
};

constexpr Operation operations[] = {
    {"open", 10, true, open_slot},
    {"close", 3, true, close_slot},
    {"pwrite", 14, true, write_at},
    {"write", 8, true, write_on},
    {"pread", 14, true, read_at},
    {"ftruncate", 4, true, truncate_slot},
    {"fallocate", 3, true, punch_hole},
    {"fsync", 2, true, sync_slot},
    {"fstat", 4, true, stat_slot},
    {"copy_file_range", 2, true, copy_between_slots},
    {"write through mmap", 3, true, write_mapped},
    {"write file", 8, false, write_whole},
    {"read file", 8, false, read_whole},
    {"truncate", 3, false, truncate_path},
    {"stat", 8, false, stat_path},
    {"rename", 6, false, rename_path},
    {"link", 4, false, link_path},
    {"symlink", 2, false, symlink_path},
    {"unlink", 4, false, unlink_path},
    {"mkdir", 4, false, make_directory},
    {"rmdir", 2, false, remove_directory},
    {"mkfifo", 1, false, make_fifo},
    {"chmod", 2, false, change_mode},
    {"list", 1, false, list},
    {"setxattr", 2, false, set_xattr},
    {"removexattr", 1, false, remove_xattr},
};

class Dice {
public:
    explicit Dice(std::uint64_t seed) : generator_(seed) {}

    std::uint64_t below(std::uint64_t limit) { return generator_() % limit; }

    const Operation& operation(bool keep_open) {
        int total = 0;
        for (const Operation& operation : operations)
            total += operation.on_slot && !keep_open ? 0 : operation.weight;
        int at = static_cast<int>(below(static_cast<std::uint64_t>(total)));
        for (const Operation& operation : operations) {
            at -= operation.on_slot && !keep_open ? 0 : operation.weight;
            if (at < 0)
                return operation;
        }
        return operations[0];
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
        draw.mount = below(4);
        return draw;
    }

private:
    // Few names, so that operations meet often.
    std::string path() {
        constexpr std::array<const char*, 8> directories = {"", "", "", "d/", "d/", "e/", "d/e/", "e/d/"};
        constexpr std::array<const char*, 7> names = {"a", "b", "c", "d", "e", "\xff", "name with blanks"};
        return std::string(directories[below(directories.size())]) + names[below(names.size())];
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

std::string to_text(int step, const Operation& operation, const Draw& draw) {
    std::ostringstream text;
    text << step << ": " << operation.name << " path=" << draw.path << " other=" << draw.other_path
         << " slot=" << draw.slot << " other_slot=" << draw.other_slot << " flags=0" << std::oct << draw.flags
         << " mode=0" << draw.mode << std::dec << " offset=" << draw.offset << " other_offset=" << draw.other_offset
         << " size=" << draw.size << " seed=" << draw.seed << " mount=" << draw.mount;
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

}  // namespace

std::string run_randomly(const RandomRun& run) {
    umask(022);
    Dice dice(run.seed);
    Place model({run.model}), mounted(run.mounted);
    std::deque<std::string> last_steps;
    const auto report = [&](const std::string& what) {
        std::string text = "REMOFS_TEST_SEED=" + std::to_string(run.seed) + "\n";
        for (const std::string& step : last_steps)
            text += step + "\n";
        return text + what;
    };
    for (int step = 0; step < run.operations; ++step) {
        const Operation& operation = dice.operation(run.keep_open);
        const Draw draw = dice.draw();
        last_steps.push_back(to_text(step, operation, draw));
        if (last_steps.size() > steps_remembered)
            last_steps.pop_front();
        const std::string expected = operation.apply(model, draw);
        const std::string actual = operation.apply(mounted, draw);
        last_steps.back() += " -> " + expected.substr(0, 200);
        if (expected != actual)
            return report("local: " + expected + "\nmount: " + actual);
        const bool compare = (step + 1) % steps_between_comparisons == 0;
        if (const std::string difference = compare ? compare_trees(run) : ""; !difference.empty())
            return report(difference);
    }
    model.close_all();
    mounted.close_all();
    const std::string difference = compare_trees(run);
    return difference.empty() ? "" : report("at the end " + difference);
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
