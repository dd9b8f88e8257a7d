"""Local search: climb from the best of some random architectures to better neighbours; at a local optimum, start anew elsewhere.

White, Nolen and Savani 2020, Exploring the loss landscape in neural architecture search (first called: Local search is state of the
art for NAS benchmarks), in the form that takes the first neighbour that is better.
"""

from collections.abc import Callable
from itertools import islice
from operator import is_
from typing import final

import numpy as np
from pydantic import Field, PrivateAttr

from nas.architecture import Architecture, Choices
from nas.pareto import Floats, tchebycheff, weights_at
from nas.strategies.base import Strategy
from nas.trial import History, Proposal, Score, Trial

DRAWS = 100
"""So many random architectures must all be known before the space counts as used up."""
ENUMERABLE = 65536
"""Spaces up to this size are then gone through one by one."""


@final
class Local(Strategy):
    """Hill climbing with restarts: strong in spaces of thousands of architectures, weak in spaces of 10^18.

    Of the architectures that are known to build the same function one is proposed. Scores are compared as they are, so among
    candidates that break constraints those are climbed to that break them less. With several objectives each climb has weights of its
    own and goes by their Tchebycheff scalar (Knowles 2006, ParEGO), so climbs end in different places of the Pareto front. It goes on
    from the best that is known by these weights, and begins with random architectures only where all neighbours of that one are known.
    """

    initial: int = Field(10, ge=1)
    """How many random architectures a climb begins with; it starts from the best of them."""

    _climb: "_Climb | None" = PrivateAttr(default=None)

    @property
    def random_first(self) -> int:
        """As many as the first climb begins with."""
        return self.initial

    @property
    def several_objectives(self) -> str:
        """It weighs them."""
        return "scalarises them (Tchebycheff), with other weights for every climb"

    def ask(self, history: History, rng: np.random.Generator) -> Proposal | None:
        """Propose random architectures until the climb has begun, then neighbours of its best, in random order.

        While the last neighbours run, what is proposed are beginnings of the next climb. None when the whole space is known.
        """
        climb = self._replay(history)
        running = {self.canonical(trial.architecture) for trial in history[len(climb.trials) :]}
        known = climb.known | running
        if climb.scored + len(running) >= self.initial:
            for index in rng.permutation(len(climb.neighbours)):
                if self.canonical(climb.neighbours[index]) not in known:
                    return Proposal(climb.neighbours[index], origin=climb.origin)
        drawn = self.unknown(known, rng)
        return None if drawn is None else Proposal(drawn)

    def _replay(self, history: History) -> "_Climb":
        """Where the finished trials lead to; only those that were added since the last call are looked at."""
        climb = self._climb
        if climb is None or len(climb.trials) > len(history) or not all(map(is_, climb.trials, history)):
            climb = self._climb = _Climb(self.choices, self.canonical, self.initial)
        for trial in islice(history, len(climb.trials), None):
            if trial.report is None:
                break
            climb.add(trial)
        return climb


@final
class _Climb:
    """Where a search stands. It follows from the finished trials alone, whoever proposed them, hence needs no place in the state."""

    def __init__(self, choices: Choices, form: Callable[[Architecture], str], initial: int) -> None:
        self._choices, self._form, self._initial = choices, form, initial
        self.trials: list[Trial] = []
        self.known: set[str] = set()
        self._climbs = 0
        self._low: Floats | None = None
        self._high: Floats | None = None
        self._restart()

    def _restart(self) -> None:
        self.scored = 0
        self._climbs += 1
        self._best: Score | None = None
        self.origin: tuple[int, ...] = ()
        self.neighbours: list[Architecture] = []
        self._left: list[Architecture] = []

    def add(self, trial: Trial) -> None:
        """Take in the next finished trial: climb to it if it is better, give the climb up if it was the last neighbour."""
        self.trials.append(trial)
        self.known.add(self._form(trial.architecture))
        if trial.score is not None:
            self.scored += 1
            self._widen(trial.score)
            if self._best is None or self._is_better(trial.score, self._best):
                self._best, self.origin = trial.score, (trial.number,)
                self.neighbours = self._choices.neighbours(trial.architecture)
                self._left = list(self.neighbours)
        if self._best is not None and self.scored >= self._initial:
            while self._left and self._form(self._left[-1]) in self.known:
                self._left.pop()
            if not self._left:
                self._restart()
                self._go_on()

    def _go_on(self) -> None:
        """With several objectives, climb on from what is best by the new weights, unless its neighbours are all known."""
        trained = [(trial.score, trial) for trial in self.trials if trial.score is not None and len(trial.score.values) > 1]
        if not trained:
            return
        best, start = trained[0]
        for score, other in trained:
            if self._is_better(score, best):
                best, start = score, other
        neighbours = self._choices.neighbours(start.architecture)
        if any(self._form(neighbour) not in self.known for neighbour in neighbours):
            self.scored, self._best, self.neighbours, self._left = self._initial, best, neighbours, list(neighbours)
            self.origin = (start.number,)

    def _widen(self, score: Score) -> None:
        """Take a score into the ranges that objectives are scaled to."""
        if len(score.values) > 1:
            values = np.array(score.values)
            self._low = values if self._low is None else np.minimum(self._low, values)
            self._high = values if self._high is None else np.maximum(self._high, values)

    def _is_better(self, score: Score, other: Score) -> bool:
        """Whether to climb from the other to this one: as scores compare, several objectives by this climb's weights."""
        several = min(len(score.values), len(other.values)) > 1 and score.feasibility == other.feasibility
        if not several or self._low is None or self._high is None:
            return score > other
        weights = weights_at(self._climbs - 1, len(score.values))
        this, that = tchebycheff(np.array([score.values, other.values]), self._low, self._high, weights)
        return bool(this > that)
