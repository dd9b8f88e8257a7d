"""How long a worker may be waited for when it trains from scratch."""

from pathlib import Path

import numpy as np
import pytest

from nas.data.dataset import Dataset
from nas.evaluators.base import Bench
from nas.evaluators.scratch import Scratch
from nas.spaces.chain import Chain
from nas.tasks.image_classification import ImageClassification
from nas.training.limits import Limits
from nas.trial import Proposal, Trial


@pytest.mark.parametrize(("seconds", "patience"), [(None, None), (2.0, 13.0), (120.0, 190.0)])
def test_patience_is_longer_than_the_limit_and_grows_with_what_is_restored(
    digits: Dataset, digit_task: ImageClassification, tmp_path: Path, seconds: float | None, patience: float | None
) -> None:
    evaluator = Scratch(steps=1, limits=Limits(seconds=seconds), device="cpu")
    evaluator.bind(Bench(Chain(widths=((4, 6),)), digit_task, digits, tmp_path, 7))
    architecture = evaluator._bench.space.choices(digit_task).sample(np.random.default_rng(0))
    first, child = Trial(0, Proposal(architecture)), Trial(1, Proposal(architecture, parent=0))
    assert evaluator.patience(first) == patience
    evaluator.evaluate(first)
    assert evaluator.patience(child) == patience
    evaluator.forget(set())
    assert evaluator.patience(child) == (None if patience is None else 2 * patience)
