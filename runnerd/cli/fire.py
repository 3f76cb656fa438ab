"""`runnerctl fire PLUGIN`: makes one manual call, and can wait for what comes of it."""

import click
import msgspec
from rich.text import Text

from protocol.limits import MAX_PAYLOAD_LENGTH
from protocol.trigger import DEFAULT_JOB
from runnerd.cli.asking import PluginName, fetch
from runnerd.cli.dry_run_view import show_dry_run
from runnerd.cli.exits import ExitCode
from runnerd.cli.json_text import to_json
from runnerd.cli.options import Target, json_option, pass_target
from runnerd.cli.terminal import cell, open_console, show_line, show_wrapped, uncut, word
from runnerd.control.client import TIMEOUT_S
from runnerd.control.dry_run_messages import DryRun
from runnerd.control.messages import Fire, Fired
from runnerd.text import printable

DEFAULT_WAIT_S = 120.0
_LABEL_WIDTH = 13


class JsonText(click.ParamType[str]):
    """Text that is JSON, handed on as it was typed: the plugin reads the very bytes that were checked here."""

    name = "json"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See click.ParamType."""
        if not value:
            return value
        try:
            msgspec.json.decode(value.encode())
        except RecursionError:
            self.fail("it is nested too deeply", param, ctx)
        except ValueError as error:  # also for text that is not UTF-8
            self.fail(f"not JSON ({error}); write for example --payload '{{\"size\": 5}}'", param, ctx)
        if len(value) > MAX_PAYLOAD_LENGTH:
            self.fail(f"{len(value):,} characters long, the limit is {MAX_PAYLOAD_LENGTH:,}", param, ctx)
        return value


@click.command(
    epilog="""\b
Examples:
  runnerctl fire range-maker
  runnerctl fire range-maker --payload '{"size": 5}' --wait
  runnerctl fire keeper --job settle
  runnerctl fire settle --key 2026-11-21 --wait --timeout 300
  runnerctl fire range-maker --dry-run

With --dry-run the plugin decides on the real snapshot, and what it asks for is checked and simulated as it would
be; but nothing is signed, counted or stored, and the plugin's state stays as it is.

Exit code 0: acted or noop, or fired without --wait; 1: any other outcome; 3: no result in time, the call goes on."""
)
@click.argument("plugin", type=PluginName())
@click.option("--job", default=DEFAULT_JOB, show_default=True, help="Which of the plugin's jobs.")
@click.option("--payload", type=JsonText(), default="", help="What the plugin finds in ctx.call.payload.")
@click.option("--wait", "is_waiting", is_flag=True, help="Wait for the result.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, max=86_400, min_open=True),
    metavar="SECONDS",
    help=f"How long --wait waits.  [default: {DEFAULT_WAIT_S:g}]",
)
@click.option(
    "--key", help="Idempotency key: fired again with it, it is the same call; another job or payload is refused."
)
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Decide and simulate, sign nothing; waits for the result.")
@json_option
@pass_target
def command(
    target: Target,
    plugin: str,
    job: str,
    payload: str,
    is_waiting: bool,
    timeout_s: float | None,
    key: str | None,
    is_dry_run: bool,
    as_json: bool,
) -> ExitCode:
    """Call a plugin now."""
    if timeout_s is not None and not (is_waiting or is_dry_run):
        raise click.UsageError("--timeout needs --wait")
    if is_dry_run:
        if key is not None:
            raise click.UsageError("--key makes two calls one; a dry run is none")
        return _dry_run(target, Fire(plugin=plugin, job=job, payload=payload, is_dry_run=True,
                                     wait_s=timeout_s or DEFAULT_WAIT_S), as_json)  # fmt: skip
    if key is not None and not 1 <= len(key) <= 200:
        raise click.BadParameter("must have 1 to 200 characters", param_hint="--key")
    wait_s = (timeout_s or DEFAULT_WAIT_S) if is_waiting else 0.0
    request = Fire(plugin=plugin, job=job, payload=payload, key=key, wait_s=wait_s)
    fired = fetch(target, request, Fired, timeout_s=wait_s + TIMEOUT_S)
    if as_json:
        click.echo(to_json(fired))
    else:
        _show(fired, plugin, wait_s)
    if fired.outcome is None:
        return ExitCode.PENDING if is_waiting else ExitCode.DONE
    is_good = fired.outcome in {"acted", "noop"} or not is_waiting
    return ExitCode.DONE if is_good else ExitCode.ATTENTION


def _dry_run(target: Target, request: Fire, as_json: bool) -> ExitCode:
    found = fetch(target, request, DryRun, timeout_s=request.wait_s + TIMEOUT_S)
    if as_json:
        click.echo(to_json(found))
    else:
        show_dry_run(found)
    if found.outcome is None:
        return ExitCode.PENDING
    return ExitCode.DONE if found.outcome in {"would act", "noop"} else ExitCode.ATTENTION


def _show(fired: Fired, plugin: str, wait_s: float) -> None:
    console = open_console()

    def show(label: str, value: Text) -> None:
        line = Text.assemble((label.ljust(_LABEL_WIDTH), "dim"), value)
        line.overflow = value.overflow
        show_line(console, line)

    if fired.fell_back_to is not None:
        show("taken by", Text(f"{printable(fired.fell_back_to)}  (the fallback: {printable(plugin)} does not take it)"))
    show("call", Text(f"{fired.call_id}{'' if fired.is_new else '  (fired before with this key)'}"))
    if fired.outcome is not None:
        show("outcome", word(fired.outcome))
    if fired.reason:
        show_wrapped(console, cell(fired.reason), prefix=Text("reason".ljust(_LABEL_WIDTH), "dim"))
    if fired.transaction:
        show("transaction", uncut(fired.transaction))
    if fired.outcome is None:
        no_result = f"no result within {wait_s:g} s; " if wait_s else ""
        taker = fired.fell_back_to.partition("/")[0] if fired.fell_back_to is not None else plugin
        click.echo(f"{no_result}see what comes of it: runnerctl why {printable(taker)}", err=True)
