"""What `runnerctl` shows of keepers: status, why, check, doctor, new; and how they are paused."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runnerd.chain.address import checksum_address
from runnerd.cli.doctor.chains import examine_chains
from runnerd.cli.doctor.finding import Mark
from runnerd.cli.exits import ExitCode
from runnerd.cli.hindrance import hindrances
from runnerd.config.load import load_config
from runnerd.config.roles import NEVER_MIXED
from runnerd.control.messages import Done, Pause
from runnerd.control.place_messages import KeeperStatus
from runnerd.control.status_messages import Status
from tests.cli.configs import write_config
from tests.cli.running import invoke
from tests.cli.samples import plugin, status
from tests.support.anvil import start_anvil
from tests.support.contracts import deploy
from tests.support.fake_daemon import fake_daemon

WALLET = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
TABLES = """
[wallets.upkeep]
keystore = "upkeep.json"
passphrase_file = "passphrase"
[keepers.nav]
chain = "local"
wallet = "upkeep"
[keepers.nav.actions.refresh]
contract = "{contract}"
function = "refresh()"
permissionless = true
[plugins.sweeper]
role = "keeper"
keeper = "nav"
path = "quiet.py"
class_name = "quiet"
"""


def keeper(**changes: object) -> KeeperStatus:
    """One that works, but for `changes`."""
    values: dict[str, object] = {
        "name": "nav", "chain": "base", "address": WALLET, "balance_wei": 10**17, "paused": None, "reducing": None,
        "problem": None, "waiting_intents": 0,
    }  # fmt: skip
    return KeeperStatus(**(values | changes))  # type: ignore[arg-type]  # the values of a test


def kept(**changes: object) -> Status:
    """A daemon with one keeper and its plugin."""
    return status(plugins=[plugin("sweeper", vault="nav", role="keeper")], keepers=[keeper(**changes)])


def write_kept(directory: Path, contract: str = WALLET, **places: object) -> Path:
    """A configuration with a keeper."""
    file = write_config(directory, **places)  # type: ignore[arg-type]  # the values of a test
    (directory / "upkeep.json").write_text((directory / "operator.json").read_text())
    file.write_text(file.read_text() + TABLES.format(contract=contract))
    return file


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_status_lists_keepers_with_what_is_in_their_wallets(socket: Path, columns: int) -> None:
    """Below the vaults; the address where there is room."""
    with fake_daemon(socket, lambda _: kept()):
        shown = invoke("--socket", str(socket), "status", columns=columns).stdout
    lines = shown.splitlines()
    assert max(map(len, lines)) <= columns
    (row,) = [line for line in lines if line.startswith("nav ")]
    assert row.split()[:6] == ["nav", "base", "open", "0.1", "ether", "0"]
    assert (WALLET in row) == (columns >= 120)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"paused": "vault nav is paused by x"}, "runnerctl resume --keeper nav"),
        ({"problem": "a right at vault main"}, "keeper nav is refused: a right at vault main"),
        ({"waiting_intents": 2}, "2 intents of keeper nav wait for the chain"),
        ({"paused_actions": ["nav.refresh"]}, "action nav.refresh is paused; to go on: runnerctl resume --action"),
    ],
)
def test_what_keeps_a_keeper_from_acting_is_said_of_the_keeper(changes: dict[str, object], expected: str) -> None:
    """Nothing does while it is well."""
    assert hindrances(kept().plugins[0], kept()) == []
    shown = kept(**changes)
    one = plugin("sweeper", vault="nav", role="keeper", paused=changes.get("paused"))
    assert any(expected in line for line in hindrances(one, shown)), hindrances(one, shown)


def test_a_keeper_is_paused_by_its_name(socket: Path) -> None:
    """In the scope of vaults, with which it shares its names."""
    with fake_daemon(socket, lambda _: Done(text="paused")) as daemon:
        assert invoke("--socket", str(socket), "pause", "--keeper", "nav").exit_code == ExitCode.DONE
        assert invoke("--socket", str(socket), "pause", "--vault", "nav").exit_code == ExitCode.DONE
    assert daemon.requests == [Pause(scope="vault", name="nav"), Pause(scope="vault", name="nav")]


def test_check_shows_keepers_and_what_their_plugins_may_ask_for(tmp_path: Path) -> None:
    """What was understood."""
    result = invoke("--config", str(write_kept(tmp_path)), "check")
    assert result.exit_code == ExitCode.DONE
    assert {"nav", "upkeep", "refresh", "sweeper"} <= set(result.stdout.split())


@dataclass(frozen=True, slots=True)
class Venue:
    """A node with a vault of `owner` and `operator`, and a feed that everybody may refresh."""

    url: str
    owner: str
    operator: str
    stranger: str
    vault: str
    feed: str


@pytest.fixture(scope="module")
def venue() -> Iterator[Venue]:
    with start_anvil() as anvil:
        owner, operator, stranger = (checksum_address(address) for address in anvil.accounts[:3])
        vault = deploy(anvil.url, "OperatorVault", owner, operator)
        feed = deploy(anvil.url, "NavFeed", vault, deploy(anvil.url, "RangeMarket", 1, owner))
        yield Venue(anvil.url, owner, operator, stranger, vault, feed)


@pytest.mark.integration
def test_the_doctor_finds_a_right_and_a_missing_contract(tmp_path: Path, venue: Venue) -> None:
    """As the daemon would at its start; a stranger's wallet is fine."""

    def verdict(contract: str, wallet: str) -> tuple[Mark, str]:
        config = load_config(write_kept(tmp_path, contract, rpc=venue.url, vault=venue.vault))
        found = examine_chains(config, {"operator": venue.operator, "upkeep": wallet})["local"]
        return next((each.mark, each.text) for each in found if each.subject == "keeper nav")

    assert verdict(venue.feed, venue.stranger)[0] is Mark.GOOD
    assert verdict(venue.feed, venue.owner) == (
        Mark.BAD,
        f"our wallet {venue.owner} has a right at vault main (owner of {venue.vault}): {NEVER_MIXED}",
    )
    mark, text = verdict(venue.stranger, venue.stranger)
    assert (mark, "there is no contract at actions.refresh.contract" in text) == (Mark.BAD, True)


def test_the_doctor_finds_one_key_under_two_names(tmp_path: Path) -> None:
    """By the addresses in the keystores: before the daemon refuses to start."""
    file = write_kept(tmp_path)
    assert "roles" not in invoke("--config", str(file), "doctor").stdout
    header = '{"version": 3, "crypto": {}, "address": "' + WALLET[2:].lower() + '"}'
    for name in ("operator.json", "upkeep.json"):
        (tmp_path / name).write_text(header)
    shown = " ".join(invoke("--config", str(file), "doctor").stdout.split())
    assert f"wallets.upkeep has the address of wallets.operator, {WALLET}" in shown


def test_new_scaffolds_a_keeper(tmp_path: Path) -> None:
    """With its two lines of the configuration; a plugin acts for one place."""
    result = invoke("new", "sweeper", "--dir", str(tmp_path), "--keeper", "nav")
    assert result.exit_code == ExitCode.DONE
    assert '[plugins.sweeper]\nrole = "keeper"\nkeeper = "nav"\npath = ' in result.stdout
    both = invoke("new", "other", "--dir", str(tmp_path), "--keeper", "nav", "--vault", "main")
    assert (both.exit_code, (tmp_path / "other").exists()) == (ExitCode.USAGE, False)
