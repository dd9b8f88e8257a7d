"""Every candidate of a search as a file, in one archive that is timed on another device, and what tells the files apart afterwards."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from export import benchmark, files
from export.archive import arrays, zipped
from export.bundle import manifest_of
from export.check import check, require
from export.graph_hash import graph_hash
from export.to_onnx import to_onnx
from export.typical import with_typical_weights
from flows import packed
from flows.costing import ROUGH
from flows.packed import Packed
from flows.provenance import described
from flows.settings import Settings
from nas import atomic
from nas.components import restore
from nas.data.dataset import Dataset
from nas.process_start import pin_threads
from nas.spaces.base import SearchSpace
from nas.tasks.base import Task

README = """\
Times the candidates of a search on this device, in turns; needs Python 3.10 or newer, numpy and onnxruntime:

    python benchmark.py --batch-sizes {batch_size} --threads {threads} --output device.json

The weights in models/ are made up: the files take as long as the trained ones, and answer nonsense. index.json says which is which.
Bring device.json back to the project:

    nasflow rank --measured device.json
"""
WEIGHTS = "typical, for timing only"
_EXAMPLES = 16


@final
@dataclass(frozen=True)
class _Job:
    """What all candidates have in common; `task` is bound to the data."""

    space: SearchSpace
    task: Task
    dataset: Dataset
    settings: Settings
    search: str

    @property
    def examples(self) -> NDArray[np.uint8]:
        return self.dataset.as_bytes("fit")[:_EXAMPLES]


def pack(root: Path, settings: Settings, path: Path) -> int:
    """Write all candidates of the last search into a zip file at `path`, and note their digests; returns how many.

    Inside are models/trial-N.onnx with typical weights, real inputs, benchmark.py and index.json. Equal inputs give equal bytes.

    Raises ValueError when a candidate does not export to the graph that the search measured, ExportError or ParityError when it cannot be
    exported, DiskError when the disk does not take it.
    """
    pin_threads()
    best, offered = packed.search_of(root)
    dataset = Dataset.open(root / "results" / "prepare", splits=("fit",))
    task = settings.prepare.task.bind(dataset.description)
    job = _Job(restore("spaces", best["space"]), task, dataset, settings, best["search"])
    models, index = {}, {}
    with tempfile.TemporaryDirectory(prefix="nasflow-pack-") as place:
        for candidate in offered:
            file = Path(place) / f"trial-{candidate['trial']}.onnx"
            _export(candidate, job, file)
            models[f"models/{file.name}"] = file.read_bytes()
            index[file.name] = _entry(candidate, file)
        inputs = {port["name"]: job.examples for port in manifest_of(file)["inputs"]}
    target = settings.target.model_dump()
    record = {
        "format": packed.FORMAT,
        "search": best["search"],
        "weights": WEIGHTS,
        "models": {name: asdict(entry) for name, entry in index.items()},
    }
    contents = {
        **models,
        "models/test_vectors.npz": arrays(inputs),
        "index.json": (json.dumps(record, indent=2, sort_keys=True) + "\n").encode(),
        "benchmark.py": Path(benchmark.__file__).read_bytes(),
        "README.md": README.format(batch_size=target["batch_size"], threads=target["threads"]).encode(),
    }
    content = zipped({f"candidates/{name}": data for name, data in contents.items()})
    packed.remember(root, best["search"], list(index.values()))  # first, so that no archive goes about that nobody knows
    atomic.write(path, lambda file: file.write(content))
    return len(index)


def _export(candidate: Mapping[str, Any], job: _Job, path: Path) -> None:
    """Write one candidate as the file that it would ship as, but for its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = job.space.build(candidate["architecture"], job.task)
    module = with_typical_weights(job.task.deployable(network)).eval()
    metadata = {
        **described(job.space, job.task, job.dataset.description),
        "architecture": json.dumps(candidate["architecture"], sort_keys=True),
        "canonical": candidate["canonical"],
        "search": job.search,
        "trial": str(candidate["trial"]),
        "weights": WEIGHTS,
    }
    to_onnx(module, job.task.example(2), path, outputs=job.task.output_names, metadata=metadata, exporter=job.settings.export.exporter)
    parity, _ = check(path, module, job.examples[:8], tolerance=ROUGH)
    require(parity)


def _entry(candidate: Mapping[str, Any], path: Path) -> Packed:
    trial, measured, graph = candidate["trial"], candidate["graph"], graph_hash(path)
    if measured is not None and measured != graph:
        raise ValueError(
            f"trial {trial} exports to the graph {graph[:16]}, but the search measured {measured[:16]}: code, libraries or settings "
            "changed since, so search again with `nasflow run search`"
        )
    return Packed(trial, candidate["canonical"], graph, files.digest(path), path.stat().st_size)
