# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Operator vault, the reference vault of runnerd
@license Apache-2.0
@notice Holds native ether. One operator may send atomic batches to what the owner has allowed, within two caps.
@dev Batches follow ERC-7821 (https://eips.ethereum.org/EIPS/eip-7821). Differences, all towards refusing more: a
     `to` of zero is refused (the ERC reads it as this contract), and the vault can never call itself. A batch may
     carry an intent id (32 bytes of opData). An id works once: this is the on-chain half of "one effect per decision".
     The owner decides who, where and how much; the operator decides when. There is no delegatecall and no upgrade.
"""


struct Call:
    to: address
    value: uint256
    data: Bytes[MAX_CALL_DATA]


event OwnershipTransferStarted:
    previousOwner: indexed(address)
    newOwner: indexed(address)


event OwnershipTransferred:
    previousOwner: indexed(address)
    newOwner: indexed(address)


event OperatorChanged:
    previous: indexed(address)
    current: indexed(address)


event PausedChanged:
    paused: bool
    by: indexed(address)


event AllowedChanged:
    target: indexed(address)
    selector: indexed(bytes4)
    allowed: bool


event CapsChanged:
    maxPerTransaction: uint256
    maxPerDay: uint256


event Withdrawn:
    to: indexed(address)
    amount: uint256


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
DAY_S: constant(uint256) = 86400

# ERC-7579 mode: call type (1 byte), exec type (1), reserved (4), mode selector (4), free for use (22). ERC-7821 looks
# at call type, exec type and mode selector only: batch, revert on any failure, without or with optional opData.
MODE_MASK: constant(bytes32) = 0xffff00000000ffffffff00000000000000000000000000000000000000000000
MODE_BATCH: constant(bytes32) = 0x0100000000000000000000000000000000000000000000000000000000000000
MODE_BATCH_OPDATA: constant(bytes32) = 0x0100000000007821000100000000000000000000000000000000000000000000

owner: public(address)
pendingOwner: public(address)
operator: public(address)
paused: public(bool)
maxPerTransaction: public(uint256)
maxPerDay: public(uint256)
_allowed: HashMap[address, HashMap[bytes4, bool]]
_executed: HashMap[bytes32, bool]
_spentDay: uint256
_spent: uint256


@deploy
def __init__(owner_: address, operator_: address):
    """
    @notice Both caps start at zero and nothing is allowed: a fresh vault can do nothing until its owner says so.
    @param owner_ Who configures the vault and may withdraw
    @param operator_ The one address that may execute; zero for none yet
    """
    assert owner_ != empty(address), "vault: owner is the zero address"
    self.owner = owner_
    self.operator = operator_
    log OwnershipTransferred(previousOwner=empty(address), newOwner=owner_)
    log OperatorChanged(previous=empty(address), current=operator_)


@external
@payable
def __default__():
    """
    @notice Takes plain ether. A call to a function that does not exist is refused, not swallowed.
    """
    assert len(msg.data) == 0, "vault: unknown function"


# --- operator ---


@external
@payable
@nonreentrant
def execute(mode: bytes32, executionData: Bytes[MAX_EXECUTION_DATA]):
    """
    @notice Runs a batch of 1 to 16 calls, all or nothing. A failing call's revert data comes up unchanged.
    @dev Everything is checked before the first call is made. More than 2048 bytes of data in a call, and data that is
         not ABI-encoded, revert without a reason in the ABI decoder.
    @param mode ERC-7821 single batch, without (0x01000000000000000000…) or with (0x01000000000078210001…) opData
    @param executionData abi.encode(Call[]) or, in the second mode, also abi.encode(Call[], bytes opData) with
           opData empty or the 32-byte intent id
    """
    assert msg.sender == self.operator, "vault: caller is not the operator"
    assert not self.paused, "vault: paused"
    assert self._isSupported(mode), "vault: unsupported execution mode"
    assert len(executionData) >= 64, "vault: malformed execution data"

    # The first head word, the offset of Call[], tells the two encodings apart. In the plain mode the longer form is
    # refused: decoding it would drop the intent id without a word.
    head: uint256 = extract32(executionData, 0, output_type=uint256)
    has_op_data: bool = head == 64 and mode & MODE_MASK == MODE_BATCH_OPDATA
    assert head == 32 or has_op_data, "vault: malformed execution data"
    assert extract32(executionData, head, output_type=uint256) <= MAX_CALLS, "vault: too many calls"

    calls: DynArray[Call, MAX_CALLS] = []
    intent_id: bytes32 = empty(bytes32)
    if has_op_data:
        op_data: Bytes[MAX_OP_DATA] = b""
        calls, op_data = abi_decode(executionData, (DynArray[Call, MAX_CALLS], Bytes[MAX_OP_DATA]))
        assert len(op_data) == 0 or len(op_data) == 32, "vault: opData is neither empty nor 32 bytes"
        if len(op_data) == 32:
            intent_id = extract32(op_data, 0)
            self._useIntent(intent_id)
    else:
        calls = abi_decode(executionData, (DynArray[Call, MAX_CALLS]))
    assert len(calls) > 0, "vault: empty batch"

    total: uint256 = 0
    cap: uint256 = self.maxPerTransaction
    for i: uint256 in range(len(calls), bound=MAX_CALLS):
        assert calls[i].to != empty(address), "vault: target is the zero address"
        assert calls[i].to != self, "vault: target is the vault itself"
        selector: bytes4 = empty(bytes4)
        if len(calls[i].data) >= 4:
            selector = convert(slice(calls[i].data, 0, 4), bytes4)
        assert self._allowed[calls[i].to][selector], "vault: target or selector not allowed"
        # Written as a subtraction: total <= cap always holds, and a huge value cannot overflow the sum.
        assert calls[i].value <= cap - total, "vault: per-transaction cap"
        total += calls[i].value
    self._spend(total)

    for i: uint256 in range(len(calls), bound=MAX_CALLS):
        assert calls[i].value <= self.balance, "vault: insufficient balance"
        raw_call(calls[i].to, calls[i].data, value=calls[i].value)

    log Executed(intentId=intent_id, operator=msg.sender, calls=len(calls), value=total)


@external
@view
def supportsExecutionMode(mode: bytes32) -> bool:
    """
    @notice Whether `execute` takes this ERC-7821 mode.
    """
    return self._isSupported(mode)


@external
@view
def isAllowed(target: address, selector: bytes4) -> bool:
    """
    @notice Whether `execute` may call this function of this target.
    """
    return self._allowed[target][selector]


@external
@view
def executed(intentId: bytes32) -> bool:
    """
    @notice Whether a batch with this intent id took effect. Once true, true for ever.
    """
    return self._executed[intentId]


@external
@view
def spentToday() -> uint256:
    """
    @notice Wei sent out by `execute` in the current UTC day. Ether that came back is not subtracted.
    """
    return self._spentSince(block.timestamp // DAY_S)


@external
def setPaused(paused_: bool):
    """
    @notice Stops and resumes `execute`. The operator may stop it, only the owner may resume.
    """
    assert msg.sender == self.owner or (paused_ and msg.sender == self.operator), "vault: caller may not change the pause"
    self.paused = paused_
    log PausedChanged(paused=paused_, by=msg.sender)


# --- owner ---


@external
def setOperator(operator_: address):
    """
    @notice Replaces the operator; zero leaves the vault without one.
    """
    self._onlyOwner()
    log OperatorChanged(previous=self.operator, current=operator_)
    self.operator = operator_


@external
def setAllowed(target: address, selector: bytes4, allowed: bool):
    """
    @notice Grants or takes back one function of one target. Arguments are not looked at: grant narrow functions.
    @param selector First four bytes of the call's data. 0x00000000 stands for calls with less than four bytes, so
           for plain ether as well (and for a function whose selector really is zero)
    """
    self._onlyOwner()
    assert target != empty(address), "vault: target is the zero address"
    assert target != self, "vault: target is the vault itself"
    self._allowed[target][selector] = allowed
    log AllowedChanged(target=target, selector=selector, allowed=allowed)


@external
def setCaps(maxPerTransaction_: uint256, maxPerDay_: uint256):
    """
    @notice Sets both caps, in wei of native value sent out by `execute`, at once. What was spent today still counts.
    """
    self._onlyOwner()
    self.maxPerTransaction = maxPerTransaction_
    self.maxPerDay = maxPerDay_
    log CapsChanged(maxPerTransaction=maxPerTransaction_, maxPerDay=maxPerDay_)


@external
@nonreentrant
def withdraw(to: address, amount: uint256):
    """
    @notice Sends `amount` wei to `to`, also while paused. Caps do not apply to the owner.
    """
    self._onlyOwner()
    assert to != empty(address), "vault: target is the zero address"
    assert amount <= self.balance, "vault: insufficient balance"
    raw_call(to, b"", value=amount)
    log Withdrawn(to=to, amount=amount)


@external
def transferOwnership(newOwner: address):
    """
    @notice First of two steps: names the next owner, who has to accept. Zero takes the offer back.
    """
    self._onlyOwner()
    self.pendingOwner = newOwner
    log OwnershipTransferStarted(previousOwner=msg.sender, newOwner=newOwner)


@external
def acceptOwnership():
    """
    @notice Second step, by the next owner: proves that somebody holds that key.
    """
    assert msg.sender == self.pendingOwner, "vault: caller is not the pending owner"
    log OwnershipTransferred(previousOwner=self.owner, newOwner=msg.sender)
    self.owner = msg.sender
    self.pendingOwner = empty(address)


# --- internal ---


@internal
@view
def _onlyOwner():
    assert msg.sender == self.owner, "vault: caller is not the owner"


@internal
@pure
def _isSupported(mode: bytes32) -> bool:
    significant: bytes32 = mode & MODE_MASK
    return significant == MODE_BATCH or significant == MODE_BATCH_OPDATA


@internal
def _useIntent(intent_id: bytes32):
    assert intent_id != empty(bytes32), "vault: intent id is zero"
    assert not self._executed[intent_id], "vault: intent already executed"
    self._executed[intent_id] = True


@internal
def _spend(amount: uint256):
    # A batch without value passes even when the owner has set the cap below what is already spent.
    if amount == 0:
        return
    today: uint256 = block.timestamp // DAY_S
    spent: uint256 = self._spentSince(today)
    assert spent <= self.maxPerDay and amount <= self.maxPerDay - spent, "vault: daily cap"
    self._spentDay = today
    self._spent = spent + amount


@internal
@view
def _spentSince(today: uint256) -> uint256:
    return self._spent if self._spentDay == today else 0
