"""What a plugin may ask for: a pure judgement of Actions against the vault's catalogue and what was spent today.

A denial names the rule, the value and the limit. Nothing is signed that has not passed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.actions import Action
from protocol.values import Depth1, Value
from runnerd.catalogue import ActionEntry, Catalogue
from runnerd.chain.abi import encode_call
from runnerd.chain.errors import AbiError
from runnerd.chain.vault import Call
from runnerd.config.model import ArgumentLimit


@dataclass(frozen=True, slots=True)
class Approved:
    """The calls to make, in order, and the wei that leave the vault with them."""

    calls: tuple[Call, ...]
    value_wei: int


@dataclass(frozen=True, slots=True)
class Denied:
    """Refused; nothing was spent. `reason` is for the ledger."""

    reason: str


def judge(actions: Sequence[Action], catalogue: Catalogue, spent_today_wei: int) -> Approved | Denied:
    """Approve all of `actions`, or deny the whole Decision for the first rule that is broken.

    `spent_today_wei` is what the vault's intents of this UTC day have sent or may still send.
    """
    if len(actions) > catalogue.max_actions:
        return Denied(f"{len(actions)} actions in one decision, vault {catalogue.vault} allows {catalogue.max_actions}")
    calls = []
    for index, action in enumerate(actions):
        where = f"action {index + 1} ({action.name})"
        entry = catalogue.actions.get(action.name)
        if entry is None:
            granted = ", ".join(catalogue.actions) or "none"
            return Denied(f"{where} is not in the catalogue of vault {catalogue.vault}; granted: {granted}")
        broken = _broken_rule(action, entry)
        if broken is not None:
            return Denied(f"{where}: {broken}")
        try:
            data = encode_call(entry.function, action.args)
        except AbiError as error:
            return Denied(f"{where}: {error}")
        calls.append(Call(to=entry.contract, value_wei=action.value_wei, data=data))
    total = sum(call.value_wei for call in calls)
    limit = catalogue.max_value_wei_per_day
    if total and spent_today_wei + total > limit:
        return Denied(
            f"{total} wei on top of {spent_today_wei} spent today is above max_value_wei_per_day = {limit} "
            f"of vault {catalogue.vault}"
        )
    return Approved(tuple(calls), total)


def _broken_rule(action: Action, entry: ActionEntry) -> str | None:
    if action.value_wei > entry.max_value_wei:
        return f"value_wei = {action.value_wei} is above max_value_wei = {entry.max_value_wei}"
    if action.value_wei and not entry.function.is_payable:
        return f"value_wei = {action.value_wei}, but {entry.function.signature} is not payable"
    for name, limit in entry.limits.items():
        if name in action.args:
            broken = _broken_limit(name, action.args[name], limit)
            if broken is not None:
                return broken
    return None


def _broken_limit(name: str, value: Value | Depth1, limit: ArgumentLimit) -> str | None:
    if isinstance(value, list):
        for item in value:
            broken = _broken_limit(name, item, limit)  # type: ignore[arg-type]  # one level less deep
            if broken is not None:
                return broken
        return None
    if limit.one_of is not None and not any(_is_same(value, allowed) for allowed in limit.one_of):
        return f"{name} = {_shown(value)} is not one of {[_shown(item) for item in limit.one_of]}"
    if limit.min is None and limit.max is None:
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


def _shown(value: Value | Depth1) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."  # a line of the ledger, not a dump
