"""The model of a bundle, opened: what it takes and gives in the words of the Open Inference Protocol, and one way to run it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from export.machine import Target
from export.serving import contents
from export.serving.errors import ServingError, first_line
from export.session import DTYPES, MeasureError, feed, open_session, try_once

Array = NDArray[np.generic]
DATATYPES: Mapping[str, str] = MappingProxyType(
    {
        "tensor(bool)": "BOOL",
        "tensor(uint8)": "UINT8",
        "tensor(int8)": "INT8",
        "tensor(int32)": "INT32",
        "tensor(int64)": "INT64",
        "tensor(float16)": "FP16",
        "tensor(float)": "FP32",
        "tensor(double)": "FP64",
    }
)
"""The protocol's words for onnxruntime's."""
VERSION = "1"
OPEN = -1


@final
@dataclass(frozen=True)
class Port:
    """An input or output. datatype: the protocol's word for `dtype`. shape: an open dimension is -1."""

    name: str
    datatype: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]


@final
@dataclass(frozen=True)
class Model:
    """A model that runs.

    name: what requests call it. sha256: of the file. batched: whether rows of several requests may be put into one run, because the
    first dimension of every input and output is open. classes: their names, empty when nobody tells. labelled: the place of the
    output, rows x classes, whose largest number names the class; None without classes.
    """

    name: str
    sha256: str
    session: onnxruntime.InferenceSession
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    batched: bool
    classes: tuple[str, ...] = ()
    labelled: int | None = None

    def run(self, batch: Mapping[str, Array]) -> list[Array]:
        """All outputs, in the order of `outputs`. Raises what onnxruntime raises."""
        found: list[Array] = self.session.run(None, dict(batch))
        return found


def load(folder: Path, *, name: str = "model", threads: int = 1, largest_batch: int = 64) -> Model:
    """Read the bundle in `folder` and open its model as `opened` does. Raises ServingError when the bundle is not whole, too."""
    return opened(contents.read(folder), name=name, threads=threads, largest_batch=largest_batch)


def opened(bundle: contents.Contents, *, name: str, threads: int, largest_batch: int) -> Model:
    """Open the model of a bundle, and run it with `largest_batch` rows and with one, so that no request waits for that.

    threads: of one run. Raises ServingError when it cannot run here.
    """
    try:
        session = open_session(bundle.model, Target(threads=threads))
        inputs, outputs = _ports(session.get_inputs()), _ports(session.get_outputs())
        # Scales that are computed from what runs together would let a request change its neighbours' answers.
        batched = all(port.shape[:1] == (OPEN,) for port in (*inputs, *outputs)) and b"DynamicQuantizeLinear" not in bundle.model
        if all(OPEN not in port.shape[1:] for port in inputs):
            batched = batched and _rows(session, largest_batch) == {largest_batch}
            try_once(session, feed(session, _fixed_rows(inputs)))
    except MeasureError as error:
        raise ServingError(f"the bundle in {bundle.folder} cannot be served: {error}") from error
    classes = _classes(bundle.manifest, session)
    return Model(name, bundle.sha256, session, inputs, outputs, batched, classes, _labelled(outputs, classes))


def _rows(session: onnxruntime.InferenceSession, rows: int) -> set[int]:
    """How many rows the outputs have for random inputs with `rows`."""
    batch = feed(session, rows)
    try_once(session, batch)
    return {len(output) for output in session.run(None, batch)}


def _fixed_rows(inputs: Sequence[Port]) -> int:
    """The batch that the file fixes, or 1."""
    return next((port.shape[0] for port in inputs if port.shape and port.shape[0] != OPEN), 1)


def _ports(nodes: Sequence[onnxruntime.NodeArg]) -> tuple[Port, ...]:
    for node in nodes:
        if node.type not in DATATYPES:
            raise ServingError(f"{node.name} of the model is {node.type}, but {', '.join(DATATYPES)} can be served: export another type")
    return tuple(Port(node.name, DATATYPES[node.type], np.dtype(DTYPES[node.type]), _shape(node)) for node in nodes)


def _shape(node: onnxruntime.NodeArg) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else OPEN for size in node.shape)


def _classes(manifest: Mapping[str, Any], session: onnxruntime.InferenceSession) -> tuple[str, ...]:
    """The names of the classes, from the manifest or the file's metadata."""
    try:
        found = manifest.get("classes") or json.loads(session.get_modelmeta().custom_metadata_map.get("classes", "[]"))
        return tuple(str(name) for name in found)
    except (TypeError, ValueError) as error:
        raise ServingError(f"the bundle's classes are not a list of names ({first_line(error)}): export it again") from error


def _labelled(outputs: Sequence[Port], classes: Sequence[str]) -> int | None:
    """The place of the probabilities, or else of the first output with a number per class."""
    if not classes:
        return None
    fitting = [place for place, port in enumerate(outputs) if len(port.shape) == 2 and port.shape[1] == len(classes)]
    if not fitting:
        shapes = ", ".join(f"{port.name} {list(port.shape)}" for port in outputs)
        raise ServingError(f"the bundle names {len(classes)} classes, but no output has as many columns ({shapes}): export it again")
    return next((place for place in fitting if outputs[place].name == "probabilities"), fitting[0])
