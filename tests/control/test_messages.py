"""Every request and reply survives the wire, and what is none of them is refused with a text."""

from datetime import UTC, datetime
from typing import get_args

import msgspec
import pytest

from protocol.limits import MAX_PAYLOAD_LENGTH
from runnerd.control import (
    chain_messages,
    consumer_messages,
    key_messages,
    messages,
    outbox_messages,
    record_messages,
    safe_messages,
    service_messages,
    status_messages,
)
from runnerd.control.dry_run_messages import DryRun, LimitView
from runnerd.control.messages import ControlError, Reply, Request, decode_reply, decode_request, encode
from runnerd.control.place_messages import VaultStatus
from runnerd.control.producer_messages import ProducerStatus
from runnerd.control.status_messages import ChainStatus

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
WEI = (1 << 256) - 1

REQUESTS: list[Request] = [
    status_messages.GetStatus(),
    messages.Fire(plugin="alpha", payload='{"a": "é\\n"}', key="k", wait_s=1.5),
    record_messages.GetRuns(plugin="alpha", limit=1_000, only_decided=True),
    record_messages.GetTransactions(limit=1),
    record_messages.GetHistory(plugin="alpha", limit=5),
    messages.Pause(scope="vault", name="main"),
    messages.Reduce(scope="plugin", name="alpha"),
    messages.Resume(scope="all", name="*"),
    messages.Restart(plugin="alpha"),
    service_messages.Drain(transactions_s=3.5, is_hurried=True),
    safe_messages.GetProposals(),
    safe_messages.SignProposal(call_id=1, signature="0x" + "ab" * 65),
    safe_messages.RejectProposal(call_id=1),
    chain_messages.Adopt(hash="0x" + "aB" * 32),
    chain_messages.Cancel(call_id=(1 << 63) - 1),
    chain_messages.GetFees(chain="local"),
    chain_messages.TurnFees(
        chain="local", max_fee_per_gas_wei=WEI, min_priority_fee_wei=0, replace_after_blocks=1, is_reset=True
    ),
    outbox_messages.GetOutbox(),
    key_messages.CreateKey(name="shop", plugins=["alpha"], is_signing=True, expires_in_s=60),
    key_messages.GetKeys(),
    key_messages.RevokeKey(name="shop"),
    consumer_messages.GetConsumers(),
    consumer_messages.GetDeadLetters(consumer="hook", limit=1_000),
    consumer_messages.RetryDeadLetters(consumer="hook", call_ids=[1, (1 << 63) - 1]),
    consumer_messages.DropDeadLetters(consumer="hook"),
    consumer_messages.ForgetConsumer(consumer="hook"),
]
KEY = key_messages.KeyStatus(
    name="shop", kind="bearer", plugins=["alpha"], state="revoked", created_at=AT, created_by="uid:0", expires_at=None,
    revoked_at=AT, revoked_by="uid:1",
)  # fmt: skip
PLUGIN = status_messages.PluginStatus(
    name="alpha", vault="main", state="ready", reason="", generation=2, pid=7, memory_bytes=None, since=AT, paused=None,
    waiting=1, deciding=0, restarts=1, layers=["seccomp"], missing_layers=["landlock"], triggers=["cron * * * * *"],
    next_fire=AT, last_outcome="noop", last_reason="calm", last_at=None,
)  # fmt: skip
CONSUMER = consumer_messages.ConsumerStatus(
    name="hook", kind="webhook", waiting=1, dead=2, moved_at=AT, trouble="answered 500"
)
STATUS = status_messages.Status(
    version="0.1", pid=1, health="degraded", problems=["no head"], started_at=AT, now=AT, database="up", http=None,
    zygote_pid=2, loop_lag_ms=0.25, plugins=[PLUGIN], open_intents={"sent": 1},
    consumers=[CONSUMER],
    producers=[ProducerStatus(name="outbox", state="running", reason="", progress="last event 7")],
    chains=[
        ChainStatus(name="local", chain_id=31_337, node="http://localhost", head=None, problem="silent"),
        ChainStatus(
            name="two", chain_id=1, node="http://a", head=7, problem=None, quorum=2, knobs={"max_fee_per_gas_wei": WEI},
            nodes=[chain_messages.NodeStatus(name="http://a", head=None, state="out", reason="lags")],
        ),
    ],
    vaults=[
        VaultStatus(
            name="main", address="0x01", chain="local", operator="0x02", paused=None, problem=None,
            spent_today_wei=WEI, max_value_wei_per_day=WEI, waiting_intents=0,
        ),
    ],
)  # fmt: skip
RUN = record_messages.Run(
    id=1, plugin="alpha", trigger="event", principal="uid:0", topic="flow", payload="{}", due_at=AT, fired_at=AT,
    finished_at=None, state="open", outcome=None, reason=None, attempts=0, generation=None, decide_ms=0.5,
    decision='{"type": "noop"}', vault="main", intent_state="sent", nonce=0, transaction="0x03",
)  # fmt: skip
TRANSACTION = record_messages.Transaction(
    hash="0x03", call_id=1, plugin="alpha", vault="main", state="sent", nonce=0, chain_id=1, wallet="0x02",
    target="0x01", value_wei=WEI, max_fee_per_gas_wei=WEI, max_priority_fee_wei=1, gas_limit=21_000, signed_at=AT,
    accepted_at=AT, included_block=None, is_success=True, gas_used=None, effective_gas_price_wei=None, error=None,
)  # fmt: skip
PROPOSAL = safe_messages.Proposal(
    call_id=1, plugin="alpha", vault="main", chain_id=1, safe="0x01", state="waiting", deadline_at=AT, operator="0x02",
    threshold=None, owners=["0x02"], signed_by=[], safe_nonce=None, safe_tx_hash=None, to="0x03", value_wei=WEI,
    data="0x", operation=0,
)  # fmt: skip
REPLIES: list[Reply] = [
    STATUS,
    messages.Fired(call_id=1, is_new=False, outcome="acted", reason="", transaction="0x03"),
    messages.Fired(call_id=1, is_new=True, fell_back_to="catcher/catch"),
    DryRun(
        call_id=2,
        outcome="would act",
        reason="it succeeds",
        decision='{"kind":"noop"}',
        state_writes=["a"],
        to="0x01",
        calldata="0x02",
        value_wei=1 << 200,
        block=7,
        gas_limit=21_000,
        max_fee_per_gas_wei=2,
        max_priority_fee_per_gas_wei=1,
        limits=[LimitView(key="k", of="vault v", asked=1, used=2, limit=1 << 255)],
    ),
    record_messages.Runs(runs=[RUN]),
    record_messages.Transactions(transactions=[TRANSACTION]),
    record_messages.History(
        plugin="alpha", events=[record_messages.HistoryEvent(at=AT, generation=1, kind="exited", detail="code 1")]
    ),
    safe_messages.Proposals(proposals=[PROPOSAL]),
    chain_messages.Fees(
        chain="local",
        knobs=[
            chain_messages.KnobStatus(name="x", value=WEI, configured=0, turned_by="uid:0", turned_at=AT),
            chain_messages.KnobStatus(name="y", value=1, configured=1),
        ],
    ),
    outbox_messages.Outbox(
        now=AT,
        trouble="away",
        followers=[
            outbox_messages.FollowerStatus(
                plugin="a", topic="two words", position=7, events=1, since=AT, waits_for="x"
            ),
            outbox_messages.FollowerStatus(plugin="b", topic="flow", position=None, events=None, since=None),
        ],
    ),
    key_messages.Keys(keys=[KEY]),
    consumer_messages.Consumers(now=AT, consumers=[CONSUMER]),
    consumer_messages.DeadLetters(
        letters=[
            consumer_messages.DeadLetter(
                consumer="hook",
                call_id=1,
                plugin="alpha",
                outcome="acted",
                attempts=12,
                reason="no",
                at=AT,
                is_wanted=True,
            )
        ]
    ),
    key_messages.KeyCreated(key=KEY, secret="rk1.shop.x"),
    key_messages.KeyCreated(key=KEY, secret="rk1.shop.x", without_webhook=["drift"]),
    messages.Done(text="paused"),
    messages.Failure(reason="no such plugin"),
    messages.Failure(reason="the database is not reachable", is_pending=True),
]

BAD_REPLIES = [b"\xff\n", b"[" * 100_000, b"{}\n", b'{"type": "status"}\n']


def _name(message: object) -> str:
    return type(message).__name__


@pytest.mark.parametrize("request_", REQUESTS, ids=_name)
def test_request_survives_the_wire_as_one_line(request_: Request) -> None:
    """With every field, also a line break in a payload."""
    line = encode(request_)
    assert line.index(b"\n") == len(line) - 1
    assert decode_request(line) == request_


@pytest.mark.parametrize("reply", REPLIES, ids=_name)
def test_reply_survives_the_wire_as_one_line(reply: Reply) -> None:
    """With every field, also a uint256."""
    line = encode(reply)
    assert line.index(b"\n") == len(line) - 1
    assert decode_reply(line) == reply


def test_the_samples_cover_every_type() -> None:
    """A new message without a sample here fails this test."""
    assert {type(request) for request in REQUESTS} == set(get_args(Request))
    assert {type(reply) for reply in REPLIES} == set(get_args(Reply))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"\xff\xfe\n",
        b"[" * 100_000,
        b"{}\n",
        b'{"type": "reboot"}\n',
        b'{"type": "restart"}\n',
        b'{"type": "status", "verbose": true}\n',
        b'{"type": "runs", "limit": 0}\n',
        b'{"type": "runs", "limit": 1001}\n',
        b'{"type": "fire", "plugin": "alpha", "key": ""}\n',
        b'{"type": "fire", "plugin": "alpha", "wait_s": -1}\n',
        b'{"type": "done", "text": "a reply"}\n',
        b'{"type": "adopt", "hash": "0x12"}\n',
        b'{"type": "cancel", "call_id": 0}\n',
        b'{"type": "cancel", "call_id": 9223372036854775808}\n',
    ],
    ids=lambda line: repr(line[:50]),
)
def test_what_is_no_request_is_refused(line: bytes) -> None:
    """Garbage, an unknown type or field, a value out of bounds: always ControlError, nothing else."""
    with pytest.raises(ControlError, match="not a request that this runnerd knows"):
        decode_request(line)


@pytest.mark.parametrize("line", BAD_REPLIES, ids=lambda v: repr(v[:20]))
def test_what_is_no_reply_is_refused(line: bytes) -> None:
    """The text names the likely cause: two releases."""
    with pytest.raises(ControlError, match="are both of one release"):
        decode_reply(line)


def test_payload_has_the_length_limit_of_the_protocol() -> None:
    """A longer one could never reach a worker; the longest fits a line of the socket."""
    longest = messages.Fire(plugin="alpha", payload="x" * MAX_PAYLOAD_LENGTH)
    line = encode(longest)
    assert len(line) < messages.MAX_LINE_BYTES
    assert decode_request(line) == longest
    with pytest.raises(ControlError, match=r"payload"):
        decode_request(encode(msgspec.structs.replace(longest, payload=longest.payload + "x")))
