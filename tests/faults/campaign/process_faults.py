"""Faults of processes: the supervisor at named crash points and at random moments, workers, the zygote."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from tests.faults.campaign import chain_faults
from tests.faults.campaign.plan import Fault
from tests.faults.campaign.world import World

CRASH_DEADLINE_S: Final = 2.5
PROGRESS_DEADLINE_S: Final = 20.0
START_DEADLINE_S: Final = 10.0
POLL_S: Final = 0.01
AT_START: Final = ("wallet.storing", "wallet.stored", "resume.done")


def wait_progress(world: World) -> None:
    """Until a call has ended since now: kills alone, one after the other, would show nothing but starts."""
    daemon = world.daemon
    ended = daemon.page.counts["finish.stored"]
    has_ended = _wait(lambda: daemon.page.counts["finish.stored"] > ended or not daemon.is_running, PROGRESS_DEADLINE_S)
    if not has_ended:
        daemon.stalls.append(f"no call ended within {PROGRESS_DEADLINE_S:g} s:\n{daemon.log_tail(5)}")


def crash(world: World, fault: Fault) -> bool:
    """The supervisor kills itself at a named point, the n-th time it gets there; provoked where it is seldom."""
    point, count = str(fault.parameters["point"]), fault.number_of("count")
    page = world.daemon.page
    if point in AT_START:
        world.daemon.kill()
        page.arm(point, 1)
        world.daemon.keep()
    else:
        wait_progress(world)
        page.arm(point, 1 if point in PROVOKED else count)
        PROVOKED.get(point, _nothing)(world)
    _wait(lambda: page.killed_at is not None or not world.daemon.is_running, CRASH_DEADLINE_S)
    page.disarm()
    if page.killed_at is not None:
        world.daemon.expect_end()
        world.daemon.wait_end(START_DEADLINE_S)
    return page.killed_at is not None


def kill_supervisor(world: World, fault: Fault) -> bool:
    """`kill -9` at a random moment; `early`: during its start."""
    if not fault.parameters["early"]:
        wait_progress(world)
    time.sleep(fault.seconds_of("after"))
    world.daemon.kill()
    return True


def stop_supervisor(world: World) -> bool:
    """An ordinary restart by the operator."""
    wait_progress(world)
    world.daemon.stop()
    return True


def freeze_supervisor(world: World, seconds: float) -> bool:
    """The machine stands still for a while, as a virtual one does when it is moved."""
    world.daemon.signal(signal.SIGSTOP)
    time.sleep(seconds)
    world.daemon.signal(signal.SIGCONT)
    return True


def kill_workers(world: World, fault: Fault) -> bool:
    """One worker or all; `stopped first`: with calls that it did not answer."""
    workers = world.daemon.processes("worker: ")
    if not workers:
        return False
    return _end(
        workers if fault.parameters["all"] else [fault.dice.choice(workers)], bool(fault.parameters["stopped first"])
    )


def kill_zygote(world: World) -> bool:
    """And so every worker."""
    return _end(world.daemon.processes("runnerd: zygote"), is_stopped_first=False)


def start_with_wrong_chain(world: World, fault: Fault) -> bool:
    """The node names another chain when the daemon starts: it must sign nothing until the right one is back."""
    world.daemon.kill()
    world.faulty.arm(fault)
    asked = world.faulty.armed
    world.daemon.keep()
    world.faulty.wait_armed(max(0, asked - 1), START_DEADLINE_S)
    ended = world.daemon.page.counts["call.stored"]
    # A daemon that takes the chain back by itself goes on; one that waits for its operator is restarted.
    if not _wait(lambda: world.daemon.page.counts["call.stored"] > ended, CRASH_DEADLINE_S):
        world.daemon.kill()
    return True


def _end(pids: list[int], is_stopped_first: bool) -> bool:
    if is_stopped_first:
        _signal(pids, signal.SIGSTOP)
        time.sleep(0.35)
    _signal(pids, signal.SIGKILL)
    return bool(pids)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _wait(is_so: Callable[[], bool], deadline_s: float) -> bool:
    until = time.monotonic() + deadline_s
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(POLL_S)
    return True


def _nothing(_: World) -> None:
    return


def _hang_workers(world: World) -> None:
    _end(world.daemon.processes("worker: "), is_stopped_first=True)


def _raise_price(world: World) -> None:
    chain_faults.jump_base_fee(world, 6)


def _let_deadlines_pass(world: World) -> None:
    """What was signed and is too cheap now is overtaken by its deadline; a later jump sets the clock right."""
    chain_faults.jump_base_fee(world, 6)
    world.daemon.page.clock_offset_s = 3600.0


def _reorg(world: World) -> None:
    _wait(lambda: world.daemon.page.counts["inclusion.stored"] > 0, CRASH_DEADLINE_S)
    chain_faults.reorg(world, 4)


PROVOKED: Final[Mapping[str, Callable[[World], None]]] = {
    "blame.stored": _hang_workers,
    "cancel.stored": _let_deadlines_pass,
    "replacement.signed": _raise_price,
    "replacement.stored": _raise_price,
    "fallen.stored": _reorg,
}
"""Crash points that need something to happen before they are reached."""
