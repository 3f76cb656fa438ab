"""`runnerd --config FILE`: reads the configuration, forks the http process, and only then becomes the one with the key.

Exit codes: 0 stopped in order, 78 the configuration is wrong, 1 anything else that kept it from running.
"""

import asyncio
import logging
import multiprocessing
import os
import sys
from pathlib import Path

import click
import uvloop
from setproctitle import setproctitle

from runnerd import __version__
from runnerd.app import App
from runnerd.chain.errors import ChainError
from runnerd.config.load import EXIT_CONFIG, ConfigError, load_config
from runnerd.config.model import Config
from runnerd.directories import prepare
from runnerd.errors import RunnerdError
from runnerd.log import configure, fields
from runnerd.process import protect_memory
from runnerd.services.http import HttpProcess, fork_http
from runnerd.services.systemd import Systemd
from runnerd.wallets.errors import WalletError

logger = logging.getLogger("runnerd")


@click.command(
    epilog="""\b
Examples:
  runnerd --config /etc/runnerd/runnerd.toml
  runnerctl --config /etc/runnerd/runnerd.toml check     # validate without starting
  kill -HUP PID                                          # read the configuration again
"""
)
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    default=Path("/etc/runnerd/runnerd.toml"),
    envvar="RUNNERD_CONFIG",
    show_default=True,
    show_envvar=True,
    help="The configuration file.",
)
@click.version_option(__version__, prog_name="runnerd")
def main(file: Path) -> None:
    """Run sandboxed strategies for on-chain vaults, in the foreground, until SIGTERM.

    Logs go to stderr: readable on a terminal, one JSON object a line elsewhere.
    """
    try:
        config = load_config(file)
    except ConfigError as error:
        click.echo(f"runnerd: the configuration cannot be used\n{error}", err=True)
        sys.exit(EXIT_CONFIG)
    configure(config.log_level)
    sys.exit(_run(config))


def _run(config: Config) -> int:
    # Explicit: multiprocessing-logging works with fork only, and Python 3.14 has another default.
    multiprocessing.set_start_method("fork")
    systemd = Systemd(os.environ)
    http: HttpProcess | None = None
    try:
        prepare(config)
        if config.http.enabled:
            http = fork_http(config.http)
        protect_memory()
        setproctitle("runnerd: supervisor")
        with _runner() as runner:
            return runner.run(_serve(config, http, systemd))
    except (RunnerdError, WalletError, ChainError, OSError) as error:
        logger.critical("cannot run: %s", error, extra=fields("start_failed"))
        return 1
    finally:
        if http is not None:
            http.close()
        logging.shutdown()


async def _serve(config: Config, http: HttpProcess | None, systemd: Systemd) -> int:
    return await App(config, http, systemd).run()


def _runner() -> asyncio.Runner:
    """An asyncio runner on uvloop: half the latency of a ZeroMQ round trip (FACTS)."""
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)
