"""What a long measurement needs: a log that it goes on from, a budget of CPU seconds, and means with their errors."""

import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from nas.atomic import Growing


class Budget:
    """CPU seconds of this process, and of those that it started and that ended, from now on."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._start = seconds, _now()

    @property
    def used(self) -> float:
        """What was used."""
        return _now() - self._start

    @property
    def left(self) -> float:
        """What is left; below 0 when more was used."""
        return self._seconds - self.used


class Log:
    """Finished pieces of one measurement, a JSON object per line, durable at once; the first line holds the plan.

    A line that a kill cut off is dropped. Raises ValueError when the file is of another plan.
    """

    def __init__(self, path: Path, plan: Mapping[str, Any]) -> None:
        whole = path.read_bytes() if path.exists() else b""
        length = whole.rfind(b"\n") + 1
        self.pieces: list[dict[str, Any]] = [json.loads(line) for line in whole[:length].splitlines()]
        head = json.loads(json.dumps({"piece": "plan", **plan}))
        if self.pieces and self.pieces[0] != head:
            raise ValueError(f"{path} is the log of another plan, {json.dumps(self.pieces[0])}: name another file with --log")
        self._file = Growing(path, length)
        if not self.pieces:
            self.add(head)

    def once(self, key: Mapping[str, Any], work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return the piece with this key, which is made and added when it is not there."""
        for piece in self.pieces:
            if all(piece.get(name) == value for name, value in key.items()):
                return piece
        return self.add({**key, **work()})

    def add(self, piece: dict[str, Any]) -> dict[str, Any]:
        """Append a piece and return it."""
        self._file.append(json.dumps(piece).encode() + b"\n")
        self.pieces.append(piece)
        return piece

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def table(found: Sequence[tuple[str, Sequence[float]]], randoms: Sequence[float]) -> dict[str, Any]:
    """Return means and standard errors in points, from the accuracies of each family's winners and one of every random architecture.

    The standard error of a difference joins that of the random mean with that of the winners, whose spread over seeds is pooled over
    all winners, since two or three trainings of one say little about it. It says nothing about other searches of the same family.
    """
    pooled = _pooled([values for _, values in found])
    mean, spread = statistics.mean(randoms), _spread(randoms)
    rows = []
    for family in dict.fromkeys(name for name, _ in found):
        values = [value for name, row in found if name == family for value in row]
        difference = statistics.mean(values) - mean
        error = (spread**2 / len(randoms) + pooled**2 / len(values)) ** 0.5
        row = {"mean": statistics.mean(values), "std": _spread(values), "difference": difference, "standard_error": error}
        rows.append({"family": family, "trainings": len(values), **_points(row), "beats_random": difference > 0})
    return {"random": {**_points({"mean": mean, "std": spread, "best": max(randoms)}), "architectures": len(randoms)}, "families": rows}


def _now() -> float:
    return sum(os.times()[:4])


def _points(row: Mapping[str, float]) -> dict[str, float]:
    return {name: round(100 * value, 3) for name, value in row.items()}


def _pooled(groups: Sequence[Sequence[float]]) -> float:
    several = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    return (sum(statistics.variance(group) * (len(group) - 1) for group in several) / freedom) ** 0.5 if freedom else 0.0


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
