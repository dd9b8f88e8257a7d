"""State of PyTorch objects in a file: written whole or not at all, read without running what a stranger put into it."""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nas import atomic


class CheckpointError(ValueError):
    """A file that holds no state of ours; the message names it and the cure."""


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, text, lists and dicts to `path`, durably and at once."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    atomic.write(path, lambda file: file.write(buffer.getbuffer()))


def load(path: Path, *keys: str) -> dict[str, Any]:
    """Return what `save` wrote, on the CPU.

    Raises FileNotFoundError when there is no such file, CheckpointError when it is damaged or lacks one of `keys`.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:  # what torch raises on damaged files
        raise CheckpointError(f"{path} is damaged or no checkpoint of nasflow: remove it, and what it held is computed again") from error
    if not isinstance(state, dict) or not set(keys) <= set(state):
        raise CheckpointError(f"{path} is a checkpoint of another kind: remove it, and what it held is computed again")
    return state
