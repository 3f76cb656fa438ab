"""Words between the supervisor, the zygote and a worker that is being born, and how they travel: one JSON message and
its file descriptors per SEQPACKET datagram.

Both directions stay inside one host and are spoken by our own code only: a worker's birth socket is closed before the
first line of plugin code runs. What plugins say travels on the ZeroMQ link, see `messages`.
"""

import os
import signal
import socket
from array import array
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from protocol.errors import ProtocolError
from protocol.limits import MAX_NAME_LENGTH, MAX_TEXT_LENGTH

MAX_PACKET_BYTES: Final = 128 << 10
MAX_PACKET_FDS: Final = 4
MAX_PATHS: Final = 64
MAX_PATH_LENGTH: Final = 4_096

MIB: Final = 1 << 20

Path: TypeAlias = Annotated[str, Meta(pattern="^/", max_length=MAX_PATH_LENGTH)]
PluginName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
Generation: TypeAlias = Annotated[int, Meta(ge=1)]
Digest: TypeAlias = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]


class Layer(StrEnum):
    """One independent part of the sandbox. `workers.sandbox.layers` says in words what each missing one costs."""

    RLIMITS = "rlimits"
    NAMESPACES = "namespaces"
    PRIVILEGES = "privileges"
    LANDLOCK = "landlock"
    LANDLOCK_NETWORK = "landlock_network"
    LANDLOCK_SCOPES = "landlock_scopes"
    SECCOMP = "seccomp"
    SECCOMP_NOTIFY = "seccomp_notify"
    CGROUP = "cgroup"


class LayerReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a worker wears a layer: how (limits, ABI, number of rules), or why not and what that costs, in words."""

    layer: Layer
    is_applied: bool
    detail: str
    cost: str | None = None


class PluginSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the plugin's class is: a file, an importable module, or an installed entry point."""

    kind: Literal["path", "module", "entry_point"]
    value: str
    venv: Path | None = None
    """A virtual environment of the plugin's own, whose packages come before the worker's."""
    pin: Digest | None = None
    """The only code that may run."""

    def pin_problem(self, digest: str) -> str | None:
        """Why code with this digest may not run, and what to do; None if it may."""
        if self.pin in (None, digest):
            return None
        return (
            f"its code is {digest}, and pin allows only {self.pin}: if the change is meant, review it and write "
            "the new digest (runnerctl check shows it), else put the old code back; then runnerctl restart"
        )


class LoopSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `workers.loop` has to know before the link carries anything."""

    generation: Generation
    threads: Annotated[int, Meta(ge=1, le=1_000)] = 16
    """In which plain `def decide`s run: as many as there may be calls at once."""


class WorkerLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Resources of one worker. `max_threads` binds only inside a user namespace: the kernel counts per user there."""

    memory_bytes: Annotated[int, Meta(ge=64 * MIB)] = 1024 * MIB
    """Private writable memory: heap, anonymous mappings, thread stacks."""
    max_threads: Annotated[int, Meta(ge=8, le=4_096)] = 64
    max_fds: Annotated[int, Meta(ge=32, le=65_536)] = 256
    scheduling: Literal["idle", "normal"] = "idle"
    """`idle`: a spinning plugin takes only the time that nobody else wants (supervisor's spawn p99 0.9 ms, not 8)."""


class SandboxPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a worker may not be started without, beside the floor of Landlock, seccomp and rlimits."""

    namespaces: Literal["auto", "require", "off"] = "auto"
    require: tuple[Layer, ...] = ()


class Spawn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="spawn"):
    """Supervisor → zygote: start a worker. Carries three descriptors: birth socket, stdout, stderr.

    With `cgroup` a fourth, the `cgroup.procs` of that directory: the worker writes itself into it.
    """

    plugin: PluginName
    generation: Generation
    link_dir: Path
    link_address: Annotated[str, Meta(pattern="^ipc:///")]
    code: PluginSource
    python: Path | None = None
    """The interpreter whose zygote is asked; None: the supervisor's own."""
    read_paths: Annotated[tuple[Path, ...], Meta(max_length=MAX_PATHS)] = ()
    limits: WorkerLimits = WorkerLimits()
    sandbox: SandboxPolicy = SandboxPolicy()
    loop: LoopSettings
    cgroup: Path | None = None

    @property
    def worker(self) -> str:
        """The id by which all reports name this worker: `plugin#generation`."""
        return f"{self.plugin}#{self.generation}"


class Ready(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="ready"):
    """Zygote → supervisor, once: everything is preloaded, requests are served from now on."""


class Spawned(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="spawned"):
    """Zygote → supervisor: the process exists. Carries its pidfd; a pid of the zygote's namespace would say nothing."""

    worker: str


class NotSpawned(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="not_spawned"):
    """Zygote → supervisor: the host refused a process. There will be no Exited."""

    worker: str
    reason: str


class Exited(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="exited"):
    """Zygote → supervisor: the worker is gone and reaped."""

    worker: str
    status: int
    """The exit code, or minus the number of the signal that ended it."""
    max_rss_bytes: int
    """High-water mark of resident memory, with the pages shared with the zygote."""
    cpu_s: float

    def describe(self) -> str:
        """`exit code 1` or `killed by SIGKILL`."""
        return describe_status(self.status)


class Born(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="born"):
    """Worker → supervisor: locked in, link bound, plugin not yet imported. Carries the seccomp notify fd, if any."""

    layers: tuple[LayerReport, ...]
    digest: Digest
    """Of the plugin's code. Said here and not only in Hello, because plugin code has a part in whatever follows."""


class Refused(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="refused"):
    """Worker → supervisor: this host cannot give a layer that is required; the worker exits."""

    layer: str
    reason: str


class Unfit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="unfit"):
    """Worker → supervisor: there is no such code, it cannot be identified, or it is not the pinned one; it exits."""

    reason: Annotated[str, Meta(max_length=MAX_TEXT_LENGTH)]


class Identified(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`workers.identify` → `runnerctl`: the digest of a plugin's code, or why there is none."""

    digest: Digest | None = None
    problem: str | None = None


M = TypeVar("M")

ToZygote: TypeAlias = Spawn
FromZygote: TypeAlias = Ready | Spawned | NotSpawned | Exited
FromBirth: TypeAlias = Born | Refused | Unfit

_encoder = msgspec.json.Encoder()
_to_zygote: msgspec.json.Decoder[ToZygote] = msgspec.json.Decoder(Spawn)
_from_zygote: msgspec.json.Decoder[FromZygote] = msgspec.json.Decoder(FromZygote)
_from_birth: msgspec.json.Decoder[FromBirth] = msgspec.json.Decoder(FromBirth)


def encode(message: ToZygote | FromZygote | FromBirth) -> bytes:
    """One datagram. Raises ProtocolError when it does not fit, or holds text that is not Unicode."""
    try:
        packet = _encoder.encode(message)
    except UnicodeEncodeError as error:
        raise ProtocolError(f"{type(message).__name__} cannot be encoded: {error.reason}") from error
    if len(packet) > MAX_PACKET_BYTES:
        raise ProtocolError(f"{type(message).__name__} takes {len(packet)} bytes, the limit is {MAX_PACKET_BYTES}")
    return packet


def decode_to_zygote(packet: bytes) -> ToZygote:
    """What the supervisor asks of the zygote. Raises ProtocolError, and nothing else, for whatever is not that."""
    return _decode(_to_zygote, packet)


def decode_from_zygote(packet: bytes) -> FromZygote:
    """What the zygote reports. Raises ProtocolError, and nothing else, for whatever is not that."""
    return _decode(_from_zygote, packet)


def decode_from_birth(packet: bytes) -> FromBirth:
    """What a worker says while it is born. Raises ProtocolError, and nothing else, for whatever is not that."""
    return _decode(_from_birth, packet)


def send_packet(channel: socket.socket, packet: bytes, fds: Sequence[int] = ()) -> None:
    """Send one datagram with copies of `fds`; the caller's own stay open. Raises what the socket raises."""
    socket.send_fds(channel, [packet], fds)


def receive_packet(channel: socket.socket) -> tuple[bytes, tuple[int, ...]]:
    """The next datagram and its descriptors, all close-on-exec; `b""` at the end. The caller owns the descriptors.

    Raises ProtocolError for a datagram that was cut short, after closing what came with it.
    """
    # Not socket.recv_fds: before Python 3.13 it ignores the flag that keeps descriptors from leaking through an exec.
    space = socket.CMSG_LEN(MAX_PACKET_FDS * array("i").itemsize)
    packet, ancillary, flags, _ = channel.recvmsg(MAX_PACKET_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    fds = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        close_all(fds)
        raise ProtocolError(f"a packet larger than {MAX_PACKET_BYTES} bytes, or with more than {MAX_PACKET_FDS} fds")
    return packet, tuple(fds)


def describe_status(status: int) -> str:
    """The end of a process in words: an exit code, or minus the number of a signal."""
    if status >= 0:
        return f"exit code {status}"
    known = {number.value: number.name for number in signal.Signals}
    return f"killed by {known.get(-status, f'signal {-status}')}"


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors that came with a packet nobody wants."""
    for fd in fds:
        os.close(fd)


def _decode(decoder: msgspec.json.Decoder[M], packet: bytes) -> M:
    try:
        return decoder.decode(packet)
    except (ValueError, RecursionError) as error:  # msgspec's errors and UnicodeDecodeError are ValueErrors
        raise ProtocolError(f"not a message of the zygote: {error}") from error
