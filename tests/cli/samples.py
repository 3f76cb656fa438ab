"""Replies as a busy daemon gives them, for the tests of how they look. `HOSTILE` is what a plugin may call a reason."""

from datetime import UTC, datetime, timedelta

from runnerd.control.chain_messages import Fees, GetFees, KnobStatus, TurnFees
from runnerd.control.messages import Done, Failure, Fire, Fired, Reply, Request
from runnerd.control.place_messages import VaultStatus
from runnerd.control.record_messages import (
    GetHistory,
    GetRuns,
    GetTransactions,
    History,
    HistoryEvent,
    Run,
    Runs,
    Transaction,
    Transactions,
)
from runnerd.control.status_messages import ChainStatus, GetStatus, PluginStatus, Status

NOW = datetime(2026, 11, 21, 14, 5, 30, tzinfo=UTC)
HASH = "0x" + "4fa9c1d2" * 8
OTHER_HASH = "0x" + "e07b5533" * 8
HOSTILE = "[bold red]owned[/] \x1b[2J\x1b]0;pwned\x07 first\nsecond\r\x9b31m \u202egnp.exe [link=http://evil]x[/link]"
ALL_LAYERS = ["rlimits", "namespaces", "privileges", "landlock", "seccomp"]


def ago(seconds: float) -> datetime:
    """That long before NOW."""
    return NOW - timedelta(seconds=seconds)


def plugin(name: str, **changes: object) -> PluginStatus:
    """A plugin that is ready and had a noop, but for `changes`."""
    values: dict[str, object] = {
        "name": name,
        "vault": "main",
        "state": "ready",
        "reason": "",
        "generation": 3,
        "pid": 48213,
        "memory_bytes": 3_251_000,
        "since": ago(752),
        "paused": None,
        "waiting": 0,
        "deciding": 0,
        "restarts": 0,
        "layers": ALL_LAYERS,
        "missing_layers": [],
        "triggers": ["every 5 s"],
        "next_fire": NOW + timedelta(seconds=3),
        "last_outcome": "noop",
        "last_reason": "spread of 12 bps is inside the band of 20",
        "last_at": ago(2),
    }
    return PluginStatus(**(values | changes))  # type: ignore[arg-type]  # the values of a test


def chain(**changes: object) -> ChainStatus:
    """A chain without problems, but for `changes`."""
    values: dict[str, object] = {
        "name": "base",
        "chain_id": 8453,
        "node": "https://base.example/***",
        "head": 23_456_789,
        "problem": None,
    }
    return ChainStatus(**(values | changes))  # type: ignore[arg-type]  # the values of a test


def vault(**changes: object) -> VaultStatus:
    """A vault in operation, but for `changes`."""
    values: dict[str, object] = {
        "name": "main",
        "address": "0x5FbDB2315678afecb367f032d93F642f64180aa3",
        "chain": "base",
        "operator": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "paused": None,
        "problem": None,
        "spent_today_wei": 5 * 10**16,
        "max_value_wei_per_day": 10**18,
        "waiting_intents": 0,
    }
    return VaultStatus(**(values | changes))  # type: ignore[arg-type]  # the values of a test


def status(**changes: object) -> Status:
    """A healthy daemon, but for `changes`."""
    values: dict[str, object] = {
        "version": "0.1.0",
        "pid": 48200,
        "health": "healthy",
        "problems": [],
        "started_at": ago(3 * 3600 + 720),
        "now": NOW,
        "database": "connected",
        "http": "http://127.0.0.1:9477",
        "zygote_pid": 48202,
        "loop_lag_ms": 0.312,
        "plugins": [plugin("range-maker")],
        "chains": [chain()],
        "vaults": [vault()],
        "open_intents": {},
    }
    return Status(**(values | changes))  # type: ignore[arg-type]  # the values of a test


QUARANTINE = "crashed 5 times in 600 s, last: killed by SIGSEGV; stderr ends: Fatal Python error: Segmentation fault"

DEGRADED = status(
    health="degraded",
    problems=[
        f"plugin hostile is quarantined: {QUARANTINE}",
        "plugin flow-follower is unhealthy: KeyError: 'price'",
        "vault spare is paused by uid:1000 since 2026-11-21 14:01:00 UTC",
    ],
    plugins=[
        plugin(
            "flow-follower",
            state="unhealthy",
            reason="KeyError: 'price'",
            pid=48215,
            generation=1,
            waiting=12,
            deciding=16,
            triggers=["event trades", "every 60 s"],
            next_fire=NOW + timedelta(seconds=3_540),
            last_outcome="failed",
            last_reason="decide raised KeyError: 'price'",
            last_at=ago(0.4),
        ),
        plugin(
            "hostile",
            state="quarantined",
            reason=QUARANTINE,
            pid=None,
            memory_bytes=None,
            generation=15,
            next_fire=None,
            last_outcome="dead",
            last_reason="it ended its worker 3 times, last: killed by SIGSEGV",
            last_at=ago(200),
        ),
        plugin(
            "range-maker",
            last_outcome="acted",
            last_reason="mint_binary, mint_range included in block 23456780, 2 confirmations",
        ),
        plugin(
            "treasury-rebalancer-of-the-spare-vault",
            vault="spare",
            paused="vault spare is paused by uid:1000 since 2026-11-21 14:01:00 UTC",
            next_fire=NOW + timedelta(seconds=26 * 3600),
            last_outcome=None,
            last_reason=None,
            last_at=None,
            missing_layers=["namespaces", "seccomp_notify"],
        ),
    ],
    chains=[
        chain(),
        chain(name="local", chain_id=31337, node="http://127.0.0.1:8545", head=None, problem="no answer within 10 s"),
    ],
    vaults=[
        vault(waiting_intents=2),
        vault(
            name="spare",
            chain="local",
            paused="vault spare is paused by uid:1000 since 2026-11-21 14:01:00 UTC",
            max_value_wei_per_day=0,
            spent_today_wei=0,
        ),
    ],
    open_intents={"sent": 1, "unresolved": 1},
)


def run(call_id: int, seconds_ago: float, **changes: object) -> Run:
    """A cron call that ended as a noop, but for `changes`."""
    fired_at = ago(seconds_ago)
    values: dict[str, object] = {
        "id": call_id,
        "plugin": "range-maker",
        "trigger": "cron",
        "principal": "schedule",
        "topic": None,
        "payload": "",
        "due_at": fired_at,
        "fired_at": fired_at,
        "finished_at": fired_at + timedelta(milliseconds=9),
        "state": "done",
        "outcome": "noop",
        "reason": "spread of 12 bps is inside the band of 20",
        "attempts": 0,
        "generation": 3,
        "decide_ms": 0.84,
        "decision": '{"kind":"noop","reason":"spread of 12 bps is inside the band of 20"}',
        "vault": None,
        "intent_state": None,
        "nonce": None,
        "transaction": None,
    }
    return Run(**(values | changes))  # type: ignore[arg-type]  # the values of a test


ACTED = run(
    811,
    27,
    trigger="event",
    principal="pg:trades",
    topic="trades",
    payload='{"pool":"0x5FbDB2315678afecb367f032d93F642f64180aa3","size":125000000000000000000}',
    outcome="acted",
    reason="included in block 23456780, 2 confirmations",
    finished_at=ago(21),
    decision=(
        '{"kind":"act","actions":[{"name":"mint_binary","args":{"strike":200000,"size":5000000000000000000,"is_call":true}},'
        '{"name":"mint_range","args":{"bounds":[199950,200050],"size":5000000000000000000},"value_wei":50000000000000000}]}'
    ),
    vault="main",
    intent_state="final",
    nonce=12,
    transaction=HASH,
)
RUNS = [
    run(816, 0.2, state="decided", outcome=None, reason=None, finished_at=None, intent_state="sent", nonce=13,
        vault="main", transaction=OTHER_HASH,
        decision='{"kind":"act","actions":[{"name":"settle","args":{"id":77}}]}'),
    run(815, 2),
    run(814, 7),
    run(813, 12),
    run(812, 17, outcome="expired", reason="skipped, the plugin is unhealthy (1 more): KeyError: 'price'",
        decision=None, decide_ms=None, generation=None),
    ACTED,
    run(810, 60, trigger="manual", principal="uid:1000", outcome="denied", decision=
        '{"kind":"act","actions":[{"name":"withdraw","args":{"to":"0x5FbDB2315678afecb367f032d93F642f64180aa3"}}]}',
        reason="action 1 (withdraw) is not in the catalogue of vault main; granted: mint_binary, mint_range"),
    run(809, 90_000, outcome="dead", reason="it ended its worker 3 times, last: killed by SIGKILL", decision=None,
        decide_ms=None, generation=None, attempts=3),
]  # fmt: skip

EVENTS = [
    HistoryEvent(at=ago(24), generation=3, kind="ready", detail="generation 3 is ready"),
    HistoryEvent(
        at=ago(24.1), generation=2, kind="exited", detail="killed by SIGSEGV; stderr ends: Fatal Python error"
    ),
    HistoryEvent(at=ago(70), generation=2, kind="denied syscall", detail="connect"),
    HistoryEvent(at=ago(70.1), generation=2, kind="denied syscall", detail="socket"),
    HistoryEvent(at=ago(95_000), generation=1, kind="quarantined", detail=QUARANTINE),
]


def transaction(tx_hash: str, **changes: object) -> Transaction:
    """A final transaction, but for `changes`."""
    values: dict[str, object] = {
        "hash": tx_hash,
        "call_id": 811,
        "plugin": "range-maker",
        "vault": "main",
        "state": "final",
        "nonce": 12,
        "chain_id": 8453,
        "wallet": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "target": "0x5FbDB2315678afecb367f032d93F642f64180aa3",
        "value_wei": 5 * 10**16,
        "max_fee_per_gas_wei": 2_500_000_000,
        "max_priority_fee_wei": 1_000_000,
        "gas_limit": 412_000,
        "signed_at": ago(26),
        "accepted_at": ago(25.9),
        "included_block": 23_456_780,
        "is_success": True,
        "gas_used": 284_312,
        "effective_gas_price_wei": 1_203_000_000,
        "error": None,
    }
    return Transaction(**(values | changes))  # type: ignore[arg-type]  # the values of a test


TRANSACTIONS = [
    transaction(OTHER_HASH, call_id=816, state="sent", nonce=13, signed_at=ago(0.1), accepted_at=None, value_wei=0,
                included_block=None, is_success=None, gas_used=None, effective_gas_price_wei=None,
                error="node error -32000: replacement transaction underpriced"),
    transaction(HASH),
    transaction("0x" + "55" * 32, call_id=805, kind="noop", state="cancelled", nonce=10, signed_at=ago(400)),
    transaction("0x" + "66" * 32, call_id=805, state="cancelled", nonce=10, signed_at=ago(420), included_block=None,
                is_success=None, gas_used=None, effective_gas_price_wei=None),
    transaction("0x" + "77" * 32, state="reverted", nonce=11, is_success=False, signed_at=ago(90_000)),
]  # fmt: skip


FEES = Fees(
    chain="base",
    knobs=[
        KnobStatus(
            name="max_fee_per_gas_wei", value=80 * 10**9, configured=50 * 10**9, turned_by="uid:1000", turned_at=ago(60)
        ),
        KnobStatus(name="min_priority_fee_wei", value=10**6, configured=10**6),
        KnobStatus(name="replace_after_blocks", value=3, configured=3),
    ],
)


def answer(request: Request) -> Reply:
    """What a busy, degraded daemon answers."""
    match request:
        case GetStatus():
            return DEGRADED
        case GetRuns(plugin=name, limit=limit):
            return Runs(runs=[one for one in RUNS if name in (None, one.plugin)][:limit])
        case GetTransactions(limit=limit):
            return Transactions(transactions=TRANSACTIONS[:limit])
        case GetHistory(plugin=name):
            return History(plugin=name, events=EVENTS)
        case GetFees(chain="base") | TurnFees(chain="base"):
            return FEES
        case Fire(plugin="range-maker", wait_s=wait_s):
            if wait_s:
                return Fired(call_id=817, is_new=True, outcome="acted", reason="included in block 7", transaction=HASH)
            return Fired(call_id=817, is_new=True)
        case Fire(plugin=name):
            return Failure(reason=f"there is no plugin {name!r}; there are: range-maker")
        case _:
            return Done(text=f"done: {request}")
