"""What a plugin may ask for: a pure judgement of Actions by catalogue, budgets, and what the vault itself allows.

A denial names the rule, the value and the limit. Nothing is signed that has not passed here. Kill switches are
`runnerd.pauses`; the rolling limits are written down in `budget`, and summed up by `windows`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from protocol.actions import Action
from protocol.values import Depth1, Value
from runnerd.chain.abi import encode_call
from runnerd.chain.errors import AbiError
from runnerd.chain.vault import Call
from runnerd.chain.vault_caps import VaultCaps
from runnerd.config.grants import ArgumentLimit
from runnerd.config.plugins import BudgetConfig
from runnerd.executor.budget import Rule, Used, argument_rules, first_objection, plugin_rules, vault_rules
from runnerd.executor.windows import Measure, Use
from runnerd.vaults.catalogue import ActionEntry, Catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """All that a judgement depends on beside the Actions and the catalogue."""

    plugin: str
    budget: BudgetConfig
    used: Used
    caps: VaultCaps | None
    """None: the vault has no such views, or they could not be read lately. Then only the simulation tells."""
    on_the_way_wei: int
    """What other intents of the vault may send that `caps` does not count as spent."""


@dataclass(frozen=True, slots=True)
class Approved:
    """The calls to make, in order, the wei that leave the vault with them, and what counts against rolling limits."""

    calls: tuple[Call, ...]
    value_wei: int
    uses: tuple[Use, ...]


@dataclass(frozen=True, slots=True)
class Denied:
    """Refused; nothing was spent. `reason` is for the ledger."""

    reason: str


def judge(actions: Sequence[Action], catalogue: Catalogue, circumstances: Circumstances) -> Approved | Denied:
    """Approve all of `actions`, or deny the whole Decision for the first rule that is broken."""
    if len(actions) > catalogue.max_actions:
        return Denied(f"{len(actions)} actions in one decision, {catalogue.place} allows {catalogue.max_actions}")
    calls = []
    asked: dict[tuple[str, str], int] = {}
    for index, action in enumerate(actions):
        where = f"action {index + 1} ({action.name})"
        entry = catalogue.actions.get(action.name)
        if entry is None:
            granted = ", ".join(catalogue.actions) or "none"
            return Denied(f"{where} is not in the catalogue of {catalogue.place}; granted: {granted}")
        broken = _broken_rule(action, entry)
        if broken is not None:
            return Denied(f"{where}: {broken}")
        try:
            data = encode_call(entry.function, action.args)
        except AbiError as error:
            return Denied(f"{where}: {error}")
        for name, limit in entry.limits.items():
            asked[action.name, name] = asked.get((action.name, name), 0) + sum(map(abs, _integers(action.args[name])))
            rules = argument_rules(catalogue.vault, action.name, name, limit)
            broken = _broken_sum(asked[action.name, name], limit, rules, circumstances.used)
            if broken is not None:
                return Denied(f"{where}: {name}: {broken}")
        calls.append(Call(to=entry.contract, value_wei=action.value_wei, data=data))
    total = sum(call.value_wei for call in calls)
    rules = (*vault_rules(catalogue), *plugin_rules(circumstances.plugin, circumstances.budget))
    broken = _broken_budget(rules, total, circumstances.used)
    if broken is None and circumstances.caps is not None:
        names = [action.name for action in actions]
        broken = circumstances.caps.objection(names, calls, circumstances.on_the_way_wei)
    if broken is not None:
        return Denied(broken)
    return Approved(tuple(calls), total, (*_uses(asked, catalogue), *_uses_of_budget(total)))


def judge_gas(gas_wei: int, rules: Sequence[Rule], used: Used) -> str | None:
    """Why a transaction that may cost `gas_wei` must not be signed, or None. Gas is known only then."""
    return first_objection([rule for rule in rules if rule.meter.measure is Measure.GAS], gas_wei, used)


def _broken_budget(rules: Sequence[Rule], value_wei: int, used: Used) -> str | None:
    values = [rule for rule in rules if rule.meter.measure is Measure.VALUE] if value_wei else []
    counts = [rule for rule in rules if rule.meter.measure is Measure.TRANSACTIONS]
    return first_objection(values, value_wei, used) or first_objection(counts, 1, used)


def _broken_sum(asked: int, limit: ArgumentLimit, rules: Sequence[Rule], used: Used) -> str | None:
    if limit.max_per_call is not None and asked > limit.max_per_call:
        return f"{asked} in one decision is above max_per_call = {limit.max_per_call}"
    return first_objection(rules, asked, used) if asked else None


def _uses(asked: dict[tuple[str, str], int], catalogue: Catalogue) -> Iterator[Use]:
    for (action, argument), amount in asked.items():
        limit = catalogue.actions[action].limits[argument]
        if amount and (limit.max_per_hour is not None or limit.max_per_day is not None):
            yield Use(measure=Measure.ARGUMENT, amount=amount, action=action, argument=argument)


def _uses_of_budget(value_wei: int) -> Iterator[Use]:
    if value_wei:
        yield Use(measure=Measure.VALUE, amount=value_wei)
    yield Use(measure=Measure.TRANSACTIONS, amount=1)


def _broken_rule(action: Action, entry: ActionEntry) -> str | None:
    if action.value_wei > entry.max_value_wei:
        return f"value_wei = {action.value_wei} is above max_value_wei = {entry.max_value_wei}"
    if action.value_wei and not entry.function.is_payable:
        return f"value_wei = {action.value_wei}, but {entry.function.signature} is not payable"
    for name, limit in entry.limits.items():
        if name in action.args:
            broken = _broken_limit(name, action.args[name], limit, entry)
            if broken is not None:
                return broken
    return None


def _broken_limit(name: str, value: Value | Depth1, limit: ArgumentLimit, entry: ActionEntry) -> str | None:
    if isinstance(value, list):
        for item in value:
            broken = _broken_limit(name, item, limit, entry)  # type: ignore[arg-type]  # one level less deep
            if broken is not None:
                return broken
        return None
    if limit.one_of is not None and not any(_is_same(value, allowed) for allowed in limit.one_of):
        return f"{name} = {_shown(value)} is not one of {[_shown(item) for item in limit.one_of]}"
    if limit.in_list is not None and not _is_listed(value, entry.addresses[limit.in_list]):
        return f"{name} = {_shown(value)} is not in address list {limit.in_list} (in_list)"
    if limit.not_in_list is not None and not _is_other_address(value, entry.addresses[limit.not_in_list]):
        return f"{name} = {_shown(value)} is in address list {limit.not_in_list} (not_in_list)"
    if all(
        bound is None for bound in (limit.min, limit.max, limit.max_per_call, limit.max_per_hour, limit.max_per_day)
    ):
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        return f"{name} = {_shown(value)} is not an integer, and has limits"
    if limit.min is not None and value < limit.min:
        return f"{name} = {value} is below min = {limit.min}"
    if limit.max is not None and value > limit.max:
        return f"{name} = {value} is above max = {limit.max}"
    return None


def _is_same(value: Value | Depth1, allowed: Value) -> bool:
    """Equal in type and value; hex text (addresses, bytes) without regard to case."""
    if isinstance(value, str) and isinstance(allowed, str) and allowed.lower().startswith("0x"):
        return value.lower() == allowed.lower()
    return type(value) is type(allowed) and value == allowed


def _is_listed(value: Value | Depth1, addresses: frozenset[str]) -> bool:
    return isinstance(value, str) and value.lower() in addresses


def _is_other_address(value: Value | Depth1, addresses: frozenset[str]) -> bool:
    """What is no text is no address: it must not slip past a deny list as something else."""
    return isinstance(value, str) and value.lower() not in addresses


def _integers(value: Value | Depth1) -> Iterator[int]:
    """All integers in an argument, however deep."""
    if isinstance(value, list):
        for item in value:
            yield from _integers(item)  # type: ignore[arg-type]  # one level less deep
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value


def _shown(value: Value | Depth1) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."  # a line of the ledger, not a dump
