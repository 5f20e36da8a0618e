// SPDX-License-Identifier: MIT
// What files must hold after the operations of two processes, whose views of them agree when docs/SEMANTICS.md says so.
#pragma once

#include <fcntl.h>
#include <sys/types.h>

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "mount/data_worker.hpp"

namespace remofile::test {

struct ModelFile {
    std::string content;
    int links = 0;
    std::optional<timespec> modified;  // if known; it must then stay the same until somebody changes the file
    std::array<bool, 2> current = {};  // this process has opened or locked it since the other last changed it

    // The other process's view is out of date from now on.
    void changed_by(int process);
    void write(std::size_t offset, std::string_view bytes);
    void resize(std::size_t size);
    void zero(std::size_t offset, std::size_t size);  // within the content
    // As pread() gives it.
    std::string read(std::size_t offset, std::size_t size) const;
    bool only_zeros(std::size_t from, std::size_t to) const;
};

// Shared by its names and the handles open on it.
using ModelFilePtr = std::shared_ptr<ModelFile>;

struct ModelHandle {
    ModelFilePtr file;  // null: not open
    int flags = 0;
    bool unflushed = false;  // written to, and neither synced nor locked and unlocked since

    bool readable() const { return file && (flags & O_ACCMODE) != O_WRONLY; }
    bool writable() const { return file && (flags & O_ACCMODE) != O_RDONLY; }
    bool appends() const { return (flags & O_APPEND) != 0; }
    bool mappable() const { return readable() && (flags & (O_APPEND | O_DIRECT)) == 0; }
};

class DataModel {
public:
    ModelHandle& handle(int process, int slot);
    ModelFilePtr find(std::string_view path) const;
    const std::map<std::string, ModelFilePtr, std::less<>>& names() const { return names_; }
    std::optional<std::string> name_of(const ModelFilePtr& file) const;

    ModelFilePtr create(std::string_view path);
    // These return 0 or the errno that the system call gives.
    int rename(std::string_view from, std::string_view to, int flags);
    int link(std::string_view from, std::string_view to);
    int unlink(std::string_view path);

    bool unflushed_by(int process, const ModelFilePtr& file) const;
    void flushed(int process, const ModelFilePtr& file);

private:
    std::map<std::string, ModelFilePtr, std::less<>> names_;
    std::array<std::array<ModelHandle, data_slots>, 2> handles_;
};

// Empty if `actual` is what was to be read; else where they begin to differ, and how.
std::string difference_between(std::string_view expected, std::string_view actual);

}  // namespace remofile::test
