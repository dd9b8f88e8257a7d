"""The gate judges a latency by the devices that the settings name, and by this machine where they name none."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flows import elsewhere, gate
from flows.elsewhere import Elsewhere

GRAPH = "a" * 64
HERE = {"accuracy": 0.9, "latency_ms": 1.0, "latency_ms_low": 0.9, "latency_ms_high": 1.1}
WINNER = {"trial": 4, "search": "s", "graph": None, "objective": {"metrics": ["accuracy"], "constraints": {"latency_ms": "<= 5"}}}


def measured(*times: tuple[float, float, float]) -> Elsewhere:
    setting = {"provider": "CPUExecutionProvider", "batch_size": 1, "threads": 1}
    devices = [
        {"device": f"Chip {at}", **setting, "low": low, "latency_ms": middle, "high": high} for at, (low, middle, high) in enumerate(times)
    ]
    return Elsewhere.model_validate({"search": "s", "trial": 4, "graph": GRAPH, "devices": devices})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project whose search left two candidates."""
    (tmp_path / ".nasflow").mkdir()
    folder = tmp_path / "results" / "search"
    folder.mkdir(parents=True)
    offered = [{"trial": trial, "feasible": True, "confirm": 0.5, "metrics": {"confirm": {}}} for trial in (4, 7)]
    (folder / "candidates.json").write_text(json.dumps(offered))
    return tmp_path


def test_the_slowest_device_decides_and_is_named(root: Path) -> None:
    slow_here = {**HERE, "latency_ms": 99.0, "latency_ms_low": 98.0, "latency_ms_high": 100.0}
    held = gate.require(root, WINNER, slow_here, GRAPH, measured((1, 2, 3), (2, 4, 5)))
    assert held == {"latency_ms": "4 <= 5, measured on Chip 0 and Chip 1"}
    with pytest.raises(gate.GateError, match=r"latency_ms 99 \(98 to 100\) breaks <= 5"):
        gate.require(root, WINNER, slow_here, GRAPH)


@pytest.mark.parametrize("times", [[(1, 2, 3), (2, 4, 6)], [(6, 7, 8), (1, 2, 3)]])
def test_a_device_that_is_too_slow_refuses_whatever_this_machine_says(root: Path, times: Any) -> None:
    with pytest.raises(gate.GateError, match="breaks <= 5") as caught:
        gate.require(root, WINNER, HERE, GRAPH, measured(*times))
    assert "`nasflow rank --measured FILE --without 4 --choose` takes the next one" in str(caught.value)
    note = gate.refused(root)
    assert note is not None
    assert note["next"] == []  # the order of the search is not that of the devices


def test_another_graph_than_the_measured_one_does_not_ship(root: Path) -> None:
    with pytest.raises(gate.GateError, match="its graph bbbbbbbbbbbbbbbb is not aaaaaaaaaaaaaaaa, which was measured elsewhere"):
        gate.require(root, WINNER, HERE, "b" * 64, measured((1, 2, 3)))


def test_other_constraints_are_judged_here(root: Path) -> None:
    winner = {**WINNER, "objective": {"metrics": ["accuracy"], "constraints": {"latency_ms": "<= 5", "accuracy": ">= 0.95"}}}
    with pytest.raises(gate.GateError, match=r"does not ship: accuracy 0\.9 breaks >= 0\.95\. `nasflow rank"):
        gate.require(root, winner, HERE, GRAPH, measured((1, 2, 3)))


def test_another_candidate_is_refused_before_it_is_trained() -> None:
    elsewhere.require_same(None, {"search": "other", "trial": 1})
    elsewhere.require_same(measured((1, 2, 3)), WINNER)
    for winner in ({"search": "s", "trial": 1}, {"search": "other", "trial": 4}):
        with pytest.raises(ValueError, match=r"export\.measured is about trial 4 of search s, but trial"):
            elsewhere.require_same(measured((1, 2, 3)), winner)


def test_a_latency_outside_its_interval_is_refused() -> None:
    with pytest.raises(ValidationError, match="the interval 2 to 3 does not hold 1"):
        measured((2, 1, 3))
