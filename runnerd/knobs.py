"""What an operator may turn while runnerd runs: fee cap, least tip and patience of a chain.

Kept in the ledger, so that a restart goes on with them; `runnerctl fees CHAIN --reset` goes back to the configuration.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from psycopg.rows import DictRow

from runnerd.chain.fees import FeeSettings
from runnerd.config.model import ChainConfig
from runnerd.config.table import MAX_BIGINT


class Knob(StrEnum):
    """The keys of `[chains.NAME]` that can be turned."""

    MAX_FEE_PER_GAS_WEI = "max_fee_per_gas_wei"
    MIN_PRIORITY_FEE_WEI = "min_priority_fee_wei"
    REPLACE_AFTER_BLOCKS = "replace_after_blocks"


BOUNDS = {
    Knob.MAX_FEE_PER_GAS_WEI: (1, MAX_BIGINT),
    Knob.MIN_PRIORITY_FEE_WEI: (0, MAX_BIGINT),
    Knob.REPLACE_AFTER_BLOCKS: (1, 1_000),
}


@dataclass(frozen=True, slots=True)
class Turned:
    """A knob that is not where the configuration has it."""

    value: int
    by: str
    at: datetime


@dataclass(slots=True)
class Knobs:
    """The knobs of one chain. `settings` is asked for each time fees are made."""

    config: ChainConfig
    turned: dict[Knob, Turned] = field(default_factory=dict)

    def load(self, rows: list[DictRow]) -> None:
        """Take over what stands in the ledger; what another release knew or allowed, and this one does not, is not."""
        for row in rows:
            if row["name"] not in set(Knob):
                continue
            knob, value = Knob(row["name"]), int(row["value"])
            lowest, highest = BOUNDS[knob]
            if lowest <= value <= highest:
                self.turned[knob] = Turned(value, row["set_by"], row["set_at"])

    def turn(self, wanted: dict[Knob, int], by: str, at: datetime) -> None:
        """In force at once. The owner has stored it."""
        self.turned |= {knob: Turned(value, by, at) for knob, value in wanted.items()}

    def reset(self) -> None:
        """All go back to the configuration."""
        self.turned.clear()

    def configured(self, knob: Knob) -> int:
        """Where the configuration has it."""
        configured: int = getattr(self.config, knob.value)
        return configured

    def value(self, knob: Knob) -> int:
        """Where it stands now."""
        turned = self.turned.get(knob)
        return self.configured(knob) if turned is None else turned.value

    def find_problem(self, wanted: dict[Knob, int]) -> str | None:
        """Why these values, with the others as they stand, cannot be used; None if they can."""
        for knob, value in wanted.items():
            lowest, highest = BOUNDS[knob]
            if not lowest <= value <= highest:
                return f"{knob} = {value} is not allowed: {lowest} to {highest}"
        tip = wanted.get(Knob.MIN_PRIORITY_FEE_WEI, self.value(Knob.MIN_PRIORITY_FEE_WEI))
        cap = wanted.get(Knob.MAX_FEE_PER_GAS_WEI, self.value(Knob.MAX_FEE_PER_GAS_WEI))
        if tip > cap:
            return f"min_priority_fee_wei = {tip} is above max_fee_per_gas_wei = {cap}"
        return None

    @property
    def settings(self) -> FeeSettings:
        """What `chain.fees` needs to know.

        The cap wins: a tip that was turned up before the configuration's cap went down must not stop the chain.
        """
        cap = self.value(Knob.MAX_FEE_PER_GAS_WEI)
        return FeeSettings(max_fee_cap_wei=cap, min_tip_wei=min(self.value(Knob.MIN_PRIORITY_FEE_WEI), cap))
