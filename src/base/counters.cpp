// SPDX-License-Identifier: MIT
#include "base/counters.hpp"

#include <map>

#include "base/guarded.hpp"

namespace remofile {

struct Counters::State {
    // std::map keeps its elements where they are, which the references handed out rely on.
    Guarded<std::map<std::string, Counter, std::less<>>> counters;
};

Counters::Counters() : state_(std::make_unique<State>()) {}

Counters::~Counters() = default;

Counters::Counter& Counters::at(std::string_view name) {
    auto counters = state_->counters.lock();
    const auto found = counters->find(name);
    return found != counters->end() ? found->second : (*counters)[std::string(name)];
}

std::vector<std::pair<std::string, std::uint64_t>> Counters::snapshot() const {
    auto counters = state_->counters.lock();
    std::vector<std::pair<std::string, std::uint64_t>> values;
    for (const auto& [name, counter] : *counters)
        values.emplace_back(name, counter.value());
    return values;
}

}  // namespace remofile
