"""`runnerd` with hooks for the fault campaign: `python -m tests.support.crashing_daemon --page FILE --config FILE`.

Installs them before it calls the daemon's own main, so that production code has nothing that could trigger them: a
crash point may kill the process, the clock may be wrong, and `--break` does two steps in the wrong order on purpose.
"""

import argparse
import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from runnerd import crash_points
from runnerd.cli.daemon import main as runnerd_main
from runnerd.clock import SystemClock
from runnerd.store.statement import Statement
from runnerd.store.store import Rows, Store
from runnerd.triggers.alarm import TimerAlarm
from tests.support.crash_page import CrashPage, open_page

BROADCAST_BEFORE_STORE: Final = "broadcast-before-store"
BREAKS: Final = (BROADCAST_BEFORE_STORE,)
SIGNED_POINTS: Final = ("attempt.signed", "replacement.signed")
"""Between signing and storing. In the broken order the bytes are out there already."""

LOOK_AT_CLOCK_S: Final = 0.1
"""The kernel tells a timer at once that its clock was set; of ours nobody does."""


def run(config: Path, page_path: Path, broken: str | None, node_url: str | None) -> None:
    """Become runnerd. Does not return. `node_url` is where a broken order sends its bytes."""
    with open_page(page_path) as page:
        crash_points.listen(page.reached if broken is None else _without(SIGNED_POINTS, page.reached))
        _bend_clock(page)
        if broken == BROADCAST_BEFORE_STORE:
            assert node_url is not None, "--node is missing"
            _broadcast_before_store(node_url, page)
        runnerd_main(["--config", str(config)])


def _bend_clock(page: CrashPage) -> None:
    def now(self: SystemClock) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=page.clock_offset_s)

    wait = TimerAlarm.wait

    async def wait_bent(self: TimerAlarm, until: datetime | None) -> None:
        """As the kernel does it: at that moment of the bent clock, or once it is bent."""
        offset_s = page.clock_offset_s
        ringing = asyncio.get_running_loop().create_task(_ring_when(lambda: page.clock_offset_s != offset_s, self))
        try:
            await wait(self, None if until is None else until - timedelta(seconds=offset_s))
        finally:
            ringing.cancel()

    SystemClock.now = now  # type: ignore[method-assign]
    TimerAlarm.wait = wait_bent  # type: ignore[method-assign]


async def _ring_when(has_changed: Callable[[], bool], alarm: TimerAlarm) -> None:
    while not has_changed():  # noqa: ASYNC110  # a mapped page tells nobody that it was written
        await asyncio.sleep(LOOK_AT_CLOCK_S)
    alarm.ring()


def _without(names: tuple[str, ...], listener: Callable[[str], None]) -> Callable[[str], None]:
    return lambda name: None if name in names else listener(name)


def _broadcast_before_store(node_url: str, page: CrashPage) -> None:
    """Every commit that stores signed bytes sends them to the node first: the order that loses track of money."""
    commit = Store.commit

    async def broken(self: Store, *statements: Statement, is_idempotent: bool = True) -> list[Rows]:
        for statement in statements:
            if "insert into attempts" in statement.sql:
                raws = statement.parameters["raws"]
                assert isinstance(raws, list)
                for raw in raws:
                    _send(node_url, raw)
                page.reached("attempt.signed")
        return await commit(self, *statements, is_idempotent=is_idempotent)

    Store.commit = broken  # type: ignore[method-assign]


def _send(url: str, raw: bytes) -> None:
    """Synchronously: in the broken order nothing comes between."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": ["0x" + raw.hex()]}
    request = urllib.request.Request(url, json.dumps(call).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=1) as response:
            response.read()
    except (OSError, urllib.error.URLError, ValueError):
        return  # the node is faulty at the moment; the daemon sends again


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="crashing_daemon", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--page", type=Path, required=True, help="made by tests.support.crash_page.create_page")
    parser.add_argument("--break", dest="broken", choices=BREAKS)
    parser.add_argument("--node", help="where a broken order sends its bytes")
    asked = parser.parse_args()
    run(asked.config, asked.page, asked.broken, asked.node)


if __name__ == "__main__":
    main()
