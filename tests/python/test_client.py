#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Client and what goes with it: as the module os does on a local directory."""

import errno
import gc
import os
import pathlib
import pickle
import stat
import threading
import unittest
import warnings

import remofile
from served import ServedTest, Server, outcome


class ClientTest(ServedTest):
    def assert_same_outcome(self, local_call, remote_call, message=None):
        """Both take a function that makes a path of a name."""
        results = [
            outcome(local_call, lambda name: os.path.join(self.local, name)),
            outcome(remote_call, lambda name: name),
        ]
        self.assertEqual(*results, message)

    def make_tree(self):
        for base in (self.local, self.server.files):
            os.makedirs(os.path.join(base, "directory/below"))
            with open(os.path.join(base, "file"), "w") as file:
                file.write("content")
            os.symlink("file", os.path.join(base, "link"))
            os.symlink("directory", os.path.join(base, "link to directory"))
            os.symlink("nowhere", os.path.join(base, "dangling"))
            os.symlink("loop", os.path.join(base, "loop"))
            os.link(os.path.join(base, "file"), os.path.join(base, "hard"))


class NamesTest(ClientTest):
    NAMES = ["file", "link", "link to directory", "dangling", "loop", "hard", "directory", "directory/below", "missing",
             "file/below", "missing/below", "link to directory/below", "x" * 256, "nul\0", "n\u00fcl", b"file"]  # fmt: skip

    def for_each_name(self, function):
        """Calls os.FUNCTION(name) and client.FUNCTION(name) on equal trees; `function` is its name and more arguments."""
        for name in self.NAMES:
            self.make_tree()
            results = []
            for module, base in ((os, self.local), (self.client, "/")):
                place = os.path.join(os.fsencode(base) if isinstance(name, bytes) else base, name)
                results.append(outcome(getattr(module, function[0]), place, *function[1:]))
            yield name, results
            self.assertEqual(self.tree(self.local), self.tree(self.server.files), (function, name))
            self.empty_both()

    @staticmethod
    def tree(base):
        found = {}
        for path, directories, files in os.walk(base):
            for name in directories + files:
                full = os.path.join(path, name)
                what = os.lstat(full)
                link = os.readlink(full) if stat.S_ISLNK(what.st_mode) else None
                # A directory's size and number of links are its file system's affair.
                more = (what.st_size, what.st_nlink) if stat.S_ISREG(what.st_mode) else ()
                found[os.path.relpath(full, base)] = (what.st_mode, link, *more)
        return found

    def test_what_changes_one_name(self):
        for function in [("mkdir",), ("mkdir", 0o700), ("rmdir",), ("unlink",), ("remove",), ("chmod", 0o600),
                         ("chmod", 0o1755), ("truncate", 3), ("truncate", 2000), ("truncate", -1),
                         ("utime", (1.5, 2.25)), ("utime",), ("chown", -1, -1)]:  # fmt: skip
            for name, results in self.for_each_name(function):
                self.assertEqual(*results, (function, name))

    def test_readlink_and_listdir(self):
        for name, results in self.for_each_name(("readlink",)):
            self.assertEqual(*results, name)
        for name, results in self.for_each_name(("listdir",)):
            ordered = [sorted(result) if isinstance(result, list) else result for result in results]
            self.assertEqual(*ordered, name)

    def test_stat(self):
        fields = ["st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks", "st_blksize"]
        for function in ("stat", "lstat"):
            for name, results in self.for_each_name((function,)):
                if isinstance(results[0], os.stat_result):
                    mine, theirs = ([getattr(result, field) for field in fields] for result in results)
                    if not stat.S_ISREG(results[0].st_mode):
                        mine, theirs = mine[:1], theirs[:1]
                    self.assertEqual(mine, theirs, name)
                else:
                    self.assertEqual(*results, name)

    def test_stat_of_the_same_file(self):
        self.server.put("file", b"content")
        os.utime(self.server.path("file"), ns=(-1_500_000_001, 10**18 + 123_456_789))
        mine, theirs = self.client.stat("file"), os.stat(self.server.path("file"))
        for field in dir(theirs):
            if field.startswith("st_"):
                self.assertEqual(getattr(mine, field), getattr(theirs, field), field)
        self.assertEqual(mine, theirs)

    def test_times(self):
        self.put_both("file")
        for times in [(0, 0), (1.9, -1.9), (-0.000000001, 1e9 + 0.3), (2**31, 3)]:
            os.utime(self.local_path("file"), times)
            self.client.utime("file", times)
            self.compare_times()
        for ns in [(1, 2), (-1, 10**18 + 1)]:
            os.utime(self.local_path("file"), ns=ns)
            self.client.utime("file", ns=ns)
            self.compare_times()
        self.client.utime("file")
        self.assertGreater(os.stat(self.server.path("file")).st_mtime, 10**9)
        self.assertRaises(ValueError, self.client.utime, "file", (1, 2), ns=(1, 2))

    def compare_times(self):
        found = [os.stat(path) for path in (self.local_path("file"), self.server.path("file"))]
        self.assertEqual(*[(one.st_atime_ns, one.st_mtime_ns) for one in found])

    def test_two_names(self):
        names = ["file", "link", "directory", "missing", "dangling", "directory/below", "missing/below", "hard"]
        for function in ["rename", "replace", "link", "symlink"]:
            for first in names:
                for second in names:
                    self.make_tree()
                    below = first if function == "symlink" else self.local_path(first)
                    results = [
                        outcome(getattr(os, function), below, self.local_path(second)),
                        outcome(getattr(self.client, function), first, second),
                    ]
                    self.assertEqual(*results, (function, first, second))
                    self.assertEqual(self.tree(self.local), self.tree(self.server.files), (function, first, second))
                    self.empty_both()

    def test_errors_name_both_files(self):
        with self.assertRaises(FileNotFoundError) as caught:
            self.client.rename("missing", "other")
        error = caught.exception
        self.assertEqual((error.errno, error.filename, error.filename2), (errno.ENOENT, "missing", "other"))
        self.assertEqual(error.strerror, os.strerror(errno.ENOENT))

    def test_kinds_of_paths(self):
        self.server.put("file", b"content")
        for path in ["file", "/file", b"file", pathlib.PurePosixPath("/file"), self.client.path("file"), "./x/../file"]:
            self.assertEqual(self.client.stat(path).st_size, 7, path)
        for path in [3, None, 2.5, ["file"]]:
            self.assertRaises(TypeError, self.client.stat, path)
        self.assertRaises(FileNotFoundError, self.client.stat, "")
        self.assertRaises(FileNotFoundError, self.client.listdir, "")
        self.assertRaises(ValueError, self.client.stat, "fi\0le")
        self.assertEqual(self.client.listdir(b"/"), [b"file"])

    def test_names_that_are_no_text(self):
        self.server.put(b"caf\xe9".decode("utf-8", "surrogateescape"), b"x")
        (name,) = self.client.listdir()
        self.assertEqual(os.fsencode(name), b"caf\xe9")
        self.assertEqual(self.client.stat(name).st_size, 1)
        with self.client.open(b"caf\xe9", "rb") as file:
            self.assertEqual((file.read(), file.name), (b"x", b"caf\xe9"))

    def test_statvfs(self):
        mine, theirs = self.client.statvfs("/"), os.statvfs(self.server.files)
        for field in ["f_bsize", "f_frsize", "f_blocks", "f_files", "f_namemax"]:
            self.assertEqual(getattr(mine, field), getattr(theirs, field), field)

    def test_chown(self):
        self.server.put("file")
        if os.geteuid() == 0:
            self.client.chown("file", 12, -1)
            found = os.stat(self.server.path("file"))
            self.assertEqual((found.st_uid, found.st_gid), (12, os.getegid()))
        self.assertRaises(OverflowError, self.client.chown, "file", -2, 0)


class ScandirTest(ClientTest):
    def test_entries(self):
        self.make_tree()
        with self.client.scandir("/") as mine, os.scandir(self.local) as theirs:
            mine, theirs = (sorted(entries, key=lambda entry: entry.name) for entries in (mine, theirs))
        calls = [
            lambda entry: entry.name, lambda entry: entry.is_symlink(),
            lambda entry: entry.is_dir(), lambda entry: entry.is_dir(follow_symlinks=False),
            lambda entry: entry.is_file(), lambda entry: entry.is_file(follow_symlinks=False),
            lambda entry: entry.stat().st_mode, lambda entry: entry.stat(follow_symlinks=False).st_mode,
        ]  # fmt: skip
        for mine_entry, theirs_entry in zip(mine, theirs, strict=True):
            for call in calls:
                self.assertEqual(outcome(call, mine_entry), outcome(call, theirs_entry), theirs_entry.name)
        self.assertEqual(mine[0].path, "/dangling")
        self.assertEqual(mine[3].inode(), os.stat(self.server.path(mine[3].name)).st_ino)

    def test_many(self):
        names = {f"a name of some length, number {number}" for number in range(3000)}
        for name in names:
            self.server.put(name)
        self.assertEqual(set(self.client.listdir()), names)

    def test_end_and_closing(self):
        self.server.put("file")
        entries = self.client.scandir("/")
        self.assertEqual(next(entries).name, "file")
        self.assertRaises(StopIteration, next, entries)
        self.assertRaises(StopIteration, next, entries)
        entries.close()
        with self.client.scandir("/") as entries:
            pass
        self.assertRaises(StopIteration, next, entries)
        entries = self.client.scandir("/")
        with self.assertWarns(ResourceWarning):
            del entries
            gc.collect()
        for path in ["missing", "file"]:
            self.assertRaises((FileNotFoundError, NotADirectoryError), self.client.scandir, path)


class SessionTest(ClientTest):
    def test_sources(self):
        os.mkdir(self.server.path("directory"))
        self.server.put("directory/file", b"content")
        port = self.server.port
        for source, path in [
            (f"localhost:{port}:/", "/directory/file"), (f"localhost:{port}:/directory", "file"),
            (f"remofile://localhost:{port}/directory/", "/file"), (f"remofile://LOCALHOST:{port}", "directory/file"),
            ("remofile+" + self.server.socket(), "directory/file"),
        ]:  # fmt: skip
            with remofile.connect(source) as client:
                self.assertEqual(client.stat(path).st_size, 7)
        for source in ["", "file", "/file", "localhost", "http://host/", "host:/\0"]:
            self.assertRaises(ValueError, remofile.connect, source)
        with self.assertRaises(FileNotFoundError):
            remofile.connect(self.server.source("/missing"))
        with self.assertRaises(NotADirectoryError):
            remofile.connect(self.server.source("/directory/file"))

    def test_one_uri_for_all_spellings(self):
        sources = [f"LocalHost:{self.server.port}:/", f"remofile://localhost:{self.server.port}"]
        uris = set()
        for source in sources:
            with remofile.connect(source) as client:
                uris.add(client.uri)
        self.assertEqual(uris, {self.client.uri})

    def test_options(self):
        source = self.server.source()
        for options in [{"timeout": 0}, {"timeout": -1}, {"compression": 13}, {"compression": -1}, {"token": "a\0b"}]:
            self.assertRaises(ValueError, remofile.connect, source, **options)
        self.assertRaises(TypeError, remofile.connect, source, colour="red")
        for compression in [None, 0, 3]:
            with remofile.connect(source, compression=compression, timeout=20.5) as client:
                with client.open("text", "w") as file:
                    file.write("text " * 100_000)
                with client.open("text") as file:
                    self.assertEqual(len(file.read()), 500_000)
        with remofile.connect(source, read_only=True) as client:
            with self.assertRaises(OSError) as caught:
                client.mkdir("directory")
            self.assertEqual(caught.exception.errno, errno.EROFS)
            with self.assertRaises(OSError) as caught:
                client.open("new", "w")
            self.assertEqual(caught.exception.errno, errno.EROFS)
        with self.assertRaises(OSError) as caught:
            remofile.connect(source, exclusive=True)
        self.assertEqual(caught.exception.errno, errno.EBUSY)

    def test_nobody_there(self):
        with self.assertRaises(OSError) as caught:
            remofile.connect("remofile+ipc:///nowhere/socket", timeout=0.2)
        self.assertIn(caught.exception.errno, (errno.EHOSTUNREACH, errno.ETIMEDOUT))
        self.assertEqual(caught.exception.filename, "remofile+ipc:///nowhere/socket")
        self.assertNotIn(caught.exception.strerror, ("", os.strerror(caught.exception.errno)))

    def test_closing(self):
        client = remofile.connect(self.server.source())
        self.assertFalse(client.closed)
        self.server.put("file")
        file = client.open("file", "rb", 0)
        entries = client.scandir("/")
        with client:
            pass
        client.close()
        self.assertTrue(client.closed)
        self.assertIn("[closed]", repr(client))
        self.assertRaises(ValueError, client.stat, "/")
        self.assertRaises(ValueError, client.__enter__)
        self.assertRaises(BrokenPipeError, file.read)
        file.close()
        entries.close()

    def test_a_client_left_open_is_warned_of(self):
        client = remofile.connect(self.server.source())
        with self.assertWarns(ResourceWarning):
            del client
            gc.collect()

    def test_a_file_keeps_its_client(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with remofile.open(self.server.source("/file"), "w") as file:
                gc.collect()
                file.write("kept")
        self.assertEqual(self.server.content("file"), b"kept")

    def test_pickle_is_refused(self):
        self.assertRaises(TypeError, pickle.dumps, self.client)

    def test_calls_of_eight_threads(self):
        rounds, failures = 15, []

        def work(number):
            try:
                name = f"of {number}"
                for i in range(rounds):
                    data = bytes([number, i]) * (1000 + 10_000 * i)
                    with self.client.open(name, "wb") as file:
                        file.write(data)
                    with self.client.open(name, "rb") as file:
                        assert file.read() == data
                    assert self.client.stat(name).st_size == len(data)
                    assert name in self.client.listdir()
                    try:
                        self.client.stat(f"missing {number}")
                    except FileNotFoundError as error:
                        assert error.filename == f"missing {number}", "errors of other threads"
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def test_threads_share_a_file_and_a_listing(self):
        """Each byte is read once, each entry comes once."""
        for number in range(200):
            self.server.put(f"{number}")
        self.server.put("file", bytes(range(250)) * 40)
        found, names = [], []
        with self.client.open("file", "rb", 0) as file, self.client.scandir("/") as entries:

            def work():
                while part := file.read(50):
                    found.append(part)
                names.extend(entry.name for entry in entries)

            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        parts = [bytes(range(start, start + 50)) for start in range(0, 250, 50)]
        self.assertEqual(sorted(found), sorted(parts * 40))
        self.assertEqual(len(names), 201)
        self.assertEqual(len(set(names)), 201)

    def test_closing_under_other_threads(self):
        """Calls under way end with an error; nothing hangs or crashes."""
        client = remofile.connect(self.server.source())
        self.server.put("file", bytes(100_000))
        started = threading.Barrier(5)
        outcomes = []

        def work():
            file = client.open("file", "rb", 0)
            started.wait()
            try:
                while True:
                    file.seek(0)
                    file.read()
                    client.stat("file")
            except (OSError, ValueError) as error:
                outcomes.append(type(error))
            file.close()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        client.close()
        for thread in threads:
            thread.join()
        self.assertEqual(len(outcomes), 4)
        self.assertTrue(set(outcomes) <= {BrokenPipeError, ValueError}, outcomes)


class LostServerTest(unittest.TestCase):
    def test_a_restarted_server(self):
        """Open files say that they are stale; what is buffered and cannot be written is told by close()."""
        server = Server()
        self.addCleanup(server.close)
        # Its port is another when it comes back; its socket is the same.
        client = remofile.connect("remofile+" + server.socket())
        self.addCleanup(client.close)
        file = client.open("file", "w")
        file.write("never to be seen")
        reader = client.open("file", "rb", 0)
        server.stop()
        server.start()
        with self.assertRaises(OSError) as caught:
            file.close()
        self.assertEqual((caught.exception.errno, caught.exception.filename), (errno.ESTALE, "file"))
        self.assertTrue(file.closed)
        with self.assertRaises(OSError) as caught:
            reader.read()
        self.assertEqual(caught.exception.errno, errno.ESTALE)
        reader.close()  # has nothing to lose
        self.assertEqual(client.stat("file").st_size, 0)
        with client.open("file", "w") as file:
            file.write("again")
        self.assertEqual(server.content("file"), b"again")


if __name__ == "__main__":
    unittest.main()
