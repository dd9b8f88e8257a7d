"""What stands before and behind the network of an image task: stored images to numbers, and the whole as it ships."""

from typing import final

import torch
from torch import Tensor, nn


@final
class Normalise(nn.Module):
    """(x - mean) / std per channel, as one multiplication and one addition; channels move before height and width."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        scale = 1.0 / torch.tensor(std, dtype=torch.float64)
        shift = -torch.tensor(mean, dtype=torch.float64) * scale
        self.register_buffer("channel_scale", scale.float(), persistent=False)
        self.register_buffer("channel_shift", shift.float(), persistent=False)
        self.channel_scale: Tensor
        self.channel_shift: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """(batch, height, width, channels) of any dtype to float32 (batch, channels, height, width)."""
        return (images.float() * self.channel_scale + self.channel_shift).permute(0, 3, 1, 2)


@final
class FromBytes(nn.Module):
    """Bytes to the stored values that they stand for: 0 becomes `black`, 255 becomes `white`, evenly between."""

    def __init__(self, black: float, white: float) -> None:
        super().__init__()
        self.black = black
        self.step = (white - black) / 255

    def forward(self, images: Tensor) -> Tensor:
        """Bytes to float32, any shape."""
        return images.float() * self.step + self.black


@final
class Deployable(nn.Module):
    """Preprocessing, network and softmax in one module."""

    def __init__(self, prepare: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.prepare = prepare
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images of bytes to (logits, probabilities)."""
        logits: Tensor = self.network(self.prepare(images))
        return logits, logits.softmax(dim=1)
