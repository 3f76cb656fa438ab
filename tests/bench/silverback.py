"""Runs Silverback bots (`bots/stamped.py`) against the arena's node, and reads what they note.

`make bench` installs it. Each bot is a process of its own, as its documentation has it, with an in-memory broker and
one of the node's accounts.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.bench.arena import Arena
from tests.bench.echo import ABI
from tests.support.short_dir import make_short_dir

REPOSITORY: Final = Path(__file__).resolve().parents[2]
COMMAND: Final = REPOSITORY / ".tools/silverback/bin/silverback"
BOTS: Final = Path(__file__).parent / "bots"
READY_S: Final = 90.0
NOTED_S: Final = 60.0
END_S: Final = 20.0
LOOK_S: Final = 0.05
PROJECT: Final = """\
name: bench
node:
  ethereum:
    local:
      uri: {url}
      ws_uri: {ws_url}
"""


@dataclass(slots=True)
class Bot:
    """One running bot. `noted`: kind and number of what its handlers were called for, and when (ns)."""

    process: "subprocess.Popen[bytes]"
    out: Path
    log: Path
    noted: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    _offset: int = 0

    def read(self) -> None:
        """What it has noted since."""
        with self.out.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            kind, number, at = line.split()
            self.noted.setdefault((kind.decode(), int(number)), []).append(int(at))

    def wait_for(self, kind: str, numbers: Sequence[int], deadline_s: float = NOTED_S) -> list[int]:
        """When it was called for each of these first. Raises TimeoutError."""
        until = time.monotonic() + deadline_s
        while missing := [number for number in numbers if (kind, number) not in self.noted]:
            if self.process.poll() is not None:
                raise RuntimeError(f"the bot ended:\n{self.log.read_text()[-4_000:]}")
            if time.monotonic() > until:
                raise TimeoutError(f"{len(missing)} of {len(numbers)} were not noted:\n{self.log.read_text()[-4_000:]}")
            time.sleep(LOOK_S)  # between two looks; it has noted the times itself
            self.read()
        return [self.noted[kind, number][0] for number in numbers]


@contextmanager
def running_bots(arena: Arena, kinds: str, count: int) -> Iterator[list[Bot]]:
    """So many, each of which has been called already: `kinds` of block, log, react, with commas."""
    with make_short_dir() as directory:
        project = PROJECT.format(url=arena.node.url, ws_url=arena.node.ws_url)
        (directory / "ape-config.yaml").write_text(project)
        bots: list[Bot] = []
        try:
            bots += [_start(arena, directory, kinds, who) for who in range(count)]
            for bot in bots:
                _wake(arena, bot, kinds)
            yield bots
        finally:
            for bot in bots:
                bot.process.send_signal(signal.SIGINT)
            for bot in bots:
                try:
                    bot.process.wait(END_S)
                except subprocess.TimeoutExpired:
                    bot.process.kill()
                    bot.process.wait()


def _start(arena: Arena, directory: Path, kinds: str, who: int) -> Bot:
    out, log = directory / f"out-{who}", directory / f"log-{who}"
    out.touch()
    home = directory / f"home-{who}"
    home.mkdir()
    environment = {
        "HOME": str(home),
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(BOTS),
        "BENCH_OUT": str(out),
        "BENCH_KINDS": kinds,
        "BENCH_WHO": str(who),
        "BENCH_ABI": ABI,
        "BENCH_STIMULUS": arena.venue.w3.to_checksum_address(arena.stimulus),
        "BENCH_REACTION": arena.reaction,
    }
    command = [str(COMMAND), "run", "stamped:bot", "--network", "ethereum:local:node", "--account", f"TEST::{who}"]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=directory, env=environment,
            start_new_session=True,
        )  # fmt: skip
    return Bot(process, out, log)


def _wake(arena: Arena, bot: Bot, kinds: str) -> None:
    """Until it hears of blocks and logs: those before are lost on it, as it begins at the head."""
    until = time.monotonic() + READY_S
    while True:
        number = time.monotonic_ns() // 1_000_000
        block, _ = arena.mine()
        arena.poke(number)
        kind, expected = ("block", block) if "block" in kinds else ("log", number)
        try:
            bot.wait_for(kind, [expected], deadline_s=0.5)
        except TimeoutError:
            if time.monotonic() > until:
                raise
        else:
            return
