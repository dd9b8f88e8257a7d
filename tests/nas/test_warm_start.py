"""Warm starts: seeds come first, a prior that misleads is dropped, and the wrapped strategy goes on as if by itself."""

from pathlib import Path

import numpy as np
import pytest
from fake_search import CHOICES, Fake, plain, run_search, strategy_of
from hypothesis import given
from hypothesis import strategies as st

from nas.architecture import Architecture
from nas.journal import FileJournal, MemoryJournal
from nas.trial import Proposal, Report, Score, Trial
from nas.warm_start import JUDGED_AFTER, WarmStart, best_of, nearest_scores, rank_correlation


def truth(architecture: Architecture) -> float:
    report = Fake().evaluate(Trial(0, Proposal(architecture)))
    return float(report.metrics["accuracy"])


def seeds(count: int) -> list[Architecture]:
    drawn = [CHOICES.sample(np.random.default_rng(number)) for number in range(300)]
    return sorted(dict.fromkeys(drawn), key=truth, reverse=True)[:count]


def test_seeds_come_first_and_others_in_between() -> None:
    wanted = seeds(12)
    found = run_search(WarmStart.around(strategy_of("random"), wanted, truth), Fake(), MemoryJournal(), 30)
    proposed = [trial.architecture for trial in found]
    places = [proposed.index(seed) for seed in wanted]
    assert places == sorted(places)
    assert max(places) < 25
    assert any(architecture not in wanted for architecture in proposed[: max(places)])


def test_a_prior_that_misleads_is_dropped() -> None:
    wanted = seeds(40)
    warm = WarmStart.around(strategy_of("random"), wanted, lambda architecture: -truth(architecture))
    found = run_search(warm, Fake(), MemoryJournal(), 40)
    proposed = [trial.architecture in wanted for trial in found]
    assert warm.dropped(found)
    assert sum(proposed[:JUDGED_AFTER]) >= 4
    assert sum(proposed[JUDGED_AFTER + 1 :]) < 8


def test_killed_and_resumed_equals_never_killed(tmp_path: Path) -> None:
    def warm() -> WarmStart:
        return WarmStart.around(strategy_of("evolution"), seeds(8), truth)

    whole = run_search(warm(), Fake(), MemoryJournal(), 30)
    for stop in (3, 9, 17, None):
        with FileJournal(tmp_path, fingerprint="warm") as journal:
            found = run_search(warm(), Fake(), journal, 30, stop=stop)
    assert plain(found) == plain(whole)


def test_an_earlier_search_gives_its_best_and_predicts_its_neighbours() -> None:
    one, two = (Architecture({"a": option, "b": "x"}) for option in ("x", "y"))
    trials = [Trial(0, Proposal(one), Report(), Score(0.0, (1.0,))), Trial(1, Proposal(two), Report(), Score(0.0, (4.0,)))]
    assert best_of([*trials, Trial(2, Proposal(two), Report(error="no"))], 5) == [two, one]
    assert nearest_scores(trials)(one) == 2.5
    with pytest.raises(ValueError, match="scored no architecture"):
        nearest_scores([Trial(0, Proposal(one), Report(error="no"))])


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=12))
def test_rank_correlation_knows_order_only(values: list[int]) -> None:
    constant = len(set(values)) == 1
    assert rank_correlation(values, [value**3 for value in values]) == pytest.approx(0.0 if constant else 1.0)
    assert rank_correlation(values, [-value for value in values]) == pytest.approx(0.0 if constant else -1.0)
    assert rank_correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
