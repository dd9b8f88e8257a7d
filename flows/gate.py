"""The last check before a file ships: what the search demanded, measured again on the file itself."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from flows.candidates import following
from flows.tracking import WORK
from nas import atomic
from nas.objective import Objective

NOTE = "refused.json"
"""Below `.nasflow`: which candidate was refused last, why, and which comes next; gone when one passes."""


@final
class GateError(RuntimeError):
    """A trained model that may not ship; the message has the figures, the rule, and who comes next."""


def require(root: Path, winner: Mapping[str, Any], metrics: Mapping[str, float], graph: str) -> dict[str, str]:
    """Return the constraints with the figures that they were met by; note a refusal, and raise GateError, where one is missed.

    metrics: of the file that would ship. graph: its hash in floats, compared with that of the structure that the search measured.
    """
    objective = Objective.model_validate(winner["objective"])
    broken = objective.broken(metrics)
    timed = winner.get("graph")
    if timed is not None and timed != graph:
        broken.append(f"its graph {graph[:16]} is not {timed[:16]}, which the search measured")
    if broken:
        refuse(root, winner, broken)
    (root / WORK / NOTE).unlink(missing_ok=True)
    return {name: f"{metrics[name]:g} {text}" for name, text in objective.constraints.items() if name in metrics}


def refuse(root: Path, winner: Mapping[str, Any], reasons: Sequence[str]) -> None:
    """Note that a candidate may not ship, and raise GateError with the reasons and the next candidates."""
    rest = following(root, winner["trial"])
    atomic.write_json(root / WORK / NOTE, {"trial": winner["trial"], "reasons": list(reasons), "next": [one["trial"] for one in rest]})
    raise GateError(f"trial {winner['trial']} does not ship: {'; '.join(reasons)}. {_next(rest)}")


def refused(root: Path) -> dict[str, Any] | None:
    """What was noted of the last refusal; None when the last candidate passed, or nothing usable was noted."""
    try:
        note: dict[str, Any] = json.loads((root / WORK / NOTE).read_text())
        usable = isinstance(note["trial"], int) and all(isinstance(number, int) for number in note["next"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return note if usable else None


def _next(rest: Sequence[Mapping[str, Any]]) -> str:
    if not rest:
        return "No feasible candidate is left: loosen search.objective.constraints, or search on with more search.trials"
    named = "; ".join(f"trial {one['trial']} ({_figures(one)})" for one in rest[:3])
    return f"Next are {named}: `nasflow run --fallback` trains the next one, or set train.trial yourself"


def _figures(candidate: Mapping[str, Any]) -> str:
    metrics = candidate["metrics"]["confirm"]
    shown = {"confirm": candidate["confirm"], **{name: metrics[name] for name in ("latency_ms", "parameters") if name in metrics}}
    return ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
