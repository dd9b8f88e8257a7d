"""What a network costs as a file, known by its structure: exported with typical weights before anybody trains it, and measured once."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from export import files
from export.check import check, require
from export.figures import FIGURES, VARIANTS
from export.graph_hash import graph_hash
from export.machine import Target, this_machine
from export.measure import Measurement, measure
from export.measurements import Measurements
from export.peak_memory import peak_memory
from export.quantize import quantize
from export.quiet import machine_quiet
from export.session import MeasureError
from export.to_onnx import to_onnx
from export.typical import with_typical_weights

FORMAT = 1
QUIET_SECONDS = 180.0
"""To wait for the machine before one timing."""
TIMINGS = 2 * len(VARIANTS)
"""So many at most for one structure: one for each variant, repeated where it is doubtful."""


@final
@dataclass(frozen=True)
class Costing:
    """How structures are exported and measured. folder: where measurements are kept; seconds: for the timing of one file."""

    target: Target
    exporter: str
    tolerance: float
    folder: Path
    seconds: float = 0.3


@final
@dataclass(frozen=True)
class Subject:
    """A network to be measured. make: the module that ships, with any weights. metadata: as long as those of the file that will ship.

    examples: real inputs, N x H x W x C as the module takes them, for parity and to calibrate the int8 variant; see `quantize`.
    """

    make: Callable[[], nn.Module]
    example: Tensor
    outputs: tuple[str, ...]
    metadata: dict[str, str]
    examples: NDArray[np.uint8]


@final
@dataclass(frozen=True)
class Known:
    """What is kept of a variant of a structure: its graph's hash and the bytes of its file."""

    graph: str
    file_bytes: int


def figures(key: str, subject: Subject, costing: Costing, wanted: frozenset[str]) -> dict[str, float]:
    """Return the figures of a structure that are `wanted`, by name; latencies with their interval.

    key: names everything that determines the graph. What was measured on this machine before costs a look into `costing.folder`; else
    the module is exported with typical weights, compared with its file and, alone on the machine, timed.

    Raises ExportError, ParityError, QuantizeError or MeasureError where the network cannot be shipped so, NotQuietError when the machine
    did not become quiet, OSError when the disk refuses.
    """
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="nasflow-structure-") as place:
        made = _Files(subject, costing, Path(place))
        for variant in VARIANTS:
            names = {name for name in FIGURES if f"{variant}{name}" in wanted}
            if names:
                path = partial(made.path, variant)
                known = _known(costing, key, variant, path)
                found |= {f"{variant}{name}": value for name, value in _figures(known, path, costing, names).items()}
    return found


def graph_of(key: str, costing: Costing, variant: str = "") -> str | None:
    """The hash of the graph that was measured for `key`, or None."""
    known = _read(_place(costing.folder, key, variant))
    return None if known is None else known.graph


def measured(name: str, path: Callable[[], Path], costing: Costing, *, memory: bool = False) -> Measurement:
    """The measurement that is kept under `name` for this machine and target, or else a new one, of the file that `path` gives.

    name: the graph's hash, or the file's digest for a measurement of its own. memory: whether `peak_bytes` is needed. Raises as `figures`.
    """
    kept = Measurements(costing.folder)

    def take() -> Measurement:
        with machine_quiet(timeout=QUIET_SECONDS):
            return measure(path(), costing.target, seconds=costing.seconds)

    found = kept.fetch(name, this_machine(), costing.target, take)
    if memory and found.peak_bytes is None:
        found = replace(found, peak_bytes=peak_memory(path(), costing.target))
        kept.keep(name, found)
    return found


@final
class _Files:
    """The variants of one subject as files, each made when it is first needed."""

    def __init__(self, subject: Subject, costing: Costing, folder: Path) -> None:
        self._subject, self._costing, self._folder = subject, costing, folder

    def path(self, variant: str) -> Path:
        path = self._folder / f"{variant}model.onnx"
        if not path.exists():
            if variant:
                quantize(self.path(""), path, [self._subject.examples])
            else:
                self._export(path)
        return path

    def _export(self, path: Path) -> None:
        subject, costing = self._subject, self._costing
        module = with_typical_weights(subject.make()).eval()
        to_onnx(module, subject.example, path, outputs=subject.outputs, metadata=subject.metadata, exporter=costing.exporter)
        parity, _ = check(path, module, subject.examples[:8], tolerance=costing.tolerance)
        require(parity)


def _figures(known: Known, path: Callable[[], Path], costing: Costing, names: set[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    if "file_bytes" in names:
        found["file_bytes"] = float(known.file_bytes)
    if names & {"latency_ms", "peak_memory"}:
        measurement = measured(known.graph, path, costing, memory="peak_memory" in names)
        latency = measurement.latency
        if "latency_ms" in names:
            found |= {"latency_ms": latency.middle, "latency_ms_low": latency.low, "latency_ms_high": latency.high}
        if "peak_memory" in names:
            found["peak_memory"] = _bytes_of(measurement)
    return found


def _bytes_of(measurement: Measurement) -> float:
    if measurement.peak_bytes is None:
        raise MeasureError("peak_memory cannot be measured on this system, which keeps no high-water mark: use Linux, or leave it out")
    return float(measurement.peak_bytes)


def _known(costing: Costing, key: str, variant: str, path: Callable[[], Path]) -> Known:
    """What is kept of the variant, or what its file says, which is kept then."""
    place = _place(costing.folder, key, variant)
    known = _read(place)
    if known is None:
        content = path().read_bytes()
        known = Known(graph_hash(content), len(content))
        place.parent.mkdir(parents=True, exist_ok=True)
        files.write(place, json.dumps({"format": FORMAT, **asdict(known)}, indent=1, sort_keys=True).encode())
    return known


def _read(place: Path) -> Known | None:
    """What was kept; None where nothing was, or nothing that can be used."""
    try:
        entry = json.loads(place.read_bytes())
        known = Known(entry["graph"], entry["file_bytes"])
        usable = entry["format"] == FORMAT and isinstance(known.graph, str) and isinstance(known.file_bytes, int)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return known if usable else None


def _place(folder: Path, key: str, variant: str) -> Path:
    name = hashlib.sha256(json.dumps([FORMAT, key, variant]).encode()).hexdigest()
    return folder / "structures" / f"{name}.json"
