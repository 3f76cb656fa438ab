"""What a service with the shipped unit can do with the cgroup that it was given: one JSON line. See
`test_unit_delegation`.
"""

import json
import os
import sys

from runnerd.supervisor.cgroups import open_cgroups
from runnerd.supervisor.limits import MIB, Limits


def main() -> None:
    """As runnerd does it: move aside, make one for a worker, let the kernel end that for its memory."""
    found: dict[str, object] = {"uid": os.getuid()}
    cgroups = open_cgroups()
    with open("/proc/self/cgroup", encoding="ascii") as text:  # noqa: PTH123  # as short as it gets
        found["own"] = text.read().strip()
    if cgroups is not None:
        worker = cgroups.make("alpha.1", Limits(memory_bytes=64 * MIB, cpus=0.5), is_idle=True)
        lent = os.open(worker.directory / "cgroup.procs", os.O_WRONLY)
        child = os.fork()
        if child == 0:
            os.write(lent, b"0")
            hoarded = [bytearray(b"x") * MIB for _ in range(200)]
            os._exit(len(hoarded) & 1)
        found["status"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found["excess"] = worker.find_excess()
        cgroups.remove(worker.directory)
        found["removed"] = not worker.directory.exists()
    sys.stdout.write(f"FOUND {json.dumps(found)}\n")


if __name__ == "__main__":
    main()
