"""What a plugin's code is: each of its files by its SHA-256, read before one line of it runs, and one digest of all.

Owns the manifest and its bounds, and gives out bytes of the code only if they are those that were counted. Where the
code is says `workers.locate`; `workers.importer` and `workers.loader` run it.
"""

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from typing import Final

from workers.sdk.plugin import PluginError

MAX_FILES: Final = 5_000
MAX_BYTES: Final = 64 << 20
MAX_DEPTH: Final = 32
MAX_CPU_S: Final = 5.0
"""Of this thread: on a busy host a worker waits for long. The deadline of Hello bounds the time on the wall."""

IGNORED: Final = frozenset({"__pycache__", ".git", ".hg", ".svn", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
"""Directories that tools write. Nothing in them can be imported, see `Tree.__contains__`."""

BYTECODE: Final = ".pyc"


class CodeError(PluginError):
    """The plugin's code cannot be identified, or is not what it was when it was. The text says which file and why."""


class Tree:
    """A file, or a directory with all below it, as it was when it was scanned. Paths given to it are absolute."""

    def __init__(self, root: str, files: dict[str, bytes], kept: dict[str, bytes]) -> None:
        self.root = root
        self.digest = "sha256:" + _digest_of_all(files).hex()
        self._files = files
        self._kept = kept
        self._directories = {parent for path in files for parent in _parents(path)}

    def is_around(self, path: str) -> bool:
        """Whether `path` (resolved) is the root or below it."""
        return path == self.root or path.startswith(self.root + os.sep)

    def __contains__(self, path: str) -> bool:
        """Whether it is a file that was counted."""
        return self.is_around(path) and self._relative(path) in self._files

    def has_directory(self, path: str) -> bool:
        """Whether it is a directory with a counted file below it."""
        return self.is_around(path) and self._relative(path) in self._directories

    def names_in(self, path: str) -> Iterator[str]:
        """Names of the counted files and directories right in the directory `path`."""
        prefix = self._relative(path) and self._relative(path) + os.sep
        for known in (*self._files, *self._directories):
            if known.startswith(prefix) and known != prefix.rstrip(os.sep) and os.sep not in known[len(prefix) :]:
                yield known[len(prefix) :]

    def read(self, path: str) -> bytes:
        """The bytes of a counted file, which are those that were counted. Raises CodeError if they changed since."""
        kept = self._kept.pop(self._relative(path), None)
        if kept is not None:
            return kept
        code = _read(path, MAX_BYTES)
        if hashlib.sha256(code).digest() != self._files[self._relative(path)]:
            raise CodeError(
                f"{path} was changed on disk after this worker started; runnerctl restart takes it as it is"
            )
        return code

    def _relative(self, path: str) -> str:
        return path[len(self.root) + 1 :]


def scan(path: str, *, first: str = "") -> Tree:
    """Read and count the file or directory `path`. Raises CodeError for what cannot be told, or is beyond a bound.

    `first`, relative to a directory, is kept as it was read: it is what runs first. A single file is kept anyway.
    """
    root = os.path.realpath(path)
    files: dict[str, bytes] = {}
    kept: dict[str, bytes] = {}
    left = MAX_BYTES
    until = time.thread_time() + MAX_CPU_S
    for relative in _walk(root, "", 0) if os.path.isdir(root) else ("",):
        place = os.path.join(root, relative) if relative else root
        code = _code_at(place, left)
        left -= len(code)
        files[relative] = hashlib.sha256(code).digest()
        if relative == first:
            kept[relative] = code
        if len(files) > MAX_FILES or left < 0 or time.thread_time() > until:
            raise CodeError(
                f"the plugin's code in {root} is more than {MAX_FILES} files, {MAX_BYTES >> 20} MiB or {MAX_CPU_S:g} s "
                "of reading: keep data elsewhere, under sandbox.readable_paths"
            )
    return Tree(root, files, kept)


def _digest_of_all(files: dict[str, bytes]) -> bytes:
    """Of a single file its own, so that `sha256sum` shows it; of more that of the list that `sha256sum` would print."""
    if files.keys() == {""}:
        return files[""]
    lines = (f"{files[path].hex()}  {path}\n" for path in sorted(files, key=os.fsencode))
    return hashlib.sha256("".join(lines).encode()).digest()


def _walk(root: str, directory: str, depth: int) -> Iterator[str]:
    """Relative paths of what counts below `directory`: files, and links that stay inside."""
    if depth > MAX_DEPTH:
        raise CodeError(f"the directories in {root} are more than {MAX_DEPTH} deep")
    try:
        with os.scandir(os.path.join(root, directory)) as listing:
            entries = list(listing)
    except OSError as error:
        raise CodeError(f"plugin code {os.path.join(root, directory)} cannot be read: {error.strerror}") from error
    for entry in entries:
        relative = os.path.join(directory, entry.name)
        if entry.name in IGNORED or entry.name.endswith(BYTECODE):
            continue
        if not entry.name.isprintable():
            raise CodeError(f"the name {entry.name!r} in {root} cannot be shown: rename it")
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if not target.startswith(root + os.sep):
                raise CodeError(f"{entry.path} is a symbolic link that leaves the plugin's directory, to {target}")
            yield relative
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(root, relative, depth + 1)
        else:
            yield relative


def _code_at(path: str, left: int) -> bytes:
    """What counts for `path`: its bytes; of a link to a directory of the tree, which is not entered, where it leads."""
    if os.path.islink(path) and not os.path.isfile(path):
        return b"link to " + os.fsencode(os.readlink(path))
    return _read(path, left)


def _read(path: str, left: int) -> bytes:
    """The whole file, or one byte more than `left`. Raises CodeError."""
    try:
        # O_NONBLOCK: opening a pipe would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise CodeError(f"{path} is not a file: it cannot be a part of a plugin's code")
            chunks = []
            while left >= 0 and (chunk := file.read(min(left + 1, 1 << 20))):
                chunks.append(chunk)
                left -= len(chunk)
            return b"".join(chunks)
    except OSError as error:
        raise CodeError(f"plugin code {path} cannot be read: {error.strerror}") from error


def _parents(path: str) -> Iterator[str]:
    while path:
        path = os.path.dirname(path)
        yield path
