"""A node of a Ray cluster: an actor that has seats for trials."""

import os
import sys
from typing import final

from nas.engines.base import Answer
from nas.engines.seats import VISIBLE, Answered, Order, Seats, environments
from nas.trial import Trial


@final
class Node:
    """Answers trials in processes of its own, which end with it."""

    def __init__(self, order: Order, seats: int) -> None:
        """Look at the node; processes are started by the first trials."""
        # A process of multiprocessing begins by importing the main module of the one that starts it: here that is Ray's, and all of Ray.
        vars(sys.modules["__main__"]).pop("__file__", None)
        assigned = [name for name in os.environ.get(VISIBLE, "").split(",") if name]  # by Ray, to those that asked for GPUs
        self._seats = Seats(order, environments(order.gpus, seats, len(assigned))[:seats])

    def look(self) -> Answered:
        """Say what is wrong with the node, and how many trials it runs at once."""
        return self._seats.look()

    def answer(self, key: str, trial: Trial, patience: float | None) -> Answer:
        """Evaluate a trial in a free process and wait for it."""
        return self._seats.answer(key, trial, patience)
