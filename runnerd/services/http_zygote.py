"""The zygote of the http process: forked before the configuration is read, it starts one after the other.

It holds no key, no DSN and no file: a copy of a process that had read nothing yet. What it forks is given a listening
socket, the paths of a TLS certificate and a channel to the supervisor, and is confined before the first stranger is
heard. The zygote itself hears the supervisor alone, and nothing of strangers.
"""

import asyncio
import importlib
import logging
import os
import select
import signal
import socket
from typing import Any, Final, NoReturn

from setproctitle import setproctitle

from runnerd.http import words
from runnerd.http.records import LOGGER
from runnerd.log import fields
from runnerd.process import die_with_parent, protect_memory

logger = logging.getLogger("runnerd.services.http")

END: Final = b"end"
"""To the zygote: end what you have forked. Anything else are the Settings of the next, which takes its place."""
LAST_ANSWERS_DEADLINE_S: Final = 2.0
MAX_SETTINGS_BYTES: Final = 65_536
NICENESS: Final = 5
"""A flood of requests is not to be in the way of the supervisor and the ledger."""


def run_zygote(parents: socket.socket, control: socket.socket, parent: int) -> None:
    """Until `control` ends. `parents` is the other end of it, `parent` the supervisor's pid."""
    # Blocked until somebody listens for it: one that ended us in the middle of a record would leave the supervisor's
    # log waiting for the rest.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    parents.close()
    die_with_parent(parent)
    setproctitle("runnerd: http zygote")
    protect_memory()  # callers' keys pass through what is forked of it
    os.nice(NICENESS)
    os.environ.clear()  # what is in it is not for us: `AWS_…` for instance
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor ends us in its order
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Whatever any library logs here goes the same way as our own records.
    logging.getLogger().handlers = logging.getLogger(LOGGER).handlers
    server = importlib.import_module("runnerd.http.server")  # while the supervisor reads its configuration
    zygote, child = os.getpid(), None
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MAX_SETTINGS_BYTES, 2)
        if child is not None:
            _end(child, LAST_ANSWERS_DEADLINE_S if not message else 0.0)
            child = None
        if not message:
            return
        if descriptors:
            listener, channel = (socket.socket(fileno=each) for each in descriptors)
            child = os.fork()
            if child == 0:
                control.close()
                _serve(server, listener, channel, message, zygote)
            listener.close()
            channel.close()


def _end(child: int, patience_s: float) -> None:
    """It may answer who waits for so long."""
    if patience_s:
        os.kill(child, signal.SIGTERM)
        pidfd = os.pidfd_open(child)
        select.select([pidfd], [], [], patience_s)
        os.close(pidfd)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _serve(server: Any, listener: socket.socket, channel: socket.socket, message: bytes, zygote: int) -> NoReturn:
    """In the http process."""
    try:
        die_with_parent(zygote)
        setproctitle("runnerd: http")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        settings = words.decode_settings(message)
        logging.getLogger().setLevel(settings.log_level.upper())
        channel.setblocking(False)
        # Not `asyncio.run`: it would cancel what is not answered yet, and uvicorn answer 500 in our name.
        asyncio.new_event_loop().run_until_complete(server.serve(listener, channel, settings))
    except Exception as error:  # the supervisor sees the end, the operator this
        logger.error("the http process cannot go on: %s", error, exc_info=error, extra=fields("http_failed"))
    finally:
        # No more than that: what Python does at its end may need what we are not allowed any more.
        os._exit(0)
