"""Training from scratch: every candidate gets its own weights, and is scored on the `select` split."""

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, final

import numpy as np
import torch
from pydantic import Field, PrivateAttr
from torch import nn

from nas import checkpoint
from nas.architecture import Architecture
from nas.evaluators.base import Evaluator
from nas.evaluators.structure import Costs
from nas.training.limits import Limits
from nas.training.loop import Examples, Training, load_examples, outputs_of, pick_device, stream_seed
from nas.training.recipe import Recipe
from nas.trial import Proposal, Report, Trial


@final
class Scratch(Evaluator):
    """Trains each candidate by one recipe.

    Fidelity is the number of steps: fewer steps are the first part of the same training. A proposal with a `parent` of
    the same architecture continues the parent's training exactly; with a parent of another architecture it begins from
    the parent's weights wherever names and shapes agree.
    """

    steps: int = Field(300, ge=1)
    """Optimizer steps of a full training, which the schedule is made for; a proposal may ask for fewer."""
    recipe: Recipe = Recipe()
    """How candidates are trained."""
    limits: Limits = Limits()
    """What a candidate may use."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Where to train: `cpu`, `cuda`, `cuda:1`, or `auto`."""

    _examples: dict[str, Examples] = PrivateAttr(default_factory=dict)
    _costs: Costs = PrivateAttr(default_factory=Costs)

    @property
    def provides(self) -> frozenset[str]:
        """Fewer steps are a cheaper and coarser answer, and weights can be continued."""
        return frozenset({"steps", "weights"})

    def metric_names(self, task: tuple[str, ...]) -> tuple[str, ...]:
        """The task's metrics, and what the structure costs."""
        return (*task, "parameters", "flops")

    def repair(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """As the space says."""
        return self._bench.space.repair(architecture, rng)

    def inspect(self, proposal: Proposal) -> Mapping[str, float]:
        """Parameters and FLOPs, from a network that is built without memory."""
        return self._costs.of(proposal.architecture, self._bench, self.canonical)

    def identity(self, proposal: Proposal) -> str | None:
        """Canonical form and steps; None where weights of other trials matter."""
        if proposal.parent is not None or proposal.mixture is not None:
            return None
        return f"{self.canonical(proposal.architecture)} {self._steps(proposal)}"

    def evaluate(self, trial: Trial) -> Report:
        """Train a candidate and report the task's metrics on `select`, with parameters and FLOPs.

        Raises LimitError when it passes a limit or diverges, FileNotFoundError when the parent's weights are gone, ValueError
        when they cannot be read, when more steps than `steps` are proposed, or a mixture.
        """
        if trial.proposal.mixture is not None:
            raise ValueError("a mixture was proposed, but 'scratch' trains single architectures: use an evaluator that shares weights")
        start, steps = perf_counter(), self._steps(trial.proposal)
        # The data and libraries serve every candidate, so none is charged for loading them.
        fit, _ = self._split("fit"), self._split("select")
        self._bench.task.load()
        with self.limits.watch(pick_device(self.device)) as guard:
            training, built = self._begin(trial)
            if training.step < steps:
                training.advance(fit, steps, guard)
            metrics = self._measure(training.result, "select")
        self._save(trial, training, built)
        return Report({**metrics, **self.inspect(trial.proposal)}, perf_counter() - start)

    def reassess(self, trial: Trial, split: str) -> dict[str, float]:
        """Return the metrics of a finished trial's weights on another split; weights that were removed are trained again."""
        report = trial.report
        owner = trial.number if report is None or report.reused is None else report.reused
        if not self._weights(owner).exists():
            self.evaluate(Trial(owner, trial.proposal))
        training, _ = self._begin(Trial(owner, Proposal(trial.architecture, parent=owner)))
        return self._measure(training.result, split)

    def forget(self, keep: set[int]) -> None:
        """Remove the weights of all trials but these; `reassess` trains again what it misses."""
        for path in self._weights(0).parent.glob("trial-*.pt"):
            if int(path.stem.split("-")[1]) not in keep:
                path.unlink(missing_ok=True)

    def _steps(self, proposal: Proposal) -> int:
        return self.steps if proposal.steps is None else proposal.steps

    def _begin(self, trial: Trial) -> tuple[Training, Architecture]:
        """A training at its first step, or where the parent's ended, and the architecture that its network was built from.

        Architectures of one canonical form name their tensors differently, so a continued training keeps the parent's.
        """
        bench, proposal = self._bench, trial.proposal
        saved = None if proposal.parent is None else self._load(proposal.parent)
        same = saved is not None and saved["form"] == self.canonical(proposal.architecture)
        seed = int(saved["seed"]) if saved is not None and same else stream_seed(bench.seed, trial.number)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            built = Architecture(saved["architecture"]) if saved is not None and same else proposal.architecture
            network = bench.space.build(built, bench.task)
        if saved is not None and not same:
            inherit(network, saved["training"]["average"] or saved["training"]["network"])
        training = Training(network, bench.task, self.recipe, total=self.steps, seed=seed, device=pick_device(self.device))
        if saved is not None and same:
            training.load_state_dict(saved["training"])
        return training, built

    def _measure(self, network: nn.Module, split: str) -> dict[str, float]:
        examples = self._split(split)
        return self._bench.task.metrics(outputs_of(network, examples, self._bench.task), examples.targets.cpu())

    def _split(self, name: str) -> Examples:
        if name not in self._examples:
            dataset = self._bench.dataset
            self._examples[name] = load_examples([(dataset.inputs(name), dataset.targets(name))], pick_device(self.device))
        return self._examples[name]

    def _weights(self, number: int) -> Path:
        return self._bench.folder / "weights" / f"trial-{number}.pt"

    def _save(self, trial: Trial, training: Training, built: Architecture) -> None:
        path = self._weights(trial.number)
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {"seed": training.seed, "training": training.state_dict(), "form": self.canonical(built), "architecture": dict(built)}
        checkpoint.save(path, state)

    def _load(self, number: int) -> dict[str, Any]:
        path = self._weights(number)
        try:
            return checkpoint.load(path, "seed", "training", "form", "architecture")
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} is missing: trial {number} failed, or its weights were removed") from error


def inherit(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> list[str]:
    """Copy the tensors whose names and shapes agree into a network; returns their names."""
    mine = network.state_dict()
    taken = [name for name, tensor in weights.items() if name in mine and mine[name].shape == tensor.shape]
    network.load_state_dict({name: weights[name] for name in taken}, strict=False)
    return taken
