"""Checkpoints come back bit for bit or are refused: never a tensor with another bit, never code."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from nas import checkpoint
from nas.atomic import DiskError
from nas.checkpoint import CheckpointError

STATE = {"weights": {"w": torch.arange(60.0).reshape(6, 10), "half": torch.ones(3, dtype=torch.bfloat16)}, "names": ["a", 1.5, None]}


def same(state: Any) -> bool:
    return repr(state) == repr(STATE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "state.pt", STATE)
    return tmp_path / "state.pt"


def test_state_comes_back(path: Path) -> None:
    assert same(checkpoint.load(path, "weights", "names"))


def test_a_flipped_bit_of_a_tensor_is_not_taken_for_its_value(path: Path) -> None:
    """PyTorch alone reads it without a word."""
    data = path.read_bytes()
    at = data.index(torch.arange(60.0).numpy().tobytes()) + 42
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert not same(torch.load(path, weights_only=True))
    with pytest.raises(CheckpointError, match=r"state\.pt is damaged or no checkpoint of nasflow: remove it, and what it held"):
        checkpoint.load(path)


def damaged(data: bytes, chance: random.Random) -> bytes:
    first, length = chance.randrange(len(data)), chance.choice([1, 1, 1, 8, 200])
    inside = data[first : first + length]
    change = chance.choice(["flip", "zeros", "drop", "cut", "insert"])
    if change == "cut":
        return data[:first]
    other = {"flip": bytes(byte ^ 1 << chance.randrange(8) for byte in inside), "zeros": bytes(len(inside)), "drop": b""}
    return data[:first] + other.get(change, inside + chance.randbytes(length)) + data[first + length :]


def test_whatever_is_damaged_the_state_is_the_same_or_refused(path: Path) -> None:
    chance, data, refused = random.Random(0), path.read_bytes(), 0
    for _ in range(600):
        path.write_bytes(damaged(data, chance))
        try:
            assert same(checkpoint.load(path))
        except CheckpointError:
            refused += 1
    assert refused > 300


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\x80\x02}q\x00.", b"no checkpoint"])
def test_other_files_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged or no checkpoint"):
        checkpoint.load(path)


def test_missing_files_folders_and_keys_are_told_apart(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checkpoint.load(path.with_name("other.pt"))
    with pytest.raises(DiskError, match="cannot be read, because"):
        checkpoint.load(path.parent)
    with pytest.raises(CheckpointError, match="of another kind"):
        checkpoint.load(path, "training")
