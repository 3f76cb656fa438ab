"""What a process holds of the machine's memory for itself."""

import os
from pathlib import Path
from typing import Final

PAGE_BYTES: Final = os.sysconf("SC_PAGESIZE")


def private_memory(pid: int) -> int | None:
    """Bytes that this process alone holds; None where the kernel does not let us look."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return _resident(pid)
    return sum(
        int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(("Private_Clean", "Private_Dirty"))
    )


def _resident(pid: int) -> int | None:
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, ValueError):
        return None
    return (int(resident) - int(shared)) * PAGE_BYTES
