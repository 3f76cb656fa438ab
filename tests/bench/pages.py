"""Names the private pages of a worker: `python -m tests.bench.pages [WORKERS]`. Needs root, for page frame numbers.

Starts real workers from a real zygote, has each decide once, and compares page by page with the zygote: a page is
*copied* when the zygote has another one at the same address, and *fresh* when it has none. Of copied pages it tells how
few bytes differ: refcounts dirty a page as well as a rewrite does.
"""

import asyncio
import os
import statistics
import struct
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Final

from protocol.messages import BlockRef, Call, Decide, FromWorker, Hello, Origin, TriggerKind, VaultRef, Welcome
from protocol.zygote import LoopSettings, PluginSource, Spawn
from runnerd.supervisor.worker import Listener, Worker
from runnerd.supervisor.zygote import Zygote

PLUGIN: Final = Path(__file__).parent / "plugins" / "noop.py"
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
PRESENT: Final = 1 << 63
FRAME: Final = (1 << 55) - 1
DEADLINE_S: Final = 30.0
FEW_BYTES: Final = 64
"""A copied page in which no more than this differs could most likely have stayed shared."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of /proc/PID/maps, by the place where it begins."""

    start: int
    end: int
    name: str
    is_writable: bool


@dataclass(frozen=True, slots=True)
class Page:
    """A page that this worker alone holds. `differs`: bytes unlike the zygote's; None for a fresh one."""

    address: int
    mapping: Mapping
    differs: int | None


async def measure(count: int) -> list[tuple[int, int, list[Page]]]:
    """For each of `count` workers: USS and PSS in bytes, and the private pages of the last one."""
    with tempfile.TemporaryDirectory(prefix="rd-") as directory:
        zygote = await Zygote.start(on_exit=lambda _: None, on_death=print)
        workers = [await _start(zygote, Path(directory), number) for number in range(1, count + 1)]
        try:
            # Below its guardian, where the host has namespaces.
            children = Path(f"/proc/{zygote.pid}/task/{zygote.pid}/children").read_text().split()
            parent = zygote.pid if len(children) > 1 else int(children[0])
            pages = [*private_pages(workers[-1].pid, parent)]
            return [(*_sums(worker.pid), pages) for worker in workers]
        finally:
            await zygote.stop()


async def _start(zygote: Zygote, directory: Path, number: int) -> Worker:
    link_dir = directory / f"noop-{number}.1"
    request = Spawn(
        plugin=f"noop-{number}",
        generation=1,
        link_dir=str(link_dir),
        link_address=f"ipc://{link_dir}/link",
        code=PluginSource(kind="path", value=str(PLUGIN)),
        read_paths=(str(PLUGIN),),
        loop=LoopSettings(generation=1),
    )
    decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_hello(_: Hello) -> None:
        worker.send(Welcome(params={}))
        worker.send(_decide())

    def on_message(_: FromWorker) -> None:
        if not decided.done():
            decided.set_result(None)

    def on_trouble(reason: str) -> None:
        if not decided.done():
            decided.set_exception(RuntimeError(reason))

    worker = Worker(request, Listener(on_hello, on_message, on_trouble, on_trouble, on_trouble, on_trouble))
    await worker.start(zygote, DEADLINE_S)
    await asyncio.wait_for(decided, DEADLINE_S)
    return worker


def _decide() -> Decide:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    origin = Origin(source="event noop-1", id="notify 1", principal="pg:noop-1")
    call = Call(
        id=1, attempt=1, trigger=TriggerKind.EVENT, topic="noop-1", payload="1", due_at=at, fired_at=at, origin=origin
    )
    vault = VaultRef(name="demo", address="0x" + "1" * 40, chain_id=31337, actions=("mint",))
    block = BlockRef(number=7, hash="0x" + "2" * 64, timestamp=7)
    return Decide(call=call, now=at, block=block, vault=vault, reads={})


# --- looking ---------------------------------------------------------------------------------------------------------


def _sums(pid: int) -> tuple[int, int]:
    uss = pss = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("Private_Clean", "Private_Dirty"):
            uss += int(rest.split()[0]) << 10
        elif name == "Pss":
            pss = int(rest.split()[0]) << 10
    return uss, pss


def private_pages(pid: int, zygote: int) -> Iterator[Page]:
    """The anonymous pages of `pid` that `zygote` does not share."""
    with Path(f"/proc/{pid}/mem").open("rb", 0) as own, Path(f"/proc/{zygote}/mem").open("rb", 0) as parent:
        for mapping in _mappings(pid):
            if not mapping.is_writable:
                continue
            frames, theirs = _frames(pid, mapping), _frames(zygote, mapping)
            for number, (frame, other) in enumerate(zip(frames, theirs, strict=True)):
                if not frame or frame == other:
                    continue
                address = mapping.start + number * PAGE
                yield Page(address, mapping, _differing(own, parent, address) if other else None)


def _mappings(pid: int) -> Iterator[Mapping]:
    previous = ""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, rights, _, _, _, *name = line.split(maxsplit=5)
        start, end = (int(part, 16) for part in span.split("-"))
        path = Path(name[0]).name if name else ""
        # A library's zeroed data follows its file's pages without a name of its own.
        shown = path or (f"{previous} .bss" if ".so" in previous and end - start < 1 << 18 else "anonymous")
        previous = path
        yield Mapping(start, end, shown, rights[1] == "w" and rights[3] == "p")


def _frames(pid: int, mapping: Mapping) -> list[int]:
    count = (mapping.end - mapping.start) // PAGE
    with Path(f"/proc/{pid}/pagemap").open("rb", 0) as pagemap:
        pagemap.seek(mapping.start // PAGE * 8)
        entries = struct.unpack(f"<{count}Q", pagemap.read(count * 8))
    return [entry & FRAME if entry & PRESENT else 0 for entry in entries]


def _differing(own: FileIO, parent: FileIO, address: int) -> int:
    pages = []
    for memory in (own, parent):
        memory.seek(address)
        pages.append(memory.read(PAGE))
    return sum(mine != theirs for mine, theirs in zip(*pages, strict=True))


# --- telling ---------------------------------------------------------------------------------------------------------


def show(found: list[tuple[int, int, list[Page]]]) -> Iterator[str]:
    """The sums of all, then the pages of one by their mapping."""
    uss, pss = (statistics.median(values) / 2**20 for values in ([f[0] for f in found], [f[1] for f in found]))
    yield f"{len(found)} workers: private {uss:.2f} MiB, PSS {pss:.2f} MiB (medians)"
    pages = found[-1][2]
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for page in pages:
        kind = "fresh" if page.differs is None else "copied" if page.differs > FEW_BYTES else "copied, few bytes"
        groups[page.mapping.name][kind] += 1
    yield f"{'KiB':>7} {'fresh':>7} {'copied':>7} {'few':>7}  mapping"
    per_page = PAGE >> 10
    for name, kinds in sorted(groups.items(), key=lambda item: -item[1].total()):
        fresh, copied, few = (kinds[kind] * per_page for kind in ("fresh", "copied", "copied, few bytes"))
        yield f"{kinds.total() * per_page:>7} {fresh:>7} {copied:>7} {few:>7}  {name}"


if __name__ == "__main__":
    for line in show(asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 20))):
        print(line)
