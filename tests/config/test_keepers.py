"""Keepers in the configuration: what sets them apart from vaults, and that no key and no plugin serves both."""

# ruff: noqa: E501  # a case a line: what is written, and what is answered

from pathlib import Path

import pytest

from runnerd.config.model import Config
from runnerd.config.roles import same_keys
from tests.config.toml_bench import GOOD, MARKET, Place

KEEPER = f"""
[wallets.maid]
keystore = "keys/maid.json"
passphrase_file = "keys/passphrase"

[keepers.nav]
chain = "local"
wallet = "maid"
max_gas_wei_per_day = 1000
max_transactions_per_hour = 2
max_transactions_per_day = 20

[keepers.nav.reads.age]
contract = "{MARKET}"
function = "age() view returns (uint256)"

[keepers.nav.actions.refresh]
contract = "{MARKET}"
function = "refresh(uint256 round)"
permissionless = true
reducing = true
limits.round = {{ min = 1 }}

[plugins.sweeper]
role = "keeper"
keeper = "nav"
path = "plugins/alpha.py"
"""
ACTION = "keepers.nav.actions.refresh"
WHY = "write permissionless = true, your statement that everybody may call this function: a keeper has no rights, and an action that needs one belongs to a vault"
MIXED = "the key of an operator never serves a keeper, nor the reverse"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    (tmp_path / "keys/maid.json").touch()
    return place


def changed(old: str, new: str) -> str:
    """The good configuration with its keeper, and one thing of the keeper's replaced."""
    assert KEEPER.count(old) == 1, f"{old!r} is there {KEEPER.count(old)} times"
    return GOOD + KEEPER.replace(old, new)


def good(place: Place) -> Config:
    return place.load(GOOD + KEEPER)


def test_a_keeper_and_its_plugin_are_read(place: Place) -> None:
    """The positive control of all below; a plugin is an operator if it does not say otherwise."""
    config = good(place)
    alpha, sweeper = config.plugins["alpha"], config.plugins["sweeper"]
    assert (alpha.role, alpha.place, sweeper.role, sweeper.place) == ("operator", "main", "keeper", "nav")
    assert config.places == {"main": config.vaults["main"], "nav": config.keepers["nav"]}
    assert config.keepers["nav"].actions["refresh"].permissionless is True


@pytest.mark.parametrize(
    "text, expected",
    [
        # the plugin and its place
        (changed('role = "keeper"\nkeeper = "nav"', 'role = "keeper"'), 'plugins.sweeper.keeper: is missing: role = "keeper" needs keeper = one of: nav'),
        (changed('role = "keeper"\nkeeper = "nav"', 'role = "keeper"\nvault = "main"'), "plugins.sweeper.vault: a keeper names no vault: leave it out, and write keeper = one of: nav"),
        (changed('keeper = "nav"', 'keeper = "nav"\nvault = "main"'), "plugins.sweeper.vault: a keeper names no vault: leave it out, and write keeper = one of: nav"),
        (changed('keeper = "nav"', 'keeper = "nva"'), "plugins.sweeper.keeper: there is no [keepers.nva]; there are: nav"),
        (changed('keeper = "nav"', 'keeper = "main"'), "plugins.sweeper.keeper: there is no [keepers.main]; there are: nav"),
        (changed('role = "keeper"\n', ""), 'plugins.sweeper.keeper: is for role = "keeper", and this one is an operator: write role = "keeper", or vault = one of: main'),
        (changed('role = "keeper"\nkeeper = "nav"', ""), 'plugins.sweeper.vault: is missing: role = "operator" needs vault = one of: main'),
        (changed('role = "keeper"\nkeeper = "nav"', 'vault = "nav"'), "plugins.sweeper.vault: there is no [vaults.nav]; there are: main"),
        (changed('role = "keeper"', 'role = "kepeer"'), "plugins.sweeper.role: Invalid enum value 'kepeer'"),
        # the statement
        (changed("permissionless = true", "permissionless = false"), f"{ACTION}.permissionless: is not true: {WHY}"),
        (changed("permissionless = true\n", ""), f"{ACTION}.permissionless: is not true: {WHY}"),
        (changed("permissionless = true", 'permissionless = "yes"'), f"{ACTION}.permissionless: Expected `bool`, got `str`; {WHY}"),
        # value
        (changed("permissionless = true", "permissionless = true\nmax_value_wei = 1"), f"{ACTION}.max_value_wei: unknown key; allowed: contract, function, permissionless, limits, reducing, errors"),
        # one key, one role
        (changed('wallet = "maid"', 'wallet = "hot"'), f"keepers.nav.wallet: is the operator of vaults.main: {MIXED}; make a wallet for keepers alone; allowed: maid"),
        # the rest of a table is checked as a vault's is
        (changed('wallet = "maid"', 'wallet = "mad"'), "keepers.nav.wallet: there is no [wallets.mad]; there are: hot, maid"),
        (changed('chain = "local"', 'chain = "loco"'), "keepers.nav.chain: there is no [chains.loco]; there are: local"),
        (changed("max_transactions_per_hour = 2", "max_transactions_per_hour = 200"), "keepers.nav.max_transactions_per_hour: is above max_transactions_per_day = 20"),
        (changed("age() view returns (uint256)", "age() view"), "keepers.nav.reads.age.function: returns nothing: write `returns (type)`"),
        (changed("refresh(uint256 round)", "refresh(uint256 round) view"), f"{ACTION}.function: is a view; an action changes something, a view is a read"),
        (changed("limits.round = { min = 1 }", "limits.turn = { min = 1 }"), f"{ACTION}.limits.turn: refresh has no such argument; it has: round"),
        (changed("limits.round = { min = 1 }", 'limits.round = { in_list = "friends" }').replace("uint256 round", "address round"), f"{ACTION}.limits.round.in_list: there is no [address_lists.friends]; there are: none"),
        (GOOD + KEEPER + "[plugins.sweeper.budget]\nmax_transactions_per_day = 21", "plugins.sweeper.budget.max_transactions_per_day: is above max_transactions_per_day = 20 of the keeper"),
        (GOOD + KEEPER + "[plugins.sweeper.budget]\nmax_value_wei_per_day = 1", "plugins.sweeper.budget.max_value_wei_per_day: is above max_value_wei_per_day = 0 of the keeper"),
        (changed('path = "plugins/alpha.py"', 'path = "plugins/alpha.py"\nbroadcast = "private"'), "plugins.sweeper.broadcast: private needs private_rpc in the chain of its keeper"),
        (changed('path = "plugins/alpha.py"', 'path = "plugins/alpha.py"\ntriggers = [{ kind = "metric", read = { name = "spot" }, above = 1 }]'), "plugins.sweeper.triggers[0].read.name: there is no [keepers.nav.reads.spot]; there are: age"),
    ],
)  # fmt: skip
def test_each_misuse_is_named_with_what_is_allowed(place: Place, text: str, expected: str) -> None:
    """One problem, at its key."""
    (problem,) = place.problems(text)
    assert problem.startswith(expected)


def test_vaults_and_keepers_share_their_names(place: Place) -> None:
    """The ledger, pauses and budgets know a place by its name alone."""
    text = GOOD + KEEPER.replace("keepers.nav", "keepers.main").replace('keeper = "nav"', 'keeper = "main"')
    assert place.problems(text) == [
        "keepers.main: there is a [vaults.main] too: vaults and keepers share their names, use another"
    ]


def test_one_key_under_two_names_serves_one_role(place: Place) -> None:
    """By the addresses that the signers have; other addresses, and addresses not known, are fine."""
    config = good(place)
    (problem,) = same_keys(config, {"hot": MARKET, "maid": MARKET})
    assert problem.key == "keepers.nav.wallet"
    assert problem.text == (
        f"wallets.maid has the address of wallets.hot, {MARKET}, the operator of vaults.main: {MIXED}"
    )
    assert list(same_keys(config, {"hot": MARKET, "maid": "0x" + "11" * 20})) == []
    assert list(same_keys(config, {"hot": MARKET})) == []
