"""Kinds of arguments that several commands take: what is wrong with one is said before anything is asked."""

from typing import Any, Final

import click

from protocol.actions import NAME_RULE, is_name
from runnerd.text import printable

MAX_CALL: Final = (1 << 63) - 1


class Name(click.ParamType[str]):
    """A name as runnerd.toml takes it."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See click.ParamType."""
        if not is_name(value):
            self.fail(f"{printable(value)!r} cannot be a name; allowed: {NAME_RULE}", param, ctx)
        return value


class CallNumber(click.ParamType[int]):
    """The number of a call."""

    name = "call"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See click.ParamType."""
        text = str(value)
        is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_CALL))
        if not is_number or not 1 <= int(text) <= MAX_CALL:
            self.fail(f"{printable(text)!r} is not the number of a call, as runnerctl runs lists them", param, ctx)
        return int(text)
