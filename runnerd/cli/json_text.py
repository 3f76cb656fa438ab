"""Replies as JSON for programs, safe to look at on a terminal as well."""

import msgspec


def to_json(value: object) -> str:
    """`value` as indented JSON in which every character that does not print is an escape: the same to a parser.

    JSON leaves C1 control characters and writing directions as they are; some terminals obey them.
    """
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
