"""`runnerctl wallet new`: makes the key of a vault's operator, encrypted from its first moment on disk."""

import os
import sys
from pathlib import Path

import click

from runnerd.cli.exits import CliError, ExitCode
from runnerd.process import protect_memory
from runnerd.wallets.keystore import create_keystore
from runnerd.wallets.passphrase import MAX_PASSPHRASE_BYTES, Passphrase, PassphraseFile, fetch_passphrase


@click.group(
    epilog="""\b
Examples:
  runnerctl wallet new /etc/runnerd/operator.json
  runnerctl wallet new --help"""
)
def command() -> None:
    """Make an encrypted key for a vault's operator, or for keepers."""


@command.command(
    epilog="""\b
Examples:
  runnerctl wallet new /etc/runnerd/operator.json
  runnerctl wallet new operator.json --passphrase-file /etc/runnerd/operator.passphrase

The address alone goes to stdout: tell it to the vault's owner, who makes it the vault's operator. The file
is a Web3 Secret Storage v3 keystore, mode 0600. An existing file is never overwritten. A passphrase is
never taken from the command line or the environment, where other processes could read it."""
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help="Read the passphrase from this file, which others must not be able to read, instead of asking for it.",
)
def new(file: Path, passphrase_file: Path | None) -> None:
    """Make a new key and print its address."""
    if file.exists():  # before anybody types a passphrase twice
        raise CliError(f"{file} exists and is never overwritten: choose another path or move it away")
    protect_memory()
    if passphrase_file is not None:
        passphrase = fetch_passphrase(PassphraseFile(passphrase_file.absolute()), os.environ)
    else:
        passphrase = ask_passphrase(is_new=True)
    click.echo(create_keystore(file.absolute(), passphrase))


def ask_passphrase(*, is_new: bool) -> Passphrase:
    """From the terminal, twice for a new key. Raises CliError when there is none."""
    if not sys.stdin.isatty():
        raise CliError("nobody is here to type a passphrase: use --passphrase-file FILE", ExitCode.USAGE)
    typed: str = click.prompt(
        "Passphrase", hide_input=True, confirmation_prompt="Once more" if is_new else False, err=True
    )
    secret = typed.encode()
    if len(secret) > MAX_PASSPHRASE_BYTES:
        raise CliError(f"a passphrase has at most {MAX_PASSPHRASE_BYTES} bytes")
    return Passphrase(secret)
