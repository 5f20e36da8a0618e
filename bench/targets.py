# SPDX-License-Identifier: MIT
"""The figures to reach, and whether they are."""
from typing import NamedTuple


class Target(NamedTuple):
    link: str  # its title
    workload: str
    file_system: str
    unit: str
    bound: float  # the least multiple of `beside`; without one, the most
    beside: str = ""  # file system, or "TCP"

    def describe(self):
        return f"≥ {self.bound:.3g} × {self.beside}" if self.beside else f"≤ {self.bound:g}"

    def met(self, value, reference):
        """None if there is nothing to compare with."""
        if value is None or (self.beside and not reference):
            return None
        return value >= self.bound * reference if self.beside else value <= self.bound


class Link(NamedTuple):
    rtt_ms: int
    rate_mbit: int
    loss_percent: float = 0  # of the packets, in each direction

    @property
    def title(self):
        return f"{self.rtt_ms} ms, {self.rate_mbit} Mbit/s" + (f", {self.loss_percent:g} % lost" if self.loss_percent else "")


# By the names that --link takes.
LINKS = {"20": Link(20, 100), "100": Link(100, 200)}
# On these sshfs takes minutes for what takes seconds elsewhere.
LOSSY_LINKS = {"lossy": Link(40, 100, 0.5), "lossy-0.1": Link(40, 100, 0.1), "lossy-2": Link(40, 100, 2)}
LINK_NAMES = ["loopback", *LINKS, *LOSSY_LINKS]
USUAL_LINK_NAMES = ["loopback", *LINKS]
LINK_HELP = ("loopback; the links with a round trip of 20 and 100 ms; and, only if they are named, links of 40 ms "
             "that lose packets: lossy (0.5 %%), lossy-0.1, lossy-2")
CACHE_SIZE_MIB = 256  # remofs's default

TARGETS = [
    Target("loopback", "read", "remofs", "MiB/s", 3, "sshfs"),
    Target("loopback", "read", "remofs plain", "MiB/s", 5, "sshfs"),
    Target("loopback", "write", "remofs", "MiB/s", 2.5, "sshfs"),
    Target("loopback", "reread", "remofs", "MiB/s", 0.9, "local"),
    Target("loopback", "random-1", "remofs", "IOPS", 1, "sshfs"),
    Target("loopback", "random-16", "remofs", "IOPS", 3, "sshfs"),
    Target("loopback", "memory", "remofs", "MiB client", CACHE_SIZE_MIB + 64),
    Target("loopback", "memory", "remofs", "MiB server", 64 + 2),
]
# Work on trees: how many times as fast as sshfs, as the served files themselves, and as a stream of them over ssh.
TARGETS += [Target("loopback", name, "remofs", "files/s", bound, beside) for name, bound, beside in (
    ("find", 3, "sshfs"), ("find-again", 1 / 1.5, "local"), ("ls-again", 1 / 1.5, "local"),
    ("git-status", 10, "sshfs"), ("git-status-again", 1 / 1.5, "local"), ("tar", 10, "sshfs"), ("untar", 5, "sshfs"), ("rm", 5, "sshfs"),
    ("cp-inside", 5, "sshfs"))]
TARGETS += [Target("20 ms, 100 Mbit/s", name, "remofs", "files/s", bound, beside) for name, bound, beside in (
    ("find", 30, "sshfs"), ("git-status", 30, "sshfs"), ("tar", 1 / 1.2, "tar over ssh"), ("untar", 1 / 1.5, "tar over ssh"),
    ("rm", 30, "sshfs"), ("git-clone", 20, "sshfs"))]
TARGETS += [Target("100 ms, 200 Mbit/s", name, "remofs", "files/s", bound, "tar over ssh")
            for name, bound in (("tar", 1 / 1.5), ("untar", 1 / 2))]
for link in LINKS.values():
    for kind, bound in (("", 0.95), ("-text", 2.5)):
        TARGETS += [Target(link.title, f"{way}{kind}", "remofs", "MiB/s", bound, "TCP") for way in ("read", "write")]
TARGETS += [Target(LOSSY_LINKS["lossy"].title, way, "remofs", "MiB/s", 10, "sshfs") for way in ("read", "write")]


def target_of(link, workload, file_system, unit):
    wanted = (link, workload, file_system, unit)
    return next((target for target in TARGETS if target[:4] == wanted), None)
