"""What every search strategy is: a function from the history to the next proposal."""

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, PrivateAttr

from nas.architecture import Choices
from nas.trial import History, Proposal, Trial


class Strategy(BaseModel, ABC):
    """Proposes architectures. Its fields are its settings; only `ask` must be written.

    Whatever is remembered beyond the history goes through `state_dict`, so that a killed search continues as the same search.
    """

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    _choices: Choices = PrivateAttr()

    def bind(self, choices: Choices) -> Self:
        """Tell the strategy what there is to decide; returns the strategy itself."""
        self._choices = choices
        return self

    @property
    def choices(self) -> Choices:
        """The decisions of the space that is searched."""
        return self._choices

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

    def state_dict(self) -> dict[str, Any]:
        """What was learned, as tensors, numbers, text, lists and dicts; empty when the history is the only memory."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
