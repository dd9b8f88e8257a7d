"""A project in which only the released model matters: prepared digits, and exported linear classifiers of chosen quality."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export import files
from flows.released import Decision
from nas.data.dataset import Dataset
from nas.data.prepare import Splits, prepare
from nas.data.sources.digits import Digits

PIXELS, CLASSES = 64, 10
Weights = NDArray[np.float32]


def make_released_project(root: Path) -> None:
    """Digits in results/prepare, and what train leaves for the gate; nothing is exported yet."""
    (root / "dvc.yaml").write_text("stages: {}\n")
    prepare(Digits(), Splits(), root / "results" / "prepare", task="image_classification", root=root)
    trained = root / "results" / "train"
    trained.mkdir()
    demand(root)
    (trained / "lineage.json").write_text(json.dumps({"params": {"train": {"use_confirm": False}}}))


def demand(root: Path, metric: str = "accuracy", **constraints: str) -> None:
    """Set the objective of the search that the exported model comes from."""
    objective = {"metrics": [metric], "constraints": constraints}
    winner = {"objective": objective, "metric": metric.removeprefix("-"), "sign": -1 if metric.startswith("-") else 1}
    (root / "results/train/architecture.json").write_text(json.dumps({**winner, "task": {"name": "image_classification"}}))


def learned(root: Path, examples: int) -> Weights:
    """The linear classifier by least squares on so many examples of `fit`, 65 x 10: about 0.6 of confirm with 40, 0.93 with 900."""
    dataset = Dataset.open(root / "results" / "prepare", ["fit"])
    images = dataset.as_bytes("fit")[:examples].reshape(examples, PIXELS).astype(np.float32) / 255
    targets = np.eye(CLASSES, dtype=np.float32)[np.array(dataset.targets("fit"))[:examples]]
    inputs = np.hstack([images, np.ones((examples, 1), np.float32)])
    ridge = inputs.T @ inputs + 0.1 * np.eye(PIXELS + 1, dtype=np.float32)
    weights: Weights = np.linalg.solve(ridge, inputs.T @ targets).astype(np.float32)
    return weights


def export(root: Path, weights: Weights, **manifest: Any) -> str:
    """Put a classifier into results/export as the stage would, and return its SHA-256; `manifest` replaces what it says."""
    bundle = root / "results" / "export"
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.mkdir(parents=True)
    path = bundle / "model.onnx"
    onnx.save(_model(weights), path)
    latency = {"ms": 0.2, "low": 0.19, "high": 0.21}
    origin = {"search": "5" * 16, "trial": "3", "seed": "0", "data_digest": "d"}
    said = {"sha256": files.digest(path), "bytes": path.stat().st_size, "latency": latency, "metadata": origin}
    said |= {"classes": [str(digit) for digit in range(CLASSES)], "inputs": [{"name": "images", "shape": ["batch", 8, 8, 1]}]}
    (bundle / "manifest.json").write_text(json.dumps(said | manifest))
    (bundle / ".gitignore").write_text("/model.onnx\n")
    return str(said["sha256"])


def decided(root: Path, folder: Path) -> Decision:
    """What the record beside a model says, whose bytes are those that it names."""
    decision = Decision(**json.loads((folder / "decision.json").read_text()))
    assert files.digest(folder / "model.onnx") == decision.sha256
    assert not (folder / ".gitignore").exists()
    return decision


def _model(weights: Weights) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 8, 8, 1])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])]
    constants = [numpy_helper.from_array(weights[:-1] / 255, "weight"), numpy_helper.from_array(weights[-1], "bias")]
    graph = helper.make_graph(nodes, "linear", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
