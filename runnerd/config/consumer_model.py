"""The shape of `[consumers.NAME]`: who hears of JobResults, one struct for each `kind`. Part of `config.model`.

Secrets never stand in the file: each is named by a file or by a systemd credential.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from protocol.actions import Name
from protocol.values import Value
from runnerd.config.extensions import Option

OutcomeName: TypeAlias = Literal["acted", "noop", "denied", "failed", "expired", "dead"]
"""See `runnerd.store.calls.JobOutcome`."""
Channel: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}\Z")]


class _Consumer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Root of all kinds. A key that is not known is an error, never ignored."""


class WebhookConsumerConfig(_Consumer, frozen=True, tag="webhook"):
    """`[consumers.NAME] kind = "webhook"`: each JobResult is posted to a URL, signed."""

    url: str
    """`https://`; `http://` with `allow_private` alone. Redirects are not followed. Only its host is shown."""
    secret_file: Path | None = None
    """File with the secret that signs, 16 bytes or more. Refused when every user could read it."""
    secret_credential: str | None = None
    """Name of a systemd credential with that secret."""
    allow_private: bool = False
    """It may lead into the own network: loopback, private and link-local addresses."""
    plugins: tuple[Name, ...] = ()
    """Only results of these plugins; empty: of all."""
    outcomes: tuple[OutcomeName, ...] = ()
    """Only results with these outcomes; empty: with any."""


class NotifyConsumerConfig(_Consumer, frozen=True, tag="notify"):
    """`[consumers.NAME] kind = "notify"`: each JobResult is announced with `pg_notify`, in the database of events."""

    channel: Channel
    """What an indexer listens to. Not a topic that a plugin is called by: it would hear itself."""
    plugins: tuple[Name, ...] = ()
    """Only results of these plugins; empty: of all."""
    outcomes: tuple[OutcomeName, ...] = ()
    """Only results with these outcomes; empty: with any."""


class AppriseConsumerConfig(_Consumer, frozen=True, tag="apprise"):
    """`[consumers.NAME] kind = "apprise"`: each JobResult is a message by e-mail or chat. Needs `runnerd[notify]`."""

    url_file: Path | None = None
    """File with one URL of apprise, such as `mailtos://…` or `slack://…`: it holds the service's secrets."""
    url_credential: str | None = None
    """Name of a systemd credential with that URL."""
    plugins: tuple[Name, ...] = ()
    """Only results of these plugins; empty: of all."""
    outcomes: tuple[OutcomeName, ...] = ("acted", "denied", "failed", "expired", "dead")
    """Only results with these outcomes; empty: with any."""


class SubmitConsumerConfig(_Consumer, frozen=True, tag="submit"):
    """`[consumers.NAME] kind = "submit"`: what came of a call that a chain made is answered on that chain, once."""

    plugin: Name
    """Whose calls are answered. Its vault is the one that answers, and its limits and budgets hold."""
    action: Name
    """An action of that vault. For a log its contract must be the one that wrote the log."""
    arguments: dict[Name, Value] = {}
    """What each argument is: a value, or text that begins with `$` for a part of the call and its result."""
    trigger: Literal["log", "block"] = "log"
    """Which calls: those of logs, or those of blocks. No other call is ever answered."""
    outcomes: tuple[OutcomeName, ...] = ("acted", "noop")
    """Only results with these outcomes; empty: with any."""


class EntryPointConsumerConfig(_Consumer, frozen=True, tag="entry_point"):
    """`[consumers.NAME] kind = "entry_point"`: a consumer of a third party. Its code runs beside the key: trust it."""

    entry_point: Annotated[str, Meta(min_length=1, max_length=200)]
    """Name of an installed entry point in the group `runnerd.consumers`: [embedding](embedding.md)."""
    params: dict[str, Option] = {}
    """What its factory finds in `tools.params`. No secrets."""
    plugins: tuple[Name, ...] = ()
    """Only results of these plugins; empty: of all."""
    outcomes: tuple[OutcomeName, ...] = ()
    """Only results with these outcomes; empty: with any."""


ConsumerConfig: TypeAlias = (
    WebhookConsumerConfig
    | NotifyConsumerConfig
    | AppriseConsumerConfig
    | SubmitConsumerConfig
    | EntryPointConsumerConfig
)
