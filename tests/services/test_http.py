"""The http process over real HTTP, forked from a small real parent: this file, run again as a program.

The parent plays the supervisor: it answers, is stopped, or fails at the first question.
"""

import asyncio
import http.client
import json
import logging
import multiprocessing
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runnerd.config.model import HttpConfig
from runnerd.http import reading, server
from runnerd.http.words import Answer, GetPage, Page, Question, Refusal, Why
from runnerd.services.http import HttpError, HttpGone, HttpProcess, fork_http
from runnerd.services.metrics import Metrics
from tests.support.leaks import find_descendants, wait_until_gone

pytestmark = pytest.mark.usefixtures("no_leaks")

ROOT = Path(__file__).parents[2]
DEADLINE_S = 20.0


# --- the parent ------------------------------------------------------------------------------------------------------


class _Printer(logging.Handler):
    """A line for each record: where it was made, and where it is handled."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(message=record.getMessage(), logger=record.name, made_in=record.process, handled_in=os.getpid())


class _Supervisor:
    """Answers each word; the first `ready` is no, later ones yes."""

    def __init__(self, mode: str) -> None:
        self._is_failing = mode == "failing once"
        self._is_ready = False
        self._metrics = Metrics(["ready", "stopped"])
        self._metrics.called("alpha", "cron")

    async def answer(self, question: Question) -> Answer:
        if not isinstance(question, GetPage):
            return Refusal(why=Why.UNAUTHORIZED, detail="no key is good here")
        word = question.word
        if self._is_failing:
            self._is_failing = False
            raise ValueError("a defect")
        if word == "metrics":
            return Page(status=200, content_type="metrics", body=self._metrics.render().decode())
        if word == "health":
            return Page(status=200, content_type="text/plain", body="healthy\n")
        was_ready, self._is_ready = self._is_ready, True
        return Page(status=200 if was_ready else 503, content_type="text/plain", body=f"ready: {was_ready}\n")


def _say(**values: object) -> None:
    os.write(sys.stdout.fileno(), json.dumps(values).encode() + b"\n")


def _main(mode: str, port: int) -> None:
    """Until the end of stdin."""
    multiprocessing.set_start_method("fork")
    logging.basicConfig(level="INFO", handlers=[_Printer()])
    if mode == "hasty":
        server.HEAD_DEADLINE_S, reading.BODY_DEADLINE_S = 0.5, 0.5  # type: ignore[misc]
    if mode == "narrow":
        server.MAX_CONNECTIONS = 20  # type: ignore[misc]
    process = fork_http()
    tls = Path(mode) if mode.startswith("/") else None
    try:
        process.open(
            HttpConfig(
                host="127.0.0.1",
                port=port,
                tls_cert=tls / "cert.pem" if tls else None,
                tls_key=tls / "key.pem" if tls else None,
            )
        )
    except HttpError as error:
        _say(http_error=str(error))
        process.close()
        return
    _say(address=process.address, pid=os.getpid(), zygote_pid=process.zygote.pid)

    async def serve() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        loop.add_reader(sys.stdin.fileno(), stopped.set)
        loop.add_signal_handler(signal.SIGUSR1, _break, process)
        serving = loop.create_task(_keep_serving(process, _Supervisor(mode)))
        await stopped.wait()
        serving.cancel()
        await asyncio.wait([serving])

    asyncio.run(serve())
    process.close()
    logging.shutdown()


def _break(process: HttpProcess) -> None:
    assert process._channel is not None
    process._channel.shutdown(socket.SHUT_RDWR)


async def _keep_serving(process: HttpProcess, supervisor: _Supervisor) -> None:
    while True:
        try:
            await process.serve(supervisor.answer)
        except HttpGone as error:
            _say(gone=str(error), is_there=process.is_there)
            if process.zygote.exitcode is not None:
                return


# --- from outside ----------------------------------------------------------------------------------------------------


@dataclass
class Parent:
    """The program under test: what it says, and where its http process listens."""

    process: subprocess.Popen[bytes]
    said: list[dict[str, Any]] = field(default_factory=list)
    _rest: bytes = b""

    @property
    def zygote_pid(self) -> int:
        return int(self.hear(lambda line: "zygote_pid" in line)["zygote_pid"])

    def http_pid(self, other_than: int = 0) -> int:
        """Of the process that serves, as soon as there is one."""
        end = time.monotonic() + DEADLINE_S
        while True:
            below = find_descendants(self.zygote_pid)
            pids = [pid for pid, name in below.items() if name == "runnerd: http" and pid != other_than]
            if pids:
                return pids[0]
            assert time.monotonic() < end, below

    @property
    def address(self) -> str:
        return str(self.hear(lambda line: "address" in line)["address"])

    def hear(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first line that `is_it`, already said or to come within the deadline."""
        end = time.monotonic() + DEADLINE_S
        assert self.process.stdout is not None
        while not (found := [line for line in self.said if is_it(line)]):
            readable, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            assert readable, f"not said within {DEADLINE_S:g} s; only {self.said}"
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            assert data, f"it ended and said only {self.said}"
            *lines, self._rest = (self._rest + data).split(b"\n")
            self.said += [json.loads(line) for line in lines]
        return found[0]

    def get(self, path: str) -> tuple[int, str, str]:
        """Status, content type and body."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=DEADLINE_S) as response:
                return response.status, response.headers["Content-Type"], response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["Content-Type"], error.read().decode()


@contextmanager
def parent(mode: str = "answering", port: int = 0) -> Iterator[Parent]:
    """A running one, ended afterwards by the end of its stdin."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.services.test_http", mode, str(port)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            yield Parent(process)
            assert process.stdin is not None
            process.stdin.close()
            process.wait(DEADLINE_S)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def program() -> Iterator[Parent]:
    """One that answers, for all tests that leave it as it was."""
    with parent() as running:
        yield running


def test_metrics_parse_and_are_those_of_the_documentation(program: Parent) -> None:
    """Prometheus' own parser, and every name in docs/metrics.md."""
    status, content_type, text = program.get("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    documented = re.findall(r"^\| `(runnerd_\w+)` \|", (ROOT / "docs/metrics.md").read_text("utf-8"), re.MULTILINE)
    assert status == 200
    assert content_type.startswith("text/plain; version=")
    assert len(documented) > 10
    assert {name.removesuffix("_total") for name in documented} <= set(families)
    calls = [sample for sample in families["runnerd_calls"].samples if sample.name == "runnerd_calls_total"]
    assert [(sample.labels, sample.value) for sample in calls] == [({"plugin": "alpha", "trigger": "cron"}, 1.0)]


def test_health_and_readiness_are_what_the_supervisor_says_now(program: Parent) -> None:
    """Asked anew for each request: not ready becomes ready; a query string changes nothing."""
    assert program.get("/healthz") == (200, "text/plain", "healthy\n")
    assert program.get("/readyz") == (503, "text/plain", "ready: False\n")
    assert program.get("/readyz?verbose=1") == (200, "text/plain", "ready: True\n")


def test_unknown_path_is_not_found_and_the_answer_says_what_there_is(program: Parent) -> None:
    """Nothing else is served."""
    status, _, text = program.get("/etc/passwd")
    assert (status, json.loads(text)["detail"]) == (404, "try /metrics, /healthz, /readyz, /v1/openapi.json")


def test_its_log_records_are_handled_in_the_parent(program: Parent) -> None:
    """One log, written by one process."""
    record = program.hear(lambda line: str(line.get("message")).startswith("listening on "))
    assert record == {
        "message": f"listening on {program.address.removeprefix('http://')}",
        "logger": "runnerd.http",
        "made_in": program.http_pid(),
        "handled_in": program.process.pid,
    }
    assert program.http_pid() not in (program.process.pid, program.zygote_pid)


def test_silent_supervisor_is_unavailable_within_three_seconds_and_recovers(program: Parent) -> None:
    """A hung loop shows as 503; its late answer belongs to the question that was given up, not to the next."""
    assert program.get("/healthz")[0] == 200
    program.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        status, _, text = program.get("/metrics")
        took_s = time.monotonic() - began
        assert program.get("/etc/passwd")[0] == 404  # for which it is not even asked
    finally:
        program.process.send_signal(signal.SIGCONT)
    assert (status, text) == (503, "the supervisor does not answer\n")
    assert took_s < 3
    assert program.get("/healthz") == (200, "text/plain", "healthy\n")


def test_question_that_never_got_an_answer_does_not_cost_the_next_one() -> None:
    """A defect in one page must not make every later page a 503."""
    with parent("failing once") as own:
        assert own.get("/metrics")[0] == 503
        assert own.get("/healthz") == (200, "text/plain", "healthy\n")
        assert own.get("/readyz")[2] == "ready: False\n"


def _is_taken(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S).close()
    except ConnectionError:
        return False
    return True


def test_it_dies_with_its_parent() -> None:
    """SIGKILL gives the parent no chance to end it; the port is free afterwards."""
    with parent() as own:
        assert own.get("/healthz")[0] == 200
        pids, port = [own.http_pid(), own.zygote_pid], int(own.address.rpartition(":")[2])
        own.process.kill()
        wait_until_gone(pids)
        until = time.monotonic() + DEADLINE_S
        while _is_taken(port):  # its last thread may end a moment after the process is gone
            assert time.monotonic() < until


def test_close_ends_it_at_once() -> None:
    """In order: the parent leaves with 0 and its http process is gone before it, also right after the start."""
    with parent() as own:
        zygote_pid = own.zygote_pid
        below = find_descendants(zygote_pid)
        began = time.monotonic()
    assert own.process.returncode == 0
    assert time.monotonic() - began < 3
    assert [pid for pid in (zygote_pid, *below) if Path(f"/proc/{pid}").exists()] == []


def test_one_that_is_killed_has_a_successor_on_the_same_address() -> None:
    """Who connects between the two waits, and is served; so it goes as often as it happens."""
    with parent() as own:
        pid = own.http_pid()
        for _ in range(3):
            assert own.get("/healthz")[0] == 200
            os.kill(pid, signal.SIGKILL)
            wait_until_gone([pid])
            assert own.get("/healthz") == (200, "text/plain", "healthy\n")
            pid = own.http_pid(other_than=pid)
        said = own.hear(lambda line: "gone" in line)
        assert said["is_there"] is False
        assert "no request is answered until the next is there" in said["gone"]


def test_one_that_goes_on_after_its_channel_is_broken_is_ended() -> None:
    """It could be anything that took it over: stopped here, so that it cannot end by itself."""
    with parent() as own:
        assert own.get("/healthz")[0] == 200
        pid = own.http_pid()
        os.kill(pid, signal.SIGSTOP)
        own.process.send_signal(signal.SIGUSR1)  # its parent breaks the channel
        wait_until_gone([pid])
        assert own.get("/healthz")[0] == 200
        assert own.http_pid(other_than=pid) != pid


def test_without_its_zygote_it_is_gone_for_good_and_that_is_said() -> None:
    """What is forked of the supervisor now would have the key in it."""
    with parent() as own:
        pid = own.http_pid()
        os.kill(own.zygote_pid, signal.SIGKILL)
        wait_until_gone([pid])
        assert "restart runnerd" in own.hear(lambda line: "restart" in str(line.get("gone")))["gone"]


def test_what_does_not_finish_is_hung_up_on() -> None:
    """A head, or a body, that comes byte by byte holds a connection no longer than its deadline; others are served."""
    with parent("hasty") as own:
        host, port = own.address.removeprefix("http://").split(":")
        body = b"POST /v1/plugins/a/calls HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Length: 9\r\n\r\n{"
        for part in (b"", b"GET /healthz HTTP/1.1\r\nHost:", body):
            with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as slow:
                slow.sendall(part)
                assert own.get("/healthz")[0] == 200
                answer = b""
                try:
                    while data := slow.recv(4096):
                        answer += data
                except ConnectionResetError:
                    pass
            assert (b" 408 " in answer) is (part is body), answer


def test_a_second_head_on_a_connection_has_a_deadline_too() -> None:
    """After an answer the keep-alive timer runs; a first byte must not switch all timers off."""
    with parent("hasty") as own:
        host, port = own.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as slow:
            slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while b"healthy" not in answer:
                answer += slow.recv(4096)
            slow.sendall(b"G")
            with suppress(ConnectionResetError):
                assert slow.recv(4096) == b""


def test_there_are_so_many_connections_and_no_more() -> None:
    """Those beyond are closed at once, and when places are free again others are taken."""
    with parent("narrow") as own:
        host, port = own.address.removeprefix("http://").split(":")
        assert own.get("/healthz")[0] == 200
        held = [socket.create_connection((host, int(port)), timeout=DEADLINE_S) for _ in range(30)]
        closed = 0
        for connection in held:
            connection.settimeout(0.05)
            try:
                closed += connection.recv(1) == b""
            except ConnectionResetError:
                closed += 1
            except TimeoutError:
                pass
        for connection in held:
            connection.close()
        assert closed >= 10
        until = time.monotonic() + DEADLINE_S
        while True:
            try:
                assert own.get("/healthz")[0] == 200
                break
            except OSError:
                assert time.monotonic() < until


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # a TLS hello
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        b"POST /v1/plugins/a/calls HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST /v1/plugins/a/calls HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/plugins/a/calls HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        bytes(range(256)) * 300,
    ],
)
def test_what_is_not_http_is_refused_and_harms_nobody(program: Parent, data: bytes) -> None:
    """400, or hung up on; and the next one is served."""
    host, port = program.address.removeprefix("http://").split(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as hostile:
        try:
            hostile.sendall(data)
            hostile.shutdown(socket.SHUT_WR)
            while chunk := hostile.recv(4096):
                answer += chunk
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401", b"HTTP/1.1 404")), answer[:100]
    assert program.get("/etc/passwd")[0] == 404


def test_with_a_certificate_all_is_served_over_tls_alone(tmp_path: Path) -> None:
    """Who trusts it is served; who speaks plainly is not. The confined process needs no file for a handshake."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(["openssl", "req", "-x509", *curve, *files, *subject], check=True, capture_output=True)
    with parent(str(tmp_path)) as own:
        assert own.address.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        for _ in range(3):
            with urllib.request.urlopen(f"{own.address}/healthz", timeout=DEADLINE_S, context=trusting) as response:
                assert response.read() == b"healthy\n"
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(f"{own.address}/healthz", timeout=DEADLINE_S)
        with pytest.raises((OSError, http.client.HTTPException)):
            urllib.request.urlopen(own.address.replace("https", "http") + "/healthz", timeout=DEADLINE_S)


def test_address_in_use_is_an_error_that_names_it() -> None:
    """Host, port, and what the kernel says; nothing was forked."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with parent(port=port) as own:
            said = own.hear(lambda line: "http_error" in line)
    assert said["http_error"].startswith(f"cannot listen on 127.0.0.1:{port}: Address already in use")


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
