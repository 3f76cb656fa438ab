# pragma version 0.4.3
# pragma evm-version paris
"""
@title Effects probe: what a transaction would change, measured from the inside
@license Apache-2.0
@notice Never deployed. runnerd has a node put this code at an address for the length of one simulated call (a state
        override of eth_call or eth_simulateV1), to read balances and views around the vault's transaction.
@dev For the EVM version before PUSH0, so that every chain can run it. It has no storage: at the operator's own address
     it leaves nothing behind, and what the vault sees as its caller is the operator.
"""


struct Read:
    target: address
    data: Bytes[MAX_READ_DATA]


struct Word:
    is_read: bool
    word: bytes32


MAX_READS: constant(uint256) = 8
MAX_READ_DATA: constant(uint256) = 4100
# More than a transaction may have (128 KiB in the pools of the common nodes).
MAX_CALL_DATA: constant(uint256) = 131072


@external
@view
def read(reads: DynArray[Read, MAX_READS]) -> DynArray[Word, MAX_READS]:
    """
    @notice The first word that each view returns. A read without data is the native balance of its target.
    @return For each read whether there is such a word, and the word
    """
    return self._read(reads)


@external
@payable
def measure(
    reads: DynArray[Read, MAX_READS], target: address, data: Bytes[MAX_CALL_DATA]
) -> (DynArray[Word, MAX_READS], DynArray[Word, MAX_READS]):
    """
    @notice Reads, makes the call, reads again. If the call fails its revert data comes up unchanged.
    """
    before: DynArray[Word, MAX_READS] = self._read(reads)
    raw_call(target, data, value=msg.value)
    return before, self._read(reads)


@internal
@view
def _read(reads: DynArray[Read, MAX_READS]) -> DynArray[Word, MAX_READS]:
    words: DynArray[Word, MAX_READS] = []
    for wanted: Read in reads:
        if len(wanted.data) == 0:
            words.append(Word(is_read=True, word=convert(wanted.target.balance, bytes32)))
            continue
        success: bool = False
        returned: Bytes[32] = b""
        success, returned = raw_call(
            wanted.target, wanted.data, max_outsize=32, is_static_call=True, revert_on_failure=False
        )
        if success and len(returned) == 32:
            words.append(Word(is_read=True, word=convert(returned, bytes32)))
        else:
            words.append(Word(is_read=False, word=empty(bytes32)))
    return words
