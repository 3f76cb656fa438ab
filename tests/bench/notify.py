"""NOTIFY → `decide` entered, beside its floor: `python -m tests.bench.notify` alone (`BENCH_ROUNDS`).

The floor: psycopg hears the notification in a callback, and sends it to another process over ZeroMQ and back; nothing
is stored. Ours commits the JobCall durably on the way, so the floor is shown with such a commit as well. In groups that
take turns, so that noise hits all alike. All times are of one clock, CLOCK_MONOTONIC, which ours takes as the first
thing in `decide`.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Final

import psycopg
import uvloop
import zmq

from tests.bench.arena import Arena, open_arena, stamped, wait_for_calls
from tests.bench.figures import Figure, percentile, spread
from tests.bench.floor import ECHO
from tests.bench.sheet import Sheet, latencies

ROUNDS: Final = int(os.environ.get("BENCH_ROUNDS", "300"))
GROUPS: Final = 5
GAP_S: Final = 0.02
WARM: Final = 30
TOPIC: Final = "bench"
MAX_RATIO: Final = 2.0
INTRO = """
From just before `select pg_notify(…)` is sent. *floor*: psycopg's LISTEN connection calls back in an asyncio loop
(uvloop), which sends 1 KiB to another process over ZeroMQ and gets it back. *with a commit*: the same, and one row is
inserted in between, with the disk synced. *ours*: until the first line of `decide` runs in its sandboxed process; on
the way its JobCall is committed, with the disk synced. One at a time, in groups that take turns.
"""


def measure_notify(arena: Arena) -> Iterator[Figure]:
    """Both, and their ratio."""
    sheet = Sheet("notify", "NOTIFY until `decide` is entered", INTRO)
    floor: list[float] = []
    stored: list[float] = []
    sent: dict[str, int] = {}
    plugin = stamped(triggers=[{"kind": "event", "topic": TOPIC}])
    with arena.daemon({"stamped": plugin}) as (_, dsn), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        _wait_for_listener(dsn)
        for group in range(GROUPS + 1):
            rounds = ROUNDS // GROUPS if group else WARM
            took = _floor(runner, dsn, rounds)
            took_with_commit = _floor(runner, dsn, rounds, is_stored=True)
            announced = _announce(dsn, group, rounds)
            if group:  # connections, prepared statements and caches are warm then
                floor += took
                stored += took_with_commit
                sent |= announced
        ended = wait_for_calls(dsn, "event", len(sent) + WARM)["stamped"]
    entered = dict(ended)
    ours = [(entered[payload] - at) / 1e9 for payload, at in sent.items()]
    assert len(entered) == len(ended), "a notification was decided twice"
    yield sheet.add("floor: NOTIFY, callback, ZeroMQ round trip", spread(floor))
    yield sheet.add("  the same with a commit", spread(stored))
    yield sheet.add("NOTIFY -> `decide` entered", spread(ours))
    for percent in (50, 99):
        ratio = percentile(ours, percent) / percentile(floor, percent)
        yield sheet.add(f"  ratio to the floor, p{percent}", f"{ratio:.2f}", f"<= {MAX_RATIO:g}", ratio <= MAX_RATIO)
    ratio = percentile(ours, 50) / percentile(stored, 50)
    yield sheet.add("  ratio to the floor with a commit, p50", f"{ratio:.2f}")
    sheet.draw(latencies("one at a time", {"floor": floor, "floor with a commit": stored, "ours": ours}))
    sheet.write()


def _wait_for_listener(dsn: str) -> None:
    """Until the daemon listens: what it hears is then decided."""
    until = time.monotonic() + 30
    query = "select 1 from pg_stat_activity where datname = current_database() and query ilike 'listen%'"
    with psycopg.connect(dsn, autocommit=True) as connection:
        while connection.execute(query).fetchone() is None:
            assert time.monotonic() < until, "nobody listens"
            time.sleep(0.01)  # another server's connection tells nobody


def _announce(dsn: str, group: int, rounds: int) -> dict[str, int]:
    """One at a time: latency, not throughput. The moment before each was sent, by payload."""
    sent: dict[str, int] = {}
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.prepare_threshold = 0
        for number in range(rounds):
            time.sleep(GAP_S)  # one at a time: latency, not throughput
            payload = f"{group} {number}"
            sent[payload] = time.monotonic_ns()
            connection.execute("select pg_notify('bench', %s)", (payload,))
    return sent


# --- the floor -------------------------------------------------------------------------------------------------------


def _floor(runner: asyncio.Runner, dsn: str, rounds: int, *, is_stored: bool = False) -> list[float]:
    """Seconds from the same statement until the other process has answered."""
    with tempfile.TemporaryDirectory(prefix="rd-") as directory:
        address = f"ipc://{directory}/echo"
        echo = subprocess.Popen([sys.executable, "-c", ECHO, address])
        try:
            return runner.run(_echoed(dsn, address, rounds, is_stored=is_stored))
        finally:
            echo.kill()
            echo.wait()


async def _echoed(dsn: str, address: str, rounds: int, *, is_stored: bool) -> list[float]:
    loop = asyncio.get_running_loop()
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.connect(address)
    listener = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    writer = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    await writer.execute("create table if not exists bench_floor (id bigint generated always as identity, t text)")
    await listener.execute("listen bench_floor")
    frame = b"x" * 1024
    heard: asyncio.Future[None] = loop.create_future()
    came_back: asyncio.Future[int] = loop.create_future()

    def on_notify() -> None:
        listener.pgconn.consume_input()
        while listener.pgconn.notifies() is not None:
            heard.set_result(None)

    def on_echo() -> None:
        while int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            socket.recv(zmq.NOBLOCK)
            came_back.set_result(time.monotonic_ns())

    def announce() -> int:
        """As ours is announced: from a thread that does nothing else, so that this loop is as free as the daemon's."""
        at = time.monotonic_ns()
        sender.execute("select pg_notify('bench_floor', %s)", (str(at),))
        return at

    loop.add_reader(socket.fileno(), on_echo)
    loop.add_reader(listener.fileno(), on_notify)
    socket.send(frame)  # the other process is there when this has come back
    on_echo()
    await came_back
    took = []
    with psycopg.connect(dsn, autocommit=True) as sender:
        sender.prepare_threshold = 0
        for _ in range(rounds):
            await asyncio.sleep(GAP_S)
            heard, came_back = loop.create_future(), loop.create_future()
            announcing = loop.run_in_executor(None, announce)
            await heard
            if is_stored:
                await writer.execute("insert into bench_floor (t) values ('x')", prepare=True)
            socket.send(frame, zmq.NOBLOCK)
            on_echo()  # what came meanwhile moves no descriptor
            took.append((await came_back - await announcing) / 1e9)
    loop.remove_reader(listener.fileno())
    loop.remove_reader(socket.fileno())
    socket.close(linger=0)
    await listener.close()
    await writer.close()
    return took


if __name__ == "__main__":
    with open_arena() as opened:
        for figure in measure_notify(opened):
            print(figure, flush=True)
