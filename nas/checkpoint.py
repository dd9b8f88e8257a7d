"""State of PyTorch objects in a file: written whole or not at all, read without running what a stranger put into it."""

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas import atomic

_DAMAGED = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, OSError),
    *(zipfile.BadZipFile, zlib.error, struct.error, OverflowError, NotImplementedError),
)
"""What zipfile and torch raise on damaged files."""


class CheckpointError(ValueError):
    """A file that holds no state of ours; the message names it and the cure."""


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, text, lists and dicts to `path`, durably and at once. Raises atomic.DiskError; `path` is then whole."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    atomic.write(path, lambda file: file.write(buffer.getbuffer()))


def load(path: Path, *keys: str) -> dict[str, Any]:
    """Return what `save` wrote, on the CPU.

    Raises FileNotFoundError when there is no such file, CheckpointError when it is damaged, down to one bit, or lacks one of `keys`,
    atomic.DiskError when the disk does not give it.
    """
    import torch

    with atomic.explained(path, "read", "it is as it was"):
        data = path.read_bytes() if path.exists() else None
    if data is None:
        raise FileNotFoundError(f"{path} does not exist")
    try:
        _check_sums(data)
        state: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint of nasflow: remove it, and what it held is computed again") from error
    if not isinstance(state, dict) or not set(keys) <= set(state):
        raise CheckpointError(f"{path} is a checkpoint of another kind: remove it, and what it held is computed again")
    return state


def _check_sums(data: bytes) -> None:
    """Raise ValueError when a part does not fit its checksum: torch writes these, but takes flipped bits without a word."""
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        wrong = parts.testzip()
    if wrong is not None:
        raise ValueError(f"{wrong} does not fit its checksum")
