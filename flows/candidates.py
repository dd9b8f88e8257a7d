"""The architectures that a search leaves to choose from, and which of them is trained."""

from pathlib import Path
from typing import Any

from flows import records

FILE = "candidates.json"


def winner_of(root: Path, trial: int | None) -> dict[str, Any]:
    """The architecture to train, as best.json holds it: the winner, or the candidate of number `trial`.

    Raises ValueError when the search left no such candidate, or its record is missing or damaged.
    """
    folder = root / "results" / "search"
    best = records.read(folder / "best.json", "trial")
    if trial is None or trial == best["trial"]:
        return best
    offered = records.read_list(folder / FILE, "trial")
    for candidate in offered:
        if candidate["trial"] == trial:
            return {**best, **candidate}
    numbers = ", ".join(str(candidate["trial"]) for candidate in offered)
    raise ValueError(f"train.trial is {trial}, but the candidates of the search are {numbers}: take one of these, or null for the winner")


def following(root: Path, refused: int) -> list[dict[str, Any]]:
    """The feasible candidates that come after one that did not pass, in the order of the search; all but it when it is unknown."""
    path = root / "results" / "search" / FILE
    offered = records.read_list(path, "trial", "feasible") if path.exists() else []
    numbers = [candidate["trial"] for candidate in offered]
    rest = offered[numbers.index(refused) + 1 :] if refused in numbers else offered
    return [candidate for candidate in rest if candidate["feasible"]]
