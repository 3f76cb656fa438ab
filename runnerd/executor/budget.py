"""Rolling limits as values: which meter, how much, and what a denial says. Pure; built from the configuration.

`policy` asks the rules whether a Decision, or its gas, still fits; `usage` asks them which meters must be kept.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from runnerd.config.grants import ArgumentLimit
from runnerd.config.plugins import BudgetConfig
from runnerd.executor.windows import DAY_S, HOUR_S, Measure, Meter
from runnerd.vaults.catalogue import Catalogue

Used: TypeAlias = Callable[[Meter], int]
"""What a meter shows now, without the call that is judged."""

_SPANS: Final = {HOUR_S: "the last hour", DAY_S: "the last 24 hours"}
_UNITS: Final = {Measure.VALUE: " wei", Measure.GAS: " wei for gas", Measure.TRANSACTIONS: " transactions"}


@dataclass(frozen=True, slots=True)
class Rule:
    """`limit` for a meter. `key` is its name in the configuration, `of` says whose it is."""

    meter: Meter
    limit: int
    key: str
    of: str = ""

    def objection(self, asked: int, used: Used) -> str | None:
        """What a denial says when `asked` does not fit any more; None when it does."""
        so_far = used(self.meter)
        if so_far + asked <= self.limit:
            return None
        unit = _UNITS.get(self.meter.measure, "")
        whose = f" of {self.of}" if self.of else ""
        span = _SPANS[self.meter.window_s]
        return f"{asked}{unit} on top of {so_far} in {span} is above {self.key} = {self.limit}{whose}"


def plugin_rules(plugin: str, budget: BudgetConfig) -> tuple[Rule, ...]:
    """`[plugins.P.budget]`."""
    return _rules(("plugin", plugin), budget, f"plugin {plugin}")


def vault_rules(catalogue: Catalogue) -> tuple[Rule, ...]:
    """The budget of `[vaults.V]` or `[keepers.K]`."""
    return _rules(("vault", catalogue.vault), catalogue.budget, catalogue.place)


def wallet_rules(chain_id: int, address: str, max_gas_wei_per_day: int | None) -> tuple[Rule, ...]:
    """`max_gas_wei_per_day` of `[wallets.W]`: on each chain for itself, since their coins are not the same."""
    if max_gas_wei_per_day is None:
        return ()
    meter = Meter(Measure.GAS, ("wallet", str(chain_id), address), DAY_S)
    return (Rule(meter, max_gas_wei_per_day, "max_gas_wei_per_day", f"wallet {address}"),)


def argument_rules(vault: str, action: str, argument: str, limit: ArgumentLimit) -> tuple[Rule, ...]:
    """`max_per_hour` and `max_per_day` of one argument."""
    of = ("argument", vault, action, argument)
    wanted = ((limit.max_per_hour, HOUR_S, "max_per_hour"), (limit.max_per_day, DAY_S, "max_per_day"))
    return tuple(
        Rule(Meter(Measure.ARGUMENT, of, window_s), most, key) for most, window_s, key in wanted if most is not None
    )


def first_objection(rules: Iterable[Rule], asked: int, used: Used) -> str | None:
    """Of the first rule that is broken."""
    return next((text for rule in rules if (text := rule.objection(asked, used)) is not None), None)


def _rules(of: tuple[str, ...], budget: BudgetConfig, whose: str) -> tuple[Rule, ...]:
    wanted = (
        (budget.max_value_wei_per_day, Measure.VALUE, DAY_S, "max_value_wei_per_day"),
        (budget.max_gas_wei_per_day, Measure.GAS, DAY_S, "max_gas_wei_per_day"),
        (budget.max_transactions_per_hour, Measure.TRANSACTIONS, HOUR_S, "max_transactions_per_hour"),
        (budget.max_transactions_per_day, Measure.TRANSACTIONS, DAY_S, "max_transactions_per_day"),
    )
    return tuple(
        Rule(Meter(measure, of, window_s), most, key, whose)
        for most, measure, window_s, key in wanted
        if most is not None
    )
