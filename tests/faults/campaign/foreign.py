"""Somebody else uses the operator's key: a transaction that the ledger does not know; and the way out, adoption."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psycopg
from eth_account import Account

from tests.faults.campaign.world import World

RUNNERCTL: Final = str(Path(sys.executable).with_name("runnerctl"))
DEADLINE_S: Final = 20.0
POLL_S: Final = 0.05
GWEI: Final = 10**9


class Stranger:
    """Holds the operator's key, as a second bot or a person with the keystore would."""

    def __init__(self, world: World) -> None:
        self.hashes: set[str] = set()
        self._unadopted: set[str] = set()
        self._world = world
        keystore = json.loads((world.directory / "operator.json").read_text())
        passphrase = (world.directory / "passphrase").read_text().strip()
        self._key = Account.decrypt(keystore, passphrase)

    def act(self) -> bool:
        """Send one at the next nonce of the chain, see the vault paused, adopt, and see it go on."""
        self.settle()  # an earlier one may have been mined only now
        world = self._world
        rpc = world.node.rpc
        nonce = int(rpc("eth_getTransactionCount", world.venue.operator, "latest"), 16)
        signed = Account.sign_transaction(
            {"to": world.venue.owner, "value": 1, "nonce": nonce, "gas": 21_000, "chainId": 31337,
             "maxFeePerGas": 450 * GWEI, "maxPriorityFeePerGas": 50 * GWEI}, self._key,
        )  # fmt: skip
        tx_hash = "0x" + bytes(signed.hash).hex()
        self.hashes.add(tx_hash)
        self._unadopted.add(tx_hash)  # also if the node refuses it: it may have it all the same
        try:
            rpc("eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex())
        except RuntimeError:
            return False  # the nonce was used while we looked
        if not self._wait(lambda: self._is_mined(tx_hash)):
            return False
        self._wait(self._is_paused)
        self._wait(self.settle)
        return True

    def settle(self) -> bool:
        """Adopt what is on chain and was not adopted, as an operator would who trusts the vault again. Whether done."""
        for tx_hash in [tx_hash for tx_hash in sorted(self._unadopted) if self._is_mined(tx_hash)]:
            if not self._runnerctl("adopt", tx_hash):
                return False
            self._unadopted.discard(tx_hash)
        return not self._is_paused() or self._runnerctl("resume", "--vault", "demo")

    def _is_mined(self, tx_hash: str) -> bool:
        return self._world.node.rpc("eth_getTransactionReceipt", tx_hash) is not None

    def _is_paused(self) -> bool:
        try:
            with psycopg.connect(self._world.database.dsn, connect_timeout=5) as connection:
                return connection.execute("select 1 from pauses where scope = 'vault'").fetchone() is not None
        except psycopg.Error:
            return False

    def _runnerctl(self, *command: str) -> bool:
        self._world.daemon.keep()
        config = str(self._world.directory / "runnerd.toml")
        asked = subprocess.run([RUNNERCTL, "--config", config, *command], capture_output=True, check=False, timeout=60)
        return asked.returncode == 0

    def _wait(self, is_so: Callable[[], bool]) -> bool:
        until = time.monotonic() + DEADLINE_S
        while not is_so():
            if time.monotonic() > until:
                return False
            time.sleep(POLL_S)
        return True
