# SPDX-License-Identifier: MIT
"""Sessions with servers, and what the module os does, on a server's files."""

from __future__ import annotations

import builtins
import ctypes
import errno
import math
import os
import re
import stat
import threading
import warnings
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, AnyStr, Generic

from . import _library
from ._library import check, lib
from ._source import is_local, join_uri, split_source

if TYPE_CHECKING:
    from ._path import RemofilePath

# A path on the server: text, bytes, a pure path of pathlib, or a RemofilePath of the same source.
RemotePath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_NANOSECONDS = 10**9


class Client:
    """A session with a server; made by connect(). A context manager, which ends the session.

    Its functions are called and behave as those of the module `os`. Paths begin at the source's path, with or without
    a leading slash. Errors are OSError, of the subclass that the same error of a local file has.

    Threads: any number of threads may use a client at once; their requests are under way together. After a fork the
    child cannot use it: every call there raises OSError (ESHUTDOWN).
    """

    def __init__(
        self,
        source: str,
        *,
        server_key: str | os.PathLike[str] | None = None,
        identity: str | os.PathLike[str] | None = None,
        token_file: str | os.PathLike[str] | None = None,
        token: str | None = None,
        insecure: bool = False,
        exclusive: bool = False,
        read_only: bool = False,
        timeout: float | None = None,
        compression: int | None = None,
    ) -> None:
        self._pointer: int | None = None
        self._closed = False
        self._implicit = False  # nobody was told to close it
        options = _library.Options(
            size=ctypes.sizeof(_library.Options),
            flags=insecure * _library.INSECURE | exclusive * _library.EXCLUSIVE | read_only * _library.READ_ONLY,
            server_key=_optional_bytes(server_key),
            identity=_optional_bytes(identity),
            token_file=_optional_bytes(token_file),
            token=_optional_bytes(token),
            timeout_ms=_milliseconds(timeout),
            compression=_compression(compression),
        )
        pointer = ctypes.c_void_p()
        result = lib.connect(_without_null(os.fsencode(source)), ctypes.byref(options), ctypes.byref(pointer))
        if result == -errno.EINVAL:
            raise ValueError(_library.message())
        if result < 0:
            raise OSError(-result, _library.message(), source)
        self._pointer = pointer.value
        self._root, self._base = split_source(source)
        self.source = source

    # ---- the session

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def uri(self) -> str:
        """What the client is connected to, in one spelling for all ways to write it."""
        return self._root if is_local(self._root) else join_uri(self._root, self._base)

    def close(self) -> None:
        """Ends the session. Calls of other threads that are under way, and later ones on open files, fail."""
        self._closed = True
        lib.shutdown(self._pointer)

    def __enter__(self) -> Client:
        self._open_pointer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<remofile.Client {self.source!r}{' [closed]' if self._closed else ''}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("cannot pickle 'remofile.Client' object")

    def __del__(self, disconnect: Any = lib.disconnect, warn: Any = warnings.warn) -> None:
        if getattr(self, "_pointer", None) is None:
            return
        if not self._closed and not self._implicit:
            warn(f"unclosed client {self!r}", ResourceWarning, stacklevel=2, source=self)
        # Nobody else has it any more, so that no call is under way.
        disconnect(self._pointer)
        self._pointer = None

    def _open_pointer(self) -> int | None:
        if self._closed:
            raise ValueError("operation on a closed client")
        return self._pointer

    def _name(self, path: RemotePath) -> bytes:
        """The bytes of a path, for the library."""
        # A RemofilePath is no name for the local file system, and so has no use for os.fspath().
        of_the_source = getattr(path, "_name_for", None)
        name: bytes = os.fsencode(path) if of_the_source is None else of_the_source(self)
        if not name:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return _without_null(name)

    # ---- attributes

    def stat(self, path: RemotePath = "/", *, follow_symlinks: bool = True) -> os.stat_result:
        attributes = _library.Attributes()
        ask = lib.stat if follow_symlinks else lib.lstat
        check(ask(self._open_pointer(), self._name(path), ctypes.byref(attributes)), path)
        return stat_result(attributes)

    def lstat(self, path: RemotePath = "/") -> os.stat_result:
        return self.stat(path, follow_symlinks=False)

    def chmod(self, path: RemotePath, mode: int) -> None:
        check(lib.chmod(self._open_pointer(), self._name(path), mode), path)

    def chown(self, path: RemotePath, uid: int, gid: int) -> None:
        """-1 leaves one as it is."""
        check(lib.chown(self._open_pointer(), self._name(path), _id(uid), _id(gid)), path)

    def utime(
        self,
        path: RemotePath,
        times: tuple[float, float] | None = None,
        *,
        ns: tuple[int, int] | None = None,
    ) -> None:
        """Without times: the server's present time."""
        if times is not None and ns is not None:
            raise ValueError("utime: you may specify either 'times' or 'ns' but not both")
        if ns is not None:
            access, modification = (_timestamp(nanoseconds) for nanoseconds in ns)
        elif times is not None:
            access, modification = (_timestamp_of_seconds(seconds) for seconds in times)
        else:
            access = modification = _library.Timestamp(0, _library.NOW)
        result = lib.utimes(
            self._open_pointer(), self._name(path), ctypes.byref(access), ctypes.byref(modification)
        )
        check(result, path)

    def truncate(self, path: RemotePath, length: int) -> None:
        name = self._name(path)
        if length < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        check(lib.truncate(self._open_pointer(), name, length), path)

    def statvfs(self, path: RemotePath = "/") -> os.statvfs_result:
        space = _library.Space()
        check(lib.statfs(self._open_pointer(), self._name(path), ctypes.byref(space)), path)
        blocks = (space.block_size, space.block_size, space.blocks, space.blocks_free, space.blocks_available)
        # The last two: no flags, and the longest name.
        return os.statvfs_result((*blocks, space.files, space.files_free, space.files_free, 0, space.name_max))

    # ---- directories

    def scandir(self, path: AnyStr | os.PathLike[AnyStr] = "/") -> ScandirIterator[AnyStr]:  # type: ignore[assignment]
        """The entries of a directory, in the server's order, with attributes that cost no further question."""
        pointer = ctypes.c_void_p()
        check(lib.opendir(self._open_pointer(), self._name(path), ctypes.byref(pointer)), path)
        return ScandirIterator(self, pointer.value, path)

    def listdir(self, path: AnyStr | os.PathLike[AnyStr] = "/") -> list[AnyStr]:  # type: ignore[assignment]
        with self.scandir(path) as entries:
            return [entry.name for entry in entries]

    def mkdir(self, path: RemotePath, mode: int = 0o777) -> None:
        """As everywhere here, the local process's umask is taken off the mode."""
        check(lib.mkdir(self._open_pointer(), self._name(path), mode & ~umask()), path)

    def rmdir(self, path: RemotePath) -> None:
        check(lib.rmdir(self._open_pointer(), self._name(path)), path)

    # ---- names

    def unlink(self, path: RemotePath) -> None:
        check(lib.unlink(self._open_pointer(), self._name(path)), path)

    remove = unlink

    def rename(self, source: RemotePath, target: RemotePath) -> None:
        """What `target` names is replaced."""
        check(lib.rename(self._open_pointer(), self._name(source), self._name(target), 0), source, target)

    replace = rename

    def link(self, source: RemotePath, target: RemotePath) -> None:
        """Gives the file `source` the further name `target`; a symbolic link is not followed."""
        check(lib.link(self._open_pointer(), self._name(source), self._name(target)), source, target)

    def symlink(self, source: str | bytes | os.PathLike[str], path: RemotePath) -> None:
        """Makes a symbolic link at `path` that says `source`."""
        # What a link says is text, and may name anything: a path of this package stands for its text.
        text = os.fsencode(str(source) if isinstance(source, os.PathLike) else source)
        check(lib.symlink(self._open_pointer(), _without_null(text), self._name(path)), source, path)

    def readlink(self, path: AnyStr | os.PathLike[AnyStr]) -> AnyStr:
        buffer = ctypes.create_string_buffer(_library.TARGET_SIZE)
        length = check(lib.readlink(self._open_pointer(), self._name(path), buffer, len(buffer)), path)
        target: Any = buffer.raw[:length]
        found: AnyStr = target if isinstance(path, bytes) else os.fsdecode(target)
        return found

    # ---- files

    def open(
        self,
        path: RemotePath,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """A file object, of the kind that the built-in open() returns for the same arguments."""
        from ._file import open_stream  # which knows this module

        return open_stream(self, path, mode, buffering, encoding, errors, newline)

    def path(self, *segments: str | os.PathLike[str]) -> RemofilePath:
        """A path of this client, as pathlib has them."""
        from ._path import RemofilePath  # which knows this module

        return RemofilePath(*segments, client=self)

    def _open_handle(self, path: RemotePath, flags: int, mode: int) -> int | None:
        """Opens a file; the result is the caller's to close."""
        pointer = ctypes.c_void_p()
        result = lib.open(self._open_pointer(), self._name(path), flags, mode & ~umask(), ctypes.byref(pointer))
        check(result, path)
        return pointer.value


def connect(source: str, **options: Any) -> Client:
    """Connects to a server, and waits for that.

    `source` is HOST[:PORT]:/PATH, remofile://HOST[:PORT]/PATH or remofile+ipc:///SOCKET. Options, for whatever the
    configuration directory does not say: `server_key` (itself, or the file that holds it), `identity` (the file of
    this client's secret key), `token_file`, `token`, `insecure`, `exclusive`, `read_only`, `timeout` (seconds for one
    answer; 30 otherwise), `compression` (None: by the link's speed, 0: never, 1 to 12: always).

    ValueError: the source or an option makes no sense. OSError: PermissionError if the server does not know this
    client, and others.
    """
    return Client(source, **options)


# The clients that open() and RemofilePath() made for sources; each lives as long as something of it does.
_shared: weakref.WeakValueDictionary[tuple[Any, ...], Client] = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()


def shared_client(root: str, options: dict[str, Any]) -> Client:
    """The client of a server's top directory that everything with these options shares, in this process."""
    key = (os.getpid(), root, *sorted(options.items()))
    with _shared_lock:
        client = _shared.get(key)
    if client is not None and not client.closed:
        return client
    # Not within the lock: an unreachable server is nobody else's concern.
    made = Client(root, **options)
    made._implicit = True
    with _shared_lock:
        client = _shared.get(key)
        if client is None or client.closed:
            client = _shared[key] = made
    return client


def _renew_lock() -> None:
    global _shared_lock
    _shared_lock = threading.Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_renew_lock)


class DirEntry(Generic[AnyStr]):
    """An entry of a directory, as os.DirEntry. The attributes are those of the moment when it was listed."""

    __slots__ = ("_client", "_lstat", "name", "path")
    name: AnyStr
    path: AnyStr

    def __init__(self, client: Client, path: AnyStr, name: AnyStr, lstat: os.stat_result) -> None:
        self._client = client
        self._lstat = lstat
        self.name = name
        self.path = path

    def inode(self) -> int:
        return self._lstat.st_ino

    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self._lstat.st_mode)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(stat.S_ISDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(stat.S_ISREG, follow_symlinks)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Asks the server only about what a symbolic link leads to."""
        return self._client.stat(self.path) if follow_symlinks and self.is_symlink() else self._lstat

    def _is(self, kind: Any, follow_symlinks: bool) -> bool:
        try:
            return bool(kind(self.stat(follow_symlinks=follow_symlinks).st_mode))
        except FileNotFoundError:
            return False

    def __repr__(self) -> str:
        return f"<remofile.DirEntry {self.name!r}>"


class ScandirIterator(Generic[AnyStr]):
    """The entries of a directory, one by one. A context manager. Threads may share it; each entry comes once."""

    def __init__(self, client: Client, pointer: int | None, path: AnyStr | os.PathLike[AnyStr]) -> None:
        self._client = client
        self._pointer = pointer
        self._path: Any = path if isinstance(path, (str, bytes)) else str(path)
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __iter__(self) -> Iterator[DirEntry[AnyStr]]:
        return self

    def __next__(self) -> DirEntry[AnyStr]:
        if os.getpid() != self._process:
            raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN), self._path)
        name = ctypes.c_char_p()
        attributes = _library.Attributes()
        with self._lock:
            if self._pointer is None:
                raise StopIteration
            if check(lib.readdir(self._pointer, ctypes.byref(name), ctypes.byref(attributes)), self._path) == 0:
                self._release()
                raise StopIteration
            found = name.value
        assert found is not None
        text: Any = found if isinstance(self._path, bytes) else os.fsdecode(found)
        return DirEntry(self._client, os.path.join(self._path, text), text, stat_result(attributes))

    def close(self) -> None:
        if os.getpid() != self._process:
            return  # the lock may be held for ever
        with self._lock:
            self._release()

    def _release(self, closedir: Any = lib.closedir) -> None:
        pointer, self._pointer = self._pointer, None
        if pointer is not None:
            closedir(pointer)

    def __enter__(self) -> ScandirIterator[AnyStr]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self, warn: Any = warnings.warn) -> None:
        if getattr(self, "_pointer", None) is not None:
            warn(f"unclosed scandir iterator {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._release()


def stat_result(found: _library.Attributes) -> os.stat_result:
    """As os.stat() has it, on the server."""
    times = {"atime": found.access, "mtime": found.modification, "ctime": found.change}
    more: dict[str, Any] = {"st_blksize": found.block_size, "st_blocks": found.blocks, "st_rdev": 0}
    for name, time in times.items():
        nanoseconds = time.seconds * _NANOSECONDS + time.nanoseconds
        more[f"st_{name}"] = nanoseconds / _NANOSECONDS
        more[f"st_{name}_ns"] = nanoseconds
    whole_seconds = (time.seconds for time in times.values())
    ids = (found.inode, found.device, found.links, found.uid, found.gid)
    return os.stat_result((found.mode, *ids, found.size, *whole_seconds), more)


def umask() -> int:
    """The process's umask. os.umask() can only tell it by changing it for all threads."""
    try:
        with builtins.open("/proc/self/status", encoding="ascii", errors="replace") as status:
            found = re.search(r"^Umask:\s*([0-7]+)", status.read(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1], 8) if found else 0o022


def _without_null(name: bytes) -> bytes:
    if b"\0" in name:
        raise ValueError("embedded null byte")
    return name


def _optional_bytes(text: str | os.PathLike[str] | None) -> bytes | None:
    return None if text is None else _without_null(os.fsencode(text))


def _milliseconds(timeout: float | None) -> int:
    if timeout is None:
        return 0
    if not 0 < timeout <= 0xFFFFFFFF / 1000:
        raise ValueError(f"timeout: {timeout!r} is no number of seconds to wait")
    return math.ceil(timeout * 1000)


def _compression(level: int | None) -> int:
    if level is None:
        return 0
    if not 0 <= level <= 12:
        raise ValueError(f"compression: {level!r} is not from 0 to 12")
    return int(level) or -1


def _id(number: int) -> int:
    if not -1 <= number < _library.KEEP:
        raise OverflowError("a uid or gid must be from -1 to 4294967294")
    return number & 0xFFFFFFFF


def _timestamp(nanoseconds: int) -> _library.Timestamp:
    return _library.Timestamp(*divmod(nanoseconds, _NANOSECONDS))


def _timestamp_of_seconds(seconds: float) -> _library.Timestamp:
    # As os.utime() rounds: down.
    whole = math.floor(seconds)
    return _library.Timestamp(whole, min(math.floor((seconds - whole) * _NANOSECONDS), _NANOSECONDS - 1))
