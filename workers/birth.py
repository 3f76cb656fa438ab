"""A worker's way from the fork into the locked sandbox, in the order of docs/security.md, and on to its loop.

Owns the order and the one message to the supervisor, Born, Refused or Unfit; each layer is a file of `workers.sandbox`.
Called by `workers.zygote` in the forked child. Until `run` is called not one line of plugin code has run.
"""

import asyncio
import os
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

import zmq
from setproctitle import setproctitle

from protocol.limits import LINK_HWM, MAX_FRAME_BYTES, MAX_TEXT_LENGTH
from protocol.zygote import (
    Born,
    Layer,
    LayerReport,
    LoopSettings,
    Refused,
    Spawn,
    Unfit,
    decode_to_zygote,
    encode,
    receive_packet,
    send_packet,
)
from workers.decide import encodable
from workers.lifeline import die_with
from workers.locate import PluginCode, identify
from workers.sandbox import (
    cgroup,
    cpu,
    descriptors,
    landlock,
    layers,
    namespaces,
    privileges,
    readable,
    rlimits,
    seccomp,
)
from workers.sandbox.errors import SandboxRefusedError
from workers.sdk.plugin import PluginError

Run: TypeAlias = Callable[["zmq.Socket[bytes]", asyncio.AbstractEventLoop, PluginCode, LoopSettings], None]
"""What a worker does with its life: `workers.loop.run`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embryo:
    """A forked child before it knows which worker it will be: its Spawn comes down the `channel`.

    `obstacle`: why it gets no namespaces, if it does not.
    """

    channel: socket.socket
    zygote_pid: int
    obstacle: str | None


def be_born(embryo: Embryo, run: Run) -> NoReturn:
    """Live and die as a worker. Whatever happens, the process ends here and never returns into the zygote's stack."""
    status = 1
    try:
        _live(embryo, run)
        status = 0
    except BaseException:  # plugin code ran below: it may raise anything, and the traceback is all that is left of it
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):  # nobody reads it any more, or the plugin closed it
            sys.stdout.flush()
        # Not sys.exit: the interpreter would wait for threads that the plugin left behind.
        os._exit(status)


def _live(embryo: Embryo, run: Run) -> None:
    # What every worker needs in the same way is done before anyone asks for it: this process is the zygote's spare.
    descriptors.keep_only(embryo.channel.fileno())
    isolation = _isolate(embryo)
    rlimits.be_first_to_go()
    setproctitle("worker: spare")
    privileged = privileges.apply()
    loop = asyncio.new_event_loop()
    with embryo.channel:
        packet, fds = receive_packet(embryo.channel)
    if not packet:
        return  # the zygote is gone
    spawn = decode_to_zygote(packet)
    birth_fd, stdout_fd, stderr_fd, *cgroup_fds = fds
    bounded = cgroup.enter(spawn.cgroup, cgroup_fds)
    birth_slot = spawn.limits.max_fds
    descriptors.take(birth=birth_fd, stdout=stdout_fd, stderr=stderr_fd, birth_slot=birth_slot)
    setproctitle(f"worker: {spawn.plugin} #{spawn.generation}")
    with socket.socket(fileno=birth_slot) as birth:
        try:
            link, notify_fd, reports = _lock(spawn, isolation, privileged)
            reports = (*reports, bounded)
            layers.validate(reports, spawn.sandbox)
            code = identify(spawn.code)
        except SandboxRefusedError as refusal:
            send_packet(birth, encode(Refused(layer=refusal.layer, reason=refusal.reason)))
            return
        except PluginError as problem:
            send_packet(birth, encode(Unfit(reason=encodable(str(problem))[:MAX_TEXT_LENGTH])))
            return
        send_packet(birth, encode(Born(layers=reports, digest=code.digest)), [] if notify_fd is None else [notify_fd])
    if notify_fd is not None:
        os.close(notify_fd)
    rlimits.limit_fds(spawn.limits.max_fds)
    run(link, loop, code, spawn.loop)


def _isolate(embryo: Embryo) -> LayerReport:
    """Enter the namespaces if it may, and die with the zygote."""
    if embryo.obstacle is None:
        namespaces.enter()
    die_with(embryo.zygote_pid)
    return namespaces.APPLIED if embryo.obstacle is None else layers.missing(Layer.NAMESPACES, embryo.obstacle)


def _lock(
    spawn: Spawn, isolation: LayerReport, privileged: LayerReport
) -> tuple["zmq.Socket[bytes]", int | None, tuple[LayerReport, ...]]:
    """Close the sandbox around this process. Returns the link, the seccomp notify fd, and what the sandbox has."""
    limited = rlimits.apply(spawn.limits, is_counted_alone=isolation.is_applied)
    files = landlock.apply(readable=readable.runtime_paths(), extra=spawn.read_paths, socket_dir=spawn.link_dir)
    cpu.take_place(spawn.limits.scheduling)
    # The context's threads start here: they inherit all of the above, and TSYNC binds them to what follows.
    link = bind(spawn.link_address)
    notify_fd, filters = seccomp.load(own_pid=os.getpid(), birth_fd=spawn.limits.max_fds)
    return link, notify_fd, (limited, isolation, privileged, *files, *filters)


def bind(address: str) -> "zmq.Socket[bytes]":
    """The worker's end of the link. The supervisor dials; a worker never connects to anything."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
    link = context.socket(zmq.DEALER)
    link.setsockopt(zmq.LINGER, 0)
    link.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    link.setsockopt(zmq.SNDHWM, LINK_HWM)
    link.setsockopt(zmq.RCVHWM, LINK_HWM)
    link.bind(address)
    return link
