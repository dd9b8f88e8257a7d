"""Floats or int8: the quantized file ships where it is faster here and loses little on `confirm`, and the reason has the figures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_times import made_up
from small_images import one_thread

from export.interval import Interval
from export.machine import Target
from export.quantize import QuantizeError
from export.to_onnx import to_onnx
from flows import variants
from flows.variants import FLOAT, INT8, Variant, choose, quantized, variant
from nas.tasks.image_classification import ImageClassification
from nas.testing.blocks import Blocks, Noted

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Noted:
    return Noted(tmp_path_factory.mktemp("data") / "prepared", 100)


@pytest.fixture(scope="module")
def model(data: Noted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network as a file."""
    task = ImageClassification().bind(data.description)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = task.deployable(Blocks().build({"first": "conv3", "second": "conv1"}, task)).eval()
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    to_onnx(module, task.example(2), path, outputs=task.output_names, metadata={}, exporter="torchscript")
    return path


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Variant]:
    """made(name, ratio, accuracy) -> a variant of so many times the sentinel's time, 1 % more or less, and this metric on confirm."""

    def make(name: str, ratio: float, accuracy: float, metric: str = "accuracy") -> Variant:
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(b"x" * 100)
        measurement = made_up(path, Target(), seconds=0.1)
        found = type(measurement)(**{**vars(measurement), "ratio": Interval(0.99 * ratio, ratio, 1.01 * ratio, 0.95)})
        return Variant(name, path, "graph", found, {metric: accuracy}, {metric: accuracy}, 1.0)

    return make


@pytest.mark.parametrize(
    ("ratio", "accuracy", "ships", "words"),
    [
        (0.5, 0.90, INT8, "int8: int8 is faster here (0.50 times the time of floats) and loses 0.0000 of accuracy on confirm"),
        (0.5, 0.95, INT8, "int8: int8 is faster here (0.50 times the time of floats) and gains 0.0500 of accuracy on confirm"),
        (0.5, 0.89, FLOAT, "floats: int8 is faster here (0.50 times the time of floats) and loses 0.0100 of accuracy on confirm"),
        (1.0, 0.90, FLOAT, "floats: int8 is neither faster nor slower here (1.00 times the time of floats) and loses 0.0000 of accuracy"),
        (2.0, 0.99, FLOAT, "floats: int8 is slower here (2.00 times the time of floats) and gains 0.0900 of accuracy on confirm"),
    ],
)
def test_int8_ships_where_it_is_faster_and_as_good(
    made: Callable[..., Variant], ratio: float, accuracy: float, ships: str, words: str
) -> None:
    chosen, why = choose(made(FLOAT, 1.0, 0.90), made(INT8, ratio, accuracy), "accuracy", 1, 0.005)
    assert chosen.name == ships
    assert why.startswith(words)


def test_a_metric_that_is_to_be_small_is_lost_by_growing(made: Callable[..., Variant]) -> None:
    floats, worse = made(FLOAT, 1.0, 0.2, "loss"), made(INT8, 0.5, 0.3, "loss")
    assert choose(floats, worse, "loss", -1, 0.005)[0] is floats
    assert choose(floats, worse, "loss", 1, 0.005)[0] is worse


def test_without_int8_floats_ship(made: Callable[..., Variant]) -> None:
    floats = made(FLOAT, 1.0, 0.9)
    assert choose(floats, None, "accuracy", 1, 0.005) == (floats, "floats: no int8 variant was made")


def test_a_file_is_scored_on_confirm_and_test_and_agrees_with_itself(data: Noted, model: Path) -> None:
    task = ImageClassification().bind(data.description)
    targets = np.array(data.targets("test"))
    logits = variants.answers(model, data.as_bytes("test"))
    found = variant(FLOAT, model, task, data, logits, made_up(model, Target(), seconds=0.1))  # type: ignore[arg-type]
    assert found.agreement == 1.0
    assert found.test["accuracy"] == pytest.approx(float((logits.argmax(1) == targets).mean()))
    assert set(found.confirm) == set(task.metric_names)
    assert found.record()["bytes"] == model.stat().st_size
    assert "peak_memory" not in found.figures
    shifted = np.roll(logits, 1, axis=1)
    assert variant(FLOAT, model, task, data, shifted, found.measurement).agreement == 0.0  # type: ignore[arg-type]


def test_int8_is_calibrated_on_fit_alone(data: Noted, model: Path, tmp_path: Path) -> None:
    data.read.clear()
    assert quantized(model, tmp_path / "int8.onnx", data) is None  # type: ignore[arg-type]
    assert data.read == {"fit"}
    assert (tmp_path / "int8.onnx").exists()


def test_a_network_that_cannot_be_quantized_says_why(data: Noted, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*given: object) -> None:
        raise QuantizeError("nothing can be quantized: keep floats")

    monkeypatch.setattr(variants, "quantize", refuses)
    assert quantized(model, tmp_path / "int8.onnx", data) == "nothing can be quantized: keep floats"  # type: ignore[arg-type]
