# SPDX-License-Identifier: MIT
"""Paths of remote files with pathlib's interface."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from io import text_encoding  # type: ignore[attr-defined]
from pathlib import PurePath, PurePosixPath
from typing import IO, Any, Self

from . import _library
from ._client import Client, shared_client
from ._file import open_stream
from ._glob import is_directory, select
from ._library import lib
from ._source import is_local, is_source, join_uri, split_source

# As pathlib: for these, a file is not there.
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP}

if sys.version_info >= (3, 12):
    _DerivingPath = PurePosixPath
else:

    class _DerivingPath(PurePosixPath):
        """Makes all paths that come of a path by with_segments(), as PurePath does since Python 3.12."""

        __slots__ = ()

        def with_segments(self, *segments: Any) -> Self:
            raise NotImplementedError

        def _pure(self) -> PurePosixPath:
            return PurePosixPath(self)

        def joinpath(self, *others: Any) -> Self:
            return self.with_segments(self, *others)

        def __truediv__(self, other: Any) -> Self:
            try:
                return self.with_segments(self, other)
            except TypeError:
                return NotImplemented

        def __rtruediv__(self, other: Any) -> Self:
            try:
                return self.with_segments(other, self)
            except TypeError:
                return NotImplemented

        @property
        def parent(self) -> Self:
            parent = self._pure().parent
            return self if parent == self._pure() else self.with_segments(parent)

        @property
        def parents(self) -> Sequence[Self]:
            return tuple(self.with_segments(parent) for parent in self._pure().parents)

        def with_name(self, name: str) -> Self:
            return self.with_segments(self._pure().with_name(name))

        def with_stem(self, stem: str) -> Self:
            return self.with_segments(self._pure().with_stem(stem))

        def with_suffix(self, suffix: str) -> Self:
            return self.with_segments(self._pure().with_suffix(suffix))

        def relative_to(self, *other: Any) -> Self:
            return self.with_segments(self._pure().relative_to(*other))


class RemofilePath(_DerivingPath):
    """A path on a server, with the interface of pathlib.Path.

    RemofilePath("host:/notes", "today.txt") connects by itself: paths and files of one server share that connection.
    Client.path() makes paths of a connection that is there already.

    Relative paths begin where absolute ones do, at the top of the client's source; the two are not equal, though. Paths
    of different sources are different, whatever their text. It is no os.PathLike for the local file system: os.fspath()
    and the built-in open() refuse it with a TypeError, rather than to touch a local file of the same name.
    """

    __slots__ = ("_client",)
    _client: Client

    def __new__(cls, *segments: Any, client: Client | None = None) -> RemofilePath:
        of_client, parts = _client_of(segments, client)
        # Before Python 3.12 a path is complete here, and __init__() takes nothing.
        path = super().__new__(cls, *parts)
        path._client = of_client
        return path

    def __init__(self, *segments: Any, client: Client | None = None) -> None:
        if sys.version_info >= (3, 12):
            super().__init__(*_client_of(segments, client)[1])

    def with_segments(self, *segments: Any) -> Self:
        return type(self)(*segments, client=self._client)

    @property
    def client(self) -> Client:
        return self._client

    def _name_for(self, client: Client) -> bytes:
        """Its name for calls of a client."""
        if client.uri != self._client.uri:
            raise OSError(errno.EXDEV, f"the path is one of {self._client.uri}, not of {client.uri}", str(self))
        return bytes(self)

    # ---- what a pure path is

    def __fspath__(self) -> str:
        raise TypeError(f"{self!r} is no path of this machine; use its own functions, or remofile.open()")

    def __bytes__(self) -> bytes:
        return os.fsencode(str(self))

    def __repr__(self) -> str:
        if self.is_absolute() and not is_local(self._client._root) and self._client._base == "/":
            return f"{type(self).__name__}({self.as_uri()!r})"
        return f"{type(self).__name__}({str(self)!r}, client={self._client!r})"

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object: it has a connection")

    def __copy__(self) -> RemofilePath:
        return self

    def __deepcopy__(self, memo: Any) -> RemofilePath:
        return self

    def __hash__(self) -> int:
        return hash((self._client.uri, str(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemofilePath) and self._client.uri == other._client.uri and str(self) == str(other)

    def __lt__(self, other: Any) -> bool:
        return super().__lt__(self._comparable(other))

    def __le__(self, other: Any) -> bool:
        return super().__le__(self._comparable(other))

    def __gt__(self, other: Any) -> bool:
        return super().__gt__(self._comparable(other))

    def __ge__(self, other: Any) -> bool:
        return super().__ge__(self._comparable(other))

    def _comparable(self, other: Any) -> RemofilePath:
        # Not NotImplemented: a pure path on the other side would then compare the text alone.
        if not isinstance(other, RemofilePath) or self._client.uri != other._client.uri:
            raise TypeError(f"{self!r} has no order with {other!r}")
        return other

    def as_uri(self) -> str:
        """remofile://HOST[:PORT]/PATH, which is a source again."""
        if is_local(self._client._root):
            raise ValueError(f"{self!r} is on a local socket: there are no URIs for files there")
        return join_uri(self._client.uri, str(self.absolute()))

    def absolute(self) -> RemofilePath:
        return self if self.is_absolute() else self.with_segments("/", self)

    # ---- attributes

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return self._client.stat(self, follow_symlinks=follow_symlinks)

    def lstat(self) -> os.stat_result:
        return self.stat(follow_symlinks=False)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self._mode(follow_symlinks) is not None

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(stat.S_ISDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(stat.S_ISREG, follow_symlinks)

    def is_symlink(self) -> bool:
        return self._is(stat.S_ISLNK, False)

    def is_fifo(self) -> bool:
        return self._is(stat.S_ISFIFO)

    def is_socket(self) -> bool:
        return self._is(stat.S_ISSOCK)

    def is_block_device(self) -> bool:
        return self._is(stat.S_ISBLK)

    def is_char_device(self) -> bool:
        return self._is(stat.S_ISCHR)

    def samefile(self, other: str | RemofilePath) -> bool:
        """Whether both are names of one file; text is a path of the same client."""
        theirs = other if isinstance(other, RemofilePath) else self.with_segments(other)
        mine = self.stat()
        return os.path.samestat(mine, theirs.stat()) and self._client.uri == theirs._client.uri

    def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        if not follow_symlinks:
            raise NotImplementedError("chmod: follow_symlinks unavailable on this platform")
        self._client.chmod(self, mode)

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        if exist_ok:
            try:
                self._client.utime(self)
                return
            except FileNotFoundError:
                pass
        flags = _library.OPEN_WRITE | _library.OPEN_CREATE | (0 if exist_ok else _library.OPEN_EXCLUSIVE)
        _library.check(lib.close(self._client._open_handle(self, flags, mode)), self)

    def _mode(self, follow_symlinks: bool = True) -> int | None:
        try:
            return self.stat(follow_symlinks=follow_symlinks).st_mode
        except OSError as error:
            if error.errno not in _MISSING:
                raise
        except ValueError as error:
            if "null byte" not in str(error):
                raise
        return None

    def _is(self, kind: Callable[[int], bool], follow_symlinks: bool = True) -> bool:
        mode = self._mode(follow_symlinks)
        return mode is not None and kind(mode)

    # ---- contents

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        return open_stream(self._client, self, mode, buffering, encoding, errors, newline)

    def read_bytes(self) -> bytes:
        with self.open("rb", 0) as file:
            data: bytes = file.read()
            return data

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:
        with self.open("r", -1, text_encoding(encoding), errors, newline) as file:
            text: str = file.read()
            return text

    def write_bytes(self, data: Any) -> int:
        view = memoryview(data)  # a TypeError comes before the file is emptied
        with self.open("wb", 0) as file:
            return file.write(view)

    def write_text(
        self, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> int:
        if not isinstance(data, str):
            raise TypeError(f"data must be str, not {type(data).__name__}")
        with self.open("w", -1, text_encoding(encoding), errors, newline) as file:
            return file.write(data)

    # ---- directories

    def iterdir(self) -> Iterator[RemofilePath]:
        for name in self._client.listdir(str(self)):
            yield self / name

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        try:
            self._client.mkdir(self, mode)
        except FileNotFoundError:
            if not parents or self.parent == self:
                raise
            self.parent.mkdir(parents=True, exist_ok=True)
            self.mkdir(mode, parents=False, exist_ok=exist_ok)
        except OSError:
            # Whatever the server has to say about a directory that is there.
            if not exist_ok or not self.is_dir():
                raise

    def rmdir(self) -> None:
        self._client.rmdir(self)

    def glob(
        self, pattern: str | PurePath, *, case_sensitive: bool | None = None, recurse_symlinks: bool = False
    ) -> Iterator[RemofilePath]:
        return select(self, pattern, case_sensitive, recurse_symlinks)

    def rglob(
        self, pattern: str | PurePath, *, case_sensitive: bool | None = None, recurse_symlinks: bool = False
    ) -> Iterator[RemofilePath]:
        return select(self, pattern, case_sensitive, recurse_symlinks, ("**",))

    def walk(
        self,
        top_down: bool = True,
        on_error: Callable[[OSError], object] | None = None,
        follow_symlinks: bool = False,
    ) -> Iterator[tuple[RemofilePath, list[str], list[str]]]:
        pending: list[RemofilePath | tuple[RemofilePath, list[str], list[str]]] = [self]
        while pending:
            path = pending.pop()
            if isinstance(path, tuple):
                yield path
                continue
            directories: list[str] = []
            others: list[str] = []
            try:
                with path._client.scandir(str(path)) as entries:
                    for entry in entries:
                        (directories if is_directory(entry, follow_symlinks) else others).append(entry.name)
            except OSError as error:
                if on_error is not None:
                    on_error(error)
                continue
            if top_down:
                yield path, directories, others
            else:
                pending.append((path, directories, others))
            # The caller may have taken some out.
            pending += [path / name for name in reversed(directories)]

    # ---- names

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self._client.unlink(self)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rename(self, target: str | PurePosixPath) -> RemofilePath:
        """What is at the target is replaced. A relative target begins at the top of the source, as all paths do."""
        path = target if isinstance(target, RemofilePath) else self.with_segments(target)
        self._client.rename(self, path)
        return path

    def replace(self, target: str | PurePosixPath) -> RemofilePath:
        return self.rename(target)

    def symlink_to(self, target: str | PurePosixPath, target_is_directory: bool = False) -> None:
        self._client.symlink(target, self)

    def hardlink_to(self, target: str | PurePosixPath) -> None:
        self._client.link(target, self)

    def readlink(self) -> RemofilePath:
        return self.with_segments(self._client.readlink(str(self)))


def _client_of(segments: Sequence[Any], client: Client | None) -> tuple[Client, Sequence[Any]]:
    """Whose path the segments make, and the segments without the source."""
    clients = [segment._client for segment in segments if isinstance(segment, RemofilePath)]
    if client is None and segments and isinstance(segments[0], str) and is_source(segments[0]):
        root, path = split_source(segments[0])
        client, segments = shared_client(root, {}), (path, *segments[1:])
    elif client is None and clients:
        client = clients[0]
    if client is None:
        raise TypeError("a RemofilePath begins with a source (HOST:/PATH, remofile://HOST/PATH) or has a client")
    for other in clients:
        if other.uri != client.uri:
            raise ValueError(f"a path of {other.uri} cannot be part of one of {client.uri}")
    return client, segments
