# pragma version 0.4.3
# pragma evm-version cancun
"""
@title NAV feed, what the demo's NAV-refresh keeper keeps fresh
@license Apache-2.0
@notice Publishes what a vault is worth: its ether, and its stakes at the market, marked to the market's price.
@dev A demo: the mark is the stake times the price over the price at deployment, which is no valuation of anything.
     `refresh` is for everybody: it has no argument, and writes what the chain says. Nobody can gain by calling it.
"""


interface Market:
    def spot() -> uint256: view
    def stakeOf(holder: address) -> uint256: view


event Refreshed:
    caller: indexed(address)
    nav: uint256


vault: public(immutable(address))
market: public(immutable(address))
reference: public(immutable(uint256))
nav: public(uint256)
refreshedAt: public(uint256)


@deploy
def __init__(vault_: address, market_: address):
    """
    @param vault_ Whose worth it is
    @param market_ A RangeMarket, where the vault holds stakes
    """
    vault = vault_
    market = market_
    reference = staticcall Market(market_).spot()
    self.nav = self._current()
    self.refreshedAt = block.number


@external
def refresh():
    """
    @notice Publishes what the vault is worth now. For everybody.
    """
    self.nav = self._current()
    self.refreshedAt = block.number
    log Refreshed(caller=msg.sender, nav=self.nav)


@external
@view
def currentNav() -> uint256:
    """
    @return What `refresh` would publish now, in wei
    """
    return self._current()


@internal
@view
def _current() -> uint256:
    stakes: uint256 = staticcall Market(market).stakeOf(vault)
    return vault.balance + stakes * staticcall Market(market).spot() // reference
