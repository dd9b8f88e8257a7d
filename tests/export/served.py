"""Bundles to serve: the sample classifier, and a network that takes three inputs and cannot run on all of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from export.bundle import manifest_of, write_bundle

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
TABLE = np.array([[1.0], [2.0], [4.0], [8.0]], np.float32)


def bundle(folder: Path, model: Path, **known: Any) -> Path:
    """The bundle of the file `model` in a new folder."""
    folder.mkdir()
    write_bundle(folder, model=model, manifest={**manifest_of(model), **known})
    return folder


def lookup(path: Path, batch: str | int = "batch", extra: Sequence[Any] = ()) -> Path:
    """An ONNX file: found = scale * TABLE[place] where keep, else 0; it fails for a place out of range of the table.

    Inputs: place int64 N, scale float32 N x 2, keep bool N x 2. extra: nodes that make other outputs, which nobody asks for.
    """
    nodes = [
        helper.make_node("Gather", ["table", "place"], ["factor"]),
        helper.make_node("Mul", ["scale", "factor"], ["product"]),
        helper.make_node("Where", ["keep", "product", "nothing"], ["found"]),
        *extra,
    ]
    inputs = [
        helper.make_tensor_value_info("place", TensorProto.INT64, [batch]),
        helper.make_tensor_value_info("scale", TensorProto.FLOAT, [batch, 2]),
        helper.make_tensor_value_info("keep", TensorProto.BOOL, [batch, 2]),
    ]
    outputs = [helper.make_tensor_value_info("found", TensorProto.FLOAT, [batch, 2])]
    constants = [numpy_helper.from_array(TABLE, "table"), numpy_helper.from_array(np.zeros(1, np.float32), "nothing")]
    graph = helper.make_graph(nodes, "lookup", inputs, outputs, constants)
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString())
    return path


def tensor(name: str, datatype: str, array: Any, **more: Any) -> dict[str, Any]:
    """A tensor of a request as JSON, flat."""
    values = np.asarray(array)
    return {"name": name, "datatype": datatype, "shape": list(values.shape), "data": values.ravel().tolist(), **more}


def images(array: Any, **more: Any) -> dict[str, Any]:
    """A request to the sample classifier."""
    return {"inputs": [tensor("images", "UINT8", array)], **more}


def looked_up(place: Sequence[int], scale: Sequence[Sequence[float]], keep: Sequence[Sequence[bool]]) -> dict[str, Any]:
    """A request to the network of `lookup`."""
    return {"inputs": [tensor("place", "INT64", place), tensor("scale", "FP32", scale), tensor("keep", "BOOL", keep)]}


def encoded(request: Mapping[str, Any], *raw: bytes) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request with raw tensors behind its JSON."""
    head = json.dumps(request).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    return head + b"".join(raw), headers
