// SPDX-License-Identifier: MIT
// The way back from the workers to the reactor's thread: many results, one wake-up.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "base/counters.hpp"
#include "base/exception.hpp"
#include "base/guarded.hpp"
#include "server/sessions/service_thread.hpp"

namespace remofile::server {

// Shared by the service and the work under way, which may end after the service has. Bounded by the work under way.
class ServiceCompletions : public std::enable_shared_from_this<ServiceCompletions> {
public:
    using Work = ServiceThread::Work;

    ServiceCompletions(ServiceThread& thread, Counters& counters)
        : state_(State{.thread = &thread, .waiting = {}}), handoffs_(counters.at("handoff.worker_to_reactor")) {}

    // Runs `work` on the service's thread, soon; drops it once closed. Callable from any thread.
    void push(Work work) {
        auto state = state_.lock();
        if (state->thread == nullptr)
            return;
        state->waiting.push_back(std::move(work));
        // The lock is kept while posting so that close() cannot come between; post() only queues.
        if (state->waiting.size() == 1) {
            handoffs_.add();
            state->thread->post([self = shared_from_this()] { self->run(); });
        }
    }

    // Nothing of it runs any more. On the service's thread.
    void close() {
        std::vector<Work> dropped;
        auto state = state_.lock();
        state->thread = nullptr;
        dropped.swap(state->waiting);
    }

private:
    struct State {
        ServiceThread* thread;
        std::vector<Work> waiting;
    };

    void run() {
        std::vector<Work> ready;
        state_.with([&](State& state) { ready.swap(state.waiting); });
        for (Work& work : ready) {
            try {
                work();
            } catch (...) {
                status_of_exception("an outcome's way to its client");
            }
        }
    }

    Guarded<State> state_;
    Counters::Counter& handoffs_;
};

}  // namespace remofile::server
