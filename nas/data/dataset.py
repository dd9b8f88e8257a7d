"""The prepared format: a folder with `dataset.json` and, per split, `SPLIT_inputs.npy` and `SPLIT_targets.npy`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Self, cast, final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from nas.data.digest import Digest
from nas.data.errors import DataError
from nas.data.splits import SPLITS

FORMAT_VERSION = 1
DESCRIPTION_FILE = "dataset.json"

__all__ = ["DESCRIPTION_FILE", "FORMAT_VERSION", "SPLITS", "Dataset", "Description", "array_file"]


def array_file(split: str, part: str) -> str:
    """Return the file name of `part` ("inputs" or "targets") of a split."""
    return f"{split}_{part}.npy"


@final
class Description(BaseModel):
    """What `dataset.json` says about the arrays beside it."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    format_version: int = FORMAT_VERSION
    """Version of this format; a reader refuses any other."""
    task: str
    """What the data are for, e.g. "image_classification"."""
    source: dict[str, Any]
    """Name and settings of the source that was read."""
    input_shape: tuple[int, int, int]
    """Height, width and channels of one example."""
    input_dtype: str
    """Type of the stored pixels: "uint8" or "float32"."""
    classes: list[str]
    """Names of the classes; a target is an index into this list."""
    counts: dict[str, int]
    """Examples per split."""
    class_counts: dict[str, list[int]]
    """Per split, examples of each class."""
    mean: list[float]
    """Mean per channel over the `fit` split, in the units of the stored pixels."""
    std: list[float]
    """Standard deviation per channel over the `fit` split, same units; 1 where a channel is constant."""
    low: float = 0.0
    """Smallest stored value over the `fit` split; of bytes always 0."""
    high: float = 255.0
    """Largest stored value over the `fit` split; of bytes always 255."""
    digest: str
    """SHA-256 over class names and all arrays (split, dtype, shape, content), as 64 hexadecimal digits."""

    @model_validator(mode="after")
    def _with_limits(self) -> Self:
        if self.input_dtype != "uint8" and not {"low", "high"} <= self.model_fields_set:
            raise ValueError(f"{self.input_dtype} pixels need `low` and `high`")
        return self

    @property
    def byte_range(self) -> tuple[float, float]:
        """The stored values that the bytes 0 and 255 of an ordinary image stand for; bytes between are spread evenly.

        Stored bytes are themselves. Floats are taken to be images scaled to the first of 0..1 and 0..255 that holds every value of
        `fit` and of which they fill at least a quarter, since a set of images seldom reaches black and white exactly. Any other
        data, such as -1..1 or 0..16, are taken to be scaled to the range that they have in `fit`.
        """
        if self.input_dtype == "uint8":
            return 0.0, 255.0
        for white in (1.0, 255.0):
            if self.low >= 0 and white / 4 <= self.high - self.low and self.high <= white:
                return 0.0, white
        return self.low, self.high if self.high > self.low else self.low + 1.0

    def to_bytes(self, stored: NDArray[Any]) -> NDArray[np.uint8]:
        """Return stored pixels as the nearest bytes by `byte_range`; values outside it become 0 or 255."""
        if self.input_dtype == "uint8":
            return stored
        black, white = self.byte_range
        levels = (stored.astype(np.float64) - black) * (255 / (white - black))
        return np.rint(np.clip(levels, 0, 255)).astype(np.uint8)


@final
class Dataset:
    """A prepared folder, read without loading it."""

    def __init__(self, folder: Path, description: Description) -> None:
        self.folder: Final = folder
        self.description: Final = description

    @classmethod
    def open(cls, folder: Path, splits: Sequence[str] = ()) -> Self:
        """Read the description, and check that the arrays of `splits` are there in the described dtype and shape.

        The files of other splits are not touched before they are asked for, so whoever must not see a split needs not have it.

        Raises:
            DataError: no prepared data in `folder`, another format version, or an array that is missing or does not fit.
        """
        dataset = cls(folder, _description(folder / DESCRIPTION_FILE))
        for split in splits:
            dataset.inputs(split)
            dataset.targets(split)
        return dataset

    def inputs(self, split: str) -> NDArray[Any]:
        """Return the pixels of a split, N x H x W x C, memory-mapped and read-only.

        Raises:
            DataError: no such split, or its file is missing or does not fit the description.
        """
        shape = (self._count(split), *self.description.input_shape)
        return _array(self.folder / array_file(split, "inputs"), self.description.input_dtype, shape)

    def as_bytes(self, split: str) -> NDArray[np.uint8]:
        """Return the pixels of a split as `Description.to_bytes` gives them, N x H x W x C; stored bytes stay memory-mapped.

        Raises:
            DataError: as `inputs`.
        """
        inputs = self.inputs(split)
        if inputs.dtype == np.uint8:
            return inputs
        result = np.empty(inputs.shape, dtype=np.uint8)
        step = max(1, 2**20 // max(1, inputs[0].size))  # or the float64 in between would be eight times as large as the result
        for start in range(0, len(inputs), step):
            result[start : start + step] = self.description.to_bytes(inputs[start : start + step])
        return result

    def targets(self, split: str) -> NDArray[np.int64]:
        """Return the class positions of a split, N int64, memory-mapped and read-only.

        Raises:
            DataError: no such split, or its file is missing or does not fit the description.
        """
        return _array(self.folder / array_file(split, "targets"), "int64", (self._count(split),))

    def verify(self) -> None:
        """Read every array and compare with the digest in the description.

        Raises:
            DataError: the contents are not the ones that were prepared.
        """
        digest = Digest(self.description.classes)
        for split in SPLITS:
            for part, array in (("inputs", self.inputs(split)), ("targets", self.targets(split))):
                digest.begin(f"{split}_{part}", array.dtype, array.shape)
                step = max(1, 2**23 * len(array) // array.nbytes)
                for start in range(0, len(array), step):
                    digest.add(array[start : start + step])
        if digest.hexdigest() != self.description.digest:
            raise DataError(
                f"the arrays in {self.folder} have the digest {digest.hexdigest()} but were prepared as {self.description.digest}; "
                "prepare the data again"
            )

    def _count(self, split: str) -> int:
        if split not in SPLITS:
            raise DataError(f"split {split!r} does not exist; use one of {', '.join(SPLITS)}")
        return self.description.counts[split]


def _description(path: Path) -> Description:
    try:
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{path.parent} holds no {path.name}, so it is not prepared data; run the prepare stage first") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not valid JSON ({error}); prepare the data again") from error
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise DataError(f"{path} has format version {version} but this program reads version {FORMAT_VERSION}; prepare the data again")
    try:
        description = Description.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "low and high"  # only the check of these two has no place
        raise DataError(f"{path} is damaged at {place!r} ({first['msg']}); prepare the data again") from error
    if set(description.counts) != set(SPLITS):
        raise DataError(f"{path} counts the splits {sorted(description.counts)} instead of {list(SPLITS)}; prepare the data again")
    return description


def _array(path: Path, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing although {DESCRIPTION_FILE} describes it; prepare the data again") from error
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read as an array ({error}); prepare the data again") from error
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise DataError(
            f"{path} holds {array.dtype} of shape {array.shape} but {DESCRIPTION_FILE} describes {dtype} of shape {shape}; "
            "prepare the data again"
        )
    return cast(NDArray[Any], array)
