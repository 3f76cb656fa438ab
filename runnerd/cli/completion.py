"""`runnerctl completion`: the script that teaches a shell to complete commands, options, plugins and vaults."""

from typing import Final

import click
from click.shell_completion import get_completion_class

NAME: Final = "runnerctl"
SHELLS: Final = ("bash", "zsh", "fish")


@click.command(
    epilog="""\b
Examples:
  runnerctl completion bash > /etc/bash_completion.d/runnerctl
  runnerctl completion zsh > "${fpath[1]}/_runnerctl"
  runnerctl completion fish > ~/.config/fish/completions/runnerctl.fish

Names of plugins and vaults are completed by asking the running daemon; bash needs version 4.4."""
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    kind = get_completion_class(shell)
    assert kind is not None  # click knows all of SHELLS
    script = kind(ctx.find_root().command, {}, NAME, f"_{NAME}_COMPLETE".upper()).source()
    click.echo(script)
