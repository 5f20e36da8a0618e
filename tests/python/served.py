# SPDX-License-Identifier: MIT
"""What the tests of the Python package share: a server on a directory of its own, and comparisons with local files."""

import atexit
import collections
import io
import os
import queue
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import unittest

SERVER = os.environ["REMOFILE_SERVER"]
PATIENCE_S = 60
# A program that is killed takes its server along.
ENDS_WITH_US = ["setpriv", "--pdeathsig", "TERM"]

# unittest leaves its cleanups out when it is interrupted; what is registered for the end is done.
signal.signal(signal.SIGTERM, signal.default_int_handler)


class Server:
    """A server process on a directory, a port and keys of its own; this process is set up to connect to it."""

    process = None

    def __init__(self, *options):
        self.home = tempfile.mkdtemp(prefix="remofile-python-")
        atexit.register(self.close)
        try:
            self.files = os.path.join(self.home, "files")
            os.mkdir(self.files)
            os.environ["REMOFILE_CONFIG_DIR"] = os.path.join(self.home, "config")
            os.mkdir(os.environ["REMOFILE_CONFIG_DIR"], 0o700)
            self.options = options
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self):
        self.process = subprocess.Popen(
            [*ENDS_WITH_US, SERVER, "--listen", "tcp://127.0.0.1:0", "--listen", self.socket(), *self.options, self.files],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.log = collections.deque(maxlen=100)
        announced = queue.SimpleQueue()
        self.reader = threading.Thread(target=self.read_log, args=(self.process.stderr, announced), daemon=True)
        self.reader.start()
        try:
            self.port = announced.get(timeout=PATIENCE_S)
        except queue.Empty:
            self.port = None
        if self.port is None:
            raise AssertionError("the server does not listen: " + "".join(self.log))

    def read_log(self, stream, announced):
        """Takes what the server says off its hands, and notes the port."""
        with io.TextIOWrapper(stream, errors="replace") as lines:
            for line in lines:
                self.log.append(line)
                if found := re.search(r"listening on tcp://127\.0\.0\.1:(\d+)", line):
                    announced.put(int(found[1]))
        announced.put(None)

    def stop(self):
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        self.reader.join()
        if status != 0:
            raise AssertionError(f"the server ended with status {status}: " + "".join(self.log))

    def socket(self):
        return f"ipc://{self.home}/socket"

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
        atexit.unregister(self.close)
        try:
            if self.process is not None:
                self.stop()
        finally:
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
