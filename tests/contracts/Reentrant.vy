# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Hostile owner and operator, for the reentrancy tests
@notice Sends one call to a vault; when the vault's ether arrives, sends it a second one from inside the first.
"""

_second: Bytes[4096]


@external
def attack(vault: address, first: Bytes[4096], second: Bytes[4096]):
    self._second = second
    raw_call(vault, first)


@external
@payable
def __default__():
    second: Bytes[4096] = self._second
    if len(second) > 0:
        self._second = b""
        raw_call(msg.sender, second)
