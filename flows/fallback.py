"""`nasflow run --fallback`: when the trained winner may not ship, the next candidate of the search is trained, and so on."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from flows import gate
from flows.tracking import WORK


def run(root: Path, once: Callable[[Sequence[str]], int]) -> int:
    """Run the pipeline until a candidate ships or none is left; returns the last exit code.

    `once` runs it with overrides of settings: which candidate is trained is written to params.yaml, so that the result can be made again.
    """
    (root / WORK / gate.NOTE).unlink(missing_ok=True)  # one of an earlier run says nothing about this one
    overrides: list[str] = []
    tried: set[int] = set()
    while True:
        code = once(overrides)
        note = gate.refused(root) if code else None
        if note is None or note["trial"] in tried or not note["next"]:
            return code
        tried.add(note["trial"])
        print(f"nasflow: trial {note['trial']} does not ship, so trial {note['next'][0]} is trained now", file=sys.stderr, flush=True)
        overrides = [f"train.trial={note['next'][0]}"]
