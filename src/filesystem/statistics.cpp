// SPDX-License-Identifier: MIT
#include "filesystem/statistics.hpp"

#include <utility>

namespace remofile::filesystem {
namespace {

// As often as an idle session sends something anyway, so that its leases last.
constexpr auto interval = std::chrono::seconds(4);
// For so long after somebody wanted to know.
constexpr auto kept_up_for = std::chrono::minutes(10);

}  // namespace

Statistics::Statistics(client::Session& session, transport::Reactor& reactor, const Clock& clock,
                       std::function<NodeId()> root, std::function<bool()> all_is_sent)
    : session_(session),
      reactor_(reactor),
      clock_(clock),
      root_(std::move(root)),
      all_is_sent_(std::move(all_is_sent)) {}

Statistics::~Statistics() {
    if (timer_)
        reactor_.cancel(*timer_);
    if (question_ != nullptr)
        question_->is_void = true;
}

const wire::StatfsReply* Statistics::current() {
    wanted_at_ = clock_.now();
    if (!timer_)
        timer_ = reactor_.after(interval, [this] { tick(); });
    const bool is_current = known_ && known_->asked.changes == changes_ && wanted_at_ - known_->asked.at <= life;
    return is_current ? &known_->reply : nullptr;
}

void Statistics::tick() {
    timer_.reset();
    if (clock_.now() - wanted_at_ > kept_up_for)
        return;
    timer_ = reactor_.after(interval, [this] { tick(); });
    if (question_ != nullptr || !session_.connected())
        return;
    question_ = std::make_shared<Question>();
    spawn(ask(question_));
}

Task<void> Statistics::ask(std::shared_ptr<Question> question) {
    const Asked asked = asking();
    const client::CallOptions options{.ahead = true};
    const auto reply = co_await session_.call(wire::Statfs{root_()}, options);
    if (question->is_void)
        co_return;
    question_.reset();
    if (reply)
        learn(asked, reply->body);
}

}  // namespace remofile::filesystem
