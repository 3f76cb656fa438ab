"""Logs of a declared event: which topics to ask for, and the arguments of one. Pure.

https://docs.soliditylang.org/en/latest/abi-spec.html#events: an indexed argument of a type without a fixed size is only
there as the hash of its value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from eth_abi.abi import decode, encode
from eth_hash.auto import keccak

from protocol.values import Value
from runnerd.chain.abi import AbiEvent, AbiParameter, decode_parameters, parse_event
from runnerd.chain.abi_types import Elementary, Kind
from runnerd.chain.abi_values import AbiValue, from_abi, to_abi
from runnerd.chain.errors import AbiError


@dataclass(frozen=True, slots=True)
class EventFilter:
    """An event, and the values that its arguments must have. Made by `build_filter`."""

    event: AbiEvent
    topics: tuple[str | None, ...]
    """For eth_getLogs."""
    wanted: Mapping[str, Value]
    """Of arguments that are not indexed."""

    def is_wanted(self, topics: Sequence[str]) -> bool:
        """Whether a log of these topics is one of the event, with the indexed values that are wanted."""
        if len(topics) != 1 + sum(self.event.is_indexed):
            return False  # the same signature with others indexed: ERC-20's Transfer and ERC-721's
        return all(want is None or want == topic for want, topic in zip(self.topics, topics, strict=False))

    def arguments(self, topics: Sequence[str], data: bytes) -> dict[str, Value] | None:
        """The decoded arguments, by name, of a log that `is_wanted`; None if another value is. Raises AbiError."""
        event = self.event
        plain = [one for one, indexed in zip(event.inputs, event.is_indexed, strict=True) if not indexed]
        what = f"data of {event.name}"
        values = dict(zip((one.name for one in plain), decode_parameters(plain, data, what), strict=True))
        if any(values[name] != value for name, value in self.wanted.items()):
            return None
        words = iter(topics[1:])
        arguments: dict[str, Value] = {}
        for one, indexed in zip(event.inputs, event.is_indexed, strict=True):
            arguments[one.name] = _indexed(one, next(words)) if indexed else values[one.name]
        return arguments


def build_filter(fragment: str, where: Mapping[str, bool | int | str]) -> EventFilter:
    """Raises AbiError for a fragment that is none, and a value that is of no argument or does not fit it."""
    event = parse_event(fragment)
    inputs = {one.name: one for one in event.inputs}
    for name in where:
        if name not in inputs:
            raise AbiError(f"where: {event.name} has no argument {name}; it has: {', '.join(inputs) or 'none'}")
    topics: list[str | None] = [event.topic]
    wanted: dict[str, Value] = {}
    for one, indexed in zip(event.inputs, event.is_indexed, strict=True):
        if one.name not in where:
            if indexed:
                topics.append(None)
            continue
        value = to_abi(where[one.name], one.shape, one.name)
        if indexed:
            topics.append(_topic(one, value))
        else:
            (decoded,) = cast("tuple[AbiValue]", decode([one.type], encode([one.type], [value])))
            wanted[one.name] = from_abi(decoded, one.shape, one.name)
    while topics[-1] is None:
        topics.pop()
    return EventFilter(event, tuple(topics), wanted)


def _is_hashed(parameter: AbiParameter) -> bool:
    shape = parameter.shape
    return not isinstance(shape, Elementary) or shape.kind in (Kind.BYTES, Kind.STRING)


def _topic(parameter: AbiParameter, value: AbiValue) -> str:
    if not _is_hashed(parameter):
        return "0x" + encode([parameter.type], [value]).hex()
    return "0x" + keccak(value.encode() if isinstance(value, str) else cast("bytes", value)).hex()


def _indexed(parameter: AbiParameter, topic: str) -> Value:
    if _is_hashed(parameter):
        return topic
    (value,) = decode_parameters([parameter], bytes.fromhex(topic[2:]), f"topic of {parameter.name}")
    return value
