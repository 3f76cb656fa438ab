"""Webhooks while things die: a request that is sent again is never a second call, and no promised one is lost."""

import http.client
import json
import os
import signal
import sys
import time
import urllib.error
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.test_webhooks import CALLS, WEBHOOK, Answer, create_key, do, send
from tests.support.crash_page import create_page, open_page
from tests.support.leaks import find_descendants
from tests.support.scene import Scene, Stage, free_port, puppet, wait_for

pytestmark = pytest.mark.faults

POINTS = ("call.storing", "store.committing", "store.committed", "call.stored")
LOST = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


def try_send(scene: Scene, key: str, idempotency_key: str, address: str) -> Answer | None:
    """The answer, or None when there was none: then nobody knows what became of the request."""
    try:
        return send(
            scene, "POST", CALLS, key, do(do="noop"), timeout_s=20, address=address, Idempotency_Key=idempotency_key
        )
    except LOST:
        return None


@pytest.mark.parametrize("point", POINTS)
def test_a_supervisor_killed_between_accept_and_answer_makes_one_call(stage: Stage, tmp_path: Path, point: str) -> None:
    """At each step: before the commit nothing stands, after it the call does; the retry has its id either way."""
    page_path = tmp_path / "page"
    create_page(page_path)
    command = [sys.executable, "-m", "tests.support.crashing_daemon", "--page", str(page_path)]
    port = free_port()
    with stage.scene({"puppet": puppet(triggers=WEBHOOK)}, command=command, http={"port": port}) as scene:
        key = create_key(scene, "tester", "puppet")
        address = f"http://127.0.0.1:{port}"
        with open_page(page_path) as page:
            page.arm(point, 1)
            answer = try_send(scene, key, "once", address)
            assert answer is None or answer.status == 503  # whichever the http process had time for
            scene.daemon.process.wait(20)
            assert page.killed_at == point
        before = scene.rows("select id from job_calls where identity = 'webhook tester key once'")
        assert len(before) == (1 if point in ("store.committed", "call.stored") else 0)
        scene.start("puppet")
        again = send(scene, "POST", f"{CALLS}?wait=30", key, do(do="noop"), Idempotency_Key="once")
        assert (again.status, again.json["outcome"], again.json["is_new"]) == (200, "noop", not before)
        (row,) = scene.rows("select id from job_calls where identity = 'webhook tester key once'")
        assert again.json["id"] == row["id"]
        assert before in ([], [row])


def test_requests_through_repeated_kills_are_each_one_call(stage: Stage) -> None:
    """Every client sends until it has an id: then each of its keys has one row, with that id and an outcome."""
    port = free_port()
    plugins = {"puppet": puppet(triggers=WEBHOOK, max_calls_per_s=10_000)}
    with stage.scene(plugins, http={"port": port, "requests_per_s": 10_000}) as scene:
        key = create_key(scene, "tester", "puppet")
        address = f"http://127.0.0.1:{port}"

        def insist(number: int) -> tuple[str, set[int]]:
            """At least three good answers, however often it takes."""
            ids: list[int] = []
            until = time.monotonic() + 120
            while len(ids) < 3 and time.monotonic() < until:
                answer = try_send(scene, key, f"k{number}", address)
                if answer is not None and answer.status in (200, 202):
                    ids.append(answer.json["id"])
                else:
                    time.sleep(0.02)  # as a client would, before it tries again
            return f"k{number}", set(ids)

        with ThreadPoolExecutor(8) as pool:
            work = [pool.submit(insist, number) for number in range(120)]
            for kill in range(1, 4):
                wait_for(lambda kill=kill: sum(each.done() for each in work) >= 25 * kill, "some are done", 60)  # type: ignore[misc]
                scene.kill()
                scene.start("puppet")
            got = dict(each.result(120) for each in work)
        assert {len(ids) for ids in got.values()} == {1}
        rows = scene.rows("select id, identity from job_calls where trigger = 'webhook'")
        assert max(Counter(row["identity"] for row in rows).values()) == 1
        assert {row["identity"].rpartition(" ")[2]: {row["id"]} for row in rows} == got
        wait_for(
            lambda: not scene.rows("select 1 from job_calls where state <> 'done'"), "every one has its outcome", 60
        )


def test_the_http_process_killed_leaves_the_daemon_at_work_and_is_there_again(stage: Stage) -> None:
    """What was accepted is decided; callers are served by the next one, and the operator sees that there was one."""
    with stage.scene({"puppet": puppet(triggers=WEBHOOK)}) as scene:
        key = create_key(scene, "tester", "puppet")
        accepted = send(scene, "POST", CALLS, key, do(do="wait", seconds=0.5)).json["id"]
        (pid,) = [p for p, name in find_descendants(scene.daemon.process.pid).items() if name == "runnerd: http"]
        os.kill(pid, signal.SIGKILL)
        assert send(scene, "GET", f"/v1/calls/{accepted}?wait=30", key).json["outcome"] == "noop"
        assert scene.fire("puppet", do="noop").outcome == "noop"
        (service,) = [each for each in scene.daemon.status().services if each.name == "http"]
        assert (service.state, service.restarts) == ("running", 1)
        assert [(record["level"], record["service"]) for record in scene.log("service_failed")] == [("error", "http")]


def test_a_ledger_that_is_away_is_503_and_the_retry_is_one_call(stage: Stage) -> None:
    """Nobody waits without an end, and nobody is told an id that is not durable."""
    with stage.scene({"puppet": puppet(triggers=WEBHOOK)}, has_dsn=False) as scene:
        key = create_key(scene, "tester", "puppet")
        address = str(scene.daemon.status().http)
        postmaster = scene.postmaster()
        assert postmaster is not None
        os.kill(postmaster, signal.SIGSTOP)
        stopped = [postmaster, *find_descendants(postmaster)]
        for pid in stopped[1:]:
            os.kill(pid, signal.SIGSTOP)
        try:
            answer = try_send(scene, key, "once", address)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        assert answer is not None
        assert (answer.status, json.loads(answer.body)["type"]) == (503, "urn:runnerd:problem:unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        wait_for(lambda: scene.daemon.status().database == "connected", "the ledger is back")
        again = wait_for(
            lambda: (found := try_send(scene, key, "once", address)) and found.status in (200, 202) and found, "an id"
        )
        assert isinstance(again, Answer)
        (row,) = scene.rows("select id from job_calls where identity = 'webhook tester key once'")
        assert again.json["id"] == row["id"]
