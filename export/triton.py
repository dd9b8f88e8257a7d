"""A model repository for NVIDIA's Triton Inference Server: a folder for the model, its configuration, labels, and version 1.

The configuration is the text form of Triton's ModelConfig message (model_config.proto), made from what the ONNX file says of itself.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "int8": "TYPE_INT8",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
}
LABELS = "labels.txt"


class TritonError(ValueError):
    """Triton cannot serve a model with this interface; the message says what, the rule and the cure."""


def labels(classes: Sequence[str]) -> str:
    """The names of the classes, one per line; white space inside a name becomes one space."""
    return "".join(" ".join(name.split()) + "\n" for name in classes)


def repository(
    model: bytes, manifest: Mapping[str, Any], classes: Sequence[str], *, name: str = "model", largest_batch: int = 64, delay: int = 500
) -> dict[str, bytes]:
    """The files of the repository by path: NAME/config.pbtxt, NAME/1/model.onnx, and NAME/labels.txt when there are classes.

    manifest: what `export.bundle.manifest_of` says of the model. largest_batch: examples that the server may put together, when the
    first dimension of all inputs and outputs is open. delay: how long the first of them may wait for others, microseconds.
    Raises TritonError for a type that Triton lacks.
    """
    made = {f"{name}/1/model.onnx": model, f"{name}/config.pbtxt": config(manifest, bool(classes), name, largest_batch, delay).encode()}
    return made | ({f"{name}/{LABELS}": labels(classes).encode()} if classes else {})


def config(manifest: Mapping[str, Any], labelled: bool, name: str, largest_batch: int, delay: int) -> str:
    """config.pbtxt; with batching only when it can be: no server may batch along a dimension that is fixed."""
    ports = [*manifest["inputs"], *manifest["outputs"]]
    batched = all(port["shape"] and isinstance(port["shape"][0], str) for port in ports)
    lines = [f"name: {json.dumps(name)}", 'backend: "onnxruntime"', f"max_batch_size: {largest_batch if batched else 0}"]
    lines += [f"input [\n{_listed(manifest['inputs'], batched, labelled=False)}\n]"]
    lines += [f"output [\n{_listed(manifest['outputs'], batched, labelled)}\n]"]
    if batched:
        lines.append(f"dynamic_batching {{\n  max_queue_delay_microseconds: {delay}\n}}")
    return "\n".join(lines) + "\n"


def _listed(ports: Sequence[Mapping[str, Any]], batched: bool, labelled: bool) -> str:
    return ",\n".join(_port(port, batched, labelled) for port in ports)


def _port(port: Mapping[str, Any], batched: bool, labelled: bool) -> str:
    if port["dtype"] not in TYPES:
        raise TritonError(f"{port['name']} is {port['dtype']}, but Triton takes {', '.join(TYPES)}: export another type")
    shape = [size if isinstance(size, int) else -1 for size in port["shape"][batched:]]
    lines = [f"name: {json.dumps(port['name'])}", f"data_type: {TYPES[port['dtype']]}", f"dims: [ {', '.join(map(str, shape or [1]))} ]"]
    if not shape:
        lines.append("reshape { shape: [ ] }")  # Triton has no tensors without dimensions
    if labelled:
        lines.append(f'label_filename: "{LABELS}"')
    return "  {\n" + "\n".join(f"    {line}" for line in lines) + "\n  }"
