"""Answers the calls of a chain on that chain: each result becomes an Action of the plugin's vault, once.

It neither signs nor sends: the Action goes through the executor, as one that a plugin asks for does.
"""

from typing import Protocol

from protocol.actions import Action
from runnerd.config.consumer_model import SubmitConsumerConfig
from runnerd.consumers.answer import build_answer, is_asked_by_chain
from runnerd.store.calls import JobCall, JobResult


class AnswerDesk(Protocol):
    """What is needed of `runnerd.routing.answers`."""

    async def answer(self, consumer: str, call: JobCall, action: Action) -> None:
        """Plan `action` as the one answer to `call`; nothing, if it has one. Raises ConsumerError."""


class SubmitConsumer:
    """A Consumer. A second delivery of the same result finds the answer of the first."""

    def __init__(self, name: str, config: SubmitConsumerConfig, desk: AnswerDesk) -> None:
        self.name = name
        self._config = config
        self._desk = desk

    def wants(self, result: JobResult) -> bool:
        """What its kind of trigger called for."""
        return result.call.plugin == self._config.plugin and is_asked_by_chain(result.call, self._config.trigger)

    async def consume(self, result: JobResult) -> None:
        """Ask for the answer. What becomes of it on chain is the JobResult of its own call."""
        await self._desk.answer(
            self.name, result.call, build_answer(self._config.action, self._config.arguments, result)
        )

    async def close(self) -> None:
        """Nothing is held."""
