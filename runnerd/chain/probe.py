"""Code that a node runs for us around a simulated transaction: it reads numbers, lets the vault act, and reads again.

The source is `deploy/contracts/EffectsProbe.vy`; a test holds the bytes below to its artifact. It is never deployed:
`effects` has a node put it at an address for one call. Pure: encodes and decodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak

from runnerd.chain.address import checksum_address
from runnerd.chain.errors import AbiError

MAX_MEASURES: Final = 8
"""What the contract has room for, as in the source."""

_READS: Final = "(address,bytes)[]"
_WORDS: Final = "(bool,bytes32)[]"
_READ: Final = keccak(f"read({_READS})".encode())[:4]
_MEASURE: Final = keccak(f"measure({_READS},address,bytes)".encode())[:4]

PROBE_ADDRESS: Final = checksum_address("0x" + keccak(b"runnerd effects probe")[12:].hex())
"""Nobody has its key: an address that holds nothing, for reads that no operator has to make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One integer of the chain's state: the word that a view returns, or without `data` the native balance of `to`."""

    to: str
    data: bytes = b""
    is_signed: bool = False


def encode_read(measures: Sequence[Measure]) -> bytes:
    """Calldata of a probe that only reads."""
    return _READ + encode([_READS], [_pairs(measures)])


def encode_measure(measures: Sequence[Measure], to: str, data: bytes) -> bytes:
    """Calldata of a probe that reads, calls `to` with `data`, and reads again. Run it at the address of the sender."""
    return _MEASURE + encode([_READS, "address", "bytes"], [_pairs(measures), to, data])


def decode_read(measures: Sequence[Measure], data: bytes) -> tuple[int | None, ...]:
    """The numbers in the order of `measures`; None for a view that reverted or returned nothing. Raises AbiError."""
    (words,) = _decode([_WORDS], data)
    return _numbers(measures, words)


def decode_measure(measures: Sequence[Measure], data: bytes) -> tuple[tuple[int | None, ...], tuple[int | None, ...]]:
    """The numbers before and after the call. Raises AbiError."""
    before, after = _decode([_WORDS, _WORDS], data)
    return _numbers(measures, before), _numbers(measures, after)


def _pairs(measures: Sequence[Measure]) -> list[tuple[str, bytes]]:
    return [(measure.to, measure.data) for measure in measures]


def _decode(types: list[str], data: bytes) -> list[tuple[tuple[bool, bytes], ...]]:
    if len(data) > 1_024 * MAX_MEASURES:
        raise AbiError(f"the probe returned {len(data)} bytes")
    try:
        return cast("list[tuple[tuple[bool, bytes], ...]]", list(decode(types, data)))
    except (DecodingError, OverflowError) as error:
        raise AbiError(f"the probe returned {len(data)} bytes that are not its words") from error


def _numbers(measures: Sequence[Measure], words: Sequence[tuple[bool, bytes]]) -> tuple[int | None, ...]:
    if len(words) != len(measures):
        raise AbiError(f"the probe returned {len(words)} words for {len(measures)} reads")
    return tuple(
        int.from_bytes(word, "big", signed=measure.is_signed) if is_read else None
        for measure, (is_read, word) in zip(measures, words, strict=True)
    )


PROBE_CODE: Final = (
    "0x"
    "60003560e01c60026003820660011b6105ef01601e39600051565b63762eaab38118610454576024361034176105ea5760043560040160"
    "088135116105ea578035600081600881116105ea5780156100a757905b8060051b60208501013560208501016110608202619700018135"
    "8060a01c6105ea57815260208201358201803561100481116105ea57506020813501602083018183823750505050506001018181186100"
    "53575b5050806196e052505060208062011c20526196e051600081600881116105ea57801561010e57905b611060810261970001611060"
    "820260600181518152602082016020815101602083018181838560045afa156105ea5750505050506001018181186100cf575b50508060"
    "40525061012162011a0061045a565b62011a008162011c2001600082518083528060061b600082600881116105ea57801561017657905b"
    "8060061b60208801018160061b602088010181518152602082015160208201525050600101818118610149575b50508201602001915050"
    "905090508101905062011c20f35b637902177781186104545760633611156105ea5760043560040160088135116105ea57803560008160"
    "0881116105ea57801561021a57905b8060051b602085010135602085010161106082026197000181358060a01c6105ea57815260208201"
    "358201803561100481116105ea57506020813501602083018183823750505050506001018181186101c6575b5050806196e05250506024"
    "358060a01c6105ea5762011a005260443560040180356202000081116105ea57506020813501808262011a203750506196e05160008160"
    "0881116105ea5780156102aa57905b61106081026197000161106082026060018151815260208201602081510160208301818183856004"
    "5afa156105ea57505050505060010181811861026b575b505080604052506102bd62031c6061045a565b62031c60805160208160061b01"
    "8062031a40828560045afa156105ea5750505062011a00515a62011a20506000600062011a205162011a40348686f19050905061030c57"
    "3d600060003e3d6000fd5b60408062031e80528062031e8001600062031a40518083528060061b600082600881116105ea578015610368"
    "57905b8060061b62031a60018160061b60208801018151815260208201516020820152505060010181811861033b575b50508201602001"
    "9150509050810190508062031ea0526196e051600081600881116105ea5780156103d457905b6110608102619700016110608202606001"
    "81518152602082016020815101602083018181838560045afa156105ea575050505050600101818118610395575b505080604052506103"
    "e762031c6061045a565b62031c608162031e8001600082518083528060061b600082600881116105ea57801561043c57905b8060061b60"
    "208801018160061b60208801018151815260208201516020820152505060010181811861040f575b505082016020019150509050905081"
    "01905062031e80f35b60006000fd5b6000618360526000604051600881116105ea5780156105c957905b61106081026060018051618580"
    "52602081016020815101806185a0828460045afa156105ea575050506185a0516104d75761836051600781116105ea578060061b618380"
    "016001815261858051316020820152506001810161836052506105be565b6040366195e037618580515a6185a060206196608251602084"
    "018686fa905090509050619680523d602081183d60201002186196405261964080516196a05260208101516196c05250619680516195e0"
    "526196a051619600526196c051619620526195e051610547576000610550565b60206196005118155b6105825761836051600781116105"
    "ea578060061b618380016000815260006020820152506001810161836052506105be565b61836051600781116105ea578060061b618380"
    "01600181526196005160200360031b61962051811c811b90506020820152506001810161836052505b600101818118610475575b505061"
    "83605160208160061b0180838261836060045afa156105ea57505050565b600080fd001a018e0454"
)
