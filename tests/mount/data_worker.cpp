// SPDX-License-Identifier: MIT
#include "mount/data_worker.hpp"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "harness/transcript.hpp"

namespace remofile::test {

namespace {

constexpr Milliseconds answer_deadline{30'000};

// The process's own side.
struct Work {
    std::string root;
    char* area;
    std::array<int, data_slots> slots = {-1, -1, -1, -1};

    int fd(int slot) const { return slots[static_cast<std::size_t>(slot)]; }
    std::string path(const Request& request) const { return root + "/" + request.path.data(); }
    std::string other_path(const Request& request) const { return root + "/" + request.other_path.data(); }
};

// The file's size, once the kernel goes by it. mmap() and copy_file_range() do not ask for the size, which may have
// changed before a lock was taken; and the kernel ignores what it is told if the driver notifies it of a change
// meanwhile.
off_t current_size(int fd) {
    struct stat found = {};
    for (int tries = 0; tries < 10 && fstat(fd, &found) == 0 && lseek(fd, 0, SEEK_END) != found.st_size; ++tries) {
    }
    return found.st_size;
}

// Like pread(), but it believes in an end of the file only where the kernel knows the size to be.
ssize_t read_range(int fd, char* to, std::size_t size, off_t offset) {
    ssize_t got = 0;
    for (int tries = 0; tries < 10; ++tries) {
        got = pread(fd, to, size, offset);
        const off_t there = std::max<off_t>(0, current_size(fd) - offset);
        if (got < 0 || got == std::min(there, static_cast<off_t>(size)))
            break;
    }
    return got;
}

long open_file(Work& work, const Request& request) {
    int& fd = work.slots[static_cast<std::size_t>(request.slot)];
    fd = open(work.path(request).c_str(), request.flags | O_CLOEXEC, 0644);
    return fd < 0 ? -1 : 0;
}

long close_file(Work& work, const Request& request) {
    return close(std::exchange(work.slots[static_cast<std::size_t>(request.slot)], -1));
}

long read_file(Work& work, const Request& request) {
    return read_range(work.fd(request.slot), work.area, request.size, request.offset);
}

long scan_file(Work& work, const Request& request) {
    long total = 0;
    for (const Piece& piece : pieces_of(request.pattern, request.size, request.piece)) {
        const ssize_t size =
            read_range(work.fd(request.slot), work.area + piece.offset, piece.size, static_cast<off_t>(piece.offset));
        if (size < 0)
            return -1;
        total += size;
    }
    return total;
}

void* map(const Work& work, const Request& request, std::size_t size, int protection) {
    if (current_size(work.fd(request.slot)) < static_cast<off_t>(size)) {
        errno = ERANGE;
        return MAP_FAILED;
    }
    return mmap(nullptr, size, protection, MAP_SHARED, work.fd(request.slot), 0);
}

long read_mapped(Work& work, const Request& request) {
    void* memory = map(work, request, request.size, PROT_READ);
    if (memory == MAP_FAILED)
        return -1;
    std::memcpy(work.area, memory, request.size);
    return munmap(memory, request.size);
}

long read_path(Work& work, const Request& request) {
    const UniqueFd fd(open(work.path(request).c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd)
        return -1;
    std::size_t total = 0;
    while (total < max_data_file_size) {
        const ssize_t size = read(fd.get(), work.area + total, max_data_file_size - total);
        if (size < 0)
            return -1;
        if (size == 0 && static_cast<off_t>(total) >= current_size(fd.get()))
            break;
        // current_size() has moved the offset.
        lseek(fd.get(), static_cast<off_t>(total) + size, SEEK_SET);
        total += static_cast<std::size_t>(size);
    }
    return static_cast<long>(total);
}

long write_file(Work& work, const Request& request) {
    const std::string bytes = random_bytes(request.size, request.seed);
    return pwrite(work.fd(request.slot), bytes.data(), bytes.size(), request.offset);
}

// flags: MS_SYNC to sync before unmapping.
long write_mapped(Work& work, const Request& request) {
    const std::size_t mapped = static_cast<std::size_t>(request.offset) + request.size;
    void* memory = map(work, request, mapped, PROT_READ | PROT_WRITE);
    if (memory == MAP_FAILED)
        return -1;
    const std::string bytes = random_bytes(request.size, request.seed);
    std::memcpy(static_cast<char*>(memory) + request.offset, bytes.data(), bytes.size());
    const int synced = request.flags != 0 ? msync(memory, mapped, request.flags) : 0;
    return munmap(memory, mapped) != 0 ? -1 : synced;
}

long write_path(Work& work, const Request& request) {
    const int fd = open(work.path(request).c_str(), request.flags | O_CLOEXEC, 0644);
    if (fd < 0)
        return -1;
    const std::string bytes = random_bytes(request.size, request.seed);
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    return close(fd) != 0 ? -1 : written;
}

long truncate_file(Work& work, const Request& request) {
    return ftruncate(work.fd(request.slot), request.offset);
}

long truncate_path(Work& work, const Request& request) {
    return truncate(work.path(request).c_str(), request.offset);
}

long allocate(Work& work, const Request& request) {
    return fallocate(work.fd(request.slot), request.flags, request.offset, static_cast<off_t>(request.size));
}

long copy_range(Work& work, const Request& request) {
    off_t from = request.other_offset, to = request.offset;
    std::size_t rest = request.size;
    current_size(work.fd(request.other_slot));
    while (rest > 0) {
        const ssize_t step = copy_file_range(work.fd(request.other_slot), &from, work.fd(request.slot), &to, rest, 0);
        if (step < 0)
            return -1;
        if (step == 0)
            break;
        rest -= static_cast<std::size_t>(step);
    }
    return static_cast<long>(request.size - rest);
}

long sync_file(Work& work, const Request& request) {
    return request.flags != 0 ? fdatasync(work.fd(request.slot)) : fsync(work.fd(request.slot));
}

long lock_file(Work& work, const Request& request) {
    if (!request.posix)
        return flock(work.fd(request.slot), request.flags);
    struct flock lock = {};
    lock.l_type = request.flags == LOCK_UN ? F_UNLCK : request.flags == LOCK_SH ? F_RDLCK : F_WRLCK;
    lock.l_whence = SEEK_SET;
    return fcntl(work.fd(request.slot), F_SETLKW, &lock);
}

long seek_data(Work& work, const Request& request) {
    return lseek(work.fd(request.slot), request.offset, SEEK_DATA);
}

long set_times(Work& work, const Request& request) {
    const timespec times[2] = {request.time, request.time};
    return futimens(work.fd(request.slot), times);
}

long set_path_time(Work& work, const Request& request) {
    const timespec times[2] = {request.time, request.time};
    return utimensat(AT_FDCWD, work.path(request).c_str(), times, 0);
}

long rename_file(Work& work, const Request& request) {
    return renameat2(AT_FDCWD, work.path(request).c_str(), AT_FDCWD, work.other_path(request).c_str(),
                     static_cast<unsigned>(request.flags));
}

long link_file(Work& work, const Request& request) {
    return link(work.path(request).c_str(), work.other_path(request).c_str());
}

long unlink_file(Work& work, const Request& request) {
    return unlink(work.path(request).c_str());
}

// stat and stat_path, which give more than a number.
Reply attributes(Work& work, const Request& request) {
    struct stat found = {};
    const int result = request.action == Action::stat ? fstat(work.fd(request.slot), &found)
                                                      : ::stat(work.path(request).c_str(), &found);
    return {.result = result,
            .error = result == 0 ? 0 : errno,
            .file_size = found.st_size,
            .modified = found.st_mtim,
            .links = found.st_nlink};
}

struct Row {
    Action action;
    const char* name;
    long (*carry_out)(Work&, const Request&);  // null: attributes()
};

constexpr Row rows[] = {
    {Action::open, "open", open_file},
    {Action::close, "close", close_file},
    {Action::read, "read", read_file},
    {Action::scan, "scan", scan_file},
    {Action::read_mapped, "read mapping", read_mapped},
    {Action::read_path, "read path", read_path},
    {Action::write, "write", write_file},
    {Action::write_mapped, "write mapping", write_mapped},
    {Action::write_path, "write path", write_path},
    {Action::truncate, "ftruncate", truncate_file},
    {Action::truncate_path, "truncate", truncate_path},
    {Action::allocate, "fallocate", allocate},
    {Action::copy, "copy_file_range", copy_range},
    {Action::sync, "sync", sync_file},
    {Action::lock, "lock", lock_file},
    {Action::seek_data, "seek data", seek_data},
    {Action::stat, "fstat", nullptr},
    {Action::stat_path, "stat", nullptr},
    {Action::set_times, "futimens", set_times},
    {Action::set_path_time, "utimensat", set_path_time},
    {Action::rename, "rename", rename_file},
    {Action::link, "link", link_file},
    {Action::unlink, "unlink", unlink_file},
};

const Row& row_of(Action action) {
    return *std::find_if(std::begin(rows), std::end(rows), [&](const Row& row) { return row.action == action; });
}

Reply carry_out(Work& work, const Request& request) {
    const Row& row = row_of(request.action);
    if (!row.carry_out)
        return attributes(work, request);
    errno = 0;
    const long result = row.carry_out(work, request);
    return {.result = result, .error = result < 0 ? errno : 0};
}

int work_until_the_end(Work work, int socket) {
    Request request;
    while (read(socket, &request, sizeof(request)) == sizeof(request)) {
        const Reply reply = carry_out(work, request);
        if (::write(socket, &reply, sizeof(reply)) != sizeof(reply))
            return 1;
    }
    return 0;
}

}  // namespace

std::string Request::to_string() const {
    std::ostringstream text;
    text << row_of(action).name << " slot=" << slot << '/' << other_slot << " path=" << path.data() << '/'
         << other_path.data() << " flags=0" << std::oct << flags << std::dec << (posix ? " posix" : "")
         << " offset=" << offset << '/' << other_offset << " size=" << size << " piece=" << piece
         << " pattern=" << static_cast<int>(pattern) << " seed=" << seed;
    return text.str();
}

std::vector<Piece> pieces_of(Pattern pattern, std::size_t size, std::size_t piece) {
    std::vector<Piece> pieces;
    const std::size_t step = pattern == Pattern::strided ? 3 * piece : piece;
    for (std::size_t offset = 0; offset < size; offset += step)
        pieces.push_back({offset, std::min(piece, size - offset)});
    if (pattern == Pattern::backward)
        std::reverse(pieces.begin(), pieces.end());
    return pieces;
}

DataWorker::DataWorker(std::string root)
    : root_(std::move(root)),
      area_(static_cast<char*>(
          mmap(nullptr, max_data_file_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    int ends[2];
    if (area_ == MAP_FAILED || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        throw std::runtime_error("cannot set up a worker: " + errno_name(errno));
    socket_.reset(ends[0]);
    const UniqueFd its_end(ends[1]);
    process_ = Child::fork([&] {
        socket_.reset();
        return work_until_the_end(Work{.root = root_, .area = area_}, its_end.get());
    });
}

DataWorker::~DataWorker() {
    process_.reset();
    munmap(area_, max_data_file_size);
}

void DataWorker::send(const Request& request) {
    // A worker that has died is noticed by receive().
    [[maybe_unused]] const ssize_t sent = ::send(socket_.get(), &request, sizeof(request), MSG_NOSIGNAL);
}

std::optional<Reply> DataWorker::receive() {
    pollfd ready = {socket_.get(), POLLIN, 0};
    const auto deadline_ms = static_cast<int>((answer_deadline * slowness()).count());
    Reply reply;
    if (poll(&ready, 1, deadline_ms) != 1 || read(socket_.get(), &reply, sizeof(reply)) != sizeof(reply))
        return {};
    return reply;
}

}  // namespace remofile::test
