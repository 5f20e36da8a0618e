// SPDX-License-Identifier: MIT
#include "export_fixture.hpp"

#include <grp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace remofile::server::test {

TemporaryDirectory::TemporaryDirectory(const std::filesystem::path& parent) {
    std::string pattern = (parent / "remofile-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr)
        throw std::runtime_error("mkdtemp");
    // Other uids shall be able to search it.
    chmod(pattern.c_str(), 0755);
    path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

void write_file(const std::string& path, std::string_view content) {
    std::ofstream(path, std::ios::binary) << content;
}

std::string read_file(const std::string& path) {
    std::ostringstream content;
    content << std::ifstream(path, std::ios::binary).rdbuf();
    return content.str();
}

Session::Session(FileService& service, const std::string& path, bool read_only, Caller as)
    : caller(std::move(as)), service_(service) {
    auto opened = service.open_session(path, root, caller, read_only);
    open_status_ = opened.status();
    if (opened)
        files_ = opened->files;
}

Session::~Session() {
    close();
}

void Session::close() {
    if (files_)
        service_.close_session(files_);
}

NodeId Session::lookup(NodeId parent, const std::string& name) {
    const auto found = call(wire::Lookup{.parent = parent, .name = name, .node = {new_node(), true}});
    return found.body.node;
}

NodeId Session::walk(const std::string& path) {
    NodeId node = root;
    std::istringstream components(path);
    for (std::string name; node && std::getline(components, name, '/');)
        node = lookup(node, name);
    return node;
}

Answer<wire::Create> Session::create(NodeId parent, const std::string& name, HandleId handle, std::uint32_t flags,
                                     std::uint32_t mode, std::uint32_t umask) {
    return call(wire::Create{.parent = parent,
                             .name = name,
                             .node = {new_node(), true},
                             .handle = handle,
                             .flags = flags,
                             .mode = mode,
                             .umask = umask});
}

Answer<wire::Write> Session::write(HandleId handle, std::uint64_t offset, std::string_view text) {
    return call(wire::Write{.handle = handle, .offset = offset}, Buffer::copy_of(text));
}

std::string Session::read(HandleId handle, std::uint64_t offset, std::uint32_t size) {
    const auto answer = call(wire::Read{.handle = handle, .offset = offset, .size = size});
    return std::string(answer.bulk.text());
}

HandleId Session::open(NodeId node, std::uint32_t flags) {
    const HandleId handle = new_handle();
    return call(wire::Open{.node = node, .handle = handle, .flags = flags}) ? handle : HandleId{};
}

NodeId Session::reserve_nodes(std::uint64_t count) {
    const NodeId first{last_node_ + 1};
    last_node_ += count;
    return first;
}

std::vector<wire::DirectoryEntry> Session::list(NodeId directory, bool attributes, std::uint32_t size,
                                                std::uint16_t max_entries) {
    const HandleId handle = new_handle();
    std::vector<wire::DirectoryEntry> all;
    if (!call(wire::Opendir{.node = directory, .handle = handle}))
        return all;
    for (std::uint64_t cookie = 0;;) {
        const auto part = call(
            wire::Readdir{.handle = handle,
                          .cookie = cookie,
                          .size = size,
                          .max_entries = max_entries,
                          .attributes = attributes ? wire::ListedAttributes::with_nodes : wire::ListedAttributes::none,
                          .first_node = reserve_nodes(max_entries)});
        if (!part)
            break;
        for (auto& entry : decode_entries(part.body, part.bulk)) {
            cookie = entry.cookie;
            all.push_back(std::move(entry));
        }
        if (part.body.end)
            break;
    }
    call(wire::Releasedir{.handle = handle});
    return all;
}

std::vector<wire::DirectoryEntry> decode_entries(std::size_t count, const Buffer& bulk) {
    std::vector<wire::DirectoryEntry> entries(count);
    wire::Decoder decoder(bulk.bytes());
    for (auto& entry : entries)
        decoder.get(entry);
    if (!decoder.finished())
        throw std::runtime_error("a directory listing that does not decode");
    return entries;
}

Export::Export(ExportOptions options) {
    options.directory = directory.path();
    auto opened = FileService::open(std::move(options), counters);
    if (!opened)
        throw std::runtime_error(opened.error().to_string());
    service = std::move(*opened);
}

Caller as_user(uid_t uid, gid_t gid, std::vector<gid_t> groups) {
    return {.switch_identity = true, .uid = uid, .gid = gid, .groups = std::move(groups)};
}

int in_child_as(const Caller& caller, const std::function<int()>& work) {
    const pid_t child = fork();
    if (child == 0) {
        if (caller.switch_identity &&
            (setgroups(caller.groups.size(), caller.groups.data()) != 0 ||
             setresgid(caller.gid, caller.gid, caller.gid) != 0 || setresuid(caller.uid, caller.uid, caller.uid) != 0))
            _exit(255);
        _exit(work());
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

bool eventually(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline)
            return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
}

}  // namespace remofile::server::test
