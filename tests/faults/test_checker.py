"""The judge of the campaign: independent of what it judges, and not to be fooled: each thing it asserts can fail."""

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tests.faults import checker
from tests.faults.checker import Case, Witness, check_safety, check_settled
from tests.support.rpc_proxy import rpc_proxy
from tests.support.scene import Scene, Stage, mint, puppet

pytestmark = pytest.mark.faults

STRIKES = (1_000, 10_000_000)


@pytest.fixture(scope="module")
def scene(stage: Stage) -> Iterator[Scene]:
    """A daemon that has acted twice, was denied once, and is at rest."""
    with stage.scene({"puppet": puppet()}) as scene:
        assert scene.fire("puppet", do="act", actions=[mint()]).outcome == "acted"
        assert scene.fire("puppet", do="act", actions=[mint(strike=300_000), mint()]).outcome == "acted"
        assert scene.fire("puppet", do="act", actions=[mint(strike=1)]).outcome == "denied"
        yield scene


@pytest.fixture
def case(scene: Scene, stage: Stage) -> Case:
    """What the checker is given."""
    return Case(
        node_url=stage.node.url,
        dsn=scene.dsn,
        operator=scene.venue.operator,
        vault=scene.venue.vault.address,
        market=scene.venue.market.address,
        strike_limits=STRIKES,
    )


@pytest.fixture
def spoil(scene: Scene) -> Iterator[Callable[[str], None]]:
    """Change the ledger behind the daemon's back; the tables are as they were after the test."""
    tables = ("job_calls", "decisions", "intents", "attempts", "wallets")
    with psycopg.connect(scene.dsn, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        for table in tables:
            connection.execute(f"create table kept_{table} as select * from {table}".encode())

        def change(statement: str) -> None:
            connection.execute(statement.encode())

        yield change
        for table in reversed(tables):
            connection.execute(f"delete from {table}".encode())
        for table in tables:
            overriding = "overriding system value" if table == "job_calls" else ""
            connection.execute(f"insert into {table} {overriding} select * from kept_{table}".encode())
            connection.execute(f"drop table kept_{table}".encode())


def test_it_imports_nothing_of_what_it_judges() -> None:
    """No module of ours: an error that both shared would be seen by neither."""
    assert checker.__file__ is not None
    with open(checker.__file__, encoding="utf-8") as file:  # noqa: PTH123
        tree = ast.parse(file.read())
    modules = [
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or "."])
    ]
    assert {name for name in modules if name not in sys.stdlib_module_names} == {"psycopg", "eth_hash"}


def test_books_that_balance_are_clean(case: Case) -> None:
    """The positive control of all the others."""
    findings = check_settled(case)
    assert findings.problems == []
    assert (findings.calls, findings.decisions, findings.effects, findings.transactions) == (3, 3, 2, 2)
    assert findings.outcomes == {"acted": 2, "denied": 1}


@pytest.mark.parametrize(
    "change, problem",
    [
        ("delete from attempts where call_id = 1", "A TRANSACTION OF THE OPERATOR THAT IS NOT IN THE LEDGER"),
        ("update attempts set raw = raw || '\\x00'", "stored bytes that do not have the hash they stand under"),
        ("update job_calls set outcome = 'failed' where id = 1", "AN EFFECT OF A CALL THAT DID NOT ACT"),
        ("delete from job_calls where id = 2", "an effect of no decision in the ledger"),
        ("update decisions set outcome = replace(outcome, '300000', '300001')", "an effect that is not what was decid"),
        ("update attempts set call_id = 3 - call_id", "a transaction of one call with the intent id of another"),
        (
            "insert into attempts select '0x00', call_id, nonce + 9, raw, 1, 1, 1, now(), 1 from attempts limit 1",
            "a second nonce though nonce 0 was not dead",
        ),
    ],
)
def test_what_must_hold_at_any_moment_is_missed(
    case: Case, spoil: Callable[[str], None], change: str, problem: str
) -> None:
    """Each rule of `check_safety`, broken in the ledger."""
    spoil(change)
    assert any(text.startswith(problem) for text in check_safety(case).problems)


@pytest.mark.parametrize(
    "change, problem",
    [
        (
            "update job_calls set state = 'queued', outcome = null, finished_at = null, result_no = null where id = 3",
            "LOST CALL: no outcome",
        ),
        ("update job_calls set outcome = 'acted' where id = 3", "A CALL THAT ACTED HAS NO EFFECT ON CHAIN"),
        ("delete from decisions where call_id = 1", "a call acted without a decision"),
        ("update intents set state = 'unresolved' where call_id = 1", "an intent that is still open or unresolved"),
        ("update wallets set next_nonce = 3", "STUCK NONCE: the ledger would give 3 next, the chain has used 2"),
    ],
)
def test_what_must_hold_at_rest_is_missed(case: Case, spoil: Callable[[str], None], change: str, problem: str) -> None:
    """Each rule of `check_settled`, broken in the ledger."""
    spoil(change)
    assert any(text.startswith(problem) for text in check_settled(case).problems)


def test_a_log_of_a_block_that_is_gone_is_no_effect(case: Case) -> None:
    """A reorg came after the logs were read. What is twice in the chain itself is two effects."""

    def also(logs: list[dict[str, Any]], **changes: str) -> list[dict[str, Any]]:
        return logs + [log | changes for log in logs]

    with rpc_proxy(case.node_url) as proxy:
        proxy.alter("eth_getLogs", lambda logs: also(logs, blockHash="0x" + "ab" * 32))
        assert check_settled(replace(case, node_url=proxy.url)).problems == []
        proxy.alter("eth_getLogs", lambda logs: also(logs, transactionHash="0x" + "cd" * 32))
        assert check_safety(replace(case, node_url=proxy.url)).duplicate_effects > 0


def test_two_executions_in_one_transaction_are_two_effects(case: Case, scene: Scene) -> None:
    """Whoever says it: an intent id was executed more than once."""

    def doubled(logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return logs + [{**log, "logIndex": hex(int(log["logIndex"], 16) + 100)} for log in logs]

    with rpc_proxy(case.node_url) as proxy:
        proxy.alter("eth_getLogs", doubled)
        findings = check_settled(replace(case, node_url=proxy.url))
    assert findings.duplicate_effects == len(scene.effects())


def test_blocks_that_are_not_one_chain_are_read_again(case: Case) -> None:
    """A reorg came between two answers: what was read is of two chains, and says nothing."""
    broken: list[str] = []

    def breaking(block: dict[str, Any]) -> dict[str, Any]:
        if int(block["number"], 16) == 1 and not broken:
            broken.append(block["hash"])
            return {**block, "parentHash": "0x" + "ab" * 32}
        return block

    with rpc_proxy(case.node_url) as proxy:
        proxy.alter("eth_getBlockByNumber", breaking)
        assert check_safety(replace(case, node_url=proxy.url)).problems == []
        assert len(broken) == 1
        for torn in (lambda block: {**block, "parentHash": "0x" + "ab" * 32}, lambda _: None):
            proxy.alter("eth_getBlockByNumber", torn)
            with pytest.raises(RuntimeError, match="not one chain"):
                check_safety(replace(case, node_url=proxy.url))


def test_a_confirmed_call_that_is_not_in_the_ledger_is_lost(case: Case) -> None:
    """Somebody was told that his call was taken."""
    findings = check_settled(replace(case, accepted_keys=frozenset({"nowhere"})))
    assert findings.lost_calls == 1


def test_a_strike_outside_of_the_limits_is_a_denied_action_on_chain(case: Case) -> None:
    """The limits are the campaign's own, not the ledger's."""
    problems = check_safety(replace(case, strike_limits=(1_000, 250_000))).problems
    assert any(text.startswith("A DENIED ACTION ON CHAIN") for text in problems)


def test_a_witness_sees_bytes_that_change_and_rows_that_vanish(case: Case, spoil: Callable[[str], None]) -> None:
    """Also where the table itself would look consistent again."""
    witness = Witness()
    witness.look(case.dsn)
    witness.look(case.dsn)
    assert witness.problems == []
    spoil("update attempts set raw = '\\x00' where call_id = 1")
    spoil("delete from attempts where call_id = 2")
    witness.look(case.dsn)
    assert [problem.split(":")[0] for problem in witness.problems] == [
        "signed bytes changed under one hash",
        "attempts vanished from the ledger",
    ]
