"""Everything an HTTP node can do wrong ends as RpcUnavailable, and the next call is not harmed by it."""

import asyncio
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from runnerd.chain.errors import RpcMalformed, RpcRefused, RpcUnavailable
from runnerd.chain.rpc import Rpc
from tests.chain.servers import Reaction, Run, answer, echo, http, request_in, tcp_server

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


def reply(data: bytes, *, is_last: bool = False) -> Reaction:
    """React to every request with the same bytes, then perhaps close."""

    def react(connection: asyncio.Transport, request: bytes) -> None:
        connection.write(data)
        if is_last:
            connection.close()

    return react


def wrong_id(connection: asyncio.Transport, data: bytes) -> None:
    connection.write(http(answer({"id": request_in(data)["id"] + 1}, "0x1")))


FAULTS = [
    pytest.param(reply(b"SSH-2.0-OpenSSH\r\n\r\n"), "did not answer with HTTP", id="another-protocol"),
    pytest.param(reply(http(b"<html>busy</html>")), "malformed answer", id="html"),
    pytest.param(reply(http(b"")), "malformed answer", id="empty-body"),
    pytest.param(reply(http(b"{}")), "malformed answer", id="no-answer"),
    pytest.param(reply(http(b'{"id":1,"result":' + b"[" * 90_000)), "malformed answer", id="deep"),
    pytest.param(wrong_id, "malformed answer", id="wrong-id"),
    pytest.param(reply(http(b"", "500 Internal Server Error")), "HTTP 500", id="500"),
    pytest.param(reply(http(b'{"id":1,"result":"0x1"}', "503 Service Unavailable")), "HTTP 503", id="503-with-body"),
    pytest.param(reply(http(b"", "429 Too Many Requests")), "too many requests", id="429"),
    pytest.param(reply(http(b"", "401 Unauthorized")), "refuses the credentials", id="401"),
    pytest.param(reply(http(b"", "404 Not Found")), "nothing speaks JSON-RPC", id="404"),
    pytest.param(reply(http(b"oops", "400 Bad Request")), "HTTP 400", id="400-without-json"),
    pytest.param(reply(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"), "HTTP 302", id="redirect"),
    pytest.param(reply(HEAD + b'{"id":1', is_last=True), "before its answer was complete", id="closes-mid-answer"),
    pytest.param(reply(b"", is_last=True), "before its answer was complete", id="closes-without-answer"),
    pytest.param(reply(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), "larger than", id="too-large"),
    pytest.param(reply(b""), "no answer within 0.05 s", id="hangs"),
    pytest.param(reply(HEAD + b'{"id":1'), "no answer within 0.05 s", id="hangs-mid-answer"),
]


@pytest.mark.parametrize("react, reason", FAULTS)
def test_a_fault_is_unavailable_and_the_next_call_succeeds(run: Run, react: Reaction, reason: str) -> None:
    """A fault proves nothing and poisons nothing: the same Rpc works as soon as its node does."""
    requests = 0

    def once_faulty(connection: asyncio.Transport, data: bytes) -> None:
        nonlocal requests
        requests += 1
        (react if requests == 1 else echo)(connection, data)

    async def scenario() -> None:
        async with tcp_server(once_faulty) as server, Rpc(server.url) as rpc:
            with pytest.raises(RpcUnavailable, match=reason) as fault:
                await rpc.call("eth_x", [], timeout_s=0.05)
            assert fault.value.method == "eth_x"
            assert fault.value.url == server.url
            assert await rpc.call("eth_x", [1]) == [1]

    run(scenario())


def test_shape_faults_are_told_apart() -> None:
    """RpcMalformed means that the bytes arrived whole and made no sense: a bad node, not a bad network."""

    async def scenario() -> None:
        async with tcp_server(reply(http(b"{}"))) as server, Rpc(server.url) as rpc:
            with pytest.raises(RpcMalformed):
                await rpc.call("eth_x", [])
            with pytest.raises(RpcMalformed) as fault:
                await rpc.batch([("eth_x", []), ("eth_y", [])])
            assert fault.value.url == server.url

    asyncio.run(scenario())


def test_nobody_listening_is_unavailable(run: Run) -> None:
    """ECONNREFUSED and an unknown host are OSErrors; they do not escape."""

    async def scenario() -> None:
        async with tcp_server(echo) as server:
            gone = server.url
        for url in (gone, "http://does-not-exist.invalid", f"http://{'a' * 64}.invalid"):
            async with Rpc(url) as rpc:
                with pytest.raises(RpcUnavailable):
                    await rpc.call("eth_x", [], timeout_s=2.0)

    run(scenario())


def test_a_json_error_with_http_400_is_a_refusal() -> None:
    """Some nodes send JSON-RPC errors with status 400: the node did read the request."""
    error = http(b'{"id":1,"error":{"code":-32602,"message":"bad"}}', "400 Bad Request")

    async def scenario() -> None:
        async with tcp_server(reply(error)) as server, Rpc(server.url) as rpc:
            with pytest.raises(RpcRefused):
                await rpc.call("eth_x", [])

    asyncio.run(scenario())


def test_calls_in_a_row_share_one_connection(run: Run) -> None:
    """Keep-alive: a TCP handshake per call would double its latency."""

    async def scenario() -> None:
        async with tcp_server(echo) as server, Rpc(server.url) as rpc:
            for i in range(10):
                assert await rpc.call("eth_x", [i]) == [i]
            assert len(server.connections) == 1

    run(scenario())


def test_concurrent_calls_get_their_own_answers(run: Run) -> None:
    """HTTP/1.1 carries one request at a time, so each concurrent call has its connection, up to the limit."""

    async def scenario() -> None:
        async with tcp_server(echo) as server, Rpc(server.url) as rpc:
            assert await asyncio.gather(*(rpc.call("eth_x", [i]) for i in range(100))) == [[i] for i in range(100)]
            assert len(server.connections) <= 32

    run(scenario())


def test_a_cancelled_call_leaves_no_connection_that_could_mix_up_answers(run: Run) -> None:
    """The late answer to the cancelled call must never be read as the answer to the next one."""
    arrived: list[asyncio.Transport] = []

    async def scenario() -> None:
        first_request = asyncio.Event()

        def late(connection: asyncio.Transport, data: bytes) -> None:
            arrived.append(connection)
            if len(arrived) == 1:
                first_request.set()
            else:
                if not arrived[0].is_closing():
                    arrived[0].write(http(answer({"id": 2}, "stale")))
                echo(connection, data)

        async with tcp_server(late) as server, Rpc(server.url) as rpc, asyncio.TaskGroup() as tasks:
            call = tasks.create_task(rpc.call("eth_x", []), name="test:call")
            await first_request.wait()
            call.cancel()
            await asyncio.wait([call])
            assert await rpc.call("eth_x", ["fresh"]) == ["fresh"]
            assert len(server.connections) == 2

    run(scenario())


def test_a_connection_closed_while_idle_is_replaced(run: Run) -> None:
    """Proxies close idle connections. At most the one call that crosses the close fails; the next one dials."""

    async def scenario() -> None:
        async with tcp_server(echo) as server, Rpc(server.url) as rpc:
            await rpc.call("eth_x", [])
            server.connections[0].close()
            with suppress(RpcUnavailable):
                await rpc.call("eth_x", [])
            assert await rpc.call("eth_x", [2]) == [2]
            assert len(server.connections) == 2

    run(scenario())


def test_credentials_and_path_reach_the_node() -> None:
    """Hidden from logs, not from the node that asks for them."""
    seen: list[bytes] = []

    def record(connection: asyncio.Transport, data: bytes) -> None:
        seen.append(data)
        echo(connection, data)

    async def scenario() -> None:
        async with tcp_server(record) as server:
            url = server.url.replace("http://", "http://alice:hunter2@") + "/v2/s3cretkey?a=b"
            async with Rpc(url) as rpc:
                await rpc.call("eth_x", [])

    asyncio.run(scenario())
    assert seen[0].startswith(b"POST /v2/s3cretkey?a=b HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nAuthorization: Basic YWxpY2U6aHVudGVyMg==\r\n" in seen[0]


def test_no_error_text_shows_a_secret_of_the_url() -> None:
    """Faults are logged and shown to people."""

    async def scenario() -> None:
        texts = []
        for react in (
            reply(b"junk\r\n\r\n"),
            reply(http(b"", "401 Unauthorized")),
            reply(b"", is_last=True),
            reply(b""),
        ):
            async with tcp_server(react) as server:
                rpc = Rpc(server.url.replace("//", "//alice:hunter2@") + "/s3cretkey")
                with pytest.raises(RpcUnavailable) as fault:
                    await rpc.call("eth_x", [], timeout_s=0.05)
                texts.append(str(fault.value) + repr(fault.value) + repr(fault.value.__context__))
                await rpc.close()
        assert not any(secret in text for text in texts for secret in ("hunter2", "s3cretkey", "alice"))

    asyncio.run(scenario())


def test_a_closed_rpc_refuses_calls_and_ends_those_under_way(run: Run) -> None:
    """Shutdown must not wait for a node that hangs."""

    async def scenario() -> None:
        requested = asyncio.Event()
        async with tcp_server(lambda *_: requested.set()) as server, asyncio.TaskGroup() as tasks:
            rpc = Rpc(server.url)
            call = tasks.create_task(catch(rpc), name="test:call")
            await requested.wait()
            await rpc.close()
            assert isinstance(await call, RpcUnavailable)
            assert isinstance(await catch(rpc), RpcUnavailable)

    async def catch(rpc: Rpc) -> RpcUnavailable | None:
        try:
            await rpc.call("eth_x", [])
        except RpcUnavailable as error:
            return error
        return None

    run(scenario())


def test_a_certificate_nobody_vouches_for_is_not_accepted(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """https and wss are verified, always; the positive control trusts the same certificate and succeeds."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(["openssl", "req", "-x509", *curve, "-days", "2", *subject, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def scenario() -> None:
        async with tcp_server(echo, ssl=context) as server:
            for url in (server.url, server.url.replace("https", "wss")):
                async with Rpc(url) as rpc:
                    with pytest.raises(RpcUnavailable, match="certificate not accepted"):
                        await rpc.call("eth_x", [])
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            async with Rpc(server.url) as rpc:
                assert await rpc.call("eth_x", [1]) == [1]

    run(scenario())
