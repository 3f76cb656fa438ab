"""Loads the whole configuration for the commands that need it, and turns its problems into lines and an exit code."""

from pathlib import Path

from runnerd.cli.exits import CliError, ExitCode
from runnerd.config.load import ConfigError, load_config
from runnerd.config.model import Config


def load(file: Path) -> Config:
    """The checked configuration. Raises CliError with one line for each problem: file, key, what is allowed."""
    try:
        return load_config(file)
    except ConfigError as error:
        lines = (f"{error.file}: {problem}" for problem in error.problems)
        raise CliError("\n".join(line.replace("\n", " ") for line in lines), ExitCode.CONFIG) from error
