"""`runnerctl pause`: the kill switch of a plugin, a vault, an action or everything. It is durable, and acts at once."""

import click

from runnerd.cli.asking import PluginName, VaultName, fetch
from runnerd.cli.options import Target, pass_target
from runnerd.cli.scope import chosen_scope
from runnerd.control.messages import Done, Pause
from runnerd.text import printable


@click.command(
    epilog="""\b
Examples:
  runnerctl pause range-maker
  runnerctl pause --vault main
  runnerctl pause --action main.mint
  runnerctl pause --all

A paused plugin goes on being called, and each call is recorded as denied. Of a paused action only the
Decisions with it are denied. Nothing new is signed from now on. What has been sent to the chain
already is followed to its end. A pause outlasts restarts: see it in `runnerctl status`, undo it with
`runnerctl resume`."""
)
@click.argument("plugin", type=PluginName(), required=False)
@click.option("--vault", "--keeper", "vault", type=VaultName(), help="All plugins of this vault, or of this keeper.")
@click.option("--all", "is_all", is_flag=True, help="Everything.")
@click.option("--action", metavar="VAULT.ACTION", help="One action of a vault's catalogue, whoever asks for it.")
@pass_target
def command(target: Target, plugin: str | None, vault: str | None, is_all: bool, action: str | None) -> None:
    """Stop a plugin, a vault, an action or all from acting."""
    scope = chosen_scope(plugin, vault, is_all, action)
    done = fetch(target, Pause(scope=scope.kind, name=scope.name), Done)
    click.echo(printable(done.text))
