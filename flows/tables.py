"""Tables among the results, as CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a header and rows of as many values; None and the empty text are empty fields."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
