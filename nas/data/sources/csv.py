"""A table with one image per row: its pixels as columns, or the path of its file in a column."""

import csv
import gzip
import io
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from nas.data.errors import DataError
from nas.data.labels import encode
from nas.data.pictures import Decoder
from nas.data.sources.base import Samples, Source

Side = Annotated[int, Field(ge=1, le=4096)]


@final
class Csv(Source):
    """A comma-separated UTF-8 file with a header, gzip-compressed or not; the test split is cut from its rows.

    Without `image`, every column but the label is a pixel, row by row from the top left, the channel running fastest: bytes
    where all are whole numbers within 0..255, else float32. The pixels must then fit into memory; files named in `image` need not.
    """

    path: str = Field(min_length=1)
    """The table."""
    label: str = "label"
    """Column of the class: a word or a number."""
    image: str | None = None
    """Column of the path of an image file, relative to the table's folder and inside it; without it, columns are pixels."""
    shape: tuple[Side, Side] | tuple[Side, Side, Side] | None = None
    """Height, width and optionally channels of pixels in columns; without it, they make a square grey image."""
    size: tuple[Side, Side] = (32, 32)
    """Height and width that image files are resized to, in pixels; the aspect is not kept."""
    channels: Literal[1, 3] = 3
    """Channels of image files: 1 for grey, 3 for colour."""
    largest: int = Field(default=50_000_000, ge=1, le=178_000_000)
    """Most pixels an image file may have; a larger one stops the run before it fills the memory."""
    classes: list[str] | None = None
    """Names of the classes; a label is one of them, or where labels are numbers a position in this list."""

    def read(self, root: Path) -> Samples:
        """Read the rows; image files are not opened yet.

        Raises:
            DataError: the table is missing, empty or damaged, a column is missing, or a cell is not what its column holds.
        """
        path = root / self.path
        with _opened(path) as file:
            table = _Table(path, csv.reader(file, strict=True))
            try:
                return self._pixels(table) if self.image is None else self._files(table, self.image)
            except (csv.Error, UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
                raise DataError(f"{path} is damaged or not UTF-8 text ({error}); write it again as a UTF-8 table with commas") from error

    def paths(self) -> list[str]:
        """Return the table, or its folder where the rows name image files in it."""
        return [self.path] if self.image is None else [os.path.dirname(self.path) or "."]

    def _pixels(self, table: "_Table") -> Samples:
        header = table.header([self.label])
        column = header.index(self.label)
        shape = self._pixel_shape(table.path, len(header) - 1)
        words: list[str] = []
        images: list[NDArray[Any]] = []
        for row in table.rows(len(header)):
            words.append(row.pop(column))
            images.append(_numbers(row, table.name(len(images)), header[:column] + header[column + 1 :]))
        targets = self._targets(words, table)
        pixels = np.stack(images).reshape(-1, *shape)  # one row of float32 makes all of them float32
        return Samples(*targets, shape, pixels.dtype.name, batch=lambda indices: pixels[indices], name=table.name)

    def _files(self, table: "_Table", image: str) -> Samples:
        header = table.header([self.label, image])
        label_column, image_column = header.index(self.label), header.index(image)
        folder = table.path.parent
        words: list[str] = []
        names: list[str] = []
        for row in table.rows(len(header)):
            words.append(row[label_column])
            names.append(os.path.normpath(row[image_column]))
            if names[-1].startswith(("..", os.sep)) or names[-1] == ".":
                raise DataError(
                    f"{table.name(len(names) - 1)} names the image {row[image_column]!r}, which is not inside {folder}; "
                    "use a path inside that folder"
                )
        decoder = Decoder(self.size, self.channels, self.largest)
        batch = decoder.batches(lambda index: folder / names[index])
        return Samples(*self._targets(words, table), (*self.size, self.channels), "uint8", batch=batch, name=table.name)

    def _targets(self, words: list[str], table: "_Table") -> tuple[list[str], NDArray[np.int64]]:
        if not words:
            raise DataError(f"{table.path} has a header but no rows; give it one row per image")
        labels = np.array([word.strip() for word in words])
        if self.classes is not None and not np.isin(labels, self.classes).all() and all(_is_integer(word) for word in np.unique(labels)):
            labels = labels.astype(np.int64)
        return encode(labels, self.classes, table.name)

    def _pixel_shape(self, path: Path, columns: int) -> tuple[int, int, int]:
        if self.shape is None:
            side = math.isqrt(columns)
            if side * side != columns or side == 0:
                raise DataError(
                    f"{path} has {columns} columns beside {self.label!r}, which make no square image; set `shape` or remove columns"
                )
            return side, side, 1
        height, width, channels = (*self.shape, 1)[:3]
        if height * width * channels != columns:
            raise DataError(
                f"{path} has {columns} columns beside {self.label!r} but shape {self.shape} needs {height * width * channels}; correct it"
            )
        return height, width, channels

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.image is not None and self.shape is not None:
            raise ValueError("shape is for pixels in columns and image for files; remove one of the two (files are resized to size)")
        if self.image == self.label:
            raise ValueError(f"image and label both name the column {self.label!r}; name two columns")
        return self


@final
@dataclass(frozen=True)
class _Table:
    path: Path
    reader: Any  # of csv.reader, whose type has no public name

    def header(self, wanted: list[str]) -> list[str]:
        header = [name.strip() for name in next(self.reader, [])]
        if not header:
            raise DataError(f"{self.path} is empty; give it a header and one row per image")
        for name in wanted:
            if header.count(name) != 1:
                some = header if len(header) <= 8 else [*header[:4], "...", *header[-4:]]
                raise DataError(
                    f"{self.path} has {header.count(name)} columns named {name!r} among {some}; name the column in the settings"
                )
        return header

    def rows(self, columns: int) -> Iterator[list[str]]:
        number = 0
        for row in self.reader:
            if not row:
                continue
            if len(row) != columns:
                raise DataError(f"{self.name(number)} has {len(row)} cells but the header has {columns}; correct the row")
            yield row
            number += 1

    def name(self, index: int) -> str:
        return f"row {index + 1} below the header of {self.path}"


@contextmanager
def _opened(path: Path) -> Iterator[io.TextIOBase]:
    try:
        raw = path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be opened ({error.strerror}); set `path` to a table") from error
    with raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        binary = gzip.GzipFile(fileobj=raw) if compressed else raw
        with io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as text:
            yield text


def _numbers(cells: list[str], name: str, columns: list[str]) -> NDArray[Any]:
    try:
        return np.frombuffer(bytes(map(int, cells)), dtype=np.uint8)  # refuses what is not a whole number within 0..255
    except ValueError:
        return np.array([_number(cell, name, column) for cell, column in zip(cells, columns, strict=True)], dtype=np.float32)


def _number(cell: str, name: str, column: str) -> float:
    try:
        return float(cell)
    except ValueError as error:
        raise DataError(f"{name} has {cell!r} in column {column!r} but a pixel must be a number; correct it, or set `image`") from error


def _is_integer(word: str) -> bool:
    return word.removeprefix("-").isdecimal() and word.isascii()
