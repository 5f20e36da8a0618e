# SPDX-License-Identifier: MIT
"""What the tests of the Python package share: a server on a directory of its own, and comparisons with local files."""

import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import unittest

SERVER = os.environ["REMOFILE_SERVER"]
PATIENCE_S = 60


class Server:
    """A server process on a directory, a port and keys of its own; this process is set up to connect to it."""

    def __init__(self, *options):
        self.home = tempfile.mkdtemp(prefix="remofile-python-")
        try:
            self.files = os.path.join(self.home, "files")
            os.mkdir(self.files)
            os.environ["REMOFILE_CONFIG_DIR"] = os.path.join(self.home, "config")
            os.mkdir(os.environ["REMOFILE_CONFIG_DIR"], 0o700)
            self.log = open(os.path.join(self.home, "log"), "w+b")
            self.process = subprocess.Popen(
                [SERVER, "--listen", "tcp://127.0.0.1:0", "--listen", self.socket(), *options, self.files],
                stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.PIPE,
            )  # fmt: skip
            self.port = self.announced_port()
        except BaseException:
            self.close()
            raise

    def socket(self):
        return f"ipc://{self.home}/socket"

    def announced_port(self):
        said = b""
        while not (found := re.search(rb"listening on tcp://127\.0\.0\.1:(\d+)", said)):
            readable, _, _ = select.select([self.process.stderr], [], [], PATIENCE_S)
            more = os.read(self.process.stderr.fileno(), 65536) if readable else b""
            if not more:
                raise AssertionError(f"the server does not listen: {said.decode(errors='replace')}")
            said += more
        return int(found[1])

    def source(self, path="/"):
        return f"localhost:{self.port}:{path}"

    def path(self, *names):
        return os.path.join(self.files, *names)

    def put(self, name, content=b""):
        with open(self.path(name), "wb") as file:
            file.write(content)
        return name

    def content(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def close(self):
        process = getattr(self, "process", None)
        try:
            if process is not None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.communicate(timeout=PATIENCE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.communicate()
                    raise AssertionError("the server did not stop") from None
                if process.returncode != 0:
                    raise AssertionError(f"the server ended with status {process.returncode}")
        finally:
            if hasattr(self, "log"):
                self.log.close()
            shutil.rmtree(self.home, ignore_errors=True)


def outcome(function, *arguments, **more):
    """What a call returns, or the kind of its exception (and errno), so that two calls can be compared."""
    try:
        return function(*arguments, **more)
    except Exception as error:
        return type(error), error.errno if isinstance(error, OSError) else None


class ServedTest(unittest.TestCase):
    """Tests with one server and one client for all of them, and an empty local directory beside the server's."""

    server_options = ()

    @classmethod
    def setUpClass(cls):
        import remofile

        cls.server = Server(*cls.server_options)
        cls.addClassCleanup(cls.server.close)
        cls.client = remofile.connect(cls.server.source())
        cls.addClassCleanup(cls.client.close)

    def setUp(self):
        self.local = tempfile.mkdtemp(prefix="remofile-local-")
        self.addCleanup(shutil.rmtree, self.local)
        self.addCleanup(self.empty_both)

    def empty_both(self):
        for directory in (self.server.files, self.local):
            for entry in os.scandir(directory):
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)

    def local_path(self, *names):
        return os.path.join(self.local, *names)

    def put_both(self, name, content=b""):
        self.server.put(name, content)
        with open(self.local_path(name), "wb") as file:
            file.write(content)

    def assert_same_content(self, name, message=None):
        with open(self.local_path(name), "rb") as file:
            self.assertEqual(file.read(), self.server.content(name), message)
