"""Weight sharing: one network holds every option, and all candidates train the same weights.

Pham et al. 2018, Efficient neural architecture search via parameter sharing; Bender et al. 2018, Understanding and simplifying one-shot
architecture search; Liu et al. 2019, DARTS; Guo et al. 2020, Single path one-shot neural architecture search with uniform sampling.
"""

from collections.abc import Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

import numpy as np
from pydantic import Field, PrivateAttr, field_validator

from export.quiet import giving_way
from nas.architecture import Architecture, Choices
from nas.evaluators.base import Bench, Evaluator
from nas.training.limits import Guard, LimitError, Limits
from nas.training.recipe import Recipe
from nas.trial import Proposal, Report, Trial

if TYPE_CHECKING:  # settings are read without PyTorch, so what trains is imported where it is used
    from torch import Tensor

    from nas.training.loop import Examples
    from nas.training.shared_weights import Judged, SharedWeights

_WEIGHTS, _PARTS, _FIT, _JUDGE = 1, 2, 3, 4  # what a stream of random numbers is for
_STREAM = 5  # keeps these streams from those that a search draws from (seed, trial)


@final
class Shared(Evaluator):
    """Trains the weights that all candidates share, and looks at candidates with them.

    A trial does one of three things. A proposal with steps trains its path for so many steps and reports the metrics of one batch:
    cheap and noisy, the reward of ENAS. A proposal with a mixture trains all of its options and then reports the gradient of the loss
    with respect to the mixture; weights come first and the architecture second, so that the next proposal uses the newest gradient.
    A proposal of 0 steps looks: metrics on the whole of `select`, with normalisation statistics of this very path; afterwards all is
    as it was. Only looks can choose a winner.

    The data of `fit` are divided: weights train on one part, architectures are judged on the other. A trial that fails leaves weights,
    statistics and optimizer as they were; only the batches that it was to use are passed over.
    """

    commit_every: ClassVar[int] = 200
    """Trials between two commits, each of which writes all weights."""

    steps: int = Field(1, ge=0)
    """Weight steps of a trial that proposes none itself; 0 freezes the weights, to search with those of an earlier search."""
    schedule_steps: int = Field(1000, ge=1)
    """Weight steps in all that the learning rate falls over: trials times `steps`. Steps beyond train at the smallest rate."""
    floor: float = Field(0.04, gt=0, le=1)
    """Smallest learning rate, as a share of the recipe's highest; 0.001 of 0.025 in DARTS."""
    architecture_share: float = Field(0.5, gt=0, lt=1)
    """Share of `fit` that judges architectures and never trains weights."""
    unrolled: bool = False
    """Take the gradient after one more step of the weights (second order); costs about four times as much."""
    recalibration: int = Field(16, ge=0)
    """Batches that a look recomputes normalisation statistics from; 0 uses the shared ones, which fit no single path."""
    tuning: int = Field(50, ge=0)
    """Steps that a look first trains its path for, on copies, where weights were trained under soft mixtures: their options never
    carried a path alone, and what they say of one is hardly better than chance. Not used where paths were trained one at a time."""
    curvature_every: int = Field(0, ge=0)
    """Trials with a mixture from one measurement of the metric `curvature` to the next, for a strategy that it guards; 0 for none."""
    curvature_products: int = Field(6, ge=2)
    """Products with the Hessian in a measurement of curvature, each two architecture gradients."""
    last_looks: int = Field(10, ge=1)
    """Architectures to look at once the budget is spent: those that the strategy names then, the best of which wins."""
    recipe: Recipe = Recipe(learning_rate=0.025, weight_decay=3e-4, gradient_clip=5.0)
    """How the weights are trained."""
    limits: Limits = Limits()
    """What one trial may use."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Where to train: `cpu`, `cuda`, `cuda:1`, or `auto`."""

    _examples: "dict[str, Examples]" = PrivateAttr(default_factory=dict)
    _costs: dict[str, dict[str, float]] = PrivateAttr(default_factory=dict)
    _weights: "SharedWeights | None" = PrivateAttr(None)
    _choices: Choices = PrivateAttr()

    @field_validator("recipe")
    @classmethod
    def _no_average(cls, recipe: Recipe) -> Recipe:
        if recipe.ema:
            raise ValueError(f"ema is {recipe.ema:g}, but shared weights are judged as they are: set it to 0")
        return recipe

    def bind(self, bench: Bench) -> Self:
        """Tell the evaluator what to evaluate on.

        Raises ValueError, before any work, when the space cannot share weights or a part of `fit` is too small.
        """
        import torch

        from nas.training.stream import divide

        with torch.device("meta"):
            self._choices = bench.space.supernet(bench.task).choices
        divide(bench.dataset.description.counts["fit"], self.architecture_share, 0, torch.device("cpu"))
        return super().bind(bench)

    @property
    def provides(self) -> frozenset[str]:
        """Gradients with respect to a mixture and, where it is measured, the curvature that warns of a collapse."""
        return frozenset({"gradient", "curvature"} if self.curvature_every else {"gradient"})

    @property
    def looks(self) -> int:
        """Architectures to look at in the end; none where the weights are frozen, since every trial is a look then."""
        return self.last_looks if self.steps else 0

    def comparable(self, trial: Trial) -> bool:
        """Whether the trial was a look: scores of one batch, at different moments of the weights, choose nothing."""
        return trial.proposal.mixture is None and self._steps(trial.proposal) == 0

    def metric_names(self, task: tuple[str, ...]) -> tuple[str, ...]:
        """The task's metrics, the loss, and what the structure costs when it is built alone."""
        return tuple(dict.fromkeys((*task, "loss", "parameters", "flops")))

    def repair(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """As the space says."""
        return self._bench.space.repair(architecture, rng)

    def inspect(self, proposal: Proposal) -> Mapping[str, float]:
        """Parameters and FLOPs of the architecture built alone, without memory; of a mixture, the architecture proposed with it.

        Raises LimitError when building and running it once passes a limit.
        """
        from nas.evaluators.structure import costs

        with self.limits.watch_structure():
            return costs(self._costs, proposal.architecture, self._bench, self.canonical)

    def identity(self, proposal: Proposal) -> str | None:
        """The canonical form where weights are frozen; None where they train, since results depend on all trials before."""
        frozen = self.steps == 0 and self._steps(proposal) == 0 and proposal.mixture is None
        return self.canonical(proposal.architecture) if frozen else None

    def warm_up(self) -> None:
        """Load the data, to the device too, and the libraries, and make the weights."""
        import nas.evaluators.structure  # noqa: F401 - the first look at a structure would wait for it

        self._shared()
        self._split("select")
        self._bench.task.load()

    def evaluate(self, trial: Trial) -> Report:
        """Train, or look, as the class says; metrics are the task's, `loss`, `parameters` and `flops`, and sometimes `curvature`.

        Waits for the device once per trial, but for the curvature. Raises LimitError when the trial passes a limit or diverges,
        ValueError when a mixture or an architecture does not answer the space's choices, or when steps are proposed while `steps` is 0.
        """
        proposal, weights = trial.proposal, self._shared()
        start, steps = perf_counter(), self._steps(proposal)
        if steps and not self.steps:
            raise ValueError(f"{steps} steps were proposed, but steps is 0, which freezes the weights: set it to 1 or more")
        if proposal.mixture is None:  # a mixture runs all options: it has no size of its own
            self.limits.check_size(self.inspect(proposal))
        self.warm_up()
        with giving_way(), self.limits.watch(weights.device) as guard:
            if steps == 0 and proposal.mixture is None:
                metrics, gradient = self._look(proposal.architecture, "select"), None
                guard.check(weights.step, 0.0)
            else:
                metrics, gradient = self._train(proposal, steps, guard)
        return Report({**metrics, **self.inspect(proposal)}, perf_counter() - start, gradient=gradient)

    def reassess(self, trial: Trial, split: str) -> dict[str, float]:
        """Look at a trial's architecture on another split, with the weights as they are now."""
        return self._look(trial.architecture, split)

    def state_dict(self) -> dict[str, Any]:
        """The shared weights, what their optimizer remembers, and the positions in the data."""
        return {} if self._weights is None else self._weights.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned, here or in another evaluator of the same space, task and kind of optimizer."""
        if state:
            self._shared().load_state_dict(state)

    def _steps(self, proposal: Proposal) -> int:
        return self.steps if proposal.steps is None else proposal.steps

    def _train(self, proposal: Proposal, steps: int, guard: Guard) -> "tuple[dict[str, float], dict[str, Tensor] | None]":
        """Some weight steps, and one batch that judges."""
        from nas.training.trend import worse_than_guessing

        weights, soft = self._shared(), proposal.mixture is not None
        mixture = self._path(proposal.architecture) if proposal.mixture is None else proposal.mixture
        with weights.attempt(steps, 1):
            trained = weights.train(mixture, steps, guard)
            judged = weights.judged(mixture, trained, graded=soft, unrolled=self.unrolled)
            guard.check(weights.step, judged.loss)
            bad = worse_than_guessing(float(trained) / max(steps, 1), self._bench.task.chance_loss())
            guard.check_trend(weights.step, steps if bad else 0)
            _check(judged)
        metrics = {"loss": judged.loss, **self._bench.task.metrics(judged.outputs, judged.targets)}
        if soft and self.curvature_every and weights.judgements % self.curvature_every == 0:
            metrics["curvature"] = weights.curvature(mixture, self.curvature_products)
        return metrics, judged.gradient

    def _look(self, architecture: Architecture, split: str) -> dict[str, float]:
        from nas.training.loop import outputs_of

        weights, examples, task = self._shared(), self._split(split), self._bench.task
        with weights.alone(self._path(architecture), self.tuning, self.recalibration) as network:
            outputs = outputs_of(network, examples, task)
        targets = examples.targets.cpu()
        return {"loss": float(task.loss(outputs, targets, 0.0)), **task.metrics(outputs, targets)}

    def _path(self, architecture: Architecture) -> "dict[str, Tensor]":
        """The mixture that runs one architecture alone."""
        import torch

        self._choices.check(architecture)
        return {
            choice.name: torch.tensor([float(option == architecture[choice.name]) for option in choice.options]) for choice in self._choices
        }

    def _split(self, name: str) -> "Examples":
        if name not in self._examples:
            from nas.training.loop import load_examples, pick_device

            dataset = self._bench.dataset
            self._examples[name] = load_examples([(dataset.inputs(name), dataset.targets(name))], pick_device(self.device))
        return self._examples[name]

    def _shared(self) -> "SharedWeights":
        if self._weights is None:
            self._weights = self._first_weights()
        return self._weights

    def _first_weights(self) -> "SharedWeights":
        """The weights of the first moment, a function of the run's seed."""
        import torch

        from nas.training.loop import pick_device, stream_seed
        from nas.training.shared_weights import Schedule, SharedWeights
        from nas.training.stream import Stream, divide

        bench, fit, device = self._bench, self._split("fit"), pick_device(self.device)
        seeds = {purpose: stream_seed(bench.seed, _STREAM, purpose, 0) for purpose in (_WEIGHTS, _PARTS, _FIT, _JUDGE)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds[_WEIGHTS])
            supernet = bench.space.supernet(bench.task)
        mine, theirs = divide(len(fit), self.architecture_share, seeds[_PARTS], device)
        streams = Stream(fit, mine, self.recipe.batch_size, seeds[_FIT]), Stream(fit, theirs, self.recipe.batch_size, seeds[_JUDGE])
        schedule = Schedule(self.recipe, self.schedule_steps, self.floor)
        return SharedWeights(supernet, supernet.set_mixture, bench.task, schedule, *streams)


def _check(judged: "Judged") -> None:
    """Refuse what is no number: metrics of such outputs look like those of a bad network, and such a gradient ruins logits for good."""
    if not judged.outputs.isfinite().all():
        raise LimitError("the network's outputs are not finite numbers: training diverged, lower the learning rate", "diverged")
    for name, slope in (judged.gradient or {}).items():
        if not slope.isfinite().all():
            raise LimitError(f"the gradient of choice {name!r} is not finite: training diverged, lower the learning rate", "diverged")
