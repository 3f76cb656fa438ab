"""What several commands share: where the daemon is, and the options that mean the same everywhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

DEFAULT_CONFIG: Final = Path("/etc/runnerd/runnerd.toml")
CONFIG_VARIABLE: Final = "RUNNERD_CONFIG"


@dataclass(frozen=True, slots=True)
class Target:
    """Which runnerd is meant: by its configuration file, or by its control socket alone."""

    config: Path
    socket: Path | None = None


pass_target = click.make_pass_decorator(Target)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
