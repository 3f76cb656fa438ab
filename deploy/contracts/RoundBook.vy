# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Round book, what the demo's settlement keeper settles
@license Apache-2.0
@notice Rounds of a fixed number of blocks. A round that is over is settled at the market's price, and the next begins.
@dev A demo: nothing is paid out. `settle` is for everybody, and each round is settled once.
"""


interface Market:
    def spot() -> uint256: view


event Settled:
    round: indexed(uint256)
    caller: indexed(address)
    price: uint256


market: public(immutable(address))
length: public(immutable(uint256))
round: public(uint256)
closesAt: public(uint256)
priceOf: public(HashMap[uint256, uint256])


@deploy
def __init__(market_: address, length_: uint256):
    """
    @param market_ Whose `spot` settles a round
    @param length_ Blocks of a round
    """
    assert length_ > 0, "rounds: length is zero"
    market = market_
    length = length_
    self.round = 1
    self.closesAt = block.number + length_


@external
def settle(round: uint256):
    """
    @notice Settles the running round, which must be over, and begins the next. For everybody.
    @param round Its number: so that nobody settles another one than he meant
    """
    assert round == self.round, "rounds: not the running round"
    assert block.number >= self.closesAt, "rounds: the round is still open"
    price: uint256 = staticcall Market(market).spot()
    self.priceOf[round] = price
    self.round = round + 1
    self.closesAt = block.number + length
    log Settled(round=round, caller=msg.sender, price=price)
