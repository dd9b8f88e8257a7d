"""A folder of images with one folder per class, or the same twice below `train` and `test`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, final

import numpy as np
from pydantic import Field

from nas.data.errors import DataError
from nas.data.labels import natural_order
from nas.data.pictures import EXTENSIONS, Decoder
from nas.data.sources.base import Samples, Source

Side = Annotated[int, Field(ge=1, le=4096)]


@final
class Images(Source):
    """Image files of any size, mode and usual format, in one folder per class; class names are folder names.

    Folders inside a class folder belong to that class. Hidden files and files without an image extension are passed over.
    """

    path: str = Field(min_length=1)
    """Folder that holds the class folders, or a folder `train` and a folder `test` that hold them."""
    size: tuple[Side, Side] = (32, 32)
    """Height and width that every image is resized to, in pixels; the aspect is not kept."""
    channels: Literal[1, 3] = 3
    """1 for grey, 3 for colour."""
    largest: int = Field(default=50_000_000, ge=1, le=178_000_000)
    """Most pixels a file may have; a larger one stops the run before it fills the memory."""

    def read(self, root: Path) -> Samples:
        """List the files, sorted; nothing is decoded yet.

        Raises:
            DataError: the folder is missing or empty, a class folder holds no image, or an image lies outside the class folders.
        """
        folder = root / self.path
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; set `path` to the folder that holds one folder per class")
        groups = _groups(folder)
        classes = natural_order(sorted({name for group in groups for name in group}))
        files: list[Path] = []
        counts: list[list[int]] = []
        for group in groups:
            listed = [list(_images(group[name])) if name in group else [] for name in classes]
            files += [file for names in listed for file in names]
            counts.append([len(names) for names in listed])
        targets = np.concatenate([np.repeat(np.arange(len(classes)), numbers) for numbers in counts]).astype(np.int64)
        decoder = Decoder(self.size, self.channels, self.largest)
        return Samples(
            classes=classes,
            targets=targets,
            shape=(*self.size, self.channels),
            dtype="uint8",
            batch=decoder.batches(files.__getitem__),
            test=np.arange(sum(counts[0]), len(files)) if len(groups) == 2 else None,
            name=lambda index: str(files[index]),
        )

    def paths(self) -> list[str]:
        """Return the folder."""
        return [self.path]


def _groups(folder: Path) -> list[dict[str, Path]]:
    names = _class_folders(folder)
    if {"train", "test"} <= set(names) and all(_class_folders(names[part]) for part in ("train", "test")):
        others = sorted(set(names) - {"train", "test"})
        if others:
            raise DataError(f"{folder / others[0]} lies beside train and test; move its images into train, or remove it")
        return [_class_folders(names[part]) for part in ("train", "test")]
    if not names:
        raise DataError(f"{folder} holds no class folders; put the images of every class into a folder of its own")
    return [names]


def _class_folders(folder: Path) -> dict[str, Path]:
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    folders = {entry.name: entry for entry in entries if entry.is_dir()}
    loose = [entry for entry in entries if entry.suffix.lower() in EXTENSIONS and entry.name not in folders]
    if folders and loose:
        raise DataError(f"{loose[0]} lies beside the class folders, so its class is unknown; move it into one of them")
    return folders


def _images(folder: Path) -> Iterator[Path]:
    found = False
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:
                found = True
                yield Path(place, name)
    if not found:
        raise DataError(f"{folder} holds no images ({', '.join(sorted(EXTENSIONS))}); add some or remove the folder")
