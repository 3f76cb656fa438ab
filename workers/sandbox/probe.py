"""`python -I -m workers.sandbox.probe`: puts on each layer for real, in a child of its own, and prints what holds here.

One JSON object, layer by layer: `available`, `detail`, `is_required` (the floor), and for a missing one `cost` and
`remedy`. `runnerctl doctor` runs it as a program, because `runnerd` never imports `workers`.
"""

import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from protocol.zygote import Layer, LayerReport, WorkerLimits
from workers.sandbox import cpu, landlock, namespaces, privileges, readable, rlimits, seccomp
from workers.sandbox.errors import SandboxRefusedError
from workers.sandbox.layers import FLOOR, REMEDY, missing

Attempt: TypeAlias = Callable[[], Sequence[LayerReport]]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What the printed object holds for each layer."""

    available: bool
    is_required: bool
    detail: str
    cost: str | None
    remedy: str | None


def probe() -> dict[Layer, Finding]:
    """Try every layer. Forks; single-threaded callers only."""
    reports = [report for layers, attempt in _ATTEMPTS for report in _in_child(layers, attempt)]
    return {
        report.layer: Finding(
            available=report.is_applied,
            is_required=report.layer in FLOOR,
            detail=report.detail,
            cost=report.cost,
            remedy=None if report.is_applied else REMEDY[report.layer],
        )
        for report in reports
    }


def _try_rlimits() -> Sequence[LayerReport]:
    limits = WorkerLimits()
    report = rlimits.apply(limits, is_counted_alone=False)
    rlimits.be_first_to_go()
    cpu.take_place(limits.scheduling)
    rlimits.limit_fds(limits.max_fds)
    return (report,)


def _try_namespaces() -> Sequence[LayerReport]:
    obstacle = namespaces.find_obstacle()
    return (namespaces.APPLIED if obstacle is None else missing(Layer.NAMESPACES, obstacle),)


def _try_privileges() -> Sequence[LayerReport]:
    return (privileges.apply(),)


def _try_landlock() -> Sequence[LayerReport]:
    privileges.apply()
    reports = landlock.apply(readable=readable.runtime_paths(), extra=(), socket_dir=None)
    try:
        next(Path("/").iterdir())
    except PermissionError:
        return reports
    return (missing(Layer.LANDLOCK, "the kernel accepted the rules, but `/` can still be listed"), *reports[1:])


def _try_seccomp() -> Sequence[LayerReport]:
    privileges.apply()
    notify_fd, reports = seccomp.load(own_pid=os.getpid(), birth_fd=WorkerLimits().max_fds)
    if notify_fd is not None:
        os.close(notify_fd)  # nobody would answer: now the kernel does
    try:
        socket.socket().close()
    except OSError:
        return reports
    return (missing(Layer.SECCOMP, "the kernel accepted the filter, but a socket can still be made"), *reports[1:])


_ATTEMPTS: Final[tuple[tuple[tuple[Layer, ...], Attempt], ...]] = (
    ((Layer.RLIMITS,), _try_rlimits),
    ((Layer.NAMESPACES,), _try_namespaces),
    ((Layer.PRIVILEGES,), _try_privileges),
    ((Layer.LANDLOCK, Layer.LANDLOCK_NETWORK, Layer.LANDLOCK_SCOPES), _try_landlock),
    ((Layer.SECCOMP, Layer.SECCOMP_NOTIFY), _try_seccomp),
)

_decoder: Final = msgspec.json.Decoder(list[LayerReport])


def _in_child(layers: Sequence[Layer], attempt: Attempt) -> Sequence[LayerReport]:
    """There is no way back out of a layer, so each is put on in a process that ends at once."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write_end, msgspec.json.encode(_attempt(layers, attempt)))
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        packet = answer.read()
    _, status = os.waitpid(child, 0)
    if packet:
        return _decoder.decode(packet)
    return [missing(layer, f"the attempt ended with status {os.waitstatus_to_exitcode(status)}") for layer in layers]


def _attempt(layers: Sequence[Layer], attempt: Attempt) -> Sequence[LayerReport]:
    try:
        return attempt()
    except (SandboxRefusedError, OSError, ValueError) as error:
        why = error.reason if isinstance(error, SandboxRefusedError) else f"{type(error).__name__}: {error}"
        return [missing(layer, why) for layer in layers]


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(probe())).decode() + "\n")
