"""Evaluators that share weights on small images, and what tests ask of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nas.architecture import Architecture
from nas.data.dataset import Dataset
from nas.evaluators.base import Bench
from nas.evaluators.shared import Shared
from nas.spaces.base import SearchSpace
from nas.spaces.cell import EDGES, Cell
from nas.tasks.image_classification import ImageClassification
from nas.training.recipe import Recipe
from nas.trial import Proposal, Report, Trial

CELL = Cell(widths=(4,), cells=1)
RECIPE = Recipe(batch_size=32, learning_rate=0.05, gradient_clip=5.0)
Make = Callable[..., Shared]


@pytest.fixture
def make(digits: Dataset, digit_task: ImageClassification, tmp_path: Path) -> Make:
    """Evaluators of one run: the same data and seed."""

    def bound(space: SearchSpace = CELL, seed: int = 7, **settings: Any) -> Shared:
        chosen = {
            "schedule_steps": 40,
            "recipe": RECIPE,
            "device": "cpu",
            "curvature_every": 0,
            "recalibration": 2,
            "tuning": 0,
            **settings,
        }
        return Shared(**chosen).bind(Bench(space, digit_task, digits, tmp_path / "run", seed))

    return bound


def path_of(*operations: str) -> Architecture:
    return Architecture({f"edge_{source}_{target}": name for (source, target), name in zip(EDGES, operations, strict=True)})


CONVS = path_of(*["nor_conv_3x3"] * 6)
SMALL = path_of("nor_conv_1x1", "none", "skip_connect", "none", "skip_connect", "avg_pool_3x3")


def soft(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"edge_{source}_{target}": torch.randn(5, generator=generator).softmax(0) for source, target in EDGES}


def tensors(evaluator: Shared) -> dict[str, Tensor]:
    state = evaluator.state_dict()
    return {name: tensor.clone() for part in ("network", "optimizer") for name, tensor in state[part].items()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def run(evaluator: Shared, *proposals: Proposal) -> list[Report]:
    return [evaluator.evaluate(Trial(number, proposal)) for number, proposal in enumerate(proposals)]
