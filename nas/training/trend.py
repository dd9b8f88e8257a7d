"""Whether a training gets anywhere: its losses against the loss of guessing."""

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

_WINDOW = 10
_MARGIN = 1.1
"""A network that learned nothing guesses, with a little noise of its last weights; that is a bad candidate, not a diverged training."""


def worse_than_guessing(loss: float, chance: float) -> bool:
    """Whether a mean loss is above that of guessing by more than a tenth; false for NaN, which is refused elsewhere."""
    return loss > _MARGIN * chance


@final
class Trend:
    """Counts the steps on end, `above`, whose loss is worse than guessing, in windows of ten steps from `start` on.

    Windows begin at multiples of ten whatever part of a training is run at once, so the count is a function of the steps alone,
    and its state belongs into the training's checkpoint.
    """

    def __init__(self, chance: float, start: float, device: torch.device) -> None:
        self._chance, self._start = chance, start
        self._sum = torch.zeros((), device=device)
        self.above = 0

    def add(self, step: int, loss: Tensor) -> None:
        """Take in the loss of a step, a scalar on the device; steps count from 1. Waits for the device every tenth step."""
        self._sum = self._sum + loss
        if step % _WINDOW == 0:
            bad = step - _WINDOW >= self._start and worse_than_guessing(float(self._sum) / _WINDOW, self._chance)
            self.above = self.above + _WINDOW if bad else 0
            self._sum = torch.zeros_like(self._sum)

    def state_dict(self) -> dict[str, Any]:
        """The count, and the sum of the window that has begun."""
        return {"above": self.above, "sum": self._sum}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self.above, self._sum = int(state["above"]), state["sum"].to(self._sum.device)
