"""What every evaluator is: it turns a proposal into metrics."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

import numpy as np
from pydantic import BaseModel, ConfigDict, PrivateAttr

from nas import atomic
from nas.architecture import Architecture
from nas.trial import LimitError, Proposal, Report, Trial

if TYPE_CHECKING:  # the loop and the tools around it need not wait for PyTorch
    from torch import nn

    from nas.data.dataset import Dataset
    from nas.spaces.base import SearchSpace
    from nas.tasks.base import Task


@final
class MachineError(RuntimeError):
    """The machine cannot do what an evaluation needs, whatever the candidate: it was not quiet in time, say. The message has the cure."""


Blameless = atomic.DiskError | MachineError
BLAMELESS = (atomic.DiskError, MachineError)
"""What no candidate is to blame for: it ends the search, which then goes on as if nothing had been, and fails no trial."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What candidates are trained on: the space and task, the prepared data, a folder for their weights, and the run's seed."""

    space: "SearchSpace"
    task: "Task"
    dataset: "Dataset"
    folder: Path
    seed: int


class Evaluator(BaseModel, ABC):
    """Evaluates proposals. Its fields are its settings; only `evaluate` must be written."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    commit_every: ClassVar[int] = 1
    """Trials between two commits: 1 when nothing is remembered, hundreds when each evaluation changes a large state."""

    _bench: Bench = PrivateAttr()

    def bind(self, bench: Bench) -> Self:
        """Tell the evaluator what to evaluate on; returns the evaluator itself."""
        self._bench = bench
        return self

    @property
    def slots(self) -> int:
        """How many evaluations run at once."""
        return 1

    @property
    def provides(self) -> frozenset[str]:
        """What others may require: `gradient` with respect to a mixture, `steps` that change the result, `weights` of a parent, and the
        trained `network` of a trial."""
        return frozenset()

    @property
    def fidelities(self) -> tuple[int, int | None]:
        """The fewest and the most steps that a proposal may ask for; None where there is no most."""
        return 0, None

    @property
    def looks(self) -> int:
        """How many architectures to look at once the budget is spent; 0 where the trials themselves can be compared."""
        return 0

    def comparable(self, trial: Trial) -> bool:
        """Whether the score of a finished trial may choose the winner; not where the trial only trained shared weights."""
        return True

    def features(self, architecture: Mapping[str, str]) -> Mapping[str, float]:
        """Return numbers that are known of an architecture without training it, the same names for every architecture."""
        return {}

    def metric_names(self, task: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the metrics in a report, given those of the task."""
        return task

    def paths(self) -> list[str]:
        """Return the files and folders, as written in the settings, whose content decides what `evaluate` gives; by default none."""
        return []

    def patience(self, trial: Trial) -> float | None:
        """Return the seconds after which whoever waits for an evaluation in another process may give up on it; None: never."""
        return None

    def on_device(self, device: str) -> Self:
        """Return the evaluator with another device. Raises ValueError when it has no such setting."""
        if "device" not in type(self).model_fields:
            raise ValueError(f"a worker's device is {device!r}, but the evaluator has no setting 'device': leave devices empty")
        return self.model_copy(update={"device": device})

    def warm_up(self) -> None:
        """Load what serves every candidate, so that none is charged for it. May raise; then `evaluate` raises the same."""

    @abstractmethod
    def evaluate(self, trial: Trial) -> Report:
        """Evaluate the proposal of a trial. May raise: the search records the reason and goes on."""

    def inspect(self, proposal: Proposal) -> Mapping[str, float]:
        """Return the metrics that are known without training; constraints on them are decided before it."""
        return {}

    def identity(self, proposal: Proposal) -> str | None:
        """Return a key that two proposals share exactly when one's result may stand for the other's; None: never reuse."""
        return None

    def repair(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Return the architecture to evaluate in the place of a proposed one, as the space's rules want it; by default itself."""
        return architecture

    def canonical(self, architecture: Mapping[str, str]) -> str:
        """Return the canonical form of an architecture in the space that is searched."""
        return self._bench.space.canonical(architecture, self._bench.task)

    def network(self, trial: Trial) -> "nn.Module":
        """Return the network of a finished trial with its weights, on the CPU, in evaluation mode.

        Raises ValueError where there are none; `provides` then lacks `network`.
        """
        raise ValueError(f"trial {trial.number} has no weights, since this evaluator trains none: use the evaluator 'scratch'")

    def reassess(self, trial: Trial, split: str) -> Mapping[str, float]:
        """Return the metrics of a finished trial on another split; where nothing was trained, what the trial reported."""
        return trial.report.metrics if trial.report is not None else {}

    def forget(self, keep: set[int]) -> None:
        """Remove what was kept of all trials but these; called when a search is complete."""

    def submit(self, trial: Trial) -> "Future[Report]":
        """Start an evaluation; this default finishes it before returning.

        The future raises no Exception but those that no candidate is to blame for, such as a full disk.
        """
        future: Future[Report] = Future()
        try:
            future.set_result(guarded(self, trial))
        except BLAMELESS as error:
            future.set_exception(error)
        return future

    def state_dict(self) -> dict[str, Any]:
        """What evaluations remember, as tensors, numbers, text, lists and dicts."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""


def guarded(evaluator: Evaluator, trial: Trial) -> Report:
    """Evaluate, and turn whatever a candidate raises into a report with the reason, an attempt to end the process included.

    What people and signals raise, such as KeyboardInterrupt, passes, and so does what is BLAMELESS: no candidate is to blame for a full
    disk, and a trial noted as failed for it would make the continued search another one.
    """
    start = time.perf_counter()
    try:
        return evaluator.evaluate(trial)
    except BLAMELESS:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a candidate may raise anything at all, and the search must go on
        return failure(error, time.perf_counter() - start)


_KINDS = MappingProxyType({"SystemExit": "died", "MemoryError": "memory", "OutOfMemoryError": "memory"})
"""Kinds of what Python and PyTorch raise themselves; any other exception is a kind of its own."""


def failure(error: BaseException, seconds: float = 0.0) -> Report:
    """Return the report of a candidate that raised: the reason, and its kind."""
    name = type(error).__name__
    kind = error.kind if isinstance(error, LimitError) else _KINDS.get(name, name)
    return Report(seconds=seconds, error=reason(error), kind=kind)


def reason(error: BaseException) -> str:
    """One line that says what was raised."""
    text = str(error).strip().split("\n", 1)[0] or "no message"
    return f"{type(error).__name__}: {text}"
