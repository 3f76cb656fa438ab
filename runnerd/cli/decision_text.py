"""A recorded Decision and what was given to it, as an operator reads them: `mint(strike=200000, size=5)`. Pure."""

import json

import msgspec

from protocol.actions import Act, Action, Outcome
from protocol.expectations import Expectation, SharePrice
from runnerd.cli.text import ether
from runnerd.text import printable

MAX_PAYLOAD = 160
_decoder: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Outcome)


def asked_for(decision: str | None) -> list[str]:
    """One line for each Action and expectation; none for a Noop. A record of another release is shown as it is."""
    if decision is None:
        return []
    try:
        outcome = _decoder.decode(decision)
    except (ValueError, RecursionError):
        return [shortened(decision)]
    if not isinstance(outcome, Act):
        return []
    return [*map(_action, outcome.actions), *map(_expectation, outcome.expect)]


def shortened(text: str) -> str:
    """A payload on one line, with how much is left out."""
    shown = printable(text)
    if len(shown) <= MAX_PAYLOAD:
        return shown
    return f"{shown[:MAX_PAYLOAD]}… ({len(text):,} characters)"


def _action(action: Action) -> str:
    arguments = ", ".join(f"{name}={_value(value)}" for name, value in action.args.items())
    sent = f" with {ether(action.value_wei)}" if action.value_wei else ""
    return printable(f"{action.name}({arguments}){sent}")


def _expectation(expected: Expectation) -> str:
    if isinstance(expected, SharePrice):
        arguments = ", ".join(f"{name}={_value(value)}" for name, value in expected.args.items())
        return printable(f"expecting {expected.read}({arguments}) to move by at most {expected.max_change_bps} bps")
    what = "native balance" if expected.token is None else f"balance of token {expected.token}"
    bounds = [
        f"{word} {bound}"
        for word, bound in (("at least", expected.min), ("at most", expected.max))
        if bound is not None
    ]
    return printable(f"expecting {what} to change by {' and '.join(bounds)}")


def _value(value: object) -> str:
    """Hex bare, other text in quotes, lists in brackets."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return value if value.startswith("0x") and value.isalnum() else json.dumps(value, ensure_ascii=False)
    assert isinstance(value, list)  # the decoder accepts nothing else
    return f"[{', '.join(_value(item) for item in value)}]"
