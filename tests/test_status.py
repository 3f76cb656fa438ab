"""What an operator is told is wrong. The table of `runnerctl status` is in tests/cli/test_status.py."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from runnerd.chain.pool.health import Fault, Health, NodeState
from runnerd.executor.intent import Intent, IntentState
from runnerd.pauses import Pauses
from runnerd.status import StatusReader
from tests.support.virtual_time import EPOCH

WALLET = "0x" + "0A" * 20


def intent(call_id: int, state: IntentState) -> Any:
    """As the book holds it."""
    made = Intent(
        call_id=call_id, plugin="alpha", vault="main", chain_id=1, wallet=WALLET, target=WALLET, calldata=b"",
        value_wei=0, deadline_at=EPOCH, state=state,
    )  # fmt: skip
    return SimpleNamespace(intent=made)


def reader(*intents: Any, is_http_lost: bool = False) -> StatusReader:
    """Of a runnerd that is well but for these."""
    parts: dict[str, Any] = {
        "config": None, "hosts": {}, "chains": {}, "vaults": {}, "store": SimpleNamespace(is_connected=True),
        "book": SimpleNamespace(open={each.intent.call_id: each for each in intents}), "usage": None,
        "pauses": Pauses(), "results": None, "metrics": None, "cron": None,
        "events": SimpleNamespace(is_connected=True),
        "zygotes": SimpleNamespace(pid=1), "http": SimpleNamespace(is_lost=is_http_lost), "lag_s": lambda: 0.0,
        "clock": SimpleNamespace(now=lambda: EPOCH),
    }  # fmt: skip
    return StatusReader(**cast("Any", parts))


def test_unresolved_intents_are_a_problem_by_wallet() -> None:
    """Each keeps one of the places in flight; sixteen of them stop the wallet, and nothing else would say why."""
    found = reader(intent(7, IntentState.UNRESOLVED), intent(3, IntentState.UNRESOLVED), intent(9, IntentState.SENT))
    assert list(found.problems()) == [
        f"vault main: what became of calls 3, 7 is unresolved, and keeps wallet {WALLET} waiting"
    ]


@pytest.mark.parametrize("is_lost", [True, False])
def test_dead_http_process_is_a_problem(is_lost: bool) -> None:
    """Whoever watches /healthz hears nothing more; `runnerctl status` says it."""
    problems = list(reader(is_http_lost=is_lost).problems())
    assert problems == (["the http process is gone: no metrics and no health until runnerd is restarted"] * is_lost)


def test_node_that_is_out_is_a_problem_and_one_on_probation_is_none() -> None:
    """The chain works, with fewer voices than were configured."""
    nodes = [
        SimpleNamespace(name="http://a", health=Health(state=NodeState.IN, fault=None, head=9)),
        SimpleNamespace(name="http://b", health=Health(fault=Fault.LAGGING, detail="9 blocks behind 9", head=0)),
        SimpleNamespace(name="http://c", health=Health(state=NodeState.PROBATION, fault=Fault.SILENT)),
        SimpleNamespace(name="http://d", health=Health()),
    ]
    network = SimpleNamespace(rpc=SimpleNamespace(nodes=nodes))
    chain = SimpleNamespace(problem=None, admission=None, lanes={}, network=network)
    found = reader()
    found._chains = {"local": cast("Any", chain)}
    assert list(found.problems()) == ["chain local: node http://b is out: lags: 9 blocks behind 9"]
