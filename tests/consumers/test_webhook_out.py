"""Results go out signed, to addresses on the internet only, and what a receiver says decides what follows."""

import asyncio
import hashlib
import hmac
import json
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from runnerd.clock import SystemClock
from runnerd.consumers.address import is_public
from runnerd.consumers.consumer import ConsumerRefused, ConsumerUnavailable
from runnerd.consumers.webhook import HEADER, WebhookConsumer
from runnerd.store.calls import JobOutcome, JobResult
from tests.support.aio import run_async
from tests.support.calls import job_call
from tests.support.virtual_time import EPOCH

SECRET = b"a secret of this test"
LEDGER = uuid.UUID(int=7)
RESULT = JobResult(call=job_call(7), outcome=JobOutcome.ACTED, reason="in", finished_at=EPOCH, transaction="0xab")


class Receiver:
    """A real HTTP server on loopback."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self.status = 200
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append((request.headers[HEADER], await request.read()))
        return web.Response(status=self.status, headers={"Location": "http://127.0.0.1:1/"})


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    receiver.url = f"http://{host}:{port}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@asynccontextmanager
async def consumer(url: str, *, allow_private: bool = True) -> AsyncIterator[WebhookConsumer]:
    one = WebhookConsumer("out", url, SECRET, SystemClock(), LEDGER, allow_private=allow_private)
    try:
        yield one
    finally:
        await one.close()


def test_a_result_is_posted_with_a_signature_that_a_receiver_can_check() -> None:
    """By the standard recipe: HMAC-SHA256 of time and body."""

    async def scenario() -> None:
        async with receiving() as receiver, consumer(receiver.url) as one:
            await one.consume(RESULT)
            ((header, body),) = receiver.requests
            at, _, mac = header.removeprefix("t=").partition(",v1=")
            assert hmac.new(SECRET, at.encode() + b"." + body, hashlib.sha256).hexdigest() == mac
            message = json.loads(body)
            assert (message["id"], message["outcome"], message["transaction"]) == (7, "acted", "0xab")
            assert message["origin"]["principal"] == "test"

    run_async(scenario())


@pytest.mark.parametrize("status, error", [(200, None), (204, None), (302, ConsumerUnavailable),
    (400, ConsumerRefused), (410, ConsumerRefused), (408, ConsumerUnavailable), (429, ConsumerUnavailable),
    (500, ConsumerUnavailable), (503, ConsumerUnavailable)])  # fmt: skip
def test_the_answer_decides(status: int, error: type[Exception] | None) -> None:
    """A redirect is not followed: it would lead past the check of the address."""

    async def scenario() -> None:
        async with receiving() as receiver, consumer(receiver.url) as one:
            receiver.status = status
            if error is None:
                await one.consume(RESULT)
            else:
                with pytest.raises(error, match=f"answered {status}"):
                    await one.consume(RESULT)
            assert len(receiver.requests) == 1

    run_async(scenario())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost.", "[::ffff:127.0.0.1]"])
def test_nothing_is_sent_into_the_own_network_unless_that_is_allowed(host: str) -> None:
    """Written as an address, or as a name that leads there. The control is the test above."""

    async def scenario() -> None:
        async with receiving() as receiver:
            url = receiver.url.replace("127.0.0.1", host)
            async with consumer(url, allow_private=False) as one:
                with pytest.raises(ConsumerRefused, match="not on the internet; allow_private"):
                    await one.consume(RESULT)
            assert receiver.requests == []

    run_async(scenario())


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0177.0.0.1", "0x7f.0.0.1", "0", "127.0.0.1."])
def test_an_old_spelling_of_an_address_is_refused_at_once(host: str) -> None:
    """The C library would connect to it, and no resolver is asked."""

    async def scenario() -> None:
        async with consumer(f"http://{host}:1/hook", allow_private=False) as one:
            with pytest.raises(ConsumerRefused, match="old spelling of an address: write"):
                await one.consume(RESULT)

    run_async(scenario())


def test_nobody_there_is_a_reason_to_try_again() -> None:
    """A port that was free a moment ago."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        async with consumer(f"http://127.0.0.1:{port}/") as one:
            with pytest.raises(ConsumerUnavailable, match=r"127\.0\.0\.1"):
                await one.consume(RESULT)
            await asyncio.sleep(0)

    run_async(scenario())


@pytest.mark.parametrize("address, public", [
    ("8.8.8.8", True), ("2001:4860:4860::8888", True), ("127.0.0.1", False), ("10.1.2.3", False),
    ("192.168.0.1", False), ("172.16.0.1", False), ("169.254.169.254", False), ("100.64.0.1", False),
    ("0.0.0.0", False), ("224.0.0.1", False), ("::1", False), ("fe80::1", False), ("fc00::1", False),
    ("::ffff:10.0.0.1", False), ("::ffff:8.8.8.8", True), ("::127.0.0.1", False), ("::ffff:0:127.0.0.1", False),
    ("64:ff9b::169.254.169.254", False), ("64:ff9b::8.8.8.8", True), ("64:ff9b:1::8.8.8.8", False),
    ("2002:7f00:1::", False), ("2002:808:808::", True), ("2001:0:7f00:1::", False), ("fec0::1", False),
    ("fe80::1%lo", False), ("ff02::1", False)])  # fmt: skip
def test_what_the_internet_is(address: str, *, public: bool) -> None:
    """Metadata services, carrier networks, and addresses within addresses are the usual holes."""
    assert is_public(address) == public
