"""The verdict on two kinds of fronts: larger or smaller only where the exact interval of the differences says so."""

import argparse
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
OPTIONS = argparse.Namespace(trials=24, strategy="nsga2")


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    found: Callable[..., dict[str, Any]] = runpy.run_path(str(FOLDER / "measured_front.py"))["report"]
    return found


@pytest.mark.parametrize(
    ("latency", "verdict"),
    [([0.6, 0.7, 0.6, 0.8, 0.6, 0.7], "larger"), ([0.4, 0.3, 0.2, 0.4, 0.4, 0.1], "smaller"), ([0.6, 0.7, 0.6, 0.8, 0.6, 0.4], "tie")],
)
def test_the_verdict_needs_the_whole_interval(report: Callable[..., dict[str, Any]], latency: list[float], verdict: str) -> None:
    found = report([{"latency": value, "flops": 0.5} for value in latency], OPTIONS)
    assert found["verdict"] == verdict
    assert found["repeats"] == 6
    assert found["confidence"] == 0.969


def test_few_repeats_have_no_verdict(report: Callable[..., dict[str, Any]]) -> None:
    assert report([{"latency": 0.9, "flops": 0.5}] * 5, OPTIONS)["verdict"] == "too few repeats to say"
