// SPDX-License-Identifier: MIT
// How fast a session moves a file's contents, without the kernel and the driver: reads or writes of one size, so many
// under way, through Session against a real server. Prints rate, CPU seconds of both processes, and counters.
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <random>
#include <sstream>

#include "client/connect_options.hpp"
#include "client/session.hpp"
#include "transport/context.hpp"
#include "transport/reactor.hpp"

namespace {

using namespace remofile;

struct TransferOptions {
    client::ConnectOptions connect;
    std::string direction = "read";
    std::string file = "transfer.bin";  // below the export
    std::string data = "random";        // of writes: random, text or zeros
    std::uint64_t mebibytes = 1024;
    std::uint32_t chunk_kib = 256;
    unsigned in_flight = 16;
    unsigned rounds = 3;
    bool random_offsets = false;
    long server_pid = 0;
    int io_threads = 1;
    int compression = wire::compression_automatic;
};

double cpu_seconds_of(long pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string line;
    std::getline(file, line);
    // The name in parentheses may hold anything; utime and stime are the 12th and 13th fields after it.
    std::istringstream rest(line.substr(std::min(line.size(), line.rfind(')') + 1)));
    std::string field;
    double ticks = 0;
    for (int i = 1; i <= 13 && rest >> field; ++i) {
        if (i >= 12)
            ticks += std::stod(field);
    }
    return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double own_cpu_seconds() {
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    return seconds(used.ru_utime) + seconds(used.ru_stime);
}

class Transfer {
public:
    explicit Transfer(TransferOptions options) : options_(std::move(options)), context_(options_.io_threads) {}

    int run() {
        auto session_options = client::make_session_options(options_.connect);
        if (!session_options)
            return fail(session_options.error());
        session_options->compression = static_cast<std::uint8_t>(options_.compression);
        spawn(work(std::move(*session_options)));
        reactor_.run();
        session_.reset();
        return status_;
    }

private:
    int fail(const Error& error) {
        std::fprintf(stderr, "transfer: %s\n", error.to_string().c_str());
        status_ = 1;
        return 1;
    }

    Task<void> work(client::SessionOptions session_options) {
        auto opened =
            co_await client::Session::open(context_, reactor_, std::move(session_options), counters_, nullptr);
        if (!opened) {
            fail(opened.error());
            reactor_.stop();
            co_return;
        }
        session_ = std::move(*opened);
        const Result<> prepared = co_await open_file();
        if (!prepared)
            fail(prepared.error());
        for (unsigned round = 0; prepared && round < options_.rounds && status_ == 0; ++round)
            co_await run_round();
        session_->close();
        reactor_.stop();
    }

    Task<Result<>> open_file() {
        wire::Create create{.parent = session_->hello().root,
                            .name = options_.file,
                            .node = {session_->new_node_id(), false},
                            .handle = handle_ = session_->new_handle_id(),
                            .flags = wire::open_read | wire::open_write,
                            .mode = 0644,
                            .umask = 022};
        auto created = co_await session_->call(std::move(create));
        if (!created)
            co_return created.error();
        if (options_.direction == "read" && created->body.entry.attributes.size < options_.mebibytes << 20)
            co_return make_error(Status::invalid, "the file is too short: write it first");
        co_return Result<>();
    }

    Task<void> run_round() {
        const auto before = counters_.snapshot();
        const double own_before = own_cpu_seconds();
        const double server_before = cpu_seconds_of(options_.server_pid);
        const TimePoint begun = Clock::system().now();
        next_ = 0;
        under_way_ = options_.in_flight;
        latencies_us_.clear();
        finished_ = std::make_unique<Completion<bool>>();
        for (unsigned i = 0; i < options_.in_flight; ++i)
            spawn(keep_busy());
        Completion<bool>& finished = *finished_;
        co_await finished;
        const double seconds = std::chrono::duration<double>(Clock::system().now() - begun).count();
        const double mb = static_cast<double>(options_.mebibytes << 20) / 1e6;
        std::printf("%s %.0f MB/s, %.2f s; CPU s: client %.2f", options_.direction.c_str(), mb / seconds, seconds,
                    own_cpu_seconds() - own_before);
        if (options_.server_pid != 0)
            std::printf(", server %.2f", cpu_seconds_of(options_.server_pid) - server_before);
        std::sort(latencies_us_.begin(), latencies_us_.end());
        std::printf("; us a request: median %.0f, 99 %% %.0f", latencies_us_[latencies_us_.size() / 2],
                    latencies_us_[latencies_us_.size() * 99 / 100]);
        std::map<std::string, std::uint64_t> old(before.begin(), before.end());
        for (const auto& [name, value] : counters_.snapshot()) {
            if (value != old[name] && (name.starts_with("client.messages") || name.starts_with("client.hand") ||
                                       name.starts_with("client.bytes") || name.starts_with("client.compression")))
                std::printf("; %s %llu", name.c_str(), static_cast<unsigned long long>(value - old[name]));
        }
        std::printf("\n");
        std::fflush(stdout);
    }

    Buffer make_data() {
        Buffer data = Buffer::allocate(std::size_t{options_.chunk_kib} << 10);
        if (options_.data == "zeros") {
            std::memset(data.data(), 0, data.size());
            return data;
        }
        static const std::string words[] = {"the",    "file",  "system", "reads", "what",     "another",
                                            "wrote",  "over",  "a",      "slow",  "link",     "and",
                                            "nobody", "waits", "for",    "0x3f",  "return;\n"};
        std::size_t at = 0;
        while (at < data.size()) {
            if (options_.data == "text") {
                const std::string& word = words[random_() % std::size(words)];
                for (std::size_t i = 0; i <= word.size() && at < data.size(); ++i)
                    data.data()[at++] = i < word.size() ? static_cast<std::byte>(word[i]) : std::byte{' '};
            } else {
                const std::uint64_t value = random_();
                const std::size_t size = std::min(sizeof(value), data.size() - at);
                std::memcpy(data.data() + at, &value, size);
                at += size;
            }
        }
        return data;
    }

    Task<void> keep_busy() {
        const std::uint32_t chunk = options_.chunk_kib << 10;
        const std::uint64_t total = options_.mebibytes << 20;
        std::optional<Buffer> data;
        if (options_.direction == "write")
            data = make_data();
        client::CallOptions call;
        call.lane = client::LaneKind::data;
        while (next_ + chunk <= total && status_ == 0) {
            std::uint64_t offset = next_;
            next_ += chunk;
            if (options_.random_offsets)
                offset = random_() % (total / chunk) * chunk;
            const TimePoint begun = Clock::system().now();
            if (data) {
                Buffer view(data->data(), data->size(), nullptr, nullptr);
                wire::Write write{.handle = handle_, .offset = offset, .append = false};
                const auto reply = co_await session_->call_with_bulk(std::move(write), std::move(view), call);
                if (!reply || reply->body.size != chunk)
                    fail(reply ? make_error(Status::io_error, "a short write") : reply.error());
            } else {
                wire::Read read{.handle = handle_, .offset = offset, .size = chunk};
                const auto reply = co_await session_->call(std::move(read), call);
                if (!reply || reply->bulk.size() != chunk)
                    fail(reply ? make_error(Status::io_error, "a short read") : reply.error());
            }
            latencies_us_.push_back(std::chrono::duration<double, std::micro>(Clock::system().now() - begun).count());
        }
        if (--under_way_ == 0)
            finished_->deliver(true);
    }

    const TransferOptions options_;
    transport::Context context_;
    transport::Reactor reactor_;
    Counters counters_;
    std::unique_ptr<client::Session> session_;
    HandleId handle_;
    std::uint64_t next_ = 0;
    unsigned under_way_ = 0;
    std::unique_ptr<Completion<bool>> finished_;
    std::vector<double> latencies_us_;
    std::mt19937_64 random_{1};
    int status_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    TransferOptions options;
    CLI::App app("Moves a file's contents through a session and says how fast.");
    app.add_option("SOURCE", options.connect.source)->required();
    app.add_option("--server-key", options.connect.server_key);
    app.add_flag("--insecure", options.connect.insecure);
    app.add_option("--direction", options.direction)->check(CLI::IsMember({"read", "write"}));
    app.add_option("--file", options.file);
    app.add_option("--data", options.data)->check(CLI::IsMember({"random", "text", "zeros"}));
    app.add_option("--mebibytes", options.mebibytes);
    app.add_option("--chunk-kib", options.chunk_kib)->check(CLI::Range(1, 1024));
    app.add_option("--in-flight", options.in_flight)->check(CLI::Range(1, 1000));
    app.add_option("--rounds", options.rounds);
    app.add_flag("--random", options.random_offsets, "random offsets");
    app.add_option("--server-pid", options.server_pid);
    app.add_option("--io-threads", options.io_threads);
    app.add_option("--compression", options.compression, "0 off, 1 to 12 a level, 255 automatic");
    CLI11_PARSE(app, argc, argv);
    try {
        return Transfer(options).run();
    } catch (const std::exception& exception) {
        std::cerr << "transfer: " << exception.what() << '\n';
        return 1;
    }
}
