"""Tells people: each result as a message by e-mail or chat, through apprise (https://appriseit.com).

apprise is the extra `runnerd[notify]`, imported only when a consumer needs it. One URL for each consumer: with two of
them, the one that works would hear everything again whenever the other one fails.
"""

import asyncio
import logging
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from runnerd.consumers.blocking import BlockingCalls
from runnerd.consumers.consumer import ConsumerMisconfigured, ConsumerUnavailable
from runnerd.store.calls import JobOutcome, JobResult
from runnerd.text import printable

DEADLINE_S: Final = 20.0
MAX_REASON: Final = 500
INSTALL: Final = "apprise is not installed: pip install 'runnerd[notify]'"
_LEVELS: Final = {
    JobOutcome.ACTED: "success", JobOutcome.NOOP: "info", JobOutcome.DENIED: "warning",
    JobOutcome.FAILED: "failure", JobOutcome.EXPIRED: "warning", JobOutcome.DEAD: "failure",
}  # fmt: skip


def is_installed() -> bool:
    """Whether there is an apprise."""
    return find_spec("apprise") is not None


def text_of(result: JobResult) -> tuple[str, str]:
    """Title and body. What a plugin chose is one line of plain text."""
    call = result.call
    lines = [
        printable(result.reason)[:MAX_REASON],
        "",
        f"call {call.id} of {call.plugin}, by {call.trigger} from {printable(call.principal)}",
        f"finished at {result.finished_at:%Y-%m-%d %H:%M:%S} UTC",
        *([f"transaction {result.transaction}"] if result.transaction else []),
    ]
    return f"{call.plugin}: {result.outcome}", "\n".join(lines)


class ChatConsumer:
    """A Consumer. apprise blocks, so it has a thread; what it says of a failure stands in its own log records."""

    def __init__(self, name: str, apprise: Any, target: Any) -> None:
        self.name = name
        self._apprise = apprise
        self._target = target
        self._calls = BlockingCalls(name)

    @classmethod
    async def open(cls, name: str, url: str) -> "ChatConsumer":
        """Look whether apprise knows the URL; nothing is sent. Raises ConsumerMisconfigured, without the URL."""
        if not is_installed():
            raise ConsumerMisconfigured(f"consumer {name}: {INSTALL}")
        for library in ("apprise", "urllib3"):  # below this they log URLs, and those hold secrets
            logging.getLogger(library).setLevel(logging.WARNING)
        apprise = await asyncio.to_thread(import_module, "apprise")
        target = await asyncio.to_thread(apprise.Apprise.instantiate, url)
        if target is None:
            raise ConsumerMisconfigured(
                f"consumer {name}: apprise does not know such a URL, or a part of it is missing"
            )
        return cls(name, apprise, target)

    def wants(self, result: JobResult) -> bool:
        """All."""
        return True

    async def consume(self, result: JobResult) -> None:
        """Send it. Whatever the service says, another try may work: apprise does not tell why one did not."""
        title, body = text_of(result)
        is_sent = await self._calls.run(
            lambda: self._target.notify(
                body=body,
                title=title,
                notify_type=self._apprise.NotifyType(_LEVELS[result.outcome]),
                body_format=self._apprise.NotifyFormat.TEXT,
            ),
            DEADLINE_S,
        )
        if not is_sent:
            raise ConsumerUnavailable(f"{self._target.service_name} did not take it; why is in the log, from apprise")

    async def close(self) -> None:
        """Nothing is held."""
