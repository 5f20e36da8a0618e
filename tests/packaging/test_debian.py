#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What packaging/debian says twice is the same in both places, without building packages.

usage: test_debian.py [unittest's arguments]
"""
import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What dev installs to build with and the packages do without: what build-essential and meson bring, and what tests need.
NOT_FOR_PACKAGES = {"ccache", "catch2", "g++", "librapidcheck-dev", "ninja-build"}


def text_of(path):
    return (ROOT / path).read_text(encoding="utf-8")


class Debian(unittest.TestCase):
    def test_the_version_is_that_of_meson(self):
        version = re.search(r"^  version : '([^']+)',$", text_of("meson.build"), re.M)[1]
        self.assertTrue(text_of("packaging/debian/changelog").startswith(f"remofs ({version}-"), version)

    def test_what_dev_builds_with_is_built_with(self):
        packages = set(re.search(r"^build_packages=\((.*?)\)", text_of("dev"), re.M | re.S)[1].split())
        control = text_of("packaging/debian/control")
        depends = set(re.findall(r"^ ([a-z0-9+.-]+)", re.search(r"^Build-Depends:\n(.*?)^\S", control, re.M | re.S)[1], re.M))
        self.assertEqual(packages - NOT_FOR_PACKAGES - depends, set())

    def test_each_completion_and_unit_is_in_a_package(self):
        lists = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "packaging/debian").glob("*.install"))
        for shell, place in (("bash", "bash-completion/completions"), ("fish", "fish/vendor_completions.d"), ("zsh", "zsh/site-functions")):
            for path in (ROOT / "packaging/completions" / shell).iterdir():
                self.assertIn(f"usr/share/{place}/{path.name}", lists)
        for path in (ROOT / "packaging/systemd/user").iterdir():
            self.assertIn(f"usr/lib/systemd/user/{path.name.removesuffix('.in')}", lists)


if __name__ == "__main__":
    unittest.main()
