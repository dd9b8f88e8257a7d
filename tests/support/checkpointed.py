"""Evaluations whose weights and checkpoints lie on disk: what is evaluated, by which evaluators, and how one is interrupted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_images import task_of

from nas.architecture import Architecture
from nas.data.dataset import Dataset
from nas.evaluators.base import Bench, guarded
from nas.evaluators.scratch import Scratch
from nas.spaces.cell import EDGES, Cell
from nas.spaces.chain import Chain
from nas.tasks.image_classification import ImageClassification
from nas.training.limits import Guard
from nas.training.recipe import Augmentation, Recipe
from nas.trial import Proposal, Trial

CHAIN = Chain(widths=((4, 6), (6, 8)))
CELL = Cell(widths=(4,), cells=1)
SGD = Recipe(batch_size=32, ema=0.9, augmentation=Augmentation(shift=1))
ADAMW = Recipe(optimizer="adamw", learning_rate=0.01, batch_size=32)
Make = Callable[..., Scratch]


@pytest.fixture
def make(digits: Dataset, digit_task: ImageClassification, tmp_path: Path) -> Make:
    """Evaluators that write a checkpoint after every step; those of one folder are of one run."""

    def bound(folder: str = "broken", space: Chain | Cell = CHAIN, seed: int = 7, **settings: Any) -> Scratch:
        evaluator = Scratch(**{"steps": 6, "recipe": SGD, "device": "cpu", **settings})
        evaluator._checkpoint_seconds = 0.0
        return evaluator.bind(Bench(space, digit_task, digits, tmp_path / folder, seed))

    return bound


def architecture(seed: int = 0) -> Architecture:
    return CHAIN.choices(task_of()).sample(np.random.default_rng(seed))


def cell(*operations: str) -> Architecture:
    return Architecture({f"edge_{source}_{target}": name for (source, target), name in zip(EDGES, operations, strict=True)})


TWINS = (
    cell("nor_conv_3x3", "none", "none", "none", "skip_connect", "none"),
    cell("none", "none", "none", "nor_conv_3x3", "none", "none"),
)


def read_again(trial: Trial) -> Trial:
    """The trial as a journal gives it back: equal texts are other objects."""
    proposal = trial.proposal
    found = Architecture(json.loads(json.dumps(dict(proposal.architecture))))
    return Trial(trial.number, Proposal(found, proposal.steps, proposal.parent))


def content(evaluator: Scratch, number: int) -> bytes:
    return evaluator._weights(number).read_bytes()


def interrupt(evaluator: Scratch, trial: Trial, at: int) -> None:
    """Evaluate, and press Ctrl-C in step `at`, before its checkpoint."""

    def pressing(self: Guard, step: int) -> None:
        if step == at:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Guard, "check_time", pressing)
        with pytest.raises(KeyboardInterrupt):
            guarded(evaluator, trial)
