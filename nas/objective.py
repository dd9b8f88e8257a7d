"""From metrics to scores. Whether higher or lower is better is decided here and nowhere else."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict

from nas.trial import Score, Trial

_CONSTRAINT = re.compile(r"\s*(<=|>=)\s*([-+0-9.eE_]+)\s*")


class Bound(NamedTuple):
    """A limit on a metric: `sign` is +1 for at most and -1 for at least."""

    sign: int
    value: float

    def excess(self, value: float) -> float:
        """How far `value` is on the wrong side, relative to the bound; 0 when it keeps to it."""
        return max(0.0, self.sign * (value - self.value) / (abs(self.value) or 1.0))


def parse_bound(text: str) -> Bound:
    """Read `<= 100000` or `>= 0.9`. Raises ValueError for anything else."""
    match = _CONSTRAINT.fullmatch(text)
    try:
        if match and math.isfinite(value := float(match[2])):
            return Bound(1 if match[1] == "<=" else -1, value)
    except ValueError:
        pass
    raise ValueError(f"{text!r} is not a constraint: write '<= NUMBER' or '>= NUMBER'")


def _check_constraint(text: str) -> str:
    parse_bound(text)
    return text


def _check_metrics(metrics: tuple[str, ...]) -> tuple[str, ...]:
    names = [metric.removeprefix("-") for metric in metrics]
    if not metrics or len(set(names)) != len(names) or not all(names):
        raise ValueError(f"{list(metrics)} are not objectives: name at least one metric, each once, with '-' before one to be made small")
    return metrics


class Objective(BaseModel):
    """What a search looks for."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    metrics: Annotated[tuple[str, ...], AfterValidator(_check_metrics)] = ("accuracy",)
    """Metrics to make large; a minus sign before one makes it small."""
    constraints: dict[str, Annotated[str, AfterValidator(_check_constraint)]] = {}
    """Bounds on metrics, for example `parameters: "<= 100000"`."""

    @property
    def names(self) -> list[str]:
        """All metrics that are needed to decide."""
        return [metric.removeprefix("-") for metric in self.metrics] + list(self.constraints)

    def score(self, metrics: Mapping[str, float]) -> Score:
        """Return the score of a trained candidate.

        Raises ValueError when a metric is missing or not finite.
        """
        for name in self.names:
            if not math.isfinite(metrics.get(name, math.nan)):
                raise ValueError(f"metric {name!r} is {metrics.get(name, 'missing')}: a score needs a finite number")
        values = tuple(-metrics[name[1:]] if name.startswith("-") else metrics[name] for name in self.metrics)
        return Score(self._feasibility(metrics), values)

    def reject(self, metrics: Mapping[str, float]) -> Score | None:
        """Return the score of a candidate that breaks a constraint by what is known before training, else None."""
        feasibility = self._feasibility(metrics)
        return Score(feasibility, ()) if feasibility < 0 else None

    def broken(self, metrics: Mapping[str, float]) -> list[str]:
        """Say which constraints are broken, with the figures."""
        return [
            f"{name} {metrics[name]:g} breaks {text}"
            for name, text in self.constraints.items()
            if name in metrics and parse_bound(text).excess(metrics[name]) > 0
        ]

    def _feasibility(self, metrics: Mapping[str, float]) -> float:
        excess = sum(parse_bound(text).excess(metrics[name]) for name, text in self.constraints.items() if name in metrics)
        return -excess if excess else 0.0


def pareto_front(trials: Iterable[Trial]) -> list[Trial]:
    """The trained, feasible trials that no other dominates, by number; of equal scores the first."""
    scored = [(trial, trial.score) for trial in trials if trial.score is not None and trial.status == "done"]
    front: list[tuple[Trial, Score]] = []
    for trial, score in scored:
        if any(other.dominates(score) or other == score for _, other in front):
            continue
        front = [(kept, other) for kept, other in front if not score.dominates(other)]
        front.append((trial, score))
    return [trial for trial, _ in front]
