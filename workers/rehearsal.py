"""One whole life of a worker, played in the zygote before the first fork: import, Hello, a call, Stop.

CPython rewrites a function's bytecode, and fills caches, while it runs the first few times, each time on a page that
was shared. What was rehearsed stays shared: a worker costs 0.3 MiB less, and is ready sooner. And an installation that
cannot run plugins shows when the zygote starts. Plays the supervisor's part itself; nothing of it leaves the process.
"""

import asyncio
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import zmq

from protocol.codec import decode_from_worker, encode
from protocol.messages import BlockRef, Call, Decide, Decision, Hello, Origin, Stop, TriggerKind, VaultRef, Welcome
from protocol.zygote import (
    Born,
    Layer,
    LayerReport,
    LoopSettings,
    PluginSource,
    Spawn,
    close_all,
    decode_to_zygote,
    receive_packet,
    send_packet,
)
from protocol.zygote import encode as encode_word
from workers import log_handler
from workers.birth import bind
from workers.loader import load
from workers.locate import identify
from workers.loop import run

ADDRESS: Final = "inproc://rehearsal"
SOURCE: Final = PluginSource(kind="path", value=str(Path(__file__).with_name("rehearsed.py")))
SPAWN: Final = Spawn(
    plugin="rehearsed",
    generation=1,
    link_dir="/none",
    link_address="ipc:///none/link",
    code=SOURCE,
    read_paths=(SOURCE.value,),
    loop=LoopSettings(generation=1),
)
BORN: Final = Born(layers=(LayerReport(layer=Layer.LANDLOCK, is_applied=True, detail=""),), digest="sha256:" + "0" * 64)
LOOK_EVERY_S: Final = 0.0005
_AT: Final = datetime(2000, 1, 1, tzinfo=UTC)


def rehearse() -> None:
    """Live through it once. Leaves no thread, no descriptor and no module behind.

    Raises whatever keeps a plugin from being loaded in this installation.
    """
    _exchange_birth_words()
    # Alone first: a worker that refuses its plugin would wait for a supervisor that is in its own loop.
    load(identify(SOURCE))
    loop = asyncio.new_event_loop()
    link = bind(ADDRESS)
    far_end = link.context.socket(zmq.DEALER)
    far_end.connect(ADDRESS)
    partner = loop.create_task(_play_supervisor(far_end), name="supervisor")
    run(link, loop, identify(SOURCE), LoopSettings(generation=1))  # ends the context, and with it its threads
    loop.run_until_complete(partner)
    loop.close()
    asyncio.set_event_loop(None)
    log_handler.route(None)
    for name in [name for name in sys.modules if name.startswith("runnerd_plugin_")]:
        del sys.modules[name]


def _exchange_birth_words() -> None:
    """What comes down an embryo's channel, and what it answers."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        send_packet(ours, encode_word(SPAWN), [ours.fileno(), ours.fileno(), ours.fileno()])
        packet, fds = receive_packet(theirs)
        close_all(fds)
        decode_to_zygote(packet)
        send_packet(theirs, encode_word(BORN), [theirs.fileno()])


async def _play_supervisor(far_end: "zmq.Socket[bytes]") -> None:
    try:
        for expected, answers in ((Hello, (Welcome(params={}), _decide())), (Decision, (Stop(grace_ms=1_000),))):
            while not isinstance(decode_from_worker(await _receive(far_end)), expected):
                pass
            for answer in answers:
                far_end.send(encode(answer))
    finally:
        far_end.close(linger=1_000)


async def _receive(far_end: "zmq.Socket[bytes]") -> bytes:
    while True:
        with suppress(zmq.Again):
            return far_end.recv(zmq.NOBLOCK)
        await asyncio.sleep(LOOK_EVERY_S)


def _decide() -> Decide:
    origin = Origin(source="every 1 s", id="every 1 s @ now", principal="schedule")
    call = Call(
        id=1, attempt=1, trigger=TriggerKind.CRON, topic=None, payload="", due_at=_AT, fired_at=_AT, origin=origin
    )
    vault = VaultRef(name="none", address="0x" + "0" * 40, chain_id=1, actions=())
    block = BlockRef(number=1, hash="0x" + "0" * 64, timestamp=1)
    return Decide(call=call, now=_AT, block=block, vault=vault, reads={"none": 1})
