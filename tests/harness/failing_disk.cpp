// SPDX-License-Identifier: MIT
#include "harness/failing_disk.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <new>
#include <stdexcept>

#include "base/unique_fd.hpp"
#include "harness/scratch.hpp"

namespace remofile::test {

FailingDisk::FailingDisk(bool says_full) : path_(Scratch::instance().make_directory("failing_calls") + "/calls") {
    const UniqueFd fd(::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    void* mapped = MAP_FAILED;
    if (fd && ::ftruncate(fd.get(), sizeof(FailingCalls)) == 0)
        mapped = ::mmap(nullptr, sizeof(FailingCalls), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (mapped == MAP_FAILED)
        throw std::runtime_error("cannot map " + path_);
    calls_ = new (mapped) FailingCalls;
    calls_->says_full = says_full;
}

FailingDisk::~FailingDisk() {
    ::munmap(calls_, sizeof(FailingCalls));
}

std::vector<std::pair<std::string, std::string>> FailingDisk::environment() const {
    const char* library = std::getenv("REMOFILE_TEST_FAILING_LIBRARY");
    if (library == nullptr)
        throw std::runtime_error("REMOFILE_TEST_FAILING_LIBRARY is not set");
    return {{"LD_PRELOAD", library}, {FailingCalls::variable, path_}};
}

void FailingDisk::fail(std::uint32_t kinds, int error, std::int64_t passing, std::int64_t failing) {
    calls_->failed = 0;
    calls_->error = error;
    calls_->passing = passing;
    calls_->failing = failing;
    calls_->kinds = kinds;
}

void FailingDisk::slow_down(std::uint32_t kinds, std::uint32_t delay_ms) {
    calls_->delay_ms = delay_ms;
    calls_->slow_kinds = kinds;
}

std::uint64_t FailingDisk::mend() {
    calls_->kinds = 0;
    return calls_->failed;
}

}  // namespace remofile::test
