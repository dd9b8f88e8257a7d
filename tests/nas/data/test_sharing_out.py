"""Splits: disjoint, complete, stratified, the same for the same seed, and every class everywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nas.data.errors import DataError
from nas.data.splits import SPLITS, Splits, apportion, split

FRACTIONS = st.lists(st.integers(1, 100), min_size=4, max_size=4).map(lambda parts: [part / sum(parts) for part in parts])


def labels(counts: list[int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


def names(counts: list[int]) -> list[str]:
    return [f"class {number}" for number in range(len(counts))]


@settings(max_examples=200, deadline=None)
@given(counts=st.lists(st.integers(4, 60), min_size=2, max_size=12), fractions=FRACTIONS, seed=st.integers(0, 2**32))
def test_splits_are_disjoint_complete_stratified_and_repeatable(counts: list[int], fractions: list[float], seed: int) -> None:
    targets = labels(counts, seed)
    splits = Splits(**dict(zip(SPLITS, fractions, strict=True)), seed=seed)
    parts = split(targets, None, splits, names(counts))
    again = split(targets, None, splits, names(counts))

    assert np.array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(targets.size))
    assert all(np.array_equal(parts[name], again[name]) for name in SPLITS)
    for name in SPLITS:
        found = np.bincount(targets[parts[name]], minlength=len(counts))
        assert (found >= 1).all()
        if min(counts) * min(fractions) >= 2:  # nothing is forced up to one example
            wanted = np.array(counts) * getattr(splits, name)
            assert np.abs(found - wanted).max() < 3.5
            assert abs(found.sum() - wanted.sum()) < 3.5


@settings(max_examples=100, deadline=None)
@given(counts=st.lists(st.integers(4, 60), min_size=2, max_size=8), data=st.data())
def test_a_limit_keeps_the_test_split_and_every_class(counts: list[int], data: st.DataObject) -> None:
    targets = labels(counts, 1)
    limit = data.draw(st.integers(3 * len(counts), sum(counts)))
    whole = split(targets, None, Splits(), names(counts))
    parts = split(targets, None, Splits(limit=limit), names(counts))
    used = np.concatenate([parts[name] for name in SPLITS[:3]])
    available = targets.size - whole["test"].size

    assert np.array_equal(parts["test"], whole["test"])
    assert used.size == np.unique(used).size == min(limit, available)
    assert not np.isin(used, parts["test"]).any()
    assert all(np.unique(targets[parts[name]]).size == len(counts) for name in SPLITS)


@given(st.lists(st.floats(0, 50), min_size=1, max_size=20), st.data())
def test_apportion_adds_up_and_stays_within_one(quotas: list[float], data: st.DataObject) -> None:
    total = round(sum(quotas))
    counts = apportion(np.array(quotas), total, np.zeros(len(quotas), dtype=np.int64))
    assert counts.sum() == total
    assert (np.abs(counts - quotas) <= 1).all()


def test_four_examples_of_a_class_are_one_in_each_split() -> None:
    parts = split(labels([4, 4, 400], 0), None, Splits(), names([4, 4, 400]))
    targets = labels([4, 4, 400], 0)
    assert all(np.bincount(targets[part])[:2].tolist() == [1, 1] for part in parts.values())


def test_many_tiny_classes_do_not_bend_a_large_one() -> None:
    counts = [4] * 100 + [1000]
    targets = labels(counts, 0)
    parts = split(targets, None, Splits(), names(counts))
    large = {name: int((targets[part] == 100).sum()) for name, part in parts.items()}
    assert large == pytest.approx({"fit": 550, "select": 150, "confirm": 100, "test": 200}, abs=3)


def test_examples_of_a_split_come_mixed() -> None:
    targets = np.repeat(np.arange(10), 100)
    for part in split(targets, None, Splits(), names([100] * 10)).values():
        for piece in np.array_split(targets[part], 2):
            assert np.unique(piece).size == 10


def test_the_sources_own_test_set_is_kept_in_its_order() -> None:
    targets = labels([30, 30], 0)
    given_test = np.array([50, 3, 7, 20, 9])
    parts = split(targets, given_test, Splits(), names([30, 30]))
    assert np.array_equal(parts["test"], given_test)
    assert [parts[name].size for name in SPLITS] == [38, 10, 7, 5]  # 55 : 15 : 10 of the other 55


def test_another_seed_gives_other_splits() -> None:
    targets = labels([50, 50], 0)
    first, second = (split(targets, None, Splits(seed=seed), names([50, 50])) for seed in (0, 1))
    assert not np.array_equal(np.sort(first["fit"]), np.sort(second["fit"]))


def test_the_splits_of_a_seed_never_change() -> None:
    parts = split(np.arange(12) % 2, None, Splits(seed=3), ["even", "odd"])
    assert {name: part.tolist() for name, part in parts.items()} == {
        "fit": [4, 7, 10, 0, 1, 9],
        "select": [5, 6],
        "confirm": [8, 11],
        "test": [2, 3],
    }


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([5], "only one class, 'class 0'"),
        ([5, 3], "class 'class 1' has 3 examples"),
        ([5, 0, 5], "class 'class 1' has 0 examples"),
        ([], "holds 0 examples"),
    ],
)
def test_too_few_classes_or_examples_are_refused(counts: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(labels(counts, 0).astype(np.int64), None, Splits(), names(counts))


@pytest.mark.parametrize(
    ("test", "message"),
    [([0, 1, 3], "class 'odd' has 2 examples outside"), ([0], "class 'odd' has 0 examples in")],
)
def test_a_given_test_set_must_have_every_class_and_leave_three(test: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(np.arange(8) % 2, np.array(test), Splits(), ["even", "odd"])


def test_a_limit_that_is_too_small_names_the_least() -> None:
    with pytest.raises(DataError, match=r"limit 5 .* use at least 6"):
        split(labels([50, 50], 0), None, Splits(limit=5), names([50, 50]))


@pytest.mark.parametrize(
    "settings", [{"fit": 0.5}, {"fit": 0.0, "test": 0.75}, {"fit": -0.1, "test": 0.85}, {"seed": -1}, {"other": 1}, {"limit": 0}]
)
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Splits(**settings)
