"""The 1,797 handwritten digits that come with scikit-learn, 8 x 8 grey: data for a first run without a network.

Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
"""

from pathlib import Path
from typing import final

import numpy as np

from nas.data.sources.base import Samples, Source


@final
class Digits(Source):
    """Handwritten digits bundled with scikit-learn, 8 x 8 x 1 bytes; it has no settings."""

    def read(self, root: Path) -> Samples:
        """Return the digits with their values 0..16 scaled to 0..255; `root` is not used."""
        from sklearn.datasets import load_digits  # takes a second, which checking settings can do without

        pixels, targets = load_digits(return_X_y=True)
        images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
        return Samples(
            classes=[str(digit) for digit in range(10)],
            targets=targets.astype(np.int64),
            shape=(8, 8, 1),
            dtype="uint8",
            batch=lambda indices: images[indices],
        )

    def paths(self) -> list[str]:
        """Return nothing: the digits come with a dependency."""
        return []
