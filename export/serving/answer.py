"""The answer to an inference request: outputs as JSON, or behind the JSON as raw bytes, and the names of the classes found."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from export.serving.model import VERSION, Model
from export.serving.request import InferenceRequest
from export.serving.tensors import to_bytes

Array = NDArray[np.generic]
Headers = list[tuple[bytes, bytes]]
_JSON, _BINARY = (b"content-type", b"application/json"), (b"content-type", b"application/octet-stream")


def answer(request: InferenceRequest, model: Model, outputs: Sequence[Array]) -> tuple[Headers, bytes]:
    """Headers and body. outputs: all of the model's, for the rows of the request. A number that is not finite is null in JSON."""
    document: dict[str, Any] = {"model_name": model.name, "model_version": VERSION}
    if request.key is not None:
        document["id"] = request.key
    if model.labelled is not None:
        document["parameters"] = {"labels": _labels(model.classes, outputs[model.labelled])}
    listed, raw = [], []
    for wanted in request.wanted:
        port, array = model.outputs[wanted.place], outputs[wanted.place]
        tensor: dict[str, Any] = {"name": port.name, "shape": array.shape, "datatype": port.datatype}
        if wanted.binary:
            raw.append(to_bytes(array))
            tensor["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            tensor["data"] = np.ascontiguousarray(array).reshape(-1)
        listed.append(tensor)
    document["outputs"] = listed
    body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not raw:
        return [_JSON, (b"content-length", b"%d" % len(body))], body
    whole = b"".join((body, *raw))
    return [_BINARY, (b"inference-header-content-length", b"%d" % len(body)), (b"content-length", b"%d" % len(whole))], whole


def _labels(classes: Sequence[str], scores: Array) -> str:
    """The name of the class with the largest number of each row, a JSON list as text: the protocol's parameters hold no lists."""
    return orjson.dumps([classes[place] for place in scores.argmax(axis=1).tolist()]).decode()
