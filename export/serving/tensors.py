"""Tensors of requests, checked and made into arrays: from JSON lists, flat or nested, and from raw bytes.

Nothing is converted in silence: 1.5 is no UINT8, true is no number, "1" is text, 300 does not fit.
Source: Open Inference Protocol, "Inference Request JSON Object" and the extension "Binary tensor data".
"""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.serving.errors import RequestError
from export.serving.model import OPEN, Port

Array = NDArray[np.generic]
_KINDS: Mapping[str, frozenset[type]] = MappingProxyType(
    {"b": frozenset({bool}), "u": frozenset({int}), "i": frozenset({int}), "f": frozenset({int, float})}
)
"""What JSON may hold for each kind of numpy's types."""
_WORDS: Mapping[str, str] = MappingProxyType({"b": "true and false", "u": "whole numbers", "i": "whole numbers", "f": "numbers"})


def checked_shape(port: Port, shape: Any) -> tuple[int, ...]:
    """The shape of a request's tensor. Raises RequestError when it is no list of sizes of at least 1, or not one that `port` takes."""
    # `type` and not isinstance: true is an int to Python, but no size.
    if type(shape) is not list or set(map(type, shape)) - {int}:
        raise RequestError(400, f"the shape of {port.name} must be a list of whole numbers")
    if len(shape) != len(port.shape) or any(size < 1 or wanted not in (OPEN, size) for size, wanted in zip(shape, port.shape, strict=True)):
        given = str(shape) if len(shape) <= 8 else f"of {len(shape)} dimensions"
        raise RequestError(400, f"the shape of {port.name} is {given}, but must be {list(port.shape)}, where -1 is any size of at least 1")
    return tuple(shape)


def _chosen(wanted: int, size: int) -> int:
    return OPEN if wanted == OPEN else size


def from_json(port: Port, shape: tuple[int, ...], data: Any) -> Array:
    """The array that a JSON list holds, elements in row-major order, flat or nested as the shape says.

    Raises RequestError for another number of elements, another nesting, or an element that the type cannot hold exactly
    (a float is rounded to the type's precision, but may not become infinite).
    """
    flat = _flat(port, shape, data)
    if len(flat) != math.prod(shape):
        raise RequestError(400, f"the data of {port.name} have {len(flat)} elements, but the shape {list(shape)} has {math.prod(shape)}")
    if not _KINDS[port.dtype.kind].issuperset(map(type, flat)):
        raise RequestError(400, f"the data of {port.name} must be {_WORDS[port.dtype.kind]} only, because it is {port.datatype}")
    return _array(port, flat).reshape(shape)


def _flat(port: Port, shape: Sequence[int], data: Any) -> list[Any]:
    """The innermost elements; each level of nesting is held against the shape before it is opened."""
    if type(data) is not list:
        raise RequestError(400, f"the data of {port.name} must be a list")
    flat: list[Any] = data
    level = 0
    while flat and type(flat[0]) is list:
        if level + 1 >= len(shape):
            raise RequestError(400, f"the data of {port.name} are nested deeper than the {len(shape)} dimensions of their shape")
        if len(flat) != math.prod(shape[: level + 1]) or set(map(type, flat)) != {list} or set(map(len, flat)) != {shape[level + 1]}:
            raise RequestError(400, f"the data of {port.name} are not nested as their shape {list(shape)} says: give a flat list")
        flat = list(chain.from_iterable(flat))
        level += 1
    return flat


def _array(port: Port, flat: list[Any]) -> Array:
    try:
        if port.dtype == np.uint8:
            return np.frombuffer(bytearray(flat), np.uint8)  # five times as fast as numpy's own reading of a list
        with np.errstate(over="ignore"):
            array = np.array(flat, port.dtype)
    except (ValueError, OverflowError) as error:
        raise RequestError(400, f"the data of {port.name} hold a number outside of the range of {port.datatype}") from error
    if port.dtype.kind == "f" and not np.isfinite(array).all():
        raise RequestError(400, f"the data of {port.name} hold a number outside of the range of {port.datatype}")
    return array


def from_bytes(port: Port, shape: tuple[int, ...], raw: memoryview) -> Array:
    """The array that raw bytes hold: row-major, little-endian, a BOOL is one byte. Raises RequestError for another number of bytes."""
    expected = math.prod(shape) * port.dtype.itemsize
    if len(raw) != expected:
        raise RequestError(400, f"{port.name} has {len(raw)} bytes, but {port.datatype} of shape {list(shape)} has {expected}")
    if port.dtype.kind == "b":
        return np.frombuffer(raw, np.uint8).reshape(shape).astype(np.bool_)  # a byte of 2 would be neither true nor false
    return np.frombuffer(raw, port.dtype.newbyteorder("<")).astype(port.dtype, copy=False).reshape(shape)


def to_bytes(array: Array) -> bytes:
    """Raw bytes as `from_bytes` reads them."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
