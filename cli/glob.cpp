// SPDX-License-Identifier: MIT
#include "cli/glob.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

namespace remofile::cli {
namespace {

using Bytes = std::bitset<256>;

std::size_t index_of(char byte) {
    return static_cast<unsigned char>(byte);
}

Bytes all_but_slash() {
    Bytes bytes;
    bytes.set();
    bytes.reset(index_of('/'));
    return bytes;
}

struct Class {
    std::string_view name;
    int (*has)(int);
};
constexpr auto classes = std::to_array<Class>({{"alnum", std::isalnum},
                                               {"alpha", std::isalpha},
                                               {"blank", std::isblank},
                                               {"cntrl", std::iscntrl},
                                               {"digit", std::isdigit},
                                               {"graph", std::isgraph},
                                               {"lower", std::islower},
                                               {"print", std::isprint},
                                               {"punct", std::ispunct},
                                               {"space", std::isspace},
                                               {"upper", std::isupper},
                                               {"xdigit", std::isxdigit}});

// Reads what stands between "[" and "]", and the latter; nothing for a set that does not end.
class SetReader {
public:
    explicit SetReader(std::string_view& rest) : rest_(rest) {}

    std::optional<Bytes> read() {
        const bool inverted = rest_.starts_with('!') || rest_.starts_with('^');
        if (inverted)
            rest_.remove_prefix(1);
        // A "]" that comes first is one of the set.
        for (bool first = true; first || !rest_.starts_with(']'); first = false) {
            if (!read_class() && !read_range())
                return std::nullopt;
        }
        rest_.remove_prefix(1);
        if (inverted)
            bytes_.flip();
        return bytes_ & all_but_slash();
    }

private:
    bool read_class() {
        if (!rest_.starts_with("[:"))
            return false;
        const std::size_t end = rest_.find(":]");
        if (end == rest_.npos)
            return false;
        const auto* found = std::ranges::find(classes, rest_.substr(2, end - 2), &Class::name);
        if (found == classes.end())
            return false;
        for (std::size_t byte = 0; byte < bytes_.size(); ++byte)
            bytes_[byte] = bytes_[byte] || found->has(static_cast<int>(byte)) != 0;
        rest_.remove_prefix(end + 2);
        return true;
    }

    bool read_range() {
        const std::optional<char> first = next();
        if (!first)
            return false;
        std::optional<char> last = first;
        if (rest_.size() > 1 && rest_[0] == '-' && rest_[1] != ']') {
            rest_.remove_prefix(1);
            last = next();
            if (!last)
                return false;
        }
        for (std::size_t byte = index_of(*first); byte <= index_of(*last); ++byte)
            bytes_.set(byte);
        return true;
    }

    std::optional<char> next() {
        if (rest_.size() > 1 && rest_.front() == '\\')
            rest_.remove_prefix(1);
        if (rest_.empty())
            return std::nullopt;
        const char byte = rest_.front();
        rest_.remove_prefix(1);
        return byte;
    }

    std::string_view& rest_;
    Bytes bytes_;
};

}  // namespace

void Glob::add_byte(char byte) {
    tokens_.emplace_back().bytes.set(index_of(byte));
}

Glob Glob::of_text(std::string_view text) {
    Glob glob;
    for (const char byte : text)
        glob.add_byte(byte);
    return glob;
}

Result<Glob> Glob::compile(std::string_view pattern) {
    Glob glob;
    while (!pattern.empty()) {
        const char byte = pattern.front();
        const std::size_t stars = std::min(pattern.find_first_not_of('*'), pattern.size());
        pattern.remove_prefix(std::max(stars, std::size_t{1}));
        if (stars > 0) {
            glob.tokens_.push_back({stars > 1 ? Bytes().set() : all_but_slash(), true});
        } else if (byte == '?') {
            glob.tokens_.push_back({all_but_slash()});
        } else if (byte == '[') {
            const auto bytes = SetReader(pattern).read();
            if (!bytes)
                return make_error(Status::bad_usage, "a \"[\" without its \"]\", or a class that is not known");
            glob.tokens_.push_back({*bytes});
        } else if (byte == '\\' && !pattern.empty()) {
            glob.add_byte(pattern.front());
            pattern.remove_prefix(1);
        } else {
            glob.add_byte(byte);
        }
    }
    return glob;
}

// What may be nothing is passed at once.
void Glob::enter(std::vector<bool>& states, std::size_t state) const {
    states[state] = true;
    for (; state < tokens_.size() && tokens_[state].repeats; ++state)
        states[state + 1] = true;
}

bool Glob::matches(std::string_view text) const {
    std::vector<bool> now(tokens_.size() + 1);
    std::vector<bool> next(tokens_.size() + 1);
    enter(now, 0);
    for (const char byte : text) {
        next.assign(next.size(), false);
        for (std::size_t state = 0; state < tokens_.size(); ++state) {
            if (now[state] && tokens_[state].bytes[index_of(byte)])
                enter(next, tokens_[state].repeats ? state : state + 1);
        }
        now.swap(next);
    }
    return now.back();
}

}  // namespace remofile::cli
