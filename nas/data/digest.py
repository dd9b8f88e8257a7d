"""A fingerprint of prepared data that depends on what they say and on nothing else: no paths, times or machine."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray


@final
class Digest:
    """SHA-256 over named arrays fed in order, each preceded by its name, dtype and shape, and over the class names.

    The header in front of every array keeps two different sets of arrays from running together into the same bytes.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._hash: Final = hashlib.sha256()
        self._header(["classes", *classes])

    def begin(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Announce the array whose content the next calls of `add` bring, `shape` counting all of its examples."""
        self._header([name, dtype.newbyteorder("<").str, *shape])

    def add(self, part: NDArray[Any]) -> None:
        """Feed the next examples of the announced array, in order; how they are cut into parts does not matter."""
        little = part.astype(part.dtype.newbyteorder("<"), copy=False)
        self._hash.update(np.ascontiguousarray(little).data)

    def hexdigest(self) -> str:
        """Return the 64 hexadecimal digits over everything fed so far."""
        return self._hash.hexdigest()

    def _header(self, values: list[Any]) -> None:
        self._hash.update(json.dumps(values).encode() + b"\n")
