"""With one objective, proposals and journal lines are those that were recorded before strategies knew of several."""

import json
import sys
import zlib
from pathlib import Path

import pytest
from additive import CHOICES, Additive
from fake_search import plain, run_search, small_strategy

from nas.journal import MemoryJournal
from nas.load import names
from nas.objective import Objective

GOLDEN = Path(__file__).parent / "golden_proposals.json"
"""For every strategy the options of each trial, then its parent; and a checksum of all lines. Written by `python THIS_FILE`.

Where a proposal comes from is left out of the lines: it was not noted when they were recorded, and must change nothing.
"""
SOFT = {"darts", "drnas", "gdas"}
"""Their evaluator must give gradients, and they look at no score."""


def searched(name: str) -> dict[str, str]:
    strategy = small_strategy(name).bind(CHOICES)
    objective = Objective(constraints={"parameters": "<= 75"})
    found = run_search(strategy, Additive(trouble=True), MemoryJournal(), 41 if name == "gp" else 90, objective=objective)
    parents = ("" if trial.proposal.parent is None else f":{trial.proposal.parent}" for trial in found)
    proposals = " ".join("".join(trial.architecture.values()) + parent for trial, parent in zip(found, parents, strict=True))
    lines = [{name: value for name, value in line.items() if name != "origin"} for line in plain(found)]
    return {"proposals": proposals, "lines": f"{zlib.crc32(json.dumps(lines).encode()):08x}"}


def _names() -> list[str]:
    return [name for name in names("strategies") if name not in SOFT]


@pytest.mark.parametrize("name", _names())
def test_one_objective_is_searched_as_ever(name: str) -> None:
    recorded = json.loads(GOLDEN.read_text())
    found = searched(name)
    assert found["proposals"].split() == recorded[name]["proposals"].split()
    assert found == recorded[name]


def test_every_strategy_is_recorded() -> None:
    assert sorted(json.loads(GOLDEN.read_text())) == sorted(_names())


if __name__ == "__main__":
    wanted = sys.argv[1:] or _names()
    before = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    GOLDEN.write_text(json.dumps(before | {name: searched(name) for name in wanted}, indent=1, sort_keys=True) + "\n")
