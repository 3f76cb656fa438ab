"""Commands ask the daemon through here: the typed reply, or a CliError that says what to do."""

from pathlib import Path
from typing import TypeVar

import click
from click.shell_completion import CompletionItem

from runnerd.cli.exits import CliError, ExitCode
from runnerd.cli.options import CONFIG_VARIABLE, Target
from runnerd.config import locate
from runnerd.control.client import TIMEOUT_S, NotRunning, ask
from runnerd.control.messages import ControlError, Pending, Reply, Request
from runnerd.control.status_messages import GetStatus, Status
from runnerd.text import printable

R = TypeVar("R", bound=Reply)

COMPLETION_TIMEOUT_S = 0.5
"""A shell waits for this when somebody presses tab."""


def control_socket_of(target: Target) -> Path:
    """Where to ask. Raises CliError when the configuration does not say."""
    if target.socket is not None:
        return target.socket
    try:
        return locate.control_socket_of(target.config)
    except locate.SocketNotFound as error:
        advice = f"name another file with --config or {CONFIG_VARIABLE}, or the control socket with --socket"
        raise CliError(f"{error}; {advice}", ExitCode.CONFIG) from error


def fetch(target: Target, request: Request, kind: type[R], timeout_s: float = TIMEOUT_S) -> R:
    """The daemon's reply, which is a `kind`. Raises CliError."""
    try:
        reply = ask(control_socket_of(target), request, timeout_s)
    except NotRunning as error:
        raise CliError(f"{error}; {error.advice}", ExitCode.DOWN) from error
    except Pending as error:
        raise CliError(printable(str(error)), ExitCode.PENDING) from error
    except ControlError as error:
        raise CliError(printable(str(error))) from error
    if not isinstance(reply, kind):
        raise CliError(f"the answer is of another kind ({type(reply).__name__}); are both of one release?")
    return reply


class PluginName(click.ParamType[str]):
    """A plugin's name; the shell completes it by asking the daemon."""

    name = "plugin"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """See click.ParamType."""
        status = _status_for_completion(ctx)
        names = [(plugin.name, plugin.state) for plugin in status.plugins] if status else []
        return [CompletionItem(name, help=state) for name, state in names if name.startswith(incomplete)]


class VaultName(click.ParamType[str]):
    """A vault's name; the shell completes it by asking the daemon."""

    name = "vault"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """See click.ParamType."""
        status = _status_for_completion(ctx)
        names = [vault.name for vault in status.vaults] + [one.name for one in status.keepers] if status else []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class ChainName(click.ParamType[str]):
    """A chain's name; the shell completes it by asking the daemon."""

    name = "chain"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """See click.ParamType."""
        status = _status_for_completion(ctx)
        names = [chain.name for chain in status.chains] if status else []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class ConsumerName(click.ParamType[str]):
    """A consumer's name; the shell completes it by asking the daemon."""

    name = "consumer"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """See click.ParamType."""
        status = _status_for_completion(ctx)
        names = [(one.name, one.kind) for one in status.consumers] if status else []
        return [CompletionItem(name, help=kind) for name, kind in names if name.startswith(incomplete)]


def _status_for_completion(ctx: click.Context) -> Status | None:
    # The group's callback does not run while a shell completes: its parameters are read here.
    params = ctx.find_root().params
    try:
        return fetch(Target(params["config"], params.get("socket")), GetStatus(), Status, COMPLETION_TIMEOUT_S)
    except CliError:
        return None
