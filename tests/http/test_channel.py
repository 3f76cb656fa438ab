"""The channel between supervisor and http process: any size passes, nobody waits for another, lies end it."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from runnerd.http import channel, words
from runnerd.http.channel import AnsweringEnd, AskingEnd, ChannelBroken, pack
from runnerd.http.words import Answer, Asked, Bearer, GetCall, GetPage, MakeCall, Page, Question, Refusal, Why
from runnerd.tasks import Tasks
from tests.support.aio import run_async

READY = GetPage(word="ready")


def page(body: str = "ready\n") -> Page:
    """An answer."""
    return Page(status=200, content_type="text/plain", body=body)


async def yes(_: Question) -> Answer:
    """A supervisor that has one page."""
    return page()


@asynccontextmanager
async def ends(
    answer: Callable[[Question], Coroutine[Any, Any, Answer]],
) -> AsyncIterator[tuple[AskingEnd, "asyncio.Task[None]", asyncio.StreamWriter]]:
    """Both ends at work, the supervisor's as its task."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    theirs.setblocking(False)
    tasks = Tasks()
    loop = asyncio.get_running_loop()
    answering = loop.create_task(AnsweringEnd(ours, answer).run(), name="test:answering")
    reader, writer = await asyncio.open_unix_connection(sock=theirs)
    asking = AskingEnd(reader, writer)
    tasks.spawn(_quietly(asking), "test:asking")
    try:
        yield asking, answering, writer
    finally:
        await tasks.cancel()
        writer.transport.abort()
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)


async def _quietly(asking: AskingEnd) -> None:
    with suppress(ChannelBroken):
        await asking.run()


def test_what_was_asked_before_the_end_has_its_answer() -> None:
    """An answer that is being made when the supervisor's end is told to end is made, and told; later ones are not."""

    async def scenario() -> None:
        asked, may_answer = asyncio.Event(), asyncio.Event()

        async def answer(question: Question) -> Answer:
            asked.set()
            await may_answer.wait()
            return page("in time")

        async with ends(answer) as (asking, answering, _):
            waiting = asyncio.get_running_loop().create_task(asking.ask(READY, 10))
            await asked.wait()
            answering.cancel()
            await asyncio.sleep(0)
            may_answer.set()
            assert await waiting == page("in time")
            assert isinstance(await asking.ask(READY), Refusal)

    run_async(scenario())


@pytest.mark.parametrize("size", [0, 1, 10_000, 5_000_000])
def test_page_of_any_size_passes(size: int) -> None:
    """The metrics of a thousand plugins are larger than any buffer between."""

    async def scenario() -> None:
        async def answer(_: Question) -> Answer:
            return page("é" * size)

        async with ends(answer) as (asking, _, _):
            assert await asking.ask(READY, wait_s=30) == page("é" * size)

    run_async(scenario())


def test_payload_of_the_largest_size_passes() -> None:
    """The bound of a frame is above what the bound of a body can become in JSON."""
    call = MakeCall(credential=Bearer(token="t"), plugin="p", payload='"' * words.MAX_BODY_BYTES)

    async def scenario() -> None:
        got: list[Question] = []

        async def answer(question: Question) -> Answer:
            got.append(question)
            return page()

        async with ends(answer) as (asking, _, _):
            await asking.ask(call, wait_s=30)
        assert got == [call]

    run_async(scenario())


def test_a_slow_answer_does_not_keep_the_next_one() -> None:
    """Who waits for an outcome for a minute must not cost the health check its page."""

    async def scenario() -> None:
        slow = asyncio.Event()

        async def answer(question: Question) -> Answer:
            if isinstance(question, GetCall):
                await slow.wait()
                return Refusal(why=Why.NOT_FOUND, detail="late")
            return page()

        async with ends(answer) as (asking, _, _):
            question = GetCall(credential=Bearer(token="t"), call_id=1)
            waiting = asyncio.get_running_loop().create_task(asking.ask(question, wait_s=30), name="test:waiting")
            assert await asking.ask(READY) == page()
            slow.set()
            assert await waiting == Refusal(why=Why.NOT_FOUND, detail="late")

    run_async(scenario())


def test_no_answer_in_time_is_a_refusal_and_the_late_one_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question has its number."""
    monkeypatch.setattr(channel, "ANSWER_DEADLINE_S", 0.1)

    async def scenario() -> None:
        late = asyncio.Event()
        asked = 0

        async def answer(_: Question) -> Answer:
            nonlocal asked
            asked += 1
            if asked == 1:
                await late.wait()
                return Refusal(why=Why.NOT_FOUND, detail="late")
            return page()

        async with ends(answer) as (asking, _, _):
            first = await asking.ask(GetCall(credential=Bearer(token="t"), call_id=1))
            assert isinstance(first, Refusal)
            assert (first.why, first.retry_after_s) == (Why.UNAVAILABLE, 2)
            late.set()
            assert await asking.ask(READY, wait_s=30) == page()

    run_async(scenario())


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">I", words.MAX_QUESTION_BYTES + 1),
        pack(b"not json"),
        pack(b"[" * 100_000),
        pack(b'{"number":1,"question":{"type":"page","word":"keystore"}}'),
        pack(b'{"number":1,"question":{"type":"fire","plugin":"alpha"}}'),
        pack(b'{"number":1,"question":{"type":"make","plugin":"alpha","payload":"{}"}}'),
        pack(b'{"number":1,"question":{"type":"page","word":"ready","principal":"uid:0"}}'),
    ],
    ids=["too long", "not json", "nested deeply", "another page", "a control command", "no credential", "extra field"],
)
def test_what_no_honest_http_process_says_ends_the_channel(frame: bytes) -> None:
    """A compromised one has three pages, and questions with a credential; there is no other word to say."""

    async def scenario() -> None:
        answered: list[Question] = []

        async def answer(question: Question) -> Answer:
            answered.append(question)
            return page()

        async with ends(answer) as (_, answering, writer):
            writer.write(frame)
            async with asyncio.timeout(5):
                with pytest.raises(ChannelBroken):
                    await answering
        assert answered == []

    run_async(scenario())


def test_one_that_asks_and_never_reads_holds_one_page_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are made one at a time, when the last one was taken."""

    async def scenario() -> None:
        made = 0

        async def answer(_: Question) -> Answer:
            nonlocal made
            made += 1
            return page("x" * 4_000_000)

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        tasks = Tasks()
        tasks.spawn(AnsweringEnd(ours, answer).run(), "test:answering")
        with theirs:
            theirs.setblocking(False)
            sent = 0
            while sent < channel.MAX_OPEN * 2:  # until the supervisor reads no further
                try:
                    theirs.send(pack(words.encode(Asked(number=sent, question=READY))))
                except BlockingIOError:
                    break
                sent += 1
                await asyncio.sleep(0)
            assert made == 1
            monkeypatch.setattr(channel, "LAST_ANSWERS_S", 0.0)  # who does not read is not waited for that long
            await tasks.cancel()

    run_async(scenario())
