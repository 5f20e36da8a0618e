#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Counts the test cases in meson's log of a run and closes with the line "N passed, N failed".

A Catch2 or unittest program counts as many cases as it says it ran, any other test as one. A program that says all is well
but exits non-zero (a sanitizer's finding, a time-out) counts one failure.
"""
import json
import re
import sys

CATCH_PASSED = re.compile(r"^All tests passed \(.* in (\d+) test cases?\)", re.M)
CATCH_CASES = re.compile(r"^test cases: +(\d+) *((?:\| +\d+ [a-z ]+)*)", re.M)
UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in ", re.M)
UNITTEST_OUTCOME = re.compile(r"^(?:OK|FAILED)(?: \((.*)\))?$", re.M)


def cases(text):
    """(passed, failed, skipped) as the program's own closing lines say, or None."""
    found = CATCH_PASSED.search(text)
    if found:
        return int(found[1]), 0, 0
    found = CATCH_CASES.search(text)
    if found:
        number = {word.strip(): int(count) for count, word in re.findall(r"(\d+) ([a-z ]+)", found[2])}
        failed = number.get("failed", 0)
        skipped = number.get("skipped", 0)
        return int(found[1]) - failed - skipped, failed, skipped
    found = UNITTEST_RAN.search(text)
    if found:
        outcome = UNITTEST_OUTCOME.search(text, found.end())
        number = dict(re.findall(r"(\w+)=(\d+)", outcome[1] or "")) if outcome else {}
        failed = int(number.get("failures", 0)) + int(number.get("errors", 0))
        skipped = int(number.get("skipped", 0))
        return int(found[1]) - failed - skipped, failed, skipped
    return None


def main():
    total = [0, 0, 0]
    bad_programs = []
    try:
        with open(sys.argv[1], encoding="utf-8") as log:
            tests = [json.loads(line) for line in log if line.strip()]
    except FileNotFoundError:
        tests = []
    for test in tests:
        counted = cases((test.get("stdout") or "") + "\n" + (test.get("stderr") or ""))
        if test["result"] in ("OK", "EXPECTEDFAIL"):
            outcome = counted or (1, 0, 0)
        elif test["result"] == "SKIP":
            outcome = (0, 0, 1)
        else:
            bad_programs.append(f"{test['name']} ({test['result'].lower()})")
            passed, failed, skipped = counted or (0, 0, 0)
            outcome = (passed, max(failed, 1), skipped)
        total = [a + b for a, b in zip(total, outcome)]
    if bad_programs:
        print("failed:", ", ".join(bad_programs))
    passed, failed, skipped = total
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not tests else 0


sys.exit(main())
