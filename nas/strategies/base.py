"""What every search strategy is: a function from the history to the next proposal."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PrivateAttr

from nas.architecture import Architecture, Choices
from nas.pareto import best_first
from nas.trial import History, Proposal, Trial

if TYPE_CHECKING:
    from nas.architecture import Mixture

_DRAWS, _ENUMERABLE = 100, 65536

Features = Callable[[Architecture], Sequence[float]]
"""Numbers that are known of an architecture without training it."""
Canonical = Callable[[Architecture], str]
"""A text that architectures share only when they build the same function."""
Discretize = Callable[["Mixture"], Architecture]
"""The architecture that a mixture stands for."""


class Strategy(BaseModel, ABC):
    """Proposes architectures. Its fields are its settings; only `ask` must be written.

    Whatever is remembered beyond the history goes through `state_dict`, so that a killed search continues as the same search.
    """

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    _choices: Choices = PrivateAttr()
    _features: Features | None = PrivateAttr(default=None)
    _canonical: Canonical | None = PrivateAttr(default=None)
    _discretize: Discretize | None = PrivateAttr(default=None)
    _canonical_forms: dict[Architecture, str] = PrivateAttr(default_factory=dict)

    def bind(
        self, choices: Choices, features: Features | None = None, canonical: Canonical | None = None, discretize: Discretize | None = None
    ) -> Self:
        """Tell the strategy what there is to decide; returns the strategy itself.

        `features` gives numbers that are known of an architecture without training it, the same ones for every architecture;
        `canonical` a text that only architectures of one function share; `discretize` the architecture of a mixture, as the space's
        rules want it. A strategy that wraps another passes them on.
        """
        self._choices, self._features, self._canonical, self._discretize = choices, features, canonical, discretize
        self._canonical_forms = {}
        return self

    @property
    def requires(self) -> frozenset[str]:
        """What the evaluator must provide: `gradient` with respect to a mixture, or `steps` that change the result."""
        return frozenset()

    @property
    def fidelities(self) -> tuple[int, ...]:
        """The numbers of steps that it proposes by itself, so that an evaluator that refuses one is found before any work."""
        return ()

    @property
    def random_first(self) -> int:
        """How many of its first proposals are certainly drawn at random from the space, so that they tell what random search finds."""
        return 0

    @property
    def several_objectives(self) -> str:
        """What it does when there are several objectives, in words that can follow its name; by default it knows the first only."""
        return "goes by the first objective alone"

    @property
    def choices(self) -> Choices:
        """The decisions of the space that is searched."""
        return self._choices

    def features(self, architecture: Architecture) -> NDArray[np.float64]:
        """Return what is known of an architecture without training, shape (features,); empty when nothing is."""
        return np.array(self._features(architecture) if self._features is not None else (), dtype=np.float64)

    def canonical(self, architecture: Architecture) -> str:
        """Return a text that two architectures share only when they are known to build the same function; worked out once for each."""
        form = self._canonical_forms.get(architecture)
        if form is None:
            plain = self._canonical or (lambda asked: json.dumps(dict(sorted(asked.items())), separators=(",", ":")))
            form = self._canonical_forms[architecture] = plain(architecture)
        return form

    def discretize(self, mixture: "Mixture") -> Architecture:
        """Return the architecture that a mixture stands for: as the space says, else the heaviest option of every choice."""
        if self._discretize is not None:
            return self._discretize(mixture)
        return Architecture({choice.name: choice.options[int(mixture[choice.name].argmax())] for choice in self.choices})

    def unknown(self, known: Container[str], rng: np.random.Generator) -> Architecture | None:
        """Return a random architecture whose canonical form is not in `known`; None when none is left.

        In spaces beyond 65,536 architectures None also comes when a hundred random ones are known.
        """
        for _ in range(_DRAWS):
            drawn = self.choices.sample(rng)
            if self.canonical(drawn) not in known:
                return drawn
        if self.choices.size > _ENUMERABLE:
            return None
        names = [choice.name for choice in self.choices]
        every = (Architecture(dict(zip(names, options, strict=True))) for options in product(*(choice.options for choice in self.choices)))
        return next((architecture for architecture in every if self.canonical(architecture) not in known), None)

    @abstractmethod
    def ask(self, history: History, rng: np.random.Generator) -> Proposal | None:
        """Return the next proposal; all randomness comes from `rng`.

        None says that there is nothing to propose before another running trial ends; when none runs, the search is over.
        """

    def tell(self, trial: Trial) -> None:
        """Learn from a finished trial; trials are told in the order of their numbers."""

    def best(self, history: History) -> Trial | None:
        """Return the trial to go on with: the greatest score, the first of equals; None when no trial has one."""
        scored = [(trial.score, -trial.number) for trial in history if trial.score is not None and trial.score.values]
        return history[-max(scored)[1]] if scored else None

    def candidates(self, history: History) -> Sequence[Trial]:
        """Return the trials whose scores can be compared with each other, to choose the winner from; all by default."""
        return history

    def conclude(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Architecture]:
        """Return at most `count` different architectures to look at once the budget is spent, the most promising first.

        Asked where trials only trained shared weights, so that no score in the history can choose the winner. The default is the
        architectures with the greatest scores, of several objectives those that are dominated and crowded least; a strategy that
        learned something overrides it.
        """
        scored = [trial for trial in history if trial.score is not None and trial.score.values]
        different: dict[str, Architecture] = {}
        for trial in best_first(scored):
            if len(different) == count:
                break
            different.setdefault(self.canonical(trial.architecture), trial.architecture)
        return list(different.values())

    def telemetry(self) -> Mapping[str, Sequence[float]]:
        """Return curves of what was learned, by name, all of one length; `trial` holds the trial's number of each point."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What was learned, as tensors, numbers, text, lists and dicts; empty when the history is the only memory."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
