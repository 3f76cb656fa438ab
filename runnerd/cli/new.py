"""`runnerctl new PLUGIN`: a directory with a plugin that runs, a test that passes, and the TOML to paste."""

import re
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

import click

from runnerd.cli.arguments import Name
from runnerd.cli.exits import CliError
from runnerd.text import printable

_TAKEN: Final = frozenset({"Action", "Context", "Cron", "Noop", "Plugin", "None", "True", "False"})
"""Names that the template uses itself, or that Python does."""
FILES: Final = ("plugin.py", "test_plugin.py", "README.md")


@click.command(
    epilog="""\b
Examples:
  runnerctl new range-maker
  runnerctl new range-maker --dir ~/strategies --vault main
  runnerctl new settlement --keeper rounds

It writes NAME/plugin.py, NAME/test_plugin.py and NAME/README.md, and prints what to add to runnerd.toml.
An existing directory is never touched."""
)
@click.argument("plugin", type=Name())
@click.option(
    "--dir",
    "parent",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where to make its directory.  [default: here]",
)
@click.option("--vault", type=Name(), help="Its vault in runnerd.toml.  [default: main]")
@click.option("--keeper", type=Name(), help="Its keeper, in place of a vault: it does upkeep that everybody may do.")
def command(plugin: str, parent: Path, vault: str | None, keeper: str | None) -> None:
    """Scaffold a plugin with a passing test."""
    if vault is not None and keeper is not None:
        raise click.UsageError("give --vault or --keeper: a plugin acts for one of them")
    directory = parent.absolute() / plugin
    place = f"vault = {_quoted(vault or 'main')}" if keeper is None else f'role = "keeper"\nkeeper = {_quoted(keeper)}'
    toml = _toml(plugin, place, directory / "plugin.py")
    values = {"name": plugin, "title": _title(plugin), "class_name": class_name_of(plugin), "toml": toml}
    try:
        parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir()
        for file in FILES:
            template = resources.files("runnerd.cli.templates") / f"{file}.tmpl"
            (directory / file).write_text(Template(template.read_text("utf-8")).substitute(values), "utf-8")
    except FileExistsError as error:
        raise CliError(f"{error.filename} exists and is not touched: choose another name or --dir") from error
    except OSError as error:
        raise CliError(f"{error.filename} cannot be written: {error.strerror}") from error
    click.echo(f"Made {printable(str(directory))}: {', '.join(FILES)}", err=True)
    click.echo("Test it with `python -m pytest` in there, then add this to runnerd.toml:\n", err=True)
    click.echo(toml)


def class_name_of(plugin: str) -> str:
    """`range-maker` gives `RangeMaker`; a name that starts with no letter gets one in front."""
    name = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", plugin))
    if not name[:1].isalpha():
        return f"Plugin{name}"
    return f"{name}Plugin" if name in _TAKEN else name


def _title(plugin: str) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", " ", plugin).strip() or plugin
    return words[:1].upper() + words[1:]


def _toml(plugin: str, place: str, path: Path) -> str:
    key = f'"{plugin}"' if "." in plugin else plugin
    return f'[plugins.{key}]\n{place}\npath = {_quoted(str(path))}\n# params = {{ action = "…" }}'


def _quoted(text: str) -> str:
    """A TOML basic string."""
    return '"' + "".join(_ESCAPES.get(c, c if c.isprintable() else f"\\U{ord(c):08x}") for c in text) + '"'


_ESCAPES: Final = {'"': '\\"', "\\": "\\\\"}
