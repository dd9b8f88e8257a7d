"""A small classifier with its preprocessing inside: what the tests of this folder export."""

import json

import torch
from torch import Tensor, nn

OUTPUTS = ("logits", "probabilities")
METADATA = {"classes": json.dumps(["bird", "cat", "dog", "fisch ß"]), "architecture": '{"edge": "conv3"}'}


class Classifier(nn.Module):
    """uint8 (or float32) N x 8 x 8 x 3 -> logits and probabilities, N x 4."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 4),
        )
        self.register_buffer("pixel_mean", torch.full((1, 3, 1, 1), 0.5))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = images.permute(0, 3, 1, 2).float()
        scaled = pixels / 255 if images.dtype == torch.uint8 else pixels
        logits = self.body(scaled - self.pixel_mean)
        return logits, logits.softmax(-1)


def classifier(seed: int = 0) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Classifier()


def example(dtype: torch.dtype = torch.uint8) -> Tensor:
    return torch.zeros(1, 8, 8, 3, dtype=dtype)
