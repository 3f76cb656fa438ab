"""Messages by e-mail and chat, through apprise, to real receivers on loopback: what arrives, and what a failure is."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from runnerd.consumers import chat
from runnerd.consumers.chat import ChatConsumer
from runnerd.consumers.consumer import ConsumerError, ConsumerUnavailable
from runnerd.store.calls import JobOutcome, JobResult
from tests.support.aio import run_async
from tests.support.calls import job_call
from tests.support.receiver import receiving
from tests.support.virtual_time import EPOCH

# apprise imports it for the sake of another library, and brings its own where Python has none any more.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

REASON = "in <b>now</b>\r\nBcc: everyone@example.net"
RESULT = JobResult(call=job_call(7), outcome=JobOutcome.ACTED, reason=REASON, finished_at=EPOCH, transaction="0xab")


class Mailbox:
    """An SMTP server that takes one message at a time (RFC 5321, as much as a client needs)."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.recipients: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        with suppress(ConnectionError):
            while line := (await reader.readline()).decode():
                verb = line[:4].upper()
                if verb == "DATA":
                    writer.write(b"354 go on\r\n")
                    data = await reader.readuntil(b"\r\n.\r\n")
                    self.messages.append(data.decode())
                elif verb == "RCPT":
                    self.recipients.append(line.split(":", 1)[1].split(">")[0].strip("< \r\n"))
                elif verb == "QUIT":
                    break
                writer.write(b"250 well\r\n")
        writer.close()


@asynccontextmanager
async def mailbox() -> AsyncIterator[tuple[Mailbox, int]]:
    box = Mailbox()
    server = await asyncio.start_server(box.serve, "127.0.0.1", 0)
    async with server:
        yield box, server.sockets[0].getsockname()[1]


def test_a_chat_gets_title_and_text() -> None:
    """What a plugin chose is one line of plain text."""

    async def scenario() -> None:
        with receiving() as receiver:
            consumer = await ChatConsumer.open("ops", receiver.url.replace("http://", "json://"))
            await consumer.consume(RESULT)
            (post,) = receiver.posts
            assert (post.json["title"], post.json["type"]) == ("alpha: acted", "success")
            lines = post.json["message"].splitlines()
            assert "<b>" in json.dumps(lines[0])
            assert "Bcc" in lines[0]
            assert "call 7 of alpha, by event from test" in lines
            assert "transaction 0xab" in lines

    run_async(scenario())


def test_an_e_mail_arrives_with_no_header_of_the_plugin() -> None:
    """Whatever stands in its reason."""

    async def scenario() -> None:
        async with mailbox() as (box, port):
            url = f"mailto://127.0.0.1:{port}/?from=runnerd@example.net&to=ops@example.net&mode=insecure&format=text"
            consumer = await ChatConsumer.open("ops", url)
            await consumer.consume(RESULT)
            (message,) = box.messages
            head, _, body = message.partition("\r\n\r\n")
            assert "Subject: alpha: acted" in head
            assert "Bcc" not in head
            assert "call 7 of alpha" in body
            assert box.recipients == ["ops@example.net"]

    run_async(scenario())


def test_a_service_that_fails_is_tried_again_and_one_that_hangs_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that hangs is left behind, and there is no second one until it is back."""
    status = 500

    async def scenario() -> None:
        nonlocal status
        with receiving(lambda _: status) as receiver:
            consumer = await ChatConsumer.open("ops", receiver.url.replace("http://", "json://"))
            with pytest.raises(ConsumerUnavailable, match="JSON did not take it"):
                await consumer.consume(RESULT)
            status = -1
            monkeypatch.setattr(chat, "DEADLINE_S", 0.05)
            with pytest.raises(ConsumerUnavailable, match=r"no answer within 0\.05 s"):
                await consumer.consume(RESULT)
            with pytest.raises(ConsumerUnavailable, match="has not come back yet"):
                await consumer.consume(RESULT)

    run_async(scenario())


@pytest.mark.parametrize("url", ["nowhere://hush", "hush", "slack://hush"])
def test_a_url_that_apprise_does_not_know_is_refused_at_the_start(url: str) -> None:
    """Without repeating it: it holds secrets."""

    async def scenario() -> None:
        with pytest.raises(ConsumerError, match="apprise does not know such a URL") as refused:
            await ChatConsumer.open("ops", url)
        assert "hush" not in str(refused.value)

    run_async(scenario())


@pytest.mark.parametrize("status", [200, 500])
def test_no_log_record_holds_the_url(caplog: pytest.LogCaptureFixture, status: int) -> None:
    """Not at any level, whatever the service says."""
    caplog.set_level(logging.DEBUG)

    async def scenario() -> None:
        with receiving(lambda _: status) as receiver:
            url = receiver.url.replace("http://", "json://").replace("/hook", "/hush")
            consumer = await ChatConsumer.open("ops", url)
            with suppress(ConsumerUnavailable):
                await consumer.consume(RESULT)
            assert len(receiver.posts) == 1

    run_async(scenario())
    assert ("error=500" in caplog.text) == (status == 500), "it says why"
    assert "hush" not in caplog.text


def test_without_apprise_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a host where the extra was left out."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    monkeypatch.setattr(chat, "is_installed", lambda: False)

    async def scenario() -> None:
        with pytest.raises(ConsumerError, match=r"pip install 'runnerd\[notify\]'"):
            await ChatConsumer.open("ops", "json://localhost")

    run_async(scenario())
