"""What a wallet has on its chain, against what its transactions may cost: nodes take none that it could not pay for.

Too little money is neither a price problem nor a defect of the batch: nothing is signed, bid up or cancelled because of
it. It is said loudly, and ends when somebody sends money.
"""

import logging

from runnerd.executor.tracked import Book
from runnerd.log import fields

logger = logging.getLogger("runnerd.executor")


class Purse:
    """One per lane. Amounts in wei of the chain's coin. The `auditor` says at every block what is in it."""

    def __init__(self, chain_id: int, wallet: str, book: Book) -> None:
        self.balance_wei: int | None = None
        """None until a node has said it."""
        self._chain_id = chain_id
        self._wallet = wallet
        self._book = book
        self._asked_wei = 0
        """What was asked for last, if it was too much."""

    def see(self, balance_wei: int) -> None:
        """What a node says is in it now."""
        self.balance_wei = balance_wei

    def objection(self, wei: int) -> str | None:
        """Why `wei` more cannot be paid, beside all that is signed and may still be included; None if it can."""
        missing = self._missing(wei)
        if missing is None:
            self._asked_wei = 0
            return None
        if not self._asked_wei:
            logger.error(
                "wallet %s has too little money: %d wei, %d wei are missing; nothing more of it is signed until then",
                self._wallet, self.balance_wei, missing,
                extra=fields("wallet_short", wallet=self._wallet, chain=self._chain_id, balance_wei=self.balance_wei,
                             missing_wei=missing),
            )  # fmt: skip
        self._asked_wei = wei
        return self._short(missing)

    def shortfall(self, wei: int) -> str | None:
        """What `objection` would say, asked for without consequence."""
        missing = self._missing(wei)
        return None if missing is None else self._short(missing)

    def _short(self, missing: int) -> str:
        return f"wallet {self._wallet} has {self.balance_wei} wei, {missing} wei too little"

    @property
    def shortage(self) -> str | None:
        """What an operator has to do, in words; None while there is enough."""
        missing = self._missing(self._asked_wei)
        if missing is None:
            return None
        return f"has {self.balance_wei} wei, {missing} wei too little for its transactions: send it at least that"

    def _missing(self, wei: int) -> int | None:
        if self.balance_wei is None:
            return None
        missing = self._book.promised_wei(self._chain_id, self._wallet) + wei - self.balance_wei
        return missing if missing > 0 else None
