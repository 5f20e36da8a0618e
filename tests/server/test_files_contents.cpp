// SPDX-License-Identifier: MIT
// What is in files: reading, writing, appending, holes, copies, times, and what happens when there is no room.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>

#include <atomic>
#include <chrono>
#include <set>
#include <thread>

#include "base/unique_fd.hpp"
#include "catch.hpp"
#include "export_fixture.hpp"

using namespace remofile;
using namespace remofile::server;
using namespace remofile::server::test;

namespace {

constexpr std::uint32_t read_write = wire::open_read | wire::open_write;

// An export with a small tmpfs mounted below it, seen by this test alone; nothing where the test may not mount.
class MountedExport {
public:
    // The mounts must be the test's own before the export is opened, or the export would be in those of others.
    MountedExport()
        : mounted_(unshare(CLONE_NEWNS) == 0 && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0),
          exported_(std::make_unique<Export>()) {
        std::filesystem::create_directory(path());
        mounted_ = mounted_ && mount("none", path().c_str(), "tmpfs", 0, "size=1m") == 0;
    }
    ~MountedExport() {
        if (mounted_)
            umount2(path().c_str(), MNT_DETACH);
    }
    MountedExport(const MountedExport&) = delete;
    MountedExport& operator=(const MountedExport&) = delete;
    bool usable() const { return mounted_; }
    Export& exported() { return *exported_; }
    std::string path() const { return exported_->directory / "mounted"; }

private:
    bool mounted_;
    std::unique_ptr<Export> exported_;
};

std::string pattern(std::size_t size) {
    std::string text(size, '\0');
    for (std::size_t i = 0; i < size; ++i)
        text[i] = static_cast<char>('a' + i * 31 % 26);
    return text;
}

}  // namespace

TEST_CASE("reads give what is there, and no more") {
    Export exported;
    const std::string content = pattern(3U << 20);
    write_file(exported.directory / "file", content);
    Session session(*exported.service);
    const HandleId handle = session.open(session.lookup(Session::root, "file"), wire::open_read);
    CHECK((session.read(handle, 0, 1U << 20) == content.substr(0, 1U << 20)));
    CHECK(session.read(handle, 1, 100) == content.substr(1, 100));
    CHECK(session.read(handle, content.size() - 10, 1U << 20) == content.substr(content.size() - 10));
    CHECK(session.read(handle, content.size() - 10, 100) == content.substr(content.size() - 10));
    CHECK(session.read(handle, content.size(), 1U << 20).empty());
    CHECK(session.read(handle, content.size() + 5000, 100).empty());
    CHECK(session.read(handle, 0, 0).empty());
}

TEST_CASE("files that have bytes but no size can be read") {
    Counters counters;
    ExportOptions options;
    options.directory = "/proc";
    const auto service = FileService::open(std::move(options), counters);
    REQUIRE(service);
    Session session(**service);
    const HandleId handle = session.open(session.lookup(Session::root, "version"), wire::open_read);
    CHECK(session.read(handle, 0, 65536).starts_with("Linux"));
}

TEST_CASE("writes say where they went and what the file is like then") {
    Export exported;
    Session session(*exported.service);
    const HandleId handle = session.new_handle();
    session.create(Session::root, "file", handle);
    const auto created = session.call(wire::Getattr{.node = session.lookup(Session::root, "file")});
    const auto first = session.write(handle, 5, "hello");
    CHECK(first.body.version_before == created.body.attributes.version);
    CHECK(first.body.offset == 5);
    CHECK(first.body.size == 5);
    CHECK(first.body.attributes.size == 10);
    CHECK(read_file(exported.directory / "file") == std::string(5, '\0') + "hello");
    CHECK(session.write(handle, 0, "").body.size == 0);
    const auto appended =
        session.call(wire::Write{.handle = handle, .offset = 3, .append = true}, Buffer::copy_of("end"));
    CHECK(appended.body.offset == 10);
    CHECK(appended.body.attributes.size == 13);
    // Appending has not moved where other writes go.
    CHECK(session.write(handle, 0, "start").body.offset == 0);
    CHECK(read_file(exported.directory / "file") == "starthelloend");
    CHECK(session.call(wire::Flush{.handle = handle}));
    CHECK(session.call(wire::Fsync{.handle = handle}));
    CHECK(session.call(wire::Fsync{.handle = handle, .data_only = true}));
    const HandleId appending =
        session.open(session.lookup(Session::root, "file"), wire::open_write | wire::open_append | wire::open_sync);
    CHECK(session.write(appending, 0, "!").body.offset == 13);
    CHECK(session.call(wire::Write{.handle = appending, .append = true}, {}).body.offset == 14);
}

TEST_CASE("appends of several sessions and processes do not overwrite each other") {
    Export exported;
    write_file(exported.directory / "log", "");
    constexpr int lines = 300;
    std::vector<std::thread> threads;
    std::atomic<bool> wrong_place = false;
    for (int number = 0; number < 3; ++number)
        threads.emplace_back([&, number] {
            Session session(*exported.service);
            const NodeId node = session.lookup(Session::root, "log");
            const HandleId handle =
                session.open(node, number == 0 ? wire::open_write : wire::open_write | wire::open_append);
            for (int i = 0; i < lines; ++i) {
                const std::string line = std::to_string(number) + " " + std::to_string(i) + "\n";
                const auto written =
                    session.call(wire::Write{.handle = handle, .offset = 0, .append = true}, Buffer::copy_of(line));
                // Where the reply says it went, there it is.
                const UniqueFd file(open((exported.directory / "log").c_str(), O_RDONLY));
                std::string there(line.size(), '\0');
                if (pread(file.get(), there.data(), there.size(), static_cast<off_t>(written.body.offset)) !=
                        static_cast<ssize_t>(there.size()) ||
                    there != line)
                    wrong_place = true;
            }
        });
    threads.emplace_back([&] {
        const UniqueFd file(open((exported.directory / "log").c_str(), O_WRONLY | O_APPEND));
        for (int i = 0; i < lines; ++i) {
            const std::string line = "3 " + std::to_string(i) + "\n";
            if (write(file.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()))
                wrong_place = true;
        }
    });
    for (auto& thread : threads)
        thread.join();
    CHECK_FALSE(wrong_place);
    const std::string content = read_file(exported.directory / "log");
    CHECK(std::count(content.begin(), content.end(), '\n') == 4 * lines);
}

TEST_CASE("blocks of a file are hashed up to its end") {
    Export exported;
    Session session(*exported.service);
    const HandleId handle = session.new_handle();
    session.create(Session::root, "file", handle);
    std::string content(10'000, 'x');
    for (std::size_t i = 0; i < content.size(); ++i)
        content[i] = static_cast<char>(i % 251);
    session.write(handle, 0, content);
    const auto digest = [](std::string_view bytes) {
        XXH128_canonical_t canonical;
        XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
        return std::string(reinterpret_cast<const char*>(canonical.digest), sizeof(canonical.digest));
    };
    const auto hashed = [&](std::uint64_t offset, std::uint32_t block_size, std::uint16_t count) {
        const auto answer = session.call(wire::Hash{handle, offset, block_size, count});
        return std::pair(answer.status, std::string(answer.bulk.text()));
    };
    const std::string_view view = content;
    CHECK(hashed(0, 4096, 100).second ==
          digest(view.substr(0, 4096)) + digest(view.substr(4096, 4096)) + digest(view.substr(8192)));
    CHECK(hashed(100, 1000, 2).second == digest(view.substr(100, 1000)) + digest(view.substr(1100, 1000)));
    CHECK(hashed(5000, 5000, 2).second == digest(view.substr(5000)));
    CHECK(hashed(10'000, 1, 1).second.empty());
    CHECK(hashed(INT64_MAX / 2, 4096, 1).second.empty());

    CHECK(hashed(0, 0, 1).first == Status::invalid);
    CHECK(hashed(0, wire::max_bulk_bytes + 1, 1).first == Status::invalid);
    CHECK(hashed(0, 1, wire::max_hashed_blocks + 1).first == Status::invalid);
    CHECK(hashed(0, wire::max_bulk_bytes, 65).first == Status::invalid);
    CHECK(hashed(UINT64_MAX, 1, 1).first == Status::invalid);
    const HandleId write_only = session.open(session.lookup(Session::root, "file"), wire::open_write);
    CHECK(session.call(wire::Hash{write_only, 0, 1, 1}).status == Status::bad_handle);
}

TEST_CASE("holes are found as they are locally") {
    Export exported;
    Session session(*exported.service);
    const HandleId handle = session.new_handle();
    session.create(Session::root, "file", handle);
    const std::string block(65536, 'x');
    session.write(handle, 0, block);
    session.write(handle, 1U << 20, block);
    session.call(wire::Setattr{
        .node = session.lookup(Session::root, "file"), .handle = handle, .which = wire::set_size, .size = 2U << 20});
    const UniqueFd file(open((exported.directory / "file").c_str(), O_RDONLY));
    for (const std::uint64_t offset : {0UL, 100UL, 65536UL, 1UL << 20, (1UL << 20) + 65536, (2UL << 20) - 1, 2UL << 20})
        for (const auto what : {wire::SeekWhat::data, wire::SeekWhat::hole}) {
            INFO(offset);
            const auto found = session.call(wire::Seek{.handle = handle, .offset = offset, .what = what});
            const off_t local =
                lseek(file.get(), static_cast<off_t>(offset), what == wire::SeekWhat::data ? SEEK_DATA : SEEK_HOLE);
            CHECK(to_errno(found.status) == (local < 0 ? errno : 0));
            if (local >= 0)
                CHECK(found.body.offset == static_cast<std::uint64_t>(local));
        }
    CHECK(session.call(wire::Seek{.handle = handle, .offset = UINT64_MAX}).status == Status::no_device);
}

namespace {

std::uint64_t bytes_on_disk(const std::string& path) {
    struct stat stat {};
    REQUIRE(::stat(path.c_str(), &stat) == 0);
    return static_cast<std::uint64_t>(stat.st_blocks) * 512;
}

// A new file's handle.
HandleId created(Session& session, const std::string& name, std::uint32_t flags = read_write,
                 std::uint32_t mode = 0644) {
    const HandleId handle = session.new_handle();
    REQUIRE(session.create(Session::root, name, handle, flags, mode).status == Status::ok);
    return handle;
}

void punch(const std::string& path, off_t offset, off_t size) {
    const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    REQUIRE(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size) == 0);
}

}  // namespace

TEST_CASE("a hole is not read, and what is read beside it is right") {
    Export exported;
    Session session(*exported.service);
    const std::string path = exported.directory / "sparse";
    const std::string data = pattern(1 << 20);
    write_file(path, data + data + data);
    punch(path, 1 << 20, 1 << 20);
    const HandleId handle = session.open(session.lookup(Session::root, "sparse"), wire::open_read);
    const auto outcome_of = [&](std::uint64_t offset, std::uint32_t size) {
        return *exported.service->carry_out(session.files(), RequestId{1}, wire::Opcode::read,
                                            wire::encode_body(wire::Read{handle, offset, size}), {}, {}, {});
    };
    const Outcome hole = outcome_of(1 << 20, 1 << 20);
    CHECK(hole.bulk.encoding == wire::BulkEncoding::zeros);
    CHECK(hole.bulk.size == 1 << 20);
    CHECK(outcome_of((1 << 20) + 100, 100'000).bulk.encoding == wire::BulkEncoding::zeros);
    CHECK(outcome_of(1 << 19, 1 << 20).bulk.encoding == wire::BulkEncoding::raw);
    CHECK(session.read(handle, 1 << 19, 1 << 20) == data.substr(1 << 19) + std::string(1 << 19, '\0'));
    CHECK(session.read(handle, 3 << 19, 1 << 20) == std::string(1 << 19, '\0') + data.substr(0, 1 << 19));

    std::filesystem::resize_file(path, 5 << 20);  // a hole at the end
    CHECK(outcome_of(3 << 20, 1 << 20).bulk.encoding == wire::BulkEncoding::zeros);
    CHECK(outcome_of(9 << 19, 1 << 20).bulk.size == 1 << 19);
    CHECK(outcome_of(5 << 20, 1 << 20).bulk.size == 0);
}

TEST_CASE("what is in memory is read at once, and nothing else") {
    Export exported;
    Session session(*exported.service);
    const std::string path = exported.directory / "file";
    write_file(path, pattern(10'000));
    const HandleId handle = session.open(session.lookup(Session::root, "file"), wire::open_read);
    const auto at_once = [&](const auto& request, const Caller& caller = {}) {
        return exported.service->carry_out_at_once(session.files(), std::decay_t<decltype(request)>::opcode,
                                                   wire::encode_body(request), caller);
    };
    const auto read = at_once(wire::Read{handle, 100, 4096});
    if (read) {  // a file system that can tell what it has in memory
        CHECK(read->bulk.data.text() == pattern(10'000).substr(100, 4096));
        CHECK(at_once(wire::Read{handle, 9'000, 4096})->bulk.data.text() == pattern(10'000).substr(9'000));
        CHECK(at_once(wire::Read{handle, 20'000, 4096})->bulk.data.empty());
    }
    CHECK_FALSE(at_once(wire::Read{handle, 0, 1 << 20}));
    CHECK_FALSE(at_once(wire::Read{HandleId{999}, 0, 4096}));
    CHECK_FALSE(at_once(wire::Read{handle, UINT64_MAX, 4096}));
    CHECK_FALSE(at_once(wire::Lookup{.parent = Session::root, .name = "file", .node = {NodeId{77}, false}}));
    CHECK_FALSE(
        at_once(wire::Read{handle, 0, 4096}, Caller{.switch_identity = true, .uid = 1, .gid = 1, .groups = {}}));
    if (const auto attributes = at_once(wire::Getattr{.node = {}, .handle = handle}))
        CHECK(wire::decode_body<wire::AttributesReply>(attributes->body)->attributes.size == 10'000);
    session.close();
    CHECK_FALSE(at_once(wire::Read{handle, 0, 4096}));
}

TEST_CASE("in memory as well where the file system cannot tell, and there is no hole") {
    const TemporaryDirectory directory("/dev/shm");
    Counters counters;
    ExportOptions options;
    options.directory = directory.path();
    const auto service = FileService::open(std::move(options), counters);
    REQUIRE(service);
    Session session(**service);
    write_file(directory / "file", pattern(10'000));
    std::filesystem::resize_file(directory / "file", 40'000);  // a hole from the fourth page on
    write_file(directory / "short", pattern(100));
    const auto open = [&](const char* name) {
        return session.open(session.lookup(Session::root, name), wire::open_read);
    };
    const HandleId handle = open("file");
    const HandleId short_handle = open("short");
    const auto read = [&](HandleId file, std::uint64_t offset, std::uint32_t size) {
        return (*service)->carry_out_at_once(session.files(), wire::Opcode::read,
                                             wire::encode_body(wire::Read{file, offset, size}), {});
    };
    CHECK_FALSE(read(handle, 8'192, 8'192));
    CHECK_FALSE(read(handle, 32'768, 4'096));
    const auto first = read(handle, 100, 4'096);
    if (!first)
        return;  // a kernel before Linux 6.5, or a file system other than tmpfs
    CHECK(first->bulk.data.text() == pattern(10'000).substr(100, 4'096));
    CHECK(read(handle, 8'192, 4'096)->bulk.data.text() == pattern(10'000).substr(8'192) + std::string(2'288, '\0'));
    CHECK(read(handle, 50'000, 4'096)->bulk.data.empty());
    CHECK(read(short_handle, 0, 16'384)->bulk.data.text() == pattern(100));
    CHECK(read(short_handle, 90, 4'096)->bulk.data.text() == pattern(100).substr(90));
}

TEST_CASE("zeros written beyond the end or into a hole leave the file sparse") {
    Export exported;
    Session session(*exported.service);
    const std::string path = exported.directory / "file";
    const std::string zeros(1 << 20, '\0');
    const HandleId handle = created(session, "file");
    for (std::uint64_t i = 0; i < 8; ++i) {
        const auto written = session.write(handle, i << 20, zeros);
        REQUIRE(written.status == Status::ok);
        CHECK(written.body.offset == i << 20);
        CHECK(written.body.size == zeros.size());
        CHECK(written.body.attributes.size == (i + 1) << 20);
    }
    CHECK(bytes_on_disk(path) <= 8 * 4096 * 2);
    CHECK(session.read(handle, 0, 1 << 20) == zeros);

    std::filesystem::resize_file(path, 16 << 20);
    const auto sparse = bytes_on_disk(path);
    const timespec long_ago[2] = {{.tv_sec = 1, .tv_nsec = 0}, {.tv_sec = 1, .tv_nsec = 0}};
    REQUIRE(::utimensat(AT_FDCWD, path.c_str(), long_ago, 0) == 0);
    const auto inside = session.write(handle, 9 << 20, zeros);
    CHECK(inside.body.attributes.modification.seconds > 1'000'000);  // a write, whatever it did
    CHECK(inside.body.attributes.access.seconds == 1);
    CHECK(bytes_on_disk(path) == sparse);
    CHECK(inside.body.attributes.size == 16 << 20);
}

TEST_CASE("zeros written over data replace it") {
    Export exported;
    Session session(*exported.service);
    const std::string path = exported.directory / "file";
    const std::string data = pattern(3 << 20);
    write_file(path, data);
    punch(path, 1 << 20, 4096);
    punch(path, (1 << 20) + 100 * 4096, 4096);
    const HandleId handle = session.open(session.lookup(Session::root, "file"), read_write);
    const auto before = bytes_on_disk(path);
    REQUIRE(session.write(handle, (1 << 20) - 5, std::string(1 << 20, '\0')).status == Status::ok);
    std::string expected = data;
    expected.replace((1 << 20) - 5, 1 << 20, 1 << 20, '\0');
    CHECK(read_file(path) == expected);
    CHECK(bytes_on_disk(path) == before);  // nothing is given back, no hole is filled
    // Across the end.
    REQUIRE(session.write(handle, (3 << 20) - 100'000, std::string(200'000, '\0')).status == Status::ok);
    expected.resize((3 << 20) - 100'000);
    expected.resize((3 << 20) + 100'000);
    CHECK(read_file(path) == expected);
}

TEST_CASE("space that was set aside stays set aside when zeros are written into it") {
    Export exported;
    Session session(*exported.service);
    const std::string path = exported.directory / "file";
    const HandleId handle = created(session, "file");
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (::fallocate(fd.get(), 0, 0, 4 << 20) != 0)
        return;
    const auto before = bytes_on_disk(path);
    REQUIRE(session.write(handle, 1 << 20, std::string(1 << 20, '\0')).status == Status::ok);
    CHECK(bytes_on_disk(path) >= before);
    CHECK(session.read(handle, 1 << 20, 1 << 20) == std::string(1 << 20, '\0'));
}

TEST_CASE("appended zeros are appended") {
    Export exported;
    Session session(*exported.service);
    const std::string path = exported.directory / "log";
    write_file(path, "begin");
    const HandleId handle = session.open(session.lookup(Session::root, "log"), wire::open_write | wire::open_append);
    write_file(path, "begin and more");
    const auto written = session.write(handle, 0, std::string(100'000, '\0'));
    CHECK(written.body.offset == 14);
    CHECK(read_file(path) == "begin and more" + std::string(100'000, '\0'));
}

TEST_CASE("zeros written to a program take its rights away as any write does") {
    Export exported;
    Session session(*exported.service);
    const std::string path = exported.directory / "program";
    write_file(path, "x");
    std::filesystem::resize_file(path, 1 << 20);
    REQUIRE(::chmod(path.c_str(), 0755) == 0);
    const HandleId handle = session.open(session.lookup(Session::root, "program"), read_write);
    const auto before = bytes_on_disk(path);
    REQUIRE(session.write(handle, 1 << 18, std::string(1 << 18, '\0')).status == Status::ok);
    CHECK(bytes_on_disk(path) > before);  // it was written
}

TEST_CASE("ranges are copied on the server") {
    Export exported;
    Session session(*exported.service);
    const std::string content = pattern(3'000'000);
    write_file(exported.directory / "from", content);
    const HandleId from = session.open(session.lookup(Session::root, "from"), read_write);
    const HandleId to = session.new_handle();
    session.create(Session::root, "to", to);
    const auto copy = [&](HandleId source, std::uint64_t from_offset, HandleId target, std::uint64_t to_offset,
                          std::uint64_t size) {
        return session.call(wire::CopyRange{
            .from = source, .from_offset = from_offset, .to = target, .to_offset = to_offset, .size = size});
    };
    CHECK(copy(from, 0, to, 0, content.size() + 5000).body.size == content.size());
    CHECK((read_file(exported.directory / "to") == content));
    CHECK(copy(from, content.size(), to, 0, 10).body.size == 0);
    CHECK(copy(from, 0, to, content.size(), 10).body.size == 10);
    CHECK(copy(from, 0, from, 5, 10).status == Status::invalid);
    CHECK(copy(from, 5, from, 0, 10).status == Status::invalid);
    CHECK(copy(from, 0, from, 10, 10).body.size == 10);
    CHECK(copy(from, 0, from, 10'000'000, INT64_MAX).body.size == content.size());
    session.call(
        wire::Setattr{.node = session.lookup(Session::root, "from"), .which = wire::set_size, .size = content.size()});
    CHECK(copy(from, UINT64_MAX, to, 0, 10).status == Status::overflow);
    const HandleId reader = session.open(session.lookup(Session::root, "to"), wire::open_read);
    CHECK(copy(from, 0, reader, 0, 10).status == Status::bad_handle);
    const HandleId appender = session.open(session.lookup(Session::root, "to"), wire::open_write | wire::open_append);
    CHECK(copy(from, 0, appender, 0, 10).status == Status::bad_handle);
}

TEST_CASE("a file system mounted below the export is part of it") {
    MountedExport mounted;
    if (!mounted.usable())
        return;
    Export& exported = mounted.exported();
    Session session(*exported.service);
    const NodeId below = session.lookup(Session::root, "mounted");
    const HandleId there = session.new_handle();
    const auto made = session.create(below, "file", there);
    REQUIRE(made.status == Status::ok);
    CHECK(made.body.entry.attributes.identity.device !=
          session.call(wire::Getattr{.node = Session::root}).body.attributes.identity.device);
    CHECK(std::filesystem::exists(mounted.path() + "/file"));
    // Copies between the two go through memory where the kernel does not do them.
    const std::string content = pattern(600'000);
    write_file(exported.directory / "from", content);
    const HandleId from = session.open(session.lookup(Session::root, "from"), wire::open_read);
    CHECK(session.call(wire::CopyRange{.from = from, .to = there, .size = content.size()}).body.size == content.size());
    CHECK((read_file(mounted.path() + "/file") == content));
    CHECK(session.call(wire::Rename{.parent = below, .name = "file", .new_parent = Session::root, .new_name = "moved"})
              .status == Status::cross_device);
    CHECK(session.call(wire::Link{.node = made.body.entry.node, .new_parent = Session::root, .new_name = "l"}).status ==
          Status::cross_device);

    // The statfs of each is its own.
    struct statvfs local {};
    statvfs(mounted.path().c_str(), &local);
    const auto stat = session.call(wire::Statfs{.node = below});
    CHECK(stat.body.blocks == local.f_blocks);
    CHECK(stat.body.block_size == local.f_frsize);
    CHECK(stat.body.files == local.f_files);
    CHECK(stat.body.name_max == 255);

    // A write that the disk has only part of the room for is shortened; the next fails.
    const std::string chunk(900'000, 'x');
    const auto partial = session.write(there, content.size(), chunk);
    CHECK(partial.status == Status::ok);
    CHECK(partial.body.size < chunk.size());
    CHECK(session.write(there, 3'000'000, "x").status == Status::no_space);
    CHECK(session.call(wire::Fallocate{.handle = there, .length = 10U << 20}).status == Status::no_space);
    CHECK(session.call(wire::CopyRange{.from = from, .to = there, .to_offset = 2'000'000, .size = 500'000}).status ==
          Status::no_space);
}

TEST_CASE("a limit on the size of files is an error of the write, not the server's end") {
    Export exported;
    Session session(*exported.service);
    const HandleId handle = session.new_handle();
    session.create(Session::root, "file", handle);
    rlimit before{};
    getrlimit(RLIMIT_FSIZE, &before);
    rlimit small = before;
    small.rlim_cur = 1000;
    setrlimit(RLIMIT_FSIZE, &small);
    const auto partial = session.write(handle, 990, std::string(100, 'x'));
    const auto none = session.write(handle, 2000, "x");
    setrlimit(RLIMIT_FSIZE, &before);
    CHECK(partial.body.size == 10);
    CHECK(none.status == Status::file_too_big);
}

TEST_CASE("times are set to what is given, to now, or not at all") {
    Export exported;
    Session session(*exported.service);
    const HandleId handle = session.new_handle();
    const NodeId node = session.create(Session::root, "file", handle).body.entry.node;
    const auto set = [&](std::uint32_t which) {
        return session
            .call(wire::Setattr{.node = node, .which = which, .access = {1000, 1}, .modification = {2000, 999'999'999}})
            .body.attributes;
    };
    const auto now = [] { return std::chrono::system_clock::to_time_t(std::chrono::system_clock::now()); };
    auto attributes = set(wire::set_access | wire::set_modification);
    CHECK(attributes.access == wire::Timestamp{1000, 1});
    CHECK(attributes.modification == wire::Timestamp{2000, 999'999'999});
    attributes = set(wire::set_access_now);
    CHECK(attributes.access.seconds >= now() - 10);
    CHECK(attributes.modification == wire::Timestamp{2000, 999'999'999});
    attributes = set(wire::set_access);
    CHECK(attributes.access == wire::Timestamp{1000, 1});
    attributes = set(wire::set_modification_now);
    CHECK(attributes.modification.seconds >= now() - 10);
    CHECK(attributes.access == wire::Timestamp{1000, 1});
    // Of times before 1970, too.
    const auto early = session.call(
        wire::Setattr{.node = node, .which = wire::set_modification, .modification = {-1000, 500'000'000}});
    CHECK(early.body.attributes.modification == wire::Timestamp{-1000, 500'000'000});
}

TEST_CASE("several attributes set at once do not undo each other") {
    Export exported;
    Session session(*exported.service);
    const HandleId handle = session.new_handle();
    const NodeId node = session.create(Session::root, "file", handle).body.entry.node;
    session.write(handle, 0, "content");
    const std::uint32_t owner = geteuid() == 0 ? 61001 : geteuid();
    const auto set = session.call(
        wire::Setattr{.node = node,
                      .which = wire::set_mode | wire::set_uid | wire::set_gid | wire::set_size | wire::set_modification,
                      .mode = 04755,
                      .uid = owner,
                      .gid = getegid(),
                      .size = 3,
                      .modification = {5000, 0}});
    REQUIRE(set.status == Status::ok);
    CHECK((set.body.attributes.mode & 0777) == 0755);
    CHECK(set.body.attributes.uid == owner);
    CHECK(set.body.attributes.size == 3);
    CHECK(set.body.attributes.modification.seconds == 5000);
}

TEST_CASE("a handle keeps its right to write, and to truncate, when the mode is taken away") {
    Export exported;
    chmod(exported.directory.path().c_str(), 0777);
    Session session(*exported.service);
    if (geteuid() == 0)
        session.caller = as_user(61001, 61001);
    const HandleId handle = session.new_handle();
    const NodeId node = session.create(Session::root, "file", handle, read_write, 0444).body.entry.node;
    CHECK(session.write(handle, 0, "content").body.size == 7);
    CHECK(session.call(wire::Setattr{.node = node, .handle = handle, .which = wire::set_size, .size = 2}));
    CHECK(session.call(wire::Setattr{.node = node, .which = wire::set_size, .size = 1}).status ==
          Status::access_denied);
}

TEST_CASE("each operation answers when the process has no descriptor left, and works once it has") {
    Export exported;
    std::filesystem::create_directory(exported.directory / "directory");
    write_file(exported.directory / "directory/file", "x");
    Session session(*exported.service);
    const NodeId directory = session.lookup(Session::root, "directory");
    const NodeId file = session.walk("directory/file");
    const HandleId open_file = session.open(file, read_write);
    REQUIRE(open_file);
    const std::vector<std::pair<std::string, std::function<Status()>>> operations{
        {"open",
         [&] {
             return session.call(wire::Open{file, session.new_handle(), wire::open_read}).status;
         }},
        {"opendir",
         [&] {
             return session.call(wire::Opendir{directory, session.new_handle()}).status;
         }},
        {"create", [&] { return session.create(directory, "new", session.new_handle()).status; }},
        {"mkdir",
         [&] {
             static int number = 0;
             return session
                 .call(wire::Mkdir{
                     .parent = directory, .name = "made" + std::to_string(number++), .node = {session.new_node()}})
                 .status;
         }},
        {"tmpfile",
         [&] {
             return session
                 .call(wire::Tmpfile{.parent = directory,
                                     .node = {session.new_node()},
                                     .handle = session.new_handle(),
                                     .flags = read_write})
                 .status;
         }},
        {"setattr",
         [&] { return session.call(wire::Setattr{.node = file, .which = wire::set_mode, .mode = 0600}).status; }},
        {"setlk",
         [&] {
             return session
                 .call(wire::Setlk{.handle = open_file,
                                   .owner = LockOwner{1},
                                   .range = {.type = wire::LockType::write, .start = 0, .end = 9}})
                 .status;
         }},
        {"flush", [&] { return session.call(wire::Flush{.handle = open_file, .owner = LockOwner{1}}).status; }},
    };
    rlimit before{};
    getrlimit(RLIMIT_NOFILE, &before);
    for (const auto& [name, operation] : operations) {
        INFO(name);
        // The lowest numbers are all taken; each round leaves one more free.
        std::size_t open_count = 0;
        for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
            ++open_count;
        Status status = Status::too_many_files;
        for (std::size_t more = 0; more < 20 && status != Status::ok; ++more) {
            rlimit tight = before;
            tight.rlim_cur = open_count - 1 + more;
            setrlimit(RLIMIT_NOFILE, &tight);
            status = operation();
            setrlimit(RLIMIT_NOFILE, &before);
            CHECK((status == Status::ok || status == Status::too_many_files || status == Status::no_locks));
        }
        CHECK(status == Status::ok);
    }
}

TEST_CASE("a server cannot export what is no directory, or is not there") {
    const TemporaryDirectory directory;
    write_file(directory / "file", "x");
    Counters counters;
    const auto open = [&](const std::string& path) {
        ExportOptions options;
        options.directory = path;
        return FileService::open(std::move(options), counters);
    };
    CHECK(open(directory / "missing").error().status == Status::no_entry);
    CHECK(open(directory / "missing").error().message.find("missing") != std::string::npos);
    CHECK(open(directory / "file").error().status == Status::not_directory);
    std::filesystem::create_symlink(directory.path(), directory / "link");
    CHECK(open(directory / "link"));
}

TEST_CASE("operations are counted") {
    Export exported;
    Session session(*exported.service);
    session.lookup(Session::root, "missing");
    session.lookup(Session::root, "missing");
    session.call(wire::Statfs{.node = Session::root});
    CHECK(exported.counters.at("files.LOOKUP").value() == 2);
    CHECK(exported.counters.at("files.LOOKUP.errors").value() == 2);
    CHECK(exported.counters.at("files.STATFS").value() == 1);
    CHECK(exported.counters.at("files.STATFS.errors").value() == 0);
}
