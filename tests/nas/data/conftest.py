"""Small data that the tests of this room share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.data.dataset import Description
from nas.data.errors import DataError
from nas.data.prepare import Splits, prepare
from nas.data.sources.base import Source

Prepare = Callable[..., Description]


@pytest.fixture
def prepared(tmp_path: Path) -> Prepare:
    """Prepare a source whose paths start at `tmp_path` into `tmp_path / "prepared"`."""

    def run(source: Source, splits: Splits | None = None, folder: str = "prepared") -> Description:
        return prepare(source, splits or Splits(), tmp_path / folder, task="image_classification", root=tmp_path)

    return run


@pytest.fixture
def refuses(tmp_path: Path, prepared: Prepare) -> Callable[[Source, str], None]:
    """Check that a source is refused with a sentence that matches, and that nothing new is left on the disk."""

    def run(source: Source, match: str) -> None:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(DataError, match=match) as caught:
            prepared(source, folder="deep/down/prepared")
        assert "\n" not in str(caught.value)
        assert ";" in str(caught.value), "the sentence ends with the cure"
        assert sorted(tmp_path.rglob("*")) == before

    return run


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """Two classes of eight PNG files, of two sizes, below `tmp_path / "pictures"`."""
    for number, name in enumerate(("cat", "dog")):
        fill_class(tmp_path / "pictures" / name, 8, shade=100 * number)
    return tmp_path / "pictures"


def fill_class(folder: Path, count: int, shade: int = 0) -> None:
    """Write `count` grey PNG files into a new folder."""
    folder.mkdir(parents=True)
    for index in range(count):
        pixels = np.full((10 + index % 2, 12, 3), shade + index, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")


@pytest.fixture
def fill() -> Callable[..., None]:
    """Give `fill_class`."""
    return fill_class
