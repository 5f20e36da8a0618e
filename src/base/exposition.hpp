// SPDX-License-Identifier: MIT
// Metrics in Prometheus' text format, version 0.0.4:
// https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace remofile {

enum class MetricType : std::uint8_t { counter, gauge, histogram };

// Writes one metric after the other. Names must be of letters, digits and underscores; what labels and help texts hold
// is escaped.
class Exposition {
public:
    using Label = std::pair<std::string_view, std::string_view>;

    static constexpr std::string_view content_type = "text/plain; version=0.0.4; charset=utf-8";

    // Begins a metric, which stands once in the whole.
    void metric(std::string_view name, MetricType type, std::string_view help);
    // Of the metric begun last.
    void sample(std::uint64_t value, std::span<const Label> labels = {});
    // Of a histogram: `counts` has one more than `bounds`, what is above them all, and does not cumulate.
    void distribution(std::span<const double> bounds, std::span<const std::uint64_t> counts, double sum,
                      std::span<const Label> labels);

    std::string take() { return std::move(text_); }

private:
    std::string_view name_;
    std::string text_;
};

// How a counter of `Counters` is called as a metric. A "*" in `counter` stands for anything without a dot, and is the
// value of the label then.
struct CounterMetric {
    std::string_view counter;
    std::string_view metric;
    MetricType type;
    std::string_view help;
    std::string_view label = {};
};

using NamedValues = std::vector<std::pair<std::string, std::uint64_t>>;

// Counters of a part of the program, whose samples have a label for it, or none if its name is empty.
struct LabelledCounters {
    Exposition::Label label;
    NamedValues values;
};

// Writes the rows in their order; a counter belongs to the first row that it fits. What has not been counted yet is 0,
// so that the first time is seen as a change. Counters that fit no row are samples of `others`, with the label "event".
void write_counters(Exposition& exposition, std::span<const CounterMetric> rows, std::string_view others,
                    std::span<const LabelledCounters> parts);
void write_counters(Exposition& exposition, std::span<const CounterMetric> rows, std::string_view others,
                    NamedValues values);

}  // namespace remofile
