"""export: the trained winner becomes an ONNX file, which is checked against PyTorch on all test data before it is published."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from export.bundle import manifest_of, write_bundle
from export.check import Parity, check, require
from export.to_onnx import to_onnx
from flows import console
from flows.components import restore
from flows.run_folder import publish
from flows.settings import Settings
from nas import atomic
from nas.data.dataset import Dataset
from nas.tasks.base import Task
from nas.workers import pin_threads


def run(root: Path, settings: Settings, record: dict[str, Any]) -> None:
    """Export, check and publish.

    Raises ParityError when ONNX Runtime and PyTorch disagree on the test data, ExportError when the network cannot be
    exported; nothing is published then.
    """
    pin_threads()
    dataset = Dataset.open(root / "results" / "prepare")
    trained = root / "results" / "train"
    winner = json.loads((trained / "architecture.json").read_text())
    task, module = _module(winner, trained, dataset)
    with publish(root, "export", record) as folder, console.progress(root, "export", 2) as report:
        model = folder / "model.onnx"
        provenance = _provenance(winner, trained, dataset)
        to_onnx(module, task.example(2), model, outputs=task.output_names, metadata=provenance, exporter=settings.export.exporter)
        report(1, f"{model.stat().st_size / 1024:.0f} KiB written")
        parity, logits = check(model, module, dataset.inputs("test"), tolerance=settings.export.tolerance)
        require(parity)
        report(2, f"same predictions as PyTorch on {parity.examples} test images")
        scored = task.metrics(torch.from_numpy(np.asarray(logits)), torch.from_numpy(np.array(dataset.targets("test"))))
        manifest = _manifest(model, parity, scored, dataset)
        write_bundle(folder, model=model, manifest=manifest)
        atomic.write_json(folder / "metrics.json", {"bytes": manifest["bytes"], "parity": manifest["parity"], "test": scored})
        atomic.write_json(folder / "summary.json", console.summary("Exported model", _rows(manifest, scored)))


def _module(winner: Mapping[str, Any], trained: Path, dataset: Dataset) -> tuple[Task, nn.Module]:
    """The deployable module, from what train published and nothing else."""
    task = restore("tasks", winner["task"]).bind(dataset.description)
    network = restore("spaces", winner["space"]).build(winner["architecture"], task)
    network.load_state_dict(load_file(trained / "model.safetensors"))
    return task, task.deployable(network).eval()


def _provenance(winner: Mapping[str, Any], trained: Path, dataset: Dataset) -> dict[str, str]:
    described = dataset.description
    return {
        "classes": json.dumps(described.classes),
        "architecture": json.dumps(winner["architecture"], sort_keys=True),
        "canonical": winner["canonical"],
        "space": json.dumps(winner["space"], sort_keys=True),
        "task": json.dumps(winner["task"], sort_keys=True),
        "search": winner["search"],
        "trial": str(winner["trial"]),
        "seed": str(winner["seed"]),
        "data_digest": described.digest,
        "weights_sha256": hashlib.sha256((trained / "model.safetensors").read_bytes()).hexdigest(),
        "nasflow": version("nasflow"),
    }


def _manifest(model: Path, parity: Parity, scored: Mapping[str, float], dataset: Dataset) -> dict[str, Any]:
    return {
        **manifest_of(model),
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
        "test": dict(scored),
    }


def _rows(manifest: Mapping[str, Any], scored: Mapping[str, float]) -> list[tuple[str, str]]:
    parity = manifest["parity"]
    return [
        ("file", f"results/export/model.onnx, {manifest['bytes'] / 1024:.0f} KiB, sha256 {manifest['sha256'][:16]}"),
        ("scored as a file", ", ".join(f"{name} {value:.4f}" for name, value in scored.items())),
        ("parity", f"{parity['examples']} images, agreement {parity['agreement']:.4f}, logits within {parity['largest_difference']:.1e}"),
    ]
