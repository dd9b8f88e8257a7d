"""Arrays of images and labels in one NumPy archive, with an optional test set, as MNIST and its relatives are passed around."""

import zipfile
import zlib
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from nas.data.errors import DataError
from nas.data.joined import Joined
from nas.data.labels import encode
from nas.data.sources.base import Samples, Source


@final
class Npz(Source):
    """An .npz archive with N x H x W or N x H x W x C pixels (C = 1, 3 or 4) and N labels, integers or words.

    Booleans and whole numbers within 0..255 become bytes; other floating-point pixels become float32 and keep their values.
    Archives with pickled objects are refused, because opening one runs what is inside. The arrays must fit into memory.
    """

    path: str = Field(min_length=1)
    """The archive."""
    x: str = "x"
    """Array of pixels; where there is no array `x`, `x_train` is taken."""
    y: str = "y"
    """Array of labels; where there is no array `y`, `y_train` is taken."""
    x_test: str | None = "x_test"
    """Array of the test set's pixels; without this array, or with null, a test split is cut from the rest."""
    y_test: str | None = "y_test"
    """Array of the test set's labels."""
    classes: list[str] | None = None
    """Names of the classes; an integer label is a position in this list."""

    def read(self, root: Path) -> Samples:
        """Load the arrays.

        Raises:
            DataError: archive or array is missing, damaged or pickled, or shapes, lengths, values or labels break a rule.
        """
        path = root / self.path
        names = self._names(path)
        pixels, labels = _load(path, names)
        images = [_pixels(values, f"{name!r} in {path}") for name, values in pixels.items()]
        words = [_labels(values, f"{name!r} in {path}") for name, values in labels.items()]
        _check_together(images, words, names)
        joined = Joined(images, np.float32 if any(part.dtype.kind == "f" for part in images) else np.uint8)
        classes, targets = encode(np.concatenate(words), self.classes, lambda index: f"{joined.locate(index, names[1])} in {path}")
        return Samples(
            classes=classes,
            targets=targets,
            shape=images[0].shape[1:],
            dtype=np.dtype(joined.dtype).name,
            batch=joined.batch,
            test=joined.test(),
            name=lambda index: f"{joined.locate(index, names[0])} in {path}",
        )

    def paths(self) -> list[str]:
        """Return the archive."""
        return [self.path]

    def _names(self, path: Path) -> tuple[list[str], list[str]]:
        present = _present(path)
        x = "x_train" if self.x == "x" and "x" not in present and "x_train" in present else self.x
        y = "y_train" if self.y == "y" and "y" not in present and "y_train" in present else self.y
        names = [x], [y]
        untouched = (self.x_test, self.y_test) == ("x_test", "y_test")
        if self.x_test is not None and self.y_test is not None and not (untouched and {"x_test", "y_test"}.isdisjoint(present)):
            names = [x, self.x_test], [y, self.y_test]
        for name in [*names[0], *names[1]]:
            if name not in present:
                raise DataError(f"{path} holds no array {name!r}, only {present}; name one of these in the settings")
        return names

    @model_validator(mode="after")
    def _test_in_pairs(self) -> Self:
        if (self.x_test is None) != (self.y_test is None):
            raise ValueError("x_test and y_test go together; name both, or set both to null")
        return self


def _present(path: Path) -> list[str]:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is a single array; save pixels and labels together with numpy.savez")
        with archive:
            return list(archive.files)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; set `path` to an .npz archive") from error
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is empty, damaged or not an .npz archive; write it with numpy.savez") from error


Names = tuple[list[str], list[str]]


def _load(path: Path, names: Names) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    with np.load(path, allow_pickle=False) as archive:
        pixels, labels = ({name: _member(archive, path, name) for name in part} for part in names)
    return pixels, labels


def _member(archive: np.lib.npyio.NpzFile, path: Path, name: str) -> NDArray[Any]:
    try:
        return np.asarray(archive[name])
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise DataError(f"{name!r} in {path} holds pickled objects, which could run code; save it as numbers or text") from error
        raise DataError(f"{name!r} in {path} is not a NumPy array ({error}); write it with numpy.savez") from error
    except (OSError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # RuntimeError: encrypted
        raise DataError(f"{name!r} in {path} is damaged ({error}); get or write the archive again") from error


def _pixels(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Return N x H x W x C of uint8, or of the floating-point type that was stored."""
    if values.size == 0:
        raise DataError(f"{name} is empty with shape {values.shape}; store at least 4 examples of each class")
    if values.ndim == 3:
        values = values[..., np.newaxis]
    if values.ndim != 4 or values.shape[-1] not in (1, 3, 4):
        raise DataError(f"{name} has shape {values.shape} but must be N x H x W or N x H x W x C with C = 1, 3 or 4; reshape it")
    if values.dtype.kind == "f" or values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "bui":
        raise DataError(f"{name} holds {values.dtype} but must hold whole or floating-point numbers; convert it")
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 255:
        raise DataError(f"{name} holds whole numbers within {low}..{high} but bytes are within 0..255; scale it or store it as float32")
    return values.astype(np.uint8)


def _labels(values: NDArray[Any], name: str) -> NDArray[Any]:
    flat = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if flat.ndim != 1:
        raise DataError(f"{name} has shape {values.shape} but labels must be N or N x 1; store one class per example")
    if flat.dtype.kind not in "buiUS":
        raise DataError(f"{name} holds {flat.dtype} but labels must be integers or words; convert it")
    return flat


def _check_together(images: list[NDArray[Any]], labels: list[NDArray[Any]], names: Names) -> None:
    for pixels, words, x, y in zip(images, labels, *names, strict=True):
        if len(pixels) != len(words):
            raise DataError(f"{x!r} holds {len(pixels)} examples but {y!r} holds {len(words)} labels; give every example one label")
    if images[0].shape[1:] != images[-1].shape[1:]:
        raise DataError(
            f"{names[0][0]!r} holds images of shape {images[0].shape[1:]} but {names[0][-1]!r} of shape {images[-1].shape[1:]}; "
            "make them the same"
        )
    if (labels[0].dtype.kind in "US") != (labels[-1].dtype.kind in "US"):
        raise DataError(f"{names[1][0]!r} holds {labels[0].dtype} but {names[1][-1]!r} {labels[-1].dtype}; store both in the same way")
