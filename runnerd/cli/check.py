"""`runnerctl check`: everything that can be said of a configuration without starting anything."""

from collections.abc import Mapping
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from protocol.zygote import Identified
from runnerd.chain.node_url import parse_node_url
from runnerd.cli.codes import identify_plugins
from runnerd.cli.configured import load
from runnerd.cli.exits import CliError, ExitCode
from runnerd.cli.json_text import to_json
from runnerd.cli.options import Target, json_option, pass_target
from runnerd.cli.terminal import ABSENT, FINE, Column, Row, cell, open_console, show_line, show_listing, show_wrapped
from runnerd.cli.text import ether
from runnerd.config.model import ChainConfig, Config
from runnerd.config.plugins import PluginConfig
from runnerd.supervisor.spawning import plugin_source


@click.command(
    epilog="""\b
Examples:
  runnerctl check
  runnerctl check ./runnerd.toml && systemctl reload runnerd
  runnerctl check --json | jq '.problems'

Every problem is printed with its file, its key and what is allowed there. Exit code 78 if there is one.
It reads the configuration, looks whether files exist, and shows the digest of each plugin's code, which is what
`pin` takes. Code that is not the pinned one is a problem too. For nodes, database and keys see `runnerctl doctor`."""
)
@click.argument("file", type=click.Path(readable=False, path_type=Path), required=False)
@json_option
@pass_target
def command(target: Target, file: Path | None, as_json: bool) -> None:
    """Check the configuration; starts nothing.

    FILE is the one to check instead of the one that --config names.
    """
    try:
        config = load(file or target.config)
    except CliError as error:
        if as_json:  # a program that parses the answer gets one
            click.echo(to_json({"problems": str(error).splitlines()}))
        raise
    codes = identify_plugins(config.plugins)
    problems = pin_problems(config, codes)
    if as_json:
        click.echo(to_json({"problems": problems, **_summary(config, codes)}))
    else:
        show_summary(open_console(), config, codes)
    if problems:
        raise CliError("\n".join(problems), ExitCode.CONFIG)


def pin_problems(config: Config, codes: Mapping[str, Identified]) -> list[str]:
    """The plugins that would be quarantined, because their code is not what `pin` allows."""
    found = ((name, plugin_source(config.plugins[name]).pin_problem(code.digest or "")) for name, code in codes.items())
    return [
        f"{config.source}: plugins.{name}.pin: {problem}"
        for name, problem in found
        if problem is not None and codes[name].digest is not None
    ]


def _summary(config: Config, codes: Mapping[str, Identified]) -> dict[str, object]:
    """What `show_summary` shows, as data: neither the nodes' urls nor the DSN in full, both may hold a secret."""
    return {
        "source": str(config.source),
        "chains": {
            name: {
                "id": chain.id,
                "node": _nodes(chain)[0],
                "nodes": _nodes(chain),
                "quorum": chain.needed_nodes,
                "private": parse_node_url(chain.private_rpc).display if chain.private_rpc is not None else None,
                "confirmations": chain.confirmations,
            }
            for name, chain in config.chains.items()
        },
        "vaults": {
            name: {
                "chain": vault.chain,
                "wallet": vault.wallet,
                "address": vault.address,
                "max_value_wei_per_day": vault.max_value_wei_per_day,
                "actions": list(vault.actions),
                "reads": list(vault.reads),
            }
            for name, vault in config.vaults.items()
        },
        "keepers": {
            name: {
                "chain": keeper.chain,
                "wallet": keeper.wallet,
                "actions": list(keeper.actions),
                "reads": list(keeper.reads),
            }
            for name, keeper in config.keepers.items()
        },
        "plugins": {
            name: {
                "role": plugin.role,
                "vault": plugin.vault,
                "keeper": plugin.keeper,
                "enabled": plugin.enabled,
                "code": _code(plugin),
                "digest": codes[name].digest,
                "digest_problem": codes[name].problem,
                "pin": plugin.pin,
            }
            for name, plugin in config.plugins.items()
        },
        "ledger": _ledger(config),
        "control": str(config.control_socket),
        "http": _http(config),
    }


def show_summary(console: Console, config: Config, codes: Mapping[str, Identified]) -> None:
    """What was understood, so that the operator sees what was meant."""
    show_wrapped(console, cell(f"{config.source} is fine"), prefix=FINE)
    _show_chains(console, config)
    _show_vaults(console, config)
    _show_keepers(console, config)
    _show_plugins(console, config, codes)
    console.print()
    for label, text in (
        ("ledger", _ledger(config)),
        ("control", str(config.control_socket)),
        ("http", _http(config)),
    ):
        show_line(console, cell(f"{label:9}{text}", "dim"))


def _nodes(chain: ChainConfig) -> list[str]:
    return [parse_node_url(url).display for url in chain.urls]


def _show_chains(console: Console, config: Config) -> None:
    if not config.chains:
        return
    console.print()
    columns = [Column("CHAIN"), Column("ID", is_number=True), Column("NODE", is_flexible=True), Column("FINAL AFTER")]
    rows = [
        Row(
            (
                cell(name, "bold"),
                cell(str(chain.id)),
                cell(_nodes(chain)[0]),
                cell(f"{chain.confirmations} blocks"),
            ),
            tuple(cell(node) for node in _nodes(chain)[1:]),
        )
        for name, chain in config.chains.items()
    ]
    show_listing(console, columns, rows)


def _show_vaults(console: Console, config: Config) -> None:
    if not config.vaults:
        return
    console.print()
    columns = [Column("VAULT"), Column("CHAIN"), Column("WALLET"), Column("PER DAY"), Column("ADDRESS")]
    rows = []
    for name, vault in config.vaults.items():
        cells = (
            cell(name, "bold"),
            cell(vault.chain),
            cell(vault.wallet),
            cell(ether(vault.max_value_wei_per_day)),
            cell(vault.address),
        )
        below = (
            cell(f"actions {', '.join(vault.actions) or ABSENT}", "dim"),
            cell(f"reads   {', '.join(vault.reads) or ABSENT}", "dim"),
        )
        rows.append(Row(cells, below))
    show_listing(console, columns, rows)


def _show_keepers(console: Console, config: Config) -> None:
    if not config.keepers:
        return
    console.print()
    columns = [Column("KEEPER"), Column("CHAIN"), Column("WALLET")]
    rows = [
        Row(
            (cell(name, "bold"), cell(keeper.chain), cell(keeper.wallet)),
            (
                cell(f"actions {', '.join(keeper.actions) or ABSENT}", "dim"),
                cell(f"reads   {', '.join(keeper.reads) or ABSENT}", "dim"),
            ),
        )
        for name, keeper in config.keepers.items()
    ]
    show_listing(console, columns, rows)


def _show_plugins(console: Console, config: Config, codes: Mapping[str, Identified]) -> None:
    if not config.plugins:
        return
    console.print()
    columns = [
        Column("PLUGIN"),
        Column("VAULT / KEEPER" if config.keepers else "VAULT"),
        Column("STATE"),
        Column("CODE", is_flexible=True),
    ]
    rows = [
        Row(
            (
                cell(name, "bold"),
                cell(plugin.place),
                cell("enabled", "green") if plugin.enabled else cell("disabled", "dim"),
                cell(_code(plugin)),
            ),
            (_digest(plugin, codes[name]),),
        )
        for name, plugin in config.plugins.items()
    ]
    show_listing(console, columns, rows)


def _ledger(config: Config) -> str:
    return "in the configured database" if config.database.dsn else f"in {config.data_dir} (embedded PostgreSQL)"


def _http(config: Config) -> str:
    return f"{config.http.host}:{config.http.port}" if config.http.enabled else "off"


def _digest(plugin: PluginConfig, code: Identified) -> Text:
    if code.digest is None:
        return cell(f"digest unknown: {code.problem}", "yellow")
    if plugin.pin is None:
        return cell(code.digest, "dim")
    return cell(f"{code.digest} (pinned)", "dim") if plugin.pin == code.digest else cell(f"{code.digest} ≠ pin", "red")


def _code(plugin: PluginConfig) -> str:
    if plugin.path is not None:
        return str(plugin.path)
    if plugin.module is not None:
        return f"module {plugin.module}"
    return f"entry point {plugin.entry_point}"
