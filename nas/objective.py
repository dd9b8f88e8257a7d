"""From metrics to scores. Whether higher or lower is better is decided here and nowhere else.

A metric `m` that was measured with noise is three numbers: `m`, and the ends of its 95 % interval, `m_low` and `m_high`.
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict

from nas.trial import Score

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
    """Bounds on metrics, for example `parameters: "<= 100000"`; where a metric has an interval, the whole of it must keep to them."""
    choose: Literal["best", "knee"] = "best"
    """How the winner is chosen from the Pareto front of several metrics: `best` takes the greatest first one; `knee` the trial that is
    farthest beyond the line (plane) through the ends of the front, every metric scaled to the front. The constraints hold in any case."""

    @property
    def names(self) -> list[str]:
        """All metrics that are needed to decide."""
        return [metric.removeprefix("-") for metric in self.metrics] + list(self.constraints)

    def score(self, metrics: Mapping[str, float]) -> Score:
        """Return the score of a trained candidate.

        Raises ValueError when a metric is missing or not finite, or lies outside its interval.
        """
        for name in self.names:
            if not math.isfinite(metrics.get(name, math.nan)):
                raise ValueError(f"metric {name!r} is {metrics.get(name, 'missing')}: a score needs a finite number")
            low, high = ends(name, metrics)
            if not -math.inf < low <= metrics[name] <= high < math.inf:
                raise ValueError(
                    f"metric {name!r} is {metrics[name]:g}, but its interval is {low:g} to {high:g}: it must be finite and hold it"
                )
        intervals = tuple(_interval(metric, metrics) for metric in self.metrics)
        values = tuple(-metrics[name[1:]] if name.startswith("-") else metrics[name] for name in self.metrics)
        noisy = any(low < high for low, high in intervals)
        return Score(self._feasibility(metrics), values, intervals if noisy else ())

    def reject(self, metrics: Mapping[str, float]) -> Score | None:
        """Return the score of a candidate that breaks a constraint by what is known before training, else None."""
        feasibility = self._feasibility(metrics)
        return Score(feasibility, ()) if feasibility < 0 else None

    def broken(self, metrics: Mapping[str, float]) -> list[str]:
        """Say which constraints are broken, with the figures."""
        return [
            f"{name} {_figure(name, metrics)} breaks {text}"
            for name, text in self.constraints.items()
            if name in metrics and _excess(name, text, metrics) > 0
        ]

    def _feasibility(self, metrics: Mapping[str, float]) -> float:
        excess = sum(_excess(name, text, metrics) for name, text in self.constraints.items() if name in metrics)
        return -excess if excess else 0.0


def ends(name: str, metrics: Mapping[str, float]) -> tuple[float, float]:
    """Return the interval of a metric that is there; its value twice where it has none."""
    value = metrics[name]
    return metrics.get(f"{name}_low", value), metrics.get(f"{name}_high", value)


def _interval(metric: str, metrics: Mapping[str, float]) -> tuple[float, float]:
    """The interval of an objective, greater is better."""
    low, high = ends(metric.removeprefix("-"), metrics)
    return (-high, -low) if metric.startswith("-") else (low, high)


def _excess(name: str, text: str, metrics: Mapping[str, float]) -> float:
    """How far the worse end of a metric's interval is on the wrong side: what only may fit does not."""
    bound, (low, high) = parse_bound(text), ends(name, metrics)
    return bound.excess(high if bound.sign > 0 else low)


def _figure(name: str, metrics: Mapping[str, float]) -> str:
    low, high = ends(name, metrics)
    return f"{metrics[name]:g} ({low:g} to {high:g})" if low < high else f"{metrics[name]:g}"
