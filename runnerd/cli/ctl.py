"""`runnerctl`: the commands, the global options, and how an error reaches the operator: one line, one exit code.

The commands are modules beside this one, imported when they are called.
"""

import io
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from runnerd import __version__
from runnerd.cli.complaint import complain, usage_sentence
from runnerd.cli.exits import MEANINGS, CliError, ExitCode
from runnerd.cli.lazy import Entry, LazyGroup, Section
from runnerd.cli.options import CONFIG_VARIABLE, DEFAULT_CONFIG, Target
from runnerd.errors import RunnerdError

NAME: Final = "runnerctl"

SECTIONS: Final[tuple[Section, ...]] = (
    (
        "Look",
        (
            Entry("status", "runnerd.cli.status", "Is everything well: plugins, chains, vaults."),
            Entry("routes", "runnerd.cli.routes", "What leads to which job, within which limits."),
            Entry("why", "runnerd.cli.why", "Why a plugin acted, or did not."),
            Entry("runs", "runnerd.cli.runs", "The last calls and what came of them."),
            Entry("tx", "runnerd.cli.tx", "The last transactions: hash, state, nonce, fees."),
            Entry("audit", "runnerd.cli.audit.command", "Verify and export the audit trail."),
        ),
    ),
    (
        "Act",
        (
            Entry("fire", "runnerd.cli.fire", "Call a plugin now."),
            Entry("pause", "runnerd.cli.pause", "Stop a plugin, a vault, an action or all from acting."),
            Entry("reduce", "runnerd.cli.reduce", "Let only actions pass that reduce a risk."),
            Entry("resume", "runnerd.cli.resume", "Undo a pause or reducing mode."),
            Entry("cancel", "runnerd.cli.cancel", "Let a call end without effect, if it still can."),
            Entry("adopt", "runnerd.cli.adopt", "Say that a transaction that is not ours was meant so."),
            Entry("fees", "runnerd.cli.fees", "Show or turn the fee cap, tip and patience of a chain."),
            Entry("safe", "runnerd.cli.safe", "Sign what waits for the owners of a Safe."),
            Entry("keys", "runnerd.cli.keys", "Make, list and revoke keys of the HTTP API."),
            Entry("consumers", "runnerd.cli.consumers", "See who hears of results, and retry what was given up."),
            Entry("restart", "runnerd.cli.restart", "Restart a plugin's worker; clears quarantine."),
            Entry("drain", "runnerd.cli.drain", "Stop runnerd in order: take nothing new, finish, end."),
        ),
    ),
    (
        "Set up",
        (
            Entry("check", "runnerd.cli.check", "Check the configuration; starts nothing."),
            Entry("doctor", "runnerd.cli.doctor.command", "Check the host: sandbox, database, nodes, keys."),
            Entry("new", "runnerd.cli.new", "Scaffold a plugin with a passing test."),
            Entry("outbox", "runnerd.cli.outbox", "Install, look at and prune the outbox of events."),
            Entry("wallet", "runnerd.cli.wallet", "Make an encrypted key for a vault's operator, or for keepers."),
            Entry("completion", "runnerd.cli.completion", "Print the completion script of a shell."),
        ),
    ),
)


class Runnerctl(LazyGroup):
    """The group, with errors on one line. Ends the process itself, whatever `standalone_mode` says."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run, and exit with an `ExitCode`. A command returns its code, or None for DONE."""
        kwargs |= {"prog_name": NAME, "standalone_mode": False}
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal without ✓ is no reason to fail
        try:
            code = super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as help_wanted:
            click.echo(help_wanted.format_message(), err=True)
            code = ExitCode.USAGE
        except click.UsageError as error:
            code = ExitCode.USAGE
            complain(NAME, _usage(error))
        except click.ClickException as error:
            code = ExitCode.ATTENTION
            complain(NAME, error.format_message())
        except CliError as error:
            code = error.exit_code
            complain(NAME, str(error))
        except RunnerdError as error:
            code = ExitCode.ATTENTION
            complain(NAME, str(error))
        except click.Abort:
            code = ExitCode.INTERRUPTED
        sys.exit(code if isinstance(code, int) else ExitCode.DONE)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples as they are, then the exit codes."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), meaning) for code, meaning in MEANINGS.items()])


def _usage(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption) and error.option_name in {"--config", "--socket"}:
        command = error.ctx.command_path.removeprefix(NAME).strip() if error.ctx else ""
        return f"{error.option_name} goes before the command: {NAME} {error.option_name} … {command}"
    return usage_sentence(NAME, error)


@click.command(
    cls=Runnerctl,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  runnerctl status
  runnerctl why range-maker
  runnerctl --config ./runnerd.toml fire range-maker --wait""",
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, readable=False, path_type=Path),  # whoever reads it says why he may not
    default=DEFAULT_CONFIG,
    envvar=CONFIG_VARIABLE,
    show_envvar=True,
    show_default=True,
    help="Configuration of the runnerd that is meant.",
)
@click.option(
    "--socket",
    type=click.Path(readable=False, path_type=Path),
    help="Its control socket; the configuration is then not read.",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context, config: Path, socket: Path | None) -> None:
    """Talk to the runnerd on this machine, and set one up."""
    ctx.obj = Target(config, socket)
