"""Webhooks through the real daemon: from a POST over the keyless process into the ledger, to a worker, and back."""

import hmac
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from runnerd.control.key_messages import CreateKey, GetKeys, KeyCreated, Keys, RevokeKey
from runnerd.control.messages import ControlError
from tests.support.leaks import find_descendants
from tests.support.scene import Scene, Stage, puppet, wait_for

pytestmark = pytest.mark.integration

WEBHOOK = [{"kind": "webhook"}]
CALLS = "/v1/plugins/puppet/calls"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body."""
        found: dict[str, Any] = json.loads(self.body)
        return found


def send(
    scene: Scene,
    method: str,
    path: str,
    key: str | None = None,
    body: str | bytes | None = None,
    timeout_s: float = 70,
    address: str | None = None,
    **headers: str,
) -> Answer:
    """One request; names of headers with _ for -."""
    address = address or scene.daemon.status().http
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        given["Authorization"] = f"Bearer {key}"
    if body is not None:
        given.setdefault("Content-Type", "application/json")
    data = body.encode() if isinstance(body, str) else body
    request = urllib.request.Request(f"{address}{path}", data=data, method=method, headers=given)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def create_key(scene: Scene, name: str, *plugins: str, **options: Any) -> str:
    """The secret of a new key."""
    created = scene.daemon.ask(CreateKey(name=name, plugins=list(plugins), **options))
    assert isinstance(created, KeyCreated)
    return created.secret


def sign(secret: str, name: str, at: int, path: str, body: str, idempotency_key: str = "") -> dict[str, str]:
    """The header that docs/operations.md describes, written here a second time."""
    content = f"{at}\nPOST\n{path}\ndecide\n{idempotency_key}\n{body}".encode()
    digest = hmac.new(sha256(secret.encode()).digest(), content, sha256).hexdigest()
    return {"X_Runnerd_Signature": f"key={name},t={at},v1={digest}"}


def send_signed(scene: Scene, body: str, headers: dict[str, str]) -> Answer:
    """A POST with a signature in place of a key."""
    return send(scene, "POST", CALLS, None, body, 70, None, **headers)


@pytest.fixture(scope="module")
def hooked(stage: Stage) -> Iterator[Scene]:
    """A daemon with a plugin that takes webhooks, one that does not, and one that is slow to take more."""
    plugins = {
        "puppet": puppet(triggers=WEBHOOK),
        "deaf": puppet(triggers=[]),
        "narrow": puppet(triggers=WEBHOOK, queue=1, parallel=1, max_calls_per_s=1_000),
    }
    with stage.scene(plugins, http={"requests_per_s": 10_000}) as scene:
        scene.daemon.wait_ready("puppet", "deaf", "narrow")
        yield scene


@pytest.fixture(scope="module")
def key(hooked: Scene) -> str:
    """A key for all three."""
    return create_key(hooked, "tester", "puppet", "deaf", "narrow")


def do(**instruction: object) -> str:
    """A payload for the puppet."""
    return json.dumps(instruction)


# --- the way of a call -----------------------------------------------------------------------------------------------


def test_a_post_is_a_durable_call_of_the_keys_principal(hooked: Scene, key: str) -> None:
    """202 with its id; the ledger has it, with who asked, and the plugin sees the very body."""
    payload = do(do="show_context", put={"from": "webhook"})
    answer = send(hooked, "POST", CALLS, key, payload)
    assert answer.status in (200, 202)
    assert answer.json["is_new"] is True
    call_id = answer.json["id"]
    assert answer.headers["Location"] == f"/v1/calls/{call_id}"
    (row,) = hooked.rows("select * from job_calls where id = %s", call_id)
    asked = (row["trigger"], row["principal"], row["source"], row["payload"])
    assert asked == ("webhook", "key:tester", "webhook", payload)
    seen = send(hooked, "GET", f"/v1/calls/{call_id}?wait=30", key)
    assert (seen.status, seen.json["state"], seen.json["outcome"]) == (200, "done", "noop")
    assert hooked.state("puppet", "context")["call"]["payload"] == payload


def test_waiting_returns_the_outcome_in_one_request(hooked: Scene, key: str) -> None:
    """200 with what came of it; and 202 when it does not come in time."""
    answer = send(hooked, "POST", f"{CALLS}?wait=30", key, do(do="noop", reason="heard you"))
    assert (answer.status, answer.json["outcome"], answer.json["reason"]) == (200, "noop", "heard you")
    late = send(hooked, "POST", f"{CALLS}?wait=0.1", key, do(do="wait", until="late-one"))
    assert (late.status, late.json["outcome"]) == (202, None)
    send(hooked, "POST", f"{CALLS}?wait=30", key, do(do="noop", put={"late-one": 1}))
    assert send(hooked, "GET", f"/v1/calls/{late.json['id']}?wait=30", key).json["outcome"] == "noop"


def test_an_effect_on_chain_is_told_with_its_transaction(hooked: Scene, key: str) -> None:
    """From HTTP to the vault and back."""
    action = ("mint_binary", {"strike": 200_000, "above": True}, 10**15)
    answer = send(hooked, "POST", f"{CALLS}?wait=30", key, do(do="act", actions=[action]))
    assert (answer.status, answer.json["outcome"]) == (200, "acted")
    (effect,) = hooked.effects_of(answer.json["id"])
    assert effect.transaction == answer.json["transaction"]


# --- one call for one key --------------------------------------------------------------------------------------------


def test_the_same_idempotency_key_is_the_same_call(hooked: Scene, key: str) -> None:
    """However often, and all at once; a different body is refused and makes nothing."""
    body = do(do="noop", reason="once")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: send(hooked, "POST", CALLS, key, body, Idempotency_Key="same"), range(32)))
    assert {answer.status for answer in answers} <= {200, 202}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert sum(answer.json["is_new"] for answer in answers) == 1
    other = send(hooked, "POST", CALLS, key, do(do="noop", reason="twice"), Idempotency_Key="same")
    assert (other.status, other.json["type"]) == (422, "urn:runnerd:problem:idempotency-key-reused")
    job = send(hooked, "POST", f"{CALLS}?job=settle", key, body, Idempotency_Key="same")
    assert job.status == 422
    job = send(hooked, "POST", f"{CALLS}?job=settle", key, body, Idempotency_Key="for-settle")
    assert job.status == 404  # this plugin takes no such job
    assert len(hooked.rows("select 1 from job_calls where identity = 'webhook tester key same'")) == 1


def test_without_an_idempotency_key_each_request_is_a_call(hooked: Scene, key: str) -> None:
    """Control of the one above."""
    one, other = (send(hooked, "POST", CALLS, key, do(do="noop")) for _ in range(2))
    assert one.json["id"] != other.json["id"]


def test_keys_do_not_meet_in_an_idempotency_key(hooked: Scene, key: str) -> None:
    """What another holder chose is nobody's to find out, and nobody's to take."""
    rival = create_key(hooked, "rival", "puppet")
    one = send(hooked, "POST", CALLS, key, do(do="noop"), Idempotency_Key="shared")
    other = send(hooked, "POST", CALLS, rival, do(do="noop", reason="mine"), Idempotency_Key="shared")
    assert other.status in (200, 202)
    assert one.json["id"] != other.json["id"]


def test_a_signed_request_that_is_sent_again_is_the_same_call(hooked: Scene) -> None:
    """A replay inside the window makes nothing; outside of it nobody is let in."""
    secret = create_key(hooked, "signer", "puppet", is_signing=True)
    now, body = int(time.time()), do(do="noop", reason="signed")
    header = sign(secret, "signer", now, CALLS, body)
    answers = [send_signed(hooked, body, header) for _ in range(3)]
    assert {answer.status for answer in answers} <= {200, 202}
    assert len({answer.json["id"] for answer in answers}) == 1
    (row,) = hooked.rows("select principal from job_calls where id = %s", answers[0].json["id"])
    assert row["principal"] == "key:signer"
    changed = send_signed(hooked, do(do="noop", reason="changed"), header)
    rekeyed = send_signed(hooked, body, {**header, "Idempotency_Key": "new"})
    old = send_signed(hooked, body, sign(secret, "signer", now - 400, CALLS, body))
    as_bearer = send(hooked, "POST", CALLS, secret, body)
    assert [answer.status for answer in (changed, rekeyed, old, as_bearer)] == [401] * 4


# --- who may what ----------------------------------------------------------------------------------------------------


def test_a_key_is_for_its_plugins_alone(hooked: Scene, key: str) -> None:
    """Whether another plugin exists is not told; nor is a call of one."""
    narrow = create_key(hooked, "one-plugin", "deaf")
    real, invented = (send(hooked, "POST", f"/v1/plugins/{name}/calls", narrow, "{}") for name in ("puppet", "ghost"))
    assert (real.status, real.body) == (403, invented.body)
    call_id = send(hooked, "POST", CALLS, key, do(do="noop")).json["id"]
    theirs, nobodys = (send(hooked, "GET", f"/v1/calls/{number}", narrow) for number in (call_id, 10**9))
    assert (theirs.status, nobodys.status) == (404, 404)
    assert theirs.json["detail"].replace(str(call_id), "N") == nobodys.json["detail"].replace(str(10**9), "N")
    assert send(hooked, "GET", "/v1/events?plugin=puppet", narrow).status == 403


def test_a_plugin_without_a_webhook_trigger_takes_none(hooked: Scene, key: str) -> None:
    """Its author, or the operator, has not opened it; the holder of its key is told so."""
    answer = send(hooked, "POST", "/v1/plugins/deaf/calls", key, "{}")
    assert answer.status == 404
    assert "declares no webhook trigger" in answer.json["detail"]
    assert hooked.rows("select 1 from job_calls where plugin = 'deaf'") == []


def test_a_revoked_key_is_worth_nothing_at_once_and_an_expired_one_neither(hooked: Scene) -> None:
    """Also after a restart: see below."""
    revoked, short = create_key(hooked, "leaked", "puppet"), create_key(hooked, "short", "puppet", expires_in_s=0.2)
    assert send(hooked, "POST", CALLS, revoked, do(do="noop")).status in (200, 202)
    hooked.daemon.ask(RevokeKey(name="leaked"))
    answer = send(hooked, "POST", CALLS, revoked, do(do="noop"))
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="runnerd"')
    wait_for(lambda: send(hooked, "POST", CALLS, short, do(do="noop")).status == 401, "the key expires")
    keys = hooked.daemon.ask(GetKeys())
    assert isinstance(keys, Keys)
    states = {each.name: each.state for each in keys.keys}
    assert (states["leaked"], states["short"]) == ("revoked", "expired")
    with pytest.raises(ControlError, match="used once"):
        create_key(hooked, "leaked", "puppet")


def test_no_secret_is_in_the_ledger_or_the_log(hooked: Scene, key: str) -> None:
    """Digests only; positive control: the digest is there."""
    secret = key.rpartition(".")[2]
    send(hooked, "POST", CALLS, key, do(do="noop"))
    tables = [row["name"] for row in hooked.rows("select tablename as name from pg_tables where schemaname = 'public'")]
    text = "".join(str(row) for table in tables for row in hooked.rows(f"select t::text from {table} t"))
    assert sha256(key.encode()).hexdigest() in text
    assert secret not in text
    assert secret not in hooked.daemon.log.read_text("utf-8")


def test_runnerctl_makes_lists_and_revokes_keys(hooked: Scene) -> None:
    """As an operator does it; the secret is on stdout alone, for a pipe."""
    made = _runnerctl(hooked, "keys", "create", "by-hand", "--plugin", "puppet", "--expires-in", "1h")
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip()
    assert send(hooked, "POST", CALLS, secret, do(do="noop")).status in (200, 202)
    listing = json.loads(_runnerctl(hooked, "keys", "list", "--json").stdout)
    (mine,) = [each for each in listing["keys"] if each["name"] == "by-hand"]
    assert (mine["state"], mine["plugins"], mine["kind"]) == ("valid", ["puppet"], "bearer")
    assert secret not in json.dumps(listing)
    assert "by-hand" in _runnerctl(hooked, "keys", "list").stdout
    assert _runnerctl(hooked, "keys", "revoke", "by-hand").returncode == 0
    assert send(hooked, "POST", CALLS, secret, do(do="noop")).status == 401
    unknown = _runnerctl(hooked, "keys", "create", "x", "--plugin", "pupet")
    assert unknown.returncode == 1
    assert "there is no plugin 'pupet'" in unknown.stderr
    useless = _runnerctl(hooked, "keys", "create", "useless", "--plugin", "puppet", "--plugin", "deaf")
    assert useless.returncode == 0
    assert "deaf has no webhook trigger" in useless.stderr
    assert "puppet" not in useless.stderr


def _runnerctl(scene: Scene, *arguments: str) -> "subprocess.CompletedProcess[str]":
    program = [str(Path(sys.executable).with_name("runnerctl")), "--config", str(scene.config), *arguments]
    return subprocess.run(program, check=False, capture_output=True, text=True, timeout=30)


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_a_full_queue_is_503_and_a_known_call_is_still_found(hooked: Scene, key: str) -> None:
    """With Retry-After, and nothing made; a retry of what was made before is answered all the same."""
    path = "/v1/plugins/narrow/calls"
    held = send(hooked, "POST", path, key, do(do="wait", until="go"), Idempotency_Key="held")
    wait_for(lambda: hooked.state("narrow", f"begun:{held.json['id']}"), "it is being decided")
    queued = send(hooked, "POST", path, key, do(do="noop"), Idempotency_Key="queued")
    assert queued.status == 202
    refused = send(hooked, "POST", path, key, do(do="noop"), Idempotency_Key="refused")
    assert (refused.status, refused.json["type"]) == (503, "urn:runnerd:problem:unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    again = send(hooked, "POST", path, key, do(do="noop"), Idempotency_Key="queued")
    assert (again.status, again.json["id"]) == (202, queued.json["id"])
    assert hooked.rows("select 1 from job_calls where identity = 'webhook tester key refused'") == []
    hooked.rows("insert into plugin_state (plugin, key, value) values ('narrow', 'go', '1') returning key")
    assert send(hooked, "GET", f"/v1/calls/{queued.json['id']}?wait=30", key).json["outcome"] == "noop"
    later = send(hooked, "POST", f"{path}?wait=30", key, do(do="noop"), Idempotency_Key="refused")
    assert (later.status, later.json["is_new"]) == (200, True)


def test_a_key_has_a_rate_of_its_own(stage: Stage) -> None:
    """429 with Retry-After for the one, nothing for the other; nothing of what was refused is in the ledger."""
    with stage.scene({"puppet": puppet(triggers=WEBHOOK)}, http={"requests_per_s": 2}) as scene:
        greedy, calm = create_key(scene, "greedy", "puppet"), create_key(scene, "calm", "puppet")
        answers = [send(scene, "POST", CALLS, greedy, do(do="noop")) for _ in range(20)]
        refused = [answer for answer in answers if answer.status == 429]
        taken = [answer for answer in answers if answer.status in (200, 202)]
        assert len(taken) + len(refused) == 20
        assert len(refused) >= 5
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
        assert send(scene, "POST", CALLS, calm, do(do="noop")).status in (200, 202)
        rows = scene.rows("select principal from job_calls where trigger = 'webhook'")
        assert [row["principal"] for row in rows].count("key:greedy") == len(taken)


# --- outcomes as they come -------------------------------------------------------------------------------------------


class Listener:
    """Reads server-sent events in a thread of its own."""

    def __init__(self, scene: Scene, key: str, path: str = "/v1/events", last: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}", **({"Last-Event-ID": last} if last else {})}
        self._connection = http.client.HTTPConnection(
            str(scene.daemon.status().http).removeprefix("http://"), timeout=30
        )
        self._connection.request("GET", path, headers=headers)
        self._socket = self._connection.sock
        self._response = self._connection.getresponse()
        assert self._response.status == 200
        self.events: list[dict[str, str]] = []
        self.is_open = threading.Event()
        self.is_ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self.is_open.wait(10)

    def _read(self) -> None:
        event: dict[str, str] = {}
        try:
            for line in self._response:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    event[name] = value
                    continue
                self.is_open.set()
                if event:
                    self.events.append(event)
                event = {}
        except (OSError, http.client.HTTPException):
            pass  # hung up
        self.is_ended.set()

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        """The calls that it was told of."""
        return [json.loads(event["data"]) for event in self.events if event.get("event") == "outcome"]

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):  # the other side was first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._response.close()
        self._connection.close()


def test_a_listener_hears_every_outcome_once_and_in_order_and_goes_on_where_it_was(hooked: Scene, key: str) -> None:
    """Of the plugins that its key is for; `Last-Event-ID` brings what was missed, twice of nothing."""
    listener = Listener(hooked, key)
    first = [send(hooked, "POST", f"{CALLS}?wait=30", key, do(do="noop")).json["id"] for _ in range(5)]
    wait_for(lambda: set(first) <= {call["id"] for call in listener.outcomes}, "all five")
    listener.close()
    ids = [event["id"] for event in listener.events if event.get("event") == "outcome"]
    missed = [send(hooked, "POST", f"{CALLS}?wait=30", key, do(do="noop")).json["id"] for _ in range(5)]
    fired = hooked.fire("deaf", do="noop").call_id
    back = Listener(hooked, key, last=ids[-1])
    wait_for(lambda: fired in {call["id"] for call in back.outcomes}, "what was missed")
    heard = [call["id"] for call in listener.outcomes] + [call["id"] for call in back.outcomes]
    assert len(heard) == len(set(heard))
    assert [number for number in heard if number in {*first, *missed}] == [*first, *missed]
    back.close()


def test_a_listener_whose_key_is_revoked_hears_nothing_more(hooked: Scene, key: str) -> None:
    """Its stream ends with the reason."""
    secret = create_key(hooked, "eavesdropper", "puppet")
    listener = Listener(hooked, secret)
    hooked.daemon.ask(RevokeKey(name="eavesdropper"))
    answer = send(hooked, "POST", f"{CALLS}?wait=30", key, do(do="noop"))  # wakes it, if it still waits
    assert listener.is_ended.wait(30)
    heard = [call["id"] for call in listener.outcomes]
    # The look that was under way may still have brought this one; the stream is over with the next.
    assert set(heard) <= {answer.json["id"]}
    assert listener.events[-1]["event"] == "end"
    listener.close()


def test_keys_and_positions_outlast_a_restart(stage: Stage) -> None:
    """A valid key goes on, a revoked one stays revoked; a listener goes on where it was, and has missed nothing."""
    with stage.scene({"puppet": puppet(triggers=WEBHOOK)}) as scene:
        key, gone = create_key(scene, "tester", "puppet"), create_key(scene, "gone", "puppet")
        scene.daemon.ask(RevokeKey(name="gone"))
        first = send(scene, "POST", f"{CALLS}?wait=30", key, do(do="noop"), Idempotency_Key="one").json["id"]
        listener = Listener(scene, key, last="0")
        wait_for(lambda: [call["id"] for call in listener.outcomes] == [first], "it hears of the first, from the start")
        last = [event["id"] for event in listener.events if "id" in event][-1]
        assert scene.stop() == 0
        assert listener.is_ended.wait(10)
        assert listener.events[-1]["event"] == "end"
        listener.close()
        scene.start("puppet")
        assert send(scene, "POST", CALLS, gone, do(do="noop")).status == 401
        again = send(scene, "POST", CALLS, key, do(do="noop"), Idempotency_Key="one")
        assert (again.status, again.json["id"], again.json["is_new"]) == (200, first, False)
        second = send(scene, "POST", f"{CALLS}?wait=30", key, do(do="noop")).json["id"]
        back = Listener(scene, key, last=last)
        wait_for(lambda: [call["id"] for call in back.outcomes] == [second], "only what it has not heard")
        back.close()


def test_a_call_that_is_waited_for_while_runnerd_stops_is_answered(stage: Stage) -> None:
    """With its outcome if it ends within the drain, and in any case with what to do."""
    with stage.scene({"puppet": puppet(triggers=WEBHOOK)}) as scene:
        key = create_key(scene, "tester", "puppet")
        with ThreadPoolExecutor(2) as pool:
            path = f"{CALLS}?wait=30"
            waiting = pool.submit(send, scene, "POST", path, key, do(do="wait", seconds=1), Idempotency_Key="slow")
            row = wait_for(lambda: scene.rows("select id from job_calls where trigger = 'webhook'"), "it stands")[0]
            wait_for(lambda: scene.state("puppet", f"begun:{row['id']}"), "it is being decided")
            address = str(scene.daemon.status().http)
            stopping = pool.submit(scene.stop)
            wait_for(lambda: scene.log("stopping"), "it is stopping")
            refused = send(scene, "POST", CALLS, key, do(do="noop"), 20, address, Idempotency_Key="late")
            answer = waiting.result(40)
            assert stopping.result(40) == 0
        assert (refused.status, refused.json["type"]) == (503, "urn:runnerd:problem:unavailable")
        assert int(refused.headers["Retry-After"]) > 0
        assert (answer.status, answer.json.get("outcome")) == (200, "noop"), answer


# --- status and the daemon -------------------------------------------------------------------------------------------


def test_status_shows_the_producer_and_the_trigger(hooked: Scene) -> None:
    """An operator sees who takes webhooks."""
    status = hooked.daemon.status()
    (producer,) = [each for each in status.producers if each.name == "webhook"]
    assert (producer.state, producer.reason) == ("running", "")
    assert producer.progress.startswith("2 plugins")
    assert hooked.plugin("puppet").triggers == ["webhook"]


def test_the_pages_are_still_there(hooked: Scene) -> None:
    """One http stack for all of it."""
    assert send(hooked, "GET", "/healthz").body == b"healthy\n"
    metrics = send(hooked, "GET", "/metrics").body.decode()
    assert 'runnerd_calls_total{plugin="puppet",trigger="webhook"}' in metrics
    assert send(hooked, "GET", "/v1/openapi.json").json["openapi"] == "3.1.0"


def test_the_supervisor_has_no_web_stack_in_it(hooked: Scene) -> None:
    """Nothing that parses strangers' bytes is loaded beside the key; control: the http process has the file mapped."""
    names = find_descendants(hooked.daemon.process.pid)
    assert [name for name in names.values() if name == "runnerd: http"]
    program = "import sys, runnerd.cli.daemon; print([m for m in ('starlette', 'uvicorn', 'h11') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert loaded.stdout.strip() == "[]"
