"""How an error of `runnerd` or `runnerctl` reaches whoever typed the command: each sentence on a line of its own."""

import click

from runnerd.text import printable


def complain(program: str, text: str) -> None:
    """Each line of `text` is a sentence of its own, and gets the program's name in front."""
    for line in text.splitlines() or [""]:
        click.echo(f"{program}: {printable(line)}", err=True)


def usage_sentence(program: str, error: click.UsageError) -> str:
    """What is wrong with the line that was typed, and where to read how it goes."""
    text = " ".join(error.format_message().split()).rstrip(".")
    path = error.ctx.command_path if error.ctx else program
    return f"{text[:1].lower()}{text[1:]}{'' if text.endswith('?') else ';'} see: {path} --help"
