"""`runnerctl doctor`: examines the host part by part, and changes nothing. Each examiner is a file beside this."""

from collections.abc import Iterator

import click
from rich.console import Console
from rich.text import Text

from protocol.zygote import Layer
from runnerd.cli.asking import control_socket_of
from runnerd.cli.configured import load
from runnerd.cli.doctor.chains import examine_chains
from runnerd.cli.doctor.consumers import examine_consumer
from runnerd.cli.doctor.database import examine_database
from runnerd.cli.doctor.finding import Finding, Mark, Section, bad, good, weak
from runnerd.cli.doctor.host import examine_cgroup, examine_required, examine_user_namespaces
from runnerd.cli.doctor.places import ASK_TIMEOUT_S, examine_daemon, examine_places
from runnerd.cli.doctor.sandbox import examine_sandbox
from runnerd.cli.doctor.wallets import examine_wallet
from runnerd.cli.exits import CliError, ExitCode
from runnerd.cli.json_text import to_json
from runnerd.cli.options import DEFAULT_CONFIG, Target, json_option, pass_target
from runnerd.cli.terminal import cell, open_console, show_line, show_wrapped
from runnerd.config.model import Config
from runnerd.config.roles import same_keys
from runnerd.control.client import ask
from runnerd.control.messages import ControlError
from runnerd.control.status_messages import GetStatus, Status

_STYLES = {Mark.GOOD: "green", Mark.WEAK: "bold yellow", Mark.BAD: "bold red"}
_SUBJECT_WIDTH = 17


@click.command(
    epilog="""\b
Examples:
  runnerctl doctor
  sudo -u runnerd runnerctl doctor --unlock
  runnerctl doctor --json | jq '.sections[].findings[] | select(.mark == "bad")'

It needs no running daemon and changes nothing. Run it as the user of runnerd: files that this user cannot
read look missing. Exit code 0: nothing is marked ✗, 1: something is."""
)
@click.option(
    "--unlock",
    "is_unlocking",
    is_flag=True,
    help="Also open each keystore with its passphrase, and ask KMS and remote signers for their address.",
)
@json_option
@pass_target
def command(target: Target, is_unlocking: bool, as_json: bool) -> ExitCode:
    """Check the host: sandbox layers, directories, database, nodes, vaults, keys.

    Each line is marked ✓ (good), ! (works, at a cost) or ✗ (does not work), with what it costs and what to do.
    """
    console = open_console()
    sections: list[Section] = []
    # Printed part by part: a node that does not answer must not hold back what is known already.
    for section in _examine(target, is_unlocking):
        sections.append(section)
        if not as_json:
            show_section(console, section)
    if as_json:
        click.echo(to_json({"sections": [_as_data(section) for section in sections]}))
    marks = {finding.mark for section in sections for finding in section.findings}
    return ExitCode.ATTENTION if Mark.BAD in marks else ExitCode.DONE


def _examine(target: Target, is_unlocking: bool) -> Iterator[Section]:
    layers = [*examine_sandbox(), examine_cgroup(_pid_of_daemon(target))]
    has_namespaces = any(found.subject == Layer.NAMESPACES and found.mark is Mark.GOOD for found in layers)
    yield Section("sandbox", (*layers, *examine_user_namespaces(has_namespaces=has_namespaces)))
    if target.config == DEFAULT_CONFIG and not target.config.exists():
        remedy = "name yours with --config to have the rest examined"
        yield Section("configuration", (weak("file", f"{target.config} is not there", remedy=remedy),))
        return
    try:
        config = load(target.config)
    except CliError as error:
        lines = str(error).splitlines()
        yield Section("configuration", tuple(bad("file", line, cost="runnerd does not start") for line in lines))
    else:
        yield Section("configuration", (good("file", str(target.config)),))
        required = examine_required(config.plugins, layers)
        if required:
            yield Section("required layers", tuple(required))
        yield from _examine_configured(config, is_unlocking)
    try:
        control_socket = control_socket_of(target)
    except CliError:
        return
    yield Section("daemon", tuple(examine_daemon(control_socket)))


def _pid_of_daemon(target: Target) -> int | None:
    """None if it does not run, or is another than this runnerctl knows: `examine_daemon` says so."""
    try:
        status = ask(control_socket_of(target), GetStatus(), ASK_TIMEOUT_S)
    except (CliError, ControlError):
        return None
    return status.pid if isinstance(status, Status) else None


def _examine_configured(config: Config, is_unlocking: bool) -> Iterator[Section]:
    yield Section("places", tuple(examine_places(config)))
    yield Section("database", tuple(examine_database(config)))
    addresses = {}
    for name, wallet in config.wallets.items():
        report = examine_wallet(wallet, is_unlocking=is_unlocking)
        if report.address is not None:
            addresses[name] = report.address
        yield Section(f"wallet {name}", report.findings)
    shared = [bad(problem.key, problem.text, cost="runnerd does not start") for problem in same_keys(config, addresses)]
    if shared:
        yield Section("roles", tuple(shared))
    for name, findings in examine_chains(config, addresses).items():
        yield Section(f"chain {name}", tuple(findings))
    for name, consumer in config.consumers.items():
        if findings_of := tuple(examine_consumer(consumer)):
            yield Section(f"consumer {name}", findings_of)


def _as_data(section: Section) -> dict[str, object]:
    findings = [
        {
            "mark": found.mark.name.lower(),
            **{name: getattr(found, name) for name in ("subject", "text", "cost", "remedy")},
        }
        for found in section.findings
    ]
    return {"title": section.title, "findings": findings}


def show_section(console: Console, section: Section) -> None:
    """Print its title and its findings."""
    show_line(console, cell(section.title, "bold"))
    for finding in section.findings:
        _show(console, finding)


def _show(console: Console, finding: Finding) -> None:
    mark = Text.assemble((f"{finding.mark} ", _STYLES[finding.mark]), (finding.subject.ljust(_SUBJECT_WIDTH) + " ", ""))
    show_wrapped(console, cell(finding.text), 2, mark)
    for label, text in (("cost ", finding.cost), ("do   ", finding.remedy)):
        if text:
            show_wrapped(console, cell(text), 4 + _SUBJECT_WIDTH + 1, Text(label, "dim"))
