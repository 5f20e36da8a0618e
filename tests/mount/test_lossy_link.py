# SPDX-License-Identifier: MIT
"""A mount over a link that loses packets: what is copied arrives whole, and both ends send as they were told to.

usage: test_lossy_link.py BENCH_DIRECTORY BUILD_DIRECTORY
"""
import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

BENCH, BUILD = sys.argv[1:3]
sys.path.insert(0, BENCH)

from file_systems import Remofs  # noqa: E402
from links import EmulatedLink  # noqa: E402
from processes import run, wait_until  # noqa: E402
from targets import Link  # noqa: E402

SKIPPED = 77
LINK = Link(rtt_ms=20, rate_mbit=100, loss_percent=2)
MEBIBYTES = 4
DEADLINE_S = 120
TCP_CONGESTION = 13
DATA, REST = "data", "everything but data"


def why_not():
    """What keeps this machine from having such a link, or nothing."""
    if os.getuid() != 0:
        return "network namespaces need root"
    if not os.access("/dev/fuse", os.W_OK):
        return "there is no /dev/fuse"
    if not os.access("/dev/net/tun", os.W_OK):
        return "there is no /dev/net/tun"
    if subprocess.run(["unshare", "--net", "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        return "there are no network namespaces"
    return None


def can_have(control):
    with socket.socket() as connection:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, control.encode())
            return True
        except OSError:
            return False


def text_of(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def digest(path):
    """Of a file that is not on the mount."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class LossyLink(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.mkdtemp(prefix="remofs-lossy-")
        self.addCleanup(shutil.rmtree, self.home, ignore_errors=True)
        self.files = os.path.join(self.home, "files")
        os.mkdir(self.files)
        with open(os.path.join(self.files, "random"), "wb") as file:
            file.write(os.urandom(MEBIBYTES << 20))
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.link = self.stack.enter_context(contextlib.closing(EmulatedLink(LINK, BUILD)))

    def mounted(self, **settings):
        remofs = Remofs("remofs", self.home, self.files, self.link, BUILD, **settings)
        self.stack.callback(remofs.close)
        remofs.start_server()
        remofs.mount()
        return remofs

    def copy_both_ways(self, remofs):
        mnt, fetched, back = remofs.mountpoint, os.path.join(self.home, "fetched"), os.path.join(self.files, "back")
        run(["dd", f"if={mnt}/random", f"of={fetched}", "bs=1M"], DEADLINE_S)
        run(["dd", f"if={fetched}", f"of={mnt}/back", "bs=1M", "conv=fsync"], DEADLINE_S)
        self.assertEqual(digest(fetched), digest(os.path.join(self.files, "random")))
        self.assertEqual(digest(back), digest(fetched))

    def controls(self, command):
        """Of all TCP connections of one end that are established, as the kernel has them."""
        lines = run(command(["ss", "--tcp", "--info", "--numeric", "--no-header", "state", "established"]), output=True).splitlines()
        return [line.split()[0] for line in lines if line.startswith(("\t", " "))]

    def test_by_itself_it_takes_bbr(self):
        remofs = self.mounted()
        self.copy_both_ways(remofs)
        bbr = can_have("bbr")
        said = "is bbr in place of cubic" if bbr else "stays cubic; bbr cannot be had"
        for kind in (DATA, REST):
            self.assertRegex(text_of(os.path.join(remofs.home, "client.log")), rf", {kind}: TCP's congestion control {said}")
        for kind in ("connections", "connections for data"):
            self.assertEqual(len([line for line in text_of(remofs.log).splitlines()
                                  if f" {kind}: TCP's congestion control {said}" in line]), 1, text_of(remofs.log))
        for command in (self.link.at_client, self.link.at_server):
            wait_until("two connections", lambda command=command: len(self.controls(command)) == 2)
            self.assertEqual(set(self.controls(command)), {"bbr" if bbr else "cubic"})

    def test_told_so_it_stays_with_the_system(self):
        remofs = self.mounted(congestion="system")
        self.copy_both_ways(remofs)
        self.assertNotIn("congestion control", text_of(os.path.join(remofs.home, "client.log")) + text_of(remofs.log))
        for command in (self.link.at_client, self.link.at_server):
            self.assertEqual(set(self.controls(command)), {"cubic"})

    def test_what_cannot_be_had_is_said_and_does_without(self):
        remofs = self.mounted(congestion="no_such_thing")
        self.copy_both_ways(remofs)
        for path in (os.path.join(remofs.home, "client.log"), remofs.log):
            self.assertIn("stays cubic; no_such_thing cannot be had", text_of(path))
        for command in (self.link.at_client, self.link.at_server):
            self.assertEqual(set(self.controls(command)), {"cubic"})


if __name__ == "__main__":
    reason = why_not()
    if reason:
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    unittest.main(argv=sys.argv[:1], verbosity=2)
