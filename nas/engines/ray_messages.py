"""What a search and its process that speaks with Ray say to each other, over a pipe of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nas.engines.base import Answer
from nas.engines.seats import Answered, Order, gone
from nas.evaluators.base import MachineError
from nas.trial import Trial


@dataclass(frozen=True)
class Begin:
    """What the process is started with.

    address: of the head; None starts a cluster in `folder`, with so many `nodes`. workers: how many trials the search has under way.
    """

    address: str | None
    folder: str | None
    nodes: int
    workers: int
    wait_seconds: float
    order: Order


class Opened(NamedTuple):
    """The addresses of the nodes that are there, and what each says of itself."""

    found: Sequence[tuple[str, Answered]]


class Asked(NamedTuple):
    """A trial to be evaluated."""

    key: int
    trial: Trial
    patience: float | None


class Told(NamedTuple):
    """What became of a trial."""

    key: int
    answer: Answer


class Failed(NamedTuple):
    """Why no trial can be evaluated any more."""

    error: MachineError


def head_is_gone(place: str, error: str) -> MachineError:
    """Nobody speaks with the nodes any more."""
    return gone("head of Ray", place, error, "start it again with its nodes")
