// SPDX-License-Identifier: MIT
#include "base/byte_size.hpp"

#include <charconv>
#include <string>

namespace remofile {

Result<std::uint64_t> parse_byte_size(std::string_view text) {
    std::uint64_t number = 0;
    const auto [rest, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (failure == std::errc::result_out_of_range)
        return make_error(Status::out_of_range, "the size \"" + std::string(text) + "\" is too large");
    if (failure != std::errc{})
        return make_error(Status::invalid,
                          "\"" + std::string(text) + "\" is no size; write for example 64K, 256M or 1G");

    std::string_view unit(rest, static_cast<std::size_t>(text.data() + text.size() - rest));
    constexpr std::string_view prefixes = "KMGT";
    unsigned shift = 0;
    if (!unit.empty()) {
        const char upper =
            unit.front() >= 'a' && unit.front() <= 'z' ? static_cast<char>(unit.front() - 'a' + 'A') : unit.front();
        const auto place = prefixes.find(upper);
        if (place != std::string_view::npos) {
            shift = 10 * (static_cast<unsigned>(place) + 1);
            unit.remove_prefix(1);
        }
        if (!unit.empty() && unit != "B" && !(shift != 0 && unit == "iB"))
            return make_error(Status::invalid,
                              "\"" + std::string(text) + "\" is no size; write for example 64K, 256M or 1G");
    }
    if (number > (UINT64_MAX >> shift))
        return make_error(Status::out_of_range, "the size \"" + std::string(text) + "\" is too large");
    return number << shift;
}

}  // namespace remofile
