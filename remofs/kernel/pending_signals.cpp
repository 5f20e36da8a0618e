// SPDX-License-Identifier: MIT
#include "remofs/kernel/pending_signals.hpp"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <string>

#include "base/unique_fd.hpp"

namespace remofile::remofs {
namespace {

constexpr std::uint64_t bit_of(int signal) {
    return std::uint64_t{1} << static_cast<unsigned>(signal - 1);
}

// The hexadecimal mask on the line "NAME:\tMASK".
std::uint64_t mask_of(std::string_view text, std::string_view name) {
    const std::size_t line = text.find(name);
    if (line == std::string_view::npos)
        return 0;
    text.remove_prefix(line + name.size());
    text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
    std::uint64_t mask = 0;
    std::from_chars(text.data(), text.data() + text.size(), mask, 16);
    return mask;
}

}  // namespace

SignalWish signal_wish(std::string_view proc_status) {
    const std::uint64_t blocked = mask_of(proc_status, "SigBlk:");
    const std::uint64_t pending = (mask_of(proc_status, "SigPnd:") | mask_of(proc_status, "ShdPnd:")) & ~blocked;
    if ((pending & bit_of(SIGKILL)) != 0)
        return SignalWish::die;
    constexpr std::uint64_t stopping = bit_of(SIGINT) | bit_of(SIGTERM) | bit_of(SIGHUP) | bit_of(SIGQUIT);
    return (pending & stopping) != 0 ? SignalWish::stop : SignalWish::go_on;
}

SignalWish signal_wish_of(pid_t thread, SignalWish if_unknown) {
    const UniqueFd file(::open(("/proc/" + std::to_string(thread) + "/status").c_str(), O_RDONLY | O_CLOEXEC));
    std::array<char, 8192> text;
    const ssize_t size = file ? ::read(file.get(), text.data(), text.size()) : -1;
    return size <= 0 ? if_unknown : signal_wish({text.data(), static_cast<std::size_t>(size)});
}

}  // namespace remofile::remofs
