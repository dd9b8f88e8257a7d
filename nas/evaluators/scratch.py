"""Training from scratch: every candidate gets its own weights, and is scored on the `select` split."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, final

import numpy as np
from pydantic import Field, PrivateAttr

from export.quiet import giving_way
from nas import atomic, checkpoint
from nas.architecture import Architecture
from nas.evaluators.base import Evaluator
from nas.training.limits import Limits
from nas.training.recipe import Recipe
from nas.training.unfinished import Unfinished
from nas.trial import Proposal, Report, Trial

if TYPE_CHECKING:  # settings are read without PyTorch, so what trains is imported where it is used
    from torch import Tensor, nn

    from nas.training.loop import Examples, Training


@final
class Scratch(Evaluator):
    """Trains each candidate by one recipe.

    Fidelity is the number of steps: fewer steps are the first part of the same training. A proposal with a `parent` of
    the same architecture continues the parent's training exactly; with a parent of another architecture it begins from
    the parent's weights wherever names and shapes agree.

    While a candidate trains, a checkpoint is written now and then; an evaluation that is interrupted goes on from there when
    the same trial is evaluated again, and ends as if it had not been.
    """

    steps: int = Field(300, ge=1)
    """Optimizer steps of a full training, which the schedule is made for; a proposal may ask for fewer."""
    recipe: Recipe = Recipe()
    """How candidates are trained."""
    limits: Limits = Limits()
    """What a candidate may use."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Where to train: `cpu`, `cuda`, `cuda:1`, or `auto`."""

    _examples: "dict[str, Examples]" = PrivateAttr(default_factory=dict)
    _costs: dict[str, dict[str, float]] = PrivateAttr(default_factory=dict)
    # Seconds between checkpoints. No setting: it changes no result, and so must not be part of what names a run.
    _checkpoint_seconds: float = PrivateAttr(20.0)

    @property
    def provides(self) -> frozenset[str]:
        """Fewer steps are a cheaper and coarser answer, and weights can be continued or looked at."""
        return frozenset({"steps", "weights", "network"})

    @property
    def fidelities(self) -> tuple[int, int | None]:
        """Up to a full training."""
        return 1, self.steps

    def metric_names(self, task: tuple[str, ...]) -> tuple[str, ...]:
        """The task's metrics, and what the structure costs."""
        return (*task, "parameters", "flops")

    def repair(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """As the space says."""
        return self._bench.space.repair(architecture, rng)

    def inspect(self, proposal: Proposal) -> Mapping[str, float]:
        """Parameters and FLOPs, from a network that is built without memory. Raises LimitError when that passes a limit."""
        from nas.evaluators.structure import costs

        with self.limits.watch_structure():  # it is run once, in the search's own process
            return costs(self._costs, proposal.architecture, self._bench, self.canonical)

    def identity(self, proposal: Proposal) -> str | None:
        """Canonical form and steps; None where weights of other trials matter."""
        if proposal.parent is not None or proposal.mixture is not None:
            return None
        return f"{self.canonical(proposal.architecture)} {self._steps(proposal)}"

    def patience(self, trial: Trial) -> float | None:
        """Longer than the limit on time, which a training notices by itself unless it hangs; as long again for each that is restored."""
        if self.limits.seconds is None:
            return None
        return (1.5 * self.limits.seconds + 10) * (1 + len(self._missing(trial.proposal.parent)))

    def warm_up(self) -> None:
        """Load the data, to the device too, and the libraries."""
        import nas.evaluators.structure  # noqa: F401 - the first look at a structure would wait for it

        for name in ("fit", "select"):
            self._split(name)
        self._bench.task.load()

    def evaluate(self, trial: Trial) -> Report:
        """Train a candidate and report the task's metrics on `select`, with parameters and FLOPs.

        Raises LimitError when it passes a limit or diverges, FileNotFoundError when the parent was never trained, ValueError
        when its weights cannot be read, when more steps than `steps` are proposed, or a mixture.
        """
        if trial.proposal.mixture is not None:
            raise ValueError("a mixture was proposed, but 'scratch' trains single architectures: use an evaluator that shares weights")
        start = perf_counter()
        self.limits.check_size(self.inspect(trial.proposal))
        self.warm_up()
        self._restore(trial.proposal.parent)
        metrics, before = self._train(trial, self.limits)
        return Report({**metrics, **self.inspect(trial.proposal)}, before + perf_counter() - start)

    def reassess(self, trial: Trial, split: str) -> dict[str, float]:
        """Return the metrics of a finished trial's weights on another split; removed weights are trained again, as they were."""
        return self._measure(self._trained(trial), split)

    def network(self, trial: Trial) -> "nn.Module":
        """The network with the weights that were scored; removed ones are trained again, as they were."""
        return self._trained(trial).cpu().eval()

    def _trained(self, trial: Trial) -> "nn.Module":
        report = trial.report
        owner = trial.number if report is None or report.reused is None else report.reused
        if owner == trial.number and not self._origin(owner).exists():
            self._note(trial)
        self._restore(owner)
        training, *_ = self._begin(Trial(owner, Proposal(trial.architecture)), self._load(owner))
        return training.result

    def forget(self, keep: set[int]) -> None:
        """Remove the weights of all trials but these, and every checkpoint; what is missed later is trained again.

        What was proposed stays: it is small, and says how.
        """
        folder = self._weights(0).parent
        kept = {self._weights(number).name for number in keep}
        for pattern in ("trial-*.pt", "unfinished-*.pt", ".trial-*", ".unfinished-*"):
            for path in folder.glob(pattern):
                if path.name not in kept:
                    path.unlink(missing_ok=True)

    def _steps(self, proposal: Proposal) -> int:
        return self.steps if proposal.steps is None else proposal.steps

    def _train(self, trial: Trial, limits: Limits) -> tuple[dict[str, float], float]:
        """Train a trial and save it; returns its metrics on `select` and the seconds that it took before an interruption."""
        from nas.training.loop import Pace, pick_device

        unfinished, steps = self._unfinished(trial), self._steps(trial.proposal)
        try:
            with giving_way() as give_way, limits.watch(pick_device(self.device)) as guard:
                start = perf_counter()
                training, built, before = self._begin(trial, unfinished.load() or self._load(trial.proposal.parent))
                guard.charge(before)

                def write() -> None:
                    unfinished.save(self._state(training, built) | {"seconds": before + perf_counter() - start})

                pace = Pace(self._checkpoint_seconds, write)

                def between() -> None:
                    guard.charge(-give_way())  # whoever times a model has the machine alone, at nobody's expense
                    pace()

                if training.step < steps:
                    training.advance(self._split("fit"), steps, guard, between)
                metrics = self._measure(training.result, "select")
            self._note(trial)
            checkpoint.save(self._weights(trial.number), self._state(training, built))
        except (Exception, SystemExit):  # the trial has failed; what people and signals raise only interrupts it
            unfinished.remove()
            raise
        unfinished.remove()
        return metrics, before

    def _begin(self, trial: Trial, saved: Mapping[str, Any] | None) -> "tuple[Training, Architecture, float]":
        """A training at its first step, or where what was saved of it or of its parent ended.

        Also the architecture that its network was built from, and the seconds that it took before it was interrupted.
        Architectures of one canonical form name their tensors differently, so a continued training keeps those of its beginning.
        """
        import torch

        from nas.training.loop import Training, pick_device, stream_seed

        bench, proposal = self._bench, trial.proposal
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
        return training, built, float(saved.get("seconds", 0.0)) if saved is not None else 0.0

    def _restore(self, number: int | None) -> None:
        """Train again what is missing of a trial's weights and of those that it went on from, the oldest first.

        Time and memory are not limited: what fitted once must not fail now because the machine is busier.
        """
        limits = self.limits.model_copy(update={"seconds": None, "memory": None})
        for trial in reversed(self._missing(number)):
            self._train(trial, limits)

    def _missing(self, number: int | None) -> list[Trial]:
        """A trial whose weights are missing, the one that it went on from should they be missing too, and so on."""
        missing: list[Trial] = []
        while number is not None and not self._weights(number).exists():
            missing.append(Trial(number, self._proposed(number)))
            number = missing[-1].proposal.parent
        return missing

    def _measure(self, network: "nn.Module", split: str) -> dict[str, float]:
        from nas.training.loop import outputs_of

        examples = self._split(split)
        return self._bench.task.metrics(outputs_of(network, examples, self._bench.task), examples.targets.cpu())

    def _split(self, name: str) -> "Examples":
        if name not in self._examples:
            from nas.training.loop import load_examples, pick_device

            dataset = self._bench.dataset
            self._examples[name] = load_examples([(dataset.inputs(name), dataset.targets(name))], pick_device(self.device))
        return self._examples[name]

    def _weights(self, number: int) -> Path:
        return self._bench.folder / "weights" / f"trial-{number}.pt"

    def _origin(self, number: int) -> Path:
        return self._weights(number).with_suffix(".json")

    def _unfinished(self, trial: Trial) -> Unfinished:
        """The checkpoint of a trial's training, which every input of it names."""
        from nas.training.loop import pick_device

        record = {
            "number": trial.number,
            **_recorded(trial.proposal, self._steps(trial.proposal)),
            "seed": self._bench.seed,
            "schedule": self.steps,
            "recipe": self.recipe.model_dump(mode="json"),
            "device": pick_device(self.device).type,
        }
        return Unfinished(self._weights(0).with_name(f"unfinished-{trial.number}.pt"), record)

    def _state(self, training: "Training", built: Architecture) -> dict[str, Any]:
        state = {"seed": training.seed, "training": training.state_dict(), "form": self.canonical(built), "architecture": dict(built)}
        return {name: _interned(value) for name, value in state.items()}

    def _note(self, trial: Trial) -> None:
        """Write how a trial is trained, before its weights: it must be known when they are removed."""
        path = self._origin(trial.number)
        atomic.make_folder(path.parent)
        atomic.write_json(path, _recorded(trial.proposal, trial.proposal.steps))

    def _proposed(self, number: int) -> Proposal:
        path = self._origin(number)
        try:
            found = json.loads(path.read_text())
            return Proposal(Architecture(found["architecture"]), found["steps"], found["parent"])
        except FileNotFoundError as error:
            gone = self._weights(number)
            raise FileNotFoundError(f"{gone} is missing: trial {number} failed, or its weights were removed") from error
        except (ValueError, TypeError, LookupError) as error:
            raise ValueError(f"{path} is damaged: remove the run's folder, and everything is computed again") from error

    def _load(self, number: int | None) -> dict[str, Any] | None:
        return None if number is None else checkpoint.load(self._weights(number), "seed", "training", "form", "architecture")


def _recorded(proposal: Proposal, steps: int | None) -> dict[str, Any]:
    return {"architecture": dict(proposal.architecture), "steps": steps, "parent": proposal.parent}


def _interned(value: Any) -> Any:
    """The same value, with one object for equal texts: which are one decides the bytes of a pickle, and differs after a resume."""
    if type(value) is dict:  # PyTorch's own kinds of dict carry attributes, and names from the network's code
        return {_interned(name): _interned(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_interned(part) for part in value]
    return sys.intern(value) if isinstance(value, str) else value


def inherit(network: "nn.Module", weights: "Mapping[str, Tensor]") -> list[str]:
    """Copy the tensors whose names and shapes agree into a network; returns their names."""
    mine = network.state_dict()
    taken = [name for name, tensor in weights.items() if name in mine and mine[name].shape == tensor.shape]
    network.load_state_dict({name: weights[name] for name in taken}, strict=False)
    return taken
