#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# In `co_await f(condition ? A() : b)`, where f takes an object by value, one object more is destroyed than was made,
# whatever the condition is, at any level of optimisation, and without a warning. With the value put in a variable first
# as many go as were made. What was expected is that both do the same: what has memory of its own frees it twice.
# Seen: g++ 12.2.0-14+deb12u1 on Debian 12.
set -euo pipefail
version=12.2.0-14+deb12u1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && apt-get -q download {g++,gcc,cpp}-12="$version" {libgcc,libstdc++}-12-dev="$version" >/dev/null 2>&1)
for package in "$work"/*.deb; do
    dpkg -x "$package" "$work/root"
done
cat >"$work/program.cpp" <<'PROGRAM'
#include <coroutine>
#include <cstdio>
#include <exception>
#include <utility>

struct Counted {
    static inline int made = 0;
    static inline int gone = 0;
    Counted() { ++made; }
    Counted(const Counted&) { ++made; }
    ~Counted() { ++gone; }
};

struct Task {
    struct promise_type {
        std::coroutine_handle<> caller = std::noop_coroutine();
        struct Final {
            bool await_ready() noexcept { return false; }
            std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> ended) noexcept {
                return ended.promise().caller;
            }
            void await_resume() noexcept {}
        };
        Task get_return_object() { return Task(std::coroutine_handle<promise_type>::from_promise(*this)); }
        std::suspend_always initial_suspend() noexcept { return {}; }
        Final final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
    std::coroutine_handle<promise_type> handle;

    explicit Task(std::coroutine_handle<promise_type> coroutine) : handle(coroutine) {}
    Task(Task&& other) noexcept : handle(std::exchange(other.handle, {})) {}
    ~Task() {
        if (handle)
            handle.destroy();
    }
    bool await_ready() { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> caller) {
        handle.promise().caller = caller;
        return handle;
    }
    void await_resume() {}
};

Task take(Counted) {
    co_return;
}
Task in_a_variable(bool makes_one, const Counted& given) {
    const Counted one = makes_one ? Counted() : given;
    co_await take(one);
}
Task in_place(bool makes_one, const Counted& given) {
    co_await take(makes_one ? Counted() : given);
}

void run(const char* name, Task (*coroutine)(bool, const Counted&), bool makes_one) {
    Counted::made = Counted::gone = 0;
    {
        const Counted given;
        Task task = coroutine(makes_one, given);
        task.handle.resume();
    }
    std::printf("%s: %d more destroyed than made\n", name, Counted::gone - Counted::made);
}

int main() {
    for (const bool makes_one : {false, true}) {
        run("in a variable", in_a_variable, makes_one);
        run("in place", in_place, makes_one);
    }
}
PROGRAM
echo "g++ $version"
for level in -O0 -O2; do
    "$work/root/usr/bin/x86_64-linux-gnu-g++-12" -std=c++20 -Wall -Wextra "$level" "$work/program.cpp" -o "$work/program"
    seen=$("$work/program")
    printf '%s:\n%s\n' "$level" "$seen"
    expected='in a variable: 0 more destroyed than made
in place: 1 more destroyed than made
in a variable: 0 more destroyed than made
in place: 1 more destroyed than made'
    [ "$seen" = "$expected" ] || {
        printf 'changed: it was\n%s\n' "$expected"
        exit 1
    }
done
