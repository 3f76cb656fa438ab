# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Batch executor, the delegate of an operator's own account (EIP-7702)
@license Apache-2.0
@notice An account that delegates to this code can send batches to itself: many calls in one transaction, all or none.
@dev ERC-7821 (https://eips.ethereum.org/EIPS/eip-7821), the mode with opData only: each batch carries an intent id (32
     bytes of opData) that works once per account. Takes calls from the account itself alone: whoever else calls
     `execute` is refused, so delegating to this code gives nobody any right. It has no owner, no upgrade, no
     delegatecall and checks no signature. Its storage is the account's own.
"""


struct Call:
    to: address
    value: uint256
    data: Bytes[MAX_CALL_DATA]


event Executed:
    intentId: indexed(bytes32)
    operator: indexed(address)
    calls: uint256
    value: uint256


MAX_CALLS: constant(uint256) = 16
MAX_CALL_DATA: constant(uint256) = 2048
# An intent id is 32 bytes. The room above is there so that, say, a 65-byte signature is refused with a reason.
MAX_OP_DATA: constant(uint256) = 96
# Two head words, the array's length, per call its offset, `to`, `value`, data offset, data length and data; opData.
MAX_EXECUTION_DATA: constant(uint256) = 64 + 32 + MAX_CALLS * (160 + MAX_CALL_DATA) + 32 + MAX_OP_DATA

# Only call type, exec type and mode selector are looked at, as in OperatorVault.vy.
MODE_MASK: constant(bytes32) = 0xffff00000000ffffffff00000000000000000000000000000000000000000000
MODE_BATCH_OPDATA: constant(bytes32) = 0x0100000000007821000100000000000000000000000000000000000000000000

_executed: HashMap[bytes32, bool]


@external
@payable
def __default__():
    """
    @notice Takes plain ether, as the account did before. A call to a function that does not exist is refused.
    """
    assert len(msg.data) == 0, "executor: unknown function"


@external
@payable
@nonreentrant
def execute(mode: bytes32, executionData: Bytes[MAX_EXECUTION_DATA]):
    """
    @notice Runs a batch of 1 to 16 calls, all or nothing. A failing call's revert data comes up unchanged.
    @dev More than 2048 bytes of data in a call, and data that is not ABI-encoded, revert without a reason.
    @param mode ERC-7821 single batch with opData (0x01000000000078210001…)
    @param executionData abi.encode(Call[], bytes opData) with opData the 32-byte intent id
    """
    assert msg.sender == self, "executor: caller is not the account"
    assert mode & MODE_MASK == MODE_BATCH_OPDATA, "executor: unsupported execution mode"
    assert len(executionData) >= 64, "executor: malformed execution data"
    head: uint256 = extract32(executionData, 0, output_type=uint256)
    assert head == 64, "executor: malformed execution data"
    assert extract32(executionData, head, output_type=uint256) <= MAX_CALLS, "executor: too many calls"

    calls: DynArray[Call, MAX_CALLS] = []
    op_data: Bytes[MAX_OP_DATA] = b""
    calls, op_data = abi_decode(executionData, (DynArray[Call, MAX_CALLS], Bytes[MAX_OP_DATA]))
    assert len(op_data) == 32, "executor: opData is not an intent id of 32 bytes"
    intent_id: bytes32 = extract32(op_data, 0)
    assert intent_id != empty(bytes32), "executor: intent id is zero"
    assert not self._executed[intent_id], "executor: intent already executed"
    self._executed[intent_id] = True
    assert len(calls) > 0, "executor: empty batch"

    total: uint256 = 0
    for i: uint256 in range(len(calls), bound=MAX_CALLS):
        assert calls[i].to != empty(address), "executor: target is the zero address"
        assert calls[i].to != self, "executor: target is the account itself"
        assert calls[i].value <= self.balance, "executor: insufficient balance"
        raw_call(calls[i].to, calls[i].data, value=calls[i].value)
        total += calls[i].value

    log Executed(intentId=intent_id, operator=msg.sender, calls=len(calls), value=total)


@external
@view
def supportsExecutionMode(mode: bytes32) -> bool:
    """
    @notice Whether `execute` takes this ERC-7821 mode.
    """
    return mode & MODE_MASK == MODE_BATCH_OPDATA


@external
@view
def executed(intentId: bytes32) -> bool:
    """
    @notice Whether a batch with this intent id took effect for this account. Once true, true for ever.
    """
    return self._executed[intentId]
