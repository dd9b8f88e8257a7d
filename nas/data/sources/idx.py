"""The four IDX files in which MNIST and its relatives are published; they can be fetched by address and checksum.

Format: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits". Preset: H. Xiao, K. Rasul, R. Vollgraf,
"Fashion-MNIST", arXiv:1708.07747, 2017.
"""

import gzip
import math
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Literal, Self, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from nas.data.download import download
from nas.data.errors import DataError
from nas.data.joined import Joined
from nas.data.labels import encode
from nas.data.sources.base import Samples, Source

TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@final
@dataclass(frozen=True)
class Published:
    """Where a published set is, what it must hash to, and what its integers mean."""

    url: str
    sha256: dict[str, str]
    classes: list[str]


PRESETS: Final = {
    "fashion_mnist": Published(
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        sha256={
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        classes=["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"],
    )
}

Checksum = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@final
class Idx(Source):
    """MNIST-format files, compressed or not: train images and labels, and t10k images and labels as the test set if they are there.

    Pixels are bytes, one channel. With `url` or `preset` the files are fetched into `path` first, unless they are there already.
    """

    path: str = Field(min_length=1)
    """Folder that holds the files, or that they are fetched into."""
    preset: Literal["fashion_mnist"] | None = None
    """A published set whose address, checksums and class names are known here."""
    url: str | None = Field(default=None, pattern="^https?://.+")
    """Address of the folder that the files named in `sha256` are fetched from."""
    sha256: dict[str, Checksum] = {}
    """For every file to fetch its name and the 64 hexadecimal digits that its content must hash to."""
    classes: list[str] | None = None
    """Names of the classes; a label is a position in this list."""

    def read(self, root: Path) -> Samples:
        """Fetch what is missing, and load the files.

        Raises:
            DataError: a file is missing, damaged or of another kind, a checksum differs, or images and labels differ in number.
        """
        folder = root / self.path
        published = self._published()
        for name, checksum in published.sha256.items():
            download(f"{published.url.rstrip('/')}/{name}", folder / name, checksum)
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; set `path` to the folder that holds {TRAIN[0]}.gz and its companions")
        pairs = [_pair(folder, TRAIN)]
        if any(_find(folder, name) for name in TEST):
            pairs.append(_pair(folder, TEST))
        if pairs[0][0].shape[1:] != pairs[-1][0].shape[1:]:
            raise DataError(
                f"{folder}: train images are {pairs[0][0].shape[1:]} but t10k images {pairs[-1][0].shape[1:]}; make them the same"
            )
        joined = Joined([images[..., np.newaxis] for images, _ in pairs], np.uint8)
        labels = np.concatenate([labels for _, labels in pairs])
        classes, targets = encode(
            labels, self.classes or published.classes or None, lambda index: joined.locate(index, [TRAIN[1], TEST[1]])
        )
        return Samples(
            classes=classes,
            targets=targets,
            shape=joined.parts[0].shape[1:],
            dtype="uint8",
            batch=joined.batch,
            test=joined.test(),
            name=lambda index: joined.locate(index, [TRAIN[0], TEST[0]]),
        )

    def paths(self) -> list[str]:
        """Return the folder; nothing where the files are fetched, because the checksums in the settings pin their content."""
        return [] if self.preset is not None or self.url is not None else [self.path]

    def _published(self) -> Published:
        if self.preset is not None:
            return PRESETS[self.preset]
        return Published(self.url or "", self.sha256 if self.url is not None else {}, [])

    @model_validator(mode="after")
    def _fetchable(self) -> Self:
        if self.preset is not None and (self.url is not None or self.sha256):
            raise ValueError("preset brings its own url and sha256; remove either preset or those two")
        if (self.url is None) != (not self.sha256):
            raise ValueError("url and sha256 go together; give both, or neither to read files that are there")
        allowed = {f"{name}{ending}" for name in (*TRAIN, *TEST) for ending in ("", ".gz")}
        unknown = sorted(set(self.sha256) - allowed)
        if unknown:
            raise ValueError(f"sha256 names {unknown[0]!r}, which is none of the files of this format; use names among {sorted(allowed)}")
        return self


def _find(folder: Path, name: str) -> Path | None:
    dotted = re.sub("-(idx[13])", r".\1", name)  # how some mirrors spell it
    candidates = [folder / f"{stem}{ending}" for stem in (name, dotted) for ending in (".gz", "")]
    return next((path for path in candidates if path.exists()), None)


def _pair(folder: Path, names: tuple[str, str]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    arrays = []
    for name, dimensions in zip(names, (3, 1), strict=True):
        path = _find(folder, name)
        if path is None:
            raise DataError(f"{folder} holds no {name}.gz and no {name}; put it there, or set `url` and `sha256` to fetch it")
        arrays.append(read_idx(path, dimensions))
    images, labels = arrays
    if len(images) != len(labels):
        raise DataError(f"{names[0]} holds {len(images)} images but {names[1]} holds {len(labels)} labels; get the matching files")
    return images, labels


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the bytes of one IDX file, gzip-compressed or not, in the shape it announces.

    Raises:
        DataError: the file is empty or damaged, does not hold bytes in that many dimensions, or is shorter or longer than announced.
    """
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not compressed:
                return _parse(file, path, dimensions)
            with gzip.open(file) as unpacked:
                return _parse(unpacked, path, dimensions)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} is damaged or incomplete ({error}); get it again") from error


def _parse(file: BinaryIO | gzip.GzipFile, path: Path, dimensions: int) -> NDArray[np.uint8]:
    header = file.read(4 + 4 * dimensions)
    if not header:
        raise DataError(f"{path} is empty; get it again")
    expected = bytes([0, 0, 8, dimensions])
    if header[:4] != expected or len(header) < 4 + 4 * dimensions:
        raise DataError(
            f"{path} begins with {header[:4].hex()} instead of {expected.hex()}, bytes in {dimensions} dimensions; get another file"
        )
    shape = struct.unpack(f">{dimensions}I", header[4:])
    size = math.prod(shape)
    if size > 1100 * path.stat().st_size:  # gzip packs 1032 bytes into one at best, and reading would reserve them first
        raise DataError(f"{path} announces {size} bytes in shape {shape}, more than a file of its size can hold; get it again")
    content = file.read(size + 1)  # one more than announced, so that a longer file shows without being read whole
    if len(content) != size:
        found = "more" if len(content) > size else str(len(content))
        raise DataError(f"{path} announces {size} bytes in shape {shape} but holds {found}; get it again")
    if size == 0:
        raise DataError(f"{path} holds no examples in shape {shape}; get another file")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)
