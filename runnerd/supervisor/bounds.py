"""Keeps one worker within its limits: the cgroup it is born into, and the looks at it. Owned by `worker`.

What a limit is says `limits`; this only holds both keepers for the life of one generation.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

from msgspec import structs

from protocol.zygote import Spawn
from runnerd.log import fields
from runnerd.supervisor.cgroups import Cgroups, WorkerCgroup
from runnerd.supervisor.limits import Limits
from runnerd.supervisor.monitor import Monitor, Watch
from runnerd.supervisor.noise import Noise

logger = logging.getLogger("runnerd.worker")


class Bounds:
    """Of one generation. Without `monitor` and `cgroups` the walls of `limits` are all there is."""

    def __init__(
        self,
        limits: Limits | None = None,
        monitor: Monitor | None = None,
        cgroups: Cgroups | None = None,
        noise: Noise | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.noise = noise or Noise()
        self._monitor = monitor
        self._cgroups = cgroups
        self._cgroup: WorkerCgroup | None = None
        self._watch: Watch | None = None

    def prepare(self, request: Spawn) -> Spawn:
        """Make its cgroup. Where that fails it goes without: its report says so, and `sandbox.require` decides."""
        if self._cgroups is None:
            return request
        name = f"{request.plugin}.{request.generation}"
        try:
            self._cgroup = self._cgroups.make(name, self.limits, is_idle=request.limits.scheduling == "idle")
        except OSError as error:
            logger.warning(
                "%s has no cgroup: %s", request.worker, error,
                extra=fields("cgroup_failed", plugin=request.plugin, generation=request.generation),
            )  # fmt: skip
            return request
        return structs.replace(request, cgroup=str(self._cgroup.directory))

    def watch(self, pid: int, on_over: Callable[[str], None]) -> None:
        """It is born: look at it until `close`."""
        if self._monitor is None:
            return
        is_slowed = self._cgroups is not None and self._cgroup is not None and self._cgroups.has_cpu
        limits = replace(self.limits, cpus=None) if is_slowed else self.limits
        self._watch = self._monitor.watch(pid, limits, on_over)

    def find_excess(self) -> str | None:
        """Why the kernel has ended it, if that was for a limit."""
        return self._cgroup.find_excess() if self._cgroup is not None else None

    def close(self) -> None:
        """It has ended: look no more, and give its cgroup back."""
        if self._watch is not None:
            self._watch.close()
        if self._cgroups is not None and self._cgroup is not None:
            self._cgroups.remove(self._cgroup.directory)
