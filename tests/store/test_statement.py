"""Neighbours that are independent go as one statement, and nothing else does."""

from runnerd.store.statement import Statement, join

A = Statement("insert into a values (%(id)s)", {"id": 1}, is_independent=True)
B = Statement("update b set x = %(id)s where y = %(y)s", {"id": 2, "y": "z"}, is_independent=True)
C = Statement("select %(id)s", {"id": 3})


def test_independent_neighbours_are_one_statement() -> None:
    """Parameters of the same name stay apart."""
    ((one, count),) = join([A, B])
    assert count == 2
    assert " ".join(one.sql.split()) == (
        "with part_0 as (insert into a values (%(0_id)s)) update b set x = %(1_id)s where y = %(1_y)s"
    )
    assert one.parameters == {"0_id": 1, "1_id": 2, "1_y": "z"}


def test_order_is_kept_and_what_depends_goes_alone() -> None:
    """A statement that is not independent is never moved, and parts its neighbours."""
    assert join([A, C, B]) == [(A, 1), (C, 1), (B, 1)]
    assert [count for _, count in join([C, A, B, C, C])] == [1, 2, 1, 1]
    assert join([]) == []


def test_ordered_ones_never_share_a_statement() -> None:
    """The parts of one run in no defined order; those beside them may go with either."""
    first, second = (Statement("insert into t", {"n": n}, is_independent=True, is_ordered=True) for n in range(2))
    assert [count for _, count in join([A, first, B, second, A])] == [3, 2]
    assert [count for _, count in join([first, second])] == [1, 1]
    assert [count for _, count in join([first, C, second, A])] == [1, 1, 2]
