"""A full training to kill, with a checkpoint after nearly every step, so that most kills fall into an epoch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from killed_searches import SPACE, plain_state

from nas import checkpoint
from nas.data.dataset import Dataset
from nas.tasks.image_classification import ImageClassification
from nas.training.loop import load_examples
from nas.training.recipe import Augmentation, Recipe
from nas.training.retrain import Plan, retrain

_RECIPE = Recipe(batch_size=16, learning_rate=0.05, ema=0.9, augmentation=Augmentation(shift=1))


@final
@dataclass(frozen=True)
class TrainingJob:
    """Trains one architecture of the space from a seed; `shared` is what `make_shared` filled."""

    shared: Path
    seed: int = 0
    epochs: int = 5
    checkpoint_seconds: float = 0.02

    def __str__(self) -> str:
        return f"retraining from seed {self.seed}"

    def run(self, folder: Path, ready: Callable[[], None]) -> None:
        """Begin or continue."""
        dataset = Dataset.open(self.shared / "prepared")
        task = ImageClassification().bind(dataset.description)
        torch.manual_seed(self.seed)
        network = SPACE.build(SPACE.choices(task).sample(np.random.default_rng(self.seed)), task)
        cpu = torch.device("cpu")
        fit, confirm = (load_examples([(dataset.inputs(name), dataset.targets(name))], cpu) for name in ("fit", "confirm"))
        plan = Plan(_RECIPE, self.epochs, self.seed, cpu, "accuracy", 1, self.checkpoint_seconds)
        ready()
        retrain(network, task, plan, folder, fit, confirm)

    def content(self, folder: Path) -> Mapping[str, Any]:
        """The weights that ship byte for byte, and all that the last checkpoint holds."""
        name = f"seed-{self.seed}"
        weights = (folder / f"{name}.safetensors").read_bytes()
        return {"weights": weights, "checkpoint": plain_state(checkpoint.load(folder / f"{name}.pt"))}
