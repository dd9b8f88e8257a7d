"""Numbers as the report writes them."""

import math
from collections.abc import Mapping
from typing import Any

from nas.training.comparison import Comparison

TIMES = "\N{MULTIPLICATION SIGN}"
_NAMES = {"latency_ms": "latency, ms", "flops": "FLOPs", "int8_latency_ms": "int8 latency, ms"}


def figure(value: float) -> str:
    """A metric: whole numbers with separators, shares with four decimals, others with three digits that count."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) >= 2:
        return f"{value:,.0f}"
    if abs(value) <= 1 and abs(value) >= 0.1:
        return f"{value:.4f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}" if value else "0"


def short(value: float) -> str:
    """A round number on an axis, with every digit that it has."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.10g}{letter}"
    return f"{value:.10g}"


def label(metric: str) -> str:
    """A metric's name with its unit."""
    return _NAMES.get(metric, metric)


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number of things: `1 trial`, `2 trials`; `plural` where it is no plain s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def share(value: float) -> str:
    """A share in percent, with a decimal where it is near nothing or near all."""
    return f"{value:.1%}" if 0 < value < 0.02 or 0.98 < value < 0.9995 else f"{value:.0%}"


def seconds(value: float) -> str:
    """A time for a person."""
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def verdict(found: Comparison, noisy: bool = True) -> str:
    """What a difference means: a tie where it is within noise."""
    if not noisy:
        return "noise unknown"
    if found.within_noise:
        return "a tie: within noise"
    return "better beyond noise" if found.difference > 0 else "worse beyond noise"


def settings(described: Mapping[str, Any]) -> str:
    """A component with its settings: `predictor, initial 10`."""
    rest = [f"{name} {_value(value)}" for name, value in described.items() if name != "name" and not isinstance(value, dict)]
    return ", ".join([str(described["name"]), *rest])


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    return "none" if value is None else str(value)
