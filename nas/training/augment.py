"""Augmentation of a whole batch at once, on tensors; no image is touched by itself."""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from nas.training.recipe import Augmentation


def augment(images: Tensor, settings: Augmentation, generator: Generator) -> Tensor:
    """Return changed copies of stored images.

    `images` is (batch, height, width, channels), uint8 or float32, and so is the result. `generator` is on the
    images' device and the only source of randomness.
    """
    if settings.flip:
        mirrored = torch.rand(len(images), generator=generator, device=images.device) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(2), images)
    if settings.rotate or settings.scale:
        images = _turn(images, settings, generator)
    if settings.shift:
        images = _shift(images, settings.shift, generator)
    if settings.cutout:
        images = _cut(images, settings.cutout, generator)
    return images


def _shift(images: Tensor, reach: int, generator: Generator) -> Tensor:
    """Crop every image at its own offset from a copy padded with zeros."""
    batch, height, width, _ = images.shape
    padded = F.pad(images, (0, 0, reach, reach, reach, reach))
    offsets = torch.randint(0, 2 * reach + 1, (2, batch, 1), generator=generator, device=images.device)
    rows = offsets[0] + torch.arange(height, device=images.device)
    columns = offsets[1] + torch.arange(width, device=images.device)
    which = torch.arange(batch, device=images.device)
    return padded[which[:, None, None], rows[:, :, None], columns[:, None, :]]


def _turn(images: Tensor, settings: Augmentation, generator: Generator) -> Tensor:
    """Rotate and scale every image about its centre, bilinearly; zeros enter."""
    batch, height, width, _ = images.shape
    draws = torch.rand(2, batch, generator=generator, device=images.device) * 2 - 1
    angles = draws[0] * math.radians(settings.rotate)
    scales = 1 + draws[1] * settings.scale
    cosine, sine = torch.cos(angles) / scales, torch.sin(angles) / scales
    zero = torch.zeros_like(angles)
    # affine_grid measures both axes from -1 to 1, so a turn of an image that is not square needs the ratio of its sides
    first = torch.stack([cosine, -sine * (height / width), zero], dim=1)
    second = torch.stack([sine * (width / height), cosine, zero], dim=1)
    grid = F.affine_grid(torch.stack([first, second], dim=1), [batch, 1, height, width], align_corners=False)
    turned = F.grid_sample(images.permute(0, 3, 1, 2).float(), grid, align_corners=False).permute(0, 2, 3, 1)
    return turned.round().to(torch.uint8) if images.dtype == torch.uint8 else turned


def _cut(images: Tensor, side: int, generator: Generator) -> Tensor:
    """Set one square per image to zero; its centre lies anywhere in the image, so a part of it may lie outside."""
    batch, height, width, _ = images.shape
    centres = torch.rand(2, batch, 1, generator=generator, device=images.device)
    rows = torch.arange(height, device=images.device) - (centres[0] * height).floor() + side // 2
    columns = torch.arange(width, device=images.device) - (centres[1] * width).floor() + side // 2
    hit = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    return images.masked_fill(hit[..., None], 0)
