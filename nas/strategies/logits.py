"""What gradient methods share: one logit per option, Adam on the chain rule, curves of what was learned, the likeliest architectures."""

import heapq
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from nas.architecture import Architecture, Choices
from nas.strategies.base import Strategy
from nas.trial import History, Proposal, Trial

if TYPE_CHECKING:
    from nas.architecture import Mixture

Vector = NDArray[np.float64]
"""One number for every option of every choice, in the order of the choices; shape (sum of the option counts,)."""

_POINTS = 200
_BETAS = 0.5, 0.999
_FAINT = 1e-3
"""How much the logits weigh beside an architecture that is already chosen."""
_CURVES = ("trial", "entropy", "skip_share", "skip_weight")


class Logits(Strategy):
    """Learns a logit for every option. A method writes how it draws a mixture, and the chain rule from the mixture to the logits.

    Constraints are checked on the proposal's architecture, since a mixture has no size; it is one that was not rejected yet.
    """

    learning_rate: float = Field(0.01, gt=0)
    """Of Adam on the logits, which moves a logit by about this much per trial. The papers' 3e-4 to 6e-4 belong to 20,000 steps and hardly
    leave the start in hundreds of trials."""
    weight_decay: float = Field(1e-3, ge=0)
    """Pulls logits to 0; part of the gradient, as in the methods' own code."""
    warmup: int = Field(50, ge=0)
    """Trials at the start that train weights only, since the gradient of untrained options says who learns fast and not who learns well."""

    _logits: Vector | None = PrivateAttr(None)
    _moments: tuple[Vector, Vector] = PrivateAttr()
    _updates: int = PrivateAttr(0)
    _told: int = PrivateAttr(0)
    _stride: int = PrivateAttr(1)
    _points: list[list[float]] = PrivateAttr(default_factory=list)

    @abstractmethod
    def offer(self, number: int, rejected: set[Architecture], rng: np.random.Generator) -> tuple[Architecture, Vector] | None:
        """Return what to propose in trial `number`: an architecture, best one that was not rejected, and a mixture; None: no more."""

    @abstractmethod
    def chain(self, trial: Trial, gradient: Vector) -> Vector:
        """Return d loss / d logits from d loss / d mixture, at the mixture that the trial proposed."""

    @property
    @abstractmethod
    def expected(self) -> Vector:
        """The weights that the logits stand for, without chance; they sum to 1 in every choice."""

    @property
    def requires(self) -> frozenset[str]:
        """The gradient with respect to the mixture."""
        return frozenset({"gradient"})

    @property
    def several_objectives(self) -> str:
        """It looks at none."""
        return "descends the gradient of the loss and looks at no objective"

    @property
    def logits(self) -> Vector:
        """The logits as they are now. Raises RuntimeError before the first proposal."""
        if self._logits is None:
            raise RuntimeError("there are no logits before the first proposal: call ask first")
        return self._logits

    @property
    def told(self) -> int:
        """Trials that were told so far."""
        return self._told

    def ask(self, history: History, rng: np.random.Generator) -> Proposal | None:
        """Propose a mixture; the first call draws the logits, close to 0 (Liu et al. 2019)."""
        self._begin(rng)
        offered = self.offer(len(history), rejected_in(history), rng)
        return None if offered is None else Proposal(offered[0], mixture=to_mixture(self.choices, offered[1]))

    def tell(self, trial: Trial) -> None:
        """Take one step of Adam along the gradient of a finished trial; one that failed has none."""
        self._told += 1
        if trial.report is not None and trial.report.gradient is not None and self._told > self.warmup:
            self.learn(trial, from_mixture(self.choices, trial.report.gradient))
        self._note(trial.number)

    def learn(self, trial: Trial, gradient: Vector) -> None:
        """Take one step of Adam (Kingma and Ba 2015) with the weight decay in the gradient."""
        slope = self.chain(trial, gradient) + self.weight_decay * self.logits
        self._updates += 1
        first = _BETAS[0] * self._moments[0] + (1 - _BETAS[0]) * slope
        second = _BETAS[1] * self._moments[1] + (1 - _BETAS[1]) * slope**2
        scale = np.sqrt(second / (1 - _BETAS[1] ** self._updates)) + 1e-8
        self._logits = self.logits - self.learning_rate * first / (1 - _BETAS[0] ** self._updates) / scale
        self._moments = first, second

    def reset(self, logits: Vector) -> None:
        """Go back to other logits."""
        self._logits = logits

    def conclude(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Architecture]:
        """Return what the logits decide for by the space's rules, then the next likely architectures that build different functions."""
        self._begin(rng)
        rejected = rejected_in(history)
        different: dict[str, Architecture] = {}
        tries = 100 * count + len(rejected)
        ruled = (self._ruled(architecture) for architecture in islice(self.likely(self.expected), tries))
        for architecture in chain([self.decided], ruled, islice(self.likely(self.expected), tries)):
            if len(different) == count:
                break
            if architecture not in rejected:
                different.setdefault(self.canonical(architecture), architecture)
        return list(different.values())

    @property
    def decided(self) -> Architecture:
        """The architecture that the logits decide for, by the space's rules."""
        return self.discretize(to_mixture(self.choices, self.expected))

    def likeliest(self, rejected: set[Architecture]) -> Architecture | None:
        """Return the architecture that the logits decide for, or the next likely one where that was rejected; None: all were."""
        likely = chain([self.decided], self.likely(self.expected))
        return next((architecture for architecture in likely if architecture not in rejected), None)

    def _ruled(self, architecture: Architecture) -> Architecture:
        """What the space's rules make of an architecture, where the logits speak only for what these leave open."""
        chosen = [np.array([float(option == architecture[choice.name]) for option in choice.options]) for choice in self.choices]
        return self.discretize(to_mixture(self.choices, np.concatenate([*chosen, []]) + _FAINT * self.expected))

    def likely(self, weights: Vector) -> Iterator[Architecture]:
        """Yield every architecture, the likeliest first, where each choice draws its option by weight; of equals the first."""
        ranked = [np.argsort(-part, kind="stable") for part in parts(self.choices, weights)]
        costs = [-np.log(part[order] + 1e-300) for part, order in zip(parts(self.choices, weights), ranked, strict=True)]
        start = (0,) * len(ranked)
        heap = [(0.0, start, 0)]
        while heap:
            cost, ranks, last = heapq.heappop(heap)
            options = zip(self.choices, ranked, ranks, strict=True)
            yield Architecture({choice.name: choice.options[order[rank]] for choice, order, rank in options})
            for position in range(last, len(ranks)):  # every architecture has one parent: its last worsened choice made better by one
                rank = ranks[position]
                if rank + 1 < len(costs[position]):
                    worse = (*ranks[:position], rank + 1, *ranks[position + 1 :])
                    heapq.heappush(heap, (cost + float(costs[position][rank + 1] - costs[position][rank]), worse, position))

    def telemetry(self) -> Mapping[str, Sequence[float]]:
        """Return, by trial: entropy as a share of the highest, the share of choices decided for a skip (an option whose name begins with
        `skip`) among those that offer one, the mean weight of skips, what a method adds, and every logit as `logit.CHOICE.OPTION`."""
        options = [f"logit.{choice.name}.{option}" for choice in self.choices for option in choice.options]
        names = [*_CURVES, *self.extra(), *options]
        return {name: [point[index] for point in self._points] for index, name in enumerate(names)}

    def extra(self) -> Mapping[str, float]:
        """Return further numbers for the telemetry, always of the same names."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Logits, moments, counters and curves."""
        if self._logits is None:
            return {}
        state = {"updates": self._updates, "told": self._told, "stride": self._stride, "points": [list(point) for point in self._points]}
        return state | {"logits": self._logits.tolist(), "moments": [moment.tolist() for moment in self._moments]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        if state:
            self._logits, moments = np.array(state["logits"]), [np.array(moment) for moment in state["moments"]]
            self._moments = moments[0], moments[1]
            self._updates, self._told, self._stride = state["updates"], state["told"], state["stride"]
            self._points = [list(point) for point in state["points"]]

    def _begin(self, rng: np.random.Generator) -> None:
        if self._logits is None:
            size = sum(len(choice.options) for choice in self.choices)
            self._logits = 1e-3 * rng.standard_normal(size)
            self._moments = np.zeros(size), np.zeros(size)

    def _note(self, number: int) -> None:
        """Add a point to the curves; when there are too many, every second one goes."""
        if self._logits is None or (self._told - 1) % self._stride:
            return
        told = shape(self.choices, self.expected, self.decided)
        self._points.append([float(number), *told, *self.extra().values(), *self._logits.tolist()])
        if len(self._points) > _POINTS:
            self._points, self._stride = self._points[::2], self._stride * 2


def rejected_in(history: History) -> set[Architecture]:
    """Return the architectures that broke a constraint before training."""
    return {trial.architecture for trial in history if trial.rejected}


def parts(choices: Choices, vector: Vector) -> list[Vector]:
    """Return a vector choice by choice."""
    ends = np.cumsum([len(choice.options) for choice in choices])
    return np.split(vector, ends[:-1])


def softmax(choices: Choices, vector: Vector) -> Vector:
    """Return the softmax within every choice."""
    return np.concatenate([(weights := np.exp(part - part.max())) / weights.sum() for part in parts(choices, vector)])


def through_softmax(choices: Choices, weights: Vector, gradient: Vector) -> Vector:
    """Return d loss / d logits from d loss / d weights, where the weights are the softmax of the logits within every choice."""
    pairs = zip(parts(choices, weights), parts(choices, gradient), strict=True)
    return np.concatenate([part * (slope - part @ slope) for part, slope in pairs])


def shape(choices: Choices, weights: Vector, decided: Architecture) -> tuple[float, float, float]:
    """Return the entropy as a share of the highest and, where a skip is offered, the share of choices decided for it and its weight."""
    entropies, skipped, heavy = [], [], []
    for choice, part in zip(choices, parts(choices, weights), strict=True):
        if len(part) > 1:
            entropies.append(-float(part @ np.log(part + 1e-300)) / float(np.log(len(part))))
        skips = [option.startswith("skip") for option in choice.options]
        if any(skips):
            skipped.append(float(decided[choice.name].startswith("skip")))
            heavy.append(float(part[skips].sum()))
    return tuple(float(np.mean(values)) if values else 0.0 for values in (entropies, skipped, heavy))  # type: ignore[return-value]


def to_mixture(choices: Choices, vector: Vector) -> "Mixture":
    """Return a vector as tensors of float32 by choice, which is how the journal keeps them."""
    import torch

    pairs = zip(choices, parts(choices, vector), strict=True)
    return {choice.name: torch.from_numpy(part.astype(np.float32)) for choice, part in pairs}


def from_mixture(choices: Choices, mixture: "Mixture") -> Vector:
    """Undo `to_mixture`."""
    return np.concatenate([mixture[choice.name].detach().cpu().numpy().astype(np.float64) for choice in choices])
