# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A venue that may cheat, for the tests of expectations
@notice Takes ether, pays `payout` coins and gives `refund` wei back. Whoever likes changes the terms, also between a
        simulation and the block.
"""


interface Coin:
    def transfer(receiver: address, amount: uint256) -> bool: nonpayable
    def wrap(receiver: address, amount: uint256): nonpayable


coin: public(immutable(address))
payout: public(uint256)
refund: public(uint256)
price: public(uint256)
drift: public(int256)
isSilent: public(bool)


@deploy
@payable
def __init__(coin_: address):
    coin = coin_
    self.price = 1_000_000


@external
def setTerms(payout_: uint256, refund_: uint256, drift_: int256, isSilent_: bool):
    """
    @notice What the next swap pays, in coins and in wei, by how much it moves the price, and whether the coin says so.
    """
    self.payout = payout_
    self.refund = refund_
    self.drift = drift_
    self.isSilent = isSilent_


@external
@payable
def swap():
    if self.isSilent:
        extcall Coin(coin).wrap(msg.sender, self.payout)
    elif self.payout > 0:
        extcall Coin(coin).transfer(msg.sender, self.payout)
    if self.refund > 0:
        raw_call(msg.sender, b"", value=self.refund)
    self.price = convert(convert(self.price, int256) + self.drift, uint256)


@external
@view
def change() -> int256:
    """
    @notice A read that is negative.
    """
    return convert(self.price, int256) - 2_000_000


@external
@view
def converted(shares: uint256) -> uint256:
    """
    @notice A read with an argument, as ERC-4626 has it.
    """
    return shares * self.price // 1_000_000


@external
@view
def state() -> (uint256, uint256):
    return self.price, self.payout
