"""The trend of a loss: worse than guessing for how many steps on end, whatever part of a training is run at once."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from small_images import CPU

from nas.training.trend import Trend, worse_than_guessing

CHANCE = math.log(10)


def counted(losses: list[float], cuts: tuple[int, ...] = (), start: float = 0) -> list[int]:
    """The count after every step; at the cuts another object goes on with the state."""
    trend, found = Trend(CHANCE, start, CPU), []
    for step, loss in enumerate(losses, 1):
        trend.add(step, torch.tensor(loss))
        found.append(trend.above)
        if step in cuts:
            state, trend = trend.state_dict(), Trend(CHANCE, start, CPU)
            trend.load_state_dict(state)
    return found


def test_whole_windows_are_counted_and_a_better_one_begins_anew() -> None:
    losses = [3.0] * 25 + [0.1] * 5 + [3.0] * 20 + [2.0] * 10 + [3.0] * 10
    assert counted(losses)[9::10] == [10, 20, 0, 10, 20, 0, 10]
    assert counted(losses)[8] == 0


def test_the_warm_up_does_not_count() -> None:
    assert counted([3.0] * 50, start=22)[9::10] == [0, 0, 0, 10, 20]
    assert counted([3.0] * 50, start=20)[9::10] == [0, 0, 10, 20, 30]


@pytest.mark.parametrize(("loss", "worse"), [(2.3, False), (2.53, False), (2.54, True), (1e9, True), (math.inf, True), (math.nan, False)])
def test_a_tenth_above_guessing_is_still_guessing(loss: float, worse: bool) -> None:
    assert worse_than_guessing(loss, CHANCE) == worse
    assert not worse_than_guessing(loss, math.inf)


@example([3.0] * 40, {5, 17, 20})
@given(st.lists(st.floats(2, 3, width=32), min_size=1, max_size=60), st.sets(st.integers(1, 60)))
def test_a_training_in_parts_counts_the_same(losses: list[float], cuts: set[int]) -> None:
    found = counted(losses, tuple(cuts))
    assert found == counted(losses)
    assert all(after in (before, before + 10, 0) for before, after in pairwise(found))
