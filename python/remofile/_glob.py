# SPDX-License-Identifier: MIT
"""Patterns of names, on a server's directories."""

from __future__ import annotations

import errno
import fnmatch
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._client import DirEntry
    from ._path import RemofilePath

_MAGIC = re.compile(r"[*?[]")
# As pathlib's own: "**" at the end has stood for directories only until Python 3.13.
_FILES_TOO = sys.version_info >= (3, 13)


# Of what a symbolic link leads to: for these, it is no directory.
_NO_DIRECTORY = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES}


def is_directory(entry: DirEntry[str], follow_symlinks: bool = True) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY:
            raise
        return False


def select(
    base: RemofilePath,
    pattern: Any,
    case_sensitive: bool | None,
    recurse_symlinks: bool,
    before: Sequence[str] = (),
) -> Iterator[RemofilePath]:
    """The paths below `base` that match; `before` are components that come before those of the pattern."""
    text = pattern if isinstance(pattern, str) else str(pattern)
    if not text and not before:
        raise ValueError(f"Unacceptable pattern: {text!r}")
    if text.startswith("/"):
        raise NotImplementedError("Non-relative patterns are unsupported")
    components = [*before, *PurePosixPath(text).parts]
    if not components:
        raise ValueError(f"Unacceptable pattern: {text!r}")
    selector = _Selector(components, text.endswith("/"), case_sensitive is not False, recurse_symlinks)
    return selector.run(base)


class _Selector:
    def __init__(
        self, components: list[str], directories_only: bool, case_sensitive: bool, recurse_symlinks: bool
    ) -> None:
        self._components = components
        self._directories_only = directories_only
        self._case_sensitive = case_sensitive
        self._recurse_symlinks = recurse_symlinks

    def run(self, base: RemofilePath) -> Iterator[RemofilePath]:
        found = self._below(base, 0)
        if self._components.count("**") < 2:
            yield from found
            return
        seen: set[RemofilePath] = set()
        for path in found:
            if path not in seen:
                seen.add(path)
                yield path

    def _below(self, path: RemofilePath, index: int) -> Iterator[RemofilePath]:
        """What the components from `index` on match below a path that may be no directory."""
        component = self._components[index]
        last = index == len(self._components) - 1
        if component == "**":
            for directory, others in self._tree(path):
                if not last:
                    yield from self._below(directory, index + 1)
                    continue
                yield directory
                if _FILES_TOO and not self._directories_only:
                    yield from others
        elif _MAGIC.search(component) or (not self._case_sensitive and component != ".."):
            matches = re.compile(fnmatch.translate(component), 0 if self._case_sensitive else re.IGNORECASE).match
            for entry in _entries(path):
                if not matches(entry.name):
                    continue
                if not last:
                    if is_directory(entry):
                        yield from self._below(path / entry.name, index + 1)
                elif not self._directories_only or is_directory(entry):
                    yield path / entry.name
        elif not last:
            # The library takes ".." out by name, whether there is a directory or not.
            if self._components[index + 1] != ".." or (path / component).is_dir():
                yield from self._below(path / component, index + 1)
        else:
            candidate = path / component
            if candidate.is_dir() if self._directories_only else candidate.exists(follow_symlinks=False):
                yield candidate

    def _tree(self, top: RemofilePath) -> Iterator[tuple[RemofilePath, list[RemofilePath]]]:
        """Each directory from `top` down, and what in it is none."""
        if not top.is_dir():
            return
        pending = [top]
        while pending:
            directory = pending.pop()
            below: list[RemofilePath] = []
            others: list[RemofilePath] = []
            for entry in _entries(directory):
                (below if is_directory(entry, self._recurse_symlinks) else others).append(directory / entry.name)
            yield directory, others
            pending += reversed(below)


def _entries(directory: RemofilePath) -> list[DirEntry[str]]:
    """Of whatever is a directory that may be read; any other error is the caller's to hear of."""
    try:
        with directory.client.scandir(str(directory)) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
