// SPDX-License-Identifier: MIT
#include "base/task.hpp"

#include <catch.hpp>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace remofile {
namespace {

Task<int> value_of(int value) {
    co_return value;
}

Task<int> count_up_to(int limit) {
    int count = 0;
    while (count < limit)
        count += co_await value_of(1);
    co_return count;
}

Task<int> twice(Completion<int>& completion) {
    const int value = co_await completion;
    co_return 2 * value;
}

Task<void> keep(Task<int> task, int& out) {
    out = co_await std::move(task);
}

// Counts how many of it live.
struct Counted {
    static inline int alive = 0;
    Counted() { ++alive; }
    Counted(const Counted&) { ++alive; }
    Counted(Counted&&) noexcept { ++alive; }
    Counted& operator=(const Counted&) = default;
    ~Counted() { --alive; }
};

Task<std::unique_ptr<Counted>> make_counted(Completion<int>& completion, Counted argument) {
    const Counted local;
    (void)co_await completion;
    (void)argument;
    co_return std::make_unique<Counted>();
}

Task<void> await_counted(Completion<int>& completion) {
    const Counted local;
    Counted argument;
    const auto made = co_await make_counted(completion, std::move(argument));
    CHECK(made != nullptr);
}

Task<int> fail_at_once() {
    throw std::runtime_error("broken");
    co_return 1;
}

Task<Result<int>> ask_and_fail(Completion<int>& completion, Counted argument) {
    (void)co_await completion;
    (void)argument;
    const int value = co_await fail_at_once();
    co_return value;
}

Task<void> fail_after(Completion<int>& completion, Counted argument) {
    const Counted local;
    (void)co_await completion;
    (void)argument;
    throw std::bad_alloc();
}

template <class Outcome>
Task<void> keep_outcome(Task<Outcome> task, std::optional<Outcome>& out) {
    out.emplace(co_await std::move(task));
}

}  // namespace

TEST_CASE("an exception is the error of the task that can say so") {
    Completion<int> completion;
    std::optional<Result<int>> outcome;
    {
        Counted argument;
        spawn(keep_outcome(ask_and_fail(completion, std::move(argument)), outcome));
    }
    CHECK(Counted::alive == 1);
    completion.deliver(1);
    CHECK(outcome->status() == Status::io_error);
    CHECK(Counted::alive == 0);
}

TEST_CASE("a task that fails at once is its caller's error, too") {
    std::optional<Status> outcome;
    spawn(keep_outcome(
        []() -> Task<Status> {
            const int value = co_await fail_at_once();
            co_return value == 1 ? Status::ok : Status::invalid;
        }(),
        outcome));
    CHECK(outcome == Status::io_error);
}

TEST_CASE("an exception that nobody awaits is reported once what the task held is gone") {
    Completion<int> completion;
    std::optional<Status> reported;
    {
        Counted argument;
        spawn(fail_after(completion, std::move(argument)), [&](Status status) {
            CHECK(Counted::alive == 0);
            reported = status;
        });
    }
    CHECK_FALSE(reported);
    completion.deliver(1);
    CHECK(reported == Status::out_of_memory);

    Completion<int> again;
    spawn(fail_after(again, Counted()));  // without anybody to report to
    again.deliver(1);
    CHECK(Counted::alive == 0);
}

TEST_CASE("a task that there is no memory for is an error") {
    const auto none = []<class T>(std::type_identity<T>) {
        return detail::TaskPromise<T>::get_return_object_on_allocation_failure();
    };
    std::optional<Result<int>> outcome;
    spawn(keep_outcome(none(std::type_identity<Result<int>>()), outcome));
    CHECK(outcome->status() == Status::out_of_memory);

    std::optional<Status> reported;
    int out = 0;
    spawn(keep(none(std::type_identity<int>()), out), [&](Status status) { reported = status; });
    CHECK(reported == Status::out_of_memory);
    reported.reset();
    spawn(none(std::type_identity<void>()), [&](Status status) { reported = status; });
    CHECK(reported == Status::out_of_memory);
}

TEST_CASE("a task starts when it is awaited, and yields its value") {
    int out = 0;
    Task<int> task = value_of(7);
    CHECK(out == 0);
    spawn(keep(std::move(task), out));
    CHECK(out == 7);
}

TEST_CASE("a long loop of tasks that end at once does not grow the stack") {
    int out = 0;
    spawn(keep(count_up_to(1'000'000), out));
    CHECK(out == 1'000'000);
}

TEST_CASE("a task waits for a completion, through any number of callers") {
    Completion<int> completion;
    int out = 0;
    spawn(keep(twice(completion), out));
    CHECK(out == 0);
    completion.deliver(21);
    CHECK(out == 42);
}

TEST_CASE("a completion may be delivered before it is awaited") {
    Completion<int> completion;
    completion.deliver(4);
    int out = 0;
    spawn(keep(twice(completion), out));
    CHECK(out == 8);
}

TEST_CASE("a loop of tasks that wait does not grow the stack") {
    std::vector<Completion<int>*> waiting;
    int rounds = 0;
    spawn([](std::vector<Completion<int>*>& queue, int& count) -> Task<void> {
        for (int i = 0; i < 100'000; ++i) {
            Completion<int> completion;
            queue.push_back(&completion);
            count += co_await twice(completion);
        }
    }(waiting, rounds));
    while (!waiting.empty()) {
        Completion<int>* next = waiting.back();
        waiting.pop_back();
        next->deliver(1);
    }
    CHECK(rounds == 200'000);
}

TEST_CASE("a completion may be destroyed by what it resumes") {
    auto completion = std::make_unique<Completion<int>>();
    Completion<int>& delivered = *completion;
    spawn([](std::unique_ptr<Completion<int>>& owner) -> Task<void> {
        Completion<int>& awaited = *owner;
        (void)co_await awaited;
        owner.reset();
    }(completion));
    delivered.deliver(1);
    CHECK(completion == nullptr);
}

TEST_CASE("everything that a task held is destroyed once, whether it ends or is dropped") {
    SECTION("ends") {
        Completion<int> completion;
        spawn(await_counted(completion));
        CHECK(Counted::alive > 0);
        completion.deliver(1);
        CHECK(Counted::alive == 0);
    }
    SECTION("never started") {
        Completion<int> completion;
        {
            const Task<std::unique_ptr<Counted>> task = make_counted(completion, Counted());
            CHECK(Counted::alive == 1);
        }
        CHECK(Counted::alive == 0);
    }
}

TEST_CASE("values that can only be moved") {
    std::unique_ptr<std::string> out;
    spawn([](std::unique_ptr<std::string>& result) -> Task<void> {
        result =
            co_await []() -> Task<std::unique_ptr<std::string>> { co_return std::make_unique<std::string>("moved"); }();
    }(out));
    REQUIRE(out != nullptr);
    CHECK(*out == "moved");
}

}  // namespace remofile
