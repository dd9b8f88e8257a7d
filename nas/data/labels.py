"""Labels as people write them (numbers or words) -> class names and positions in them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.data.errors import DataError

Named = Callable[[int], str]  # position of a label -> how an error names it


def encode(labels: NDArray[Any], classes: Sequence[str] | None, named: Named) -> tuple[list[str], NDArray[np.int64]]:
    """Turn N integers or words into class names and N positions in them.

    Integers are positions already; without `classes` they run from 0 without a gap and are named by their digits.
    Words are sorted, or looked up in `classes`.

    Raises:
        DataError: a label is out of range, negative, unknown or empty, integers leave a gap, or labels are of another kind.
    """
    if classes is not None and len(set(classes)) != len(classes):
        raise DataError(f"classes {list(classes)} name one class twice; give every class a name of its own")
    if labels.dtype.kind in "bui":
        return _from_integers(labels, classes, named)
    if labels.dtype.kind in "US":
        return _from_words(labels, classes, named)
    raise DataError(f"labels of type {labels.dtype} are neither integers nor words; store them as one of the two")


def natural_order(words: Sequence[str]) -> list[str]:
    """Sort class names: by value where every one is a whole number, so that 10 comes after 9, else by spelling."""
    if all(word.isascii() and word.isdigit() for word in words):
        return sorted(words, key=lambda word: (int(word), word))
    return sorted(words)


def _from_integers(labels: NDArray[Any], classes: Sequence[str] | None, named: Named) -> tuple[list[str], NDArray[np.int64]]:
    limit = len(classes) if classes is not None else max(labels.size, 1)
    outside = np.flatnonzero((labels < 0) | (labels >= limit))
    if outside.size:
        position = int(outside[0])
        raise DataError(
            f"label {labels[position]} at {named(position)} is outside 0..{limit - 1}; "
            + ("correct it or name more classes" if classes is not None else "number the classes from 0 without a gap")
        )
    targets = labels.astype(np.int64)
    if classes is not None:
        return list(classes), targets
    counts = np.bincount(targets)
    if (counts == 0).any():
        raise DataError(
            f"label {int(np.argmin(counts > 0))} does not occur although label {counts.size - 1} does; "
            "number the classes from 0 without a gap, or name them in `classes`"
        )
    return [str(number) for number in range(counts.size)], targets


def _from_words(labels: NDArray[Any], classes: Sequence[str] | None, named: Named) -> tuple[list[str], NDArray[np.int64]]:
    try:
        words = np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels
    except UnicodeDecodeError as error:
        raise DataError(f"a label is not UTF-8 ({error.reason}); store the labels as UTF-8 text or as integers") from error
    unique, inverse = np.unique(words, return_inverse=True)
    present = [str(word) for word in unique]
    names = list(classes) if classes is not None else natural_order(present)
    position_of = {name: position for position, name in enumerate(names)}
    for number, word in enumerate(present):
        if not word.strip() or word not in position_of:
            position = int(np.flatnonzero(inverse == number)[0])
            rule = f"not one of the classes {names[:10]}" if word.strip() else "empty"
            raise DataError(f"label {word!r} at {named(position)} is {rule}; correct it or remove the example")
    order = np.array([position_of[word] for word in present], dtype=np.int64)
    return names, order[inverse.reshape(-1)]
