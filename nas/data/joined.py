"""A training array and, where there is one, a test array, read as one without copying them together."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray


@final
@dataclass(frozen=True)
class Joined:
    """One or two arrays N x H x W x C whose positions count on from the first into the second."""

    parts: list[NDArray[Any]]
    dtype: type[np.float32] | type[np.uint8]  # of the batches

    def locate(self, index: int, names: list[str]) -> str:
        """Return "NAME[POSITION]" within the part that `index` falls into; `names` has one name per part."""
        first = len(self.parts[0])
        return f"{names[0]}[{index}]" if index < first else f"{names[1]}[{index - first}]"

    def test(self) -> NDArray[np.int64] | None:
        """Return the positions of the second part, or None where there is only one."""
        if len(self.parts) == 1:
            return None
        return np.arange(len(self.parts[0]), sum(len(part) for part in self.parts))

    def batch(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Return n x H x W x C for n positions."""
        result = np.empty((indices.size, *self.parts[0].shape[1:]), dtype=self.dtype)
        first = len(self.parts[0])
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and that is reported with its place
            result[indices < first] = self.parts[0][indices[indices < first]]
            result[indices >= first] = self.parts[-1][indices[indices >= first] - first]
        return result
