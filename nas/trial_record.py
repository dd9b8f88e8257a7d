"""Trials as JSON values, and back: what a line of a journal holds."""

from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from types import MappingProxyType
from typing import Any

from nas.architecture import Architecture
from nas.trial import Proposal, Report, Score, Trial


def encode_trial(trial: Trial) -> dict[str, Any]:
    """Return a trial as plain JSON values; floats keep every bit, mixtures and gradients as float32."""
    proposal, report = trial.proposal, trial.report
    record: dict[str, Any] = {"number": trial.number, "architecture": dict(proposal.architecture)}
    optional: dict[str, Any] = {"steps": proposal.steps, "parent": proposal.parent, "mixture": _encode_mixture(proposal.mixture)}
    record |= {name: value for name, value in optional.items() if value is not None}
    if proposal.origin:
        record["origin"] = list(proposal.origin)
    if report is not None:
        record |= {"metrics": dict(report.metrics), "seconds": report.seconds}
        optional = {"error": report.error, "gradient": _encode_mixture(report.gradient), "reused": report.reused, "kind": report.kind}
        record |= {name: value for name, value in optional.items() if value is not None}
    if trial.score is not None:
        record["score"] = list(trial.score if trial.score.intervals else trial.score[:2])  # as it was before there were intervals
    return record


def decode_trial(record: Any) -> Trial:
    """Undo `encode_trial`. Raises ValueError when `record`, which may be anything that JSON can hold, is not what it returns."""
    _check(record)
    mixture = _decode_mixture(record.get("mixture"))
    origin = tuple(record.get("origin", ()))
    proposal = Proposal(Architecture(record["architecture"]), record.get("steps"), record.get("parent"), mixture, origin)
    if "metrics" not in record:
        return Trial(record["number"], proposal)
    gradient = _decode_mixture(record.get("gradient"))
    report = Report(record["metrics"], record["seconds"], record.get("error"), gradient, record.get("reused"), record.get("kind"))
    score = _decode_score(*record["score"]) if "score" in record else None
    return Trial(record["number"], proposal, report, score)


def _decode_score(feasibility: float, values: list[float], intervals: Iterable[list[float]] = ()) -> Score:
    return Score(feasibility, tuple(values), tuple((low, high) for low, high in intervals))


def _encode_mixture(mixture: Any) -> dict[str, list[float]] | None:
    return None if mixture is None else {name: weights.tolist() for name, weights in mixture.items()}


def _decode_mixture(record: dict[str, list[float]] | None) -> Any:
    if record is None:
        return None
    import torch

    return {name: torch.tensor(weights, dtype=torch.float32) for name, weights in record.items()}


def number_of(value: Any) -> float:
    """Return a number of NumPy or PyTorch as one that JSON knows; a whole number stays one, for it may be a trial's or count steps."""
    return int(value) if isinstance(value, Integral) else float(value)


def _check(record: Any) -> None:
    if not isinstance(record, dict):
        raise ValueError("a trial is a mapping")
    needed = {"number", "architecture"} | ({"metrics", "seconds"} if "metrics" in record or "score" in record else set())
    for key, fits in _SHAPES.items():
        if (key in record or key in needed) and not fits(record.get(key)):
            raise ValueError(f"{key!r} of a trial is {'wrong' if key in record else 'missing'}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_origin(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_count, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**1000)  # which a float can hold, too


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_mapping(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def _is_score(value: Any) -> bool:
    if not isinstance(value, list) or len(value) not in (2, 3) or not _is_number(value[0]) or not _is_vector(value[1]):
        return False
    if any(number != number for number in (value[0], *value[1])):  # NaN would compare as neither better nor worse
        return False
    return len(value) == 2 or _are_intervals(value[2], value[1])


def _are_intervals(value: Any, around: list[float]) -> bool:
    """Whether these are as many pairs as there are values, each around its value; there are none around no values."""
    if not isinstance(value, list) or not around or len(value) != len(around):
        return False
    pairs = all(_is_vector(pair) and len(pair) == 2 for pair in value)
    return pairs and all(low <= number <= high for (low, high), number in zip(value, around, strict=True))


_SHAPES: Mapping[str, Callable[[Any], bool]] = MappingProxyType(
    {
        "number": _is_count,
        "architecture": _is_mapping(_is_text),
        "steps": _is_count,
        "parent": _is_count,
        "mixture": _is_mapping(_is_vector),
        "origin": _is_origin,
        "metrics": _is_mapping(_is_number),
        "seconds": _is_number,
        "error": _is_text,
        "gradient": _is_mapping(_is_vector),
        "reused": _is_count,
        "kind": _is_text,
        "score": _is_score,
    }
)
