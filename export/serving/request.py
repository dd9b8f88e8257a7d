"""An inference request of the Open Inference Protocol: its bytes, checked, become arrays by input.

Source: Open Inference Protocol (KServe v2), REST, "Inference", and the extension "Binary tensor data".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import orjson
from numpy.typing import NDArray

from export.serving.errors import RequestError
from export.serving.model import Model
from export.serving.tensors import checked_shape, from_bytes, from_json

Array = NDArray[np.generic]
_NO_PARAMETERS: dict[str, Any] = {}


@final
@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that the answer is to hold. place: in the model's outputs. binary: as raw bytes instead of JSON."""

    place: int
    binary: bool


@final
@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What somebody asks. feed: an array per input. rows: examples in it, 1 where the model takes no batches. key: echoed as "id"."""

    feed: Mapping[str, Array]
    rows: int
    wanted: Sequence[Wanted]
    key: str | None


@final
class Reader:
    """Reads requests to `model` of at most `largest_batch` rows."""

    def __init__(self, model: Model, largest_batch: int) -> None:
        self._batched, self._largest = model.batched, largest_batch
        self._inputs = {port.name: port for port in model.inputs}
        self._places = {port.name: place for place, port in enumerate(model.outputs)}
        self._all = {binary: tuple(Wanted(place, binary) for place in range(len(model.outputs))) for binary in (False, True)}

    def read(self, body: bytes, header_length: int | None = None) -> InferenceRequest:
        """The request in `body`. header_length: how many bytes of it are JSON, where raw tensors follow; None when it is all JSON.

        Raises RequestError (400), one sentence, when it is not one that the model can answer.
        """
        document, raw = _document(body, header_length)
        key, parameters = document.get("id"), _parameters(document, "the request")
        if key is not None and type(key) is not str:
            raise RequestError(400, '"id" must be text')
        feed = self._feed(document.get("inputs"), raw)
        return InferenceRequest(feed, self._rows(feed), self._wanted(document.get("outputs"), parameters), key)

    def _feed(self, inputs: Any, raw: memoryview) -> dict[str, Array]:
        entries = _named(inputs, "inputs", self._inputs)
        if len(entries) != len(self._inputs):
            raise RequestError(400, f'"inputs" must hold all of {", ".join(self._inputs)}')
        feed: dict[str, Array] = {}
        for entry in entries:
            port = self._inputs[entry["name"]]
            if entry.get("datatype") != port.datatype:
                raise RequestError(400, f"the datatype of {port.name} is {_short(entry.get('datatype'))}, but must be {port.datatype}")
            shape, parameters = checked_shape(port, entry.get("shape")), _parameters(entry, port.name)
            if parameters.get("binary_data_size") is None:
                feed[port.name] = from_json(port, shape, entry.get("data"))
            else:
                part, raw = _cut(raw, parameters["binary_data_size"], entry)
                feed[port.name] = from_bytes(port, shape, part)
        if len(raw):
            raise RequestError(400, f"{len(raw)} bytes follow the last input: give their number as its binary_data_size")
        return feed

    def _rows(self, feed: Mapping[str, Array]) -> int:
        if not self._batched:
            return 1
        counts = {len(array) for array in feed.values()}
        if len(counts) > 1:
            raise RequestError(400, f"the inputs have {' and '.join(map(str, sorted(counts)))} rows, but must have as many as each other")
        rows = counts.pop()
        if rows > self._largest:
            raise RequestError(400, f"the request has {rows} rows, at most {self._largest} are allowed: send several requests")
        return rows

    def _wanted(self, outputs: Any, parameters: Mapping[str, Any]) -> tuple[Wanted, ...]:
        """The outputs to answer with; all when none is named."""
        binary = _switch(parameters, "binary_data_output", False)
        if outputs is None or outputs == []:
            return self._all[binary]
        return tuple(
            Wanted(self._places[entry["name"]], _switch(_parameters(entry, entry["name"]), "binary_data", binary))
            for entry in _named(outputs, "outputs", self._places)
        )


def _document(body: bytes, header_length: int | None) -> tuple[dict[str, Any], memoryview]:
    """The JSON part, and the bytes behind it."""
    length = len(body) if header_length is None else header_length
    if length > len(body):
        raise RequestError(400, f"Inference-Header-Content-Length is {length}, but the body has {len(body)} bytes")
    try:
        document = orjson.loads(body if length == len(body) else body[:length])
    except orjson.JSONDecodeError as error:
        raise RequestError(400, f"the body is not JSON: {error}") from error
    if type(document) is not dict:
        raise RequestError(400, "the body must be a JSON object with the inputs")
    return document, memoryview(body)[length:]


def _parameters(holder: Mapping[str, Any], what: str) -> dict[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return _NO_PARAMETERS
    if type(parameters) is not dict:
        raise RequestError(400, f'"parameters" of {what} must be an object')
    return parameters


def _named(entries: Any, what: str, known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Objects with names that are known, each once."""
    if type(entries) is not list or set(map(type, entries)) - {dict}:
        raise RequestError(400, f'"{what}" must be a list of objects')
    names = [entry.get("name") for entry in entries]
    for name in names:
        if type(name) is not str or name not in known:
            raise RequestError(400, f'"{what}" names {_short(name)}, but the model has {", ".join(known)}')
    if len(set(names)) != len(names):
        raise RequestError(400, f'"{what}" names something twice')
    return entries


def _cut(raw: memoryview, size: Any, entry: Mapping[str, Any]) -> tuple[memoryview, memoryview]:
    """The bytes of one input, and those of the next ones."""
    if type(size) is not int or not 0 <= size <= len(raw):
        raise RequestError(400, f"binary_data_size of {entry['name']} is {_short(size)}, but must be a number of the {len(raw)} bytes left")
    if "data" in entry:
        raise RequestError(400, f'{entry["name"]} has "data" and binary_data_size: give one of them')
    return raw[:size], raw[size:]


def _switch(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise RequestError(400, f'"{name}" must be true or false')
    return value


def _short(value: Any) -> str:
    """What somebody sent, for a sentence: as JSON, cut, or only its kind."""
    if isinstance(value, str | int | float | None):
        text = orjson.dumps(value).decode()
        return text if len(text) <= 80 else text[:79] + "…"
    return "a list" if type(value) is list else "an object"
