"""The words between supervisor, zygote and newborn worker: their bytes, and that nothing else is accepted."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ProtocolError
from protocol.zygote import (
    MAX_PACKET_BYTES,
    MAX_PACKET_FDS,
    Born,
    Exited,
    Layer,
    LayerReport,
    LoopSettings,
    NotSpawned,
    PluginSource,
    Ready,
    Refused,
    SandboxPolicy,
    Spawn,
    Spawned,
    Unfit,
    WorkerLimits,
    close_all,
    decode_from_birth,
    decode_from_zygote,
    decode_to_zygote,
    encode,
    receive_packet,
    send_packet,
)

DIGEST = "sha256:" + "0" * 64
SPAWN = Spawn(
    plugin="alpha",
    generation=3,
    link_dir="/run/runnerd/links/alpha.3",
    link_address="ipc:///run/runnerd/links/alpha.3/link",
    code=PluginSource(kind="path", value="/srv/alpha.py", venv="/srv/venv", pin=DIGEST),
    python="/srv/venv/bin/python",
    read_paths=("/srv/alpha.py",),
    limits=WorkerLimits(memory_bytes=1 << 30, max_threads=64, max_fds=256, scheduling="idle"),
    sandbox=SandboxPolicy(namespaces="auto", require=(Layer.LANDLOCK_SCOPES,)),
    loop=LoopSettings(generation=3, threads=24),
    cgroup="/sys/fs/cgroup/runnerd.service/workers/alpha.3",
)
SPAWN_BYTES = (
    b'{"type":"spawn","plugin":"alpha","generation":3,"link_dir":"/run/runnerd/links/alpha.3",'
    b'"link_address":"ipc:///run/runnerd/links/alpha.3/link","code":{"kind":"path","value":"/srv/alpha.py",'
    b'"venv":"/srv/venv","pin":"' + DIGEST.encode() + b'"},"python":"/srv/venv/bin/python",'
    b'"read_paths":["/srv/alpha.py"],'
    b'"limits":{"memory_bytes":1073741824,"max_threads":64,"max_fds":256,"scheduling":"idle"},'
    b'"sandbox":{"namespaces":"auto","require":["landlock_scopes"]},"loop":{"generation":3,"threads":24},'
    b'"cgroup":"/sys/fs/cgroup/runnerd.service/workers/alpha.3"}'
)


def test_the_bytes_of_a_spawn_do_not_change_unnoticed() -> None:
    """Both ends come from one installation, but a restart in the middle of an upgrade meets the other's bytes."""
    assert encode(SPAWN) == SPAWN_BYTES
    assert decode_to_zygote(SPAWN_BYTES) == SPAWN
    assert SPAWN.worker == "alpha#3"


@pytest.mark.parametrize(
    "report, packet",
    [
        (Ready(), b'{"type":"ready"}'),
        (Spawned(worker="a#1"), b'{"type":"spawned","worker":"a#1"}'),
        (NotSpawned(worker="a#1", reason="fork"), b'{"type":"not_spawned","worker":"a#1","reason":"fork"}'),
        (
            Exited(worker="a#1", status=-9, max_rss_bytes=4096, cpu_s=0.25),
            b'{"type":"exited","worker":"a#1","status":-9,"max_rss_bytes":4096,"cpu_s":0.25}',
        ),
    ],
)
def test_the_bytes_of_the_zygotes_reports(report: Ready | Spawned | NotSpawned | Exited, packet: bytes) -> None:
    """Golden bytes, both ways."""
    assert encode(report) == packet
    assert decode_from_zygote(packet) == report


@pytest.mark.parametrize(
    "message, packet",
    [
        (
            Born(digest=DIGEST, layers=(LayerReport(layer=Layer.SECCOMP, is_applied=False, detail="no", cost="all"),)),
            b'{"type":"born","layers":[{"layer":"seccomp","is_applied":false,"detail":"no","cost":"all"}],'
            b'"digest":"' + DIGEST.encode() + b'"}',
        ),
        (Unfit(reason="pinned"), b'{"type":"unfit","reason":"pinned"}'),
        (Refused(layer="landlock", reason="absent"), b'{"type":"refused","layer":"landlock","reason":"absent"}'),
    ],
)
def test_the_bytes_of_a_birth(message: Born | Refused | Unfit, packet: bytes) -> None:
    """Golden bytes, both ways."""
    assert encode(message) == packet
    assert decode_from_birth(packet) == message


@pytest.mark.parametrize(
    "change",
    [
        (b'"generation":3', b'"generation":0'),
        (b'"/srv/alpha.py"]', b'"relative.py"]'),
        (b'"ipc:///run', b'"tcp:///run'),
        (b'"max_fds":256', b'"max_fds":4'),
        (b'"auto"', b'"maybe"'),
        (b'"type":"spawn"', b'"type":"spawned"'),
        (b'"plugin":"alpha"', b'"extra":1,"plugin":"alpha"'),
    ],
)
def test_a_spawn_with_a_wrong_value_is_refused(change: tuple[bytes, bytes]) -> None:
    """Bounds, patterns and unknown fields are the wire's affair, not that of the code behind it."""
    packet = SPAWN_BYTES.replace(*change)
    assert packet != SPAWN_BYTES
    with pytest.raises(ProtocolError):
        decode_to_zygote(packet)


@given(st.binary(max_size=200))
def test_nothing_but_a_protocol_error_comes_of_any_bytes(packet: bytes) -> None:
    """Whoever reads a socket catches one exception."""
    for decode in (decode_to_zygote, decode_from_zygote, decode_from_birth):
        with pytest.raises(ProtocolError):
            decode(packet)


@pytest.mark.parametrize("path", ["/x\udc80", "/" + "x" * (MAX_PACKET_BYTES + 1)])
def test_what_cannot_be_sent_is_a_protocol_error(path: str) -> None:
    """A file name that is no text, or a request that is too long."""
    with pytest.raises(ProtocolError):
        encode(NotSpawned(worker=path, reason=""))


def test_descriptors_arrive_close_on_exec_and_only_as_many_as_expected() -> None:
    """A descriptor that leaks through an exec is a hole; one that is dropped silently is a leak."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        send_packet(ours, b"two", [0, 1])
        packet, fds = receive_packet(theirs)
        assert (packet, len(fds)) == (b"two", 2)
        assert not any(os.get_inheritable(fd) for fd in fds)
        close_all(fds)
        send_packet(ours, b"many", [0] * (MAX_PACKET_FDS + 1))
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(ProtocolError):
            receive_packet(theirs)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        ours.close()
        assert receive_packet(theirs) == (b"", ())
