// SPDX-License-Identifier: MIT
#include "base/exposition.hpp"

#include <array>
#include <catch.hpp>

using namespace remofile;

namespace {

using Labels = std::array<Exposition::Label, 1>;
using Values = std::vector<std::pair<std::string, std::uint64_t>>;

}  // namespace

TEST_CASE("a metric has a help text, a type and its samples") {
    Exposition exposition;
    exposition.metric("x_total", MetricType::counter, "Xs.");
    exposition.sample(7, Labels{{{"kind", "small"}}});
    exposition.sample(8, Labels{{{"kind", "large"}}});
    exposition.metric("y", MetricType::gauge, "Ys.");
    exposition.sample(0);
    CHECK(exposition.take() ==
          "# HELP x_total Xs.\n# TYPE x_total counter\nx_total{kind=\"small\"} 7\nx_total{kind=\"large\"} 8\n"
          "# HELP y Ys.\n# TYPE y gauge\ny 0\n");
}

TEST_CASE("what would end a label or a line is escaped") {
    Exposition exposition;
    exposition.metric("x", MetricType::gauge, "a\\b\n\"c\"");
    exposition.sample(1, Labels{{{"of", "a\\b\n\"c\""}}});
    CHECK(exposition.take() == "# HELP x a\\\\b\\n\"c\"\n# TYPE x gauge\nx{of=\"a\\\\b\\n\\\"c\\\"\"} 1\n");
}

TEST_CASE("a distribution cumulates, and ends with all") {
    Exposition exposition;
    exposition.metric("t", MetricType::histogram, "Times.");
    exposition.distribution(std::array{0.001, 1.0}, std::array<std::uint64_t, 3>{2, 3, 4}, 12.5,
                            Labels{{{"opcode", "READ"}}});
    CHECK(exposition.take() ==
          "# HELP t Times.\n# TYPE t histogram\n"
          "t_bucket{opcode=\"READ\",le=\"0.001\"} 2\nt_bucket{opcode=\"READ\",le=\"1\"} 5\n"
          "t_bucket{opcode=\"READ\",le=\"+Inf\"} 9\nt_sum{opcode=\"READ\"} 12.5\nt_count{opcode=\"READ\"} 9\n");
}

TEST_CASE("counters belong to the first row that they fit, once") {
    const auto rows = std::to_array<CounterMetric>({
        {"files.opens", "opens_total", MetricType::counter, "Opens."},
        {"files.*.errors", "errors_total", MetricType::counter, "Errors.", "opcode"},
        {"files.*", "operations_total", MetricType::counter, "Operations.", "opcode"},
        {"never", "never_total", MetricType::counter, "Not counted yet."},
        {"none.*", "none_total", MetricType::counter, "Nor these.", "opcode"},
    });
    const Values values{{"a.b.c", 1}, {"files.", 9}, {"files.READ", 2}, {"files.READ.errors", 3}, {"files.opens", 4}};
    Exposition exposition;
    write_counters(exposition, rows, "others_total", values);
    CHECK(exposition.take() ==
          "# HELP opens_total Opens.\n# TYPE opens_total counter\nopens_total 4\n"
          "# HELP errors_total Errors.\n# TYPE errors_total counter\nerrors_total{opcode=\"READ\"} 3\n"
          "# HELP operations_total Operations.\n# TYPE operations_total counter\n"
          "operations_total{opcode=\"READ\"} 2\n"
          "# HELP never_total Not counted yet.\n# TYPE never_total counter\nnever_total 0\n"
          "# HELP others_total What else is counted, by its name in remofile status.\n# TYPE others_total counter\n"
          "others_total{event=\"a.b.c\"} 1\nothers_total{event=\"files.\"} 9\n");
}

TEST_CASE("counters of several parts of a program stand together, each with its part's label") {
    const auto rows = std::to_array<CounterMetric>({
        {"opens", "opens_total", MetricType::counter, "Opens."},
        {"files.*", "operations_total", MetricType::counter, "Operations.", "opcode"},
    });
    const std::vector<LabelledCounters> parts{
        {.label = {}, .values = {{"busy", 1}}},
        {.label = {"export", "a"}, .values = {{"files.READ", 2}, {"opens", 3}, {"x", 4}}},
        {.label = {"export", "b"}, .values = {{"opens", 5}}},
    };
    Exposition exposition;
    write_counters(exposition, rows, "others_total", parts);
    CHECK(exposition.take() ==
          "# HELP opens_total Opens.\n# TYPE opens_total counter\nopens_total{export=\"a\"} 3\n"
          "opens_total{export=\"b\"} 5\n"
          "# HELP operations_total Operations.\n# TYPE operations_total counter\n"
          "operations_total{export=\"a\",opcode=\"READ\"} 2\n"
          "# HELP others_total What else is counted, by its name in remofile status.\n# TYPE others_total counter\n"
          "others_total{event=\"busy\"} 1\nothers_total{export=\"a\",event=\"x\"} 4\n");
}
