// SPDX-License-Identifier: MIT
// Random reading and writing of the same files by two processes, checked byte by byte against a model.
//
// With one mount for both, each sees at once what the other did. With a mount each, a process uses a file only when
// docs/SEMANTICS.md promises that it sees what the other wrote: opened after the other's close() or fsync(), or locked
// after the other has had the lock. The files are looked at on the server, too, after close() and fsync().
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace remofile::test {

struct DataRun {
    std::array<std::string, 2> roots;  // an empty directory, as each process sees it
    std::string server;                // the same directory at the server
    bool one_view = false;             // both processes use the same mount
    bool direct = true;                // open some files with O_DIRECT
    std::uint64_t seed = 0;
    int operations = 0;
};

// Empty if everything was as the model has it. Else a report with the seed and the last operations.
std::string run_two_processes(const DataRun& run);

}  // namespace remofile::test
