# SPDX-License-Identifier: MIT
"""libremofile by ctypes: its functions and structures as remofile.h declares them, and its errors as OSError.

ctypes lets other threads of Python run during each call (CDLL, not PyDLL).
"""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import POINTER, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p

SONAME = "libremofile.so.0"
FIRST_VERSION = (0, 1)  # of the library; its soname, and with it the major number, tells which later ones fit

INSECURE, EXCLUSIVE, READ_ONLY = 1, 2, 4
OPEN_READ, OPEN_WRITE, OPEN_APPEND, OPEN_CREATE, OPEN_EXCLUSIVE, OPEN_TRUNCATE = 1, 2, 4, 8, 16, 32
NOW = 0x3FFFFFFF
KEEP = 0xFFFFFFFF
TARGET_SIZE = 4096
MAX_FILE_BYTES = 2**63 - 1


class Options(ctypes.Structure):
    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("server_key", c_char_p),
        ("identity", c_char_p),
        ("token_file", c_char_p),
        ("token", c_char_p),
        ("timeout_ms", c_uint32),
        ("compression", c_int32),
    ]


class Timestamp(ctypes.Structure):
    _fields_ = [("seconds", c_int64), ("nanoseconds", c_uint32), ("reserved", c_uint32)]


class Attributes(ctypes.Structure):
    _fields_ = [
        ("inode", c_uint64),
        ("mode", c_uint32),
        ("links", c_uint32),
        ("uid", c_uint32),
        ("gid", c_uint32),
        ("size", c_uint64),
        ("blocks", c_uint64),
        ("block_size", c_uint32),
        ("reserved_0", c_uint32),
        ("access", Timestamp),
        ("modification", Timestamp),
        ("change", Timestamp),
        ("device", c_uint64),
        ("reserved", c_uint64 * 3),
    ]


class Space(ctypes.Structure):
    _fields_ = [
        ("block_size", c_uint64),
        ("blocks", c_uint64),
        ("blocks_free", c_uint64),
        ("blocks_available", c_uint64),
        ("files", c_uint64),
        ("files_free", c_uint64),
        ("name_max", c_uint32),
        ("reserved_0", c_uint32),
        ("reserved", c_uint64 * 4),
    ]


_OBJECT = c_void_p  # remofile_client*, remofile_file*, remofile_dir*
_FUNCTIONS = {
    "version": (c_char_p,),
    "error_message": (c_char_p,),
    "connect": (c_int, c_char_p, POINTER(Options), POINTER(_OBJECT)),
    "shutdown": (None, _OBJECT),
    "disconnect": (None, _OBJECT),
    "open": (c_int, _OBJECT, c_char_p, c_uint32, c_uint32, POINTER(_OBJECT)),
    "pread": (c_int64, _OBJECT, c_void_p, c_size_t, c_uint64),
    "pwrite": (c_int64, _OBJECT, c_void_p, c_size_t, c_uint64),
    "ftruncate": (c_int, _OBJECT, c_uint64),
    "sync": (c_int, _OBJECT),
    "fstat": (c_int, _OBJECT, POINTER(Attributes)),
    "close": (c_int, _OBJECT),
    "opendir": (c_int, _OBJECT, c_char_p, POINTER(_OBJECT)),
    "readdir": (c_int, _OBJECT, POINTER(c_char_p), POINTER(Attributes)),
    "closedir": (None, _OBJECT),
    "stat": (c_int, _OBJECT, c_char_p, POINTER(Attributes)),
    "lstat": (c_int, _OBJECT, c_char_p, POINTER(Attributes)),
    "mkdir": (c_int, _OBJECT, c_char_p, c_uint32),
    "rmdir": (c_int, _OBJECT, c_char_p),
    "unlink": (c_int, _OBJECT, c_char_p),
    "rename": (c_int, _OBJECT, c_char_p, c_char_p, c_uint32),
    "symlink": (c_int, _OBJECT, c_char_p, c_char_p),
    "readlink": (c_int64, _OBJECT, c_char_p, c_char_p, c_size_t),
    "link": (c_int, _OBJECT, c_char_p, c_char_p),
    "chmod": (c_int, _OBJECT, c_char_p, c_uint32),
    "chown": (c_int, _OBJECT, c_char_p, c_uint32, c_uint32),
    "utimes": (c_int, _OBJECT, c_char_p, POINTER(Timestamp), POINTER(Timestamp)),
    "truncate": (c_int, _OBJECT, c_char_p, c_uint64),
    "statfs": (c_int, _OBJECT, c_char_p, POINTER(Space)),
}


def _load() -> ctypes.CDLL:
    """The library, from the path in REMOFILE_LIBRARY if that is set; ImportError if it is missing or does not fit."""
    name = os.environ.get("REMOFILE_LIBRARY") or SONAME
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise ImportError(
            f"cannot load libremofile ({error}): install it, or name its file in REMOFILE_LIBRARY", name="remofile"
        ) from None
    for short_name, (result, *arguments) in _FUNCTIONS.items():
        try:
            function = getattr(library, "remofile_" + short_name)
        except AttributeError:
            raise ImportError(
                f"{name} has no function remofile_{short_name}: it is no libremofile, or too old for this package",
                name="remofile",
            ) from None
        function.restype = result
        function.argtypes = arguments
        setattr(library, short_name, function)
    version = library.version().decode()
    numbers = tuple(int(number) for number in version.split(".")[:2])
    if numbers[0] != FIRST_VERSION[0] or numbers < FIRST_VERSION:
        first = ".".join(map(str, FIRST_VERSION))
        raise ImportError(f"{name} is version {version}; this package needs {first} or later of {FIRST_VERSION[0]}.x")
    return library


lib = _load()

# What the library has to say about these is worth more than the system's phrase: they are about the session.
_OF_THE_SESSION = {
    errno.EIO,
    errno.EPROTO,
    errno.ESHUTDOWN,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ESTALE,
    errno.EKEYREJECTED,
}


def message() -> str:
    """The library's line about this thread's latest call that failed."""
    text: bytes = lib.error_message()
    return text.decode(errors="replace")


def check(result: int, name: object = None, name2: object = None) -> int:
    """The result of a call; if that says that it failed, an OSError of the right subclass about `name`."""
    if result >= 0:
        return result
    number = -result
    text = message() if number in _OF_THE_SESSION else ""
    text = text or os.strerror(number)
    if name2 is not None:
        raise OSError(number, text, name, None, name2)
    if name is not None:
        raise OSError(number, text, name)
    raise OSError(number, text)
