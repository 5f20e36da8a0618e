// SPDX-License-Identifier: MIT
#include "cli/mode_change.hpp"

#include <sys/stat.h>

#include <algorithm>

#include "base/log.hpp"

namespace remofile::cli {
namespace {

constexpr std::uint32_t all_bits = 07777;

std::uint32_t bits_of(char who) {
    switch (who) {
        case 'u':
            return S_IRWXU | S_ISUID;
        case 'g':
            return S_IRWXG | S_ISGID;
        case 'o':
            return S_IRWXO | S_ISVTX;
        default:
            return all_bits;
    }
}

// For everybody; 0 for what is no permission.
std::uint32_t permission(char letter) {
    switch (letter) {
        case 'r':
            return 0444;
        case 'w':
            return 0222;
        case 'x':
            return 0111;
        case 's':
            return S_ISUID | S_ISGID;
        case 't':
            return S_ISVTX;
        default:
            return 0;
    }
}

// "rwx" of one, for everybody.
std::uint32_t copied(std::uint32_t mode, char from) {
    const int shift = from == 'u' ? 6 : (from == 'g' ? 3 : 0);
    const std::uint32_t bits = (mode >> shift) & 7U;
    return bits << 6U | bits << 3U | bits;
}

char take(std::string_view& text) {
    const char first = text.front();
    text.remove_prefix(1);
    return first;
}

bool begins_with_one_of(std::string_view text, std::string_view letters) {
    return !text.empty() && letters.find(text.front()) != letters.npos;
}

Error not_a_mode(std::string_view text) {
    return make_error(Status::bad_usage, fmt::format("\"{}\" is no mode", log::printable(text)));
}

}  // namespace

Result<ModeChange> ModeChange::parse(std::string_view text, std::uint32_t umask) {
    const std::string_view given = text;
    ModeChange change;
    if (!text.empty() && text.size() <= 5 && text.find_first_not_of("01234567") == text.npos) {
        std::uint32_t mode = 0;
        for (const char digit : text)
            mode = mode * 8 + static_cast<std::uint32_t>(digit - '0');
        if (mode > all_bits)
            return not_a_mode(given);
        change.actions_.push_back({all_bits, '=', mode, false, '\0'});
        return change;
    }
    for (bool first = true; first || !text.empty(); first = false) {
        if (!first && (take(text) != ',' || text.empty()))
            return not_a_mode(given);
        std::uint32_t whom = 0;
        while (begins_with_one_of(text, "ugoa"))
            whom |= bits_of(take(text));
        if (whom == 0)
            whom = all_bits & ~umask;
        if (!begins_with_one_of(text, "+-="))
            return not_a_mode(given);
        while (begins_with_one_of(text, "+-=")) {
            Action action{whom, take(text), 0, false, '\0'};
            if (begins_with_one_of(text, "ugo")) {
                action.copied_from = take(text);
            } else {
                while (begins_with_one_of(text, "rwxXst")) {
                    const char letter = take(text);
                    action.bits |= permission(letter);
                    action.execute_if_any = action.execute_if_any || letter == 'X';
                }
            }
            change.actions_.push_back(action);
        }
    }
    return change;
}

std::uint32_t ModeChange::apply(std::uint32_t mode, bool is_directory) const {
    mode &= all_bits;
    for (const Action& action : actions_) {
        std::uint32_t bits = action.bits;
        if (action.copied_from != '\0')
            bits |= copied(mode, action.copied_from);
        if (action.execute_if_any && (is_directory || (mode & 0111) != 0))
            bits |= 0111;
        bits &= action.whom;
        if (action.operation == '+')
            mode |= bits;
        else if (action.operation == '-')
            mode &= ~bits;
        else
            mode = (mode & ~action.whom) | bits;
    }
    return mode;
}

}  // namespace remofile::cli
