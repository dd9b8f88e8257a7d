"""The folder that ships: the measured ONNX file, what is known about it, and a script that runs it."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

from export import files

PREDICT = Path(__file__).with_name("predict.py")
Port = dict[str, Any]


class BundleError(RuntimeError):
    """The bundle would not be what was measured; the message says what, the rule and the cure."""


def write_bundle(folder: Path, *, model: Path, manifest: Mapping[str, Any]) -> None:
    """Write model.onnx, predict.py and, last, manifest.json into an existing `folder`.

    model: the file that was checked and measured; its bytes are copied as they are. manifest: `manifest_of(model)` and
    whatever else is known, as JSON values; its "sha256" must be the model's. Equal inputs give equal bytes.
    Raises BundleError when the manifest belongs to another file or is not JSON, or the folder is missing; OSError when
    the disk refuses.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder, but a bundle is written into an existing one: create it first")
    content = model.read_bytes()
    if manifest.get("sha256") != files.digest(model):
        raise BundleError(f"the manifest's sha256 is {manifest.get('sha256')!r}, not that of {model.name}: start from manifest_of(model)")
    text = _json(manifest)
    files.write(folder / "model.onnx", content)
    files.write(folder / "predict.py", PREDICT.read_bytes())
    # Last, because its presence says that the other two are there.
    files.write(folder / "manifest.json", text.encode())


def _json(manifest: Mapping[str, Any]) -> str:
    try:
        return json.dumps(manifest, sort_keys=True, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BundleError(f"the manifest is not JSON ({error}): use text keys and finite numbers, text, lists and mappings only") from error


def manifest_of(path: Path) -> dict[str, Any]:
    """What the ONNX file at `path` says about itself, and the versions of what is installed here.

    Keys: sha256 (hexadecimal), bytes, inputs and outputs (name, dtype, shape; an open dimension is its name), opset,
    metadata, versions (onnx, onnxruntime, torch), producer (name, version).
    Raises OSError when there is no file, google.protobuf's DecodeError when it is not ONNX.
    """
    model = onnx.load(path)
    return {
        "sha256": files.digest(path),
        "bytes": path.stat().st_size,
        "inputs": [_port(value) for value in model.graph.input],
        "outputs": [_port(value) for value in model.graph.output],
        "opset": next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        "metadata": {entry.key: entry.value for entry in model.metadata_props},
        "versions": {name: version(name) for name in ("onnx", "onnxruntime", "torch")},
        "producer": {"name": model.producer_name, "version": model.producer_version},
    }


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    shape = [part.dim_value if part.HasField("dim_value") else part.dim_param for part in tensor.shape.dim]
    return {"name": value.name, "dtype": onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, "shape": shape}
