"""`protocol/README.md` is the wire document: its frames, fields and limits are those of the code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from msgspec.structs import FieldInfo, fields

from protocol import actions, expectations, limits, messages, triggers
from protocol.codec import decode_from_supervisor, decode_from_worker, encode
from protocol.messages import FromSupervisor, FromWorker
from tests.protocol.golden import SUPERVISOR_FRAMES, WORKER_FRAMES

README = (Path(limits.__file__).parent / "README.md").read_text("utf-8")
PARTS = {
    part.__name__: part
    for part in (
        *(actions.Act, actions.Action, actions.Noop, triggers.Cron, triggers.Event, triggers.Read, triggers.Block),
        *(triggers.Log, triggers.Metric, triggers.Webhook, triggers.Custom, messages.Origin),
        *(expectations.BalanceChange, expectations.SharePrice),
        *(messages.Call, messages.BlockRef, messages.VaultRef, messages.StatePut, messages.StateDelete),
    )
}


def chapter(title: str) -> str:
    """The text below one heading of the second level."""
    return next(text for text in README.split("\n## ") if text.startswith(f"{title}\n"))


def sections(title: str) -> Iterator[tuple[str, str]]:
    """Name and text of the sections of a chapter: one for each message or part."""
    for text in chapter(title).split("\n### ")[1:]:
        heading, _, rest = text.partition("\n")
        yield heading.strip("`"), rest


def rows(text: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    table = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def frames(text: str) -> list[bytes]:
    """The examples in it."""
    return [frame.encode() for frame in re.findall(r"^```json\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)]


WORKER = dict(sections("Messages of a worker"))
SUPERVISOR = dict(sections("Messages of the supervisor"))


def tagged(union: Any) -> dict[str, type[msgspec.Struct]]:
    """The messages of one direction by their type."""
    return {kind.__struct_config__.tag: kind for kind in get_args(union)}


def described(name: str, text: str, struct: type[msgspec.Struct]) -> None:
    """The section's table has exactly the fields of the struct, in their order, with their defaults."""
    documented = [(field.strip("`"), default.strip("`")) for field, _, default in rows(text)]
    assert documented == [(field.encode_name, default_of(field)) for field in fields(struct)], name


def default_of(field: FieldInfo) -> str:
    """What the column "if left out" says of it."""
    if field.required:
        return "refused"
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return msgspec.json.encode(default).decode()


def test_every_message_has_its_section_with_its_fields() -> None:
    """In the chapter of its direction; `refused`, which goes both ways, in both."""
    for described_messages, union in ((WORKER, FromWorker), (SUPERVISOR, FromSupervisor)):
        known = tagged(union)
        assert set(described_messages) == set(known)
        for name, text in described_messages.items():
            described(name, text, known[name])


def test_every_part_of_a_message_has_its_section_with_its_fields() -> None:
    """And its kind, where a kind tells it from others."""
    parts = dict(sections("Parts of messages"))
    assert set(parts) == set(PARTS)
    for name, text in parts.items():
        described(name, text, PARTS[name])
        tag = PARTS[name].__struct_config__.tag
        assert (f'`"kind":"{tag}"`' in text) == (tag is not None)


def test_every_example_is_the_golden_frame_of_its_message() -> None:
    """Byte for byte, below the heading of its type, and it decodes to that message."""
    for described_messages, golden, decode in (
        (WORKER, WORKER_FRAMES, decode_from_worker),
        (SUPERVISOR, SUPERVISOR_FRAMES, decode_from_supervisor),
    ):
        shown = [(name, frame) for name, text in described_messages.items() for frame in frames(text)]
        assert shown == [(name.partition(",")[0], frame) for name, (_, frame) in golden.items()]
        for frame, (message, _) in zip((frame for _, frame in shown), golden.values(), strict=True):
            assert decode(frame) == message
            assert encode(message) == frame


def test_no_example_stands_anywhere_else() -> None:
    """Otherwise nothing would check it."""
    assert len(frames(README)) == len(WORKER_FRAMES) + len(SUPERVISOR_FRAMES)
    assert README.count("```json") == len(frames(README))


def test_the_limits_are_those_of_the_code() -> None:
    """All of them, with their values."""
    documented = {name.strip("`"): number(value) for name, value, _ in rows(chapter("Limits"))}
    assert documented == {name: value for name, value in vars(limits).items() if name.isupper()}


def number(text: str) -> int:
    """`1048576`, `-2^255` or `2^256 - 1`."""
    plain = re.fullmatch(r"-?\d+", text)
    if plain:
        return int(text)
    power = re.fullmatch(r"(-?)2\^(\d+)( - 1)?", text)
    assert power, text
    value = (1 << int(power[2])) - (1 if power[3] else 0)
    return -value if power[1] else value


@pytest.mark.parametrize("name", re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", README))
def test_every_limit_that_is_named_exists(name: str) -> None:
    """A renamed limit must not live on in the text; ZeroMQ's own options are not ours."""
    assert hasattr(limits, name) or name.startswith("ZMQ_")


def test_the_version_is_that_of_the_code() -> None:
    """In the first paragraph."""
    assert f"protocol version **{limits.PROTOCOL_VERSION}**" in README
