"""What nobody asked for has a tenth of the loop, whoever shares it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnerd.supervisor.noise import BURST_S, SHARE, Noise, Ration


def test_a_little_noise_costs_no_rest() -> None:
    """A plugin that logs now and then is heard at once, for ever."""
    ration = Ration(Noise())
    for second in range(1_000):
        assert ration.rest_after(float(second), BURST_S * 0.9) == 0.0


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(1e-5, 0.005)), min_size=50, max_size=300))
def test_each_stays_within_its_share_and_a_burst_in_any_order(turns: list[tuple[int, float]]) -> None:
    """Each as soon as it may. That a crowd has a tenth together, the next test says."""
    noise = Noise()
    rations = [Ration(noise) for _ in range(5)]
    free_at = [0.0] * 5
    now = used = longest = 0.0
    for who, used_s in turns:
        now = max(now, free_at[who])
        rations[who].end_rest()
        now += used_s
        used, longest = used + used_s, max(longest, used_s)
        free_at[who] = now + rations[who].rest_after(now, used_s)
    # A burst each, and the last turn of each is not paid for yet.
    assert used <= SHARE * now * 5 + 5 * (BURST_S + longest)
    for ration in rations:
        ration.end_rest()
        ration.end_rest()
    assert noise.resting == 0


@pytest.mark.parametrize("crowd", [1, 3, 10])
def test_a_crowd_of_floods_has_a_tenth_and_not_a_tenth_each(crowd: int) -> None:
    """Each of them uses all that it gets, for a minute."""
    noise = Noise()
    rations = [Ration(noise) for _ in range(crowd)]
    free_at, used, now, turn_s = [0.0] * crowd, 0.0, 0.0, 0.0005
    while now < 60:
        who = min(range(crowd), key=lambda one: free_at[one])
        now = max(now, free_at[who]) + turn_s
        rations[who].end_rest()
        used += turn_s
        free_at[who] = now + rations[who].rest_after(now, turn_s)
    assert 0.05 * now < used < 1.3 * SHARE * now
