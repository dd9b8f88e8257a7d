"""What bytes mean for stored pixels, and that floats come near enough to the bytes that stand for them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nas.data.dataset import Dataset, Description
from nas.data.sources.npz import Npz


def described(prepared: Callable[..., Description], folder: Path, pixels: np.ndarray) -> Description:
    np.savez(folder / "a.npz", x=pixels, y=np.arange(len(pixels)) % 2)
    return prepared(Npz(path="a.npz"))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, (0.0, 1.0)),
        (0.1, 0.6, (0.0, 1.0)),
        (0.0, 255.0, (0.0, 255.0)),
        (3.0, 200.0, (0.0, 255.0)),
        (0.0, 16.0, (0.0, 16.0)),
        (-1.0, 1.0, (-1.0, 1.0)),
        (-0.25, 3.5, (-0.25, 3.5)),
        (0.0, 4095.0, (0.0, 4095.0)),
        (7.0, 7.0, (7.0, 8.0)),
    ],
)
def test_the_range_of_floats_is_a_usual_one_or_their_own(
    tmp_path: Path, prepared: Callable[..., Description], low: float, high: float, expected: tuple[float, float]
) -> None:
    pixels = np.random.default_rng(0).uniform(low, high, (40, 5, 4, 3)).astype(np.float32)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = low, high
    description = described(prepared, tmp_path, pixels)
    assert (description.low, description.high) == pytest.approx((low, high))
    assert description.byte_range == pytest.approx(expected)
    dataset = Dataset.open(tmp_path / "prepared")
    taken = dataset.as_bytes("test")
    assert taken.dtype == np.uint8
    black, white = description.byte_range
    restored = black + taken.astype(np.float64) * (white - black) / 255
    assert np.abs(restored - dataset.inputs("test")).max() <= (white - black) / 255 / 2 * 1.001


def test_stored_bytes_are_themselves_whatever_occurs(tmp_path: Path, prepared: Callable[..., Description]) -> None:
    pixels = np.random.default_rng(0).integers(90, 100, (40, 5, 4, 1), dtype=np.uint8)
    description = described(prepared, tmp_path, pixels)
    assert (description.low, description.high) == description.byte_range == (0.0, 255.0)
    dataset = Dataset.open(tmp_path / "prepared")
    assert isinstance(dataset.as_bytes("test"), np.memmap)
    np.testing.assert_array_equal(dataset.as_bytes("test"), dataset.inputs("test"))


def test_values_beyond_those_of_fit_become_black_or_white(tmp_path: Path, prepared: Callable[..., Description]) -> None:
    pixels = np.random.default_rng(0).uniform(0, 1, (40, 2, 2, 1)).astype(np.float32)
    assert described(prepared, tmp_path, pixels).to_bytes(np.array([-3.0, 0.5, 9.0])).tolist() == [0, 128, 255]
