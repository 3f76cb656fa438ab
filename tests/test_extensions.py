"""Code of third parties in the supervisor: how it is found, and what is said of code that does not fit."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from runnerd.config.model import WalletConfig
from runnerd.config.routing import AlwaysRoute, FallbackRoute, RouteLimits
from runnerd.extensions import (
    ExtensionBroken,
    ProducerTools,
    ServiceTools,
    build_producer,
    build_service,
    load_extensions,
)
from runnerd.runner.builder import RunnerBuilder, RunnerIncomplete
from runnerd.runner.runner import Runner, RunnerMisused
from runnerd.runner.unlock import close_signers, open_signer
from runnerd.services.service import Restart, ServicePolicy
from runnerd.wallets.errors import SignerMismatch, SignerRefused, SignerUnavailable, WalletError
from runnerd.wallets.transaction import UnsignedTransaction
from tests.config.toml_bench import GOOD, Place
from tests.support.aio import run_async
from tests.support.extension_packages import install
from tests.support.virtual_time import VirtualTimeLoop

SERVICE = """
class Beat:
    trouble = None
    def __init__(self, tools):
        self.name = tools.name
    async def start(self): pass
    async def run(self): pass
    async def stop(self): pass

class Other(Beat):
    def __init__(self, tools):
        self.name = "other"

def broken(tools):
    raise ZeroDivisionError("no luck")

constant = 5
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of packages that are installed for the length of the test."""
    directory = tmp_path / "site"
    directory.mkdir()
    monkeypatch.syspath_prepend(directory)
    return directory


def table(name: str, entry_point: str, **keys: str) -> str:
    lines = [f"[{name}]", f'entry_point = "{entry_point}"', *(f"{key} = {value}" for key, value in keys.items())]
    return GOOD + "\n" + "\n".join(lines) + "\n"


def test_what_is_named_is_found_with_its_parameters(site: Path, tmp_path: Path) -> None:
    """And kept as its table says."""
    install(site, "beats_one", SERVICE, {"runnerd.services/beat": "Beat"})
    config = Place(tmp_path).load(table("services.pulse", "beat", params="{ every = 3 }", restart='"vital"'))
    factory, params, policy = load_extensions(config).services["pulse"]
    tools: Any = ServiceTools(name="pulse", params=params, status=None, ledger=None, clock=None)  # type: ignore[arg-type]
    assert build_service("pulse", factory, tools).name == "pulse"
    assert (params, policy.restart) == ({"every": 3}, Restart.VITAL)


def test_what_is_not_installed_is_a_problem_of_the_configuration(site: Path, tmp_path: Path) -> None:
    """With what there is instead."""
    place = Place(tmp_path)
    (problem,) = place.problems(table("producers.ticks", "ticks"))
    assert problem == (
        "producers.ticks.entry_point: is 'ticks', which no package in runnerd's environment has in runnerd.producers; "
        "there is none at all: install the package beside runnerd"
    )
    install(site, "beats_two", SERVICE, {"runnerd.services/beat": "Beat"})
    (problem,) = place.problems(table("services.pulse", "baet"))
    assert problem.endswith("in runnerd.services; there are: beat")
    assert place.problems(table("services.pulse", "beat")) == []
    install(site, "beats_too", SERVICE, {"runnerd.services/beat": "Beat"})
    (problem,) = place.problems(table("services.pulse", "beat"))
    assert "which several packages have" in problem


def test_a_producer_cannot_take_the_name_of_one_that_is_there(site: Path, tmp_path: Path) -> None:
    """`cron` is ours."""
    install(site, "ticks_one", SERVICE, {"runnerd.producers/ticks": "Beat"})
    place = Place(tmp_path)
    assert place.problems(table("producers.ticks", "ticks")) == []
    (problem,) = place.problems(table("producers.cron", "ticks"))
    assert problem.startswith("producers.cron: is the name of one that runnerd has")


def test_a_custom_trigger_names_a_producer_that_is_there(site: Path, tmp_path: Path) -> None:
    """Else it would never fire, and nobody would know."""
    install(site, "ticks_two", SERVICE, {"runnerd.producers/ticks": "Beat"})
    place = Place(tmp_path)
    trigger = '\ntriggers = [{ kind = "custom", producer = "ticks" }]\n'
    assert place.problems(GOOD + trigger) == [
        "plugins.alpha.triggers[0].producer: there is no [producers.ticks]; there are: none"
    ]
    assert place.problems(GOOD + trigger + '[producers.ticks]\nentry_point = "ticks"\n') == []


@pytest.mark.parametrize(
    "target, words",
    [
        ("missing", "'beat' cannot be imported: AttributeError"),
        ("constant", "'beat' is int, and no factory to be called"),
    ],
)
def test_what_cannot_be_loaded_says_where(target: str, words: str, site: Path, tmp_path: Path) -> None:
    """The key that names it."""
    install(site, f"beats_{target}", SERVICE, {"runnerd.services/beat": target})
    config = Place(tmp_path).load(table("services.pulse", "beat"))
    with pytest.raises(ExtensionBroken, match=f"^services.pulse.entry_point: {words}"):
        load_extensions(config)


@pytest.mark.parametrize(
    "target, words",
    [
        ("broken", "service pulse cannot be made: ZeroDivisionError: no luck"),
        ("Other", "service pulse calls itself 'other': it must take its name from its tools"),
    ],
)
def test_what_cannot_be_made_says_why(target: str, words: str, site: Path, tmp_path: Path) -> None:
    """Whatever its code ran into."""
    install(site, f"beats_{target.lower()}", SERVICE, {"runnerd.services/beat": target})
    factory, _, _ = load_extensions(Place(tmp_path).load(table("services.pulse", "beat"))).services["pulse"]
    tools: Any = ServiceTools(name="pulse", params={}, status=None, ledger=None, clock=None)  # type: ignore[arg-type]
    with pytest.raises(ExtensionBroken, match=f"^{words}"):
        build_service("pulse", factory, tools)


def test_a_part_that_lacks_something_is_refused_with_what_it_lacks() -> None:
    """Before it is called for the first time, at night."""
    tools: Any = ProducerTools(name="ticks", params={}, submit=None, ledger=None, clock=None)  # type: ignore[arg-type]

    class Half:
        name = "ticks"

        def serves(self, _: object) -> bool:
            return False

    with pytest.raises(
        ExtensionBroken, match=r"^producer ticks is Half, which lacks declare, forget, next_due, progress"
    ):
        build_producer("ticks", lambda _: Half(), tools)  # type: ignore[arg-type,return-value]


KEY = bytes(range(1, 33))
ASKED = UnsignedTransaction(
    chain_id=31337, nonce=7, max_priority_fee_per_gas_wei=10**9, max_fee_per_gas_wei=3 * 10**9, gas_limit=90_000,
    to="0x5FbDB2315678afecb367f032d93F642f64180aa3", value_wei=5, data=b"\x01\x02",
)  # fmt: skip
SIGNER = f"""
from eth_account import Account
from runnerd.wallets.errors import SignerUnavailable

class Raw:
    def __init__(self, account, fault):
        self.address, self._account, self._fault = account.address, account, fault
    async def sign(self, asked):
        if self._fault == "away":
            raise SignerUnavailable("vendor", "busy")
        if self._fault == "defect":
            raise KeyError("slot")
        signed = self._account.sign_transaction(dict(
            type=2, chainId=asked.chain_id, nonce=asked.nonce, to=asked.to, data=asked.data, gas=asked.gas_limit,
            maxFeePerGas=asked.max_fee_per_gas_wei, maxPriorityFeePerGas=asked.max_priority_fee_per_gas_wei,
            value=asked.value_wei + (self._fault == "greedy"),
        )).raw_transaction
        return signed.hex() if self._fault == "text" else bytes(signed)
    async def close(self):
        pass

async def open_vendor(tools):
    return Raw(Account.from_key("{KEY.hex()}"), tools.params.get("fault", ""))
"""


def vendor(site: Path, fault: str = "", address: str | None = None) -> WalletConfig:
    """A wallet whose signer an installed package has."""
    if not (site / "vendor.py").exists():
        install(site, "vendor", SIGNER, {"runnerd.signers/vendor": "open_vendor"})
    return WalletConfig(signer_entry_point="vendor", signer_params={"fault": fault}, address=address)


def test_a_signer_of_a_package_signs(site: Path) -> None:
    """What the executor gets is what it asked for, signed by the address that the signer has."""

    async def scenario() -> None:
        signer = await open_signer(vendor(site, address=Account.from_key(KEY).address))
        signed = await signer.sign(ASKED)
        assert Account.recover_transaction(signed.raw) == signer.address == Account.from_key(KEY).address
        await signer.close()

    run_async(scenario())


@pytest.mark.parametrize(
    "fault, error",
    [
        ("away", SignerUnavailable),
        ("defect", SignerRefused),
        ("text", SignerMismatch),
        ("greedy", SignerMismatch),
    ],
)
def test_what_a_signer_of_a_package_does_wrong_is_not_used(fault: str, error: type[WalletError], site: Path) -> None:
    """It is trusted to sign, and not to choose what."""

    async def scenario() -> None:
        signer = await open_signer(vendor(site, fault))
        with pytest.raises(error):
            await signer.sign(ASKED)

    run_async(scenario())


def test_a_signer_that_does_not_close_keeps_no_stop_from_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """Nor does one that fails; each is named."""

    class Closing:
        def __init__(self, close: Any) -> None:
            self.close = close

    async def fail() -> None:
        raise OSError("gone")

    closed = asyncio.Event()

    async def close() -> None:
        closed.set()

    async def scenario() -> bool:
        signers: Any = {"slow": Closing(asyncio.Event().wait), "broken": Closing(fail), "good": Closing(close)}
        await close_signers(signers)
        return closed.is_set()

    assert run_async(scenario(), loop_factory=VirtualTimeLoop)
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"the signer of wallet {name} does not close" for name in ("broken", "slow")]


def test_a_signer_for_another_address_is_refused(site: Path) -> None:
    """The wallet says for whom."""
    with pytest.raises(WalletError, match="signs for 0x"):
        run_async(open_signer(vendor(site, address="0x" + "11" * 20)))


# --- the builder -----------------------------------------------------------------------------------------------------


def test_the_builder_lists_everything_that_is_wrong(tmp_path: Path) -> None:
    """Of the file and of the parts, at once; and nothing was started."""
    place = Place(tmp_path)
    broken = GOOD.replace('chain = "local"', 'chain = "moon"').replace(
        "max_value_wei = 10\n", "max_value_wei = 10_000\n"
    )
    place.file.write_text(broken)
    wrong: Any = "no factory"
    builder = (
        RunnerBuilder(place.file)
        .service("beat", lambda tools: wrong)
        .service("beat", lambda tools: wrong)
        .service("pulse", wrong)
        .producer("cron", wrong)
        .on_shutdown(wrong)
    )
    with pytest.raises(RunnerIncomplete) as refused:
        builder.build()
    text = str(refused.value)
    for words in (
        "vaults.main.chain: there is no [chains.moon]", "vaults.main.actions.mint.max_value_wei",
        "producer 'cron': this is the name of one that runnerd has",
        "producer 'cron': 'no factory' is no factory", "service 'beat': there are two of this name",
        "service 'pulse': 'no factory' is no factory", "on_shutdown: 'no factory' cannot be called",
    ):  # fmt: skip
        assert words in text
    assert len(refused.value.problems) == 7


def test_the_builder_checks_names_policies_and_routes_as_the_file_is(tmp_path: Path) -> None:
    """A dataclass or a Struct that is made in code is checked by nobody else."""
    place = Place(tmp_path)
    place.file.write_text(GOOD)
    part: Any = lambda tools: None  # noqa: E731  # never called
    wrong: Any = ["clock"]
    no_policy: Any = "no"
    text: Any = "always"
    builder = (
        RunnerBuilder(place.file)
        .producer("bad name", part)
        .service("one", part, policy=no_policy)
        .service("two", part, policy=ServicePolicy(restart=text, stop_deadline_s=-1))
        .service("three", part, policy=ServicePolicy(backoff_first_s=9, backoff_max_s=1))
        .service("ledger", part)
        .router(AlwaysRoute(plugin="alpha", triggers=wrong), layers=RouteLimits(parallel=-1))
    )
    with pytest.raises(RunnerIncomplete) as refused:
        builder.build()
    for problem, words in zip(
        refused.value.problems,
        (
            "router.always[0].triggers[0]: Invalid enum value 'clock'",
            "router.layers.parallel: is -1; allowed: 1 to 1000000",
            "producer 'bad name': a name is 1 to 64 letters",
            "service 'one': policy is 'no', and no ServicePolicy",
            "service 'two': policy.restart is 'always'; allowed: Restart.ON_FAILURE, Restart.ALWAYS",
            "service 'two': policy.stop_deadline_s is -1; allowed: more than 0",
            "service 'three': policy.backoff_first_s is above policy.backoff_max_s",
            "service 'ledger': this is the name of one that runnerd has",
        ),
        strict=True,
    ):
        assert problem.startswith(words)
    good = RunnerBuilder(place.file).service("one", part, policy=ServicePolicy(restart=Restart.ALWAYS))
    assert isinstance(good.router(AlwaysRoute(plugin="alpha"), layers=RouteLimits(parallel=1)).build(), Runner)


def test_the_order_of_the_calls_does_not_matter(tmp_path: Path) -> None:
    """A custom trigger may name a producer that is given later."""
    place = Place(tmp_path)
    place.file.write_text(GOOD + '\ntriggers = [{ kind = "custom", producer = "ticks" }]\n')
    part: Any = lambda tools: None  # noqa: E731  # never called
    with pytest.raises(RunnerIncomplete, match=r"there is no \[producers.ticks\]"):
        RunnerBuilder(place.file).service("beat", part).build()
    assert isinstance(RunnerBuilder(place.file).service("beat", part).producer("ticks", part).build(), Runner)


def test_routes_of_code_are_added_to_those_of_the_file_in_any_order(tmp_path: Path) -> None:
    """Of each limit the tightest holds, and what leads nowhere is listed with the rest."""
    place = Place(tmp_path)
    place.file.write_text(GOOD + '[[router.always]]\nplugin = "alpha"\njob = "audit"\n[router.layers]\nparallel = 8\n')
    first: dict[str, Any] = {"layers": RouteLimits(parallel=4, decide_deadline_s=9.0)}
    second: dict[str, Any] = {"fallback": FallbackRoute(plugin="alpha"), "layers": RouteLimits(decide_deadline_s=2.0)}
    for parts in ((first, second), (second, first)):
        builder = RunnerBuilder(place.file)
        for part in parts:
            builder.router(**part)
        router = builder.build().config.router
        assert router.layers == RouteLimits(parallel=4, decide_deadline_s=2.0)
        assert (len(router.always), router.fallback) == (1, FallbackRoute(plugin="alpha"))
    wrong = RunnerBuilder(place.file).router(**second)
    wrong.router(AlwaysRoute(plugin="alpha", job="audit"), fallback=FallbackRoute(plugin="moon"))
    with pytest.raises(RunnerIncomplete) as refused:
        wrong.build()
    assert refused.value.problems == [
        "router: there are 2 fallbacks, and what nobody takes is for one",
        "router.always[1]: job 'audit' of alpha is in `always` already: put both into one entry",
    ]


def test_a_runner_that_was_not_started_ends_at_once(tmp_path: Path) -> None:
    """However often it is told to, and it cannot be started afterwards."""

    async def scenario() -> None:
        runner = Runner(Place(tmp_path).load())
        with pytest.raises(RunnerMisused, match="was not started"):
            await runner
        with pytest.raises(RunnerMisused, match="does not run"):
            await runner.status()
        assert [await runner.shutdown(), await runner.shutdown(), await runner] == [0, 0, 0]
        with pytest.raises(RunnerMisused, match="started once"):
            await runner.start()
        await asyncio.sleep(0)

    run_async(scenario())
