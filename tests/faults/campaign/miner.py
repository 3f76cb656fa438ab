"""Mines the blocks of a campaign at an even pace, and none while a reorg is under way.

anvil's own mining by interval does not wait for `anvil_reorg`: a block that it mines meanwhile stays in the chain
without its parent, on a state that was rolled back, and then one nonce of an account is used twice in one chain. (Seen
once in 120 reorgs at four blocks a second, with anvil alone.) No real chain does that.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.anvil import Anvil


class Miner:
    """Takes turns with whoever wants the chain to stand still. The node mines nothing by itself (`--no-mining`)."""

    def __init__(self, node: Anvil, block_time_s: float) -> None:
        self._node = node
        self._block_time_s = block_time_s
        self._turn = threading.Lock()
        self._stop = threading.Event()
        self._error: Exception | None = None

    @contextmanager
    def still(self) -> Iterator[None]:
        """No block is mined within."""
        with self._turn:
            yield

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Blocks are mined within. Raises at the end what the node said if it refused one."""
        thread = threading.Thread(target=self._mine, name="miner")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
        if self._error is not None:
            raise self._error

    def _mine(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._block_time_s, time.monotonic())
            try:
                with self._turn:
                    self._node.rpc("evm_mine")
            except Exception as error:  # whatever it is, the campaign's thread is told
                self._error = error
                return
