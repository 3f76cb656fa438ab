"""The independent judge of a fault campaign: plain JSON-RPC over the chain from block 0, plain SQL over the tables.

Shares no code with the executor: it imports nothing of runnerd (`test_checker.py` enforces it), and knows the contracts
by the hashes of their events. `check_safety` holds at any moment, whatever is broken just now; `check_settled` holds
once faults have stopped and the daemon had time to come to rest.
"""

import hashlib
import json
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Final, TypeAlias

import psycopg
from eth_hash.auto import keccak
from psycopg.rows import dict_row

Row: TypeAlias = dict[str, Any]

EXECUTED: Final = "0x" + keccak(b"Executed(bytes32,address,uint256,uint256)").hex()
BINARY: Final = "0x" + keccak(b"BinaryMinted(uint256,address,uint256,bool,uint256)").hex()
RANGE: Final = "0x" + keccak(b"RangeMinted(uint256,address,uint256,uint256,uint256)").hex()
BLOCKS_A_BATCH: Final = 250
OUTCOMES: Final = ("acted", "noop", "denied", "failed", "expired", "dead")
ENDS: Final = ("final", "reverted", "denied", "cancelled", "expired")
SHOWN: Final = 5
MAX_TORN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is to be judged. `foreign` are hashes that the campaign itself sent with the operator's key."""

    node_url: str
    dsn: str
    operator: str
    vault: str
    market: str
    strike_limits: tuple[int, int]
    foreign: frozenset[str] = frozenset()
    accepted_keys: frozenset[str] = frozenset()
    """Idempotency keys of manual calls that the daemon confirmed."""


@dataclass(slots=True)
class Findings:
    """What is wrong, and the counts that the report prints."""

    duplicate_effects: int = 0
    lost_calls: int = 0
    stuck_nonces: int = 0
    calls: int = 0
    decisions: int = 0
    effects: int = 0
    transactions: int = 0
    attempts: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, what: str, cases: Sequence[object]) -> int:
        """Note a problem, if there are any cases of it; how many there are."""
        if cases:
            shown = "".join(f"\n    {case}" for case in cases[:SHOWN])
            self.problems.append(f"{what} ({len(cases)}):{shown}")
        return len(cases)

    def __iadd__(self, other: "Findings") -> "Findings":
        """Both of them, as one."""
        for name, own in asdict(self).items():
            if isinstance(own, int):
                setattr(self, name, own + getattr(other, name))
        self.outcomes = dict(Counter(self.outcomes) + Counter(other.outcomes))
        self.problems += other.problems
        return self


@dataclass(frozen=True, slots=True)
class _Effect:
    """One `Executed`, with the mints of the same transaction: (kind, three numbers)."""

    transaction: str
    intent_id: str
    calls: int
    mints: tuple[tuple[object, ...], ...]


@dataclass(slots=True)
class Witness:
    """What was seen of the attempts during the run: bytes under a hash never change, and no row ever vanishes."""

    raw_of: dict[str, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def look(self, dsn: str) -> None:
        """Compare the table with everything that was seen of it before."""
        with closing(_connect(dsn)) as connection:
            rows = [*_rows(connection, "select hash, raw from attempts"), *_fillers(connection)]
        now = {row["hash"]: bytes(row["raw"]) for row in rows}
        changed = [tx for tx, raw in self.raw_of.items() if tx in now and now[tx] != raw]
        vanished = [tx for tx in self.raw_of if tx not in now]
        if changed:
            self.problems.append(f"signed bytes changed under one hash: {changed[:SHOWN]}")
        if vanished:
            self.problems.append(f"attempts vanished from the ledger: {vanished[:SHOWN]}")
        self.raw_of.update(now)


def check_safety(case: Case) -> Findings:
    """What must hold at every moment: no effect twice, none that was not approved, nothing signed that is not stored.

    The chain is read first: whatever is on it must have been in the tables before.
    """
    findings = Findings()
    effects, transactions = _read_chain(case)
    with closing(_connect(case.dsn)) as connection:
        tables = _Tables(connection)
    _judge_effects(case, effects, tables, findings)
    _judge_bytes(case, transactions, tables, findings)
    return findings


def check_settled(case: Case) -> Findings:
    """Everything. The daemon must be at rest: nobody asks for anything new, and faults have stopped."""
    findings = check_safety(case)
    with closing(_connect(case.dsn)) as connection:
        tables = _Tables(connection)
    effects, _ = _read_chain(case)
    _judge_ends(case, effects, tables, findings)
    _judge_nonces(case, tables, findings)
    return findings


def oldest_gap(case: Case) -> tuple[int, int] | None:
    """The lowest nonce that the ledger has given and the chain has not used, with its age in blocks; None if none."""
    used, head = (int(answer, 16) for answer in _ask(
        case.node_url,
        [("eth_getTransactionCount", [case.operator, "latest"]), ("eth_blockNumber", [])],
    ))  # fmt: skip
    with closing(_connect(case.dsn)) as connection:
        rows = _rows(connection, "select min(signed_block) as block from attempts where nonce = %s", used)
    return None if rows[0]["block"] is None else (used, head - rows[0]["block"])


# --- the tables ------------------------------------------------------------------------------------------------------


class _Tables:
    """One consistent look at everything."""

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read read only")
            (ledger,) = _rows(connection, "select id from ledger")
            self.calls = {row["id"]: row for row in _rows(connection, "select * from job_calls")}
            self.decisions = {
                row["call_id"]: json.loads(row["outcome"])
                for row in _rows(connection, "select call_id, outcome from decisions")
            }
            self.intents = {row["call_id"]: row for row in _rows(connection, "select * from intents")}
            self.attempts = _rows(connection, "select * from attempts order by call_id, signed_at")
            self.wallets = _rows(connection, "select * from wallets")
            self.fillers = _fillers(connection)
        self.call_of_intent = {
            "0x" + hashlib.sha256(ledger["id"].bytes + call_id.to_bytes(8, "big")).hexdigest(): call_id
            for call_id in self.calls
        }
        self.call_of_hash = {row["hash"]: row["call_id"] for row in self.attempts}

    def story(self, call_id: int) -> str:
        """All rows of one call, for a person."""
        rows = [_short(row) for row in self.attempts if row["call_id"] == call_id]
        return (
            f"call {call_id}: {_short(self.calls.get(call_id))}\n      decision: {self.decisions.get(call_id)}"
            f"\n      intent: {_short(self.intents.get(call_id))}\n      attempts: {rows}"
        )


def _short(row: Row | None) -> str:
    """What is set in a row, for a person: bytes by their number."""
    shown = {name: f"{len(value)} bytes" if isinstance(value, bytes) else value for name, value in (row or {}).items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value not in (None, "")) or "no row"


def _fillers(connection: psycopg.Connection[Row]) -> list[Row]:
    """Signed no-ops for nonces that no intent has, if the schema has a table of them."""
    (found,) = _rows(connection, "select to_regclass('fillers') is not null as is_there")
    return _rows(connection, "select hash, raw from fillers") if found["is_there"] else []


def _connect(dsn: str) -> psycopg.Connection[Row]:
    return psycopg.connect(dsn, autocommit=True, row_factory=dict_row, connect_timeout=10)


def _rows(connection: psycopg.Connection[Row], query: str, *parameters: object) -> list[Row]:
    return connection.execute(query.encode(), parameters or None).fetchall()


# --- the chain -------------------------------------------------------------------------------------------------------


def _ask(url: str, requests: Sequence[tuple[str, list[object]]]) -> list[Any]:
    """One JSON-RPC batch; the results in order."""
    batch = [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        for number, (method, params) in enumerate(requests)
    ]
    request = urllib.request.Request(url, json.dumps(batch).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        answers = {answer["id"]: answer for answer in json.load(response)}
    for answer in answers.values():
        if "error" in answer:
            raise RuntimeError(f"the node refuses the checker: {answer['error']}")
    return [answers[number]["result"] for number in range(len(requests))]


def _read_chain(case: Case) -> tuple[list[_Effect], list[Row]]:
    """All effects, and all transactions of the operator, of one and the same chain.

    When a reorg comes between the answers, the logs may be of blocks that are gone: only those count that are in a
    block of the chain as it was read last.
    """
    for _ in range(MAX_TORN):
        logs, blocks = _logs(case), _blocks(case)
        whole = [block for block in blocks if block]
        if whole == blocks and all(older["hash"] == newer["parentHash"] for older, newer in pairwise(whole)):
            break
    else:
        raise RuntimeError(f"{MAX_TORN} times in a row the node's blocks were not one chain")
    hashes = {block["hash"] for block in whole}
    by_transaction: dict[str, list[Row]] = defaultdict(list)
    for log in logs:
        if log["blockHash"] in hashes:
            by_transaction[log["transactionHash"]].append(log)
    effects = [effect for found in by_transaction.values() for effect in _effects_of(found)]
    return effects, [tx for block in whole for tx in block["transactions"] if _is(tx["from"], case.operator)]


def _blocks(case: Case) -> list[Row | None]:
    """With their transactions, by number. None is one that a reorg took back meanwhile."""
    (head,) = _ask(case.node_url, [("eth_blockNumber", [])])
    numbers = range(int(head, 16) + 1)
    found: list[Row | None] = []
    for start in range(0, len(numbers), BLOCKS_A_BATCH):
        part = numbers[start : start + BLOCKS_A_BATCH]
        found += _ask(case.node_url, [("eth_getBlockByNumber", [hex(number), True]) for number in part])
    return found


def _logs(case: Case) -> list[Row]:
    topics, addresses = [[EXECUTED, BINARY, RANGE]], [case.vault, case.market]
    wanted = {"fromBlock": "0x0", "toBlock": "latest", "address": addresses, "topics": topics}
    (logs,) = _ask(case.node_url, [("eth_getLogs", [wanted])])
    return list(logs)


def _effects_of(logs: list[Row]) -> Iterator[_Effect]:
    mints = tuple(_mint(log) for log in logs if log["topics"][0] != EXECUTED)
    executed = [log for log in logs if log["topics"][0] == EXECUTED]
    for log in executed:
        yield _Effect(log["transactionHash"], log["topics"][1], _words(log)[0], mints)
    if not executed:
        yield _Effect(logs[0]["transactionHash"], "none", 0, mints)


def _mint(log: Row) -> tuple[object, ...]:
    first, second, stake = _words(log)
    return ("mint_binary", first, bool(second), stake) if log["topics"][0] == BINARY else (
        "mint_range", first, second, stake
    )  # fmt: skip


def _words(log: Row) -> list[int]:
    data = bytes.fromhex(log["data"][2:])
    return [int.from_bytes(data[start : start + 32], "big") for start in range(0, len(data), 32)]


def _is(one: str, other: str) -> bool:
    return one.lower() == other.lower()


# --- judgements ------------------------------------------------------------------------------------------------------


def _story_of_twice(case: Case, effects: list[_Effect], intent_id: str, tables: _Tables) -> str:
    """With what the node says of each transaction: two nonces are our fault, one nonce twice is the node's."""
    hashes = [effect.transaction for effect in effects if effect.intent_id == intent_id]
    seen = _ask(case.node_url, [("eth_getTransactionByHash", [one]) for one in hashes])
    on_chain = [
        f"{one}: nonce {found['nonce']}, block {found['blockNumber']}" if found else f"{one}: not on chain"
        for one, found in zip(hashes, seen, strict=True)
    ]
    call_id = tables.call_of_intent.get(intent_id)
    story = tables.story(call_id) if call_id is not None else "of no decision in the ledger"
    return f"{intent_id}: {'; '.join(on_chain)}\n      {story}"


def _judge_effects(case: Case, effects: list[_Effect], tables: _Tables, findings: Findings) -> None:
    """At most one effect per decision, and each is what was decided, approved, and nothing else."""
    findings.effects = len(effects)
    findings.calls, findings.decisions = len(tables.calls), len(tables.decisions)
    per_intent = Counter(effect.intent_id for effect in effects)
    twice = [intent_id for intent_id, count in per_intent.items() if count > 1]
    findings.duplicate_effects = findings.add(
        "DUPLICATE EFFECT: one intent id executed more than once",
        [_story_of_twice(case, effects, intent_id, tables) for intent_id in twice],
    )
    unknown = [effect for effect in effects if effect.intent_id not in tables.call_of_intent]
    findings.add("an effect of no decision in the ledger", unknown)
    low, high = case.strike_limits
    for effect in effects:
        call_id = tables.call_of_intent.get(effect.intent_id)
        if call_id is None:
            continue
        decided = _decided_mints(tables.decisions.get(call_id))
        if decided != effect.mints:
            findings.add(
                f"an effect that is not what was decided: decided {decided}, on chain {effect.mints}",
                [tables.story(call_id)],
            )
        if any(mint[0] == "mint_binary" and not low <= int(str(mint[1])) <= high for mint in effect.mints):
            findings.add("A DENIED ACTION ON CHAIN: a strike outside of its limits", [tables.story(call_id)])
        if tables.call_of_hash.get(effect.transaction) not in (None, call_id):
            findings.add(
                "a transaction of one call with the intent id of another", [f"{effect}\n      {tables.story(call_id)}"]
            )
        if tables.calls[call_id]["outcome"] not in ("acted", None):
            findings.add(
                "AN EFFECT OF A CALL THAT DID NOT ACT: its outcome says otherwise",
                [f"{effect}\n      {tables.story(call_id)}"],
            )


def _decided_mints(outcome: Mapping[str, Any] | None) -> tuple[tuple[object, ...], ...]:
    """What the chain must show of a decision, by the names of the scene's catalogue."""
    mints: list[tuple[object, ...]] = []
    for action in (outcome or {}).get("actions", ()):
        args = action.get("args", {})
        names = ("strike", "above") if action["name"] == "mint_binary" else ("lower", "upper")
        mints.append((action["name"], *(args.get(name) for name in names), action.get("value_wei", 0)))
    return tuple(mints)


def _judge_bytes(case: Case, transactions: list[Row], tables: _Tables, findings: Findings) -> None:
    """What is on chain was stored; what was stored is what its hash says; one intent has one nonce."""
    findings.transactions, findings.attempts = len(transactions), len(tables.attempts)
    # Whom the daemon takes for a stranger is no excuse: only what the campaign sent itself is.
    stored = tables.call_of_hash.keys() | case.foreign | {row["hash"] for row in tables.fillers}
    findings.add(
        "A TRANSACTION OF THE OPERATOR THAT IS NOT IN THE LEDGER",
        [f"nonce {int(tx['nonce'], 16)}, block {int(tx['blockNumber'], 16)}, {tx['hash']}" for tx in transactions
         if tx["hash"] not in stored],
    )  # fmt: skip
    signed = [*tables.attempts, *tables.fillers]
    wrong = [row["hash"] for row in signed if "0x" + keccak(bytes(row["raw"])).hex() != row["hash"]]
    findings.add("stored bytes that do not have the hash they stand under", wrong)
    taken = {int(tx["nonce"], 16): tx["hash"] for tx in transactions}
    nonces: dict[int, set[int]] = defaultdict(set)
    for row in tables.attempts:
        nonces[row["call_id"]].add(row["nonce"])
    for call_id, used in nonces.items():
        # A further nonce is allowed only after another's transaction has consumed the former one for good.
        for nonce in sorted(used)[:-1]:
            if tables.call_of_hash.get(taken.get(nonce, "")) == call_id or nonce not in taken:
                findings.add(f"a second nonce though nonce {nonce} was not dead", [tables.story(call_id)])


def _judge_ends(case: Case, effects: list[_Effect], tables: _Tables, findings: Findings) -> None:
    """One outcome for every call; exactly one effect for every call that acted; no intent open or unresolved."""
    findings.outcomes = dict(Counter(str(row["outcome"]) for row in tables.calls.values()))
    open_calls = [call_id for call_id, row in tables.calls.items() if row["outcome"] not in OUTCOMES]
    findings.lost_calls += findings.add("LOST CALL: no outcome", [tables.story(call_id) for call_id in open_calls])
    known = {row["identity"].split()[-1] for row in tables.calls.values() if row["trigger"] == "manual"}
    lost = sorted(case.accepted_keys - known)
    findings.lost_calls += findings.add("LOST CALL: confirmed to its caller and not in the ledger", lost)
    acted = Counter(tables.call_of_intent.get(effect.intent_id) for effect in effects)
    without = [tables.story(c) for c, row in tables.calls.items() if row["outcome"] == "acted" and not acted[c]]
    findings.add("A CALL THAT ACTED HAS NO EFFECT ON CHAIN", without)
    undecided = [tables.story(c) for c, row in tables.calls.items() if row["outcome"] == "acted"
                 and c not in tables.decisions]  # fmt: skip
    findings.add("a call acted without a decision", undecided)
    resting = [tables.story(call_id) for call_id, row in tables.intents.items() if row["state"] not in ENDS]
    findings.add("an intent that is still open or unresolved", resting)


def _judge_nonces(case: Case, tables: _Tables, findings: Findings) -> None:
    """Every nonce that was given is used on chain."""
    (used,) = _ask(case.node_url, [("eth_getTransactionCount", [case.operator, "latest"])])
    on_chain = int(used, 16)
    for wallet in tables.wallets:
        if wallet["next_nonce"] == on_chain:
            continue
        missing = [
            tables.story(row["call_id"]) for row in tables.attempts
            if on_chain <= row["nonce"] < wallet["next_nonce"]
        ]  # fmt: skip
        findings.stuck_nonces += abs(wallet["next_nonce"] - on_chain)
        findings.problems.append(
            f"STUCK NONCE: the ledger would give {wallet['next_nonce']} next, the chain has used {on_chain}: {missing}"
        )
