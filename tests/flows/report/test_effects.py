"""What options are worth: what is planted is found, where nothing is planted nothing is claimed, and intervals hold what they say."""

import numpy as np
import pytest

from flows.report.effects import Effects, main_effects, tamed

OPTIONS = [3, 2, 2, 2, 2, 3, 2, 2]


def fitted(rng: np.random.Generator, trials: int, noise: float, planted: list[list[float]]) -> tuple[Effects, list[tuple[float, bool]]]:
    """Effects of a search of random architectures; and of every option with an interval the true effect and whether it is inside."""
    codes = rng.integers(0, OPTIONS, (trials, len(OPTIONS)))
    values = sum(np.array(worth)[codes[:, at]] for at, worth in enumerate(planted)) + rng.normal(0, noise, trials)
    found = main_effects([{f"choice {at}": str(option) for at, option in enumerate(row)} for row in codes], list(values))
    assert found is not None
    inside = []
    for effect in found.effects:
        at, option = int(effect.choice.split()[1]), int(effect.option)
        true = planted[at][option] - np.array(planted[at])[codes[:, at]].mean()
        if effect.low is not None and effect.high is not None:
            inside.append((true, bool(effect.low <= true <= effect.high)))
    return found, inside


def nothing() -> list[list[float]]:
    return [[0.0] * count for count in OPTIONS]


def test_what_is_planted_is_found() -> None:
    planted = nothing()
    planted[0] = [0.0, 0.0, 0.2]
    found, _ = fitted(np.random.default_rng(0), 60, 0.02, planted)
    certain = {(effect.choice, effect.option): effect.value for effect in found.effects if effect.certain}
    assert certain["choice 0", "2"] > 0.1
    assert certain["choice 0", "0"] < 0
    assert max(dict.fromkeys(effect.choice for effect in found.effects), key=found.spread) == "choice 0"
    assert found.explained > 0.8


def test_where_nothing_is_planted_nothing_is_claimed() -> None:
    rng = np.random.default_rng(1)
    certain = [effect.certain for _ in range(20) for effect in fitted(rng, 24, 0.02, nothing())[0].effects]
    assert len(certain) == 20 * sum(OPTIONS)
    assert sum(certain) <= 0.01 * len(certain)


def test_intervals_hold_what_they_say() -> None:
    rng = np.random.default_rng(2)
    inside = []
    for _ in range(40):
        planted = [list(rng.normal(0, 0.02, count)) for count in OPTIONS]
        inside += [held for _, held in fitted(rng, 30, 0.02, planted)[1]]
    assert 0.92 <= np.mean(inside) <= 0.98


def test_a_collapsed_trial_does_not_decide() -> None:
    scores = np.array([0.9, 0.91, 0.92, 0.93, 0.1])
    kept = tamed(scores)
    assert kept[:4].tolist() == scores[:4].tolist()
    assert 0.8 < kept[4] < 0.9
    assert tamed(np.array([0.9, 0.9, 0.9, 0.1])).tolist() == [0.9, 0.9, 0.9, 0.1]  # without a scale nothing is far away


@pytest.mark.parametrize(("trials", "values"), [(9, [0.1 * number for number in range(9)]), (12, [0.5] * 12)])
def test_too_little_says_nothing(trials: int, values: list[float]) -> None:
    assert main_effects([{"a": str(number % 2)} for number in range(trials)], values) is None
    assert main_effects([{"a": "x"}] * 12, list(range(12))) is None


def test_the_same_trials_say_the_same() -> None:
    one, other = (fitted(np.random.default_rng(3), 20, 0.1, nothing())[0] for _ in range(2))
    assert one == other
    assert all(effect.low is None for effect in one.effects if effect.trials < 3)
