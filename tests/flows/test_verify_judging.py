"""How `nasflow verify` judges: numbers, weights, failures and environments, without a project."""

from pathlib import Path

import numpy as np
import pytest
import torch

from flows import environment, verify, verify_trial
from flows.settings import Train
from nas import checkpoint
from nas.architecture import Architecture
from nas.trial import Proposal, Report, Trial


@pytest.mark.parametrize(
    ("again", "answer"),
    [
        ({"a": 0.1, "b": 2.0}, "bit-identical"),
        ({"a": np.nextafter(0.1, 1), "b": 2.0}, "equal within tolerance"),
        ({"a": 0.1, "b": 2.019}, "equal within tolerance"),
        ({"a": 0.1, "b": 2.03}, "differs"),
        ({"a": 0.12, "b": 2.0}, "differs"),
        ({"a": float("nan"), "b": 2.0}, "differs"),
        ({"a": 0.1}, "differs"),
    ],
)
def test_numbers_are_judged_to_the_last_bit_and_within_a_tolerance(again: dict[str, float], answer: str) -> None:
    assert verify.judge({"a": 0.1, "b": 2.0}, again, 0.01) == answer


def test_figures_are_shown_to_the_last_bit_and_whole_numbers_as_such() -> None:
    assert verify.figures({"epoch": 2.0, "loss": 0.1, "score": 1.0}, {"epoch": 2.0, "loss": 0.1, "score": 0.5, "more": 14546.0}) == [
        ("epoch", "2, the same bits"),
        ("loss", "0.1, the same bits"),
        ("score", "1 recorded, 0.5 now: -0.5"),
        ("more", "nothing recorded, 14546 now"),
    ]
    assert verify.changes({"settings": {"limit": None}}, {"settings": {"limit": True}})[1] == ["limit true now, null in the record"]


def test_nan_and_the_sign_of_zero_are_bits_too() -> None:
    assert verify.judge({"a": float("nan")}, {"a": float("nan")}, 0.01) == "bit-identical"
    assert verify.judge({"a": 0.0}, {"a": -0.0}, 0.01) == "equal within tolerance"


def test_weights_are_compared_tensor_by_tensor_where_bytes_differ(tmp_path: Path) -> None:
    one, other = tmp_path / "one.pt", tmp_path / "other.pt"
    checkpoint.save(one, {"network": {"w": torch.ones(2), "b": [torch.zeros(3)]}, "step": 1})
    checkpoint.save(other, {"network": {"w": torch.tensor([1.0, 1.5]), "b": [torch.zeros(3)]}, "step": 1})
    assert verify.weights(one, one)[0]
    assert verify.weights(one, other) == (False, "1 of 2 tensors differ, by 0.5 at most")
    checkpoint.save(other, {"network": {"w": torch.ones(3)}})
    assert verify.weights(one, other) == (False, "other tensors than those recorded")


@pytest.mark.parametrize(
    ("before", "after", "answer"),
    [
        (Report(error="MemoryError: 9"), Report(error="MemoryError: 9"), "bit-identical"),
        (Report(error="took 5 s", kind="time"), Report(error="took 6 s", kind="time"), "equal within tolerance"),
        (Report({"a": 1.0}), Report(error="MemoryError: 9", kind="memory"), "differs"),
    ],
)
def test_a_failure_is_compared_by_its_reason(before: Report, after: Report, answer: str) -> None:
    assert verify_trial._compare(Trial(0, Proposal(Architecture({})), before), after, 0.01)[0] == answer


def test_a_trial_that_was_too_slow_this_time_says_nothing() -> None:
    slow, trial = Report(error="LimitError: took more than 5 s", kind="time"), Trial(3, Proposal(Architecture({})), Report({"a": 1.0}))
    with pytest.raises(verify.UnverifiableError, match="trial 3 passed its limit this time"):
        verify_trial._compare(trial, slow, 0.01)
    was_slow = Trial(3, Proposal(Architecture({})), slow)
    for again in (Report({"a": 1.0}), Report(error="MemoryError: 9", kind="memory")):
        with pytest.raises(verify.UnverifiableError, match=r"trial 3 had passed its limit .* and did not this time"):
            verify_trial._compare(was_slow, again, 0.01)


def test_settings_of_another_version_are_named() -> None:
    with pytest.raises(verify.UnverifiableError, match=r"epoochs is not a setting: did you mean 'epochs'?.*the version that made it"):
        verify.restored(Train, {"epoochs": 3})


def test_the_environments_of_a_trial_are_those_that_it_may_have_been_computed_in() -> None:
    now = environment.present()
    first, second = {"trials": 0, "environment": {**now, "torch": "1.0"}}, {"trials": 5, "environment": now}
    assert verify.worked_in([first, second], [4], 1) == [first]
    assert verify.worked_in([first, second], [5], 1) == [first, second]  # it ran when the first one ended
    assert verify.worked_in([first, second], [6], 1) == [second]
    assert verify.worked_in([first, second], [6], 2) == [first, second]
    assert verify.worked_in([first, second], [2, 9], 1) == [first, second]  # 9 goes on with the weights of 2
    assert verify.environment_changes([first, second], "cpu") == [f"torch {now['torch']} (began under 1.0)"]
    assert verify.environment_changes([second], "cpu") == []
    assert verify.environment_changes([], "cpu") == ["the environment was not recorded"]
