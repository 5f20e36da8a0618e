// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "catch.hpp"
#include "spool/directory.hpp"

namespace remofile::spool {
namespace {

struct Place {
    std::filesystem::path root;
    Place() {
        std::string text = (std::filesystem::temp_directory_path() / "remofs-spool-XXXXXX").string();
        REQUIRE(mkdtemp(text.data()) != nullptr);
        root = std::filesystem::canonical(text);
    }
    ~Place() { std::filesystem::remove_all(root); }
    Result<Directory> open(const std::string& name = "spool") const {
        return Directory::open((root / name).string(), (root / "mount").string());
    }
};

Contents example(const std::string& source = "host:/data") {
    return {.source = source,
            .ended_at = 1'790'000'000,
            .objects = {{.type = S_IFDIR}},
            .changes = {{.kind = ChangeKind::set, .object = 0, .setting = {.which = wire::set_mode, .mode = 0755}}},
            .written = {}};
}

}  // namespace

TEST_CASE("spool directory: it is made for this user alone") {
    const Place place;
    REQUIRE(place.open().has_value());
    struct stat made {};
    REQUIRE(stat((place.root / "spool").c_str(), &made) == 0);
    CHECK((made.st_mode & 07777U) == 0700);
    CHECK(place.open().has_value());
}

TEST_CASE(
    "spool directory: where others could read or change what is kept, or where it would not be kept, it is refused") {
    const Place place;
    const auto why = [](const Result<Directory>& opened) {
        return opened ? std::string("it is taken") : opened.error().message;
    };
    CHECK(why(Directory::open("spool", "/mnt")) == "spool=spool: expected an absolute path");
    std::filesystem::create_directories(place.root / "mount/inside");
    CHECK(why(place.open("mount/inside")).ends_with(": it is inside the mount"));
    CHECK(why(place.open("mount/new/../not-there")).ends_with(": it is inside the mount"));
    CHECK(why(place.open("mount")).ends_with(": it is inside the mount"));
    std::filesystem::create_directory_symlink(place.root / "mount/inside", place.root / "link");
    CHECK(why(place.open("link")).ends_with(": it is inside the mount"));
    CHECK(place.open("mounted").has_value());
    REQUIRE(mkdir((place.root / "open").c_str(), 0777) == 0);
    REQUIRE(chmod((place.root / "open").c_str(), 0770) == 0);
    CHECK(why(place.open("open")).ends_with(": others may write to it; chmod 700 helps"));
    std::ofstream(place.root / "file") << "x";
    CHECK(why(place.open("file")).ends_with(": Not a directory"));
    CHECK(why(place.open("missing/one")).ends_with(": No such file or directory"));
    if (geteuid() == 0) {
        REQUIRE(mkdir((place.root / "other").c_str(), 0700) == 0);
        REQUIRE(chown((place.root / "other").c_str(), 1, 1) == 0);
        CHECK(why(place.open("other")).ends_with(": it belongs to another user"));
    }
}

TEST_CASE("spool directory: what is kept is found and read, and goes") {
    const Place place;
    const auto directory = place.open();
    REQUIRE(directory.has_value());
    CHECK(directory->names()->empty());
    const auto name = directory->keep(example());
    REQUIRE(name.has_value());
    CHECK(name->ends_with(".spool"));
    REQUIRE(directory->names() == std::vector<std::string>{*name});
    const auto read = directory->read(*name);
    REQUIRE(read.has_value());
    CHECK(read->source == "host:/data");
    struct stat kept {};
    REQUIRE(stat(directory->path_of(*name).c_str(), &kept) == 0);
    CHECK((kept.st_mode & 07777U) == 0600);
    {
        auto progress = Progress::open(*directory, *name);
        REQUIRE(progress.has_value());
        REQUIRE(progress->add({.kind = StepKind::change_done, .number = 3}).has_value());
        REQUIRE(progress->add({.kind = StepKind::written, .number = 4}, true).has_value());
    }
    {
        const auto progress = Progress::open(*directory, *name);
        REQUIRE(progress.has_value());
        REQUIRE(progress->before().size() == 2);
        CHECK(progress->before()[1].number == 4);
    }
    REQUIRE(directory->remove(*name).has_value());
    CHECK(std::filesystem::is_empty(directory->path()));
}

TEST_CASE("spool directory: a step that was cut off is taken away, and those after it are found") {
    const Place place;
    const auto directory = place.open();
    const auto name = directory->keep(example());
    {
        auto progress = Progress::open(*directory, *name);
        REQUIRE(progress->add({.kind = StepKind::change_done, .number = 1}).has_value());
        REQUIRE(progress->add({.kind = StepKind::change_done, .number = 2}).has_value());
    }
    const auto path = directory->path_of(name->substr(0, name->size() - 6) + ".progress");
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
    {
        auto progress = Progress::open(*directory, *name);
        REQUIRE(progress->before().size() == 1);
        REQUIRE(progress->add({.kind = StepKind::change_done, .number = 5}).has_value());
    }
    const auto progress = Progress::open(*directory, *name);
    REQUIRE(progress->before().size() == 2);
    CHECK(progress->before()[1].number == 5);
}

TEST_CASE("spool directory: damaged and foreign files are refused and stay") {
    const Place place;
    const auto directory = place.open();
    const auto name = directory->keep(example());
    const std::string path = directory->path_of(*name);
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
    std::ofstream(directory->path_of("foreign.spool")) << "hello";
    std::filesystem::create_symlink(path, directory->path_of("link.spool"));
    CHECK(directory->read(*name).error().message == "damaged: its checksum is wrong");
    CHECK(directory->read("foreign.spool").error().message == "not a spool file of remofs");
    CHECK_FALSE(directory->read("link.spool").has_value());
    CHECK(directory->names()->size() == 3);
}

TEST_CASE("spool directory: one mount of a source at a time") {
    const Place place;
    const auto directory = place.open();
    auto first = directory->lock("host:/data");
    REQUIRE(first.has_value());
    CHECK(first->has_value());
    CHECK_FALSE(directory->lock("host:/data")->has_value());
    CHECK(directory->lock("host:/other")->has_value());
    first->reset();
    CHECK(directory->lock("host:/data")->has_value());
}

}  // namespace remofile::spool
