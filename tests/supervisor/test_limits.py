"""Limits: which usage is over which, in which words; and that the walls lie behind them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnerd.config.plugins import PluginConfig, SandboxConfig
from runnerd.supervisor.limits import CPU_WINDOW_S, MIB, CpuShare, Limits, Usage, find_excess, limits_of

LIMITS = Limits(memory_bytes=256 * MIB, threads=20, files=64)
AT_THE_LIMIT = Usage(memory_bytes=256 * MIB, threads=20, files=64, cpu_s=1e6)


def test_at_the_limit_is_within_it() -> None:
    """All that was granted may be used."""
    assert find_excess(AT_THE_LIMIT, LIMITS) is None


@pytest.mark.parametrize(
    "usage, words",
    [
        (Usage(301 * MIB, 20, 64, 0), "over its memory limit: 301 of 256 MiB"),
        (Usage(256 * MIB + 1, 20, 64, 0), "over its memory limit: 257 of 256 MiB"),
        (Usage(0, 21, 64, 0), "over its thread limit: 21 of 20"),
        (Usage(0, 1, 65, 0), "over its descriptor limit: 65 of 64"),
    ],
)
def test_excess_names_limit_and_figures(usage: Usage, words: str) -> None:
    """The operator sees what to raise, and by how much."""
    assert find_excess(usage, LIMITS) == words


@given(memory=st.integers(64, 1 << 20), threads=st.integers(8, 4_000), files=st.integers(32, 32_768))
def test_walls_lie_behind_the_limits(memory: int, threads: int, files: int) -> None:
    """Else the plugin would meet the wall first, and nobody could say which limit it was."""
    limits = Limits(memory_bytes=memory * MIB, threads=threads, files=files)
    assert limits.memory_wall >= limits.memory_bytes + 128 * MIB
    assert (limits.thread_wall, limits.file_wall) == (threads + 16, files + 16)


def test_limits_are_those_of_the_configuration() -> None:
    """Without a number of threads there is one for each call, and 48 for others."""
    sandbox = SandboxConfig(memory_mib=300, max_files=99, max_threads=12, max_cpus=0.5, log_lines_per_s=7)
    config = PluginConfig(vault="main", path=Path("/srv/alpha.py"), sandbox=sandbox)
    assert limits_of(config) == Limits(memory_bytes=300 * MIB, threads=12, files=99, cpus=0.5, log_lines_per_s=7)
    assert limits_of(PluginConfig(vault="main", parallel=40)).threads == 88


# --- CPU time --------------------------------------------------------------------------------------------------------


def test_half_a_cpu_for_hours_is_within_half_a_cpu() -> None:
    """The average counts."""
    share = CpuShare(0.5)
    assert {share.find_excess(at / 20, at / 10) for at in range(10_000)} == {None}


def test_a_burst_may_take_the_whole_window_at_once_and_not_more() -> None:
    """5 s of a CPU in 5 s are half of one in ten; the next tenth is too much."""
    share = CpuShare(0.5)
    assert {share.find_excess(at / 10, at / 10) for at in range(51)} == {None}
    assert share.find_excess(5.1, 5.1) == "over its CPU limit: 5.1 s in 10 s, 5 s are allowed"


def test_what_was_used_before_the_window_is_forgotten() -> None:
    """A burst after a rest is as good as the first."""
    share = CpuShare(0.5)
    for number in range(5):
        begun = number * 3 * CPU_WINDOW_S
        assert share.find_excess(number * 4.9, begun) is None
        assert share.find_excess((number + 1) * 4.9, begun + 4.9) is None
        assert share.find_excess((number + 1) * 4.9, begun + 15) is None


def test_a_late_look_blames_nobody_for_the_time_in_between() -> None:
    """The supervisor's loop may be late: 30 s of half a CPU are 15 s of CPU time."""
    share = CpuShare(0.5)
    assert share.find_excess(0, 0) is None
    assert share.find_excess(15, 30) is None
    assert CpuShare(0.5).find_excess(15, 30) is None, "what it used before the first look is not known by when"
