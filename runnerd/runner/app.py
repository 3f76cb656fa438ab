"""The daemon's runner: ended by signals, and told to a service manager."""

import asyncio
import signal

from runnerd.config.model import Config
from runnerd.runner.runner import Runner
from runnerd.services.http import HttpProcess
from runnerd.services.systemd import Systemd


async def run_daemon(config: Config, http: HttpProcess | None, systemd: Systemd) -> int:
    """Serve until SIGTERM or SIGINT; a second one hurries. SIGHUP reads the configuration again.

    Returns the exit code; everything it started has ended then. Raises what keeps it from running.
    """
    runner = Runner(config, http=http, systemd=systemd)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runner.stop)
    loop.add_signal_handler(signal.SIGHUP, runner.reload)  # by default it would end the process
    await runner.start()
    return await runner.wait()
