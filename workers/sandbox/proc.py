"""Short texts in /proc, read and written with two system calls.

Not pathlib: opening a text file the comfortable way runs so much of the library that every worker would hold 0.2 MiB
more for itself (each object that is looked at is a page copied from the zygote).
"""

import os

_MAX_BYTES = 4096


def read(name: str) -> str:
    """The text at `/proc/NAME`, at most a page. Raises OSError."""
    fd = os.open(f"/proc/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _MAX_BYTES).decode(errors="replace")
    finally:
        os.close(fd)


def write(name: str, text: str) -> None:
    """Write `text` to `/proc/NAME`, which takes it whole or not at all. Raises OSError."""
    fd = os.open(f"/proc/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
