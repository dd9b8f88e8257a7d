"""Strategies around a strategy: one that holds every answer to the rules, one that is killed after every answer."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from pydantic import PrivateAttr

from nas.architecture import Architecture
from nas.strategies.base import Strategy
from nas.testing.contract import through_file
from nas.testing.searches import plain
from nas.trial import History, Proposal, Trial


@final
class Watched(Strategy):
    """Raises AssertionError, with the rule, as soon as the strategy inside breaks one."""

    _inside: Strategy = PrivateAttr()
    _told: int = PrivateAttr(0)

    @classmethod
    def around(cls, strategy: Strategy) -> Self:
        """Watch a bound strategy."""
        watched = cls()
        watched._inside = strategy
        return watched.bind(strategy.choices)

    @property
    def requires(self) -> frozenset[str]:
        """What the strategy requires."""
        return self._inside.requires

    @property
    def fidelities(self) -> tuple[int, ...]:
        """The strategy's."""
        return self._inside.fidelities

    def ask(self, history: History, rng: np.random.Generator) -> Proposal | None:
        """Ask, and check the proposal: architecture, parent, origin, steps, mixture."""
        proposal = self._inside.ask(history, rng)
        if proposal is None:
            return None
        where = f"trial {len(history)}"
        assert isinstance(proposal, Proposal), f"{where}: ask returned a {type(proposal).__name__}: return a Proposal, or None for no more"
        check_architecture(self.choices.check, proposal.architecture, f"{where}: ask proposed")
        check_parent(proposal, history, where)
        check_origin(proposal, history, where)
        assert proposal.steps is None or (type(proposal.steps) is int and proposal.steps >= 0), (
            f"{where}: steps are {proposal.steps!r}: propose a whole number from 0, or None for what the evaluator sets"
        )
        if proposal.mixture is not None:
            self._check_mixture(proposal, where)
        return proposal

    def tell(self, trial: Trial) -> None:
        """Tell, in the order of numbers."""
        assert trial.number == self._told, f"trial {trial.number} was told after {self._told - 1}: trials are told in order"
        self._told += 1
        self._inside.tell(trial)

    def best(self, history: History) -> Trial | None:
        """As the strategy says."""
        return self._inside.best(history)

    def conclude(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Architecture]:
        """As the strategy says."""
        return self._inside.conclude(history, count, rng)

    def _check_mixture(self, proposal: Proposal, where: str) -> None:
        mixture = proposal.mixture or {}
        names = [choice.name for choice in self.choices]
        assert set(mixture) == set(names), f"{where}: the mixture weighs {sorted(mixture)}: give a tensor to each of {names}"
        for choice in self.choices:
            weights = mixture[choice.name]
            assert weights.shape == (len(choice.options),), f"{where}: {choice.name} has {len(choice.options)} options: weigh each"
            assert bool(weights.isfinite().all()), f"{where}: weights of {choice.name} are not finite: {weights.tolist()}"
            assert str(weights.dtype) == "torch.float32", f"{where}: weights of {choice.name} are {weights.dtype}: use float32"


@final
class Reborn(Strategy):
    """After every answer a new strategy goes on, which knows of the old one only its state, as a checkpoint kept it."""

    _make: Callable[[], Strategy] = PrivateAttr()
    _folder: Path = PrivateAttr()
    _inside: Strategy = PrivateAttr()

    @classmethod
    def around(cls, make: Callable[[], Strategy], folder: Path) -> Self:
        """Kill the strategies that `make` returns, bound; checkpoints go to `folder`."""
        reborn = cls()
        reborn._make, reborn._folder, reborn._inside = make, folder, make()
        return reborn.bind(reborn._inside.choices)

    @property
    def requires(self) -> frozenset[str]:
        """What the strategy requires."""
        return self._inside.requires

    @property
    def fidelities(self) -> tuple[int, ...]:
        """The strategy's."""
        return self._inside.fidelities

    def ask(self, history: History, rng: np.random.Generator) -> Proposal | None:
        """Ask, then kill."""
        proposal = self._inside.ask(history, rng)
        self._kill()
        return proposal

    def tell(self, trial: Trial) -> None:
        """Tell, then kill."""
        self._inside.tell(trial)
        self._kill()

    def _kill(self) -> None:
        state: dict[str, Any] = self._inside.state_dict()
        self._inside = self._make()
        self._inside.load_state_dict(through_file(state, self._folder) if state else {})


def check_architecture(check: Callable[[Architecture], object], architecture: object, what: str) -> None:
    """Hold an architecture to a space. Raises AssertionError with what is wrong."""
    assert isinstance(architecture, Architecture), f"{what} a {type(architecture).__name__}: wrap it in nas.architecture.Architecture"
    try:
        check(architecture)
    except ValueError as error:
        raise AssertionError(f"{what} an architecture outside the space: {error}") from error


def check_parent(proposal: Proposal, history: History, where: str) -> None:
    """Hold a proposal to naming a finished trial as its parent. Raises AssertionError with what is wrong."""
    if proposal.parent is None:
        return
    known = 0 <= proposal.parent < len(history)
    assert known, f"{where}: the parent is {proposal.parent}, but there are {len(history)} trials before: name one of them"
    assert history[proposal.parent].report is not None, f"{where}: the parent {plain([history[proposal.parent]])} is still running"


def check_origin(proposal: Proposal, history: History, where: str) -> None:
    """Hold a proposal to naming finished trials, each once, as what it was made from. Raises AssertionError with what is wrong."""
    finished = {trial.number for trial in history if trial.report is not None}
    wrong = [number for number in proposal.origin if number not in finished]
    assert not wrong, (
        f"{where}: the origin names trial {wrong[0] if wrong else ''}, which has not finished before: name trials of the history"
    )
    assert len(set(proposal.origin)) == len(proposal.origin), f"{where}: the origin is {proposal.origin}: name each trial once"
