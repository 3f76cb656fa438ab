# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Intent registry, the on-chain lock for vaults that know no intent ids
@license Apache-2.0
@notice A vault calls `use(id)` first in each batch. A second batch with the same id reverts as a whole.
@dev Ids are kept per caller: nobody can use up an id of somebody else's vault. No owner, no upgrade, no funds.
"""


event Used:
    caller: indexed(address)
    id: indexed(bytes32)


used: public(HashMap[address, HashMap[bytes32, bool]])


@external
def use(id: bytes32):
    """
    @notice Marks `id` as used by the caller; reverts when the caller has used it before.
    """
    assert id != empty(bytes32), "registry: id is zero"
    assert not self.used[msg.sender][id], "registry: intent already executed"
    self.used[msg.sender][id] = True
    log Used(caller=msg.sender, id=id)
