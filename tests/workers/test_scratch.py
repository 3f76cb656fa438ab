"""The state of a dry run: it reads what is committed, and what it writes is its own."""

from tests.support.aio import run_async
from workers.sdk.scratch import Scratch
from workers.sdk.state import State


class Committed:
    """The ledger's side, which must not be written to."""

    def __init__(self) -> None:
        self.values = {"size": "5"}

    async def fetch(self, key: str) -> str | None:
        return self.values.get(key)

    async def compare_and_set(self, key: str, expected: str | None, value: str | None) -> bool:
        raise AssertionError("a dry run wrote to the ledger")


def test_what_a_dry_run_claims_it_has_and_nobody_else() -> None:
    """As the real one would go: a second claim of the same call is lost; another call's finds nothing of it."""

    async def scenario() -> None:
        state = State(Scratch(Committed()))
        assert await state.get("size") == 5
        assert not await state.compare_and_set("size", 4, 6)
        assert await state.compare_and_set("size", 5, 6)
        assert await state.compare_and_set("lock", None, "mine")
        assert not await state.compare_and_set("lock", None, "mine again")
        assert (await state.get("size"), await state.get("lock")) == (6, "mine")
        assert await state.compare_and_set("size", 6, None)
        assert await state.get("size", "absent") == "absent"
        assert await State(Scratch(Committed())).get("lock", "free") == "free"

    run_async(scenario())
