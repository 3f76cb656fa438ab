"""The world of one campaign: a node, a database, a vault with its market, a configuration, and the daemon under attack.

Everything is real; between the daemon and the others stand a proxy and a relay that the campaign can make faulty.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.demo.world import Venue, build_venue, make_keystore, render_config
from tests.faults.campaign.database import Database, campaign_database
from tests.faults.campaign.faulty_node import Fleet, faulty_fleet
from tests.faults.campaign.miner import Miner
from tests.faults.campaign.plan import MAX_REORG, Fault
from tests.faults.campaign.supervisor import Supervisor, supervisor
from tests.faults.checker import Case
from tests.support.anvil import Anvil, start_anvil
from tests.support.crash_page import create_page, open_page
from tests.support.short_dir import make_short_dir

BLOCK_TIME_S: Final = 0.2
CONFIRMATIONS: Final = MAX_REORG + 2
STATES_KEPT: Final = 64
"""Blocks at which the node still answers calls: deeper than any reorg or lag, and an hour does not fill the disk."""
GAS_LIMIT: Final = 30_000_000
WEI: Final = 10**24
"""Of the operator and the vault: a campaign must not end because it ran out of money."""
VIEWS: Final = 3
"""Nodes in the daemon's configuration: so many proxies before the one chain."""
CHAIN: Final[Mapping[str, object]] = {
    "poll_s": 0.1, "confirmations": CONFIRMATIONS, "rpc_timeout_s": 0.5, "replace_after_blocks": 3,
}  # fmt: skip
ACTOR: Final = Path(__file__).resolve().parents[1] / "plugins/actor.py"
STRIKES: Final = (1_000, 10_000_000)
"""The limits of `deploy.demo.world`: a strike outside of them is a denied action."""
MODES: Final = {
    "steady": ("acting", 0.25),
    "twin": ("pair", 0.4),
    "greedy": ("denied", 0.7),
    "lazy": ("idle", 0.5),
    "moody": ("moody", 0.3),
    "careful": ("careful", 0.6),
}
FORGIVING: Final = {"crashes_to_quarantine": 1_000_000, "backoff_first_s": 0.02, "backoff_max_s": 0.1}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What faults are done to."""

    directory: Path
    node: Anvil
    miner: Miner
    faulty: Fleet
    database: Database
    venue: Venue
    daemon: Supervisor

    @property
    def plugins(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(MODES)

    def case(self, foreign: frozenset[str], accepted_keys: frozenset[str]) -> Case:
        """For the checker."""
        return Case(
            node_url=self.node.url,
            dsn=self.database.dsn,
            operator=self.venue.operator,
            vault=self.venue.vault.address,
            market=self.venue.market.address,
            strike_limits=STRIKES,
            foreign=foreign,
            accepted_keys=accepted_keys,
        )

    def head(self) -> int:
        """The true height of the chain."""
        return int(self.node.rpc("eth_blockNumber"), 16)

    def silence_plugins(self) -> None:
        """Rewrite the configuration so that nothing is triggered any more; takes effect with a reload or a start."""
        self._write_config(is_ticking=False)

    def write_config(self) -> None:
        """The configuration with which plugins act by themselves."""
        self._write_config(is_ticking=True)

    def _write_config(self, *, is_ticking: bool) -> None:
        config = render_config(
            self.venue,
            {name: _plugin(mode, every_s, is_ticking=is_ticking) for name, (mode, every_s) in MODES.items()},
            url=self.faulty.urls[0],
            dsn=self.database.daemon_dsn,
            chain={**CHAIN, "rpc": self.faulty.urls} if VIEWS > 1 else CHAIN,
            vault={"max_value_wei_per_day": 10**20},
        )
        # The page of metrics is a process more at every start, and no part of this.
        config = config.replace("[http]\nport = 0", "[http]\nenabled = false")
        config = config.replace('log_level = "debug"', 'log_level = "info"')
        (self.directory / "runnerd.toml").write_text(config)


def _plugin(mode: str, every_s: float, *, is_ticking: bool) -> Mapping[str, object]:
    return {
        "path": str(ACTOR),
        "class_name": "actor",
        "params": {"mode": mode},
        "triggers": [{"kind": "cron", "every_seconds": every_s}] if is_ticking else [],
        "restart": FORGIVING,
        "attempts": 5,
        "call_deadline_s": 30.0,
    }


@contextmanager
def build_world(on_hit: Callable[[Fault], None], broken: str | None) -> Iterator[World]:
    """A world for the length of the block. The daemon is not started; `on_hit` hears of RPC faults that happened."""
    with ExitStack() as stack:
        directory = stack.enter_context(make_short_dir())
        node = stack.enter_context(
            start_anvil(prune_history=False, extra_args=["--no-mining", "--prune-history", str(STATES_KEPT)])
        )
        miner = Miner(node, BLOCK_TIME_S)
        stack.enter_context(miner.at_work())
        database = stack.enter_context(campaign_database(directory))
        faulty = stack.enter_context(faulty_fleet(node.url, VIEWS, on_hit))
        operator = make_keystore(directory)
        venue = build_venue(node.url, operator)
        for address in (operator, venue.vault.address):
            node.rpc("anvil_setBalance", address, hex(WEI))
        # No reorg may take that back: it is not in a transaction, and would not come again.
        node.rpc("anvil_mine", hex(CONFIRMATIONS + 1))
        page_path = directory / "crash.page"
        create_page(page_path)
        page = stack.enter_context(open_page(page_path))
        daemon = stack.enter_context(supervisor(directory, page_path, page, broken=broken, node_url=node.url))
        world = World(
            directory=directory, node=node, miner=miner, faulty=faulty, database=database, venue=venue, daemon=daemon
        )  # fmt: skip
        world.write_config()
        yield world
