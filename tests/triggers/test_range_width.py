"""How many blocks are asked for at once: what a node takes is found, kept, and tried again."""

from hypothesis import given
from hypothesis import strategies as st

from runnerd.triggers.range_width import MAX_WIDTH, RangeWidth


@given(st.integers(1, 20_000))
def test_it_finds_what_the_node_takes(limit: int) -> None:
    """After few refusals the width is at most the limit and more than half of it, and seldom refused from then on."""
    width = RangeWidth()
    refusals = 0
    for _ in range(4_000):
        if width.width > limit:
            assert width.refused(width.width)
            refusals += 1
        else:
            width.answered()
    assert refusals < 25
    assert width.width <= min(MAX_WIDTH, 2 * limit)
    assert width.width > min(limit, MAX_WIDTH) // 4


def test_one_block_cannot_be_halved() -> None:
    """Then it is not the width."""
    width = RangeWidth()
    while width.refused(width.width):
        pass
    assert width.width == 1
