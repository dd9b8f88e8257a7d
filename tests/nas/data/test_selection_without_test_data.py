"""Whoever selects never touches the test data: their files may be missing altogether."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_images import one_thread

from nas.data.dataset import Dataset, Description
from nas.data.errors import DataError
from nas.data.sources.digits import Digits
from nas.evaluators.base import Bench
from nas.evaluators.scratch import Scratch
from nas.spaces.chain import Chain
from nas.strategies.random import Random
from nas.tasks.image_classification import ImageClassification
from nas.trial import Proposal, Trial

__all__ = ["one_thread"]


@pytest.fixture
def folder(tmp_path: Path, prepared: Callable[..., Description]) -> Path:
    prepared(Digits())
    for part in ("inputs", "targets"):
        (tmp_path / "prepared" / f"test_{part}.npy").unlink()
    return tmp_path / "prepared"


def test_a_candidate_is_trained_scored_and_confirmed_without_test_data(folder: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(folder, ["fit", "select", "confirm"])
    space, task = Chain(), ImageClassification().bind(dataset.description)
    choices = space.choices(task)
    proposal = Random().bind(choices).ask([], np.random.default_rng(0))
    assert isinstance(proposal, Proposal)
    evaluator = Scratch(steps=2).bind(Bench(space, task, dataset, tmp_path, 0))
    assert 0 <= evaluator.evaluate(Trial(0, proposal)).metrics["accuracy"] <= 1


def test_only_the_splits_asked_for_are_opened(folder: Path) -> None:
    dataset = Dataset.open(folder)
    assert len(dataset.inputs("fit")) == dataset.description.counts["fit"]
    with pytest.raises(DataError, match=r"test_inputs\.npy is missing"):
        dataset.inputs("test")
    with pytest.raises(DataError, match=r"test_inputs\.npy is missing"):
        Dataset.open(folder, ["fit", "test"])
