"""The newest block: one request for many callers, waiters woken by newer blocks only, polling that survives."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from runnerd.chain.errors import RpcMalformed, RpcRefused, RpcUnavailable
from runnerd.chain.head import Head
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chain.types import decode_block
from tests.chain.fake_node import FakeNode, wire_block


class SlowNode(FakeNode):
    """Answers when told to; `asked` rings at every request."""

    def __init__(self) -> None:
        super().__init__(lambda *_: None)
        self.asked = asyncio.Event()
        self.answers: asyncio.Queue[JsonValue | Exception] = asyncio.Queue()

    async def call(
        self,
        method: str,
        params: Sequence[JsonParam],
        *,
        timeout_s: float | None = None,
    ) -> JsonValue:
        self.requests.append((method, params))
        self.asked.set()
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_concurrent_callers_share_one_request() -> None:
    """A new block wakes many at once; the node is asked once."""

    async def scenario() -> None:
        node = SlowNode()
        head = Head(node)
        async with asyncio.TaskGroup() as tasks:
            callers = [tasks.create_task(head.fetch(), name="test:fetch") for _ in range(5)]
            await node.asked.wait()
            node.answers.put_nowait(wire_block(3))
        assert {caller.result().number for caller in callers} == {3}
        assert node.requests == [("eth_getBlockByNumber", ["latest", False])]
        assert head.latest == callers[0].result()

    asyncio.run(scenario())


def test_an_answer_that_is_older_than_what_was_announced_meanwhile_moves_nothing() -> None:
    """The one who asked gets it; the newest block stays the newest."""

    async def scenario() -> None:
        node = SlowNode()
        head = Head(node)
        node.answers.put_nowait(wire_block(3))
        await head.fetch()
        node.asked.clear()
        async with asyncio.TaskGroup() as tasks:
            caller = tasks.create_task(head.fetch(), name="test:fetch")
            await node.asked.wait()
            assert head.announce(decode_block(wire_block(5)))
            assert not head.announce(decode_block(wire_block(4)))
            node.answers.put_nowait(wire_block(4))
        assert caller.result().number == 4
        assert head.latest is not None
        assert head.latest.number == 5
        node.answers.put_nowait(wire_block(4))
        await head.fetch()
        assert head.latest.number == 4, "what was asked for after it counts: a reorg"

    asyncio.run(scenario())


def test_a_later_caller_gets_a_new_request() -> None:
    """Sharing ends with the answer: nothing is cached."""

    async def scenario() -> None:
        numbers = iter((1, 2))
        head = Head(FakeNode(lambda *_: wire_block(next(numbers))))
        assert [(await head.fetch()).number, (await head.fetch()).number] == [1, 2]

    asyncio.run(scenario())


def test_a_failed_request_fails_all_who_share_it_and_no_later_one() -> None:
    """Each of them learns that nothing is known; the next one asks again."""

    async def scenario() -> None:
        node = SlowNode()
        head = Head(node)
        async with asyncio.TaskGroup() as tasks:
            callers = [tasks.create_task(outcome(head), name="test:fetch") for _ in range(3)]
            await node.asked.wait()
            node.answers.put_nowait(RpcUnavailable("down"))
        assert [caller.result() for caller in callers] == ["down"] * 3
        node.answers.put_nowait(wire_block(9))
        assert (await head.fetch()).number == 9

    async def outcome(head: Head) -> str:
        with pytest.raises(RpcUnavailable) as error:
            await head.fetch()
        return str(error.value)

    asyncio.run(scenario())


def test_a_cancelled_first_caller_does_not_fail_the_others() -> None:
    """One of those who waited asks again."""

    async def scenario() -> None:
        node = SlowNode()
        head = Head(node)
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(head.fetch(), name="test:first")
            await node.asked.wait()
            node.asked.clear()
            others = [tasks.create_task(head.fetch(), name="test:other") for _ in range(3)]
            await asyncio.sleep(0)  # they wait for the first one's request now
            first.cancel()
            await node.asked.wait()
            node.answers.put_nowait(wire_block(4))
        assert [other.result().number for other in others] == [4, 4, 4]
        assert len(node.requests) == 2

    asyncio.run(scenario())


def test_a_cancelled_waiter_fails_nobody_else() -> None:
    """Its deadline is its own."""

    async def scenario() -> None:
        node = SlowNode()
        head = Head(node)
        async with asyncio.TaskGroup() as tasks:
            callers = [tasks.create_task(head.fetch(), name="test:fetch") for _ in range(3)]
            await node.asked.wait()
            await asyncio.sleep(0)  # the other two wait for the first one's request now
            callers[1].cancel()
            await asyncio.wait([callers[1]])
            node.answers.put_nowait(wire_block(4))
        assert [callers[0].result().number, callers[2].result().number] == [4, 4]
        assert len(node.requests) == 1

    asyncio.run(scenario())


def test_wait_beyond_returns_at_once_when_the_block_is_known() -> None:
    """No request, no waiting."""

    async def scenario() -> None:
        head = Head(FakeNode(lambda *_: wire_block(5)))
        await head.fetch()
        found = await head.wait_beyond(4, timeout_s=10)
        assert found is not None
        assert found.number == 5

    asyncio.run(scenario())


def test_wait_beyond_sleeps_through_equal_blocks_and_wakes_for_a_newer_one() -> None:
    """Polls that bring nothing new wake nobody."""

    async def scenario() -> None:
        numbers = iter((5, 5, 4, 6))
        head = Head(FakeNode(lambda *_: wire_block(next(numbers))))
        async with asyncio.TaskGroup() as tasks:
            waiter = tasks.create_task(head.wait_beyond(5, timeout_s=10), name="test:waiter")
            for _ in range(3):
                await head.fetch()
                await asyncio.sleep(0)
                assert not waiter.done()
            await head.fetch()
        found = waiter.result()
        assert found is not None
        assert found.number == 6

    asyncio.run(scenario())


def test_wait_beyond_gives_none_when_time_is_up() -> None:
    """Not an error: the chain just stood still."""

    async def scenario() -> None:
        assert await Head(FakeNode(lambda *_: None)).wait_beyond(1, timeout_s=0.01) is None

    asyncio.run(scenario())


def test_polling_backs_off_after_failures_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    """Doubling up to 30 s, then the usual rhythm again; every failure is one record with a stable action."""
    answers: list[JsonValue | Exception] = [RpcUnavailable("down")] * 8 + [RpcRefused(1, "no"), RpcMalformed("odd")]
    answers += [wire_block(1), wire_block(2)]
    delays: list[float] = []

    async def scenario() -> None:
        node = SlowNode()
        for answer in answers:
            node.answers.put_nowait(answer)

        async def sleep(delay_s: float) -> None:
            delays.append(delay_s)
            if len(delays) == len(answers):
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await Head(node, sleep=sleep).run(0.5)

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert delays == [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 0.5, 0.5]
    actions = [getattr(record, "runnerd_fields", {}).get("action") for record in caplog.records]
    assert actions == ["head_fetch_failed"] * 10 + ["head_fetch_recovered"]


def test_a_slow_poll_is_never_made_faster_by_a_failure() -> None:
    """The back-off's limit of 30 s must not shorten a longer interval."""
    delays: list[float] = []

    async def scenario() -> None:
        async def sleep(delay_s: float) -> None:
            delays.append(delay_s)
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await Head(FakeNode(lambda *_: RpcRefused(1, "no")), sleep=sleep).run(60)

    asyncio.run(scenario())
    assert delays == [60]


def test_a_head_that_goes_back_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """A reorg or a lagging node behind a balancer: `latest` is what was said last."""

    async def scenario() -> None:
        numbers = iter((5, 3))
        head = Head(FakeNode(lambda *_: wire_block(next(numbers))))
        await head.fetch()
        await head.fetch()
        assert head.latest is not None
        assert head.latest.number == 3

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert [getattr(record, "runnerd_fields", {}).get("action") for record in caplog.records] == ["head_went_back"]
