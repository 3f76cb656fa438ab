"""What PostgreSQL prints, kept in a file that cannot fill the disk: one full file and one being written.

Also remembers the last lines, for the error when a start fails. Written by `server` from the pipe of the process.
"""

import os
from collections import deque
from pathlib import Path

MAX_BYTES = 1024 * 1024
TAIL_LINES = 20
MAX_LINE = 1000


class LogFile:
    """An append-only log of bounded size. A write that fails is dropped: a full disk must not stop the ledger."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._file: int | None = None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._partial = b""

    def write(self, data: bytes) -> None:
        """Append `data` as it comes from the pipe."""
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()[-MAX_LINE:]
        self._tail.extend(line[:MAX_LINE].decode(errors="replace") for line in lines)
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            if os.fstat(self._file).st_size + len(data) > self._max_bytes:
                self.close()
                self._path.rename(self._path.with_name(self._path.name + ".1"))
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.write(self._file, data)
        except OSError:
            self.close()

    def tail(self) -> str:
        """The last lines, oldest first."""
        rest = [self._partial.decode(errors="replace")] if self._partial else []
        return "\n".join((*self._tail, *rest))

    def close(self) -> None:
        """Close the file. A later write opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
