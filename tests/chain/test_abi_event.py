"""Events: what is asked of a node for a fragment, what its logs say, and what is refused with a reason."""

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak

from runnerd.chain.abi_event import build_filter
from runnerd.chain.errors import AbiError

WHO = "0x" + "ab" * 20
WHO_CHECKED = "0xABaBaBaBABabABabAbAbABAbABabababaBaBABaB"
TRADE = "event Trade(address indexed by, uint256 size, bytes note)"


def word(kind: str, value: object) -> str:
    return "0x" + encode([kind], [value]).hex()


def test_a_log_is_decoded_exactly() -> None:
    """Integers beyond 64 bits, addresses with their checksum, bytes as 0x text."""
    wanted = build_filter(TRADE, {})
    topics = ["0x" + keccak(b"Trade(address,uint256,bytes)").hex(), word("address", WHO)]
    assert wanted.topics == (topics[0],)
    assert wanted.is_wanted(topics)
    data = encode(["uint256", "bytes"], [2**256 - 1, b"\x00\xff"])
    assert wanted.arguments(topics, data) == {"by": WHO_CHECKED, "size": 2**256 - 1, "note": "0x00ff"}


def test_where_is_a_topic_if_the_argument_is_indexed_and_compared_if_not() -> None:
    wanted = build_filter(TRADE, {"by": WHO, "size": 7})
    assert wanted.topics == ("0x" + keccak(b"Trade(address,uint256,bytes)").hex(), word("address", WHO))
    topics = [str(topic) for topic in wanted.topics]
    assert wanted.is_wanted(topics)
    assert not wanted.is_wanted([topics[0], word("address", "0x" + "01" * 20)])
    assert wanted.arguments(topics, encode(["uint256", "bytes"], [7, b""])) is not None
    assert wanted.arguments(topics, encode(["uint256", "bytes"], [8, b""])) is None


def test_indexed_text_is_a_hash() -> None:
    """It can be asked for by its value, and is given as what the log has: its hash."""
    wanted = build_filter("Named(string indexed name, uint256 indexed id)", {"name": "alice"})
    topic = "0x" + keccak(b"alice").hex()
    assert wanted.topics[1:] == (topic,)
    assert wanted.arguments([str(wanted.topics[0]), topic, word("uint256", 5)], b"") == {"name": topic, "id": 5}


def test_the_same_signature_with_others_indexed_is_another_event() -> None:
    """ERC-721's Transfer has the topic of ERC-20's."""
    wanted = build_filter("Transfer(address indexed from, address indexed to, uint256 value)", {})
    first = str(wanted.topics[0])
    assert wanted.is_wanted([first, word("address", WHO), word("address", WHO)])
    assert not wanted.is_wanted([first, word("address", WHO), word("address", WHO), word("uint256", 1)])


@pytest.mark.parametrize(
    "fragment,where,text",
    [
        ("event Trade(address by", {}, "expected"),
        ("event Trade(address indexed)", {}, "has no name"),
        ("event Trade(uint256 a) anonymous", {}, "anonymous"),
        ("event T(uint8 indexed a, uint8 indexed b, uint8 indexed c, uint8 indexed d)", {}, "more than 3 indexed"),
        ("event Trade(uint7 a)", {}, "not an ABI type"),
        (TRADE, {"whom": WHO}, "has no argument whom; it has: by, size, note"),
        (TRADE, {"size": "7"}, "takes an integer"),
        (TRADE, {"by": "0x12"}, "not an address"),
        (TRADE, {"size": -1}, "does not fit"),
    ],
)
def test_what_is_refused_and_why(fragment: str, where: dict[str, bool | int | str], text: str) -> None:
    with pytest.raises(AbiError, match=text):
        build_filter(fragment, where)


def test_data_that_is_not_the_events_is_refused() -> None:
    wanted = build_filter(TRADE, {})
    with pytest.raises(AbiError):
        wanted.arguments([str(wanted.topics[0]), word("address", WHO)], b"\x01")
