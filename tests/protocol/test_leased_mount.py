# SPDX-License-Identifier: MIT
"""A client that was written from docs/PROTOCOL.md holds a lease that a mount takes away, and the other way round."""
import os
import stat
import subprocess
import sys
import threading
import time
import unittest

import test_protocol
from remofile2 import (
    CONTENT, FEATURE_LEASES, NAME, LeasedDirectory, NoAnswer, new_node, string, u32, u64,
)  # fmt: skip

REMOFS = None  # the program under test: the second argument
ROOT = test_protocol.ROOT
PATIENCE_S = 60
# Who waits for a term notices.
TERM_S = 300


class Mount:
    def __init__(self, server):
        self.path = os.path.join(server.home, "mount")
        os.mkdir(self.path)
        source = "remofile+" + server.endpoint
        environment = dict(os.environ, REMOFILE_CONFIG_DIR=server.config)
        # It shares the leases of directories, and asks for none for itself alone.
        options = "insecure,sync_names"
        command = [*test_protocol.ENDS_WITH_US, REMOFS, source, self.path, "-f", "-o", options]
        self.process = subprocess.Popen(command, env=environment)
        end = time.monotonic() + PATIENCE_S
        while not os.path.ismount(self.path):
            if self.process.poll() is not None or time.monotonic() > end:
                self.close()
                raise AssertionError("it does not mount")
            time.sleep(0.01)

    def close(self):
        subprocess.run(["umount", "-l", self.path], stderr=subprocess.DEVNULL, check=False)
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Doing:
    """A system call that may wait, on a thread of its own."""

    def __init__(self, call, *arguments):
        self.error = None
        self.thread = threading.Thread(target=self.run, args=(call, *arguments), daemon=True)
        self.thread.start()

    def run(self, call, *arguments):
        try:
            call(*arguments)
        except OSError as error:
            self.error = error

    def waits(self):
        return self.thread.is_alive()

    def end(self):
        self.thread.join(PATIENCE_S)
        if self.thread.is_alive():
            raise AssertionError("it still waits")
        if self.error:
            raise self.error


@unittest.skipUnless(os.path.exists("/dev/fuse"), "there is no /dev/fuse")
class LeasedMount(test_protocol.ServerTest):
    # What is told is counted: nothing of what the server makes for the mount is to be among it.
    options = ("--lease-term", str(TERM_S), "--no-lent-inodes")
    insecure = True

    mount = None

    def setUp(self):
        super().setUp()
        try:
            os.mkdir(self.path("d"))
            self.put("d/file", b"old")
            self.holder = self.client(features=FEATURE_LEASES, name=b"holder")
            self.mount = Mount(self.server)
            self.directory = LeasedDirectory(self.holder, ROOT, b"d", 2)
            self.directory.list()
        except BaseException:
            self.tearDown()
            raise

    def tearDown(self):
        if self.mount:
            self.mount.close()
        super().tearDown()

    def mounted(self, name):
        return os.path.join(self.mount.path, "d", name)

    def listen_until(self, doing):
        """Confirms what is told, until the call has ended."""
        end = time.monotonic() + PATIENCE_S
        while doing.waits() and time.monotonic() < end:
            try:
                self.directory.listen(0.05)
            except NoAnswer:
                pass
        doing.end()

    def test_a_mount_waits_for_the_confirmation_and_no_longer(self):
        self.assertTrue(self.directory.in_force())
        self.assertEqual(set(self.directory.names), {b"file"})
        making = Doing(os.mkdir, self.mounted("new"))
        push = self.holder.wait_for_push()
        self.assertEqual(push["changes"], [(2, NAME, b"new")])
        # It is there already, but whoever has made it may not know before we do.
        self.assertTrue(os.path.isdir(self.path("d/new")))
        self.assertTrue(making.waits())
        self.directory.take(push)
        making.end()
        self.assertIsNone(self.directory.find(b"new", ask=False))
        self.assertEqual(self.directory.find(b"new")["mode"] & 0o170000, stat.S_IFDIR)

    def test_whatever_a_mount_changes_is_told_and_answered_at_once(self):
        for call, *arguments in [
            (os.mkdir, self.mounted("made")),
            (os.rename, self.mounted("file"), self.mounted("moved")),
            (os.chmod, self.mounted("moved"), 0o600),
            (os.symlink, "target", self.mounted("link")),
            (os.rmdir, self.mounted("made")),
            (os.unlink, self.mounted("link")),
            (os.truncate, self.mounted("moved"), 1),
            (os.rename, self.mounted("moved"), os.path.join(self.mount.path, "file")),
        ]:
            self.listen_until(Doing(call, *arguments))
            expected = {os.fsencode(name) for name in os.listdir(self.path("d"))}
            self.assertEqual(self.directory.known_names(), expected, call.__name__)
            for name in expected:
                self.assertEqual(
                    self.directory.find(name)["size"], os.lstat(self.path("d/" + os.fsdecode(name))).st_size
                )
        self.assertTrue(self.directory.in_force())

    def test_one_confirmation_is_enough_for_all_before_it(self):
        names = [f"n{count}" for count in range(4)]
        for number, name in enumerate(names, 20):
            body = u64(2) + string(name.encode()) + new_node(number)
            self.holder.call("MKNOD", body + u32(stat.S_IFREG | 0o644, 0, 0, 0))
        self.directory.list()
        # The kernel does one thing at a time in a directory, but changes files side by side.
        changes = [Doing(os.chmod, self.mounted(name), 0o600) for name in names]
        told = set()
        while told != {(CONTENT, name.encode()) for name in names}:
            push = self.holder.wait_for_push(PATIENCE_S)
            told |= {(what, name) for _, what, name in push["changes"]}
        self.assertTrue(all(change.waits() for change in changes))
        self.holder.confirm(push["sequence"])
        for change in changes:
            change.end()

    def test_what_was_never_told_cannot_be_confirmed(self):
        making = Doing(os.mkdir, self.mounted("new"))
        push = self.holder.wait_for_push(PATIENCE_S)
        self.assert_status("invalid", self.holder.confirm, push["sequence"] + 1000)
        self.holder.call("PING")
        self.assertTrue(making.waits())
        self.holder.confirm(push["sequence"])
        making.end()

    def test_a_lease_that_has_ended_is_asked_for_again(self):
        self.listen_until(Doing(os.chmod, os.path.join(self.mount.path, "d"), 0o750))
        self.assertIsNone(self.directory.own_mode)
        self.directory.list()
        self.assertEqual(self.directory.own_mode & 0o777, 0o750)

    def test_what_the_client_changes_the_mount_shows(self):
        self.assertEqual(os.listdir(self.mount.path + "/d"), ["file"])
        self.assertFalse(os.path.exists(self.mounted("new")))
        self.holder.call("MKDIR", u64(2) + string(b"new") + new_node(9) + u32(0o755, 0))
        self.assertTrue(os.path.isdir(self.mounted("new")))
        self.assertEqual(sorted(os.listdir(self.mount.path + "/d")), ["file", "new"])


if __name__ == "__main__":
    test_protocol.SERVER = sys.argv.pop(1)
    REMOFS = sys.argv.pop(1)
    unittest.main(verbosity=2)
