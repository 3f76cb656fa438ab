"""The worker's own cgroup: it enters by itself, as long as nothing of it is locked, and can never leave.

The supervisor has made it, with its limits, and lends the open `cgroup.procs`: the kernel judges a write by who opened
the file, so this process needs no right to the tree, and Landlock keeps it from ever opening a file there.
"""

import os
from collections.abc import Sequence

from protocol.zygote import Layer, LayerReport
from workers.sandbox.layers import missing


def enter(directory: str | None, procs: Sequence[int]) -> LayerReport:
    """Move this process, threads to come included, and close what was lent. Says so if it could not."""
    try:
        for fd in procs:
            os.write(fd, b"0")  # whoever writes it
    except OSError as error:
        return missing(Layer.CGROUP, f"{directory}: {error.strerror}")
    finally:
        for fd in procs:
            os.close(fd)
    if not procs:
        return missing(Layer.CGROUP, "none was delegated to runnerd")
    return LayerReport(layer=Layer.CGROUP, is_applied=True, detail="memory and threads are counted by the kernel")
