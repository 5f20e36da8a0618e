#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The Python package among processes: loading the library, forks, the end of the interpreter, and the example."""

import os
import re
import subprocess
import sys
import textwrap
import threading
import unittest
import warnings

import remofile
from remofile import _library
from served import PATIENCE_S, ServedTest


class ProcessTest(ServedTest):
    def run_python(self, program, *arguments, environment=None):
        return subprocess.run(
            [sys.executable, "-X", "dev", "-c", textwrap.dedent(program), *arguments], timeout=PATIENCE_S,
            capture_output=True, text=True, env={**os.environ, **(environment or {})},
        )  # fmt: skip

    def assert_runs(self, program, *arguments):
        done = self.run_python(program, *arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""), program)
        return done.stdout


class LoadingTest(ProcessTest):
    def import_error(self, program="import remofile", **environment):
        done = self.run_python(program, environment=environment)
        self.assertNotEqual(done.returncode, 0)
        last = done.stderr.strip().splitlines()[-1]
        self.assertTrue(last.startswith("ImportError: "), last)
        return last

    def test_a_library_that_is_missing(self):
        message = self.import_error(REMOFILE_LIBRARY="/nowhere/libremofile.so.0")
        self.assertIn("/nowhere/libremofile.so.0", message)
        self.assertIn("install it, or name its file in REMOFILE_LIBRARY", message)

    def test_a_library_that_is_another(self):
        self.assertIn("libc.so.6 has no function remofile_", self.import_error(REMOFILE_LIBRARY="libc.so.6"))

    def test_a_library_of_another_version(self):
        for version in ["0.0.9", "1.0.0"]:
            message = self.import_error(f"""
                import ctypes
                from unittest.mock import MagicMock
                ctypes.CDLL = MagicMock()
                ctypes.CDLL.return_value.remofile_version.return_value = b"{version}"
                import remofile
                """)
            self.assertIn(f"is version {version}; this package needs", message)

    def test_versions_and_structures_agree(self):
        self.assertEqual(remofile.__version__, _library.lib.version().decode())
        sizes = [(_library.Options, 48), (_library.Timestamp, 16), (_library.Attributes, 128), (_library.Space, 88)]
        for structure, size in sizes:
            self.assertEqual(_library.ctypes.sizeof(structure), size, structure)


class ForkTest(ProcessTest):
    def in_child(self, function):
        """What a function answers in a forked process."""
        read_end, write_end = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # there are threads: that is the point
            child = os.fork()
        if child == 0:
            try:
                os.write(write_end, repr(self.errors(function)[0]).encode())
            finally:
                os._exit(0)
        os.close(write_end)
        with open(read_end, "rb") as answer:
            text = answer.read().decode()
        os.waitpid(child, 0)
        return text

    @staticmethod
    def errors(*calls):
        found = []
        for call in calls:
            try:
                found.append(call())
            except Exception as error:
                found.append(type(error).__name__)
        return found

    def test_a_child_is_refused_and_the_parent_goes_on(self):
        self.server.put("file", b"content")
        path = self.client.path("/file")
        with self.client.open("file", "rb+", 0) as file, self.client.scandir("/") as entries:
            answer = self.in_child(lambda: self.errors(
                self.client.stat, lambda: self.client.open("file"), lambda: self.client.listdir("/"), path.exists,
                file.read, file.tell, lambda: file.write(b"x"), file.truncate, lambda: next(entries),
                file.close, entries.close, self.client.close,
            ))  # fmt: skip
            self.assertEqual(answer, repr(["BrokenPipeError"] * 9 + [None] * 3))
            self.assertEqual((file.read(), next(entries).name, self.client.stat("file").st_size), (b"content", "file", 7))

    def test_a_child_does_not_wait_for_what_threads_held(self):
        """Locks that another thread holds at the moment of the fork stay locked in the child."""
        self.server.put("file", bytes(5_000_000))
        stop = threading.Event()
        with self.client.open("file", "rb", 0) as file, self.client.scandir("/") as entries:

            def work():
                while not stop.is_set():
                    file.seek(0)
                    file.read()
                    for _ in entries:
                        pass

            thread = threading.Thread(target=work)
            thread.start()
            try:
                for _ in range(5):
                    answer = self.in_child(lambda: self.errors(file.read, lambda: next(entries), file.close, entries.close))
                    self.assertEqual(answer, "['BrokenPipeError', 'BrokenPipeError', None, None]")
            finally:
                stop.set()
                thread.join()

    def test_a_child_may_connect_anew(self):
        self.server.put("file", b"content")
        with remofile.open(self.server.source("/file")) as file:
            answer = self.in_child(remofile.RemofilePath(self.server.source("/file")).read_bytes)
            self.assertEqual(answer, "'BrokenPipeError'")
            answer = self.in_child(lambda: remofile.RemofilePath(self.server.source("/file")).read_bytes())
            self.assertEqual(answer, "b'content'")
            self.assertEqual(file.read(), "content")

    def test_what_a_child_has_in_its_buffers_is_not_written(self):
        self.assert_runs("""
            import os, sys, warnings, remofile
            warnings.simplefilter("ignore")
            with remofile.connect(sys.argv[1]) as client:
                file = client.open("file", "w")
                file.write("once ")
                child = os.fork()
                if child == 0:
                    os.close(2)  # -X dev tells there what could not be written
                    sys.exit()
                assert os.waitpid(child, 0)[1] == 0
                file.write("only")
                file.close()
            """, self.server.source())  # fmt: skip
        self.assertEqual(self.server.content("file"), b"once only")


class EndTest(ProcessTest):
    def test_what_is_open_at_the_end_is_written(self):
        done = self.run_python("""
            import sys, remofile
            client = remofile.connect(sys.argv[1])
            text = client.open("text", "w")
            text.write("text")
            binary = remofile.open(sys.argv[1] + "binary", "wb")
            binary.write(b"binary")
            path = remofile.RemofilePath(sys.argv[1])
            entries = client.scandir("/")
            """, self.server.source())  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("Error", done.stderr)
        self.assertIn("ResourceWarning: unclosed", done.stderr)
        self.assertEqual((self.server.content("text"), self.server.content("binary")), (b"text", b"binary"))

    def test_wherever_it_is_open(self):
        """In a function's frame that an exception keeps, in a cycle, in a class; with functions that keep the globals."""
        places = {
            "local, sys.exit": "main(); ", "global": "globals()['file'] = make()", "cycle": "a = [make()]; a.append(a)",
            "class": "class Keeper: file = make()", "attribute of a module": "import json; json.file = make()",
            "exception": "fail()",
        }  # fmt: skip
        for where, statement in places.items():
            self.server.put("file")
            done = self.run_python(f"""
                import sys, remofile
                def make():
                    file = remofile.open(sys.argv[1] + "file", "w")
                    file.write("written")
                    return file
                def main():
                    file = make()
                    sys.exit(0)
                def fail():
                    file = make()
                    raise KeyError
                {statement}
                """, self.server.source())  # fmt: skip
            self.assertEqual(self.server.content("file"), b"written", (where, done.stderr))
            self.assertNotIn("ignored", done.stderr, where)

    def test_in_a_cycle_and_with_daemon_threads(self):
        self.server.put("file", bytes(3_000_000))
        done = self.run_python("""
            import sys, threading, remofile
            client = remofile.connect(sys.argv[1])
            cycle = [client, client.open("file", "rb", 0)]
            cycle.append(cycle)
            started = threading.Barrier(4)
            def work():
                file = client.open("file", "rb", 0)
                started.wait()
                while True:
                    file.seek(0)
                    file.read()
            for _ in range(3):
                threading.Thread(target=work, daemon=True).start()
            started.wait()
            """, self.server.source())  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_sys_exit_and_exceptions(self):
        for last, status in [("sys.exit(7)", 7), ("raise KeyError", 1), ("os._exit(3)", 3), ("os.kill(os.getpid(), 15)", -15)]:
            done = self.run_python(f"""
                import os, sys, remofile
                client = remofile.connect(sys.argv[1])
                file = client.open("file", "w")
                {last}
                """, self.server.source())  # fmt: skip
            self.assertEqual(done.returncode, status, done.stderr)


class SourcesTest(ProcessTest):
    @staticmethod
    def in_the_sources(*names):
        return os.path.join(os.environ["SOURCES"], *names)

    def test_all_of_the_package_is_installed(self):
        with open(self.in_the_sources("python", "meson.build"), encoding="utf-8") as recipe:
            installed = set(re.findall(r"'remofile/(\w+\.\w+)'", recipe.read()))
        present = {entry.name for entry in os.scandir(self.in_the_sources("python", "remofile")) if entry.is_file()}
        self.assertEqual(installed, present)

    def test_what_the_document_shows(self):
        with open(self.in_the_sources("docs", "LIBRARY.md"), encoding="utf-8") as document:
            programs = re.findall(r"^```python\n(.*?)^```", document.read(), re.M | re.S)
        self.assertEqual(len(programs), 2)
        os.makedirs(self.server.path("notes"))
        self.server.put("notes/today.txt", "first\nsecond, ü\n".encode())
        for program in programs:
            self.assertIn("localhost:/", program)
            self.server.put("notes/old.log", b"x")
            printed = self.assert_runs("from __future__ import annotations\n" + program.replace("localhost:/", self.server.source()))
            self.assertTrue(printed)

    def test_cat(self):
        self.server.put("first", b"one\r\n\xff")
        self.server.put("second", bytes(3_000_000))
        program = self.in_the_sources("examples", "cat.py")
        sources = [self.server.source("/" + name) for name in ("first", "second")]
        done = subprocess.run([sys.executable, program, *sources], stdout=subprocess.PIPE, timeout=PATIENCE_S, check=True)
        self.assertEqual(done.stdout, b"one\r\n\xff" + bytes(3_000_000))
        done = subprocess.run([sys.executable, program, sources[0] + "x"], capture_output=True, timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"FileNotFoundError: [Errno 2]", done.stderr)


if __name__ == "__main__":
    unittest.main()
