"""The trained network as files, in floats and quantized: each is scored and timed, and the one that does best here ships."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from export import files
from export.graph_hash import graph_hash
from export.interval import Verdict
from export.measure import Measurement, verdict_between
from export.quantize import QuantizeError, quantize
from export.scoring import answers
from nas.data.dataset import Dataset
from nas.tasks.base import Task

FLOAT, INT8 = "float", "int8"
_CALIBRATION = 256
"""Images of `fit`; the ranges of activations hardly move with more."""
_WORDS: Mapping[Verdict, str] = {"faster": "faster", "slower": "slower", "indistinguishable": "neither faster nor slower"}


@final
@dataclass(frozen=True)
class Variant:
    """A file, what it scores, and what it takes on this machine.

    agreement: share of test images for which it predicts what the file in floats does, which was compared with PyTorch.
    """

    name: str
    path: Path
    graph: str
    measurement: Measurement
    confirm: Mapping[str, float]
    test: Mapping[str, float]
    agreement: float

    @property
    def figures(self) -> dict[str, float]:
        """What a structure costs, by the names that constraints use."""
        latency = self.measurement.latency
        found = {"latency_ms": latency.middle, "latency_ms_low": latency.low, "latency_ms_high": latency.high}
        peak = self.measurement.peak_bytes
        return found | {"file_bytes": float(self.measurement.file_bytes)} | ({"peak_memory": float(peak)} if peak is not None else {})

    def record(self) -> dict[str, Any]:
        """What the manifest says of it."""
        latency = self.measurement.latency
        times = {"ms": latency.middle, "low": latency.low, "high": latency.high, "steady": self.measurement.steady}
        scores = {"test": dict(self.test), "confirm": dict(self.confirm), "agreement": self.agreement}
        identity = {"sha256": files.digest(self.path), "bytes": self.path.stat().st_size, "graph": self.graph}
        return {**identity, "latency": times, "peak_memory": self.measurement.peak_bytes, **scores}


def variant(name: str, path: Path, task: Task, dataset: Dataset, expected: NDArray[Any], measurement: Measurement) -> Variant:
    """Score a file. expected: logits on the test images, to agree with. measurement: what the file takes."""
    graph = graph_hash(path)
    logits = {split: answers(path, dataset.as_bytes(split)) for split in ("confirm", "test")}
    targets = {split: torch.from_numpy(np.array(dataset.targets(split))) for split in logits}
    scores = {split: task.metrics(torch.from_numpy(found), targets[split]) for split, found in logits.items()}
    agreement = float((logits["test"].argmax(1) == expected.argmax(1)).mean())
    return Variant(name, path, graph, measurement, scores["confirm"], scores["test"], agreement)


def quantized(model: Path, path: Path, dataset: Dataset) -> str | None:
    """Write the int8 variant of a file, calibrated on `fit` alone; returns why there is none, or None."""
    try:
        quantize(model, path, [dataset.as_bytes("fit")[:_CALIBRATION]])
    except QuantizeError as error:
        return str(error)
    return None


def choose(floats: Variant, int8: Variant | None, metric: str, sign: int, loss: float) -> tuple[Variant, str]:
    """The variant to ship, and why: int8 where it is faster on this machine and loses at most `loss` of the metric on `confirm`."""
    if int8 is None:
        return floats, "floats: no int8 variant was made"
    verdict = verdict_between(int8.measurement, floats.measurement)
    times = int8.measurement.ratio.middle / floats.measurement.ratio.middle
    lost = sign * (floats.confirm.get(metric, 0.0) - int8.confirm.get(metric, 0.0))
    words = f"int8 is {_WORDS[verdict]} here ({times:.2f} times the time of floats) and {_changed(lost)} of {metric} on confirm"
    if verdict == "faster" and lost <= loss:
        return int8, f"int8: {words}"
    return floats, f"floats: {words}"


def _changed(lost: float) -> str:
    return f"gains {-lost:.4f}" if lost < 0 else f"loses {lost:.4f}"
