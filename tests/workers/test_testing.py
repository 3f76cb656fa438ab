"""`workers.testing`: a plugin as a pure function, with the rules of the worker."""

import socket
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from protocol.actions import Action, Noop
from protocol.messages import BlockRef, LogLevel, TriggerKind, VaultRef
from workers.sdk import Act, BalanceChange, Context, MinimumOut, Plugin, PluginError
from workers.testing import BLOCK, EPOCH, VAULT, Decided, DecideError, run


class Maker(Plugin):
    """Acts when the price has left a band, and remembers where it was: a small real strategy."""

    name = "maker"

    async def decide(self, ctx: Context) -> list[Action] | Noop:
        spot, width = int(ctx.reads["spot"]), int(ctx.params["width"])
        centre = await ctx.state.get("centre")
        if centre is not None and abs(spot - centre) < width:
            return Noop(f"spot {spot} is within {width} of {centre}")
        ctx.state.put("centre", spot)
        ctx.log.info("moved to %d", spot)
        return [Action("mint", {"at": spot})]


class Seller(Plugin):
    """Bounds what its Action may do."""

    name = "seller"

    def decide(self, ctx: Context) -> Act | Noop:
        return (
            Act([Action("sell")], expect=[MinimumOut(ctx.reads["quote"])]) if ctx.reads["quote"] else Noop("no quote")
        )


def test_what_a_plugin_expects_is_shown() -> None:
    """Beside its Actions; a Noop expects nothing, and a quote below zero is a bound like others."""
    assert run(Seller, reads={"quote": 7}).expect == (BalanceChange(min=7),)
    assert run(Seller, reads={"quote": 0}).expect == ()
    assert run(Maker, reads={"spot": 1}, params={"width": 1}).expect == ()
    with pytest.raises(DecideError, match="min must be an integer"):
        run(Seller, reads={"quote": "7"})


class Plain(Plugin):
    """The same store from a plain `def`."""

    name = "plain"

    def decide(self, ctx: Context) -> Noop:
        count = ctx.state.get("count", 0) + 1
        ctx.state.put("count", count)
        claimed = ctx.state.compare_and_set("claim", None, ctx.call.id)
        return Noop(f"{count} {claimed} {threading.current_thread() is not threading.main_thread()}")


class Asking(Plugin):
    """Answers with what `look` finds in its context."""

    name = "asking"

    def __init__(self, look: Callable[[Context], Any]) -> None:
        self.look = look

    async def decide(self, ctx: Context) -> Any:
        return self.look(ctx)


def test_a_run_gives_outcome_state_and_log() -> None:
    """All that a call leaves behind."""
    decided = run(Maker, reads={"spot": 200}, params={"width": 50})
    assert decided.actions == (Action("mint", {"at": 200}),)
    assert decided.noop is None
    assert decided.state == {"centre": 200}
    assert decided.log == ((LogLevel.INFO, "moved to 200"),)


def test_state_carries_from_run_to_run() -> None:
    """The state of one is the start of the next."""
    first = run(Maker, reads={"spot": 200}, params={"width": 50})
    second = run(Maker, reads={"spot": 210}, params={"width": 50}, state=first.state)
    assert second.noop == "spot 210 is within 50 of 200"
    assert second.actions == ()
    assert second.state == first.state


def test_the_same_call_gives_the_same_result() -> None:
    """Nothing is kept between runs, neither of time nor of state; what was given is not changed."""
    state: dict[str, Any] = {"centre": 1, "list": [1]}
    runs = [run(Maker, reads={"spot": 200}, params={"width": 50}, state=state) for _ in range(2)]
    assert runs[0] == runs[1]
    assert state == {"centre": 1, "list": [1]}


def test_a_run_needs_no_process_no_network_and_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """For an `async def`; the event loop's own socketpair is all that is opened."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("not pure")

    threads = threading.active_count()
    for owner, name in ((socket.socket, "connect"), (socket.socket, "bind"), (subprocess, "Popen")):
        monkeypatch.setattr(owner, name, forbidden)
    run(Maker, reads={"spot": 200}, params={"width": 50})
    assert threading.active_count() == threads


def test_a_plain_def_has_its_blocking_store() -> None:
    """As in the worker, in a thread."""
    first = run(Plain)
    assert first.noop == "1 True True"
    assert first.state == {"count": 1, "claim": 1}
    assert run(Plain, state=first.state).noop == "2 False True"


def test_compare_and_set_stays_though_decide_raises_later() -> None:
    """It is immediate; only puts wait for the Decision. Seen through a second call of the same instance."""
    seen: list[object] = []

    class Claiming(Plugin):
        name = "claiming"

        async def decide(self, ctx: Context) -> Noop:
            seen.append(await ctx.state.compare_and_set("claim", None, 1))
            seen.append(await ctx.state.get("claim"))
            seen.append(await ctx.state.compare_and_set("claim", 2, 3))
            seen.append(await ctx.state.compare_and_set("claim", 1, None))
            return Noop("claimed and released")

    assert run(Claiming).state == {}
    assert seen == [True, 1, False, True]


def test_deletes_and_nones_leave_no_key() -> None:
    """None is absent, in the given state as in what is put."""

    def clear(ctx: Context) -> Noop:
        ctx.state.delete("a")
        ctx.state.put("b", None)
        return Noop("cleared")

    assert run(Asking(clear), state={"a": 1, "b": 2, "c": None, "d": [1]}).state == {"d": [1]}


def test_an_instance_can_be_called_again() -> None:
    """As in a worker, where one instance takes every call; a class is made anew each time."""

    class Counting(Plugin):
        name = "counting"
        calls = 0

        async def decide(self, ctx: Context) -> Noop:
            self.calls += 1
            return Noop(f"call {self.calls}")

    instance = Counting()
    assert [run(instance).noop, run(instance).noop] == ["call 1", "call 2"]
    assert [run(Counting).noop, run(Counting).noop] == ["call 1", "call 1"]


def test_the_context_is_what_was_given() -> None:
    """Every part of it; reads in wire form, as the supervisor sends them."""
    contexts: list[Context] = []

    def keep(ctx: Context) -> Noop:
        contexts.append(ctx)
        return Noop("seen")

    now = datetime(2026, 11, 21, tzinfo=UTC)
    block = BlockRef(number=5, hash="0x05", timestamp=5)
    vault = VaultRef(name="demo", address="0x00", chain_id=1, actions=("mint",))
    run(
        Asking(keep),
        reads={"code": b"\x01", "pair": (1, 2)},
        params={"width": 5},
        trigger=TriggerKind.EVENT,
        topic="trades",
        payload='{"size":3}',
        attempt=2,
        now=now,
        block=block,
        vault=vault,
    )
    run(Asking(keep))
    given, default = contexts
    assert given.reads == {"code": "0x01", "pair": [1, 2]}
    assert (given.params, given.now, given.block, given.vault) == ({"width": 5}, now, block, vault)
    assert (given.call.trigger, given.call.topic, given.call.attempt) == (TriggerKind.EVENT, "trades", 2)
    assert given.call.json() == {"size": 3}
    assert given.call.due_at == given.call.fired_at == now
    assert (default.now, default.block, default.vault) == (EPOCH, BLOCK, VAULT)
    assert (default.reads, default.params, default.call.payload) == ({}, {}, "")


def test_a_payload_that_is_no_json_raises_a_value_error() -> None:
    """An author may catch it; it is the caller's text."""
    with pytest.raises(DecideError, match="DecodeError: JSON is malformed"):
        run(Asking(lambda ctx: ctx.call.json()), payload="{size}")


@pytest.mark.parametrize(
    "look, error",
    [
        (lambda ctx: ctx.reads["absent"], "KeyError: 'absent'"),
        (lambda ctx: None, "PluginError: decide returned a NoneType"),
        (lambda ctx: [], "ValueError: an empty list of Actions"),
        (lambda ctx: Noop(" "), "ValueError: a Noop needs a reason that is not blank"),
        (lambda ctx: [Action("mint", {"x": ctx.params.get("none", 1.5)})], "ValueError: a float cannot travel"),
        (lambda ctx: ctx.state.put("k", object()), "cannot be kept in state"),
    ],
)
def test_what_fails_in_the_worker_fails_here_with_the_same_words(look: Callable[[Context], Any], error: str) -> None:
    """A DecideError carries what DecideFailed would."""
    with pytest.raises(DecideError) as caught:
        run(Asking(look))
    assert error in caught.value.error
    assert "Traceback" in caught.value.trace


def test_an_answer_that_no_frame_can_hold_fails_here_too() -> None:
    """256 values of 64 KiB are more than the megabyte that a Decision may take."""

    def fill(ctx: Context) -> Noop:
        for number in range(20):
            ctx.state.put(f"k{number}", "v" * 65_000)
        return Noop("full")

    with pytest.raises(DecideError, match=r"Decision takes \d+ bytes, the limit is 1048576"):
        run(Asking(fill))


def test_an_action_changed_after_it_was_made_fails_here_too() -> None:
    """Its table can be reached; what the supervisor would refuse is refused."""

    def change(ctx: Context) -> list[Action]:
        action = Action("mint", {"x": 1})
        action.args["x"] = 1.5  # type: ignore[assignment]
        return [action]

    with pytest.raises(DecideError, match="got `float`"):
        run(Asking(change))


def test_a_class_that_is_no_plugin_is_refused() -> None:
    """By the check that the worker makes at start."""

    class Nameless(Maker):
        name = ""

    with pytest.raises(PluginError, match=r"Nameless\.name"):
        run(Nameless)


def test_a_decided_shows_one_side_of_its_outcome() -> None:
    """Actions or a reason, for short assertions."""
    assert Decided(Noop("quiet"), {}, ()).actions == ()
    assert Decided(Noop("quiet"), {}, ()).noop == "quiet"
