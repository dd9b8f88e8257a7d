"""A model of the results so far chooses what to evaluate next: the greatest expected improvement near the best and elsewhere.

White, Neiswanger and Savani 2021, BANANAS: Bayesian optimization with neural architectures for neural architecture search: the loop,
and candidates one edit from the best. Kadlecová et al. 2024, Surprisingly strong performance prediction with neural graph features.

The model is an ensemble of Gaussian processes, not of networks or trees. On NAS-Bench-201 (CIFAR-10, 200-epoch signal) 40 runs with graph
and zero-cost features all ended at 94.37 %, the best cell there is, after 50 evaluations and at 5 ms per proposal; without any features
they reached 94.28 % (regularized evolution: 93.90 %). A prototype with 50 extremely randomized trees reached 94.20 % in both cases, at
about 20 ms (8 runs). Three kernels vote because ten results hardly tell kernels apart. With features a first model after 10 results
instead of 20 gained 0.26 % after 25 evaluations; without, 20 lost nothing by then and gained 0.08 % after 100 (24 to 40 runs).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import final

import numpy as np
from pydantic import Field, PrivateAttr

from nas.architecture import Architecture
from nas.pareto import scalarised, weights_at
from nas.strategies.base import Strategy
from nas.strategies.gaussian import (
    Codes,
    Floats,
    Kernel,
    Points,
    evidence,
    expected_improvement,
    kernels,
    normal_scores,
    positions,
    posterior,
)
from nas.trial import History, Proposal, Trial

MEMORY = 400
"""Finished trials that a model is made from at most, since its time grows with their third power."""
CAUTION = 3
"""The power of the probability that a candidate is feasible: above 1, since a smooth model is too sure near a sharp bound."""


@final
class Predictor(Strategy):
    """Bayesian optimization with an ensemble of Gaussian processes on options and, where there are any, features.

    Several objectives are made one for every proposal, by weights that differ each time (Knowles 2006, ParEGO: the augmented Tchebycheff
    scalar), so that proposals spread over the Pareto front; the kernels are chosen for equal weights. Results enter as normal scores of
    their ranks, so that neither their scale nor a few collapsed networks matter. Trials that failed or broke a constraint teach where
    candidates are feasible; while none is feasible, breaking less is the aim. Running trials lower the uncertainty around them, so that
    proposals made side by side differ. Architectures that are known to build one function are proposed once.

    Features are worked out for every architecture looked at, `neighbours` and `strangers` per proposal at first, later mostly for the
    `strangers`; where a feature takes long, look at fewer.
    """

    initial: int = Field(10, ge=2)
    """How many random architectures come before the first model; twice as many where no features help it."""
    parents: int = Field(5, ge=1)
    """How many of the best trials have their one-edit neighbours looked at."""
    neighbours: int = Field(200, ge=1)
    """How many of those neighbours are looked at, at most; drawn at random when there are more."""
    strangers: int = Field(100, ge=1)
    """How many random architectures are looked at besides."""
    members: int = Field(3, ge=1)
    """How many Gaussian processes vote: those that explain the results best, each by how well it does."""

    @property
    def random_first(self) -> int:
        """Those before the first model."""
        return self.initial

    @property
    def several_objectives(self) -> str:
        """It weighs them."""
        return "scalarises them (Tchebycheff), with other weights for every proposal (ParEGO)"

    _features_of: dict[bytes, Floats] = PrivateAttr(default_factory=dict)
    _ensemble: tuple[bytes, list[tuple[Kernel, float]]] = PrivateAttr(default=(b"", []))

    def ask(self, history: History, rng: np.random.Generator) -> Proposal | None:
        """Propose random architectures first, then the candidate with the greatest expected improvement.

        None when the whole space is known. What is kept between calls only saves time: the history and the space determine it.
        """
        codes = self._codes(trial.architecture for trial in history)
        taken = {self.canonical(trial.architecture) for trial in history}
        aim = _Aim.of(history, len(history))
        lesson = _Lesson.of(history, aim) if len(history) >= self.initial else None
        if lesson is not None and len(history) < 2 * self.initial and not self._known(codes).size:
            lesson = None
        candidates, origins = self._candidates(history, codes, aim, rng) if lesson is not None else (codes[:0], {})
        if lesson is not None and len(candidates):
            utility = self._utility(history, lesson, codes, candidates)
            for index in np.argsort(-utility, kind="stable"):  # from the best on, since telling a form may cost building a network
                architecture = self._architecture(candidates[index])
                if self.canonical(architecture) not in taken:
                    return Proposal(architecture, origin=origins.get(candidates[index].tobytes(), ()))
        fresh = self.unknown(taken, rng)
        return None if fresh is None else Proposal(fresh)

    def _candidates(
        self, history: History, codes: Codes, aim: "_Aim", rng: np.random.Generator
    ) -> tuple[Codes, dict[bytes, tuple[int, ...]]]:
        """Neighbours of the best and random architectures, each once, without those whose options are in the history.

        Beside them, by their bytes, the trial that a neighbour was made from; the best where it is a neighbour of several.
        """
        best = aim.best_first(history)[: self.parents]
        made = [(trial.number, neighbour) for trial in best for neighbour in self.choices.neighbours(trial.architecture)]
        near = self._codes(neighbour for _, neighbour in made)
        looked = rng.choice(len(near), size=self.neighbours, replace=False) if len(near) > self.neighbours else np.arange(len(near))
        origins: dict[bytes, tuple[int, ...]] = {}
        for index in sorted(looked.tolist()):
            origins.setdefault(near[index].tobytes(), (made[index][0],))
        known = {code.tobytes() for code in codes}
        different = {key: code for code in (*near[looked], *self._random(self.strangers, rng)) if (key := code.tobytes()) not in known}
        return self._stack(different.values()), origins

    def _utility(self, history: History, lesson: "_Lesson", codes: Codes, candidates: Codes) -> Floats:
        """Expected improvement of every candidate, times the probability that it is feasible, shape (candidates,)."""
        reference = self._known(codes[lesson.finished + lesson.running])
        points, offered = (self._points(rows, reference) for rows in (codes[lesson.taught + lesson.running], candidates))
        targets = normal_scores(lesson.values)
        fitting = {row for row, fits in zip(lesson.finished, lesson.feasible, strict=True) if fits}
        best = max(target for target, row in zip(targets, lesson.taught, strict=True) if row in fitting)
        first = history[: _last_fit(min(len(lesson.finished), MEMORY))]
        early = _Lesson.of(first, _Aim.of(first))
        members = self._members(early or lesson, codes)
        apart, across = points.to(points), points.to(offered)
        utility = np.zeros(len(candidates))
        for kernel, weight in members:
            mean, deviation = posterior(kernel.of(apart), kernel.of(across), targets, kernel.noise)
            utility += weight * expected_improvement(mean, deviation, best)
        if all(lesson.feasible):
            return utility
        told, kernel = self._points(codes[lesson.finished], reference), members[0][0]
        labels = np.array(lesson.feasible, dtype=np.float64)
        likely, _ = posterior(kernel.of(told.to(told)), kernel.of(told.to(offered)), labels, kernel.noise)
        caution: Floats = utility * np.clip(likely, 0.05, 1.0) ** CAUTION
        return caution

    def _members(self, lesson: "_Lesson", codes: Codes) -> list[tuple[Kernel, float]]:
        """The kernels with the greatest evidence and their weights; kept until the lesson changes, since weighing all takes long."""
        codes, targets = codes[lesson.taught], normal_scores(lesson.values)
        features = self._known(codes)
        key = codes.tobytes() + targets.tobytes() + features.tobytes()
        if self._ensemble[0] != key:
            points = Points(codes, positions(features, features))
            apart = points.to(points)
            found = sorted(((evidence(kernel, apart, targets), kernel) for kernel in kernels(features.shape[1] > 0)), reverse=True)
            weights = np.exp([value - found[0][0] for value, _ in found[: self.members]])
            chosen = [(kernel, float(weight)) for (_, kernel), weight in zip(found, weights / weights.sum(), strict=False)]
            self._ensemble = key, chosen
        return self._ensemble[1]

    def _points(self, codes: Codes, reference: Floats) -> Points:
        return Points(codes, positions(reference, self._known(codes)))

    def _known(self, codes: Codes) -> Floats:
        """The features, shape (architectures, features); what is not finite counts as the least."""
        known, keys = self._features_of, [code.tobytes() for code in codes]
        for key, code in zip(keys, codes, strict=True):
            if key not in known:
                known[key] = np.nan_to_num(self.features(self._architecture(code)), nan=-inf, neginf=-inf)
        return np.array([known[key] for key in keys], dtype=np.float64).reshape(len(codes), -1)

    def _codes(self, architectures: Iterable[Architecture]) -> Codes:
        numbers = [(choice.name, {option: number for number, option in enumerate(choice.options)}) for choice in self.choices]
        return self._stack([number[architecture[name]] for name, number in numbers] for architecture in architectures)

    def _stack(self, rows: Iterable[Sequence[int] | Codes]) -> Codes:
        return np.array(list(rows), dtype=np.int16).reshape(-1, len(self.choices))

    def _architecture(self, code: Sequence[int] | Codes) -> Architecture:
        return Architecture({choice.name: choice.options[number] for choice, number in zip(self.choices, code, strict=True)})

    def _random(self, count: int, rng: np.random.Generator) -> Codes:
        return rng.integers(0, [len(choice.options) for choice in self.choices], size=(count, len(self.choices)), dtype=np.int16)


@dataclass(frozen=True)
class _Aim:
    """What a proposal is to make large: `values` by the numbers of the trained trials."""

    values: dict[int, float]

    @classmethod
    def of(cls, history: History, index: int | None = None) -> "_Aim":
        """The only objective, or the scalar of several with the weights of this index; without an index with equal weights.

        Objectives enter as normal scores, so that neither their scales nor outliers decide what a weight means.
        """
        trained = [(trial.number, trial.score.values) for trial in history if trial.score is not None and trial.score.values]
        count = len(trained[0][1]) if trained else 1
        if count == 1:
            return cls({number: values[0] for number, values in trained})
        weights = np.full(count, 1 / count) if index is None else weights_at(index, count)
        columns = np.array([normal_scores(column) for column in zip(*(values for _, values in trained), strict=True)])
        scalars: list[float] = scalarised(columns.T, weights).tolist()
        return cls({number: scalar for (number, _), scalar in zip(trained, scalars, strict=True)})

    def best_first(self, trials: Sequence[Trial]) -> list[Trial]:
        """The trials that have a score: those that keep to the constraints best, then the greatest value; of equals the first."""
        scored = [(trial, trial.score) for trial in trials if trial.score is not None]
        keys = [(score.feasibility, self.values.get(trial.number, -inf), -trial.number) for trial, score in scored]
        return [scored[index][0] for index in sorted(range(len(keys)), key=keys.__getitem__, reverse=True)]


@dataclass(frozen=True)
class _Lesson:
    """What the history teaches: `values` of the trials `taught`, and which of the finished ones are `feasible`; trials by number.

    While no trial keeps to the constraints, the values say how little each breaks them, and those that did not fail are feasible.
    """

    finished: list[int]
    feasible: list[bool]
    taught: list[int]
    values: list[float]
    running: list[int]

    @classmethod
    def of(cls, history: History, aim: _Aim) -> "_Lesson | None":
        """Read the history; None where all that is known is equal."""
        finished = _remembered([trial for trial in history if trial.report is not None], aim)
        feasible = [trial.status == "done" for trial in finished]
        if any(feasible):
            trained = [(trial, aim.values[trial.number]) for trial in finished if trial.number in aim.values]
        else:
            feasible = [trial.score is not None for trial in finished]
            trained = [(trial, trial.score.feasibility) for trial in finished if trial.score]
        if len({value for _, value in trained}) < 2:
            return None
        taught, values = [trial.number for trial, _ in trained], [value for _, value in trained]
        running = [trial.number for trial in history if trial.report is None]
        return cls([trial.number for trial in finished], feasible, taught, values, running)


def _remembered(finished: list[Trial], aim: _Aim) -> list[Trial]:
    """The best and the latest, half and half, where there are more than a model is made from."""
    if len(finished) <= MEMORY:
        return finished
    kept = {trial.number for trial in (*aim.best_first(finished)[: MEMORY // 2], *finished[-(MEMORY // 2) :])}
    return [trial for trial in finished if trial.number in kept]


def _last_fit(count: int) -> int:
    """The greatest of 2, 3, 4, … 10, 12, 14, 16, 19, … up to `count`: each a fifth more than the one before.

    Kernels are chosen from that many trials, so that the choice is a function of the history and yet seldom made anew.
    """
    size = 2
    while (larger := size + max(1, size // 5)) <= count:
        size = larger
    return size
