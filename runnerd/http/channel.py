"""The socketpair between supervisor and http process: frames of a length and JSON, questions and their answers.

No descriptor and no pickle ever comes from the http process. A frame that is too long or not understood ends the
channel: it has no honest sender.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Final, TypeAlias

from runnerd.errors import RunnerdError
from runnerd.http import words
from runnerd.http.words import Answer, Answered, Asked, GetPage, Question, Refusal, Why
from runnerd.tasks import Tasks

_HEAD: Final = struct.Struct(">I")
MAX_OPEN: Final = 512
"""Questions that may be open at once; a further one is read when another has its answer."""
ANSWER_DEADLINE_S: Final = 2.0
"""Beyond what a question itself waits for."""
LAST_ANSWERS_S: Final = 1.0
"""What was asked before the end has its answer: made, not only begun."""
_STOPPING: Final = Refusal(
    why=Why.UNAVAILABLE, detail="runnerd is stopping; try again with the same Idempotency-Key", retry_after_s=5
)
Answering: TypeAlias = Callable[[Question], Awaitable[Answer]]


class ChannelBroken(RunnerdError):
    """The other end of the http channel is gone, or says what it cannot mean."""


def pack(message: bytes) -> bytes:
    """One frame."""
    return _HEAD.pack(len(message)) + message


async def read_frame(reader: asyncio.StreamReader, limit: int) -> bytes:
    """The next message. Raises ChannelBroken."""
    try:
        (size,) = _HEAD.unpack(await reader.readexactly(_HEAD.size))
        if size > limit:
            raise ChannelBroken(f"a frame of {size} bytes, more than {limit}")
        return await reader.readexactly(size)
    except (asyncio.IncompleteReadError, OSError) as error:
        raise ChannelBroken("the other end is gone") from error


class AnsweringEnd:
    """The supervisor's. Holds at most `MAX_OPEN` questions, and one page: who does not read is not written to."""

    def __init__(self, connection: socket.socket, answer: Answering) -> None:
        self._connection = connection
        self._answer = answer
        self._tasks = Tasks()
        self._room = asyncio.Semaphore(MAX_OPEN)
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Until the other end is gone. Raises ChannelBroken."""
        reader, writer = await asyncio.open_unix_connection(sock=self._connection)
        writer.transport.set_write_buffer_limits(0)
        try:
            while True:
                await self._room.acquire()
                frame = await read_frame(reader, words.MAX_QUESTION_BYTES)
                try:
                    asked = words.decode_asked(frame)
                except (ValueError, RecursionError) as error:
                    raise ChannelBroken(f"not a question: {error}") from error
                self._tasks.spawn(self._reply(asked, writer), "http:answer")
        except ChannelBroken:
            await self._tasks.cancel()
            raise
        finally:
            await self._tasks.finish(LAST_ANSWERS_S)
            writer.transport.abort()

    async def _reply(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        try:
            if isinstance(asked.question, GetPage):
                # Made only when it can go: pages are large, and whoever asks for many and reads none gets one.
                async with self._writing:
                    await self._write(asked.number, await self._answer(asked.question), writer)
            else:
                answer = await self._answer(asked.question)
                async with self._writing:
                    await self._write(asked.number, answer, writer)
        except OSError:
            pass  # it is gone: `run` learns it by itself
        finally:
            self._room.release()

    async def _write(self, number: int, answer: Answer, writer: asyncio.StreamWriter) -> None:
        writer.write(pack(words.encode(Answered(number=number, answer=answer))))
        await writer.drain()


class AskingEnd:
    """The http process's: many questions at once, each with a deadline."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}

    async def run(self) -> None:
        """Hand out the answers, until the supervisor is gone. Raises ChannelBroken."""
        try:
            while True:
                frame = await read_frame(self._reader, words.MAX_ANSWER_BYTES)
                answered = words.decode_answered(frame)
                self._tell(answered.number, answered.answer)
        finally:
            for number in self._waiting:
                self._tell(number, _STOPPING)

    def _tell(self, number: int, answer: Answer) -> None:
        waiter = self._waiting.get(number)
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)

    async def ask(self, question: Question, wait_s: float = 0.0) -> Answer:
        """The supervisor's answer; a Refusal when none comes in time."""
        number = next(self._numbers)
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiter
        try:
            async with asyncio.timeout(wait_s + ANSWER_DEADLINE_S):
                self._writer.write(pack(words.encode(Asked(number=number, question=question))))
                await self._writer.drain()
                return await waiter
        except (TimeoutError, OSError):
            return Refusal(
                why=Why.UNAVAILABLE,
                detail="the supervisor does not answer; try again with the same Idempotency-Key",
                retry_after_s=2,
            )
        finally:
            with suppress(KeyError):
                del self._waiting[number]
