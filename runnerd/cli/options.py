"""What several commands share: where the daemon is, and the options that mean the same everywhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from runnerd.cli.exits import CliError, ExitCode
from runnerd.config.locate import SocketNotFound, control_socket_of

DEFAULT_CONFIG: Final = Path("/etc/runnerd/runnerd.toml")
CONFIG_VARIABLE: Final = "RUNNERD_CONFIG"


@dataclass(frozen=True, slots=True)
class Target:
    """Which runnerd is meant: by its configuration file, or by its control socket alone."""

    config: Path
    socket: Path | None = None

    def control_socket(self) -> Path:
        """The control socket. Raises CliError when the configuration does not say."""
        if self.socket is not None:
            return self.socket
        try:
            return control_socket_of(self.config)
        except SocketNotFound as error:
            advice = f"name another file with --config or {CONFIG_VARIABLE}, or the control socket with --socket"
            raise CliError(f"{error}; {advice}", ExitCode.CONFIG) from error


pass_target = click.make_pass_decorator(Target)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
