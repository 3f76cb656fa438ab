"""Everything that `runnerd.chain` raises. One root; the class says what may be concluded, the fields what happened.

The line to remember: `RpcUnavailable` proves nothing about the chain, `RpcRefused` only that one node said no.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from runnerd.chain.json_values import JsonValue
from runnerd.errors import RunnerdError, Transient

MAX_NODE_TEXT = 300


class ChainError(RunnerdError):
    """Root of all errors of this package."""


class NodeUrlInvalid(ChainError):
    """A node's url in the configuration cannot be used. Write http(s)://, ws(s):// or ipc:///absolute/path."""


class RpcUnavailable(ChainError, Transient):
    """The node gave no usable answer: transport error, deadline, HTTP 429 or 5xx, invalid JSON.

    PROVES NOTHING: a request that ends so may have had its full effect. Never conclude "absent", "failed" or "not
    sent". Ask again or ask another node. `url` has its credentials and path redacted.
    """

    def __init__(self, reason: str, *, method: str = "", url: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.method = method
        self.url = url

    def __str__(self) -> str:
        where = " on ".join(part for part in (self.method, self.url) if part)
        return f"{where}: {self.reason}" if where else self.reason


class RpcMalformed(RpcUnavailable):
    """The node answered with something of the wrong shape, so it is not used. `field` is where, "" for the whole.

    If it persists, the node does not speak this method as the Ethereum JSON-RPC specification has it: replace it.
    """

    def __init__(self, reason: str, *, method: str = "", url: str = "", field: str = "") -> None:
        self.field = field
        super().__init__(f"malformed answer{f' at {field}' if field else ''}: {reason}", method=method, url=url)


class WrongChain(RpcUnavailable):
    """The node serves another chain than its `[chains.NAME]`: nothing that it says is used. Correct `id` or `rpc`."""

    def __init__(self, chain_id: int, wanted: int, *, url: str = "") -> None:
        self.chain_id = chain_id
        super().__init__(f"it serves chain {chain_id}, not {wanted}", url=url)


class NoQuorum(RpcUnavailable):
    """Too few nodes gave the same answer, so nothing is proven. `said` names each node and what it said.

    Passes by itself when nodes were only a block apart, or away. If it stays, look at `runnerctl status`.
    """

    def __init__(self, needed: int, said: Sequence[tuple[str, str]], *, method: str = "") -> None:
        self.needed = needed
        self.said = tuple(said)
        listing = "; ".join(f"{node}: {words}" for node, words in said)
        super().__init__(f"no {needed} nodes agree ({listing})", method=method)


class NoPrivateLane(ChainError):
    """A transaction was to go the private way, and there is none. Set `private_rpc` in `[chains.NAME]`."""


class RpcRefused(ChainError):
    """The node answered with a JSON-RPC error. What that means depends on `method`; see `revert.is_execution_failure`.

    `data` is as the node sent it. It is one node's word: a lagging or rate-limited node refuses as well.
    """

    def __init__(self, code: int, message: str, data: JsonValue = None, *, method: str = "") -> None:
        self.code = code
        self.message = message
        self.data = data
        self.method = method
        super().__init__(f"{method + ': ' if method else ''}node error {code}: {printable(message)}")


class AbiError(ChainError):
    """A fragment, an argument or returned bytes do not fit the ABI. The text names which, and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFailure:
    """One read that gave no value: its name in the catalogue, and the decoded revert or what did not decode."""

    name: str
    reason: str


class ReadFailed(ChainError):
    """Some reads of a decision gave no value at this block; the others are not used. Check address and fragment."""

    def __init__(self, failures: Sequence[ReadFailure], *, block_number: int) -> None:
        self.failures = tuple(failures)
        self.block_number = block_number
        listing = "; ".join(f"read {failure.name}: {failure.reason}" for failure in self.failures)
        super().__init__(f"at block {block_number}: {listing}")


class FeeCapTooLow(ChainError):
    """The next block's base fee is above the chain's `max_fee_per_gas_wei`: nothing gets in. Wait, or raise it."""

    def __init__(self, *, base_fee_wei: int, max_fee_cap_wei: int) -> None:
        self.base_fee_wei = base_fee_wei
        self.max_fee_cap_wei = max_fee_cap_wei
        super().__init__(f"base fee {base_fee_wei} wei is above the chain's max_fee_per_gas_wei = {max_fee_cap_wei}")


def printable(text: str, limit: int = MAX_NODE_TEXT) -> str:
    """`text` from a node or a contract, safe for a terminal: control characters become "?", cut at `limit`."""
    bounded = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(character if character.isprintable() else "?" for character in bounded)
