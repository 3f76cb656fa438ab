"""Places that all plugins share: never more are taken than there are, and who waits gets one in turn."""

import asyncio
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from runnerd.supervisor.places import Places
from tests.support.aio import run_async


class Taker:
    """Wants so many places, and takes them whenever it is called."""

    def __init__(self, places: Places, wanted: int) -> None:
        self.places = places
        self.wanted = wanted
        self.held = 0

    def pump(self) -> None:
        while self.wanted and self.places.take(self.pump):
            self.wanted -= 1
            self.held += 1
        if not self.wanted:
            self.places.pass_on(self.pump)

    def end_one(self) -> None:
        self.held -= 1
        self.places.give_back()


def test_without_a_limit_nobody_waits() -> None:
    """The default: plugins know nothing of each other."""
    places = Places()
    assert all(places.take(lambda: None) for _ in range(1_000))
    places.give_back()
    assert places.taken == 0


def test_plugins_that_want_more_than_there_is_take_turns() -> None:
    """One that ends a call and has the next one ready does not keep the others out."""

    async def scenario() -> None:
        places, turns = Places(1), []
        takers = {"busy": Taker(places, 9), "patient": Taker(places, 2)}
        for taker in takers.values():
            taker.pump()
        for _ in range(5):
            ((name, holder),) = [(name, taker) for name, taker in takers.items() if taker.held]
            turns.append(name)
            holder.end_one()
            holder.pump()
            await asyncio.sleep(0)
        assert turns == ["busy", "busy", "patient", "busy", "patient"]

    run_async(scenario())


def test_a_place_that_is_not_wanted_any_more_goes_to_the_next() -> None:
    """Its calls expired, or its worker ended meanwhile."""

    async def scenario() -> None:
        places = Places(1)
        first, fickle, last = Taker(places, 1), Taker(places, 1), Taker(places, 1)
        for taker in (first, fickle, last):
            taker.pump()
        fickle.wanted = 0
        first.end_one()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (fickle.held, last.held, places.taken) == (0, 1, 1)

    run_async(scenario())


@given(
    st.integers(1, 3),
    st.lists(st.integers(0, 4), min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from(["end", "lose"]), st.integers(0, 3)), max_size=30),
)
def test_all_wants_are_served_and_the_limit_always_holds(
    limit: int, wants: list[int], steps: list[tuple[str, int]]
) -> None:
    """Whatever ends or loses its interest in between."""

    async def scenario() -> None:
        places = Places(limit)
        takers = [Taker(places, wanted) for wanted in wants]

        async def settle(act: Callable[[], object]) -> None:
            act()
            for _ in range(len(takers) * 2 + 2):
                assert sum(taker.held for taker in takers) <= places.taken <= limit
                await asyncio.sleep(0)

        for taker in takers:
            await settle(taker.pump)
        for what, which in steps:
            taker = takers[which % len(takers)]
            if what == "lose":
                taker.wanted = 0
                await settle(taker.pump)
            elif taker.held:
                await settle(taker.end_one)
        while any(taker.held for taker in takers):
            for taker in takers:
                if taker.held:
                    await settle(taker.end_one)
        assert (sum(taker.wanted for taker in takers), places.taken) == (0, 0)

    run_async(scenario())
