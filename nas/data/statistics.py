"""Mean and standard deviation per channel, and the range, in one pass over batches, without holding the data."""

from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

COUNTED_AT_ONCE = 2**18  # np.bincount widens bytes to eight times their size


class Statistics(Protocol):
    """Takes batches n x H x W x C in order, and then gives C means and C standard deviations (0 replaced by 1) in raw units."""

    def add(self, batch: NDArray[Any]) -> None:
        """Take the next batch."""

    def result(self) -> tuple[list[float], list[float]]:
        """Return means and standard deviations of all batches so far."""

    def limits(self) -> tuple[float, float]:
        """Return the smallest and the largest value over all channels; of bytes, 0 and 255."""


def statistics(dtype: str, channels: int) -> Statistics:
    """Return the accumulator for pixels of `dtype`, "uint8" or "float32"."""
    return ByteStatistics(channels) if dtype == "uint8" else FloatStatistics(channels)


@final
class ByteStatistics:
    """Counts how often each of the 256 values occurs, so that the sums are exact integers whatever the batches."""

    def __init__(self, channels: int) -> None:
        self._counts = np.zeros((channels, 256), dtype=np.int64)

    def add(self, batch: NDArray[Any]) -> None:
        """Count the values of the next batch."""
        for channel, counts in enumerate(self._counts):
            values = batch[..., channel].reshape(-1)
            for start in range(0, values.size, COUNTED_AT_ONCE):
                counts += np.bincount(values[start : start + COUNTED_AT_ONCE], minlength=256)

    def result(self) -> tuple[list[float], list[float]]:
        """Return means and standard deviations, from exact sums."""
        means, deviations = [], []
        for counts in self._counts.tolist():
            number = sum(counts)
            total = sum(value * count for value, count in enumerate(counts))
            squares = sum(value * value * count for value, count in enumerate(counts))
            means.append(total / number)
            variance = (number * squares - total * total) / (number * number)  # Python integers: no cancellation
            deviations.append(float(variance**0.5) or 1.0)
        return means, deviations

    def limits(self) -> tuple[float, float]:
        """Return 0 and 255: what bytes can say, whichever of them occur."""
        return 0.0, 255.0


@final
class FloatStatistics:
    """Merges mean and squared deviation of batches in float64 (Chan, Golub, LeVeque 1979), safe for a large mean."""

    def __init__(self, channels: int) -> None:
        self._number = 0
        self._mean = np.zeros(channels)
        self._squares = np.zeros(channels)
        self._low = np.full(channels, np.inf)
        self._high = np.full(channels, -np.inf)

    def add(self, batch: NDArray[Any]) -> None:
        """Merge the moments of the next batch."""
        values = batch.reshape(-1, batch.shape[-1]).astype(np.float64)
        mean = values.mean(axis=0)
        squares = np.square(values - mean).sum(axis=0)
        total = self._number + len(values)
        shift = mean - self._mean
        self._mean = self._mean + shift * (len(values) / total)
        self._squares = self._squares + squares + np.square(shift) * (self._number * len(values) / total)
        self._number = total
        self._low = np.minimum(self._low, values.min(axis=0))
        self._high = np.maximum(self._high, values.max(axis=0))

    def result(self) -> tuple[list[float], list[float]]:
        """Return means and standard deviations."""
        deviation = np.sqrt(self._squares / self._number)
        constant = self._low == self._high  # rounding leaves a constant channel a deviation of about 1e-17
        return self._mean.tolist(), np.where(constant | (deviation == 0), 1.0, deviation).tolist()

    def limits(self) -> tuple[float, float]:
        """Return the smallest and the largest value over all channels."""
        return float(self._low.min()), float(self._high.max())
