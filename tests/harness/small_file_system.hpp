// SPDX-License-Identifier: MIT
// File systems with little room, to fill up.
#pragma once

#include <cstdint>
#include <string>

namespace remofile::test {

// One that is mounted as long as it lives, by root. Whoever else runs the tests has none, nor who lacks the programs.
class SmallFileSystem {
public:
    // `options` as mount(8) takes them: "size=8m,nr_inodes=100".
    static SmallFileSystem tmpfs(const std::string& options);
    // On a file of so many bytes, which takes no room before it is written to.
    static SmallFileSystem ext4(std::uint64_t bytes);
    ~SmallFileSystem();
    SmallFileSystem(SmallFileSystem&& other) noexcept;
    SmallFileSystem& operator=(SmallFileSystem&&) = delete;

    bool mounted() const { return mounted_; }
    const std::string& path() const { return path_; }
    std::uint64_t free_bytes() const;
    // What is left to others from now on: all but so much is taken, at once. Of a tmpfs, whose limits are changed, also
    // of its inodes. False if that does not work.
    bool leave_bytes(std::uint64_t bytes);
    bool leave_inodes(std::uint64_t inodes);
    // Of an ext4 that nobody uses any more: what is not on its disk at this moment is lost, and it is mounted again as
    // after a power failure. False if that does not work; it is not mounted then.
    bool lose_power();

private:
    explicit SmallFileSystem(bool is_tmpfs);
    bool remount(const std::string& options) const;
    bool mount_image() const;
    std::string image() const { return path_ + ".image"; }

    bool is_tmpfs_;
    std::string path_;
    bool mounted_ = false;
};

}  // namespace remofile::test
