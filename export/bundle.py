"""The folder that ships: the measured ONNX file, what is known about it, and what runs, checks, times, shows and serves it."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np
import onnx
from numpy.typing import NDArray

from export import files, triton
from export.archive import arrays, zipped
from export.card import card
from export.machine import Target
from export.session import MeasureError, open_session, try_once
from export.web.page import PageError, no_page, page
from export.web.runtime import Runtime

SCRIPTS = ("predict.py", "benchmark.py")
ARCHIVE, MANIFEST = "bundle.zip", "manifest.json"
Port = dict[str, Any]
Array = NDArray[np.generic]


class BundleError(RuntimeError):
    """The bundle would not be what was measured; the message says what, the rule and the cure."""


@final
@dataclass(frozen=True)
class Extras:
    """What a bundle may hold besides. runtime: `export.web.runtime.runtime()`, for a page that runs the model in a browser; None for a
    bundle without the page. files: further files, by path."""

    runtime: Runtime | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


def write_bundle(
    folder: Path,
    *,
    model: Path,
    manifest: Mapping[str, Any],
    examples: Array | None = None,
    tolerance: float = 1e-4,
    extras: Extras | None = None,
) -> None:
    """Write the bundle into an existing `folder`: all of it, or, when something is refused or cannot be written, nothing.

    model: the file that was checked and measured; its bytes are copied as they are. manifest: `manifest_of(model)` and
    whatever else is known, as JSON values; its "sha256" must be the model's; "files" (SHA-256 by path) is added. examples: a few
    real inputs, N x H x W x C as the model takes them; the file's own answers to them are stored, and verify.py compares with
    those, up to `tolerance`, see there. extras: what else the bundle holds. Equal inputs give equal bytes.

    Written are model.onnx, predict.py, benchmark.py, README.md (a model card), labels.txt where the model names its classes,
    triton/ (a model repository), web/ (the page, or a note that there is none), test_vectors.npz and verify.py where there are
    examples, all of these in bundle.zip too, and manifest.json last: its presence says that the others are there. Other files of the
    folder stay.

    Raises BundleError when the manifest belongs to another file or is not JSON, the folder is missing, the model does not run on
    the examples, a page cannot show it, or Triton has no word for its types; OSError when the disk refuses.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder, but a bundle is written into an existing one: create it first")
    content = model.read_bytes()
    if manifest.get("sha256") != files.digest(model):
        raise BundleError(f"the manifest's sha256 is {manifest.get('sha256')!r}, not that of {model.name}: start from manifest_of(model)")
    _json(manifest)
    vectors = {} if examples is None else _vectors(content, examples, tolerance)
    contents = {**(extras or Extras()).files, **_contents(content, manifest, vectors, extras.runtime if extras else None)}
    digests = {name: files.digest_of(data) for name, data in contents.items()}
    contents[MANIFEST] = _json({**manifest, "files": digests}).encode()
    contents[ARCHIVE] = zipped({f"bundle/{name}": data for name, data in contents.items()})
    _put(folder, contents)


def _contents(content: bytes, manifest: Mapping[str, Any], vectors: Mapping[str, Array], runtime: Runtime | None) -> dict[str, bytes]:
    """Every file by its path, without the manifest and the archive."""
    here = Path(__file__).parent
    classes = _classes(manifest)
    made = {"model.onnx": content, **{name: (here / name).read_bytes() for name in SCRIPTS}}
    if classes:
        made[triton.LABELS] = triton.labels(classes).encode()
    count = {}
    if vectors:
        made["test_vectors.npz"] = arrays(vectors)
        made["verify.py"] = (here / "verify.py").read_bytes()
        count["vectors"] = len(vectors[manifest["inputs"][0]["name"]])
    made["README.md"] = card({"classes": classes, **manifest, **count, "page": runtime is not None}).encode()
    try:
        repository = triton.repository(content, manifest, classes)
        web = page(content, manifest, classes, vectors, runtime) if runtime else no_page()
    except (triton.TritonError, PageError) as error:
        raise BundleError(str(error)) from error
    return made | {f"triton/{name}": data for name, data in repository.items()} | {f"web/{name}": data for name, data in web.items()}


def _classes(manifest: Mapping[str, Any]) -> Sequence[str]:
    """The names of the classes, from the manifest or the file's metadata; empty when neither tells."""
    if "classes" in manifest:
        return [str(name) for name in manifest["classes"]]
    try:
        found = json.loads(manifest["metadata"].get("classes", "[]"))
    except ValueError as error:
        raise BundleError("the model's metadata name classes that are not a JSON list: export it again") from error
    return [str(name) for name in found]


def _vectors(content: bytes, examples: Array, tolerance: float) -> dict[str, Array]:
    """The examples by the input's name, the file's answers by the outputs' names, and the tolerance."""
    try:
        session = open_session(content, Target())
        feed = {session.get_inputs()[0].name: np.ascontiguousarray(examples)}
        try_once(session, feed)
    except MeasureError as error:
        raise BundleError(f"the model does not run on the examples: {error}") from error
    answers = dict(zip([output.name for output in session.get_outputs()], session.run(None, feed), strict=True))
    if not len(examples) or not all(np.isfinite(answer).all() for answer in answers.values()):
        raise BundleError(f"the answers to {len(examples)} examples are no test of the file: give at least one with finite answers")
    return {**feed, **answers, "tolerance": np.array(tolerance)}


def _put(folder: Path, contents: Mapping[str, bytes]) -> None:
    """All files at once as far as a file system can: written aside first, so that a full disk is met before anything changes."""
    aside = Path(tempfile.mkdtemp(prefix=".bundle.", dir=folder))
    try:
        for name, data in contents.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            files.write(aside / name, data)
        for name in contents:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        # A kill below leaves a folder without a manifest, which is no bundle.
        (folder / MANIFEST).unlink(missing_ok=True)
        for name in (*(name for name in contents if name != MANIFEST), MANIFEST):
            (aside / name).replace(folder / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


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
