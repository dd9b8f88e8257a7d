"""Asynchronous successive halving: everything gets a short training, and the best of each length a longer one.

Li, Jamieson, Rostamizadeh, Gonina, Hardt, Recht and Talwalkar 2020, A system for massively parallel hyperparameter tuning,
algorithm 2 (ASHA).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Self, final

import numpy as np
from annotated_types import MinLen
from pydantic import Field, PositiveInt, PrivateAttr, model_validator

from nas.architecture import Architecture, Choices
from nas.components import component, restore
from nas.pareto import best_first
from nas.strategies.base import Canonical, Discretize, Features, Strategy
from nas.trial import History, Proposal, Trial


@final
class Halving(Strategy):
    """Gives the architectures of another strategy short trainings, and continues the best ones.

    A promotion names the trial of the rung below as its parent, so an evaluator that keeps weights continues them. Running
    promotions count as made, failed ones are not repeated. Trials that failed or broke a constraint are the worst of their
    rung and are never promoted: bound only what does not change with training. What was rejected before training takes no part, and
    architectures of one function are one member of a rung. With several objectives the best of a rung are those in its first Pareto
    fronts, then the least crowded (Schmucker, Donini, Zafar, Salinas and Archambeau 2021, Multi-objective asynchronous successive halving).

    The wrapped strategy sees a history of its own, numbered from 0: each architecture that it proposed, with the score of the
    longest training that this function has had. It is told each of its trials once, when the shortest training ended.
    A parent that it names is not passed on, because weights that were trained elsewhere would spoil the comparison in a rung.
    """

    strategy: Annotated[Strategy, *component("strategies")] = Field(default_factory=partial(restore, "strategies", {"name": "random"}))
    """What proposes architectures: any strategy that needs neither steps nor gradients."""
    eta: int = Field(3, ge=2)
    """One in so many of a rung goes on to the next (the reduction factor)."""
    rungs: Annotated[tuple[PositiveInt, ...], MinLen(1)] = (33, 100)
    """Steps at each rung, increasing, as the evaluator counts them; above the last is a full training, as long as the evaluator sets."""

    _own: list[int] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError(f"rungs are {list(self.rungs)}: give each number of steps once, the smallest first")
        if self.strategy.requires:
            needs = " and ".join(sorted(self.strategy.requires))
            raise ValueError(f"the strategy to wrap requires {needs}: wrap one that only proposes architectures, such as evolution")
        return self

    @property
    def requires(self) -> frozenset[str]:
        """Steps that change the result."""
        return self.strategy.requires | {"steps"}

    @property
    def several_objectives(self) -> str:
        """Both rungs and the wrapped strategy go by them."""
        return f"promotes by Pareto front and crowding in the rung; what it wraps {self.strategy.several_objectives}"

    @property
    def fidelities(self) -> tuple[int, ...]:
        """The rungs."""
        return self.rungs

    def bind(
        self, choices: Choices, features: Features | None = None, canonical: Canonical | None = None, discretize: Discretize | None = None
    ) -> Self:
        """Tell this strategy and the wrapped one what there is to decide."""
        self.strategy.bind(choices, features, canonical, discretize)
        return super().bind(choices, features, canonical, discretize)

    def ask(self, history: History, rng: np.random.Generator) -> Proposal | None:
        """Promote the best trial that is due, from the highest rung down, or begin what the wrapped strategy proposes."""
        return self.climb(history, history, 0, rng)

    def climb(self, history: History, bracket: Sequence[Trial], bottom: int, rng: np.random.Generator) -> Proposal | None:
        """Promote within a bracket, some trials of the history, or begin at its bottom rung what the wrapped strategy proposes."""
        forms = {trial.number: self.canonical(trial.architecture) for trial in history}
        promotion = self._promotion(bracket, forms)
        if promotion is not None:
            return promotion
        proposal = self.strategy.ask(self._seen(history, forms), rng)
        if proposal is None:
            return None
        begun = [trial.number for trial in history if trial.proposal.parent is None]
        return Proposal(proposal.architecture, self._steps(bottom), origin=tuple(begun[own] for own in proposal.origin))

    def tell(self, trial: Trial) -> None:
        """Tell the wrapped strategy of what it proposed."""
        if trial.proposal.parent is None:
            self.strategy.tell(Trial(len(self._own), Proposal(trial.architecture), trial.report, trial.score))
            self._own.append(trial.number)

    def candidates(self, history: History) -> Sequence[Trial]:
        """Return the trained trials that may be compared for the win: those of the highest rung that any has reached."""
        trained = [trial for trial in history if trial.score is not None and trial.score.values]
        top = max((self._rung(trial) for trial in trained), default=0)
        return [trial for trial in trained if self._rung(trial) == top]

    def best(self, history: History) -> Trial | None:
        """Return the greatest score of the highest rung, the first of equals; None when no trial has one."""
        return max(self.candidates(history), key=_rank, default=None)

    def conclude(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Architecture]:
        """Return at most `count` different architectures of the highest rung, the best first."""
        return super().conclude(self.candidates(history), count, rng)

    def telemetry(self) -> Mapping[str, Sequence[float]]:
        """Return the curves of the wrapped strategy, by the numbers that its trials have here."""
        curves = dict(self.strategy.telemetry())
        if "trial" in curves:
            curves["trial"] = [float(self._own[int(number)]) for number in curves["trial"]]
        return curves

    def state_dict(self) -> dict[str, Any]:
        """What the wrapped strategy learned, and the numbers of its trials."""
        return {"strategy": self.strategy.state_dict(), "own": list(self._own)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self.strategy.load_state_dict(state["strategy"])
        self._own = list(state["own"])

    def _steps(self, rung: int) -> int | None:
        return self.rungs[rung] if rung < len(self.rungs) else None

    def _rung(self, trial: Trial) -> int:
        """The rung of a trial; -1 for a number of steps that is no rung."""
        if trial.proposal.steps is None:
            return len(self.rungs)
        return self.rungs.index(trial.proposal.steps) if trial.proposal.steps in self.rungs else -1

    def _promotion(self, bracket: Sequence[Trial], forms: Mapping[int, str]) -> Proposal | None:
        for rung in reversed(range(len(self.rungs))):
            taken = {forms[trial.number] for trial in bracket if self._rung(trial) == rung + 1}
            members: dict[str, Trial] = {}
            for trial in bracket:
                if self._rung(trial) == rung and trial.report is not None and not trial.rejected:
                    members.setdefault(forms[trial.number], trial)
            ranked = best_first(trial for trial in members.values() if trial.status == "done")
            for trial in ranked[: len(members) // self.eta]:
                if forms[trial.number] not in taken:
                    return Proposal(trial.architecture, self._steps(rung + 1), trial.number)
        return None

    def _seen(self, history: History, forms: Mapping[int, str]) -> list[Trial]:
        """What the wrapped strategy gets to see."""
        longest: dict[str, Trial] = {}
        for trial in history:
            if trial.score is not None and trial.score.values:
                form = forms[trial.number]
                if form not in longest or self._rung(trial) > self._rung(longest[form]):
                    longest[form] = trial
        seen: list[Trial] = []
        for trial in history:
            if trial.proposal.parent is None:
                result = trial if trial.report is None else longest.get(forms[trial.number], trial)
                seen.append(Trial(len(seen), Proposal(trial.architecture), result.report, result.score))
        return seen


def _rank(trial: Trial) -> Any:
    return trial.score, -trial.number
