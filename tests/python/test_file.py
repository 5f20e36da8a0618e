#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""File objects of the Python package: each does what the one that io.open() returns for a local file does."""

import codecs
import copy
import csv
import gc
import gzip
import io
import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import tarfile
import unittest
import warnings
import zipfile

import remofile
from served import ServedTest, outcome

LINES = "first\nsecond\r\nthird\rfo\u00fcrth \u20ac\n\nlast without an end"
MODES = ["r", "w", "x", "a", "r+", "w+", "x+", "a+"]


class FileTest(ServedTest):
    def compare(self, script, mode, content=b"", present=True, **more):
        """Runs a script on a local file and a remote one, compares what it returns, and what is in the files then."""
        if present:
            self.put_both("file", content)
        results = []
        for open_it in (lambda: open(self.local_path("file"), mode, **more), lambda: self.client.open("file", mode, **more)):
            try:
                with open_it() as file:
                    results.append(script(file))
            except Exception as error:
                results.append((type(error), getattr(error, "errno", None)))
        message = f"mode {mode!r}, {more}"
        self.assertEqual(results[0], results[1], message)
        if os.path.exists(self.local_path("file")):
            self.assert_same_content("file", message)
            os.unlink(self.local_path("file"))
            os.unlink(self.server.path("file"))
        else:
            self.assertFalse(os.path.exists(self.server.path("file")), message)
        return results[0]


class OpenTest(FileTest):
    def test_every_mode_is_taken_or_refused_as_by_io(self):
        letters = ["", "r", "w", "x", "a", "+", "b", "t", "U"]
        modes = {a + b + c + d for a in letters for b in letters for c in letters for d in ["", "+", "b"]}
        for mode in sorted(modes | {"r b", "R", "r\0"}):
            for present in (False, True):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self.compare(self.what_it_is, mode, b"some content\n", present)

    @staticmethod
    def what_it_is(file):
        """The kinds of the object's layers, and what each can do."""
        found = []
        while file is not None:
            kind = next(kind.__name__ for kind in type(file).__mro__ if kind.__module__ in ("io", "_io"))
            found.append("FileIO" if kind == "RawIOBase" else kind)
            found += [file.readable(), file.writable(), file.seekable(), file.isatty(), file.closed]
            found += [file.tell(), outcome(lambda: file.mode), os.path.basename(file.name)]
            file = getattr(file, "buffer", None) or getattr(file, "raw", None)
        return found

    def test_arguments_that_make_no_sense(self):
        self.put_both("file", b"content")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            for arguments in [
                {"mode": "rb", "encoding": "utf-8"}, {"mode": "rb", "errors": "strict"}, {"mode": "rb", "newline": ""},
                {"mode": "r", "buffering": 0}, {"mode": "rb", "buffering": 0}, {"mode": "rb", "buffering": 1},
                {"mode": "r", "buffering": 1}, {"mode": "r", "buffering": -5}, {"mode": "rb", "buffering": 17},
                {"mode": "r", "newline": "x"}, {"mode": "r", "encoding": "no such"}, {"mode": "r", "errors": 3},
                {"mode": 3}, {"mode": "r", "buffering": "1"}, {"mode": "r", "encoding": b"utf-8"},
                {"mode": "r", "newline": b"\n"}, {"mode": None}, {"mode": "r", "encoding": "utf\0"},
                {"mode": "r", "errors": "no such"}, {"mode": "rb", "buffering": 2**70},
            ]:  # fmt: skip
                self.compare(self.what_it_is, present=True, content=b"content", **arguments)

    def test_names_that_make_no_sense(self):
        os.mkdir(self.local_path("directory"))
        os.mkdir(self.server.path("directory"))
        self.put_both("file")
        for name in ["missing", "missing/below", "file/below", "directory", "", "nu\0ll", "x" * 256, "x/" * 2500]:
            for mode in ["r", "w", "x", "a", "r+"]:
                local = os.path.join(self.local, name) if name else name
                results = [
                    outcome(lambda: open_it(path, mode).close())
                    for open_it, path in [(open, local), (self.client.open, name)]
                ]
                self.assertEqual(*results, (name[:20], mode))
                for path in (local, self.server.path("missing")):
                    if name == "missing" and os.path.exists(path):
                        os.unlink(path)
        self.assertRaises(TypeError, self.client.open, 3.5)
        self.assertRaises(TypeError, self.client.open, None)

    def test_an_error_has_all_that_io_says(self):
        with self.assertRaises(FileNotFoundError) as caught:
            self.client.open("missing")
        self.assertEqual((caught.exception.filename, caught.exception.strerror), ("missing", os.strerror(2)))

    def test_a_warning_names_the_callers_line(self):
        self.put_both("file")
        with self.assertWarns(RuntimeWarning) as caught:
            self.client.open("file", "rb", 1).close()
        self.assertEqual(caught.filename, __file__)
        with self.assertWarns(RuntimeWarning) as caught:
            self.client.path("file").open("rb", 1).close()
        self.assertEqual(caught.filename, __file__)

    def test_a_missing_encoding_is_warned_of_at_the_callers_line_if_python_is_told_to(self):
        program = """if True:
            import sys, remofile
            remofile.open(sys.argv[1]).close()
            remofile.RemofilePath(sys.argv[1]).open().close()
            remofile.RemofilePath(sys.argv[1]).read_text()
            remofile.open(sys.argv[1], encoding="utf-8").close()
            """
        self.server.put("file")
        command = [sys.executable, "-X", "warn_default_encoding", "-c", program, self.server.source("/file")]
        warned = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        self.assertEqual(re.findall(r"<string>:(\d): EncodingWarning", warned), ["3", "4", "5"], warned)

    def test_new_files_have_the_mode_that_the_umask_leaves(self):
        before = os.umask(0o027)
        try:
            self.client.open("new", "w").close()
        finally:
            os.umask(before)
        self.assertEqual(os.stat(self.server.path("new")).st_mode & 0o7777, 0o640)

    def test_by_a_source(self):
        self.server.put("file %41", "über\n".encode())
        uri = f"remofile://localhost:{self.server.port}/file%20%2541"
        for source in [self.server.source("/file %41"), uri]:
            with remofile.open(source, encoding="utf-8") as first, remofile.open(source, "rb") as second:
                self.assertEqual((first.read(), second.read()), ("über\n", "über\n".encode()))
                self.assertIs(first.buffer.raw.client, second.raw.client, "one connection for both")
        with remofile.open(self.client.path("file %41"), "rb", 0) as file:
            self.assertIsInstance(file, remofile.RemoteFileIO)
        for source in ["file", "/file", "./a:/b", "http://host/file", "remofile+ipc:///run/socket", "remofile://h/a?b"]:
            self.assertRaises(ValueError, remofile.open, source)
        self.assertRaises(FileNotFoundError, remofile.open, self.server.source("/missing"))
        self.assertRaises(TypeError, remofile.open, self.client.path("file %41"), insecure=True)


class RawTest(FileTest):
    def test_reads_and_positions(self):
        def script(file):
            small, large = bytearray(3), bytearray(50)
            return [
                file.read(2), file.tell(), file.readinto(small), bytes(small), file.read(0), file.seek(-4, os.SEEK_END),
                file.readinto(memoryview(large)[5:7]), bytes(large[:9]), file.read(), file.read(), file.read(5),
                file.readinto(large), file.seek(1), file.read(None), file.seek(100), file.read(1), file.tell(),
                file.seek(3), file.seek(2, 1), file.readall(), file.seek(0), file.readline(), file.readlines(),
                file.seek(0), list(file), file.seek(0), file.read(10**8),
            ]  # fmt: skip

        self.compare(script, "rb", b"0123456\n89abc\ndef", buffering=0)

    def test_what_is_refused(self):
        data = bytearray(10)
        calls = [
            lambda f: f.read(3.5), lambda f: f.read("3"), lambda f: f.seek(-1), lambda f: f.seek(1.0),
            lambda f: f.seek(0, 99), lambda f: f.seek(0, -1), lambda f: f.seek(2**63), lambda f: f.seek(-(2**70)),
            lambda f: f.seek("0"), lambda f: f.truncate(-1), lambda f: f.truncate(1.5), lambda f: f.readinto(b"const"),
            lambda f: f.readinto("text"), lambda f: f.readinto(memoryview(data)[::2]), lambda f: f.write("text"),
            lambda f: f.write(memoryview(b"0123")[::2]), lambda f: f.write(3), lambda f: f.write(None),
            lambda f: f.truncate(2**63), lambda f: f.seek(-100, 2), lambda f: f.seek(-1, 1), lambda f: f.read(1),
            lambda f: f.write(b"x"), lambda f: f.truncate(), lambda f: f.truncate(3),
            lambda f: f.writelines([b"a", "b"]), lambda f: f.detach(), lambda f: f.flush(),
        ]  # fmt: skip
        for mode in ["rb", "wb", "ab", "rb+"]:
            for call in calls:
                self.compare(lambda file: (outcome(call, file), file.tell()), mode, b"some content", buffering=0)
        with self.client.open("file", "wb", 0) as file:
            self.assertRaises(io.UnsupportedOperation, file.readall)  # io.FileIO says EBADF

    def test_writes_and_truncation(self):
        def script(file):
            return [
                file.write(b"abc"), file.tell(), file.write(bytearray(b"def")), file.write(memoryview(b"ghi")[1:]),
                file.write(b""), file.seek(20), file.write(b"end"), file.tell(), file.truncate(2), file.tell(),
                file.write(b"!"), file.truncate(), file.tell(), file.truncate(40), file.tell(), file.seek(0, 2),
            ]  # fmt: skip

        for mode in ["wb", "rb+", "ab", "ab+", "wb+"]:
            self.compare(script, mode, b"what was there before", buffering=0)

    def test_appending_goes_to_the_end_wherever_it_is(self):
        self.server.put("file", b"one ")
        with self.client.open("file", "ab", 0) as file:
            self.assertEqual(file.tell(), 4)
            with open(self.server.path("file"), "ab") as other:
                other.write(b"two ")
            file.seek(0)
            file.write(b"three")
            self.assertEqual(file.tell(), 13)
        self.assertEqual(self.server.content("file"), b"one two three")

    def test_large_reads_and_writes(self):
        data = random.Random(1).randbytes(9_500_001)
        with self.client.open("large", "wb", 0) as file:
            self.assertEqual(file.write(data), len(data))
        self.assertEqual(self.server.content("large"), data)
        with self.client.open("large", "rb", 0) as file:
            self.assertEqual(file.read(), data)
            file.seek(1)
            into = bytearray(len(data) + 5)
            self.assertEqual(file.readinto(into), len(data) - 1)
            self.assertEqual(into, data[1:] + bytes(6))

    def test_memory_is_used_in_place(self):
        """What readinto() fills and write() sends is held as long as the call lasts, and no longer."""
        self.server.put("file", b"0123456789")
        data = bytearray(4)
        with self.client.open("file", "rb+", 0) as file:
            file.readinto(data)
            data.extend(b"free to grow")
            self.assertRaises(TypeError, file.readinto, b"fixed")
            file.write(data)
            data.clear()

    def test_a_call_within_a_call_is_refused(self):
        """As a signal's handler or a finalizer makes it; waiting would be for ever."""
        with self.client.open("file", "wb+", 0) as file:
            with file._lock:
                for call in (file.read, file.tell, lambda: file.write(b"x"), lambda: file.seek(0)):
                    self.assertRaises(RuntimeError, call)
            file.write(b"goes on")

    def test_of_a_directory_and_of_nothing(self):
        for mode in ["rw", "", "b", "rr", "r++", "q", "rU"]:
            self.assertRaises(ValueError, remofile.RemoteFileIO, self.client, "file", mode)
        os.mkdir(self.server.path("directory"))
        self.assertRaises(IsADirectoryError, remofile.RemoteFileIO, self.client, "directory")

    def test_sync_and_stat(self):
        with self.client.open("file", "wb", 0) as file:
            file.write(b"12345")
            file.sync()
            self.assertEqual(file.stat().st_size, 5)
        self.assertRaises(ValueError, file.sync)
        self.assertRaises(ValueError, file.stat)


class ClosedTest(FileTest):
    CALLS = ["read", "readline", "readlines", "tell", "flush", "truncate", "fileno", "isatty", "readable", "writable",
             "seekable", "__iter__", "__next__", "__enter__", "readall", "readinto", "read1", "peek", "detach"]  # fmt: skip

    def test_all_calls_on_a_closed_file(self):
        def script(file):
            file.close()
            file.close()
            calls = [outcome(lambda name=name: getattr(file, name)()) for name in self.CALLS]
            return [file.closed, *calls, outcome(file.write, b"x"), outcome(file.write, "x"), outcome(file.seek, 0)]

        for mode in ["r", "w", "rb", "wb", "rb+", "a+"]:
            for buffering in [-1, 0] if "b" in mode else [-1]:
                self.compare(script, mode, b"content", buffering=buffering)

    def test_closing_is_passed_down(self):
        file = self.client.open("file", "w")
        buffer, raw = file.buffer, file.buffer.raw
        file.write("kept back until now")
        self.assertEqual(self.server.content("file"), b"")
        file.close()
        self.assertEqual((buffer.closed, raw.closed), (True, True))
        self.assertEqual(self.server.content("file"), b"kept back until now")
        self.assertIn("[closed]", repr(raw))

    def test_a_with_statement_closes_whatever_happens(self):
        with self.assertRaises(KeyError):
            with self.client.open("file", "wb") as file:
                file.write(b"written")
                raise KeyError
        self.assertTrue(file.closed)
        self.assertEqual(self.server.content("file"), b"written")

    def test_there_is_no_descriptor(self):
        self.server.put("file")
        for mode, buffering in [("r", -1), ("rb", -1), ("rb", 0)]:
            with self.client.open("file", mode, buffering) as file:
                self.assertRaises(io.UnsupportedOperation, file.fileno)
                self.assertFalse(file.isatty())

    def test_pickle_and_copy_are_refused(self):
        self.server.put("file")
        for mode, buffering in [("r", -1), ("rb", -1), ("rb", 0), ("rb+", -1), ("wb", -1)]:
            with self.client.open("file", mode, buffering) as file:
                for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                    self.assertRaises(TypeError, pickle.dumps, file, protocol)
                self.assertRaises(TypeError, copy.copy, file)
                self.assertRaises(TypeError, copy.deepcopy, file)

    def test_a_file_left_open_is_warned_of_and_written(self):
        for mode, buffering, data in [("w", -1, "text"), ("wb", -1, b"text"), ("wb", 0, b"text"), ("rb+", -1, b"text")]:
            self.server.put("file")
            file = self.client.open("file", mode, buffering)
            file.write(data)
            kind = type(file).__name__
            with self.assertWarns(ResourceWarning) as caught:
                del file
                gc.collect()
            self.assertIn(kind, str(caught.warning))
            self.assertEqual(self.server.content("file"), b"text")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with self.client.open("file") as file:
                pass
            del file
            gc.collect()

    def test_what_cannot_be_written_any_more_is_told_by_close(self):
        client = remofile.connect(self.server.source())
        for mode, buffering, data in [("w", -1, "lost"), ("wb", -1, b"lost"), ("wb", 0, None)]:
            file = client.open("file", mode, buffering)
            if data:
                file.write(data)
            client.close()
            with self.assertRaises(BrokenPipeError) as caught:
                file.close()
            self.assertEqual(caught.exception.filename, "file")
            self.assertTrue(file.closed)
            client = remofile.connect(self.server.source())
        file = client.open("file", "rb")
        client.close()
        file.close()  # has nothing to lose
        self.assertRaises(ValueError, client.open, "file")


class TextTest(FileTest):
    def test_newlines(self):
        def reading(file):
            lines = [file.readline(), file.readline(3), file.readlines(7), file.newlines, file.read(2), list(file)]
            return [lines, file.newlines, file.read()]

        def writing(file):
            return [file.write("a\nb\r\nc\rd"), file.writelines(["e\n", "f"]), file.flush(), file.tell()]

        for newline in [None, "", "\n", "\r", "\r\n"]:
            self.compare(reading, "r", LINES.encode(), encoding="utf-8", newline=newline)
            self.compare(writing, "w", newline=newline)
            self.compare(writing, "a", LINES.encode(), newline=newline)

    def test_encodings(self):
        text = LINES * 3
        for encoding in ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "ascii", "cp1252", "utf-7"]:
            for errors in [None, "strict", "ignore", "replace", "surrogateescape", "backslashreplace"]:
                content = text.encode(encoding, "ignore")
                for data in [content, content + b"\xff\xfe\x80", content[: len(content) // 2]]:
                    self.compare(lambda file: file.read(), "r", data, encoding=encoding, errors=errors)
                    self.compare(lambda file: [file.read(1), file.readline(), file.read(5)], "r", data,
                                 encoding=encoding, errors=errors)  # fmt: skip
                self.compare(lambda file: file.write(text), "w", encoding=encoding, errors=errors)
                self.compare(lambda file: file.write(text), "a", content, encoding=encoding, errors=errors)
                self.compare(lambda file: (file.encoding, file.errors), "w", encoding=encoding, errors=errors)

    def test_bom_is_written_once(self):
        for _ in range(2):
            with self.client.open("file", "a", encoding="utf-16") as file:
                file.write("x")
        self.assertEqual(self.server.content("file").count(codecs.BOM_UTF16), 1)

    def test_tell_and_seek(self):
        """A place that tell() named is found again, also when it is within a character's or line's bytes."""
        for encoding in ["utf-8", "utf-16", "utf-8-sig"]:
            self.server.put("file", (LINES * 4).encode(encoding))
            with self.client.open("file", encoding=encoding) as file:
                places = []
                while True:
                    place = file.tell()
                    text = file.read(3)
                    if not text:
                        break
                    places.append((place, text))
                random.Random(7).shuffle(places)
                for place, text in places:
                    file.seek(place)
                    self.assertEqual(file.read(3), text)
                self.assertRaises(io.UnsupportedOperation, file.seek, 5, 1)
                next(file)
                self.assertRaises(OSError, file.tell)

    def test_line_buffering(self):
        with self.client.open("file", "w", 1) as file:
            self.assertTrue(file.line_buffering)
            file.write("a line\nand")
            self.assertEqual(self.server.content("file"), b"a line\nand")
            file.reconfigure(line_buffering=False)
            file.write(" more\n")
            self.assertEqual(self.server.content("file"), b"a line\nand")

    def test_text_is_read_through_the_buffer(self):
        self.server.put("file", b"one line of text\n" * 200_000)
        counted = self.client.open("file")
        reads = []
        inner = counted.buffer.raw.readinto
        counted.buffer.raw.readinto = lambda buffer: reads.append(len(buffer)) or inner(buffer)
        with counted as file:
            self.assertEqual(sum(1 for _ in file), 200_000)
        self.assertLess(len(reads), 10, "a round trip for every few lines")

    def test_reading_in_sequence_asks_for_more_each_time(self):
        data = random.Random(3).randbytes(40 << 20)
        self.server.put("file", data)
        with self.client.open("file", "rb") as file:
            sizes = []
            inner = file.raw.readinto
            file.raw.readinto = lambda buffer: sizes.append(inner(buffer)) or sizes[-1]
            self.assertEqual(b"".join(iter(lambda: file.read(1 << 16), b"")), data)
            self.assertEqual(sizes[:3], [128 << 10, 256 << 10, 512 << 10])
            self.assertEqual(max(sizes), 8 << 20)
            file.seek(20 << 20)
            self.assertEqual(file.read(10), data[20 << 20 :][:10])
            self.assertEqual(sizes[-1], 128 << 10)


class RandomOperationsTest(FileTest):
    """Random sequences, a local file being the model."""

    SEED = int(os.environ.get("REMOFILE_TEST_SEED") or random.randrange(2**32))
    SEQUENCES = int(os.environ.get("REMOFILE_TEST_SEQUENCES") or 24)

    def run_with(self, number, make_step, mode, content, steps, **more):
        message = f"REMOFILE_TEST_SEED={self.SEED}, sequence {number}, mode {mode}, {more}"
        self.put_both("file", content)
        choices = random.Random(f"{self.SEED} {number}")
        # Where a file is after appending depends on when its buffer is written out.
        size = {"buffering": remofile.BUFFER_BYTES} if "b" in mode and more["buffering"] == -1 else {}
        local = open(self.local_path("file"), mode, **{**more, **size})
        remote = self.client.open("file", mode, **more)
        done = []
        with local, remote:
            for _ in range(steps):
                description, step = make_step(choices)
                done.append(description)
                self.assertEqual(outcome(step, local), outcome(step, remote), f"{message}: {done}")
        self.assert_same_content("file", f"{message}: {done}")

    @staticmethod
    def binary_step(choices):
        size, place = choices.choice([0, 1, 7, 100, 5000, 70_000]), choices.randrange(20_000)
        data = choices.randbytes(choices.choice([0, 1, 3, 90, 4000, 9000]))

        def readinto(file):
            into = bytearray(size)
            return file.readinto(into), bytes(into)

        return choices.choice([
            (f"read({size})", lambda file: file.read(size)),
            (f"readinto({size})", readinto),
            (f"readline({size})", lambda file: file.readline(size)),
            (f"write of {len(data)}", lambda file: file.write(data)),
            (f"seek({place})", lambda file: file.seek(place)),
            (f"seek({place} - 10000, 1)", lambda file: file.seek(place - 10_000, 1)),
            (f"seek(-{place} // 2, 2)", lambda file: file.seek(-place // 2, 2)),
            ("tell()", lambda file: file.tell()),
            (f"truncate({place})", lambda file: file.truncate(place)),
            ("truncate()", lambda file: file.truncate()),
            ("flush()", lambda file: file.flush()),
            ("read()", lambda file: file.read()),
        ])  # fmt: skip

    @staticmethod
    def text_step(choices):
        size = choices.choice([0, 1, 7, 100, 5000])
        text = "".join(choices.choice("ab\n\r\u00fc\u20ac\U0001f600") for _ in range(choices.choice([0, 1, 5, 300])))

        # io forgets what it wrote last if it is to read at once.
        def settled(read):
            def step(file):
                file.seek(file.tell())
                return read(file)

            return step

        @settled
        def there_and_back(file):
            # How a place is written is a matter of each file; what is there is not.
            place = file.tell()
            found = file.read(size)
            file.seek(place)
            return found

        return choices.choice([
            (f"read({size})", settled(lambda file: file.read(size))),
            ("readline()", settled(lambda file: file.readline())),
            (f"write({text!r})", lambda file: file.write(text)),
            ("seek(0)", lambda file: file.seek(0)),
            ("seek(0, 2)", lambda file: file.seek(0, 2) is not None),
            (f"read({size}) and back", there_and_back),
            ("flush()", lambda file: file.flush()),
        ])  # fmt: skip

    def test_binary(self):
        print("seed", self.SEED)
        modes = ["rb", "rb+", "wb", "wb+", "ab", "ab+"]
        content = random.Random(self.SEED).randbytes(12_000)
        for number in range(self.SEQUENCES):
            buffering = [-1, 0, 64, 8192][number // 6 % 4]
            self.run_with(number, self.binary_step, modes[number % len(modes)], content, 40, buffering=buffering)

    def test_text(self):
        print("seed", self.SEED)
        modes = ["r", "r+", "w", "w+", "a", "a+"]
        for number in range(self.SEQUENCES):
            encoding = ["utf-8", "utf-16", "utf-8-sig", "utf-32-be", "utf-8"][number // 6 % 5]
            newline = [None, "", "\n", "\r\n", "\r"][number % 5]
            self.run_with(
                number, self.text_step, modes[number % len(modes)], (LINES * 40).encode(encoding), 40,
                encoding=encoding, newline=newline,
            )  # fmt: skip


class UsersTest(FileTest):
    """What the standard library does with file objects."""

    def test_zipfile(self):
        with self.client.open("archive.zip", "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(20):
                archive.writestr(f"{number}.txt", f"{number} " * 5000)
        with zipfile.ZipFile(self.server.path("archive.zip")) as archive:
            self.assertIsNone(archive.testzip())
        with self.client.open("archive.zip", "rb+") as file, zipfile.ZipFile(file, "a") as archive:
            archive.writestr("one more", "text")
        with self.client.open("archive.zip", "rb") as file, zipfile.ZipFile(file) as archive:
            self.assertIsNone(archive.testzip())
            self.assertEqual((len(archive.namelist()), archive.read("7.txt")), (21, b"7 " * 5000))

    def test_tarfile(self):
        for compression in ["", "gz", "xz"]:
            with self.client.open("archive.tar", "wb+") as file:
                with tarfile.open(fileobj=file, mode=f"w:{compression}") as archive:
                    archive.add(__file__, "test")
                    member = tarfile.TarInfo("large")
                    member.size = 3_000_000
                    archive.addfile(member, io.BytesIO(bytes(3_000_000)))
                file.seek(0)
                with tarfile.open(fileobj=file) as archive, open(__file__, "rb") as this:
                    self.assertEqual(archive.getnames(), ["test", "large"])
                    self.assertEqual(archive.extractfile("test").read(), this.read())

    def test_csv_json_gzip_and_copyfileobj(self):
        rows = [["a", "b,c", 'd "e"'], ["1", "two\nlines", "ü"]] * 50
        with self.client.open("table.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        with self.client.open("table.csv", newline="", encoding="utf-8") as file:
            self.assertEqual(list(csv.reader(file)), rows)
        with self.client.open("data.json", "w") as file:
            json.dump({"rows": rows}, file)
        with self.client.open("data.json") as file:
            self.assertEqual(json.load(file), {"rows": rows})
        with self.client.open("data.gz", "wb") as file, gzip.open(file, "wb") as packed:
            packed.write(b"packed" * 100_000)
        with self.client.open("data.gz", "rb") as file, gzip.open(file) as packed:
            self.assertEqual(packed.read(), b"packed" * 100_000)
        data = random.Random(2).randbytes(3_000_000)
        with self.client.open("copy", "wb") as file:
            shutil.copyfileobj(io.BytesIO(data), file)
        with self.client.open("copy", "rb") as file, io.BytesIO() as back:
            shutil.copyfileobj(file, back)
            self.assertEqual(back.getvalue(), data)

    def test_a_wrapper_of_ones_own(self):
        self.server.put("file", LINES.encode())
        raw = self.client.open("file", "rb", 0)
        with io.TextIOWrapper(io.BufferedReader(raw, 16), encoding="utf-8", newline="") as file:
            self.assertEqual(file.read(), LINES)
        self.assertTrue(raw.closed)


if __name__ == "__main__":
    unittest.main()
