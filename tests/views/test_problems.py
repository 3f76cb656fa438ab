"""What an operator is told is wrong. The table of `runnerctl status` is in tests/cli/test_status.py."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

from runnerd.chain.pool.health import Fault, Health, NodeState
from runnerd.executor.wanted import Intent, IntentState
from runnerd.pauses import Pauses
from runnerd.routing.routes import Routes
from runnerd.services.http import HttpGone
from runnerd.services.service import LoopService, Restart, ServicePolicy
from runnerd.services.services import Services
from runnerd.triggers.producers import Producers
from runnerd.views.problems import Problems
from tests.support.aio import run_async
from tests.support.until import until
from tests.support.virtual_time import EPOCH

NONE: Mapping[str, Any] = MappingProxyType({})
WALLET = "0x" + "0A" * 20


def intent(call_id: int, state: IntentState) -> Any:
    """As the book holds it."""
    made = Intent(
        call_id=call_id, plugin="alpha", vault="main", chain_id=1, wallet=WALLET, target=WALLET, calldata=b"",
        value_wei=0, deadline_at=EPOCH, state=state,
    )  # fmt: skip
    return SimpleNamespace(intent=made)


def problems(
    *intents: Any, services: Services | None = None, keepers: tuple[str, ...] = (), chains: Mapping[str, Any] = NONE
) -> Problems:
    """Of a runnerd that is well but for these."""
    parts: dict[str, Any] = {
        "config": SimpleNamespace(keepers=keepers), "hosts": {}, "chains": chains,
        "store": SimpleNamespace(is_connected=True),
        "book": SimpleNamespace(open={each.intent.call_id: each for each in intents}),
        "pauses": Pauses(), "producers": Producers(), "consumers": SimpleNamespace(problems=list),
        "zygotes": SimpleNamespace(pid=1), "services": services or Services(lambda _: None), "routes": Routes(),
    }  # fmt: skip
    return Problems(**cast("Any", parts))


def test_unresolved_intents_are_a_problem_by_wallet() -> None:
    """Each keeps one of the places in flight; sixteen of them stop the wallet, and nothing else would say why."""
    found = problems(intent(7, IntentState.UNRESOLVED), intent(3, IntentState.UNRESOLVED), intent(9, IntentState.SENT))
    assert list(found.all()) == [
        f"vault main: what became of calls 3, 7 is unresolved, and keeps wallet {WALLET} waiting"
    ]
    found = problems(intent(7, IntentState.UNRESOLVED), keepers=("main",))
    assert next(iter(found.all())).startswith("keeper main: what became of calls 7")


def test_service_that_has_failed_is_a_problem() -> None:
    """Whoever watches /healthz hears nothing more of a dead http process; `runnerctl status` says it."""

    async def fail() -> None:
        raise HttpGone("the http process is gone")

    async def look() -> list[str]:
        services = Services(lambda _: None)
        services.add(LoopService("http", fail), ServicePolicy(restart=Restart.NEVER))
        services.add(LoopService("lag", asyncio.Event().wait))
        await services.start()
        found = problems(services=services)
        await until(lambda: [*found.all()])
        listed = [*found.all()]
        await services.close()
        return listed

    assert run_async(look()) == ["service http failed: the http process is gone"]


def test_strangers_and_gaps_are_a_problem_with_the_command_to_type() -> None:
    """One line for each chain: its first stranger; and one for each wallet with nonces that are missing."""
    network = SimpleNamespace(rpc=SimpleNamespace(nodes=[]))

    def chain(unadopted: list[str], gaps: dict[str, list[int]]) -> Any:
        auditor = SimpleNamespace(unadopted=unadopted, gaps=gaps)
        return SimpleNamespace(problem=None, admission=None, lanes={}, network=network, auditor=auditor)

    silent = SimpleNamespace(problem="silent", admission=None, lanes={}, network=network, auditor=None)
    chains = {
        "a": chain(["0x1"], {}), "b": chain(["0x2", "0x3"], {WALLET: [*range(4, 13)]}), "c": chain([], {}),
        "d": silent,
    }  # fmt: skip
    found = problems(chains=chains)
    assert list(found.all()) == [
        "chain d: silent",
        "chain a: a transaction is not ours, and not adopted; if it was meant so: runnerctl adopt 0x1",
        "chain b: 2 transactions of our wallets are not ours, and not adopted; if it was meant so: runnerctl adopt 0x2",
        f"chain b: nonces 4, 5, 6, 7, 8, 9, 10, 11 … of wallet {WALLET} are missing, and are being filled",
    ]


def test_node_that_is_out_is_a_problem_and_one_on_probation_is_none() -> None:
    """The chain works, with fewer voices than were configured."""
    nodes = [
        SimpleNamespace(name="http://a", health=Health(state=NodeState.IN, fault=None, head=9)),
        SimpleNamespace(name="http://b", health=Health(fault=Fault.LAGGING, detail="9 blocks behind 9", head=0)),
        SimpleNamespace(name="http://c", health=Health(state=NodeState.PROBATION, fault=Fault.SILENT)),
        SimpleNamespace(name="http://d", health=Health()),
    ]
    network = SimpleNamespace(rpc=SimpleNamespace(nodes=nodes))
    chain = SimpleNamespace(problem=None, admission=None, lanes={}, network=network, auditor=None)
    found = problems(chains={"local": chain})
    assert list(found.all()) == ["chain local: node http://b is out: lags: 9 blocks behind 9"]


def test_wallet_without_money_is_a_problem() -> None:
    """It keeps nothing else from working, and so the daemon stays ready."""
    lane = SimpleNamespace(problem=None, purse=SimpleNamespace(shortage="has 0 wei, 7 wei too little"))
    network = SimpleNamespace(rpc=SimpleNamespace(nodes=[]))
    chain = SimpleNamespace(problem=None, admission=None, lanes={WALLET: lane}, network=network, auditor=None)
    found = problems(chains={"local": chain})
    assert list(found.all()) == [f"wallet {WALLET} on local: has 0 wei, 7 wei too little"]
    assert list(found.blocking()) == []
