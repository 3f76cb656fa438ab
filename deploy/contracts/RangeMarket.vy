# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Range market, the demo venue of runnerd
@license Apache-2.0
@notice Takes native ether as the stake of a position on a price: above or below a strike, or inside a range.
@dev A demo. The keeper is believed, and there is no settlement: a stake goes in and never comes out. Never use it with
     funds that are worth anything. Prices are integers in hundredths (two decimals): 200_000 is 2,000.00.
     Every position is one half-open interval [lower, upper) of prices. A binary "above" is [strike, 2**256 - 1), a
     binary "below" is [0, strike).
"""


struct Position:
    holder: address
    lower: uint256
    upper: uint256
    stake: uint256


event SpotMoved:
    previous: uint256
    current: uint256


event BinaryMinted:
    id: indexed(uint256)
    holder: indexed(address)
    strike: uint256
    above: bool
    stake: uint256


event RangeMinted:
    id: indexed(uint256)
    holder: indexed(address)
    lower: uint256
    upper: uint256
    stake: uint256


decimals: public(constant(uint8)) = 2
# A range that reaches beyond a tenth or ten times the spot is a typing error or a bet on everything.
REACH: constant(uint256) = 10

deployer: public(immutable(address))
keeper: public(immutable(address))
spot: public(uint256)
positionCount: public(uint256)
openInterest: public(uint256)
stakeOf: public(HashMap[address, uint256])
_positions: HashMap[uint256, Position]


@deploy
def __init__(spot_: uint256, keeper_: address):
    """
    @param spot_ First price, in hundredths
    @param keeper_ Who may move the price, beside the deployer; may be zero
    """
    assert spot_ > 0, "market: spot is zero"
    deployer = msg.sender
    keeper = keeper_
    self.spot = spot_


@external
def setSpot(price: uint256):
    """
    @notice Moves the price, in hundredths. For the keeper and the deployer.
    """
    assert msg.sender == keeper or msg.sender == deployer, "market: caller is not the keeper"
    assert price > 0, "market: spot is zero"
    log SpotMoved(previous=self.spot, current=price)
    self.spot = price


@external
@payable
def mintBinary(strike: uint256, above: bool) -> uint256:
    """
    @notice Stakes the sent ether on the price being at or above the strike, or below it.
    @return Id of the new position; ids start at 1
    """
    assert strike > 0, "market: strike is zero"
    id: uint256 = self._mint(strike if above else 0, max_value(uint256) if above else strike)
    log BinaryMinted(id=id, holder=msg.sender, strike=strike, above=above, stake=msg.value)
    return id


@external
@payable
def mintRange(lower: uint256, upper: uint256) -> uint256:
    """
    @notice Stakes the sent ether on the price being in [lower, upper).
    @return Id of the new position; ids start at 1
    """
    assert lower > 0, "market: lower is zero"
    assert lower < upper, "market: lower is not below upper"
    assert lower >= self.spot // REACH and upper // REACH <= self.spot, "market: range is too far from spot"
    id: uint256 = self._mint(lower, upper)
    log RangeMinted(id=id, holder=msg.sender, lower=lower, upper=upper, stake=msg.value)
    return id


@external
@view
def position(id: uint256) -> Position:
    """
    @return holder, lower and upper (hundredths, half-open), stake (wei)
    """
    assert id > 0 and id <= self.positionCount, "market: unknown position"
    return self._positions[id]


@internal
@payable
def _mint(lower: uint256, upper: uint256) -> uint256:
    assert msg.value > 0, "market: stake is zero"
    id: uint256 = self.positionCount + 1
    self.positionCount = id
    self.openInterest += msg.value
    self.stakeOf[msg.sender] += msg.value
    self._positions[id] = Position(holder=msg.sender, lower=lower, upper=upper, stake=msg.value)
    return id
