"""What evaluators have in common that add something to another one: whatever they do not change is passed on."""

from abc import ABC
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import PrivateAttr

from nas.architecture import Architecture
from nas.evaluators.base import Bench, Evaluator
from nas.trial import Proposal, Report, Trial

if TYPE_CHECKING:
    from torch import nn


class Wrapper(Evaluator, ABC):
    """Passes everything on to the evaluator that it is made around."""

    _evaluator: Evaluator = PrivateAttr()

    @property
    def commit_every(self) -> int:  # type: ignore[override]
        """As the evaluator says."""
        return self._evaluator.commit_every

    def bind(self, bench: Bench) -> Self:
        """Tell the evaluator what to evaluate on."""
        self._evaluator.bind(bench)
        return super().bind(bench)

    @property
    def slots(self) -> int:
        """As the evaluator says."""
        return self._evaluator.slots

    @property
    def provides(self) -> frozenset[str]:
        """What the evaluator provides."""
        return self._evaluator.provides

    @property
    def fidelities(self) -> tuple[int, int | None]:
        """What the evaluator allows."""
        return self._evaluator.fidelities

    @property
    def looks(self) -> int:
        """How many looks the evaluator wants."""
        return self._evaluator.looks

    def comparable(self, trial: Trial) -> bool:
        """Whether the evaluator can compare the trial."""
        return self._evaluator.comparable(trial)

    def features(self, architecture: Mapping[str, str]) -> Mapping[str, float]:
        """What the evaluator knows of an architecture."""
        return self._evaluator.features(architecture)

    def metric_names(self, task: tuple[str, ...]) -> tuple[str, ...]:
        """The evaluator's metrics."""
        return self._evaluator.metric_names(task)

    def paths(self) -> list[str]:
        """The files that the evaluator reads."""
        return self._evaluator.paths()

    def patience(self, trial: Trial) -> float | None:
        """As the evaluator says."""
        return self._evaluator.patience(trial)

    def on_device(self, device: str) -> Self:
        """The same around the evaluator with another device."""
        copied = self.model_copy()
        copied._evaluator = self._evaluator.on_device(device)
        return copied

    def warm_up(self) -> None:
        """Let the evaluator load what serves every candidate."""
        self._evaluator.warm_up()

    def evaluate(self, trial: Trial) -> Report:
        """Let the evaluator evaluate."""
        return self._evaluator.evaluate(trial)

    def inspect(self, proposal: Proposal) -> Mapping[str, float]:
        """What the evaluator knows without training."""
        return self._evaluator.inspect(proposal)

    def identity(self, proposal: Proposal) -> str | None:
        """The evaluator's key."""
        return self._evaluator.identity(proposal)

    def repair(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """As the evaluator says."""
        return self._evaluator.repair(architecture, rng)

    def canonical(self, architecture: Mapping[str, str]) -> str:
        """The evaluator's canonical form."""
        return self._evaluator.canonical(architecture)

    def network(self, trial: Trial) -> "nn.Module":
        """The evaluator's network of a finished trial."""
        return self._evaluator.network(trial)

    def reassess(self, trial: Trial, split: str) -> Mapping[str, float]:
        """What the evaluator says of a trial on another split."""
        return self._evaluator.reassess(trial, split)

    def forget(self, keep: set[int]) -> None:
        """Let the evaluator remove what it kept."""
        self._evaluator.forget(keep)

    def state_dict(self) -> dict[str, Any]:
        """What the evaluator remembers."""
        return self._evaluator.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hand the evaluator what it remembered."""
        self._evaluator.load_state_dict(state)
