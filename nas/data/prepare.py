"""A source of labelled images -> one prepared folder: checked, split, measured, fingerprinted; written as a stream of batches."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas import atomic
from nas.data.dataset import DESCRIPTION_FILE, Description, array_file
from nas.data.digest import Digest
from nas.data.errors import DataError
from nas.data.sources.base import Indices, Samples, Source
from nas.data.splits import SPLITS, Splits, split
from nas.data.staging import refuse_existing, staged
from nas.data.statistics import Statistics, statistics

BATCH_BYTES = 2**23  # part of the format: how float statistics are rounded depends on it

__all__ = ["Description", "Splits", "prepare"]


def prepare(source: Source, splits: Splits, folder: Path, *, task: str, root: Path) -> Description:
    """Read a source, share its examples out and write them to `folder`, which must not exist or be empty.

    The source's relative paths start at `root`. The same source, splits and data give the same bytes. Memory holds the labels
    and a few batches of 8 MiB, never all pixels. After an error there is nothing in `folder` nor beside it.

    Raises:
        DataError: the data break a rule, or `folder` already holds something.
    """
    folder = folder.absolute()
    refuse_existing(folder)
    samples = source.read(root)
    indices = split(samples.targets, samples.test, splits, samples.classes)
    measured = statistics(samples.dtype, samples.shape[-1])
    digest = Digest(samples.classes)
    with staged(folder) as partial:
        for name in SPLITS:
            writer = _Writer(samples, digest, measured if name == "fit" else None)
            writer.write(partial, name, indices[name])
        (mean, std), (low, high) = measured.result(), measured.limits()
        description = Description(
            task=task,
            source={"name": type(source).__module__.rpartition(".")[2], **source.model_dump(mode="json")},
            input_shape=samples.shape,
            input_dtype=samples.dtype,
            classes=samples.classes,
            counts={name: indices[name].size for name in SPLITS},
            class_counts={name: np.bincount(samples.targets[indices[name]], minlength=len(samples.classes)).tolist() for name in SPLITS},
            mean=mean,
            std=std,
            low=low,
            high=high,
            digest=digest.hexdigest(),
        )
        atomic.write_json(partial / DESCRIPTION_FILE, description.model_dump(mode="json"))
    return description


@dataclass(frozen=True)
class _Writer:
    samples: Samples
    digest: Digest
    measured: Statistics | None

    def write(self, folder: Path, split_name: str, indices: Indices) -> None:
        shape = (indices.size, *self.samples.shape)
        self._write_array(folder, f"{split_name}_inputs", np.dtype(self.samples.dtype), shape, self._batches(indices))
        targets = self.samples.targets[indices].astype(np.int64, copy=False)
        self._write_array(folder, f"{split_name}_targets", targets.dtype, targets.shape, iter([targets]))

    def _write_array(self, folder: Path, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], parts: Iterator[NDArray[Any]]) -> None:
        self.digest.begin(name, dtype, shape)
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        # Plain writes instead of a memory map: pages of a map count as this process's memory until the system evicts them.
        with (folder / array_file(*name.split("_"))).open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for part in parts:
                self.digest.add(part)
                file.write(part.data)
            file.flush()
            os.fsync(file.fileno())

    def _batches(self, indices: Indices) -> Iterator[NDArray[Any]]:
        example_bytes = int(np.prod(self.samples.shape)) * np.dtype(self.samples.dtype).itemsize
        step = max(1, BATCH_BYTES // example_bytes)
        for start in range(0, indices.size, step):
            chosen = indices[start : start + step]
            batch = np.ascontiguousarray(self.samples.batch(chosen))
            if batch.shape != (chosen.size, *self.samples.shape) or batch.dtype != self.samples.dtype:
                raise DataError(
                    f"the source gave {batch.dtype} of shape {batch.shape} for {chosen.size} examples that it announced as "
                    f"{self.samples.dtype} of shape {self.samples.shape}; correct the source"
                )
            if batch.dtype == np.float32:
                _refuse_infinite(batch, chosen, self.samples)
            if self.measured is not None:
                self.measured.add(batch)
            yield batch


def _refuse_infinite(batch: NDArray[Any], chosen: Indices, samples: Samples) -> None:
    if np.isfinite(batch.sum(dtype=np.float64)):  # one pass without a temporary; any NaN or infinity reaches the sum
        return
    places = np.argwhere(~np.isfinite(batch))
    example, row, column, channel = (int(number) for number in places[0])
    raise DataError(
        f"{samples.name(int(chosen[example]))} has the value {batch[example, row, column, channel]} "
        f"at row {row}, column {column}, channel {channel}; every value must be a finite float32, correct or remove the example"
    )
