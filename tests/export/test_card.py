"""The card says what the manifest knows, and that the rest is not known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.bundle import manifest_of
from export.card import card

Exported = Callable[..., Path]


@pytest.fixture
def full(exported: Exported) -> dict[str, Any]:
    return {
        **manifest_of(exported()),
        "classes": ["bird", "c|at", "<dog>", "fisch\nß"],
        "data": {"source": "images", "counts": {"fit": 70, "test": 30}},
        "data_digest": "d" * 64,
        "test": {"accuracy": 0.91234, "loss": 0.5},
        "test_difference": {"accuracy": -0.01, "loss": 0.0},
        "retrained": {"seeds": 3, "mean": {"accuracy": 0.9, "loss": 0.6}, "std": {"accuracy": 0.0123, "loss": 0.01}},
        "parity": {"examples": 30, "differing": 0, "largest_difference": 2e-6},
        "latency": {
            **{"processor": "Chip 9", "batch_size": 1, "threads": 2, "provider": "CPUExecutionProvider"},
            **{"p50_ms": 0.5, "p90_ms": 0.625, "p99_ms": 1.75},
        },
        "vectors": 4,
    }


def test_what_is_known_is_said(full: dict[str, Any]) -> None:
    text = card(full)
    assert text == card(full)
    for words in (
        "An image classifier of 4 classes",
        f"| SHA-256 | `{full['sha256']}` |",
        "| input | `images`: uint8, batch x 8 x 8 x 3 |",
        "| edge | conv3 |",
        "| images in fit | 70 |",
        "Classes: bird, c\\|at, &lt;dog>, fisch ß.",
        "| on test | this file | mean of 3 trainings | standard deviation |",
        "| accuracy | 0.9123 | 0.9000 | 0.0123 |",
        "accuracy -0.0100, loss +0.0000",
        "Checked against PyTorch on 30 images: 0 other predictions, first output within 2.0e-06.",
        "On Chip 9, batch 1, 2 thread(s), CPUExecutionProvider: p50 0.500 ms, p90 0.625 ms, p99 1.750 ms.",
        "`images` must be 8 x 8 x 3, uint8",
        "the same answers to 4 test images",
    ):
        assert words in text
    columns = [line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("| ")]
    assert set(columns) == {3, 5}  # no name breaks a table


def test_what_is_not_known_is_said_too(exported: Exported) -> None:
    text = card(manifest_of(exported()))
    for words in ("Not measured yet", "holds no scores", "does not say what the model was made from"):
        assert words in text
    for words in ("verify.py`?", "None", "python verify.py  ", "PyTorch on", "8 bits"):
        assert words not in text


def test_one_training_has_no_spread_and_an_int8_file_says_so(full: dict[str, Any]) -> None:
    full["retrained"] = {"seeds": 1, "mean": {"accuracy": 0.9}, "std": {"accuracy": 0.0}}
    full["metadata"] = {**full["metadata"], "quantized": "{}", "architecture": "not JSON"}
    text = card(full)
    assert "| accuracy | 0.9123 | 0.9000 | - |" in text
    assert "| loss | 0.5000 | - | - |" in text
    assert "It computes on 8 bits" in text
    assert "| - | not JSON |" in text
