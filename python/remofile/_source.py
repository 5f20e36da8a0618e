# SPDX-License-Identifier: MIT
"""Sources: how a person names a server and a place on it."""

from __future__ import annotations

import os
import re
import urllib.parse

FORMS = "write HOST:/PATH, HOST:PORT:/PATH, remofile://HOST[:PORT]/PATH or remofile+ipc:///SOCKET"
_URL = "remofile://"
_LOCAL_URL = "remofile+ipc://"
_DEFAULT_PORT = ":6768"


def split_source(source: str) -> tuple[str, str]:
    """The source of the server's top directory, in one spelling, and the absolute path below it.

    ValueError: no source. Whether the host makes sense is left to the library.
    """
    if source.startswith(_LOCAL_URL):
        socket = urllib.parse.unquote_to_bytes(os.fsencode(source[len(_LOCAL_URL) :]))
        return _LOCAL_URL + urllib.parse.quote(socket), "/"
    if source.startswith(_URL):
        host, slash, path = source[len(_URL) :].partition("/")
        if re.search(r"[?#]|%(?![0-9A-Fa-f]{2})", slash + path):
            raise ValueError(f"{source!r}: write ? as %3F, # as %23 and % as %25")
        path = os.fsdecode(urllib.parse.unquote_to_bytes(os.fsencode(path)))
    else:
        # A host has no slash, so the first one begins the path, whatever colons follow.
        host, slash, path = source.partition(":/")
        if not slash or "/" in host or not host or path.startswith("/"):
            raise ValueError(f"{source!r}: it must name a host and an absolute path; {FORMS}")
    return f"{_URL}{host.lower().removesuffix(_DEFAULT_PORT)}/", "/" + path


def is_source(text: str) -> bool:
    try:
        split_source(text)
    except ValueError:
        return False
    return True


def is_local(root: str) -> bool:
    """Whether it names a socket, and so has no room for a path."""
    return root.startswith(_LOCAL_URL)


def join_uri(root: str, path: str) -> str:
    """The URI of an absolute path below what split_source() called the top directory."""
    return root.removesuffix("/") + urllib.parse.quote(os.fsencode(path))
