"""A static page that runs the model in a browser: no server, no network, also when it is opened from disk.

A page from disk may not fetch files, so that model and runtime are text in scripts of their own: model.js and runtime.js. The other
files are the same in every bundle.
"""

import base64
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from deflate import gzip_compress
from numpy.typing import NDArray

from export.web.runtime import VERSION, Runtime

STATIC = ("index.html", "style.css", "classifier.js", "images.js", "drawing.js", "page.js")
README, NOTICES = "README.md", "ThirdPartyNotices.txt"
LICENCE = "LICENSE.onnxruntime-web.txt"
COMPRESSION = 9
Array = NDArray[np.generic]


class PageError(RuntimeError):
    """A page cannot run this model; the message says why and what to do about it."""


def page(
    content: bytes, manifest: Mapping[str, Any], classes: Sequence[str], vectors: Mapping[str, Array], runtime: Runtime
) -> dict[str, bytes]:
    """Every file of the page by its path; equal arguments give equal bytes.

    content: the ONNX file, which takes uint8 N x H x W x 1 or 3. manifest: `manifest_of` it. classes: names, or none. vectors: examples
    and the file's answers to them by the names of input and outputs, and "tolerance"; the page offers the examples, and compares.

    Raises PageError when the model does not take such images, or answers with anything but a number per class.
    """
    here = Path(__file__).parent
    made = {name: (here / name).read_bytes() for name in STATIC}
    made["model.js"] = _script("MODEL", _model(content, manifest, classes, vectors))
    binary = bytes(gzip_compress(runtime.binary, COMPRESSION))
    made["runtime.js"] = _script("RUNTIME", {"version": VERSION, "script": _text(runtime.script), "binary": _text(binary)})
    made[LICENCE] = (here / LICENCE).read_bytes()
    notices = importlib.resources.files("onnxruntime").joinpath(NOTICES)
    if notices.is_file():
        made[NOTICES] = notices.read_bytes()
    return made | {README: _PRESENT.encode()}


def no_page() -> dict[str, bytes]:
    """What is in the place of a page that was not asked for."""
    return {README: _ABSENT.encode()}


def _model(content: bytes, manifest: Mapping[str, Any], classes: Sequence[str], vectors: Mapping[str, Array]) -> dict[str, Any]:
    """What the scripts know of the model. Probabilities are taken where the model gives them, as predict.py does."""
    port = manifest["inputs"][0]
    names = {output["name"]: output["shape"] for output in manifest["outputs"]}
    output = "probabilities" if "probabilities" in names else next(iter(names))
    shape = port["shape"]
    if port["dtype"] != "uint8" or len(shape) != 4 or not all(isinstance(size, int) for size in shape[1:]) or shape[3] not in (1, 3):
        found = f"{port['dtype']} {' x '.join(str(size) for size in shape)}"
        raise PageError(f"the model takes {found}, but a page needs uint8 N x H x W x 1 or 3: write the bundle without a page")
    if len(names[output]) != 2 or not isinstance(names[output][1], int) or len(classes) not in (0, names[output][1]):
        found = f"{output} {' x '.join(str(size) for size in names[output])} for {len(classes)} names"
        raise PageError(f"the model answers with {found}, but a page needs N x classes: write the bundle without a page")
    examples = vectors.get(port["name"], np.zeros((0, *shape[1:]), np.uint8))
    answers = vectors.get(output, np.zeros((0, names[output][1]), np.float32))
    return {
        "bytes": len(content),
        "sha256": manifest["sha256"],
        "input": {"name": port["name"], "height": shape[1], "width": shape[2], "channels": shape[3]},
        "output": {"name": output, "logits": output != "probabilities"},
        "classes": list(classes) or [str(index) for index in range(names[output][1])],
        "examples": {"count": len(examples), "pixels": _text(np.ascontiguousarray(examples, np.uint8).tobytes())},
        "answers": _text(np.ascontiguousarray(answers, "<f4").tobytes()),
        "tolerance": float(vectors.get("tolerance", np.array(1e-4))),
        "content": _text(content),
    }


def _script(name: str, value: Mapping[str, Any]) -> bytes:
    return f'"use strict";\nconst {name} = {json.dumps(value, sort_keys=True)};\n'.encode()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


_PRESENT = f"""# The model in a browser

Open `index.html` in a browser: from disk, by a double click, or from any web server. Draw, drop an image, or pick an example; the
probabilities follow. Nothing is fetched and nothing is sent: the page forbids itself the network.

It needs a browser of 2023 or newer: Chrome or Edge 91, Firefox 113, Safari 16.4.

| file | what it is |
|---|---|
| `index.html`, `style.css`, `page.js`, `drawing.js`, `images.js`, `classifier.js` | the page |
| `model.js` | the ONNX file beside this folder, byte for byte, as text, and the examples of `test_vectors.npz` |
| `runtime.js` | onnxruntime-web {VERSION}, as text |
| `{LICENCE}`, `{NOTICES}` | licence of onnxruntime-web, and notices on what is inside it |
"""

_ABSENT = """# The model in a browser

This bundle was made without the page: `export.web` is false. With `nasflow run --set export.web=true` it is made with one.
"""
