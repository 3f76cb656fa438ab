"""`runnerd --config FILE`: reads the configuration, forks the http process, and only then becomes the one with the key.

Exit codes are those of `runnerd.errors.RunExit`.
"""

import asyncio
import gc
import logging
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import uvloop
from setproctitle import setproctitle

from runnerd import __version__
from runnerd.cli.complaint import complain, usage_sentence
from runnerd.cli.configured import load
from runnerd.cli.exits import CliError, ExitCode
from runnerd.config.load import ConfigError
from runnerd.config.model import Config
from runnerd.errors import RunExit, RunnerdError
from runnerd.log import configure, fields
from runnerd.process import bound_recursion
from runnerd.runner.app import run_daemon
from runnerd.services.http import HttpProcess, fork_http
from runnerd.services.systemd import Systemd
from runnerd.tasks import end

NAME: Final = "runnerd"
logger = logging.getLogger(NAME)


class Daemon(click.Command):
    """The command, with errors as `runnerctl` writes them: a line each, 64 for usage and 78 for the configuration."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run, and exit. systemd starts neither 64 nor 78 again."""
        try:
            super().main(*args, **{**kwargs, "prog_name": NAME, "standalone_mode": False})
        except click.UsageError as error:
            complain(NAME, usage_sentence(NAME, error))
            sys.exit(ExitCode.USAGE)
        except CliError as error:
            complain(NAME, str(error))
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(ExitCode.INTERRUPTED)
        sys.exit(ExitCode.DONE)


@click.command(
    cls=Daemon,
    epilog="""\b
Examples:
  runnerd --config /etc/runnerd/runnerd.toml
  runnerctl --config /etc/runnerd/runnerd.toml check     # validate without starting
  kill -HUP PID                                          # read the configuration again

\b
Exit codes:
  0  stopped in order             75  what it needs is away (database, signer)
  64 wrong command line           78  the configuration cannot be used
  1  anything else""",
)
@click.option(
    "--config",
    "file",
    type=click.Path(readable=False, path_type=Path),
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
    configure("info")
    bound_recursion()  # all but boto3 is imported by now; what is forked below has the limit as well
    # Explicit: multiprocessing-logging works with fork only, and Python 3.14 has another default.
    multiprocessing.set_start_method("fork")
    gc.freeze()  # what was imported lives as long as we do: no collection looks at it again, in no child either
    http = fork_http()  # before anything is read: nothing of the configuration is in its memory
    try:
        config = load(file)
        logging.getLogger().setLevel(config.log_level.upper())
        code = _run(config, http)
    finally:
        http.close()
        logging.shutdown()
    sys.exit(code)


def _run(config: Config, http: HttpProcess) -> int:
    systemd = Systemd(os.environ)
    try:
        if config.http.enabled:
            http.open(config.http, config.log_level)
        else:
            http.close()
        setproctitle("runnerd: supervisor")
        runner = _runner()
        try:
            return runner.run(run_daemon(config, http if config.http.enabled else None, systemd))
        finally:
            close_loop(runner)
    except ConfigError as error:  # what only the open keys could tell
        for problem in error.problems:
            logger.critical("%s: %s", error.file, problem, extra=fields("start_refused"))
        return RunExit.CONFIG
    except (RunnerdError, OSError) as error:
        logger.critical("cannot run: %s", error, extra=fields("start_failed"))
        return error.exit_code if isinstance(error, RunnerdError) else RunExit.FAILED


def _runner() -> asyncio.Runner:
    """An asyncio runner on uvloop: half the latency of a ZeroMQ round trip."""
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def close_loop(runner: asyncio.Runner) -> None:
    """Close it, if all that is left in it ends when it is cancelled: else that would be waited for without limit."""

    async def end_rest() -> bool:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        await end(left)
        return all(task.done() for task in left)

    if runner.run(end_rest()):
        runner.close()
