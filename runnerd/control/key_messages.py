"""Requests and replies about keys of the HTTP API: what `runnerctl keys` says. Part of `control.messages`."""

from datetime import datetime
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from protocol.names import Name
from runnerd.control.message import Message

MAX_KEY_PLUGINS = 100


class CreateKey(Message, frozen=True, tag="create_key"):
    """Make a key for these plugins. `expires_in_s` None: until it is revoked."""

    name: Name
    plugins: Annotated[list[Name], Meta(min_length=1, max_length=MAX_KEY_PLUGINS)]
    is_signing: bool = False
    expires_in_s: Annotated[float, Meta(gt=0, le=86_400 * 366 * 10)] | None = None


class GetKeys(Message, frozen=True, tag="keys"):
    """Which keys are there?"""


class RevokeKey(Message, frozen=True, tag="revoke_key"):
    """Nobody may use it any more."""

    name: str


KeyRequest: TypeAlias = CreateKey | GetKeys | RevokeKey


class KeyStatus(Struct, frozen=True, kw_only=True):
    """One key, without its secret. `state` is `valid`, `expired` or `revoked`; `kind` is `bearer` or `signing`."""

    name: str
    kind: str
    plugins: list[str]
    state: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None


class Keys(Message, frozen=True, tag="keys_reply"):
    """All keys, oldest first."""

    keys: list[KeyStatus]


class KeyCreated(Message, frozen=True, tag="key_created"):
    """The only time that the secret is shown. `without_webhook`: those of its plugins that declare no such trigger."""

    key: KeyStatus
    secret: str
    without_webhook: list[str] = []


KeyReply: TypeAlias = Keys | KeyCreated
