"""The http process, seen from the supervisor: its empty zygote is told what it needs, and started anew when it ends.

For each answer it asks over a socketpair. What is on the other side is in `http_zygote.py`; what it serves is
`runnerd.http`, which is imported there alone: the process with the key has no web stack in it.
"""

import logging
import multiprocessing
import os
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from runnerd.config.model import HttpConfig
from runnerd.errors import RunnerdError
from runnerd.http import words
from runnerd.http.channel import Answering, AnsweringEnd, ChannelBroken
from runnerd.http.records import LOGGER, RecordHandler
from runnerd.http.words import Settings
from runnerd.log import fields
from runnerd.services.http_zygote import END, LAST_ANSWERS_DEADLINE_S, run_zygote

logger = logging.getLogger("runnerd.services.http")

END_DEADLINE_S: Final = LAST_ANSWERS_DEADLINE_S + 1.0


class HttpError(RunnerdError):
    """The http process could not listen. Choose another `http.port`, 0 for any, or `http.enabled = false`."""


class HttpGone(RunnerdError):
    """The http process has ended, or said what no honest one says."""


@dataclass(slots=True)
class HttpProcess:
    """The http process of the moment: there may be another after it, on the same address."""

    zygote: "multiprocessing.process.BaseProcess"
    control: socket.socket
    """To the zygote."""
    address: str = ""
    _settings: bytes = b""
    _listener: socket.socket | None = None
    """Kept: who connects while no process is there waits for the next one."""
    _channel: socket.socket | None = None
    """To the process; None while there is none."""

    def open(self, config: HttpConfig, log_level: str = "info") -> None:
        """Let it listen, and return when strangers can connect. Raises HttpError when the address cannot be bound."""
        try:
            self._listener = socket.create_server(
                (config.host, config.port), family=_family(config.host), reuse_port=False
            )
        except OSError as error:
            raise HttpError(f"cannot listen on {config.host}:{config.port}: {error.strerror}") from error
        host, port = self._listener.getsockname()[:2]
        self._settings = words.encode(
            Settings(
                tls_cert=None if config.tls_cert is None else str(config.tls_cert),
                tls_key=None if config.tls_key is None else str(config.tls_key),
                log_level=log_level,
            )
        )
        scheme = "https" if config.tls_cert is not None else "http"
        self.address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        self._channel = self._start()
        if config.tls_cert is None and not _is_loopback(host):
            logger.warning(
                "%s is not on loopback and has no TLS: keys and payloads can be read on the way", self.address,
                extra=fields("http_plaintext", address=self.address),
            )  # fmt: skip

    @property
    def is_there(self) -> bool:
        """False between the end of one process and the start of the next: nobody is answered."""
        return self._channel is not None

    async def serve(self, answer: Answering) -> None:
        """Answer its questions, until cancelled; start it first, if it is not there. Raises HttpGone when it ends."""
        if self._channel is None:
            self._channel = self._start()
        try:
            await AnsweringEnd(self._channel, answer).run()
        except ChannelBroken as error:
            self._channel.close()
            self._channel = None
            self._tell(END, [])  # one that says what it cannot mean is ended, too
            raise HttpGone(
                f"the http process is gone, and no request is answered until the next is there ({error})"
            ) from error

    def _start(self) -> socket.socket:
        assert self._listener is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._tell(self._settings, [self._listener.fileno(), theirs.fileno()])
        ours.setblocking(False)
        return ours

    def _tell(self, message: bytes, descriptors: list[int]) -> None:
        try:
            socket.send_fds(self.control, [message], descriptors)
        except OSError as error:
            raise HttpGone(
                f"the http process's zygote is gone, which starts it: restart runnerd ({error.strerror})"
            ) from error

    def close(self) -> None:
        """End it and its zygote, and wait for them."""
        for each in (self._channel, self._listener, self.control):
            if each is not None:
                each.close()
        self.zygote.join(END_DEADLINE_S)
        if self.zygote.is_alive():
            self.zygote.kill()
            self.zygote.join()


def fork_http() -> HttpProcess:
    """Fork the zygote. Call before anything is read that strangers must not know, and before any loop or thread is."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    _install_forwarding()
    context = multiprocessing.get_context("fork")
    zygote = context.Process(target=run_zygote, args=(ours, theirs, os.getpid()), name="http", daemon=True)
    zygote.start()
    theirs.close()
    return HttpProcess(zygote, ours)


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
