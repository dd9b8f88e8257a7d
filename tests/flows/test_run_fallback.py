"""`nasflow run --fallback` in a whole small project: what ships is the next candidate, and params.yaml says so."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from at_once import work_here
from made_up_times import made_up
from recorded_project import SEARCH, TRAIN, inside, make_recorded_project, nasflow, write_settings
from ruamel.yaml import YAML
from small_images import one_thread
from stage_project import Answer

from export import structures
from export.interval import Interval
from export.machine import Target
from export.measure import Measurement
from flows import gate, launch, settings

__all__ = ["one_thread"]
STAGES = ("prepare", "search", "train", "export")
BOUND = {"metrics": ["accuracy"], "constraints": {"latency_ms": "<= 1000"}}


class Slower:
    """Measurements of which those of so many trained files take a thousand times as long as their structures did."""

    def __init__(self, files: int) -> None:
        self.files, self.seen = files, list[bytes]()

    def __call__(self, path: Path, target: Target, *, seconds: float) -> Measurement:
        found = made_up(path, target, seconds=seconds)
        if not path.parent.name.startswith("nasflow-export-"):
            return found
        if path.read_bytes() not in self.seen:
            self.seen.append(path.read_bytes())
        if self.seen.index(path.read_bytes()) >= self.files:
            return found
        latency = Interval(*(1000 * value for value in (found.latency.low, found.latency.middle, found.latency.high)), 0.95)
        return Measurement(**{**vars(found), "latency": latency})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stages run one after the other in this process, without Prefect and DVC; every finalist is another candidate."""

    def run(root: Path, stages: Sequence[str] | None, force: bool = False, check: Sequence[str] = ()) -> int:
        overrides = [word for word in check if word != "--set"]
        settings.read(root, overrides)
        answers: list[Answer] = []
        for stage in stages or STAGES:
            answers.append(nasflow("stage", stage))
            if answers[-1].code:
                break
        return answers[-1].code

    monkeypatch.setattr(launch, "run", run)
    work_here(monkeypatch)
    search = {**SEARCH, "strategy": "random", "trials": 3, "finalists": 2, "objective": BOUND, "preflight": False}
    make_recorded_project(tmp_path, search=search, train={**TRAIN, "seeds": [0]}, export={"exporter": "torchscript", "int8": "never"})
    return tmp_path


def candidates(root: Path) -> list[int]:
    return [candidate["trial"] for candidate in json.loads((root / "results/search/candidates.json").read_text())]


def shipped(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "results/export/manifest.json").read_text())
    return found


def test_the_next_candidate_ships_where_the_winner_may_not(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "measure", Slower(files=1))
    with inside(project):
        answer = nasflow("run", "--fallback")
        assert answer.code == 0, answer.errors
        first, second, *_ = candidates(project)
        assert f"nasflow: trial {first} does not ship, so trial {second} is trained now" in answer.errors.splitlines()
        assert shipped(project)["metadata"]["trial"] == str(second)
        assert json.loads((project / "results/train/architecture.json").read_text())["trial"] == second
        assert YAML(typ="safe").load(project / "params.yaml")["train"]["trial"] == second
        assert gate.refused(project) is None
        # The summary is of what ships, not of the winner that does not.
        offered = {candidate["trial"]: candidate for candidate in json.loads((project / "results/search/candidates.json").read_text())}
        assert f"{offered[second]['metrics']['select']['parameters']:,.0f}" in nasflow("show").output


def test_without_fallback_nothing_ships_and_the_cure_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "measure", Slower(files=1))
    with inside(project):
        answer = nasflow("run")
        assert answer.code == 1
        assert not (project / "results/export").exists()
        note = gate.refused(project)
        assert note is not None
        assert (note["trial"], *note["next"]) == tuple(candidates(project))
        write_settings(project, train={**TRAIN, "seeds": [0], "trial": 99})
        assert "train.trial is 99, but the candidates of the search are" in nasflow("stage", "train").errors


def test_where_no_candidate_may_ship_the_last_refusal_is_the_answer(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "measure", Slower(files=99))
    with inside(project):
        answer = nasflow("run", "--fallback")
        assert answer.code == 1
        assert answer.errors.count("does not ship, so trial") == len(candidates(project)) - 1
        assert not (project / "results/export").exists()
        note = gate.refused(project)
        assert note is not None
        assert (note["trial"], note["next"]) == (candidates(project)[-1], [])
