// SPDX-License-Identifier: MIT
#include "harness/child.hpp"

#include <unistd.h>

#include <catch.hpp>
#include <filesystem>

#include "harness/scratch.hpp"

namespace remofile::test {

TEST_CASE("a program runs as a user who may not go where it lies") {
    if (::geteuid() != 0)
        return;
    const std::string closed = Scratch::instance().make_directory("closed");
    std::filesystem::copy_file("/usr/bin/id", closed + "/id");
    std::filesystem::permissions(closed, std::filesystem::perms::owner_all);
    const Ended ended = run({.arguments = {closed + "/id", "-u"}, .as = Credentials{.uid = 20'001, .gid = 20'001}});
    INFO(ended.to_string());
    CHECK(ended.exit_status == 0);
    CHECK(ended.output == "20001\n");
}

}  // namespace remofile::test
