"""NSGA-II: the next generation is what is dominated least and crowded least; tournaments, crossover and mutation make its children.

Deb, Pratap, Agarwal and Meyarivan 2002, A fast and elitist multiobjective genetic algorithm: NSGA-II; constraints as in section VI.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from operator import is_
from typing import NamedTuple, final

import numpy as np
from pydantic import Field, PrivateAttr

from nas.architecture import Architecture
from nas.pareto import places
from nas.strategies.base import Strategy
from nas.trial import History, Proposal, Trial

DRAWS = 100
"""So many children, and then random architectures, must all be known before the search goes on without them."""
ENUMERABLE = 65536
"""Spaces up to this size are gone through one by one before they count as used up."""


@final
class Nsga2(Strategy):
    """Evolution towards the whole Pareto front of several objectives; with one objective a genetic algorithm that keeps its best.

    A generation is every `population` scored trials, whoever proposed them and whenever they end, so that any number may run.
    Of the architectures that are known to build the same function one is proposed.
    """

    population: int = Field(20, ge=2)
    """How many survive and how many children they have (N in the paper); 20 suits up to 300 evaluations, 50 more."""
    crossover: float = Field(0.9, ge=0, le=1)
    """Probability that a child takes every choice from either of two parents; else it has one parent."""

    _generations: "_Generations | None" = PrivateAttr(default=None)

    @property
    def random_first(self) -> int:
        """As many as make a generation; where trials fail, a few more."""
        return self.population

    @property
    def several_objectives(self) -> str:
        """It is made for them."""
        return "keeps the first Pareto fronts, and of the last of these the least crowded"

    def ask(self, history: History, rng: np.random.Generator) -> Proposal | None:
        """Propose random architectures until there is a generation, then children of the latest; None when the whole space is known."""
        generations = self._replay(history)
        running = {self.canonical(trial.architecture) for trial in history[len(generations.trials) :]}
        known = generations.known | running
        if generations.survivors:
            for _ in range(DRAWS):
                child, origin = self._child(generations.survivors, rng)
                if self.canonical(child) not in known:
                    return Proposal(child, origin=origin)
        drawn = self.unknown(known, rng)
        return None if drawn is None else Proposal(drawn)

    def _child(self, survivors: Sequence["_Ranked"], rng: np.random.Generator) -> tuple[Architecture, tuple[int, ...]]:
        """A child, and the numbers of its parents."""
        parents = [self._winner(survivors, rng)]
        child = parents[0].architecture
        if rng.random() < self.crossover:
            parents.append(self._winner(survivors, rng))
            child = self.choices.crossover(child, parents[1].architecture, rng)
        opened = [choice for choice in self.choices if len(choice.options) > 1]
        changed = np.flatnonzero(rng.random(len(opened)) * len(opened) < 1)  # each with probability 1 / L
        for position in changed:
            choice = opened[position]
            others = [option for option in choice.options if option != child[choice.name]]
            child = child.replace(choice.name, others[int(rng.integers(len(others)))])
        return child, tuple(dict.fromkeys(parent.number for parent in parents))

    def _winner(self, survivors: Sequence["_Ranked"], rng: np.random.Generator) -> Trial:
        """The better of two that are drawn; of equals the first drawn."""
        drawn: list[int] = rng.choice(len(survivors), size=2, replace=False).tolist()
        first, second = (survivors[index] for index in drawn)
        return (second if second.place < first.place else first).trial

    def _replay(self, history: History) -> "_Generations":
        """The generations of the finished trials; only those that were added since the last call are looked at."""
        generations = self._generations
        if generations is None or len(generations.trials) > len(history) or not all(map(is_, generations.trials, history)):
            generations = self._generations = _Generations(self.canonical, self.population)
        for trial in islice(history, len(generations.trials), None):
            if trial.report is None:
                break
            generations.add(trial)
        return generations


class _Ranked(NamedTuple):
    """A survivor and its place: (rank of its front, minus its crowding distance), smaller is better."""

    place: tuple[int, float]
    trial: Trial


@final
class _Generations:
    """The survivors after the finished trials. They follow from these alone, hence need no place in the state."""

    def __init__(self, form: Callable[[Architecture], str], population: int) -> None:
        self._form, self._population = form, population
        self.trials: list[Trial] = []
        self.known: set[str] = set()
        self.survivors: list[_Ranked] = []
        self._children: list[Trial] = []

    def add(self, trial: Trial) -> None:
        """Take in the next finished trial; a failed one is known, and has no part in a generation."""
        self.trials.append(trial)
        self.known.add(self._form(trial.architecture))
        if trial.score is not None:
            self._children.append(trial)
        if len(self._children) == self._population:
            self.survivors = select([*(ranked.trial for ranked in self.survivors), *self._children], self._population)
            self._children = []


def select(trials: Sequence[Trial], count: int) -> list[_Ranked]:
    """Return the `count` scored trials of the first fronts, of the last of these the least crowded; of equals the first."""
    scored = [(trial, trial.score) for trial in trials if trial.score is not None]
    placed = zip(places([score for _, score in scored]), scored, strict=True)
    return sorted((_Ranked(place, trial) for place, (trial, _) in placed), key=lambda member: member.place)[:count]
