# SPDX-License-Identifier: MIT
"""File objects of remote files: the raw one, and what open() puts around it, as the module io does."""

from __future__ import annotations

import ctypes
import errno
import io
import operator
import os
import threading
import warnings
from typing import IO, TYPE_CHECKING, Any, cast

from . import _library
from ._library import check, lib

if TYPE_CHECKING:
    from ._client import Client, RemotePath

# Each filling and each writing of a buffer is a round trip, in which this much keeps a long link busy. Memory that is
# not used is not taken.
BUFFER_BYTES = 8 << 20
# A buffer is filled with so much at first and after a seek, and with twice as much each time while reading goes on in
# sequence: little is thrown away by who reads here and there.
FIRST_FILLING_BYTES = 128 << 10
# A read of more than this asks first how much there is, so that read(10**12) does not ask for as much memory.
_ALWAYS_ALLOCATED_BYTES = 16 << 20

_CREATE = _library.OPEN_CREATE
_FLAGS = {
    "r": 0,
    "w": _CREATE | _library.OPEN_TRUNCATE,
    "x": _CREATE | _library.OPEN_EXCLUSIVE,
    "a": _CREATE | _library.OPEN_APPEND,
}


class _Py_buffer(ctypes.Structure):
    # As it is since it became part of CPython's stable ABI, in 3.11.
    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


_PyBUF_SIMPLE, _PyBUF_WRITABLE = 0, 1
_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = [ctypes.py_object, ctypes.POINTER(_Py_buffer), ctypes.c_int]
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = [ctypes.POINTER(_Py_buffer)]
_release_buffer.restype = None


class _Memory:
    """The memory of a bytes-like object, held in place while a call uses it."""

    def __init__(self, data: Any, flags: int = _PyBUF_SIMPLE) -> None:
        self._view = _Py_buffer()
        _get_buffer(data, self._view, flags)

    @classmethod
    def to_fill(cls, buffer: Any) -> _Memory:
        try:
            return cls(buffer, _PyBUF_WRITABLE)
        except BufferError:
            kind = type(buffer).__name__
            raise TypeError(f"readinto() argument must be read-write bytes-like object, not {kind}") from None

    def __enter__(self) -> _Py_buffer:
        return self._view

    def __exit__(self, *error: object) -> None:
        _release_buffer(self._view)


class _CallLock:
    """One call at a time. A second one of the same thread (of a signal handler or a finalizer) is refused, for it
    would wait for itself; so is every one of a forked process, where nobody may be left to open the lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._busy = False
        self._process = os.getpid()

    def is_ours(self, getpid: Any = os.getpid) -> bool:
        return bool(getpid() == self._process)

    def __enter__(self) -> None:
        if not self.is_ours():
            raise OSError(errno.ESHUTDOWN, "the file was opened by the process that forked this one")
        self._lock.acquire()
        if self._busy:
            self._lock.release()
            raise RuntimeError("reentrant call of a remote file")
        self._busy = True

    def __exit__(self, *error: object) -> None:
        self._busy = False
        self._lock.release()


class RemoteFileIO(io.RawIOBase):
    """An open file of a server, as io.FileIO is one of this machine: without a buffer, and with a position.

    `mode` is one of r, w, x and a, perhaps with + (and b, which changes nothing). Each read and write is a round trip
    of its own; large ones travel in parts, several under way at once.

    Threads: may be shared; calls are carried out one after the other, for they share the position. Not after a fork:
    every call in the child raises OSError (ESHUTDOWN) there.
    """

    _handle: int | None = None
    name: str | bytes

    def __init__(self, client: Client, path: RemotePath, mode: str = "r") -> None:
        super().__init__()
        if not set(mode) <= set("rwxab+"):
            raise ValueError(f"invalid mode: {mode}")
        if sum(letter in "rwxa" for letter in mode) != 1 or mode.count("+") > 1:
            raise ValueError("Must have exactly one of create/read/write/append mode and at most one plus")
        self._kind = next(letter for letter in mode if letter in "rwxa")
        self._readable = self._kind == "r" or "+" in mode
        self._writable = self._kind != "r" or "+" in mode
        flags = _FLAGS[self._kind]
        flags |= _library.OPEN_READ if self._readable else 0
        flags |= _library.OPEN_WRITE if self._writable else 0
        self.name = path if isinstance(path, (str, bytes)) else str(path)
        self._lock = _CallLock()
        self._client = client  # kept, for the file lives no longer than the session
        # None: at the end of the file, wherever that is when somebody asks.
        self._position: int | None = None if self._kind == "a" else 0
        # At most so much is read at once into a buffer, and where the next read is if it goes on; 0: whatever fits.
        self._filling_bytes = 0
        self._filled_until = -1
        self._handle = client._open_handle(path, flags, 0o666)

    # ---- what the file is

    @property
    def mode(self) -> str:
        """As io.FileIO has it: with b, and r where w was given with +."""
        if self._kind in "xa":
            return self._kind + "b" + "+" * self._readable
        return ("rb" + "+" * self._writable) if self._readable else "wb"

    @property
    def client(self) -> Client:
        return self._client

    def readable(self) -> bool:
        self._check_open()
        return self._readable

    def writable(self) -> bool:
        self._check_open()
        return self._writable

    def seekable(self) -> bool:
        self._check_open()
        return True

    def fileno(self) -> int:
        self._check_open()
        return super().fileno()  # there is none

    def stat(self) -> os.stat_result:
        """As os.fstat() for a local file."""
        from ._client import stat_result  # which knows this module

        with self._lock:
            return stat_result(self._attributes())

    def __repr__(self) -> str:
        kind = f"{type(self).__module__}.{type(self).__qualname__}"
        return f"<{kind} [closed]>" if self.closed else f"<{kind} name={self.name!r} mode={self.mode!r}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _refuse_pickle(self, protocol)

    # ---- contents

    def readinto(self, buffer: Any, /) -> int:
        with _Memory.to_fill(buffer) as memory, self._lock:
            self._check_readable()
            if self._filling_bytes == 0:
                return self._read_into(memory)
            if self._find_position() == self._filled_until:
                self._filling_bytes = min(2 * self._filling_bytes, BUFFER_BYTES)
            else:
                self._filling_bytes = FIRST_FILLING_BYTES
            count = self._read_into(memory, self._filling_bytes)
            self._filled_until = self._find_position()
            return count

    def read(self, size: int | None = -1, /) -> bytes:
        size = -1 if size is None else operator.index(size)
        if size < 0:
            return self.readall()
        with self._lock:
            self._check_readable()
            if size > _ALWAYS_ALLOCATED_BYTES:
                size = min(size, self._bytes_left())
            return self._read_up_to(size)

    def readall(self) -> bytes:
        with self._lock:
            self._check_readable()
            parts: list[bytes] = []
            while True:
                # One byte more than there seems to be: if that is missing, the end was reached.
                expected = self._bytes_left() + 1
                parts.append(self._read_up_to(expected))
                if len(parts[-1]) < expected:
                    return b"".join(parts)

    def write(self, data: Any, /) -> int:
        """Writes all of `data`. When it returns, the server's kernel has the data; sync() makes it durable."""
        with _Memory(data) as memory, self._lock:
            self._check_writable()
            position = 0 if self._kind == "a" else self._find_position()
            count: int = self._check(lib.pwrite(self._handle, memory.buf, memory.len, position))
            if self._kind != "a":
                self._position = position + count
            elif count > 0:
                self._position = None
            return count

    def truncate(self, size: int | None = None, /) -> int:
        with self._lock:
            self._check_writable()
            size = self._find_position() if size is None else _offset(size)
            if size < 0:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            self._find_position()  # the end is where it is before the call
            self._check(lib.ftruncate(self._handle, size))
            return size

    def sync(self) -> None:
        """When it returns, the contents survive a loss of power of the server: what os.fsync() does for a local file.
        What a buffer around this file still holds must be flushed first."""
        with self._lock:
            self._check_open()
            self._check(lib.sync(self._handle))

    # ---- the position

    def tell(self) -> int:
        with self._lock:
            self._check_open()
            return self._find_position()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        with self._lock:
            self._check_open()
            position = _offset(offset)
            if whence == os.SEEK_CUR:
                position += self._find_position()
            elif whence == os.SEEK_END:
                position += self._attributes().size
            elif whence != os.SEEK_SET:
                position = -1
            if position < 0:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            if position > _library.MAX_FILE_BYTES:
                raise OSError(errno.EOVERFLOW, os.strerror(errno.EOVERFLOW))
            self._position = position
            return position

    # ---- the end

    def close(self) -> None:
        """Says what the server still has to say about what was written. Waits for calls of other threads."""
        if self.closed:
            return
        try:
            super().close()
        finally:
            self._release()

    def _release(self, close: Any = lib.close) -> None:
        if not self._lock.is_ours():
            handle, self._handle = self._handle, None
            if handle is not None:
                close(handle)  # does not disturb the parent
            return
        with self._lock:
            handle, self._handle = self._handle, None
            result = 0 if handle is None else close(handle)
            # A file that was only read has nothing to lose with its session.
            if result < 0 and (self._writable or result not in (-errno.ESHUTDOWN, -errno.ESTALE)):
                self._check(result)

    def __del__(self) -> None:
        if self._handle is not None:
            self._dealloc_warn(self)
            self.close()

    # Buffered objects of the module io call it when they are deleted without having been closed.
    def _dealloc_warn(self, source: Any, warn: Any = warnings.warn) -> None:
        if self._handle is not None:
            warn(f"unclosed file {source!r}", ResourceWarning, stacklevel=2, source=source)

    # ---- within the lock

    def _check(self, result: int) -> int:
        return check(result, self.name)

    def _check_open(self) -> None:
        if self._handle is None:
            raise ValueError("I/O operation on closed file")

    def _check_readable(self) -> None:
        self._check_open()
        if not self._readable:
            raise io.UnsupportedOperation("File not open for reading")

    def _check_writable(self) -> None:
        self._check_open()
        if not self._writable:
            raise io.UnsupportedOperation("File not open for writing")

    def _attributes(self) -> _library.Attributes:
        self._check_open()
        attributes = _library.Attributes()
        self._check(lib.fstat(self._handle, ctypes.byref(attributes)))
        return attributes

    def _find_position(self) -> int:
        if self._position is None:
            self._position = int(self._attributes().size)
        return self._position

    def _bytes_left(self) -> int:
        size: int = self._attributes().size
        return max(size - self._find_position(), 0)

    def _read_into(self, memory: _Py_buffer, most: int = _library.MAX_FILE_BYTES) -> int:
        position = self._find_position()
        count = self._check(lib.pread(self._handle, memory.buf, min(memory.len, most), position))
        self._position = position + count
        return count

    def _read_up_to(self, size: int) -> bytes:
        data = bytearray(size)
        with _Memory.to_fill(data) as memory:
            count = self._read_into(memory)
        return bytes(memoryview(data)[:count])


def _offset(number: Any) -> int:
    """As the interpreter takes an off_t."""
    offset = operator.index(number)
    if not -(2**63) <= offset < 2**63:
        raise OverflowError("Python int too large to convert to C long")
    return offset


def _refuse_pickle(self: Any, protocol: Any) -> Any:
    raise TypeError(f"cannot pickle {type(self).__name__!r} object")


class RemoteBufferedReader(io.BufferedReader):
    """Reads through the buffer in read1() too: io's own asks the raw file for so many bytes if the buffer is empty,
    which is a round trip for each 8 KiB of text."""

    __reduce_ex__ = _refuse_pickle

    def read1(self, size: int = -1, /) -> bytes:
        return super().read1(size) if size < 0 else self.read(size)


class RemoteBufferedRandom(io.BufferedRandom):
    """As RemoteBufferedReader."""

    __reduce_ex__ = _refuse_pickle

    def read1(self, size: int = -1, /) -> bytes:
        return super().read1(size) if size < 0 else self.read(size)


def check_mode(mode: Any, buffering: Any, encoding: Any, errors: Any, newline: Any) -> None:
    """Refuses what io.open() refuses, and in its words."""
    optional = {"encoding": encoding, "errors": errors, "newline": newline}
    kinds = [("mode", mode, str), ("buffering", buffering, int)]
    kinds += [(name, value, str) for name, value in optional.items() if value is not None]
    for name, value, kind in kinds:
        if not isinstance(value, kind):
            raise TypeError(f"open() argument {name!r} must be {kind.__name__}, not {type(value).__name__}")
    modes = set(mode)
    if modes - set("axrwb+t") or len(mode) > len(modes):
        raise ValueError(f"invalid mode: {mode!r}")
    binary = "b" in modes
    if "t" in modes and binary:
        raise ValueError("can't have text and binary mode at once")
    if len(modes & set("axrw")) != 1:
        raise ValueError("must have exactly one of create/read/write/append mode")
    if binary:
        for name, value in optional.items():
            if value is not None:
                article = "an" if name[0] == "e" else "a"
                raise ValueError(f"binary mode doesn't take {article} {name} argument")
    if buffering == 0 and not binary:
        raise ValueError("can't have unbuffered text I/O")


def _named_encoding(encoding: str | None) -> str:
    """With the EncodingWarning, if it is asked for, at the line that called open()."""
    name: str = io.text_encoding(encoding, 4)  # type: ignore[attr-defined]
    return name


def open_stream(
    client: Client,
    path: RemotePath,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> IO[Any]:
    """What io.open() returns for these arguments, around a RemoteFileIO."""
    check_mode(mode, buffering, encoding, errors, newline)
    binary = "b" in mode
    if binary and buffering == 1:
        warnings.warn(
            "line buffering (buffering=1) isn't supported in binary mode, the default buffer size will be used",
            RuntimeWarning,
            stacklevel=3,
        )
    raw = RemoteFileIO(client, path, mode.replace("b", "").replace("t", ""))
    opened: Any = raw
    try:
        if buffering == 0:
            return cast(IO[Any], raw)
        size = buffering
        if buffering < 0 or buffering == 1:
            size = BUFFER_BYTES
            raw._filling_bytes = FIRST_FILLING_BYTES
        if "+" in mode:
            opened = RemoteBufferedRandom(raw, size)
        elif "r" in mode:
            opened = RemoteBufferedReader(raw, size)
        else:
            opened = io.BufferedWriter(raw, size)
        if not binary:
            opened = io.TextIOWrapper(opened, _named_encoding(encoding), errors, newline, buffering == 1)
            opened.mode = mode
        return cast(IO[Any], opened)
    except BaseException:
        opened.close()
        raise
