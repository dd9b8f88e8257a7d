"""The last check before a file ships: what the search demanded, measured again on the file itself."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from flows.candidates import following
from flows.elsewhere import Elsewhere, latencies, wrong_graph
from flows.tracking import WORK
from nas import atomic
from nas.objective import Objective
from nas.rerank import LATENCY

NOTE = "refused.json"
"""Below `.nasflow`: which candidate was refused last, why, and which comes next; gone when one passes."""


@final
class GateError(RuntimeError):
    """A trained model that may not ship; the message has the figures, the rule, and who comes next."""


def require(
    root: Path, winner: Mapping[str, Any], metrics: Mapping[str, float], graph: str, measured: Elsewhere | None = None
) -> dict[str, str]:
    """Return the constraints with the figures that they were met by; note a refusal, and raise GateError, where one is missed.

    metrics: of the file that would ship. graph: its hash in floats, compared with that of the structure that the search measured.
    measured: latencies of other devices, which take the place of the one of `metrics`; they are about the file in floats.
    """
    objective = Objective.model_validate(winner["objective"])
    judged = [metrics] if measured is None else latencies(measured, metrics)
    broken = list(dict.fromkeys(sentence for one in judged for sentence in objective.broken(one)))
    broken += [] if measured is None else wrong_graph(measured, graph)
    timed = winner.get("graph")
    if timed is not None and timed != graph:
        broken.append(f"its graph {graph[:16]} is not {timed[:16]}, which the search measured")
    if broken:
        refuse(root, winner, broken, measured)
    (root / WORK / NOTE).unlink(missing_ok=True)
    met = {name: f"{judged[-1][name]:g} {text}" for name, text in objective.constraints.items() if name in metrics}
    if measured is not None and LATENCY in met:
        met[LATENCY] += f", measured on {' and '.join(one.device for one in measured.devices)}"
    return met


def refuse(root: Path, winner: Mapping[str, Any], reasons: Sequence[str], measured: Elsewhere | None = None) -> None:
    """Note that a candidate may not ship, and raise GateError with the reasons and the next candidates.

    Where other devices decide, the order of the search is not theirs, so that nothing is said to be next.
    """
    rest = following(root, winner["trial"]) if measured is None else []
    atomic.write_json(root / WORK / NOTE, {"trial": winner["trial"], "reasons": list(reasons), "next": [one["trial"] for one in rest]})
    raise GateError(f"trial {winner['trial']} does not ship: {'; '.join(reasons)}. {_next(rest) if measured is None else _again(winner)}")


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


def _again(winner: Mapping[str, Any]) -> str:
    return f"`nasflow rank --measured FILE --without {winner['trial']} --choose` takes the next one on the devices of export.measured"


def _figures(candidate: Mapping[str, Any]) -> str:
    metrics = candidate["metrics"]["confirm"]
    known = {} if candidate["confirm"] is None else {"confirm": candidate["confirm"]}
    shown = known | {name: metrics[name] for name in ("latency_ms", "parameters") if name in metrics}
    return ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
