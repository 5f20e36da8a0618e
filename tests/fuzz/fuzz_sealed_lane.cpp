// SPDX-License-Identifier: MIT
// A sealed lane with somebody in between: messages of both ends are changed, repeated, left out, exchanged and made up.
// What an end opens is what the other sealed, in that order and none left out, whatever was done; and once anything was
// refused nothing more is opened. The input is a list of steps: a byte for what, then what it needs.
#include <algorithm>
#include <deque>

#include "base/assert.hpp"
#include "fuzz_input.hpp"
#include "fuzz_target.hpp"
#include "transport/message_cipher.hpp"

using namespace remofile;
using namespace remofile::transport;

namespace {

constexpr std::size_t max_steps = 64;
enum Step : std::uint8_t { send, deliver, repeat, leave_out, exchange, flip, shorten, extend, drop_frame, make_up };
constexpr std::uint8_t step_count = make_up + 1;

using Frames = std::vector<std::string>;

Frames frames_of(const wire::Message& message) {
    Frames frames{std::string(message.head.text())};
    for (const Buffer& bulk : message.bulk)
        frames.emplace_back(bulk.text());
    return frames;
}

wire::Message message_of(const Frames& frames) {
    wire::Message message;
    message.head = Buffer::copy_of(std::string_view(frames.front()));
    for (std::size_t i = 1; i < frames.size(); ++i)
        message.bulk.push_back(Buffer::copy_of(std::string_view(frames[i])));
    return message;
}

LaneKeys some_keys() {
    LaneKeys keys;
    keys.to_server.fill(1);
    keys.to_client.fill(2);
    return keys;
}

// One direction, and whoever is in between.
class Way {
public:
    Way(MessageCipher& from, MessageCipher& to) : from_(from), to_(to) {}

    void take(Step step, FuzzInput& input) {
        if (step == send)
            return seal(input.message(input.number<std::uint8_t>() % 4));
        if (step == make_up)
            return open(frames_of(input.message(input.number<std::uint8_t>() % 4)));
        if (under_way_.empty())
            return;
        const auto which = input.number<std::uint8_t>();
        const auto where = input.number<std::uint16_t>();
        Frames& first = under_way_.front();
        std::string& frame = first[which % first.size()];
        switch (step) {
            case deliver:
                open(first);
                [[fallthrough]];
            case leave_out:
                under_way_.pop_front();
                break;
            case repeat:
                under_way_.push_front(first);
                break;
            case exchange:
                std::swap(first, under_way_[which % under_way_.size()]);
                break;
            case flip:
                if (!frame.empty())
                    frame[where % frame.size()] = static_cast<char>(frame[where % frame.size()] ^ (1 << which / 32));
                break;
            case shorten:
                frame.resize(where % (frame.size() + 1));
                break;
            case extend:
                frame.append(where % 64, static_cast<char>(which));
                break;
            default:
                if (first.size() > 1)
                    first.pop_back();
        }
    }

private:
    void seal(const wire::Message& plain) {
        sealed_.push_back(frames_of(plain));
        under_way_.push_back(frames_of(from_.seal(plain)));
        for (std::size_t i = 0; i < sealed_.back().size(); ++i)
            REMOFILE_ASSERT(under_way_.back()[i].size() == sealed_.back()[i].size() + seal_bytes);
    }
    void open(const Frames& frames) {
        const auto opened = to_.open(message_of(frames));
        if (!opened) {
            REMOFILE_ASSERT(opened.error().status == Status::malformed);
            refused_ = true;
            return;
        }
        REMOFILE_ASSERT(!refused_ && !sealed_.empty() && frames_of(*opened) == sealed_.front());
        sealed_.pop_front();
    }

    MessageCipher& from_;
    MessageCipher& to_;
    std::deque<Frames> sealed_;  // and not opened, as they were
    std::deque<Frames> under_way_;
    bool refused_ = false;
};

std::string step(Step what, bool to_client = false) {
    return {static_cast<char>(what + (to_client ? step_count : 0))};
}
std::string sent(const Frames& frames, bool to_client = false) {
    std::string input = step(send, to_client) + static_cast<char>(frames.size() - 1);
    append_frames(input, message_of(frames));
    return input;
}
std::string changed(Step what, std::uint8_t which = 0, std::uint16_t where = 0, bool to_client = false) {
    std::string input = step(what, to_client) + static_cast<char>(which);
    append_number(input, where);
    return input;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    FuzzInput input(data, size);
    const LaneKeys keys = some_keys();
    MessageCipher client(keys, MessageCipher::End::client);
    MessageCipher server(keys, MessageCipher::End::server);
    Way to_server(client, server);
    Way to_client(server, client);
    for (std::size_t steps = 0; !input.empty() && steps < max_steps; ++steps) {
        const auto what = static_cast<std::uint8_t>(input.number<std::uint8_t>() % (2 * step_count));
        (what < step_count ? to_server : to_client).take(static_cast<Step>(what % step_count), input);
    }
    return 0;
}

std::vector<std::string> fuzz_seeds() {
    const std::string two = sent({"head", "bulk data"}) + sent({"next"});
    std::string made_up = step(make_up) + '\1';
    append_frame(made_up, std::string(20, 'h'));
    append_frame(made_up, std::string(16, 'b'));
    return {two + changed(deliver) + changed(deliver),
            sent({"", ""}, true) + changed(deliver, 0, 0, true),
            two + changed(repeat) + changed(deliver) + changed(deliver),
            two + changed(leave_out) + changed(deliver),
            two + changed(exchange, 1) + changed(deliver) + changed(deliver),
            two + changed(flip, 1, 3) + changed(deliver) + changed(deliver),
            two + changed(shorten, 1, 15) + changed(deliver),
            two + changed(extend, 1, 4) + changed(deliver),
            two + changed(drop_frame) + changed(deliver),
            two + made_up + changed(deliver)};
}

std::vector<std::string> fuzz_words() {
    return {};
}
