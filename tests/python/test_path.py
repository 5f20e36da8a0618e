#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""RemofilePath beside pathlib: PurePosixPath for what needs no server, and Path on the server's directory."""

import copy
import itertools
import os
import pathlib
import pickle
import random
import sys
import unittest
from pathlib import PurePosixPath

import remofile
from remofile import RemofilePath
from served import ServedTest, outcome


def as_text(value):
    """The result of a method of a path, with paths as their text, so that those of two kinds can be compared."""
    if isinstance(value, pathlib.PurePath):
        return ("path", str(value))
    if isinstance(value, (tuple, list)):
        return [as_text(one) for one in value]
    return value


class PureTest(ServedTest):
    SEGMENTS = ["", ".", "/", "//a", "///a", "a", "a/b", "a/../b", "/a/b.tar.gz", ".hidden", "a.", "a/./b/", "..", "/..", "x y.é",
                "a/b/c/d"]  # fmt: skip

    def pairs(self):
        for count in (0, 1, 2):
            for segments in itertools.product(self.SEGMENTS, repeat=count):
                yield PurePosixPath(*segments), self.client.path(*segments)

    def test_parts_and_text(self):
        for pure, remote in self.pairs():
            self.assertEqual(str(remote), str(pure))
            self.assertEqual(bytes(remote), bytes(pure))
            for name in ["parts", "drive", "root", "anchor", "name", "suffix", "suffixes", "stem", "parent"]:
                self.assertEqual(as_text(getattr(remote, name)), as_text(getattr(pure, name)), (pure, name))
            self.assertEqual(as_text(list(remote.parents)), as_text(list(pure.parents)))
            self.assertEqual(remote.as_posix(), pure.as_posix())
            self.assertEqual(remote.is_absolute(), pure.is_absolute())

    def test_methods(self):
        calls = [("joinpath", "x", "/y"), ("joinpath",), ("__truediv__", "x"), ("__truediv__", 3), ("with_name", "n"),
                 ("with_name", "n/m"), ("with_name", ""), ("with_stem", "n"), ("with_suffix", ".s"), ("with_suffix", ""),
                 ("with_suffix", "s"), ("relative_to", "a"), ("relative_to", "/"), ("is_relative_to", "/a"),
                 ("match", "*.gz"), ("match", "a/*"), ("match", "/a/*"), ("match", ""), ("__rtruediv__", "r"),
                 ("__rtruediv__", 5)]  # fmt: skip
        if sys.version_info >= (3, 12):
            calls += [("relative_to", "a/b", True), ("with_segments", "a", "b")]
        if sys.version_info >= (3, 13):
            calls += [("full_match", "**/*.gz"), ("full_match", "a/**")]
        for pure, remote in self.pairs():
            for name, *arguments in calls:
                if arguments[-1:] == [True]:
                    more = {"walk_up": arguments.pop()}
                else:
                    more = {}
                mine = outcome(getattr(remote, name), *arguments, **more)
                self.assertEqual(as_text(mine), as_text(outcome(getattr(pure, name), *arguments, **more)), (pure, name))
                if isinstance(mine, pathlib.PurePath):
                    self.assertIs(type(mine), RemofilePath)
                    self.assertIs(mine.client, self.client)

    def test_order_and_equality(self):
        paths = [PurePosixPath(text) for text in self.SEGMENTS]
        remote = [self.client.path(text) for text in self.SEGMENTS]
        for (a, x), (b, y) in itertools.product(zip(paths, remote), repeat=2):
            self.assertEqual((x == y, x < y, x <= y, x > y, x >= y), (a == b, a < b, a <= b, a > b, a >= b))
            self.assertEqual(hash(x) == hash(y), hash(a) == hash(b))
        self.assertNotEqual(remote[5], paths[5])
        self.assertNotEqual(paths[5], remote[5])
        for compare in (lambda: remote[5] < paths[5], lambda: paths[5] < remote[5], lambda: remote[5] >= paths[6]):
            self.assertRaises(TypeError, compare)

    def test_paths_of_different_sources(self):
        os.mkdir(self.server.path("directory"))
        with remofile.connect(self.server.source("/directory")) as other, remofile.connect(self.server.source()) as same:
            mine, theirs = self.client.path("/file"), other.path("/file")
            self.assertNotEqual(mine, theirs)
            self.assertEqual(len({mine, theirs, same.path("/file"), mine / "x" / ".."}), 3)
            self.assertEqual(mine, same.path("/file"))
            self.assertRaises(ValueError, lambda: mine / theirs)
            self.assertRaises(ValueError, mine.joinpath, theirs)
            self.assertRaises(TypeError, lambda: mine < theirs)
            same.path("/file").touch()
            for call in (lambda: mine.rename(theirs), lambda: self.client.stat(theirs), lambda: mine.hardlink_to(theirs)):
                with self.assertRaises(OSError) as caught:
                    call()
                self.assertEqual(caught.exception.errno, 18)  # EXDEV
            self.assertEqual(self.client.stat(same.path("/file")).st_size, 0)
            theirs.touch()
            self.assertFalse(mine.samefile(theirs))
            self.assertEqual(theirs.as_uri(), f"remofile://localhost:{self.server.port}/directory/file")

    def test_made_of_a_source(self):
        name = "a %41 ü?#"
        self.server.put(name, b"x")
        by_client = self.client.path("/", name)
        uri = by_client.as_uri()
        self.assertEqual(uri, f"remofile://localhost:{self.server.port}/a%20%2541%20%C3%BC%3F%23")
        for path in [RemofilePath(uri), RemofilePath(self.server.source("/"), name), RemofilePath(by_client),
                     RemofilePath(f"remofile://localhost:{self.server.port}") / name]:  # fmt: skip
            self.assertEqual(path, by_client)
            self.assertEqual(path.read_bytes(), b"x")
            self.assertEqual(repr(path), f"RemofilePath({uri!r})")
        self.assertIs(RemofilePath(uri).client, path.client)
        for segments in [(), ("file",), ("/file",), (3,), (PurePosixPath("/file"),)]:
            self.assertRaises(TypeError, RemofilePath, *segments)
        local = RemofilePath("remofile+" + self.server.socket())
        self.assertEqual((str(local), [str(path) for path in local.iterdir()]), ("/", ["/" + name]))
        self.assertRaises(ValueError, local.as_uri)
        # With a client, text is a path, whatever it looks like.
        self.assertEqual(str(self.client.path("host:/x")), "host:/x")
        self.assertEqual(str(self.client.path("a") / "host:/x"), "a/host:/x")

    def test_it_is_not_taken_for_a_local_path(self):
        path = self.client.path("/etc/hostname")
        for call in (os.fspath, open, os.stat, os.path.exists, os.listdir):
            self.assertRaises(TypeError, call, path)
        self.assertIsInstance(path, PurePosixPath)

    def test_pickle_is_refused_and_copies_are_the_same(self):
        path = self.client.path("/file")
        self.assertRaises(TypeError, pickle.dumps, path)
        self.assertIs(copy.copy(path), path)
        self.assertIs(copy.deepcopy(path), path)

    def test_subclasses_make_their_own_kind(self):
        class Own(RemofilePath):
            pass

        path = Own("a/b", client=self.client)
        for made in [path.parent, path / "x", "x" / path, path.with_name("c"), path.parents[1], path.absolute()]:
            self.assertIs(type(made), Own)
        self.assertEqual(str(path.absolute()), "/a/b")


class FilesTest(ServedTest):
    def setUp(self):
        super().setUp()
        self.roots = (pathlib.Path(self.local), self.client.path("/"))
        self.make_trees()

    def make_trees(self):
        for root in (pathlib.Path(self.local), pathlib.Path(self.server.files)):
            root.chmod(0o750)
            for directory in ["one", "one/two", "one/two/three", "empty", ".hidden", "One"]:
                (root / directory).mkdir()
            for name in ["a.txt", "one/b.txt", "one/two/c.TXT", "one/two/three/d.py", ".hidden/e.txt", "one/.f", "[x]", "é.txt"]:
                (root / name).write_text(f"content of {name}\n", encoding="utf-8")
            (root / "link").symlink_to("a.txt")
            (root / "to one").symlink_to("one")
            (root / "one/up").symlink_to("../empty")
            (root / "dangling").symlink_to("nowhere")
            (root / "loop").symlink_to("loop")

    def compare(self, function, message=None):
        """What a function of the top directory's path answers, on either side."""
        mine, theirs = (outcome(function, root) for root in self.roots)
        self.assertEqual(theirs, mine, message)
        return mine

    def found(self, root, paths):
        return sorted(str(path.relative_to(root)) for path in paths)

    NAMES = ["a.txt", "one", "link", "to one", "dangling", "loop", "missing", "a.txt/x", "missing/x", "empty", ".", "",
             "to one/two", "one/up", "x" * 300]  # fmt: skip

    def test_questions(self):
        for name in self.NAMES:
            for question in ["exists", "is_dir", "is_file", "is_symlink", "is_fifo", "is_socket", "is_block_device",
                             "is_char_device"]:  # fmt: skip
                self.compare(lambda root: getattr(root / name, question)(), (name, question))
            self.compare(lambda root: (root / name).stat().st_mode, name)
            self.compare(lambda root: (root / name).lstat().st_mode, name)
            self.compare(lambda root: (root / name).stat(follow_symlinks=False).st_mode, name)
            self.compare(lambda root: str((root / name).readlink()), name)
            self.compare(lambda root: (root / name).samefile(root / "a.txt"), name)
            self.compare(lambda root: self.found(root, (root / name).iterdir()), name)
            self.compare(lambda root: (root / name).read_bytes(), name)
        self.assertFalse(self.client.path("nul\0l").exists())
        self.assertFalse(self.client.path("nul\0l").is_dir())
        self.assertTrue(self.client.path("link").exists(follow_symlinks=False))
        self.assertFalse(self.client.path("dangling").exists())
        self.assertTrue(self.client.path("dangling").exists(follow_symlinks=False))
        self.assertTrue(self.client.path("link").samefile("/a.txt"))
        self.assertTrue(self.client.path("one").samefile("/to one"))

    def test_contents(self):
        def script(path):
            return [
                outcome(path.write_text, "text\nü\n", encoding="utf-8"), outcome(path.read_bytes),
                outcome(path.write_text, "a\nb", newline="\r\n"), outcome(path.read_bytes),
                outcome(path.read_text), outcome(path.write_bytes, b"\xff\xfe"), outcome(path.read_text, "utf-8"),
                outcome(path.read_text, "utf-8", "replace"), outcome(path.write_bytes, memoryview(b"view")),
                outcome(path.write_text, b"bytes"), outcome(path.write_bytes, "text"), outcome(path.read_bytes),
                outcome(path.write_text, "ü", "ascii"),
            ]  # fmt: skip

        for name in ["new", "a.txt", "link", "one", "missing/new", "loop"]:
            self.compare(lambda root: script(root / name), name)

        def opened(root):
            with (root / "a.txt").open("r+", 50, "utf-8", "strict", "") as file:
                return type(file).__name__, file.read(), file.write("!"), file.mode, file.encoding, file.errors

        self.compare(opened)

    def test_making_and_removing(self):
        def tree(root):
            return sorted(
                (str(path.relative_to(root)), path.lstat().st_mode) for path in root.rglob("*") if not path.is_symlink()
            )

        calls = [
            lambda path: path.mkdir(), lambda path: path.mkdir(0o700), lambda path: path.mkdir(exist_ok=True),
            lambda path: path.mkdir(parents=True), lambda path: path.mkdir(0o711, True, True),
            lambda path: path.rmdir(), lambda path: path.unlink(), lambda path: path.unlink(missing_ok=True),
            lambda path: path.touch(), lambda path: path.touch(0o600), lambda path: path.touch(exist_ok=False),
            lambda path: path.chmod(0o640), lambda path: path.chmod(0o640, follow_symlinks=True),
            lambda path: path.symlink_to("target"), lambda path: path.symlink_to("one", True),
        ]  # fmt: skip
        for seed in range(6):
            choices = random.Random(seed)
            names = ["a.txt", "one", "link", "dangling", "new", "new/below", "n1/n2/n3", "a.txt/x", "empty", "one/two/three"]
            for step in range(25):
                name, number = choices.choice(names), choices.randrange(len(calls))
                if name == "dangling" and number in (8, 9):
                    continue  # no file is made through a symbolic link: below
                self.compare(lambda root: calls[number](root / name), (seed, step, name, number))
            self.assertEqual(*(tree(root) for root in self.roots), seed)
        self.empty_both()
        self.make_trees()
        self.assertRaises(FileNotFoundError, self.client.path("dangling").touch)
        self.assertRaises(FileNotFoundError, self.client.path("dangling").write_text, "text")

    def test_renaming_and_linking(self):
        names = ["a.txt", "one", "link", "missing", "empty", "one/two", "missing/x"]
        for function in ["rename", "replace", "hardlink_to"]:
            for first, second in itertools.product(names, repeat=2):

                def call(root):
                    result = getattr(root / first, function)(root / second)
                    return result and str(result.relative_to(root))

                self.compare(call, (function, first, second))
                self.compare(lambda root: self.found(root, root.rglob("*")), (function, first, second))
                self.empty_both()
                self.make_trees()
        self.assertEqual(str(self.client.path("/[x]").rename("moved")), "moved")
        self.assertEqual(self.server.content("moved"), b"content of [x]\n")
        self.client.path("further").hardlink_to("moved")
        self.assertEqual(self.client.stat("further").st_nlink, 2)

    PATTERNS = ["*", "*.txt", "**/*.txt", "**/*", "one/*", "*/*", "*/*/*", "one/**/*", "**/two/*", "a.txt", "one/two", "missing",
                "missing/*", "a.txt/*", "[[]x]", "?.txt", "[a-b]*", "*.TXT", "**/.f", ".*", "to one/*", "to*/*", "one/up/*",
                "*/", "one/*/", "a.txt/", "**/two/**/*.py", "**/**/d.py", "**/*/**/*", "./one/./*", "one/../*.txt", "é*",
                "**", "one/**", "**/", "nowhere/**", "**/up"]  # fmt: skip

    def test_glob(self):
        for pattern in self.PATTERNS:
            for base in ["", "one", "to one", "a.txt", "missing"]:
                for function in ("glob", "rglob"):
                    self.compare(
                        lambda root: sorted({str(path.relative_to(root)) for path in getattr(root / base, function)(pattern)}),
                        (function, base, pattern),
                    )
        for pattern in ["", "/x", "//x"]:
            self.compare(lambda root: list(root.glob(pattern)), pattern)
            if pattern:
                self.compare(lambda root: list(root.rglob(pattern)), pattern)

    def test_glob_has_the_options_of_newer_versions(self):
        root = self.client.path("/")
        self.assertEqual(self.found(root, root.glob("ONE", case_sensitive=False)), ["One", "one"])
        self.assertEqual(self.found(root, root.rglob("*.txt", case_sensitive=False)),
                         [".hidden/e.txt", "a.txt", "one/b.txt", "one/two/c.TXT", "é.txt"])  # fmt: skip
        self.client.path("/one/up").unlink()
        self.assertIn("to one/two/c.TXT", self.found(root, root.rglob("c.TXT", recurse_symlinks=True)))
        self.assertEqual(self.found(root, root.glob(PurePosixPath("one") / "b*")), ["one/b.txt"])

    def test_walk(self):
        for top_down, follow in itertools.product((True, False), (True, False)):
            mine = {
                str(path): (sorted(directories), sorted(files))
                for path, directories, files in self.client.path("/").walk(top_down, follow_symlinks=follow)
            }
            theirs = {}
            for path, directories, files in os.walk(self.local, top_down, followlinks=follow):
                if not follow:  # as Path.walk(): what is not entered is no directory
                    links = [name for name in directories if os.path.islink(os.path.join(path, name))]
                    directories, files = [name for name in directories if name not in links], files + links
                theirs[path.removeprefix(self.local) or "/"] = (sorted(directories), sorted(files))
            self.assertEqual(mine, theirs)
        order = [str(path) for path, _, _ in self.client.path("/one").walk(top_down=False)]
        self.assertEqual(order, ["/one/two/three", "/one/two", "/one"])
        visited = []
        for path, directories, _ in self.client.path("/").walk():
            visited.append(str(path))
            directories.clear()
        self.assertEqual(visited, ["/"])
        errors = []
        self.assertEqual(list(self.client.path("/missing").walk(on_error=errors.append)), [])
        self.assertIsInstance(errors[0], FileNotFoundError)
        self.assertEqual(list(self.client.path("/missing").walk()), [])
        if sys.version_info >= (3, 12):
            self.compare(lambda root: sorted(str(path.relative_to(root)) for path, _, _ in root.walk()))

    def test_all_of_pathlibs_interface_that_is_documented(self):
        """What of pathlib.Path is not there is what docs/LIBRARY.md says is not."""
        absent = {"cwd", "home", "expanduser", "owner", "group", "lchmod", "is_mount", "resolve", "is_junction", "link_to",
                  "from_uri", "parser", "copy", "copy_into", "move", "move_into", "info"}  # fmt: skip
        public = {name for name in dir(pathlib.Path) if not name.startswith("_")}
        self.assertEqual({name for name in public if not hasattr(RemofilePath, name)} - absent, set())


if __name__ == "__main__":
    unittest.main()
