// SPDX-License-Identifier: MIT
#include "base/exposition.hpp"

#include <array>
#include <optional>

#include "base/assert.hpp"
#include "base/log.hpp"

namespace remofile {
namespace {

std::string_view type_name(MetricType type) {
    switch (type) {
        case MetricType::counter:
            return "counter";
        case MetricType::gauge:
            return "gauge";
        case MetricType::histogram:
            break;
    }
    return "histogram";
}

void append_escaped(std::string& to, std::string_view text, bool quotes) {
    for (const char c : text) {
        if (c == '\\' || (c == '"' && quotes))
            to += {'\\', c};
        else if (c == '\n')
            to += "\\n";
        else
            to += c;
    }
}

void append_labels(std::string& to, std::span<const Exposition::Label> labels, std::string_view bound = {}) {
    if (labels.empty() && bound.empty())
        return;
    char separator = '{';
    const auto append = [&](std::string_view name, std::string_view value) {
        to += std::exchange(separator, ',');
        to += name;
        to += "=\"";
        append_escaped(to, value, true);
        to += '"';
    };
    for (const auto& [name, value] : labels)
        append(name, value);
    if (!bound.empty())
        append("le", bound);
    to += '}';
}

// What the row's "*" stands for in `counter`, or nothing where there is none; none if it does not fit.
std::optional<std::string_view> fit(std::string_view row, std::string_view counter) {
    const auto star = row.find('*');
    if (star == std::string_view::npos)
        return row == counter ? std::optional(std::string_view()) : std::nullopt;
    const std::string_view before = row.substr(0, star);
    const std::string_view after = row.substr(star + 1);
    if (counter.size() <= before.size() + after.size() || !counter.starts_with(before) || !counter.ends_with(after))
        return std::nullopt;
    const auto between = counter.substr(before.size(), counter.size() - before.size() - after.size());
    return between.find('.') == std::string_view::npos ? std::optional(between) : std::nullopt;
}

}  // namespace

void Exposition::metric(std::string_view name, MetricType type, std::string_view help) {
    name_ = name;
    text_ += fmt::format("# HELP {} ", name);
    append_escaped(text_, help, false);
    text_ += fmt::format("\n# TYPE {} {}\n", name, type_name(type));
}

void Exposition::sample(std::uint64_t value, std::span<const Label> labels) {
    text_ += name_;
    append_labels(text_, labels);
    text_ += fmt::format(" {}\n", value);
}

void Exposition::distribution(std::span<const double> bounds, std::span<const std::uint64_t> counts, double sum,
                              std::span<const Label> labels) {
    REMOFILE_ASSERT(counts.size() == bounds.size() + 1);
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        count += counts[i];
        text_ += fmt::format("{}_bucket", name_);
        append_labels(text_, labels, i < bounds.size() ? fmt::format("{}", bounds[i]) : "+Inf");
        text_ += fmt::format(" {}\n", count);
    }
    text_ += fmt::format("{}_sum", name_);
    append_labels(text_, labels);
    text_ += fmt::format(" {}\n{}_count", sum, name_);
    append_labels(text_, labels);
    text_ += fmt::format(" {}\n", count);
}

void write_counters(Exposition& exposition, std::span<const CounterMetric> rows, std::string_view others,
                    NamedValues values) {
    const std::array<LabelledCounters, 1> whole{{{.label = {}, .values = std::move(values)}}};
    write_counters(exposition, rows, others, whole);
}

void write_counters(Exposition& exposition, std::span<const CounterMetric> rows, std::string_view others,
                    std::span<const LabelledCounters> parts) {
    std::vector<std::vector<bool>> written;
    for (const LabelledCounters& part : parts)
        written.emplace_back(part.values.size());
    // Calls `take` with each counter that has not been written, its part's labels, and where to note that it was.
    const auto for_each_left = [&](const auto& take) {
        for (std::size_t i = 0; i < parts.size(); ++i) {
            std::vector<Exposition::Label> labels;
            if (!parts[i].label.first.empty())
                labels.push_back(parts[i].label);
            for (std::size_t k = 0; k < parts[i].values.size(); ++k) {
                if (!written[i][k])
                    written[i][k] = take(parts[i].values[k], labels);
            }
        }
    };
    for (const CounterMetric& row : rows) {
        bool begun = false;
        for_each_left([&](const auto& counter, std::vector<Exposition::Label> labels) {
            const auto label = fit(row.counter, counter.first);
            if (!label)
                return false;
            if (!std::exchange(begun, true))
                exposition.metric(row.metric, row.type, row.help);
            if (!row.label.empty())
                labels.emplace_back(row.label, *label);
            exposition.sample(counter.second, labels);
            return true;
        });
        if (!begun && row.label.empty()) {
            exposition.metric(row.metric, row.type, row.help);
            exposition.sample(0);
        }
    }
    bool begun = false;
    for_each_left([&](const auto& counter, std::vector<Exposition::Label> labels) {
        if (!std::exchange(begun, true))
            exposition.metric(others, MetricType::counter, "What else is counted, by its name in remofile status.");
        labels.emplace_back("event", counter.first);
        exposition.sample(counter.second, labels);
        return true;
    });
}

}  // namespace remofile
