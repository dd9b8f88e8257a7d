"""Which example goes into which split: stratified, and the same for the same labels, fractions and seed."""

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nas.data.errors import DataError

SPLITS = ("fit", "select", "confirm", "test")

Indices = NDArray[np.int64]


class Splits(BaseModel):
    """How the examples are shared out; every class is in every split."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    fit: float = Field(default=0.55, gt=0, lt=1)
    """Fraction of the examples whose loss trains weights."""
    select: float = Field(default=0.15, gt=0, lt=1)
    """Fraction of the examples on which a search compares architectures."""
    confirm: float = Field(default=0.10, gt=0, lt=1)
    """Fraction of the examples on which the few best are compared again."""
    test: float = Field(default=0.20, gt=0, lt=1)
    """Fraction of the examples that only the last number is read from; unused where the source brings its own test set."""
    seed: int = Field(default=0, ge=0)
    """Decides which examples fall into which split."""
    limit: int | None = Field(default=None, ge=1)
    """Use only this many of the examples outside the test split, stratified, for a quick run."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        total = self.fit + self.select + self.confirm + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the fractions fit, select, confirm and test add up to {total:g}; make them add up to 1")
        return self


def split(targets: Indices, test: Indices | None, splits: Splits, classes: list[str]) -> dict[str, Indices]:
    """Share the positions 0..N-1 out among `SPLITS`; with `test` given, that set is kept as it is, in its order.

    Examples of a split come in a random order. A limit is drawn after the test split, which is the same with any limit.

    Raises:
        DataError: fewer than two classes, a class too small for all splits, or a limit too small for all classes.
    """
    _check_classes(targets, test, classes)
    stream = np.random.PCG64(splits.seed)  # NumPy promises the stream of a bit generator, not that of a Generator
    shuffled = np.argsort(stream.random_raw(targets.size), kind="stable")
    order = stream.random_raw(targets.size)

    def mixed(part: Indices) -> Indices:
        # The members of a split are the first or the last of their class in `shuffled`; as they come, classes would clump.
        return part[np.argsort(order[part], kind="stable")]

    if test is None:
        rest, held = _share(shuffled, targets, [1 - splits.test, splits.test], least=[3, 1])
    else:
        rest, held = shuffled[~np.isin(shuffled, test)], test
    if splits.limit is not None and splits.limit < rest.size:
        rest = _limited(rest, targets, splits.limit, len(classes))
    fit, select, confirm = _share(rest, targets, [splits.fit, splits.select, splits.confirm], least=[1, 1, 1])
    return {"fit": mixed(fit), "select": mixed(select), "confirm": mixed(confirm), "test": mixed(held) if test is None else test}


def apportion(quotas: NDArray[np.floating[Any]], total: int, least: NDArray[np.int64]) -> Indices:
    """Round quotas (which add up to about `total`) to whole numbers that add up to it, none below its `least`.

    The largest remainders are rounded up (Hamilton's method); needs sum(least) <= total.
    """
    counts: Indices = np.maximum(np.floor(quotas + 1e-9).astype(np.int64), least)
    while (missing := total - int(counts.sum())) != 0:
        gap = quotas - counts
        if missing > 0:
            counts[np.argmax(gap)] += 1
        else:
            counts[np.argmin(np.where(counts > least, gap, np.inf))] -= 1
    return counts


def _share(shuffled: Indices, targets: Indices, fractions: list[float], least: list[int]) -> list[Indices]:
    weights = np.array(fractions, dtype=np.float64) / sum(fractions)
    carry = np.zeros(len(fractions))
    parts: list[list[Indices]] = [[] for _ in fractions]
    grouped = shuffled[np.argsort(targets[shuffled], kind="stable")]
    for members in np.split(grouped, np.flatnonzero(np.diff(targets[grouped])) + 1):
        quotas = members.size * weights + carry
        counts = apportion(quotas, members.size, np.array(least))
        # What rounding took from a split here it gets back in a later class, but many tiny classes must not pile up a debt.
        carry = np.clip(quotas - counts, -1, 1)
        for part, piece in zip(parts, np.split(members, np.cumsum(counts)[:-1]), strict=True):
            part.append(piece)
    return [np.concatenate(part) for part in parts]


def _limited(rest: Indices, targets: Indices, limit: int, classes: int) -> Indices:
    if limit < 3 * classes:
        raise DataError(f"limit {limit} leaves a class without an example in some split; use at least {3 * classes}, three per class")
    counts = np.bincount(targets[rest], minlength=classes)
    kept = apportion(counts * (limit / rest.size), limit, np.full(classes, 3))
    grouped = rest[np.argsort(targets[rest], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    chosen = np.concatenate([grouped[start : start + count] for start, count in zip(starts, kept, strict=True)])
    return rest[np.isin(rest, chosen)]


def _check_classes(targets: Indices, test: Indices | None, classes: list[str]) -> None:
    if targets.size == 0:
        raise DataError("the source holds 0 examples; give it at least 4 of each of two classes")
    counts = np.bincount(targets, minlength=len(classes))
    if len(classes) < 2:
        raise DataError(f"the source holds only one class, {classes[0]!r}; classification needs at least two")
    for name, count in zip(classes, counts, strict=True):
        if count < 4:
            raise DataError(f"class {name!r} has {count} examples but needs at least 4, one per split; add examples or remove the class")
    if test is None:
        return
    held = np.bincount(targets[test], minlength=len(classes))
    for name, count, tested in zip(classes, counts, held, strict=True):
        if tested == 0:
            raise DataError(f"class {name!r} has 0 examples in the source's own test set but needs at least 1; add one or remove the class")
        if count - tested < 3:
            raise DataError(
                f"class {name!r} has {count - tested} examples outside the source's own test set but needs at least 3, "
                "one each for fit, select and confirm; add examples or remove the class"
            )
