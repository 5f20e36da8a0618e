# SPDX-License-Identifier: MIT
"""Medians, ratios and targets as a table in Markdown, as JSON, and as plots."""
import os
import statistics
from html import escape

from targets import target_of
from workloads import SPEED_UNITS, WORKLOADS


class Results:
    """Figures by (link, workload, unit), then by file system, a value a round; and what could not be measured."""

    def __init__(self):
        self.rows, self.failures = {}, []

    def add(self, link, workload, file_system, figures):
        for unit, value in figures.items():
            self.rows.setdefault((link, workload, unit), {}).setdefault(file_system, []).append(value)

    def add_failure(self, link, workload, file_system, reason):
        self.failures.append(f"{link}, {workload}, {file_system}: {reason}")

    def median(self, link, workload, unit, file_system):
        values = self.rows.get((link, workload, unit), {}).get(file_system)
        return statistics.median(values) if values else None

    def as_json(self):
        return {
            "rows": [{"link": link, "workload": workload, "unit": unit, "values": by_name}
                     for (link, workload, unit), by_name in self.rows.items()],
            "failures": self.failures,
        }


def number(value):
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(value, reference):
    return f"{value / reference:.2f}" if value is not None and reference else ""


def verdict(results, link, workload, unit, name):
    """The target and whether it is met."""
    value = results.median(link, workload, unit, name)
    target = target_of(link, workload, name, unit)
    slower = unit in SPEED_UNITS and name.startswith("remofs") and ratio(value, results.median(link, workload, unit, "sshfs"))
    texts = []
    if target:
        met = target.met(value, target.beside and results.median(link, workload, unit, target.beside))
        texts.append(f"{target.describe()}: " + {True: "met", False: "**missed**", None: "not comparable"}[met])
    elif slower and float(slower) < 1:
        texts.append("**slower than sshfs**")
    return "; ".join(texts)


def tables(results):
    titles = {workload.name: workload.title for workload in WORKLOADS}
    lines, last_link = [], None
    for (link, workload, unit), by_name in sorted(results.rows.items(), key=order):
        if link != last_link:
            lines += [f"\n### {link[0].upper()}{link[1:]}\n",
                      "| work | file system | median | least – most | × sshfs | × TCP | × tar over ssh | × local | target |",
                      "|---|---|---:|---|---:|---:|---:|---:|---|"]
            last_link = link
        for name, values in by_name.items():
            value = statistics.median(values)
            references = [results.median(link, workload, unit, other) if unit in SPEED_UNITS else None
                          for other in ("sshfs", "TCP", "tar over ssh", "local")]
            cells = [titles[workload], name, f"{number(value)} {unit}", f"{number(min(values))} – {number(max(values))}",
                     *(ratio(value, reference) for reference in references), verdict(results, link, workload, unit, name)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines + [""] + [f"Failed: {failure}" for failure in results.failures])


def order(item):
    (link, workload, unit), _ = item
    names = [entry.name for entry in WORKLOADS]
    return (link != "loopback", link, unit not in SPEED_UNITS, names.index(workload), unit)


def plot(results, directory):
    """An SVG a row: a bar for each file system's median, and a line from the least to the most."""
    os.makedirs(directory, exist_ok=True)
    titles = {workload.name: workload.title for workload in WORKLOADS}
    for (link, workload, unit), by_name in results.rows.items():
        name = "".join(c if c.isalnum() else "-" for c in f"{link} {workload} {unit}")
        with open(os.path.join(directory, f"{name}.svg"), "w", encoding="utf-8") as file:
            file.write(bars(f"{titles[workload]} ({link}), {unit}", by_name))


def bars(title, by_name):
    label_width, bar_width, row_height = 140, 460, 28
    longest = max(max(values) for values in by_name.values()) or 1
    scale = bar_width / longest
    height = row_height * (len(by_name) + 1) + 12
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{label_width + bar_width + 90}" height="{height}"'
             ' font-family="sans-serif" font-size="13">',
             f'<text x="6" y="19" font-weight="bold">{escape(title)}</text>']
    for row, (name, values) in enumerate(by_name.items(), start=1):
        top, middle = row * row_height + 5, row * row_height + 15
        value = statistics.median(values)
        colour = "#2a6f97" if name.startswith("remofs") else "#999999"
        parts += [f'<text x="{label_width - 8}" y="{middle + 4}" text-anchor="end">{escape(name)}</text>',
                  f'<rect x="{label_width}" y="{top}" width="{value * scale:.1f}" height="20" fill="{colour}"/>',
                  f'<line x1="{label_width + min(values) * scale:.1f}" x2="{label_width + max(values) * scale:.1f}"'
                  f' y1="{middle}" y2="{middle}" stroke="black"/>',
                  f'<text x="{label_width + max(values) * scale + 6:.1f}" y="{middle + 4}">{number(value)}</text>']
    return "\n".join([*parts, "</svg>", ""])
