// SPDX-License-Identifier: MIT
// An export in a directory of its own, and sessions that call its operations as a client would.
#pragma once

#include <sys/stat.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/counters.hpp"
#include "server/file_service.hpp"
#include "wire/frame.hpp"
#include "wire/messages.hpp"

namespace remofile::server::test {

// A directory that goes with all that is in it.
class TemporaryDirectory {
public:
    explicit TemporaryDirectory(const std::filesystem::path& parent = std::filesystem::temp_directory_path());
    ~TemporaryDirectory();
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    const std::string& path() const { return path_; }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

void write_file(const std::string& path, std::string_view content);
std::string read_file(const std::string& path);

template <class Request>
struct Answer {
    Status status = Status::ok;
    typename Request::Reply body{};
    Buffer bulk;
    std::vector<InodePtr> changed;
    std::vector<Touched> touched;
    std::vector<InodePtr> unplaced;
    explicit operator bool() const { return status == Status::ok; }
};

class Session {
public:
    Session(FileService& service, const std::string& path = "/", bool read_only = false, Caller caller = {});
    ~Session();

    template <class Request>
    Answer<Request> call(const Request& request, Buffer bulk = {}) {
        return call_as(caller, request, std::move(bulk));
    }
    template <class Request>
    Answer<Request> call_as(const Caller& as, const Request& request, Buffer bulk = {}) {
        auto outcome = service_.carry_out(files_, RequestId{++last_request_}, Request::opcode,
                                          wire::encode_body(request), std::move(bulk), as, [](Outcome) {});
        return take<Request>(std::move(*outcome));
    }
    // For requests that may wait; the id is that to cancel.
    template <class Request>
    std::optional<Outcome> begin(const Request& request, std::function<void(Outcome)> later, RequestId* id = nullptr) {
        const RequestId number{++last_request_};
        if (id != nullptr)
            *id = number;
        return service_.carry_out(files_, number, Request::opcode, wire::encode_body(request), {}, caller,
                                  std::move(later));
    }
    template <class Request>
    static Answer<Request> take(Outcome outcome) {
        wire::RecordHeader header;
        header.bulk_encoding = outcome.bulk.encoding;
        header.bulk_size = outcome.bulk.size;
        auto bulk =
            wire::decode_bulk(header, std::move(outcome.bulk.data), wire::encoding_features, wire::max_bulk_bytes);
        Answer<Request> answer{outcome.status,
                               {},
                               std::move(bulk.value()),
                               std::move(outcome.changed),
                               std::move(outcome.touched),
                               std::move(outcome.touched_unplaced)};
        if (outcome.status == Status::ok)
            answer.body = wire::decode_body<typename Request::Reply>(outcome.body).value();
        return answer;
    }

    // Common requests. Ids are new ones.
    Status open_status() const { return open_status_; }
    NodeId lookup(NodeId parent, const std::string& name);  // 0 if it fails
    NodeId walk(const std::string& path);                   // of several components, from the root
    Answer<wire::Create> create(NodeId parent, const std::string& name, HandleId handle,
                                std::uint32_t flags = wire::open_read | wire::open_write, std::uint32_t mode = 0644,
                                std::uint32_t umask = 022);
    Answer<wire::Write> write(HandleId handle, std::uint64_t offset, std::string_view text);
    std::string read(HandleId handle, std::uint64_t offset, std::uint32_t size);
    HandleId open(NodeId node, std::uint32_t flags);  // 0 if it fails
    // All of a directory, by READDIR after READDIR.
    std::vector<wire::DirectoryEntry> list(NodeId directory, bool attributes = false, std::uint32_t size = 65536,
                                           std::uint16_t max_entries = 1000);

    NodeId new_node() { return NodeId{++last_node_}; }
    HandleId new_handle() { return HandleId{++last_handle_}; }
    NodeId reserve_nodes(std::uint64_t count);

    const std::shared_ptr<SessionFiles>& files() const { return files_; }
    void close();

    static constexpr NodeId root{1};
    Caller caller;

private:
    FileService& service_;
    std::shared_ptr<SessionFiles> files_;
    Status open_status_ = Status::ok;
    std::uint64_t last_request_ = 0;
    std::uint64_t last_node_ = 1;
    std::uint64_t last_handle_ = 0;
};

// Decodes the bulk frame of READDIR's and LIST's reply.
std::vector<wire::DirectoryEntry> decode_entries(std::size_t count, const Buffer& bulk);
inline std::vector<wire::DirectoryEntry> decode_entries(const wire::ReaddirReply& reply, const Buffer& bulk) {
    return decode_entries(reply.count, bulk);
}

// An export of a fresh directory.
class Export {
public:
    explicit Export(ExportOptions options = {});

    TemporaryDirectory directory;
    Counters counters;
    std::unique_ptr<FileService> service;
};

Caller as_user(uid_t uid, gid_t gid, std::vector<gid_t> groups = {});

// Runs `work` in a child process with that identity; returns its result (0 to 255).
int in_child_as(const Caller& caller, const std::function<int()>& work);

// Waits until `condition` holds, for at most ten seconds.
bool eventually(const std::function<bool()>& condition);

}  // namespace remofile::server::test
