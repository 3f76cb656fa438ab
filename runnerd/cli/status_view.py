"""How a Status looks: health in one line, problems in words, then plugins, chains, vaults and open intents.

From `WIDE` columns on, what a plugin did last stands on its line; below that it has a line of its own.
"""

from collections import defaultdict
from datetime import datetime
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from runnerd.cli.terminal import ABSENT, ATTENTION, Column, Row, cell, show_line, show_listing, show_wrapped, word
from runnerd.cli.text import duration, ether, mebibytes, until
from runnerd.control.place_messages import KeeperStatus, VaultStatus
from runnerd.control.status_messages import ChainStatus, PluginStatus, Status
from runnerd.text import printable

WIDE: Final = 104
VERY_WIDE: Final = 160


def show_status(console: Console, status: Status) -> None:
    """Print all of it."""
    _show_head(console, status)
    for problem in status.problems:
        show_wrapped(console, cell(problem), prefix=ATTENTION)
    if status.plugins:
        console.print()
        _show_plugins(console, status)
    if status.chains:
        console.print()
        _show_chains(console, status.chains)
    if status.vaults:
        console.print()
        _show_vaults(console, status.vaults)
    if status.keepers:
        console.print()
        _show_keepers(console, status.keepers)
    notes = [*_producers(status), *_consumers(status), *_ended(status), *_intents(status)]
    notes += _missing_layers(status.plugins)
    if notes:
        console.print()
    for note in notes:
        show_wrapped(console, note)


def show_down(console: Console, text: str) -> None:
    """There is no status to show, and why."""
    show_line(console, Text.assemble("runnerd is ", ("down", "bold red")))
    show_wrapped(console, cell(text))


def _show_head(console: Console, status: Status) -> None:
    up = duration((status.now - status.started_at).total_seconds())
    parts = [f"pid {status.pid}", f"up {up}", f"loop lag {status.loop_lag_ms:.2g} ms", f"database {status.database}"]
    parts.append(status.http or "no http")
    head = Text.assemble("runnerd ", cell(status.version), " is ", word(status.health))
    details = " · ".join(parts)
    if head.cell_len + 3 + cell_len(details) <= console.width:
        show_line(console, Text.assemble(head, "   ", (printable(details), "dim")))
        return
    show_line(console, head)
    for line in _packed(parts, console.width):
        show_line(console, cell(line, "dim"))


def _packed(parts: list[str], room: int) -> list[str]:
    """The parts on as few lines as they take, none of them broken."""
    lines = [parts[0]]
    for part in parts[1:]:
        joined = f"{lines[-1]} · {part}"
        if cell_len(joined) <= room:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


# --- plugins ---------------------------------------------------------------------------------------------------------


def _show_plugins(console: Console, status: Status) -> None:
    is_wide, is_very_wide = console.width >= WIDE, console.width >= VERY_WIDE
    columns = [
        Column("PLUGIN", is_flexible=True, max_width=None if is_very_wide else 26),
        *([Column("VAULT", is_flexible=True)] if is_very_wide else []),
        Column("STATE"),
        Column("PID", is_number=True),
        Column("GEN", is_number=True),
        Column("MEMORY", is_number=True),
        Column("QUEUE", is_number=True),
        *([Column("BUSY", is_number=True)] if is_wide else []),
        Column("NEXT"),
        *([Column("LAST", is_flexible=True)] if is_wide else []),
    ]
    rows = []
    for plugin in status.plugins:
        last = _last(plugin, status.now)
        cells = [
            cell(plugin.name, "bold"),
            *([cell(plugin.vault)] if is_very_wide else []),
            word("paused" if plugin.paused else _plugin_state(plugin)),
            cell(_or_absent(plugin.pid)),
            cell(str(plugin.generation)),
            cell(mebibytes(plugin.memory_bytes) if plugin.memory_bytes is not None else ABSENT),
            cell(str(plugin.waiting), "yellow" if plugin.waiting else ""),
            *([cell(str(plugin.deciding))] if is_wide else []),
            cell(until(plugin.next_fire, status.now) if plugin.next_fire else ABSENT),
            *([last] if is_wide else []),
        ]
        rows.append(Row(tuple(cells), () if is_wide else (last,)))
    show_listing(console, columns, rows)


def _last(plugin: PluginStatus, now: datetime) -> Text:
    if plugin.last_outcome is None:
        return cell("no call yet", "dim")
    ago = f" {duration((now - plugin.last_at).total_seconds())} ago" if plugin.last_at else ""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append_text(word(plugin.last_outcome))
    text.append(ago, style="dim")
    if plugin.last_reason:
        text.append_text(Text.assemble(": ", cell(plugin.last_reason)))
    return text


# --- chains, vaults, the rest ----------------------------------------------------------------------------------------


def _show_chains(console: Console, chains: list[ChainStatus]) -> None:
    has_problem = any(chain.problem for chain in chains)
    columns = [
        Column("CHAIN", is_flexible=True),
        Column("ID", is_number=True),
        Column("HEAD", is_number=True),
        Column("NODE", is_flexible=True),
        *([Column("PROBLEM", is_flexible=True)] if has_problem else []),
    ]
    rows = [
        Row(
            (
                cell(chain.name, "bold"),
                cell(str(chain.chain_id)),
                cell(_or_absent(chain.head)),
                cell(chain.node),
                *([cell(chain.problem or ABSENT, "red" if chain.problem else "")] if has_problem else []),
            ),
            (*_nodes(chain), *_turned(chain)),
        )
        for chain in chains
    ]
    show_listing(console, columns, rows)


def _nodes(chain: ChainStatus) -> tuple[Text, ...]:
    """A line for each node; one that is well and alone has been named already."""
    if len(chain.nodes) == 1 and chain.nodes[0].state == "in":
        return ()
    return tuple(
        Text.assemble(
            word(node.state),
            "  ",
            cell(_or_absent(node.head)),
            "  ",
            cell(node.name),
            cell(f"  {node.reason}" if node.reason else "", "dim"),
            no_wrap=True,
            overflow="ellipsis",
        )
        for node in chain.nodes
    )


def _turned(chain: ChainStatus) -> tuple[Text, ...]:
    """What an operator turned: the configuration does not tell it."""
    if not chain.knobs:
        return ()
    values = ", ".join(f"{name} = {value}" for name, value in chain.knobs.items())
    return (cell(f"turned: {values}; see runnerctl fees {chain.name}", "yellow"),)


def _show_vaults(console: Console, vaults: list[VaultStatus]) -> None:
    has_address, has_operator = console.width >= WIDE, console.width >= VERY_WIDE
    columns = [
        Column("VAULT", is_flexible=True),
        Column("CHAIN", is_flexible=True),
        Column("STATE"),
        Column("SPENT 24 H / LIMIT"),
        Column("WAITING", is_number=True),
        *([Column("ADDRESS")] if has_address else []),
        *([Column("OPERATOR"), Column("HAS")] if has_operator else []),
    ]
    rows = [
        Row(
            (
                cell(vault.name, "bold"),
                cell(vault.chain),
                _vault_state(vault),
                cell(f"{ether(vault.spent_today_wei)} / {ether(vault.max_value_wei_per_day)}"),
                cell(str(vault.waiting_intents), "yellow" if vault.waiting_intents else ""),
                *([cell(vault.address)] if has_address else []),
                *([cell(vault.operator or ABSENT), cell(_balance(vault))] if has_operator else []),
            )
        )
        for vault in vaults
    ]
    show_listing(console, columns, rows)


def _show_keepers(console: Console, keepers: list[KeeperStatus]) -> None:
    columns = [
        Column("KEEPER", is_flexible=True),
        Column("CHAIN", is_flexible=True),
        Column("STATE"),
        Column("HAS"),
        Column("WAITING", is_number=True),
        *([Column("WALLET")] if console.width >= WIDE else []),
    ]
    rows = [
        Row(
            (
                cell(keeper.name, "bold"),
                cell(keeper.chain),
                _vault_state(keeper),
                cell(ABSENT if keeper.balance_wei is None else ether(keeper.balance_wei)),
                cell(str(keeper.waiting_intents), "yellow" if keeper.waiting_intents else ""),
                *([cell(keeper.address or ABSENT)] if console.width >= WIDE else []),
            )
        )
        for keeper in keepers
    ]
    show_listing(console, columns, rows)


def _balance(vault: VaultStatus) -> str:
    return ABSENT if vault.operator_balance_wei is None else ether(vault.operator_balance_wei)


def _vault_state(vault: VaultStatus | KeeperStatus) -> Text:
    if vault.problem:
        return cell("refused", "bold red")
    if vault.paused or vault.reducing:
        return word("paused" if vault.paused else "reducing")
    return cell("open", "green")


def _plugin_state(plugin: PluginStatus) -> str:
    """One that runs but may only reduce says so; what keeps it from running at all is more."""
    return "reducing" if plugin.reducing and plugin.state == "ready" else plugin.state


def _producers(status: Status) -> list[Text]:
    """How far those have come that follow something; what is wrong with one is among the problems."""
    return [
        Text.assemble((f"{printable(one.name)} ", "bold"), cell(one.progress, "dim"))
        for one in status.producers
        if one.progress
    ]


def _consumers(status: Status) -> list[Text]:
    """How many results wait for each; what is wrong with one is among the problems."""
    return [
        Text.assemble(
            (f"{printable(one.name)} ", "bold"),
            cell(f"hears of results by {one.kind}: ", "dim"),
            cell(f"{one.waiting} wait" if one.waiting else "all heard", "yellow" if one.waiting else "dim"),
            cell(f", {one.dead} given up", "bold red") if one.dead else Text(),
        )
        for one in status.consumers
    ]


def _ended(status: Status) -> list[Text]:
    """Producers and services that came to their end, which is no problem; what failed is among the problems."""
    named = [(f"producer {one.name}", one.state) for one in status.producers]
    named += [(f"service {one.name}", one.state) for one in status.services]
    return [cell(f"{name} has ended", "dim") for name, state in named if state == "ended"]


def _intents(status: Status) -> list[Text]:
    if not status.open_intents:
        return [cell("no open intents", "dim")]
    counted = ", ".join(f"{count} {state}" for state, count in sorted(status.open_intents.items()))
    style = "bold yellow" if status.open_intents.get("unresolved") else ""
    return [cell(f"open intents: {counted}", style)]


def _missing_layers(plugins: list[PluginStatus]) -> list[Text]:
    """Which workers run with less sandbox than there could be, by what is missing."""
    without: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for plugin in plugins:
        if plugin.missing_layers:
            without[tuple(plugin.missing_layers)].append(plugin.name)
    return [
        cell(f"without {', '.join(layers)}: {', '.join(names)} (see runnerctl doctor)", "yellow")
        for layers, names in without.items()
    ]


def _or_absent(number: int | None) -> str:
    return ABSENT if number is None else str(number)
