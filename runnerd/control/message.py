"""What all messages of the control socket are: frozen, of known keys alone, and tagged with their type."""

from msgspec import Struct


class Message(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """Root of both directions."""
