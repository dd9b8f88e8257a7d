"""export: the trained winner becomes an ONNX file, which is checked against PyTorch on all test data before it is published.

The file takes images of bytes, whatever the data are stored as. Floats are rounded to bytes for the check and the scores, so that
these are true of what a user gives the file; the manifest holds the scores before and after.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from export.bundle import Extras, manifest_of, write_bundle
from export.check import Parity, ParityError, check, require
from export.to_onnx import to_onnx
from export.web.runtime import runtime
from flows import console, environment, gate, records, results, tables
from flows.deployed import Files
from flows.elsewhere import Elsewhere
from flows.making import provenance
from flows.provenance import descent, described
from flows.run_folder import publish
from flows.settings import Settings
from flows.variants import FLOAT
from nas import atomic
from nas.components import restore
from nas.data.dataset import Dataset
from nas.process_start import pin_threads
from nas.tasks.base import Task

_WINNER, _WEIGHTS = "architecture.json", "model.safetensors"


def run(root: Path, settings: Settings, record: dict[str, Any]) -> None:
    """Export, check, score and time the file and its int8 variant, and publish the one that ships.

    Raises ParityError when ONNX Runtime and PyTorch disagree on the test data, ExportError when the network cannot be exported,
    GateError when the file misses what the search demanded, RuntimeMissingError when a page is asked for and what runs the model there
    cannot be had; nothing is published then.
    """
    pin_threads()
    browser = runtime() if settings.export.web else None
    dataset = Dataset.open(root / "results" / "prepare", ["fit", "confirm", "test"])
    trained = root / "results" / "train"
    winner, details = winner_of(trained), records.read(trained / "details.json", "shipped")
    made_in = {"environments": [{"environment": environment.present()}]}
    with (
        publish(root, "export", record | made_in) as folder,
        console.progress(root, "export", 3) as report,
        tempfile.TemporaryDirectory(prefix="nasflow-export-") as place,
    ):
        task, module = module_of(winner, trained, dataset)
        model, metadata = Path(place) / "model.onnx", provenance_of(winner, trained, dataset)
        to_onnx(module, task.example(2), model, outputs=task.output_names, metadata=metadata, exporter=settings.export.exporter)
        report(1, f"{model.stat().st_size / 1024:.0f} KiB written")
        also = settings.target.batch_size
        parity, logits = check(model, module, dataset.as_bytes("test"), tolerance=settings.export.tolerance, also=also)
        if not parity.passed:
            _refuse(root, winner, parity, settings.export.measured)
        report(2, f"same predictions as PyTorch on {parity.examples} test images")
        files = Files(root, settings, winner, task, dataset)
        ships, why = files.ships(model, logits)
        held = gate.require(root, winner, files.metrics(ships), files.made[FLOAT].graph, settings.export.measured)
        report(3, f"{ships.name}, {ships.measurement.latency.middle:.3g} ms")
        manifest = {**manifest_of(ships.path), **_checked(parity, dataset), **_scores(ships.test, details["shipped"], dataset)}
        manifest |= {"data": _data(dataset), **_retrained(details), **files.record(ships, why, held)}
        more = {**files.others(ships), **provenance(manifest, winner, dataset.description, record)}
        examples, tolerance, extras = _examples(dataset), settings.export.tolerance, Extras(browser, more)
        write_bundle(folder, model=ships.path, manifest=manifest, examples=examples, tolerance=tolerance, extras=extras)
        atomic.write_json(folder / "metrics.json", _headline(manifest))
        tables.write(folder / "latency.csv", ["variant", "ms", "low", "high", "ships"], _latencies(manifest))
        atomic.write_json(folder / "summary.json", console.summary("Exported model", _rows(manifest, ships.test, browser is not None)))


def _headline(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The few numbers to compare between experiments; the rest is in the manifest."""
    told = {"bytes": manifest["bytes"], "latency_ms": manifest["latency"]["ms"], "agreement": manifest["parity"]["agreement"]}
    return {**told, "test": manifest["test"]}


def _latencies(manifest: Mapping[str, Any]) -> list[list[Any]]:
    """What each variant takes, as rows of a table for DVC to draw."""
    taken = [(name, found["latency"], "yes" if name == manifest["ships"] else "no") for name, found in manifest["variants"].items()]
    return [[name, took["ms"], took["low"], took["high"], ships] for name, took, ships in taken]


def _refuse(root: Path, winner: Mapping[str, Any], parity: Parity, measured: Elsewhere | None) -> None:
    """Say which figures parity failed by, and who comes next."""
    try:
        require(parity)
    except ParityError as error:
        gate.refuse(root, winner, [str(error)], measured)


def winner_of(trained: Path) -> dict[str, Any]:
    """What train says of the network that it published. Raises RecordError."""
    return records.read(trained / _WINNER, "architecture", "canonical", "space", "task", "search", "trial", "seed", "objective", "metric")


def module_of(winner: Mapping[str, Any], trained: Path, dataset: Dataset) -> tuple[Task, nn.Module]:
    """The deployable module, from what train published and nothing else. Raises ValueError when that does not belong together."""
    path = trained / _WEIGHTS
    try:
        task = restore("tasks", winner["task"]).bind(dataset.description)
        network = restore("spaces", winner["space"]).build(winner["architecture"], task)
        network.load_state_dict(load_file(path))
    except FileNotFoundError as error:
        raise records.MissingError(f"{records.shown(path)} is missing: {records.PULL}") from error
    except (LookupError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        both = f"{records.shown(trained / _WINNER)} and {_WEIGHTS} beside it"
        raise ValueError(f"{both} do not belong together, since one was altered or made again: {records.RESTORE}") from error
    return task, task.deployable(network).eval()


def provenance_of(winner: Mapping[str, Any], trained: Path, dataset: Dataset) -> dict[str, str]:
    """What the file says of where it comes from."""
    space, task = restore("spaces", winner["space"]), restore("tasks", winner["task"])
    return {
        **described(space, task, dataset.description),
        "architecture": json.dumps(winner["architecture"], sort_keys=True),
        "canonical": winner["canonical"],
        "search": winner["search"],
        "trial": str(winner["trial"]),
        "seed": str(winner["seed"]),
        "weights_sha256": hashlib.sha256((trained / _WEIGHTS).read_bytes()).hexdigest(),
        **_made_by(winner),
    }


def _made_by(winner: Mapping[str, Any]) -> dict[str, str]:
    """The training and the descent of an architecture; results of versions that did not note them say nothing of them."""
    if "train" not in winner:
        return {}
    return {"train": winner["train"], **descent(winner["strategy"]["name"], winner["ancestors"])}


def _checked(parity: Parity, dataset: Dataset) -> dict[str, Any]:
    return {
        "classes": dataset.description.classes,
        "data_digest": dataset.description.digest,
        "parity": {
            "examples": parity.examples,
            "agreement": parity.agreement,
            "differing": parity.differing,
            "largest_difference": parity.largest_difference,
            "probability_difference": parity.probability_difference,
            "tolerance": parity.tolerance,
            "batch_sizes": list(parity.batch_sizes),
        },
    }


def _scores(scored: Mapping[str, float], trained: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """What the file scores on bytes, what the same weights scored on the stored data in train, and the first minus the second."""
    described = dataset.description
    return {
        "scored_on": {"inputs": "8-bit", "stored": described.input_dtype, "byte_range": list(described.byte_range)},
        "test": dict(scored),
        "test_as_trained": {name: trained[name] for name in scored},
        "test_difference": {name: value - trained[name] for name, value in scored.items()},
    }


def _data(dataset: Dataset) -> dict[str, Any]:
    """What the model card says of the data; where they lie is nobody else's business."""
    return {"source": dataset.description.source["name"], "counts": dataset.description.counts}


def _retrained(details: Mapping[str, Any]) -> dict[str, Any]:
    """What all trainings scored on the stored test data, not only the one that ships."""
    if "seeds" not in details:
        return {}
    return {"retrained": {"seeds": len(details["seeds"]), "mean": details["test"], "std": details["test_std"]}}


def _examples(dataset: Dataset) -> NDArray[np.uint8]:
    """The first test image of each class, at most 16 in all."""
    _, first = np.unique(np.array(dataset.targets("test")), return_index=True)
    return dataset.as_bytes("test")[np.sort(first)[:16]]


def _rows(manifest: Mapping[str, Any], scored: Mapping[str, float], page: bool) -> list[tuple[str, str]]:
    parity, inputs, coarser = manifest["parity"], manifest["scored_on"], manifest["ships"] != "float"
    black, white = inputs["byte_range"]
    name = next(iter(scored))
    before, difference = manifest["test_as_trained"][name], manifest["test_difference"][name]
    rounded = f"bytes 0..255 stand for {black:g}..{white:g}; {name} {scored[name]:.4f}, {before:.4f} before rounding ({difference:+.4f})"
    return [
        ("file", f"results/export/model.onnx, {manifest['bytes'] / 1024:.0f} KiB, sha256 {manifest['sha256'][:16]}"),
        ("scored as a file", ", ".join(f"{name} {value:.4f}" for name, value in scored.items())),
        *([] if inputs["stored"] == "uint8" else [("8-bit inputs", rounded)]),
        *([("in a browser", "results/export/web/index.html")] if page else []),
        ("latency", results.latency(manifest)),
        ("ships", manifest["why"]),
        *[(f"constraint on {name}", words) for name, words in manifest["constraints"].items()],
        (
            "parity of floats" if coarser else "parity",
            f"{parity['examples']} images, agreement {parity['agreement']:.4f}, logits within {parity['largest_difference']:.1e}",
        ),
    ]
