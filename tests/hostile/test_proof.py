"""The arithmetic of `prove`; its run is minutes long and belongs to no test."""

import os

from protocol.zygote import Layer
from tests.hostile import proof
from tests.hostile.proof import HERE, Run, matrix, read, short, table
from tests.hostile.weak_zygote import CLEAN_START
from tests.hostile.weak_zygote import WITHOUT as LAYERS

REPORT = """<testsuites><testsuite>
<testcase name="test_a_plugin_cannot[read_the_log]"/>
<testcase name="test_a_plugin_cannot[write_a_file]"><failure message="no">text</failure></testcase>
<testcase name="test_a_flood"><error message="fixture">text</error></testcase>
<testcase name="test_another"><skipped message="root"/></testcase>
</testsuite></testsuites>"""
READ, WRITE = "test_a_plugin_cannot[read_the_log]", "test_a_plugin_cannot[write_a_file]"


def run(*failed: str) -> Run:
    """A run with these failures."""
    return Run(passed=frozenset(), failed=frozenset(failed), broken=frozenset())


def test_only_a_test_that_failed_in_its_body_counts() -> None:
    """A fixture that breaks proves nothing about a layer, and what was skipped was not tried."""
    assert read(REPORT) == Run(passed=frozenset({READ}), failed=frozenset({WRITE}), broken=frozenset({"test_a_flood"}))


def test_the_matrix_has_a_line_for_each_test_that_somebody_misses() -> None:
    """And a cross below each layer that it misses."""
    lines = matrix({"landlock": run(READ, WRITE), "seccomp": run(WRITE)})
    assert [line.split() for line in lines[2:]] == [["read_the_log", "x", "·"], ["write_a_file", "x", "x"]]
    assert table({"landlock": run(READ, WRITE), "seccomp": run(WRITE)})[2:] == [
        "| landlock | 2 | `read_the_log`, `write_a_file`* |",
        "| seccomp | 1 | `write_a_file`* |",
    ]


def test_a_name_says_what_was_tried() -> None:
    """Not which function of the suite did."""
    assert (
        short("test_a_layer_refuses_by_itself[namespaces-connect_over_tcp-ENETUNREACH]")
        == "connect_over_tcp (namespaces alone)"
    )
    assert short("test_a_flood_of_stdout_is_cut") == "a_flood_of_stdout_is_cut"


def test_every_layer_can_be_removed_and_the_program_cannot_do_it() -> None:
    """What switches a layer off is in the tests alone."""
    # A cgroup bounds what rlimits and the monitor bound as well; `test_cgroup_kernel` has it alone.
    assert set(LAYERS) == {*Layer, CLEAN_START} - {Layer.CGROUP}
    root = HERE.parents[1]
    for package in ("protocol", "workers", "runnerd", "deploy"):
        for file in (root / package).rglob("*.py"):
            assert "weak_zygote" not in file.read_text("utf-8"), file
    assert all((HERE / name).exists() for name in proof.FILES)
    assert os.access(HERE / "prove", os.X_OK)
