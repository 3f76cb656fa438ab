"""What approved Decisions have used of rolling limits: reserved in memory before the commit, durable with it.

Owns the clock of budgets and the rows of table `usage`. Judges nothing: `policy` does, with the sums from here. Asked
by the executor (value, transactions, arguments) and, through `GasBudget`, by the wallets' lanes (gas).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from runnerd.clock import Clock
from runnerd.config.plugins import BudgetConfig
from runnerd.executor.budget import Rule, Used, argument_rules, plugin_rules, vault_rules, wallet_rules
from runnerd.executor.policy import judge_gas
from runnerd.executor.wanted import Intent
from runnerd.executor.windows import DAY_S, Measure, Meter, Use, Windows
from runnerd.routing.rehearsed import Standing
from runnerd.store import usage
from runnerd.store.ledger import Ledger
from runnerd.store.statement import Statement
from runnerd.vaults.catalogue import Catalogue

KEPT: Final = timedelta(days=2)
"""Rows are kept twice as long as the longest window: a clock that was set back may make old ones count again."""
_WITHOUT_EFFECT: Final = frozenset({Measure.ARGUMENT, Measure.VALUE})


class Usage:
    """One for all vaults. `budget_of` is a plugin's budget now; `wallet_gas_wei` the limits of wallets, by address.

    Its time is the newest moment known at the start, and goes on with the monotonic clock: a wall clock that is set
    back frees no budget, and one that was wrong for a while does not hold it for longer than a window.
    """

    def __init__(
        self,
        store: Ledger,
        clock: Clock,
        catalogues: Mapping[str, Catalogue],
        budget_of: Callable[[str], BudgetConfig],
        wallet_gas_wei: Mapping[str, int | None],
    ) -> None:
        self.budget_of = budget_of
        self.gas = GasBudget(self)
        self._store = store
        self._clock = clock
        self._catalogues = catalogues
        self._wallet_gas_wei = wallet_gas_wei
        self._windows = Windows()
        self._on_the_way: dict[str, dict[int, int]] = {}
        self._began_at, self._began = clock.now(), clock.monotonic()
        self._pruned_at = self._began_at

    async def load(self) -> None:
        """What the last day's Decisions still count. Once, before anything is judged. Raises StoreUnavailable."""
        (row,) = await self._store.fetch(usage.newest())
        self._began_at, self._began = max(row["at"] or self._began_at, self._clock.now()), self._clock.monotonic()
        known: dict[tuple[str, str, int, str], tuple[Rule, ...]] = {}
        for row in await self._store.fetch(usage.since(self._began_at - timedelta(seconds=DAY_S))):
            use = Use(
                measure=Measure(row["measure"]), amount=int(row["amount"]),
                action=row["action"], argument=row["argument"],
            )  # fmt: skip
            whose = (row["plugin"], row["vault"], row["chain_id"], row["wallet"])
            rules = known.get(whose) or known.setdefault(whose, self._rules(*whose))
            self._windows.put(self._meters(rules, row["vault"], use), row["call_id"], use.amount, row["at"])
            if use.measure is Measure.VALUE and row["is_open"]:
                self._on_the_way.setdefault(row["vault"], {})[row["call_id"]] = use.amount
        await self._store.commit(usage.prune(self._began_at - KEPT))
        self._pruned_at = self._began_at

    def now(self) -> datetime:
        """The clock of budgets. It never goes back, not even over a restart."""
        return self._began_at + timedelta(seconds=self._clock.monotonic() - self._began)

    def beside(self, call_id: int) -> Used:
        """The sums now, without what this call has in them: so that nothing is counted twice."""
        now = self.now()
        return lambda meter: self._windows.total(meter, now, beside=call_id)

    def spent_wei(self, vault: str) -> int:
        """What a vault's intents have sent, or may still send, of the last 24 hours."""
        return self._windows.total(Meter(Measure.VALUE, ("vault", vault), DAY_S), self.now())

    def on_the_way(self, vault: str) -> Mapping[int, int]:
        """Value of the vault's intents that have not ended, by call."""
        return self._on_the_way.get(vault, {})

    def take(self, intent: Intent, uses: Sequence[Use]) -> list[Statement]:
        """Count an approved Decision, at once; what is returned makes it durable, in the commit of its intent.

        Between the judgement and this there must be no await: two Decisions at once cannot both fit.
        """
        now = self.now()
        rules = self._rules(intent.plugin, intent.vault, intent.chain_id, intent.wallet)
        for use in uses:
            self._windows.put(self._meters(rules, intent.vault, use), intent.call_id, use.amount, now)
            if use.measure is Measure.VALUE:
                self._on_the_way.setdefault(intent.vault, {})[intent.call_id] = use.amount
        statements = [usage.record(intent.call_id, uses, now)]
        if now - self._pruned_at > timedelta(seconds=DAY_S):
            self._pruned_at = now
            statements.append(usage.prune(now - KEPT))
        return statements

    def ended(self, intent: Intent, *, is_success: bool) -> None:
        """The intent has ended, and the ledger says how. Without effect: its value and arguments are given back, and
        its place among the transactions if none was signed. Gas is for `GasBudget`."""
        self._on_the_way.get(intent.vault, {}).pop(intent.call_id, None)
        if not is_success:
            was_signed = bool(intent.attempts)
            self._windows.give_back(
                intent.call_id, _WITHOUT_EFFECT if was_signed else _WITHOUT_EFFECT | {Measure.TRANSACTIONS}
            )

    def gas_rules(self, intent: Intent) -> tuple[Rule, ...]:
        """All rules for the gas of this intent's transactions."""
        rules = self._rules(intent.plugin, intent.vault, intent.chain_id, intent.wallet)
        return tuple(rule for rule in rules if rule.meter.measure is Measure.GAS)

    def put_gas(self, intent: Intent, gas_wei: int) -> None:
        """Set what this intent has in the meters for gas."""
        meters = [rule.meter for rule in self.gas_rules(intent)]
        self._windows.put(meters, intent.call_id, gas_wei, self.now())

    def settle_gas(self, call_id: int, gas_wei: int) -> None:
        """Correct it to what was paid."""
        self._windows.settle(Measure.GAS, call_id, gas_wei)

    def gas_of(self, call_id: int) -> int:
        """What is reserved for the gas of a call, where a rule counts it."""
        return self._windows.amount_of(Measure.GAS, call_id)

    def _rules(self, plugin: str, vault: str, chain_id: int, wallet: str) -> tuple[Rule, ...]:
        catalogue = self._catalogues.get(vault)
        return (
            *plugin_rules(plugin, self.budget_of(plugin)),
            *(vault_rules(catalogue) if catalogue is not None else ()),
            *wallet_rules(chain_id, wallet, self._wallet_gas_wei.get(wallet)),
        )

    def standings(self, intent: Intent, uses: Sequence[Use]) -> tuple[Standing, ...]:
        """Each limit that counts what these uses are of, and where it stands without them. Changes nothing."""
        used = self.beside(intent.call_id)
        rules = self._rules(intent.plugin, intent.vault, intent.chain_id, intent.wallet)
        return tuple(
            Standing(
                key=rule.key,
                of=rule.of or f"{use.argument} of {use.action}",
                asked=use.amount,
                used=used(rule.meter),
                limit=rule.limit,
            )
            for use in uses
            for rule in self._rules_of(rules, intent.vault, use)
        )

    def _meters(self, rules: Sequence[Rule], vault: str, use: Use) -> list[Meter]:
        """Only what a rule asks for is kept in memory. The ledger keeps it all, for the rules of the next start."""
        return [rule.meter for rule in self._rules_of(rules, vault, use)]

    def _rules_of(self, rules: Sequence[Rule], vault: str, use: Use) -> list[Rule]:
        """Those that count a use."""
        if use.measure is not Measure.ARGUMENT:
            return [rule for rule in rules if rule.meter.measure is use.measure]
        catalogue = self._catalogues.get(vault)
        entry = catalogue.actions.get(use.action) if catalogue is not None else None
        limit = entry.limits.get(use.argument) if entry is not None else None
        if limit is None:
            return []
        return list(argument_rules(vault, use.action, use.argument, limit))


class GasBudget:
    """The budgets of plugin, vault and wallet for gas, in the chain's native coin. For the lane, before it signs.

    A signature costs at most `gas_limit * max_fee_per_gas`. All attempts of an intent share one nonce, so only one of
    them is ever paid: the dearest is reserved. In this order, for first attempts, replacements and no-ops alike:

        objection = gas.check(intent, gas_wei)          # not None: do not sign; give up, or leave what is out as it is
        reserved = gas.reserve(intent, gas_wei)         # no await since `check`
        … sign …                                        # fails: gas.release(intent.call_id), its statement is committed
        await store.commit(allot_nonce(…), reserved)    # with the bytes, before they are broadcast
        gas.settle(call_id, gas_used * effective_gas_price_wei)   # when a receipt is final; commit it with the end

    An intent that ends without any transaction in a block (cancelled by a no-op of another nonce, expired unsigned) is
    released. One that reverted is settled: its gas was paid.
    """

    def __init__(self, usage_of_all: Usage) -> None:
        self._usage = usage_of_all

    def check(self, intent: Intent, gas_wei: int) -> str | None:
        """Why a transaction of `intent` that may cost `gas_wei` must not be signed now, or None."""
        wanted = max(gas_wei, self._usage.gas_of(intent.call_id))
        return judge_gas(wanted, self._usage.gas_rules(intent), self._usage.beside(intent.call_id))

    def reserve(self, intent: Intent, gas_wei: int) -> Statement:
        """Count it, at once; the statement makes it durable. A dearer reservation of the same intent stays."""
        dearest = max(gas_wei, self._usage.gas_of(intent.call_id))
        self._usage.put_gas(intent, dearest)
        return usage.reserve_gas(intent.call_id, dearest, self._usage.now())

    def settle(self, call_id: int, paid_wei: int) -> Statement:
        """Correct the reservation to what was paid."""
        self._usage.settle_gas(call_id, paid_wei)
        return usage.settle_gas(call_id, paid_wei)

    def release(self, call_id: int) -> Statement:
        """Nothing was paid, and nothing will be."""
        return self.settle(call_id, 0)
