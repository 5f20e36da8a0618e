#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A coroutine all of whose co_awaits are conditions of `if` or `while` is compiled without a word, and does nothing of what
# stands in it: the first resume returns at once, at any level of optimisation, and nobody who waits for it is ever resumed.
# The same with each awaited value put in a variable first (or with an `if` that declares one) runs. What was expected is that both do the same.
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
#include <cstdlib>
#include <initializer_list>

struct Task {
    struct promise_type {
        bool value = false;
        Task get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_value(bool given) { value = given; }
        void unhandled_exception() { std::abort(); }
    };
    std::coroutine_handle<promise_type> handle;

    bool await_ready() {
        handle.resume();
        return true;
    }
    void await_suspend(std::coroutine_handle<>) {}
    bool await_resume() { return handle.promise().value; }
};

Task yes() {
    co_return true;
}
Task in_a_condition() {
    std::puts("in a condition: begun");
    if (co_await yes())
        std::puts("in a condition: awaited");
    co_return true;
}
Task in_a_variable() {
    std::puts("in a variable: begun");
    const bool answer = co_await yes();
    if (answer)
        std::puts("in a variable: awaited");
    co_return true;
}

int main() {
    for (Task task : {in_a_condition(), in_a_variable()}) {
        task.handle.resume();
        std::puts(task.handle.done() ? "it has ended" : "it has not ended");
    }
}
PROGRAM
echo "g++ $version"
for level in -O0 -O2; do
    "$work/root/usr/bin/x86_64-linux-gnu-g++-12" -std=c++20 -Wall -Wextra "$level" "$work/program.cpp" -o "$work/program"
    seen=$("$work/program")
    printf '%s:\n%s\n' "$level" "$seen"
    expected='it has not ended
in a variable: begun
in a variable: awaited
it has ended'
    [ "$seen" = "$expected" ] || {
        printf 'changed: it was\n%s\n' "$expected"
        exit 1
    }
done
