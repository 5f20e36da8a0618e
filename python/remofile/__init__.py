# SPDX-License-Identifier: MIT
"""Files of a Remofile server, as Python's own: connect() gives what the module os does, open() what io.open() does, and
RemofilePath what pathlib does. On libremofile, by ctypes. docs/LIBRARY.md describes it all.

    import remofile

    with remofile.open("host:/notes/today.txt") as file:
        print(file.read())
"""

from __future__ import annotations

from typing import IO, Any

from ._client import Client, DirEntry, ScandirIterator, connect, shared_client
from ._file import BUFFER_BYTES, RemoteBufferedRandom, RemoteBufferedReader, RemoteFileIO, open_stream
from ._path import RemofilePath
from ._source import is_local, split_source

__version__ = "0.1.0"
__all__ = [
    "BUFFER_BYTES",
    "Client",
    "DirEntry",
    "RemofilePath",
    "RemoteBufferedRandom",
    "RemoteBufferedReader",
    "RemoteFileIO",
    "ScandirIterator",
    "connect",
    "open",
]


def open(
    file: str | RemofilePath,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    **options: Any,
) -> IO[Any]:
    """Opens a remote file as io.open() opens a local one: the same arguments, the same kinds of file objects.

    `file` is HOST[:PORT]:/PATH or remofile://HOST[:PORT]/PATH, and `options` then those of connect(); or a
    RemofilePath. Files of one server share a connection while one of them, or a path, is in use.
    """
    if isinstance(file, RemofilePath):
        if options:
            raise TypeError("a RemofilePath has a connection: it takes no options of another")
        return open_stream(file.client, file, mode, buffering, encoding, errors, newline)
    root, path = split_source(file)
    if is_local(root):
        raise ValueError(f"{file!r} names no file: use remofile.connect({file!r}).open(PATH)")
    return open_stream(shared_client(root, options), path, mode, buffering, encoding, errors, newline)
