"""Augmentation: shapes and types, what each change does, and that every image gets a draw of its own."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from small_images import random_images
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nas.training.augment import augment
from nas.training.recipe import Augmentation


def changed(images: Tensor, seed: int = 0, **settings: object) -> Tensor:
    return augment(images, Augmentation.model_validate(settings), Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3])),
    st.builds(
        Augmentation,
        shift=st.integers(0, 12),
        flip=st.booleans(),
        rotate=st.floats(0, 180),
        scale=st.floats(0, 0.95),
        cutout=st.integers(0, 12),
    ),
    st.integers(0, 1000),
    st.sampled_from([torch.uint8, torch.float32]),
)
def test_shape_type_and_range_stay(shape: tuple[int, int, int, int], chosen: Augmentation, seed: int, dtype: torch.dtype) -> None:
    images = random_images(shape[0], shape[1:], seed).to(dtype)
    before = images.clone()
    result = augment(images, chosen, Generator().manual_seed(seed))
    assert result.shape == images.shape
    assert result.dtype == dtype
    assert torch.equal(images, before), "what is stored stays"
    assert result.min() >= 0
    assert float(result.max()) <= float(images.max()) + 0.01
    assert torch.equal(result, augment(images, chosen, Generator().manual_seed(seed)))


def test_nothing_asked_changes_nothing_and_draws_nothing() -> None:
    images, generator = random_images(4), Generator().manual_seed(0)
    before = generator.get_state()
    assert augment(images, Augmentation(), generator) is images
    assert torch.equal(generator.get_state(), before)


def test_a_flip_mirrors_left_and_right_about_half_of_the_images() -> None:
    images = random_images(200, (3, 4, 2))
    result = changed(images, flip=True)
    mirrored = images.flip(2)
    same = (result == images).flatten(1).all(1)
    other = (result == mirrored).flatten(1).all(1)
    assert (same ^ other).all()
    assert 70 < int(other.sum()) < 130
    assert torch.equal(changed(result, flip=True), images), "the same draw twice undoes itself"


def test_a_shift_moves_by_whole_pixels_and_zeros_enter() -> None:
    images = random_images(300, (5, 6, 1)).clamp(min=1)
    result, seen = changed(images, shift=2), set()
    for image, moved in zip(images, result, strict=True):
        fits = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(ndimage.shift(image[..., 0].numpy(), (down, right), order=0), moved[..., 0].numpy())
        ]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) == 25, "every offset occurs, and images move by their own"


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7])
def test_a_cutout_has_its_side(side: int) -> None:
    images = torch.full((400, 9, 11, 1), 7, dtype=torch.uint8)
    holes = changed(images, cutout=side)[..., 0] == 0
    heights, widths = holes.any(2).sum(1), holes.any(1).sum(1)
    assert torch.equal(holes.sum((1, 2)), heights * widths), "a rectangle"
    assert int(heights.max()) == int(widths.max()) == side
    assert int(heights.min()) >= 1
    inside = (heights == side) & (widths == side)
    assert int(inside.sum()) > 100 * (side < 7)
    assert len({tuple(hole.nonzero()[0].tolist()) for hole in holes}) > 20, "images have holes of their own"


def drawn(count: int, rotate: float, scale: float, seed: int) -> tuple[Tensor, Tensor]:
    """The angles in radians and factors that a generator of this seed gives."""
    draws = torch.rand(2, count, generator=Generator().manual_seed(seed)) * 2 - 1
    return draws[0] * math.radians(rotate), 1 + draws[1] * scale


@pytest.mark.parametrize("shape", [(9, 9, 1), (7, 13, 2), (12, 6, 1)])
@pytest.mark.parametrize(("rotate", "scale"), [(40.0, 0.0), (0.0, 0.4), (180.0, 0.3)])
def test_a_turn_is_the_one_of_scipy(shape: tuple[int, int, int], rotate: float, scale: float) -> None:
    images = random_images(6, shape).float()
    result = changed(images, seed=3, rotate=rotate, scale=scale)
    for image, turned, angle, factor in zip(images, result, *drawn(6, rotate, scale, 3), strict=True):
        cosine, sine = math.cos(float(angle)) / float(factor), math.sin(float(angle)) / float(factor)
        matrix = np.array([[cosine, sine], [-sine, cosine]])  # rows and columns, pixels of one size: the aspect stays
        centre = (np.array(shape[:2]) - 1) / 2
        for channel in range(shape[2]):
            padded = np.pad(image[..., channel].numpy(), 2)
            expected = ndimage.affine_transform(padded, matrix, centre + 2 - matrix @ (centre + 2), order=1)[2:-2, 2:-2]
            np.testing.assert_allclose(turned[..., channel].numpy(), expected, atol=0.05)


class Calls(TorchDispatchMode):
    """Counts the operations that are run."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_a_batch_is_changed_at_once_whatever_its_size() -> None:
    counts = []
    for batch in (2, 50):
        images = random_images(batch)
        with Calls() as calls:
            changed(images, flip=True, shift=1, rotate=10, scale=0.1, cutout=2)
        counts.append(calls.count)
    assert counts[0] == counts[1] > 0
