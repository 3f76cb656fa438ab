"""How `why` looks: what hinders the plugin now, then one timeline of its calls and its workers, newest first.

Nothing in it is cut but payloads: this is where an operator reads the whole reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Final, TypeAlias, assert_never

from rich.console import Console
from rich.text import Text

from runnerd.cli.decision_text import asked_for, shortened
from runnerd.cli.hindrance import hindrances, place_kind
from runnerd.cli.terminal import ATTENTION, FINE, STYLES, cell, show_line, show_wrapped, uncut
from runnerd.cli.text import clock_time, duration, milliseconds, until
from runnerd.control.record_messages import HistoryEvent, Run
from runnerd.control.status_messages import PluginStatus, Status
from runnerd.text import printable

NARROW: Final = 100
DENIED: Final = "denied syscall"
_LABEL_WIDTH: Final = 9
_STAMP_WIDTH: Final = 10
_ENDING: Final = 60
_SHORT_DIGEST: Final = len("sha256:") + 12
_EVENT_STYLES: Final = {
    "ready": "green",
    "exited": "red",
    "lost": "yellow",
    "quarantined": "bold red",
    "attack": "bold red",
    DENIED: "yellow",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that was asked of the daemon. `has_all_runs`: there are no older calls."""

    plugin: PluginStatus
    status: Status
    runs: list[Run]
    events: list[HistoryEvent]
    has_all_runs: bool


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls in a row that ended alike, newest first: one of them, or many that say the same."""

    runs: tuple[Run, ...]

    @property
    def at(self) -> datetime:
        """When the newest was fired."""
        return self.runs[0].fired_at


@dataclass(frozen=True, slots=True)
class Events:
    """What happened to a worker; denied system calls of one generation in a row are taken together."""

    events: tuple[HistoryEvent, ...]

    @property
    def at(self) -> datetime:
        """When the newest happened."""
        return self.events[0].at


Entry: TypeAlias = Calls | Events


def show_why(console: Console, evidence: Evidence, limit: int) -> None:
    """Print all of it; at most `limit` entries of calls."""
    _show_now(console, evidence)
    entries = [*fold_calls(evidence.runs)][:limit]
    is_whole = evidence.has_all_runs and len(entries) < limit
    oldest = entries[-1].at if entries and not is_whole else None
    events = [*fold_events(evidence.events)]
    inside: list[Entry] = [event for event in events if oldest is None or event.at >= oldest]
    before = [event for event in events if oldest is not None and event.at < oldest]
    console.print()
    if not entries:
        show_line(console, cell("no call yet", "dim"))
    timeline = _Timeline(console, evidence.status.now, evidence.plugin.reason, evidence.plugin.digest)
    for entry in sorted([*entries, *inside], key=lambda entry: entry.at, reverse=True):
        timeline.show(entry)
    if before:
        show_line(console, cell("before these calls", "dim"))
    for entry in before:
        timeline.show(entry)


def fold_calls(runs: list[Run]) -> Iterator[Calls]:
    """Take together what ended alike and touched no chain: an idle plugin says the same every tick."""

    def likeness(run: Run) -> tuple[object, ...]:
        alone = run.id if run.transaction or run.outcome is None or asked_for(run.decision) or run.payload else None
        return (run.outcome, run.reason, run.trigger, run.topic, run.digest, alone)

    for _, group in groupby(runs, likeness):
        yield Calls(tuple(group))


def fold_events(events: list[HistoryEvent]) -> Iterator[Events]:
    """Take denied system calls of one generation together; everything else stands alone."""

    def likeness(indexed: tuple[int, HistoryEvent]) -> tuple[object, ...]:
        index, event = indexed
        return (event.generation, event.kind) if event.kind == DENIED else (index,)

    for _, group in groupby(enumerate(events), likeness):
        yield Events(tuple(event for _, event in group))


# --- now -------------------------------------------------------------------------------------------------------------


def _show_now(console: Console, evidence: Evidence) -> None:
    plugin, now = evidence.plugin, evidence.status.now
    head = Text.assemble(
        cell(plugin.name, "bold"), f" on {place_kind(plugin)} {printable(plugin.vault)}: ", _state(plugin)
    )
    head.append(f" for {duration((now - plugin.since).total_seconds())}, generation {plugin.generation}")
    show_wrapped(console, head)
    triggers = ", ".join(plugin.triggers) or "nothing"
    due = f", next {until(plugin.next_fire, now)}" if plugin.next_fire else ""
    show_wrapped(console, cell(f"called by {triggers}{due}", "dim"), indent=2)
    if plugin.digest is not None:
        show_wrapped(console, cell(f"code {plugin.digest}{' (pinned)' if plugin.pin else ''}", "dim"), indent=2)
    found = hindrances(plugin, evidence.status)
    for sentence in found:
        show_wrapped(console, cell(sentence), prefix=ATTENTION)
    if not found:
        last = f"; its last call ended as {plugin.last_outcome}" if plugin.last_outcome else ""
        show_wrapped(console, cell(f"nothing hinders it{last}"), prefix=FINE)


def _state(plugin: PluginStatus) -> Text:
    return cell(plugin.state, STYLES.get(plugin.state, ""))


# --- the timeline ----------------------------------------------------------------------------------------------------


class _Timeline:
    """Prints entries; a day that is not today is named once, above its first."""

    def __init__(self, console: Console, now: datetime, told: str, digest: str | None) -> None:
        self._console = console
        self._day = now.astimezone(UTC).date()
        # In the first columns of a narrow terminal, so that a hash stands whole on one line of 80.
        self._indent = _STAMP_WIDTH if console.width >= NARROW else 2
        self._digest = digest
        self._endings = {told[-_ENDING:]}

    def show(self, entry: Entry) -> None:
        """Print one."""
        day = entry.at.astimezone(UTC).date()
        if day != self._day:
            self._day = day
            show_line(self._console, cell(f"{day:%Y-%m-%d}", "dim"))
        match entry:
            case Calls(runs=runs):
                self._show_calls(runs)
            case Events(events=events):
                self._show_events(events)
            case _:
                assert_never(entry)

    def _show_calls(self, runs: tuple[Run, ...]) -> None:
        newest, oldest = runs[0], runs[-1]
        label = newest.outcome or "open"
        reason = newest.reason or _open_reason(newest)
        count = f"  (× {len(runs)} since {clock_time(oldest.fired_at, newest.fired_at)})" if len(runs) > 1 else ""
        self._show_headline(newest.fired_at, (label, STYLES.get(label, "cyan")), reason, count)
        for number, action in enumerate(asked_for(newest.decision)):
            self._show_detail("asked" if number == 0 else "", action)
        if newest.transaction:
            line = Text.assemble(_detail_label("tx"), uncut(newest.transaction), overflow="ignore")
            show_line(self._console, line, self._indent)
        if newest.payload:
            self._show_detail("payload", shortened(newest.payload))
        show_wrapped(self._console, cell(_details(runs, self._digest), "dim"), self._indent)

    def _show_events(self, events: tuple[HistoryEvent, ...]) -> None:
        newest = events[0]
        if newest.kind == DENIED:
            names = ", ".join(dict.fromkeys(event.detail for event in reversed(events)))
            text = f"#{newest.generation} was denied system calls: {names}"
        elif newest.kind == "ready":
            text = f"#{newest.generation} ready"
        else:
            text = f"#{newest.generation} {newest.kind}: {newest.detail}"
        self._show_headline(newest.at, ("worker", _EVENT_STYLES.get(newest.kind, "")), text)

    def _show_headline(self, at: datetime, label: tuple[str, str], text: str, count: str = "") -> None:
        stamp = f"{at.astimezone(UTC):%H:%M:%S}".ljust(_STAMP_WIDTH)
        prefix = Text.assemble((stamp, "dim"), (printable(label[0]).ljust(_LABEL_WIDTH), label[1]))
        room = self._console.width - prefix.cell_len - len(count)
        # A crash is told by its worker, by the call that it ended, and by the quarantine: in full by the first of them.
        if len(text) > room and text[-_ENDING:] in self._endings:
            text = f"{text[: max(0, room - 1)]}…"
        self._endings.add(text[-_ENDING:])
        show_wrapped(self._console, cell(text + count), prefix=prefix)

    def _show_detail(self, label: str, text: str) -> None:
        show_wrapped(self._console, cell(text), self._indent, _detail_label(label))


def _detail_label(label: str) -> Text:
    return Text(label.ljust(_LABEL_WIDTH), "dim")


def _open_reason(run: Run) -> str:
    if run.intent_state and run.cancelling:
        return f"a no-op is to take its place at nonce {run.nonce}: {run.cancelling}"
    if run.intent_state:
        return f"decided, its transaction is {run.intent_state}"
    return "decided, not yet executed" if run.state == "decided" else "waits for its worker"


def _details(runs: tuple[Run, ...], digest: str | None) -> str:
    """`digest`: of the present code. Another one is told."""
    newest, oldest = runs[0], runs[-1]
    number = f"call {newest.id}" if len(runs) == 1 else f"calls {oldest.id} to {newest.id}"
    source = f"{newest.trigger} {newest.topic}" if newest.topic else newest.trigger
    parts = [number, source if newest.trigger != "manual" else f"fired by {newest.principal}"]
    decide_ms = [run.decide_ms for run in runs if run.decide_ms is not None]
    if decide_ms:
        slowest = " at most" if len(decide_ms) > 1 else ""
        parts.append(f"decided in {milliseconds(max(decide_ms))}{slowest} by generation {newest.generation}")
        if newest.digest is not None and newest.digest != digest:
            parts.append(f"code {newest.digest[:_SHORT_DIGEST]}…")
    elif newest.state != "queued":
        parts.append("not decided")
    if newest.attempts:
        parts.append(f"ended {newest.attempts} workers")
    if newest.nonce is not None:
        parts.append(f"nonce {newest.nonce}")
    if newest.intent_state and newest.outcome:
        parts.append(newest.intent_state)
    return ", ".join(parts)
