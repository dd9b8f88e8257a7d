"""`nasflow run --fallback`: the next candidate is trained until one ships or none is left, and no one twice."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from flows import fallback, gate
from flows.tracking import WORK


class Runs:
    """Runs of the pipeline that end as they are told: the trial that is refused and who comes next, or None for a success."""

    def __init__(self, root: Path, *ends: tuple[int, list[int]] | None) -> None:
        self.root, self.ends, self.overrides = root, list(ends), list[list[str]]()

    def __call__(self, overrides: Sequence[str]) -> int:
        self.overrides.append(list(overrides))
        end = self.ends.pop(0)
        if end is None:
            (self.root / WORK / gate.NOTE).unlink(missing_ok=True)
            return 0
        note(self.root, *end)
        return 1


def note(root: Path, trial: int, following: list[int]) -> None:
    (root / WORK).mkdir(exist_ok=True)
    (root / WORK / gate.NOTE).write_text(json.dumps({"trial": trial, "reasons": ["slow"], "next": following}))


def test_a_winner_that_ships_is_the_end(tmp_path: Path) -> None:
    runs = Runs(tmp_path, None)
    assert fallback.run(tmp_path, runs) == 0
    assert runs.overrides == [[]]


def test_the_next_is_trained_until_one_ships(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = Runs(tmp_path, (4, [2, 9]), (2, [9]), None)
    assert fallback.run(tmp_path, runs) == 0
    assert runs.overrides == [[], ["train.trial=2"], ["train.trial=9"]]
    assert capsys.readouterr().err.splitlines() == [
        "nasflow: trial 4 does not ship, so trial 2 is trained now",
        "nasflow: trial 2 does not ship, so trial 9 is trained now",
    ]


def test_it_ends_where_nobody_is_left(tmp_path: Path) -> None:
    runs = Runs(tmp_path, (4, [2]), (2, []))
    assert fallback.run(tmp_path, runs) == 1
    assert len(runs.overrides) == 2


def test_it_ends_where_it_would_go_round_in_circles(tmp_path: Path) -> None:
    runs = Runs(tmp_path, (4, [2]), (4, [2]))
    assert fallback.run(tmp_path, runs) == 1
    assert len(runs.overrides) == 2


def test_a_failure_that_is_no_refusal_is_no_reason_to_train_another(tmp_path: Path) -> None:
    """Also when a run before this one was refused."""
    note(tmp_path, 4, [2])
    calls: list[Sequence[str]] = []

    def fails(overrides: Sequence[str]) -> int:
        calls.append(overrides)
        return 130

    assert fallback.run(tmp_path, fails) == 130
    assert calls == [[]]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"trial": 4}', "null"])
def test_a_damaged_note_is_none(tmp_path: Path, damage: str) -> None:
    def fails(overrides: Sequence[str]) -> int:
        (tmp_path / WORK).mkdir()
        (tmp_path / WORK / gate.NOTE).write_text(damage)
        return 1

    assert fallback.run(tmp_path, fails) == 1
