"""The records of a search: what was proposed, what came of it, and the history they make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from nas.architecture import Architecture

if TYPE_CHECKING:
    from nas.architecture import Mixture


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a strategy asks to be evaluated.

    `steps` is the fidelity: optimizer steps the weights will have had in all; None leaves it to the evaluator, 0 only looks.
    `parent` is the number of the trial whose weights to continue. `mixture` is a soft architecture, for gradient methods.
    `origin` holds the numbers of the earlier trials whose architectures this one was made from, by mutation, crossover or as a
    neighbour; empty where it was drawn or sampled. Only what explains a result reads it.
    """

    architecture: Architecture
    steps: int | None = None
    parent: int | None = None
    mixture: "Mixture | None" = None
    origin: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a proposal: metrics by name, the seconds it took, and the reason when it failed.

    `gradient` is d loss / d mixture when a mixture was proposed. `reused` is the number of the trial
    whose result was taken over, because it built the same function. `kind` is the short word that failures are counted by:
    time, memory, parameters, flops, diverged, died, constraint, error, or the name of the exception; None in old journals.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None
    gradient: "Mixture | None" = None
    reused: int | None = None
    kind: str | None = None


class LimitError(RuntimeError):
    """A candidate went beyond a limit; the message gives the figure and the limit, `kind` the word that failures are counted by."""

    def __init__(self, message: str, kind: str = "error") -> None:
        super().__init__(message)
        self.kind = kind


class Score(NamedTuple):
    """How good a trial is; greater is better, and comparison is constraint domination.

    `feasibility` is 0 when every constraint holds, else minus the relative violation in all.
    `values` holds one number per objective, greater is better; empty when nothing was trained.
    `intervals` holds (low, high) around each value where any of them was measured with noise, both ends equal to a value without;
    empty when none was.
    """

    feasibility: float
    values: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...] = ()

    def dominates(self, other: "Score") -> bool:
        """Whether this is nowhere worse and somewhere better (constraint domination; Deb et al. 2002, NSGA-II, section VI).

        Better means beyond noise: the intervals of the two do not touch. Whatever dominates does so by the values alone, too, so
        no circle of scores dominates itself; but with intervals, what dominates a dominated score need not dominate what that does.
        """
        if self.feasibility != other.feasibility:
            return self.feasibility > other.feasibility
        if len(self.values) != len(other.values):  # one was never trained: nothing to compare
            return False
        if not all(a >= b for a, b in zip(self.values, other.values, strict=True)):
            return False
        if not self.intervals and not other.intervals:
            return self.values != other.values
        ends = zip(self.values, other.values, self.bounds, other.bounds, strict=True)
        return any(a > b and low > high for a, b, (low, _), (_, high) in ends)

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """The interval of every value; of one without noise, the value twice."""
        return self.intervals or tuple((value, value) for value in self.values)


@dataclass(frozen=True, slots=True)
class Trial:
    """One evaluation. While `report` is None it is still running; a failed one has no score."""

    number: int
    proposal: Proposal
    report: Report | None = None
    score: Score | None = None

    @property
    def architecture(self) -> Architecture:
        """The architecture that was proposed."""
        return self.proposal.architecture

    @property
    def rejected(self) -> bool:
        """Whether it was turned down before training because it breaks a constraint."""
        return self.score is not None and not self.score.values

    @property
    def status(self) -> str:
        """`running`, `failed`, `rejected`, `infeasible` or `done`."""
        if self.report is None:
            return "running"
        if self.score is None:
            return "failed"
        if self.rejected:
            return "rejected"
        return "done" if self.score.feasibility == 0 else "infeasible"


History = Sequence[Trial]
"""Trials by number; the last ones may still be running."""
