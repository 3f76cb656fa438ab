"""The http process, seen from the supervisor: forked before the configuration is read, told only what it needs.

It holds no key, no DSN and no file: a copy of a process that had read nothing yet, given a listening socket and the
paths of a TLS certificate, and confined before the first stranger is heard. For each answer it asks over a socketpair.
What it serves is `runnerd.http`, which is imported there alone: the process with the key has no web stack in it.
"""

import asyncio
import importlib
import logging
import multiprocessing
import os
import signal
import socket
from dataclasses import dataclass
from ipaddress import ip_address

from setproctitle import setproctitle

from runnerd.config.model import HttpConfig
from runnerd.errors import RunnerdError
from runnerd.http import words
from runnerd.http.channel import Answering, AnsweringEnd, ChannelBroken
from runnerd.http.records import LOGGER, RecordHandler
from runnerd.http.words import Settings
from runnerd.log import fields
from runnerd.process import die_with_parent, protect_memory

logger = logging.getLogger("runnerd.services.http")

END_DEADLINE_S = 2.0
MAX_SETTINGS_BYTES = 65_536
NICENESS = 5
"""A flood of requests is not to be in the way of the supervisor and the ledger."""


class HttpError(RunnerdError):
    """The http process could not listen. Choose another `http.port`, 0 for any, or `http.enabled = false`."""


class HttpGone(RunnerdError):
    """The http process has ended. It was forked before the key was there, and cannot be made again: restart runnerd."""


@dataclass(slots=True)
class HttpProcess:
    """The running process, seen from the supervisor."""

    process: "multiprocessing.process.BaseProcess"
    connection: socket.socket
    address: str = ""
    is_lost: bool = False
    """It has ended by itself: nobody is answered any more."""

    def open(self, config: HttpConfig, log_level: str = "info") -> None:
        """Let it listen, and return when strangers can connect. Raises HttpError when the address cannot be bound."""
        try:
            listener = socket.create_server((config.host, config.port), family=_family(config.host), reuse_port=False)
        except OSError as error:
            raise HttpError(f"cannot listen on {config.host}:{config.port}: {error.strerror}") from error
        host, port = listener.getsockname()[:2]
        settings = Settings(
            tls_cert=None if config.tls_cert is None else str(config.tls_cert),
            tls_key=None if config.tls_key is None else str(config.tls_key),
            log_level=log_level,
        )
        with listener:
            try:
                socket.send_fds(self.connection, [words.encode(settings)], [listener.fileno()])
            except OSError as error:
                raise HttpError(f"the http process ended before it was told to listen: {error.strerror}") from error
        self.connection.setblocking(False)
        scheme = "https" if config.tls_cert is not None else "http"
        self.address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        if config.tls_cert is None and not _is_loopback(host):
            logger.warning(
                "%s is not on loopback and has no TLS: keys and payloads can be read on the way", self.address,
                extra=fields("http_plaintext", address=self.address),
            )  # fmt: skip

    async def serve(self, answer: Answering) -> None:
        """Answer its questions, until cancelled. Raises HttpGone when it has ended by itself."""
        try:
            await AnsweringEnd(self.connection, answer).run()
        except ChannelBroken as error:
            self.is_lost = True
            self.process.kill()  # one that says what it cannot mean is ended, too
            raise HttpGone(
                f"the http process is gone: no metrics, no health and no webhooks until runnerd is restarted ({error})"
            ) from error

    def close(self) -> None:
        """End it and wait for it."""
        self.connection.close()
        self.process.terminate()
        self.process.join(END_DEADLINE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def fork_http() -> HttpProcess:
    """Fork. Call before anything is read that strangers must not know, and before any loop or thread runs."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    _install_forwarding()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_main, args=(ours, theirs, os.getpid()), name="http", daemon=True)
    process.start()
    theirs.close()
    return HttpProcess(process, ours)


def _install_forwarding() -> None:
    """The one logger whose records cross the process border; the supervisor's own never take that detour."""
    forwarded = logging.getLogger(LOGGER)
    for number, handler in enumerate(logging.getLogger().handlers):
        forwarded.addHandler(RecordHandler(f"mp-handler-{number}", sub_handler=handler))
    forwarded.propagate = False


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _is_loopback(host: str) -> bool:
    return ip_address(host).is_loopback


# --- in the http process ---------------------------------------------------------------------------------------------


def _main(parents: socket.socket, connection: socket.socket, parent: int) -> None:
    # Blocked until somebody listens for it: one that ended us in the middle of a record would leave the supervisor's
    # log waiting for the rest.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    parents.close()
    die_with_parent(parent)
    setproctitle("runnerd: http")
    protect_memory()  # callers' keys pass through it
    os.nice(NICENESS)
    os.environ.clear()  # what is in it is not for us: `AWS_…` for instance
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor ends us in its order
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Whatever any library logs here goes the same way as our own records.
    logging.getLogger().handlers = logging.getLogger(LOGGER).handlers
    server = importlib.import_module("runnerd.http.server")  # while the supervisor reads its configuration
    message, listeners, _, _ = socket.recv_fds(connection, MAX_SETTINGS_BYTES, 1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    if not listeners:
        return  # nobody wants us: `enabled = false`, or a configuration that cannot be used
    settings = words.decode_settings(message)
    logging.getLogger().setLevel(settings.log_level.upper())
    connection.setblocking(False)
    try:
        # Not `asyncio.run`: it would cancel what is not answered yet, and uvicorn answer 500 in our name.
        loop = asyncio.new_event_loop()
        loop.run_until_complete(server.serve(socket.socket(fileno=listeners[0]), connection, settings))
    except Exception as error:  # the supervisor sees the end, the operator this
        logger.error("the http process cannot go on: %s", error, exc_info=error, extra=fields("http_failed"))
    finally:
        # No more than that: what Python does at its end may need what we are not allowed any more.
        os._exit(0)
